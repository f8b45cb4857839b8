"""What is served at an endpoint, told by six fixed responses (canaries) that are scored at load and now and then.

An endpoint's model can change under a run: another template, dtype, backend or version, a sigmoid
where raw scores were. Its canaries then score otherwise. The baseline is kept in the cache
directory, so that a change between two runs is seen as well. Scores are compared up to the
endpoint's own noise: where one differs, the canaries are scored again before anything is said.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reward_router.cache import cache_dir
from reward_router.types import Float

CANARIES: tuple[tuple[str, tuple[str, str]], ...] = (
    (
        "What is the capital of France?",
        ("The capital of France is Paris.", "Bananas bananas bananas."),
    ),
    (
        "Write one sentence about the sea.",
        ("The sea lay calm and grey under the morning sky.", "No."),
    ),
    ("What is 17 + 25?", ("17 + 25 = 42.", "17 + 25 = 43.")),
)
"""Prompts with a better and a worse response each."""
CLOSE = 0.02
"""Share of the canaries' own spread by which a score may move before it is looked at again."""
NOISE = 3.0
"""So many times the difference between two scorings is noise."""


@dataclass(frozen=True)
class Baseline:
    """What was served: ``facts`` as the server tells them (version, model, dtype) and ``scores`` of the canaries."""

    fingerprint: str
    facts: Mapping[str, str]
    scores: tuple[float, ...]

    @classmethod
    def of(cls, place: str, facts: Mapping[str, str], scores_BN: Float) -> "Baseline":
        """The fingerprint is a hash of everything else."""
        scores = tuple(float(score) for score in scores_BN.ravel())
        content = json.dumps(
            [place, dict(facts), [f"{score:.6g}" for score in scores]], sort_keys=True
        )
        return cls(
            hashlib.blake2b(content.encode(), digest_size=8).hexdigest(), dict(facts), scores
        )


class Watch:
    """The baseline of one endpoint, and what differs from it. ``place`` names the endpoint and how it is asked."""

    def __init__(self, place: str, raw: bool) -> None:
        """``raw``: scores are expected to be unbounded."""
        self.place, self.raw = place, raw
        self.baseline = _read(self._file())

    @property
    def fingerprint(self) -> str:
        """Of the baseline; the place alone where there is none."""
        return self.baseline.fingerprint if self.baseline else self.place

    def adopt(self, facts: Mapping[str, str], scores_BN: Float) -> None:
        """From now on this is what is served."""
        self.baseline = Baseline.of(self.place, facts, scores_BN)
        _write(self._file(), self.baseline)

    def differences(
        self, facts: Mapping[str, str], scores_BN: Float, again: Callable[[], Float | None]
    ) -> tuple[list[str], bool]:
        """What differs from the baseline, in words, and whether scores do; ``again`` scores the canaries once more."""
        if self.baseline is None:
            return [], False
        before = self.baseline
        found = [
            f"{name} {before.facts.get(name, 'unknown')} -> {facts.get(name, 'unknown')}"
            for name in sorted({*before.facts, *facts})
            if before.facts.get(name) != facts.get(name)
        ]
        moved = self._moved(scores_BN.ravel(), again)
        if moved is not None:
            n = int(np.argmax(np.abs(moved)))
            prompt, responses = CANARIES[n // 2]
            found.append(
                f"canary {responses[n % 2]!r} to {prompt!r} scored {before.scores[n]:.4g}, now {scores_BN.ravel()[n]:.4g}"
            )
            if self.raw and bounded(scores_BN) and not bounded(np.array(before.scores)):
                found.append(
                    "all scores now lie in [0, 1]: the server applies a sigmoid where it gave raw scores"
                )
        return found, moved is not None

    def _moved(self, score_C: Float, again: Callable[[], Float | None]) -> Float | None:
        """(C,) by how much the scores moved, beyond noise; None where they did not."""
        assert self.baseline is not None
        before_C = np.array(self.baseline.scores)
        allowed = CLOSE * float(np.ptp(before_C)) + 1e-6 * float(np.abs(before_C).max())
        if len(score_C) == len(before_C) and (np.abs(score_C - before_C) <= allowed).all():
            return None
        second = again()
        if second is None or len(score_C) != len(before_C):
            return np.asarray(np.resize(score_C, before_C.shape) - before_C, np.float64)
        second_C = second.ravel()
        noise = NOISE * float(np.abs(second_C - score_C).max())
        nearest_C = np.minimum(np.abs(score_C - before_C), np.abs(second_C - before_C))
        moved_C: Float = score_C - before_C
        return moved_C if (nearest_C > allowed + noise).any() else None

    def doubts(self, scores_BN: Float) -> list[str]:
        """What is strange about scores that nothing was known of before."""
        if float(np.ptp(scores_BN)) == 0:
            return [
                f"all canaries score {float(scores_BN.flat[0]):.4g}: it tells no response from another"
            ]
        found = []
        if self.raw and bounded(scores_BN):
            found.append(
                "all canaries score within [0, 1]: the server seems to apply a sigmoid or softmax, where raw scores are expected"
            )
        if scores_BN.shape[1] == 2 and (scores_BN[:, 0] < scores_BN[:, 1]).all():
            found.append("every better canary scores below the worse one: is lower better there?")
        return found

    def _file(self) -> Path:
        return cache_dir() / "served" / f"{self.place}.json"


def bounded(scores: Float) -> bool:
    """Whether all scores are those of a sigmoid or softmax."""
    return bool(((scores >= 0) & (scores <= 1)).all())


def facts_of(answers: Mapping[str, Any]) -> dict[str, str]:
    """What a server says of itself that matters, out of the JSON of its information pages.

    >>> facts_of({"/version": {"version": "0.33.0"}, "/v1/models": {"data": [{"id": "rm", "created": 5}]}})
    {'version': '0.33.0', 'id': 'rm'}
    """
    facts: dict[str, str] = {}
    for answer in answers.values():
        found = answer.get("data", [answer]) if isinstance(answer, dict) else []
        first = found[0] if isinstance(found, list) and found else {}
        for name in _TELLING:
            if isinstance(first, dict) and isinstance(first.get(name), str | int):
                facts[name] = str(first[name])
    return facts


_TELLING = (
    "version", "model_id", "model_sha", "model_dtype", "dtype", "model_path", "id", "root", "max_model_len", "max_input_length",
    "quantization",
)  # fmt: skip


def _read(path: Path) -> Baseline | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Baseline(
            str(kept["fingerprint"]), dict(kept["facts"]), tuple(map(float, kept["scores"]))
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # none yet, or damaged: what is served now becomes the baseline


def _write(path: Path, baseline: Baseline) -> None:
    """Whole or not at all; a cache that cannot be written costs the comparison with the next run only."""
    kept = {
        "fingerprint": baseline.fingerprint,
        "facts": dict(baseline.facts),
        "scores": list(baseline.scores),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}.part")
        beside.write_text(json.dumps(kept), encoding="utf-8")
        beside.replace(path)
    except OSError:
        return
