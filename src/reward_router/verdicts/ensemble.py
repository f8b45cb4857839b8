"""All arms judge together, at K calls a response.

They do so by the mean of what they said, as z-scores over the batch or raw (LASER's baselines), by
a majority of votes on every pair of responses, or by the mean less the variance (UWO; Coste et al.
2023, "Reward model ensembles help mitigate overoptimization"). The last two are BayesianRouter's
baselines.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from reward_router.types import By, Float
from reward_router.verdicts.asking import Asker, cells_of, note_rows, zscores
from reward_router.verdicts.batch import Batch, ResponseAt, Verdicts

How = Literal["zscore", "raw", "majority", "uwo"]


def majority(scores_KN: ArrayLike) -> Float:
    """(N, N) the votes for the first response over the second less those against, as a share.

    Every arm that scored both has one vote, however far apart it sees them; an arm that sees them
    equal votes for neither. In [-1, 1]: above 0 the majority prefers the first, and 0 is a tie, or
    no arm scored both. Preferences may go round in a circle (Condorcet). O(K N^2).

    >>> majority([[1.0, 0.0], [2.0, 1.0], [0.0, 90.0]]).round(3).tolist()
    [[0.0, 0.333], [-0.333, 0.0]]
    """
    score_KN = np.asarray(scores_KN, np.float64)
    vote_KNN = np.sign(score_KN[:, :, None] - score_KN[:, None, :])
    voters_NN = np.isfinite(vote_KNN).sum(axis=0)
    net_NN = np.nansum(vote_KNN, axis=0)
    return np.asarray(net_NN / np.maximum(voters_NN, 1), np.float64)


def uncertainty_weighted(scores: Sequence[float], penalty: float) -> float:
    """The mean of one response's z-scores less ``penalty`` times their variance over arms.

    Source: Coste et al. 2023, section 3.2 (UWO), on scores of unit variance: raw scores of
    different arms share no scale. O(K).

    >>> uncertainty_weighted([1.0, 3.0], 0.5)
    1.5
    """
    return float(np.mean(scores) - penalty * np.var(scores))


class Ensemble:
    """All arms that answered; an arm that failed or abstained is left out."""

    by = By.ENSEMBLE

    def __init__(self, asker: Asker, how: How = "zscore", penalty: float = 1.0) -> None:
        """Nobody is asked yet.

        Args:
            asker: how arms are asked.
            how: ``zscore``, the mean of z-scores over the batch; ``raw``, that of the arms' own
                units, in which the arm of the widest scale decides; ``majority``, a vote on every
                pair of responses; ``uwo``, the mean of z-scores less their variance over arms.
            penalty: of the variance, for ``uwo``.
        """
        self.asker = asker
        self.how = how
        self.penalty = penalty

    def judge(self, batch: Batch) -> Verdicts:
        """Scores for every cell of every unit; one request an arm.

        A majority writes its votes into ``verdicts.gaps``; its score of a response is then the mean
        of its votes against the others (Borda), which rewards and rankings are made of.
        """
        verdicts = batch.verdicts = Verdicts.silent(batch.units)
        # What each arm said of each (row, response).
        awake = [arm for arm in self.asker.pool.names if arm not in batch.resting]
        by_arm = [self._ask(batch, arm) for arm in awake]
        for u, (cells, unit) in enumerate(zip(verdicts.scores, batch.units, strict=True)):
            for c, (score_N, (row, columns)) in enumerate(zip(cells, unit.cells, strict=True)):
                places = [(row, n) for n in columns]
                if self.how == "majority":
                    verdicts.gaps[u, c] = _vote(by_arm, places, score_N)
                else:
                    self._add_up(by_arm, places, score_N)

        # Nobody stands in for an ensemble, so its own scores are those that are trained on.
        for cells in verdicts.scores:
            verdicts.own.append([score_N.copy() for score_N in cells])
        verdicts.sort_calls(batch.decisions)
        return verdicts

    def _add_up(
        self,
        by_arm: Sequence[dict[ResponseAt, float]],
        places: Sequence[ResponseAt],
        score_N: Float,
    ) -> None:
        """Write the aggregate of each place into ``score_N``; what no arm scored stays NaN."""
        for i, place in enumerate(places):
            values = [scores[place] for scores in by_arm if place in scores]
            if not values:
                continue
            if self.how == "uwo":
                score_N[i] = uncertainty_weighted(values, self.penalty)
            else:
                score_N[i] = np.mean(values)

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
        if self.how in ("zscore", "uwo"):
            score = zscores(score)
        return {place: value for place, value in score.items() if np.isfinite(value)}


def _vote(
    by_arm: Sequence[dict[ResponseAt, float]], places: Sequence[ResponseAt], score_N: Float
) -> Float:
    """(N, N) the majority on every pair; its mean votes go into ``score_N``."""
    rows = [[scores.get(place, np.nan) for place in places] for scores in by_arm]
    score_KN = np.array(rows, np.float64).reshape(len(by_arm), len(places))
    votes_NN = majority(score_KN)
    scored_N = np.isfinite(score_KN).any(axis=0)
    others = max(int(scored_N.sum()) - 1, 1)
    borda_N = votes_NN.sum(axis=1) / others
    score_N[scored_N] = borda_N[scored_N]
    return votes_NN
