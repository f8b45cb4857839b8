"""Scores that are made once: an arm scores only what is new to it, and its scores are kept.

One append-only file an arm, named by what the arm is, with lines [hash of prompt and response,
score]; an interrupted command goes on where it stopped. It stands where a `RewardPool` stands, so a
judge does not know the difference. Failures are not kept.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from reward_router import __version__
from reward_router.chat import Prompt
from reward_router.rewards.fingerprint import fingerprint
from reward_router.rewards.pool import RewardPool
from reward_router.rewards.request import ScoreResult
from reward_router.rewards.spec import ArmSpec
from reward_router.rundir import explained
from reward_router.strict_json import dumps

CHUNK = 16  # prompts between two writes


class ScoreBook(RewardPool):
    """A pool that remembers what its arms said.

    ``made`` counts, by arm, the responses that this process scored; ``spent`` is the time that
    took, in seconds.

    Args:
        pool: the arms that score what is new.
        specs: the arms whose scores go into the folder. The scores of any other arm, such as the
            verifier, depend on the data and stay in memory.
        folder: where scores are kept; None: in memory.
        tick: called with the number of responses that were scored or had been kept.
    """

    def __init__(
        self,
        pool: RewardPool,
        specs: Sequence[ArmSpec],
        folder: Path | None,
        tick: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Reads what is kept of each arm when it is first asked."""
        super().__init__({})
        self.pool = pool
        self.folder = folder
        self.tick = tick
        self.made = dict.fromkeys(pool.names, 0)
        self.spent = dict.fromkeys(pool.names, 0.0)
        self._specs_by_name = {spec.name: spec for spec in specs}
        # By arm and key: the scores, and the errors of what this process does not ask again.
        self._scores: dict[str, dict[str, float]] = {}
        self._errors: dict[str, dict[str, str]] = {name: {} for name in pool.names}

    @property
    def names(self) -> list[str]:
        """The arms, in the order of the configuration."""
        return self.pool.names

    def order(self, arms: Iterable[str]) -> list[str]:
        """As the pool orders them."""
        return self.pool.order(arms)

    def score(
        self, arm: str, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]
    ) -> ScoreResult:
        """The arm's score of every response.

        The arm scores new responses only, ``CHUNK`` prompts at a time; what it said is kept after
        each of these chunks.
        """
        self._read_kept(arm)
        keys = []
        for prompt, row in zip(prompts, responses, strict=True):
            keys.append([book_key(prompt, response) for response in row])
        new_rows = self._new_rows(arm, keys)
        n_new = _count([keys[row] for row in new_rows])
        self.tick(_count(keys) - n_new)

        taken = _Taken()
        for start in range(0, len(new_rows), CHUNK):
            chunk = new_rows[start : start + CHUNK]
            chunk_keys = [keys[row] for row in chunk]
            chunk_prompts = [prompts[row] for row in chunk]
            chunk_responses = [responses[row] for row in chunk]
            result = self.pool.score(arm, chunk_prompts, chunk_responses)
            taken.seconds += result.seconds
            taken.load_seconds += result.load_seconds

            if result.ok:
                self._keep(arm, chunk_keys, result)
            elif self._has_answered(arm, keys):
                # The arm has answered others, so that what fails is in these rows.
                error = result.error or result.status
                self._errors[arm] |= dict.fromkeys(chain.from_iterable(chunk_keys), error)
            else:
                return self._result(arm, keys, taken, result)
            self.tick(_count(chunk_keys))
        return self._result(arm, keys, taken, None)

    def _has_answered(self, arm: str, keys: Sequence[Sequence[str]]) -> bool:
        scores = self._scores[arm]
        return any(key in scores for key in chain.from_iterable(keys))

    def _new_rows(self, arm: str, keys: Sequence[Sequence[str]]) -> list[int]:
        """The prompts of which a response has neither a score nor an error yet."""
        scores = self._scores[arm]
        errors = self._errors[arm]

        def is_new(row_keys: Sequence[str]) -> bool:
            return any(key not in scores and key not in errors for key in row_keys)

        return [row for row, row_keys in enumerate(keys) if is_new(row_keys)]

    def _result(
        self,
        arm: str,
        keys: Sequence[Sequence[str]],
        taken: "_Taken",
        failure: ScoreResult | None,
    ) -> ScoreResult:
        """What is known of these responses; no scores at all after a ``failure`` of the arm."""
        scores = self._scores[arm]
        errors = self._errors[arm]
        shape = (len(keys), max((len(row) for row in keys), default=0))
        scores_BN = np.full(shape, np.nan)
        mask_BN = np.zeros(shape, dtype=bool)
        row_errors: dict[int, str] = {}
        for b, row in enumerate(keys):
            mask_BN[b, : len(row)] = True
            if failure is None:
                scores_BN[b, : len(row)] = [scores.get(key, np.nan) for key in row]
            for key in row:
                if key in errors and key not in scores:
                    row_errors[b] = errors[key]
        self.spent[arm] += taken.seconds
        return ScoreResult(
            arm,
            scores_BN,
            mask_BN,
            taken.seconds,
            taken.load_seconds,
            failure.status if failure else "ok",
            failure.error if failure else None,
            int(mask_BN.sum()),
            len(set(chain.from_iterable(keys))),
            row_errors,
        )

    def _keep(self, arm: str, keys: Sequence[Sequence[str]], result: ScoreResult) -> None:
        """Put the new scores of one answer into memory and, where there is a folder, on disk."""
        scores = self._scores[arm]
        answered: dict[str, float] = {}
        for i, row in enumerate(keys):
            if i in result.row_errors:  # no score, and not asked again by this process
                self._errors[arm] |= dict.fromkeys(row, result.row_errors[i])
                continue
            # The answer is as wide as its longest row.
            row_scores = result.scores_BN[i].tolist()
            answered |= dict(zip(row, row_scores, strict=False))

        # A text that was kept before keeps its first score.
        new_scores = {key: score for key, score in answered.items() if key not in scores}
        scores |= new_scores
        self.made[arm] += len(new_scores)
        path = self._path(arm)
        if path is not None:
            append_lines(path, [dumps([key, score]) for key, score in new_scores.items()])

    def _read_kept(self, arm: str) -> None:
        """Read what the folder holds of an arm, once."""
        if arm in self._scores:
            return
        path = self._path(arm)
        self._scores[arm] = {}
        if path is not None and path.is_file():
            self._scores[arm] = _whole_lines(path)

    def _path(self, arm: str) -> Path | None:
        if self.folder is None or arm not in self._specs_by_name:
            return None
        return self.folder / f"{fingerprint(self._specs_by_name[arm])}-{__version__}.jsonl"


def book_key(prompt: Prompt, response: str) -> str:
    """What a score is kept by: the texts, and whether the response was cut (an arm may read it).

    >>> book_key("2 + 2?", "4") == book_key("2 + 2?", "4")
    True
    """
    cut = "" if getattr(response, "finished", True) else "cut"
    text = prompt
    if not isinstance(prompt, str):
        text = json.dumps(prompt, sort_keys=True, default=str)

    # The length says where the prompt ends: no other split of the same characters has this key.
    content = f"{len(text)}:{text}{response}\x1f{cut}"
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


@dataclass
class _Taken:
    """How long the arm took to score, and to load."""

    seconds: float = 0.0
    load_seconds: float = 0.0


def _count(keys: Sequence[Sequence[str]]) -> int:
    """The responses in these rows."""
    return sum(len(row) for row in keys)


def append_lines(path: Path, lines: Sequence[str]) -> None:
    """Write lines behind those of a file; a line that a kill cut short is ended first."""
    whole_lines = "".join(line + "\n" for line in lines)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        is_torn = path.is_file() and path.read_bytes()[-1:] not in (b"\n", b"")
        end_of_torn = "\n" if is_torn else ""
        with path.open("a", encoding="utf-8") as file:
            file.write(end_of_torn)
            file.write(whole_lines)


def _whole_lines(path: Path) -> dict[str, float]:
    """What is kept; a line that a kill cut short is left out."""
    scores = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            key, score = json.loads(line)
        except ValueError:
            continue
        scores[key] = math.nan if score is None else float(score)
    return scores
