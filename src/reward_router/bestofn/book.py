"""Scores that are made once: an arm is asked about a response it has not scored, and what it said is kept in a folder.

One append-only file an arm, named by what the arm is, with lines [hash of prompt and response,
score]; an interrupted command goes on where it stopped. It stands where a `RewardPool` stands, so a
judge does not know the difference. Failures are not kept.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from reward_router import __version__
from reward_router.rewards.fingerprint import fingerprint
from reward_router.rewards.pool import RewardPool
from reward_router.rewards.request import ScoreResult
from reward_router.rewards.spec import ArmSpec
from reward_router.rewards.template import Prompt
from reward_router.rundir import explained
from reward_router.strict_json import dumps

CHUNK = 16  # prompts between two writes


class ScoreBook(RewardPool):
    """A pool that remembers. ``made``: by arm, the responses scored by this process; ``spent``: its seconds of scoring.

    ``folder``: where scores are kept; None: in memory. An arm that is not among ``specs`` (the
    verifier) is kept in memory. ``tick`` is told how many responses were scored, or found.
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
        self.pool, self.folder, self.tick = pool, folder, tick
        self.made, self.spent = dict.fromkeys(pool.names, 0), dict.fromkeys(pool.names, 0.0)
        self._specs_by_name = {spec.name: spec for spec in specs}
        self._known: dict[str, dict[str, float]] = {}
        self._unanswered: dict[str, dict[str, str]] = {name: {} for name in pool.names}

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
        """What the arm says of every response; it is asked about new ones only, ``CHUNK`` prompts at a time."""
        known = self._pages(arm)
        keys = [
            [content_key(prompt, r) for r in row]
            for prompt, row in zip(prompts, responses, strict=True)
        ]
        tried = self._unanswered[arm]
        todo = [
            b
            for b, row in enumerate(keys)
            if any(key not in known and key not in tried for key in row)
        ]
        self.tick(sum(map(len, keys)) - sum(len(keys[b]) for b in todo))
        seconds = loading = 0.0
        for start in range(0, len(todo), CHUNK):
            rows = todo[start : start + CHUNK]
            result = self.pool.score(arm, [prompts[b] for b in rows], [responses[b] for b in rows])
            seconds, loading = seconds + result.seconds, loading + result.load_seconds
            if result.ok:
                self._keep(arm, rows, keys, result)
            elif any(
                key in known for row in keys for key in row
            ):  # it answered others: these are what fails
                tried |= {key: result.error or result.status for b in rows for key in keys[b]}
            else:
                return self._result(arm, keys, known, seconds, loading, result)
            self.tick(sum(len(keys[b]) for b in rows))
        return self._result(arm, keys, known, seconds, loading, None)

    def _result(
        self,
        arm: str,
        keys: Sequence[Sequence[str]],
        known: Mapping[str, float],
        seconds: float,
        loading: float,
        failed: ScoreResult | None,
    ) -> ScoreResult:
        shape = (len(keys), max((len(row) for row in keys), default=0))
        scores_BN, mask_BN = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
        for b, row in enumerate(keys):
            mask_BN[b, : len(row)] = True
            if failed is None:
                scores_BN[b, : len(row)] = [known.get(key, np.nan) for key in row]
        self.spent[arm] += seconds
        tried = self._unanswered[arm]
        row_errors = {
            b: tried[key]
            for b, row in enumerate(keys)
            for key in row
            if key in tried and key not in known
        }
        status, error = (failed.status, failed.error) if failed else ("ok", None)
        n_calls, n_unique = int(mask_BN.sum()), len({key for row in keys for key in row})
        return ScoreResult(
            arm, scores_BN, mask_BN, seconds, loading, status, error, n_calls, n_unique, row_errors
        )

    def _keep(
        self, arm: str, rows: Sequence[int], keys: Sequence[Sequence[str]], result: ScoreResult
    ) -> None:
        fresh: dict[str, float] = {}
        for i, b in enumerate(rows):
            if i in result.row_errors:  # no score, and not asked again by this process
                self._unanswered[arm] |= dict.fromkeys(keys[b], result.row_errors[i])
                continue
            fresh |= dict(zip(keys[b], result.scores_BN[i].tolist(), strict=False))
        known = self._known[arm]
        fresh = {key: score for key, score in fresh.items() if key not in known}
        known |= fresh
        self.made[arm] += len(fresh)
        path = self._path(arm)
        if path is None:
            return
        lines = [dumps([key, score]) for key, score in fresh.items()]
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            torn = path.is_file() and path.read_bytes()[-1:] not in (b"\n", b"")
            with path.open("a", encoding="utf-8") as file:
                file.write(("\n" if torn else "") + "".join(line + "\n" for line in lines))

    def _pages(self, arm: str) -> dict[str, float]:
        if arm not in self._known:
            path = self._path(arm)
            self._known[arm] = _whole_lines(path) if path is not None and path.is_file() else {}
        return self._known[arm]

    def _path(self, arm: str) -> Path | None:
        if self.folder is None or arm not in self._specs_by_name:
            return None
        return self.folder / f"{fingerprint(self._specs_by_name[arm])}-{__version__}.jsonl"


def content_key(prompt: Prompt, response: str) -> str:
    """What a score is kept by: the texts, and whether the response was cut (an arm may read that)."""
    cut = "" if getattr(response, "finished", True) else "cut"
    text = prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True, default=str)
    return hashlib.blake2b(
        f"{len(text)}:{text}{response}\x1f{cut}".encode(), digest_size=16
    ).hexdigest()


def _whole_lines(path: Path) -> dict[str, float]:
    """What is kept; a line that a kill cut short is left out."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            key, score = json.loads(line)
        except ValueError:
            continue
        found[key] = math.nan if score is None else float(score)
    return found
