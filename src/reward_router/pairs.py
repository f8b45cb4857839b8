"""Preference pairs from one prompt's scored responses (LASER, step 3).

Pairs are strict, distinct, drawn by key, and never across prompts.

This module also says when two scores are too close to call. The threshold is in each arm's own
units, because 0.1 of one arm's raw score is decisive and of another's nothing (the authors of
BayesianRouter use 0.1 for all).

And it says what becomes of a response that the token limit cut. No arm judges those: a policy that
is trained towards one is trained without an end (TRL's ``missing_eos_penalty`` and
``mask_truncated_completions`` are there for the same reason).
"""

from bisect import insort
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reward_router.types import Float, Truncated

PairChoice = Literal["random", "widest"]


def form_pairs(  # noqa: PLR0913 (the settings of a section `pairs`)
    scores_N: Float,
    responses: Sequence[str],
    per_prompt: int,
    rng: np.random.Generator,
    margin: float = 0.0,
    allowed_NN: NDArray[np.bool_] | None = None,
    finished_N: NDArray[np.bool_] | None = None,
    truncated: Truncated = "lose",
    pick: PairChoice = "random",
) -> list[tuple[int, int]]:
    """Up to ``per_prompt`` (winner, loser) index pairs with a score gap above ``margin``.

    NaN scores (the arm abstained) and pairs of identical texts are left out; the same two texts are
    paired once, whichever wins. An empty list means that all responses tie: the prompt teaches
    nothing and the router is not updated. O(N^2).

    Args:
        scores_N: the scores of one prompt's N responses.
        responses: their texts.
        per_prompt: the most pairs.
        rng: draws among more pairs than that.
        margin: the gap up to which two scores tie.
        allowed_NN: (winner, loser) False where somebody does not trust the pair; None: nowhere.
        finished_N: False where the token limit cut a response; None: nowhere.
        truncated: what becomes of cut responses, as in `beats`.
        pick: which pairs stay: ``random`` ones, drawn without replacement, or those with the
            ``widest`` gaps, of which one that a cut response loses is wider than any between
            finished ones.

    >>> scores_N = np.array([1.0, 2.0])
    >>> form_pairs(scores_N, ["a", "b"], 10, np.random.default_rng(0))
    [(1, 0)]
    >>> finished_N = np.array([True, False])
    >>> form_pairs(scores_N, ["a", "b"], 10, np.random.default_rng(0), finished_N=finished_N)
    [(0, 1)]
    """
    beats_NN = beats(scores_N, margin, finished_N, truncated)
    if allowed_NN is not None:
        beats_NN &= allowed_NN
    paired_texts: set[frozenset[str]] = set()
    candidates: list[tuple[int, int]] = []
    for winner in range(len(responses)):
        for loser in range(len(responses)):
            texts = frozenset((str(responses[winner]), str(responses[loser])))
            # Two responses may share a text: the pair would come twice and count twice.
            is_new = len(texts) == 2 and texts not in paired_texts
            if beats_NN[winner, loser] and is_new:
                paired_texts.add(texts)
                candidates.append((winner, loser))
    if len(candidates) <= per_prompt:
        return candidates
    if pick == "widest":
        return _widest(candidates, scores_N, finished_N)[:per_prompt]
    # Sorted below: the order of the pairs must not depend on the order of the draw.
    kept = rng.choice(len(candidates), size=per_prompt, replace=False)
    return [candidates[i] for i in sorted(kept)]


def _widest(
    candidates: Sequence[tuple[int, int]], scores_N: Float, finished_N: NDArray[np.bool_] | None
) -> list[tuple[int, int]]:
    """Candidates by falling score gap; ties keep their order.

    Those whose loser was cut come first, by the winner's score.
    """

    def width(pair: tuple[int, int]) -> tuple[bool, float]:
        winner, loser = pair
        cut = finished_N is not None and not finished_N[loser] and bool(finished_N[winner])
        # A cut response has no score to compare with: its winner's own score orders such pairs.
        gap = scores_N[winner]
        if not cut:
            gap = scores_N[winner] - scores_N[loser]
        # NaN has no order: such pairs come last.
        return cut, float(np.nan_to_num(gap, nan=-np.inf))

    return sorted(candidates, key=width, reverse=True)


def beats(
    scores_N: ArrayLike,
    margin: float = 0.0,
    finished_N: ArrayLike | None = None,
    truncated: Truncated = "lose",
) -> NDArray[np.bool_]:
    """(N, N) whether the first response is preferred to the second.

    It is where its score is higher by more than ``margin``.
    With ``truncated`` lose a finished response is preferred to every cut one, also where the arm
    abstained on either, and of two cut ones neither is. With drop nothing is preferred to a cut one
    either. O(N^2).

    >>> beats([1.0, 5.0, 9.0], finished_N=[True, False, False]).astype(int).tolist()
    [[0, 1, 1], [0, 0, 0], [0, 0, 0]]
    """
    score_N = np.asarray(scores_N, np.float64)
    gap_NN = score_N[:, None] - score_N[None, :]
    # NaN is higher than nothing, and nothing is higher than NaN.
    higher_NN: NDArray[np.bool_] = gap_NN > margin
    if finished_N is None or truncated == "keep":
        return higher_NN

    finished = np.asarray(finished_N, bool)
    both_finished_NN = finished[:, None] & finished[None, :]
    fixed_NN = fixed_by_the_cut(finished, truncated)
    return np.asarray(higher_NN & both_finished_NN | fixed_NN)


def fixed_by_the_cut(finished_N: ArrayLike, truncated: Truncated) -> NDArray[np.bool_]:
    """(N, N) True where the first response is preferred by the rule alone.

    No arm's score changes that. O(N^2).
    """
    finished = np.asarray(finished_N, bool)
    n_responses = len(finished)
    if truncated != "lose":
        return np.zeros((n_responses, n_responses), bool)
    # A finished response beats a cut one, whatever anybody says of them.
    first_ended_NN = finished[:, None]
    second_cut_NN = ~finished[None, :]
    return np.asarray(first_ended_NN & second_cut_NN)


def rewards_with_truncation(
    scores_BN: ArrayLike,
    finished_BN: ArrayLike,
    truncated: Truncated = "lose",
    gap: float | None = None,
) -> Float:
    """Scores as rewards for a trainer that takes numbers instead of pairs (GRPO, RLOO, PPO).

    O(B N).

    Args:
        scores_BN: one arm's scores of N responses to each of B prompts, NaN where it abstained; for
            a finished response it stays NaN.
        finished_BN: bool, False where the token limit cut the response.
        truncated: what a cut response gets. ``lose``: the lowest score of its prompt's finished
            responses (of all responses where none is finished) less ``gap``, so that cut ones are
            equal to each other. ``drop``: NaN. ``keep``: its score.
        gap: how far below it is; None: the spread of the prompt's scores, 1 where they are equal.

    >>> scores_BN = [[1.0, 3.0, 9.0], [2.0, 2.0, 4.0]]
    >>> finished_BN = [[True, True, False], [True, True, False]]
    >>> rewards_with_truncation(scores_BN, finished_BN).tolist()
    [[1.0, 3.0, -7.0], [2.0, 2.0, 0.0]]
    """
    score_BN = np.array(scores_BN, np.float64)
    finished_BN = np.asarray(finished_BN, bool)
    if truncated == "keep":
        return score_BN
    if truncated == "drop":
        return np.where(finished_BN, score_BN, np.nan)
    for score_N, finished_N in zip(score_BN, finished_BN, strict=True):
        if finished_N.all():
            continue
        is_scored_N = np.isfinite(score_N)
        scored = score_N[is_scored_N]
        scored_and_finished = score_N[is_scored_N & finished_N]
        # Below what the policy could have got by finishing: being cut must never pay.
        lowest = min(scored_and_finished if len(scored_and_finished) else scored, default=0.0)
        below = gap
        if below is None:
            spread = float(np.ptp(scored)) if len(scored) else 0.0
            below = spread or 1.0
        score_N[~finished_N] = lowest - below
    return score_BN


class GapScale:
    """Per arm the running median of |score gap|, which is the unit of its tie threshold.

    Pairs that the arm tied exactly do not count.
    The median moves little with one wild score, and leaving exact ties out keeps it above 0 for
    arms that tie often. It holds no state of its own making: the same gaps in any order give the
    same scale, so it is rebuilt from recorded calls.

    >>> scale = GapScale(warmup=3)
    >>> scale.learn([("a", 4.0), ("a", 0.0), ("a", 1.0)]), scale.threshold("a", 0.1)
    (None, 0.0)
    >>> scale.learn([("a", 2.0)]), scale.threshold("a", 0.1)
    (None, 0.2)
    """

    def __init__(self, warmup: int = 5) -> None:
        """``warmup``: gaps of an arm before it has a threshold; before, only equal scores tie."""
        self.warmup = warmup
        self._sorted: dict[str, list[float]] = {}

    def learn(self, gaps: Iterable[tuple[str, float]]) -> None:
        """Take in (arm, score gap of either sign); NaN and 0 are left out.

        Each takes O(log n) and a memory move.
        """
        for arm, gap in gaps:
            if abs(gap) > 0:
                insort(self._sorted.setdefault(arm, []), abs(gap))

    def threshold(self, arm: str, share: float) -> float:
        """``share`` times the arm's median gap; 0 while it has fewer than ``warmup``. O(1)."""
        gaps = self._sorted.get(arm, [])
        if len(gaps) < self.warmup:
            return 0.0
        middle = len(gaps) // 2
        median = gaps[middle]
        if len(gaps) % 2 == 0:
            median = (gaps[middle - 1] + gaps[middle]) / 2
        return share * median


def gaps(calls: Iterable[tuple[object, str, str, float]]) -> list[tuple[str, float]]:
    """(arm, score gap) of every pair in calls of the form (decision, arm, status, score).

    Audits are left out: nothing may learn from them.

    >>> calls = [(1, "a", "ok", 2.0), (1, "a", "shared", 5.0), (2, "a", "ok", 1.0)]
    >>> gaps([*calls, (2, "b", "audit", 1.0)])
    [('a', 3.0)]
    """
    scored: dict[tuple[object, str], list[float]] = {}
    for decision, arm, status, score in calls:
        if status != "audit":
            scored.setdefault((decision, arm), []).append(score)

    arm_gaps = []
    for (_, arm), scores in scored.items():
        # Only a decision about a pair has a gap; calls stand in the order of the responses.
        if len(scores) == 2:
            first, second = scores
            arm_gaps.append((arm, second - first))
    return arm_gaps
