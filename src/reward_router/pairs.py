"""Preference pairs from one prompt's scored responses: strict, distinct, seeded, never across prompts (LASER, step 3).

Also when two scores are too close to call: a threshold in each arm's own units, because 0.1 of one
arm's raw score is decisive and of another's nothing (the authors of BayesianRouter use 0.1 for
all).

And what becomes of a response that the token limit cut, which no arm is asked about: a policy that
is trained towards one is trained without an end (TRL's ``missing_eos_penalty`` and
``mask_truncated_completions`` are there for the same reason).
"""

from bisect import insort
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reward_router.types import Float, Truncated

Pick = Literal["random", "widest"]


def form_pairs(
    scores_N: Float,
    responses: Sequence[str],
    per_prompt: int,
    rng: np.random.Generator,
    margin: float = 0.0,
    allowed_NN: NDArray[np.bool_] | None = None,
    finished_N: NDArray[np.bool_] | None = None,
    truncated: Truncated = "lose",
    pick: Pick = "random",
) -> list[tuple[int, int]]:
    """Up to ``per_prompt`` (winner, loser) index pairs with a score gap above ``margin``.

    ``pick``: drawn without replacement (``random``), or those with the widest gaps (``widest``), of
    which one that a cut response loses is wider than any between finished ones. NaN scores (the arm
    abstained) and pairs of identical texts are left out; the same two texts are paired once,
    whichever wins. ``allowed_NN`` (winner, loser) leaves out what somebody does not trust.
    ``finished_N``: False where the token limit cut a response (None: nowhere); ``truncated`` says
    what becomes of those (`beats`). An empty list means that all responses tie: the prompt teaches
    nothing and the router is not updated. O(N^2).

    >>> form_pairs(np.array([1.0, 2.0]), ["a", "b"], 10, np.random.default_rng(0))
    [(1, 0)]
    >>> form_pairs(np.array([1.0, 2.0]), ["a", "b"], 10, np.random.default_rng(0), finished_N=np.array([True, False]))
    [(0, 1)]
    """
    beats_NN = beats(scores_N, margin, finished_N, truncated)
    if allowed_NN is not None:
        beats_NN &= allowed_NN
    seen: set[frozenset[str]] = set()
    candidates: list[tuple[int, int]] = []
    for w in range(len(responses)):
        for loser in range(len(responses)):
            texts = frozenset((str(responses[w]), str(responses[loser])))
            if beats_NN[w, loser] and len(texts) == 2 and texts not in seen:
                seen.add(texts)
                candidates.append((w, loser))
    if len(candidates) <= per_prompt:
        return candidates
    if pick == "widest":
        return _widest(candidates, scores_N, finished_N)[:per_prompt]
    kept = rng.choice(len(candidates), size=per_prompt, replace=False)
    return [candidates[i] for i in sorted(kept)]


def _widest(
    candidates: Sequence[tuple[int, int]], scores_N: Float, finished_N: NDArray[np.bool_] | None
) -> list[tuple[int, int]]:
    """Candidates by falling score gap; where the loser was cut, first, and by the winner's score. Ties keep their order."""

    def width(pair: tuple[int, int]) -> tuple[bool, float]:
        winner, loser = pair
        cut = finished_N is not None and not finished_N[loser] and bool(finished_N[winner])
        gap = scores_N[winner] if cut else scores_N[winner] - scores_N[loser]
        return cut, float(np.nan_to_num(gap, nan=-np.inf))

    return sorted(candidates, key=width, reverse=True)


def beats(
    scores_N: ArrayLike,
    margin: float = 0.0,
    finished_N: ArrayLike | None = None,
    truncated: Truncated = "lose",
) -> NDArray[np.bool_]:
    """(N, N) whether the first response is preferred to the second: its score is higher by more than ``margin``.

    With ``truncated`` lose a finished response is preferred to every cut one, also where the arm
    abstained on either, and of two cut ones neither is. With drop nothing is preferred to a cut one
    either. O(N^2).

    >>> beats([1.0, 5.0, 9.0], finished_N=[True, False, False]).astype(int).tolist()
    [[0, 1, 1], [0, 0, 0], [0, 0, 0]]
    """
    score_N = np.asarray(scores_N, np.float64)
    higher_NN: NDArray[np.bool_] = score_N[:, None] - score_N[None, :] > margin
    if finished_N is None or truncated == "keep":
        return higher_NN
    finished = np.asarray(finished_N, bool)
    both_NN = finished[:, None] & finished[None, :]
    fixed_NN = fixed_by_the_cut(finished, truncated)
    return np.asarray(higher_NN & both_NN | fixed_NN)


def fixed_by_the_cut(finished_N: ArrayLike, truncated: Truncated) -> NDArray[np.bool_]:
    """(N, N) True where the first response is preferred to the second by the rule alone, whatever any arm says. O(N^2)."""
    finished = np.asarray(finished_N, bool)
    if truncated != "lose":
        return np.zeros((len(finished), len(finished)), bool)
    return np.asarray(finished[:, None] & ~finished[None, :])


def rewards_with_truncation(
    scores_BN: ArrayLike,
    finished_BN: ArrayLike,
    truncated: Truncated = "lose",
    gap: float | None = None,
) -> Float:
    """Scores as rewards for a trainer that takes numbers instead of pairs (GRPO, RLOO, PPO), cut responses below the rest.

    ``scores_BN``: one arm's scores of N responses to each of B prompts, NaN where it abstained (and
    stays so for finished ones).
    ``finished_BN``: bool, False where the token limit cut the response. lose: every cut response
    gets the lowest score of its prompt's finished ones less ``gap`` (None: the spread of its
    scores, 1 where they are all equal), so that cut ones are equal to each other; where none is
    finished, the lowest score of all takes the place. drop: NaN. keep: unchanged. O(B N).

    >>> rewards_with_truncation([[1.0, 3.0, 9.0], [2.0, 2.0, 4.0]], [[True, True, False], [True, True, False]]).tolist()
    [[1.0, 3.0, -7.0], [2.0, 2.0, 0.0]]
    """
    score_BN, finished_BN = np.array(scores_BN, np.float64), np.asarray(finished_BN, bool)
    if truncated == "keep":
        return score_BN
    if truncated == "drop":
        return np.where(finished_BN, score_BN, np.nan)
    for score_N, finished_N in zip(score_BN, finished_BN, strict=True):
        known_N = np.isfinite(score_N)
        if finished_N.all():
            continue
        judged = score_N[known_N]
        ended = score_N[known_N & finished_N]
        lowest = min(ended if len(ended) else judged, default=0.0)
        spread = float(np.ptp(judged)) if len(judged) else 0.0
        score_N[~finished_N] = lowest - ((spread or 1.0) if gap is None else gap)
    return score_BN


class GapScale:
    """Per arm the running median of |score gap| over the pairs it did not tie exactly: the unit of its tie threshold.

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
        """``warmup``: gaps of an arm before it has a threshold; until then only equal scores tie."""
        self.warmup = warmup
        self._sorted: dict[str, list[float]] = {}

    def learn(self, gaps: Iterable[tuple[str, float]]) -> None:
        """Take in (arm, score gap of either sign); NaN and 0 are left out. O(log n) and a memory move each."""
        for arm, gap in gaps:
            if abs(gap) > 0:
                insort(self._sorted.setdefault(arm, []), abs(gap))

    def threshold(self, arm: str, share: float) -> float:
        """``share`` times the arm's median gap; 0 while it has fewer than ``warmup``. O(1)."""
        known = self._sorted.get(arm, [])
        if len(known) < self.warmup:
            return 0.0
        middle = len(known) // 2
        median = known[middle] if len(known) % 2 else (known[middle - 1] + known[middle]) / 2
        return share * median


def gaps(calls: Iterable[tuple[object, str, str, float]]) -> list[tuple[str, float]]:
    """(arm, score gap) of every pair in calls of the form (decision, arm, status, score); audits are seen by nobody.

    >>> gaps([(1, "a", "ok", 2.0), (1, "a", "shared", 5.0), (2, "a", "ok", 1.0), (2, "b", "audit", 1.0)])
    [('a', 3.0)]
    """
    scored: dict[tuple[object, str], list[float]] = {}
    for decision, arm, status, score in calls:
        if status != "audit":
            scored.setdefault((decision, arm), []).append(score)
    return [(arm, pair[1] - pair[0]) for (_, arm), pair in scored.items() if len(pair) == 2]
