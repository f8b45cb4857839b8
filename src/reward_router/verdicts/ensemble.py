"""All arms judge together.

The mean of what they said, as z-scores over the batch or raw (LASER's baselines). K calls a
response.
"""

from typing import Literal

import numpy as np

from reward_router.types import By
from reward_router.verdicts.asking import Asker, cells_of, note_rows, zscores
from reward_router.verdicts.batch import Batch, ResponseAt, Verdicts


class Ensemble:
    """The mean over all arms that answered; an arm that failed or abstained is left out of it."""

    by = By.ENSEMBLE

    def __init__(self, asker: Asker, scale: Literal["zscore", "raw"] = "zscore") -> None:
        """``scale``.

        Z-scores over the batch, or the arms' own units, in which the arm of the widest scale
        decides.
        """
        self.asker = asker
        self.scale = scale

    def judge(self, batch: Batch) -> Verdicts:
        """Scores for every cell of every unit; one request an arm."""
        verdicts = batch.verdicts = Verdicts.silent(batch.units)
        # What each arm said of each (row, response).
        scores: dict[ResponseAt, list[float]] = {}
        for arm in self.asker.pool.names:
            if arm in batch.resting:
                continue
            for place, value in self._ask(batch, arm).items():
                scores.setdefault(place, []).append(value)

        for cells, unit in zip(verdicts.scores, batch.units, strict=True):
            for score_N, (row, columns) in zip(cells, unit.cells, strict=True):
                for i, n in enumerate(columns):
                    # What no arm scored stays NaN.
                    if (row, n) in scores:
                        score_N[i] = np.mean(scores[row, n])

        # Nobody stands in for an ensemble, so its own scores are those that are trained on.
        for cells in verdicts.scores:
            verdicts.own.append([score_N.copy() for score_N in cells])
        verdicts.sort_calls(batch.decisions)
        return verdicts

    def _ask(self, batch: Batch, arm: str) -> dict[ResponseAt, float]:
        """What one arm said, without what is no number.

        Its calls and failures go into the verdicts.
        """
        verdicts = batch.verdicts
        reply = self.asker.ask(batch, arm, cells_of(batch.units))
        for decision, unit in zip(batch.decisions, batch.units, strict=True):
            verdicts.calls += reply.calls(decision, unit, "ok")
            note_rows(batch, decision, arm, unit)

        # A failed request concerns every decision; it is recorded once, with the first.
        if not reply.ok and batch.decisions:
            first = batch.decisions[0]
            verdicts.failures.append((first.id, arm, reply.reason))
            return {}

        score = reply.score
        if self.scale == "zscore":
            score = zscores(score)
        return {place: value for place, value in score.items() if np.isfinite(value)}
