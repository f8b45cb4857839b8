"""What is served at an endpoint, told by canaries: six fixed responses, scored now and then.

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
    """What was served.

    Args:
        fingerprint: a hash of everything else.
        facts: what the server says of itself, such as version, model and dtype.
        scores: those of the canaries.
    """

    fingerprint: str
    facts: Mapping[str, str]
    scores: tuple[float, ...]

    @classmethod
    def of(cls, place: str, facts: Mapping[str, str], scores_BN: Float) -> "Baseline":
        """The fingerprint is a hash of everything else."""
        scores = tuple(float(score) for score in scores_BN.ravel())
        own_facts = dict(facts)
        # Rounded: an endpoint's noise in the last digits makes no other model.
        rounded = [f"{score:.6g}" for score in scores]

        content = json.dumps([place, own_facts, rounded], sort_keys=True)
        digest = hashlib.blake2b(content.encode(), digest_size=8)
        return cls(digest.hexdigest(), own_facts, scores)


class CanaryWatch:
    """The baseline of one endpoint, and what differs from it.

    ``place`` names the endpoint and how it is asked.
    """

    def __init__(self, place: str, raw: bool) -> None:
        """``raw``: scores are expected to be unbounded."""
        self.place = place
        self.raw = raw
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
        """What differs from the baseline, in words, and whether scores do.

        ``again`` scores the canaries once more.
        """
        if self.baseline is None:
            return [], False
        before = self.baseline
        differences = []
        for name in sorted({*before.facts, *facts}):
            if before.facts.get(name) != facts.get(name):
                old = before.facts.get(name, "unknown")
                new = facts.get(name, "unknown")
                differences.append(f"{name} {old} -> {new}")
        moved_C = self._moved(scores_BN.ravel(), again)
        if moved_C is None:
            return differences, False
        most_moved = int(np.argmax(np.abs(moved_C)))
        prompt, responses = CANARIES[most_moved // 2]
        differences.append(
            f"canary {responses[most_moved % 2]!r} to {prompt!r} "
            f"scored {before.scores[most_moved]:.4g}, now {scores_BN.ravel()[most_moved]:.4g}"
        )
        if self.raw and bounded(scores_BN) and not bounded(np.array(before.scores)):
            differences.append(
                "all scores now lie in [0, 1]: "
                "the server applies a sigmoid where it gave raw scores"
            )
        return differences, True

    def _moved(self, score_C: Float, again: Callable[[], Float | None]) -> Float | None:
        """(C,) by how much the scores moved, beyond noise; None where they did not."""
        assert self.baseline is not None
        before_C = np.array(self.baseline.scores)
        spread = float(np.ptp(before_C))
        largest = float(np.abs(before_C).max())
        # The second part is for canaries that all score alike: rounding alone moves them.
        allowed = CLOSE * spread + 1e-6 * largest

        same_length = len(score_C) == len(before_C)
        if same_length:
            distance_C = np.abs(score_C - before_C)
            if (distance_C <= allowed).all():
                return None

        # They moved: a second scoring tells how much of that is the endpoint's own noise.
        second = again()
        if second is None or not same_length:
            resized_C = np.resize(score_C, before_C.shape)
            return np.asarray(resized_C - before_C, np.float64)
        second_C = second.ravel()
        noise = NOISE * float(np.abs(second_C - score_C).max())

        moved_C: Float = score_C - before_C
        # A score counts as moved where both scorings lie away from the baseline.
        nearer_C = np.minimum(np.abs(moved_C), np.abs(second_C - before_C))
        beyond_noise = (nearer_C > allowed + noise).any()
        return moved_C if beyond_noise else None

    def doubts(self, scores_BN: Float) -> list[str]:
        """What is strange about scores that nothing was known of before."""
        if float(np.ptp(scores_BN)) == 0:
            score = float(scores_BN.flat[0])
            return [f"all canaries score {score:.4g}: it tells no response from another"]
        doubts = []
        if self.raw and bounded(scores_BN):
            doubts.append(
                "all canaries score within [0, 1]: "
                "the server seems to apply a sigmoid or softmax, where raw scores are expected"
            )
        if scores_BN.shape[1] == 2 and (scores_BN[:, 0] < scores_BN[:, 1]).all():
            doubts.append("every better canary scores below the worse one: is lower better there?")
        return doubts

    def _file(self) -> Path:
        return cache_dir() / "served" / f"{self.place}.json"


def bounded(scores: Float) -> bool:
    """Whether all scores are those of a sigmoid or softmax."""
    return bool(((scores >= 0) & (scores <= 1)).all())


def facts_of(answers: Mapping[str, Any]) -> dict[str, str]:
    """What a server says of itself that matters, out of the JSON of its information pages.

    >>> models = {"data": [{"id": "rm", "created": 5}]}
    >>> facts_of({"/version": {"version": "0.33.0"}, "/v1/models": models})
    {'version': '0.33.0', 'id': 'rm'}
    """
    facts: dict[str, str] = {}
    for answer in answers.values():
        # A list of models stands under "data"; other pages are one object.
        entries: Any = []
        if isinstance(answer, dict):
            entries = answer.get("data", [answer])
        first = entries[0] if isinstance(entries, list) and entries else {}
        if not isinstance(first, dict):
            continue
        for name in _TELLING:
            value = first.get(name)
            if isinstance(value, str | int):
                facts[name] = str(value)
    return facts


_TELLING = (
    "version",
    "model_id",
    "model_sha",
    "model_dtype",
    "dtype",
    "model_path",
    "id",
    "root",
    "max_model_len",
    "max_input_length",
    "quantization",
)


def _read(path: Path) -> Baseline | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Baseline(
            str(kept["fingerprint"]), dict(kept["facts"]), tuple(map(float, kept["scores"]))
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # none yet, or damaged: what is served now becomes the baseline


def _write(path: Path, baseline: Baseline) -> None:
    """Write the baseline whole or not at all.

    A cache that cannot be written costs only the comparison with the next run.
    """
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
