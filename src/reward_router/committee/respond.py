"""N responses to one prompt, ranked by arms that are asked one after another.

Arms are asked until most responses are told apart from the best one.

The unit of price is still one pair: an arm scores all N responses, every pair gets its log-odds,
and the next arm is asked while fewer than ``quorum`` of the pairs (current best, other) have met
the stopping bound of the pair rule. For N = 2 that is the pair rule. A veto arm's score below 1/2
refuses a response: it loses to every response that is not refused.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reward_router.committee.committee import SURE, Committee
from reward_router.committee.stop import sigmoid
from reward_router.errors import InputError
from reward_router.types import Float

REFUSED_BELOW = 0.5


@dataclass(frozen=True, slots=True)
class Ranking:
    """Calibrated judgement of N responses.

    ``calls`` counts responses scored, ``asked`` holds the arms in the order asked.
    """

    value_N: Float
    best: int
    asked: tuple[int, ...]
    calls: int
    refused_N: NDArray[np.bool_]
    log_odds_NN: Float = field(repr=False)

    def confidence(self, better_P: ArrayLike, worse_P: ArrayLike) -> Float:
        """(P,) P(the first of each pair is the better one)."""
        better = np.asarray(better_P, dtype=np.int64)
        worse = np.asarray(worse_P, dtype=np.int64)
        return sigmoid(self.log_odds_NN[better, worse])


def judge_responses(  # noqa: PLR0913 - the signature is public
    committee: Committee,
    ask: Callable[[int], ArrayLike],
    n_responses: int,
    category: str | None = None,
    price: float | None = None,
    first: int | None = None,
    quorum: float = 0.5,
) -> Ranking:
    """Rank the responses of one prompt, asking arms one after another. O(asked N^2).

    ``value_N`` of the ranking is each response's mean log-odds against the others, NaN where no arm
    scored it. To ask many prompts in rounds, an arm at a time, hold one `PromptEvidence` a prompt
    instead.

    Args:
        committee: whom to ask.
        ask: called with an arm, returns its (N,) scores; NaN: abstained.
        n_responses: N.
        category: the prompt's, where the committee knows any.
        price: of a call; None: the committee's.
        first: the arm to begin with, such as a router's; None: the committee's own order.
        quorum: share of pairs with the best response that must be told apart, in (0, 1]. 1 also
            separates the runner-up, as best-of-n needs it.

    >>> label = np.arange(60) % 2 == 0
    >>> margins = np.where(label, 1.0, -1.0)[:, None] * np.arange(1, 61)[:, None]
    >>> committee = Committee([1.0]).fit(margins, label)
    >>> ranking = judge_responses(committee, lambda arm: [0.2, 9.0, 3.0], 3)
    >>> ranking.best, ranking.asked, ranking.calls, bool(ranking.confidence([1], [0])[0] > 0.9)
    (1, (0,), 3, True)
    """
    panel = PromptEvidence(
        committee, n_responses, category, price=price, first=first, quorum=quorum
    )
    while (arm := panel.next()) is not None:
        panel.tell(arm, ask(arm))
    return panel.ranking()


def rank(
    committee: Committee,
    scores_NK: ArrayLike,
    category: str | None = None,
    price: float | None = None,
    quorum: float = 0.5,
) -> Ranking:
    """`judge_responses` on recorded scores, one column an arm."""
    scores = np.asarray(scores_NK, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[1] != committee.n_arms:
        raise InputError(
            f"scores must be (responses, {committee.n_arms} arms), got shape {scores.shape}"
        )

    return judge_responses(
        committee, lambda arm: scores[:, arm], len(scores), category, price, None, quorum
    )


def pair_weights(
    confidence_P: ArrayLike, min_confidence: float, how: str = "drop"
) -> tuple[Float, int]:
    """(P,) weights of pairs, and how many of them are below the confidence.

    "drop" gives those weight 0, "weight" gives them (2 c - 1) / (2 min - 1); the rest keep 1.

    >>> pair_weights([0.5, 0.6, 0.9], 0.7, "weight")
    (array([0. , 0.5, 1. ]), 2)
    """
    confidence = np.asarray(confidence_P, dtype=np.float64)
    if how not in ("drop", "weight") or not 0.5 <= min_confidence < 1:
        raise InputError(
            "min_confidence must be in [0.5, 1) and how 'drop' or 'weight', "
            f"got {min_confidence} and {how!r}"
        )

    low = confidence < min_confidence
    share: float | Float = 0.0
    if how == "weight":
        # 0 at a coin's confidence, 1 at the least that keeps its whole weight.
        span = max(2 * min_confidence - 1, 1e-9)
        share = (2 * confidence - 1) / span
    # Rounded, so that a confidence of exactly 1/2 has weight 0.
    low_weight = np.round(np.maximum(share, 0.0), 12)
    return np.where(low, low_weight, 1.0), int(low.sum())


class PromptEvidence:
    """The growing evidence on one prompt's N responses.

    ``next`` names the arm to ask, ``tell`` takes its scores, ``ranking`` gives the verdict.
    InputError on no responses, a quorum outside (0, 1], or scores of another length.

    Args:
        committee: whom to ask.
        n_responses: N.
        category: the prompt's, where the committee knows any.
        price: of a call; None: the committee's.
        first: the arm to begin with; None: the committee's own order.
        quorum: see `judge_responses`.
        ballot: these arms judge and nobody else.
        votes: weight of each arm of the ballot, which counts by the sign of its margins; None: it
            counts by its calibrated log-odds.
    """

    def __init__(  # noqa: PLR0913 - the signature is public
        self,
        committee: Committee,
        n_responses: int,
        category: str | None = None,
        *,
        price: float | None = None,
        first: int | None = None,
        quorum: float = 0.5,
        ballot: Sequence[int] | None = None,
        votes: Mapping[int, float] | None = None,
    ) -> None:
        """Nobody is asked yet."""
        if n_responses < 1 or not 0 < quorum <= 1:
            raise InputError(
                f"need n_responses >= 1 and quorum in (0, 1], got {n_responses} and {quorum}"
            )

        self.committee = committee
        self.n = n_responses
        self.category = category
        self.quorum = quorum
        self.price = committee.price if price is None else price
        self.first = None if first in committee.vetoes else first
        self.ballot = None if ballot is None else self._with_first(ballot)
        self.votes = votes
        self.verdict: dict[int, Float] = {}
        self.scores: dict[int, Float] = {}
        self.calls = 0
        self.refusal_N = np.zeros(n_responses)
        self.scored_N = np.zeros(n_responses, dtype=bool)

    def _with_first(self, ballot: Sequence[int]) -> tuple[int, ...]:
        voters = [arm for arm in ballot if arm not in self.committee.vetoes]
        if self.first is None:
            return tuple(voters)

        # the first arm takes the place of the last one, where it was not of the ballot
        others = [arm for arm in voters if arm != self.first]
        return (self.first, *others[: len(voters) - 1])

    def next(self) -> int | None:
        """The arm to ask next, None to stop. O(asked N^2).

        Vetoes come first, then the first arm, then whoever is worth the price.
        """
        for veto in self.committee.vetoes:
            if veto not in self.scores:
                return veto

        open_N = self.refusal_N == 0
        # all but one are refused: nothing is left to tell apart
        if open_N.sum() < 2 and self.n > 1 and open_N.any():
            return None
        if self.ballot is not None:
            return next((arm for arm in self.ballot if arm not in self.scores), None)
        if not self.verdict and self.first is not None:
            return self.first

        return self._following(open_N)

    def _following(self, open_N: NDArray[np.bool_]) -> int | None:
        told = tuple(self.verdict)
        if self.n < 2:
            # A single response is asked about once: there is nothing to tell it from.
            return None if self.verdict else self.committee.following((), self.category)

        arm = self.committee.following(told, self.category)
        if arm is None or not self.verdict:
            return arm

        log_odds = self.log_odds()
        best = self._best(log_odds)
        # refused responses need no evidence against them
        is_other = np.arange(self.n) != best
        rivals = np.flatnonzero(open_N & is_other)
        bound = self.committee.bound(len(told), self.price)
        decided = np.abs(log_odds[best, rivals]) >= bound
        return None if decided.mean() >= self.quorum else arm

    def tell(self, arm: int, scores: ArrayLike) -> None:
        """One arm's scores of the N responses, NaN where it abstained. O(N^2)."""
        score = np.asarray(scores, dtype=np.float64)
        if score.shape != (self.n,) or np.isinf(score).any():
            raise InputError(
                f"arm {arm} must give {self.n} finite scores or NaN, got shape {score.shape}"
            )
        self.scores[arm] = score
        committee = self.committee
        spoke_N = ~np.isnan(score)

        if arm in committee.vetoes:
            # a voter is paid for every response, a veto for those it applies to
            self.calls += int(spoke_N.sum())
            # NaN where the veto does not apply: it refuses nothing there.
            refuses_N = np.nan_to_num(score, nan=1.0) < REFUSED_BELOW
            trust = committee.veto_log_odds[committee.vetoes.index(arm)]
            self.refusal_N += np.where(refuses_N, trust, 0.0)
            return

        self.calls += self.n
        self.scored_N |= spoke_N
        margin_NN = score[:, None] - score[None, :]
        if self.votes is None:
            self.verdict[arm] = committee.pair_log_odds(arm, margin_NN)
        else:
            # Before a fit an arm has a vote, and how long its margin is counts for nothing.
            side_NN = np.sign(np.nan_to_num(margin_NN))
            self.verdict[arm] = self.votes[arm] * side_NN

    def log_odds(self) -> Float:
        """(N, N) log-odds that the row's response is better than the column's."""
        out = np.zeros((self.n, self.n))
        if self.ballot is not None:
            weights = dict.fromkeys(self.verdict, 1.0)
        else:
            weights = self.committee.weights(tuple(self.verdict), self.category)

        for arm, weight in weights.items():
            out += weight * self.verdict[arm]

        # a refused response loses to every other, whatever the voters say
        # Above 0 where the column's response was refused by more than the row's.
        gap = self.refusal_N[None, :] - self.refusal_N[:, None]
        return np.where(gap != 0, gap, out)

    def _best(self, log_odds_NN: Float) -> int:
        # a response that was scored wins a tie against one that was not
        scored = self.scored_N & (self.refusal_N == 0)
        return int(np.argmax(log_odds_NN.sum(1) + SURE * scored))

    def ranking(self) -> Ranking:
        """The verdict of the arms asked so far."""
        log_odds = self.log_odds()
        seen = self.scored_N | (self.refusal_N != 0)
        value = np.where(seen, log_odds.sum(1) / max(self.n - 1, 1), np.nan)
        return Ranking(
            value,
            self._best(log_odds),
            tuple(self.scores),
            self.calls,
            self.refusal_N != 0,
            log_odds,
        )
