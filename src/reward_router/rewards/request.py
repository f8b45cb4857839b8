"""One request to an arm and what came of it: de-duplication on the way in, checks on the way out."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reward_router.rewards.template import Prompt
from reward_router.types import Float, RewardModel

Status = Literal["ok", "failed", "timeout"]


@dataclass(frozen=True, eq=False)
class ScoreResult:
    """What came of asking one arm: scores, or why there are none.

    ``scores_BN`` is NaN where the arm abstained or a row is shorter than the longest; ``mask_BN`` is True where a response
    exists. ``status`` is ok, failed or timeout; unless ok, every score is NaN and ``error`` says why. ``seconds`` is wall
    time of scoring, ``load_seconds`` of loading before it. ``n_calls`` counts responses asked for (the unit of cost),
    ``n_unique`` those that were computed after de-duplication.
    """

    arm: str
    scores_BN: Float = field(repr=False)
    mask_BN: NDArray[np.bool_] = field(repr=False)
    seconds: float
    load_seconds: float
    status: Status
    error: str | None
    n_calls: int
    n_unique: int

    @property
    def ok(self) -> bool:
        """Whether the arm answered."""
        return self.status == "ok"

    @property
    def abstained_B(self) -> NDArray[np.bool_]:
        """Per prompt: no response got a score."""
        return np.asarray(~np.isfinite(self.scores_BN).any(axis=1))


@dataclass(frozen=True, eq=False)
class Request:
    """Distinct prompts and responses, and the way back to what was asked: ``row_B``, and ``column_BN`` inside that row."""

    prompts: list[Prompt]
    responses: list[list[str]]
    row_B: list[int]
    column_BN: list[list[int]]

    @classmethod
    def of(cls, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> "Request":
        """De-duplicate; O(total text)."""
        rows: dict[str, int] = {}
        known: list[dict[str, int]] = []
        distinct: list[Prompt] = []
        for prompt in prompts:
            if rows.setdefault(_key(prompt), len(rows)) == len(known):
                known.append({})
                distinct.append(prompt)
        row_B = [rows[_key(prompt)] for prompt in prompts]
        column_BN = [
            [known[r].setdefault(text, len(known[r])) for text in row] for r, row in zip(row_B, responses, strict=True)
        ]
        return cls(distinct, [list(texts) for texts in known], row_B, column_BN)

    def run(self, model: RewardModel, ragged: bool) -> Float:
        """The arm's scores of the distinct responses, checked; a model that needs equal rows is asked once per row length."""
        wide_UN = np.full((len(self.prompts), max((len(r) for r in self.responses), default=0)), np.nan)
        lengths = [0] if ragged else sorted({len(r) for r in self.responses})
        for length in lengths:
            rows = [u for u, r in enumerate(self.responses) if ragged or len(r) == length]
            texts = [self.responses[u] for u in rows]
            width = max((len(r) for r in texts), default=0)
            if width:
                got = np.asarray(model.score([self.prompts[u] for u in rows], texts), dtype=np.float64)
                if got.shape != (len(rows), width):
                    raise ValueError(f"scores have shape {got.shape}, expected {(len(rows), width)}")
                wide_UN[rows, :width] = got
        if np.isinf(wide_UN).any():
            u, n = np.argwhere(np.isinf(wide_UN))[0]
            raise ValueError(
                f"score of response {n} to prompt {u} is {wide_UN[u, n]}; a finite number or NaN is expected"
            )
        return wide_UN

    def result(self, arm: str, wide_UN: Float, seconds: float, load_seconds: float) -> ScoreResult:
        """The answer, put back in the places asked about."""
        scores_BN, mask_BN = self._blank()
        for b, (r, columns) in enumerate(zip(self.row_B, self.column_BN, strict=True)):
            scores_BN[b, : len(columns)] = wide_UN[r, columns]
        return ScoreResult(arm, scores_BN, mask_BN, seconds, load_seconds, "ok", None, *self._counts())

    def failed(
        self, arm: str, status: Literal["failed", "timeout"], error: str, seconds: float, load_seconds: float
    ) -> ScoreResult:
        """No answer: every score NaN."""
        return ScoreResult(arm, *self._blank(), seconds, load_seconds, status, error, *self._counts())

    def _blank(self) -> tuple[Float, NDArray[np.bool_]]:
        shape = (len(self.row_B), max((len(c) for c in self.column_BN), default=0))
        mask_BN = np.zeros(shape, dtype=bool)
        for b, columns in enumerate(self.column_BN):
            mask_BN[b, : len(columns)] = True
        return np.full(shape, np.nan), mask_BN

    def _counts(self) -> tuple[int, int]:
        return sum(map(len, self.column_BN)), sum(map(len, self.responses))


def _key(prompt: Prompt) -> str:
    return (
        "s" + prompt
        if isinstance(prompt, str)
        else "m" + json.dumps([dict(m) for m in prompt], sort_keys=True, default=str)
    )
