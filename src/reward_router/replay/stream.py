"""A stream of recorded rows: blocks decided together, payoffs released late; and LASER, one decision a batch of prompts.

An arm without a score on a row is not eligible there: it draws no decision, and the others' probabilities are renormalised.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from reward_router.dispatch.eligible import Mask, among, masked
from reward_router.features import pool
from reward_router.routers import choose
from reward_router.types import AnyFloat, Float, Int, Router

Decide = Callable[[Int], tuple[Float, Int, Float]]
Learn = Callable[[Int, Int, Float], None]


def stream(
    blocks: Iterable[Int], decide: Decide, learn: Learn, delay: int, probs_PK: AnyFloat
) -> None:
    """Row numbers block by block: ``decide`` -> (probabilities, arms, propensities); ``learn`` once ``delay`` more rows are seen.

    Fills ``probs_PK`` at the rows of the blocks. Memory: what waits.
    """
    waiting: deque[tuple[int, Int, Int, Float]] = deque()
    seen = 0
    for row_B in blocks:
        p_BK, arm_B, propensity_B = decide(row_B)
        probs_PK[row_B] = p_BK
        seen += len(row_B)
        waiting.append((seen + delay, row_B, arm_B, propensity_B))
        while waiting and waiting[0][0] <= seen:
            _, due_B, arm_B, propensity_B = waiting.popleft()
            learn(due_B, arm_B, propensity_B)


def play(
    blocks: Iterable[Int],
    router: Router,
    context_of: Callable[[Int], Float],
    payoff_PK: Float,
    uniform_P: Float,
    delay: int,
    probs_PK: AnyFloat,
    there_PK: Mask | None = None,
) -> None:
    """A router over blocks, one decision a row; ``context_of(rows)`` gives (B, D), or (1, D) that all rows share. NaN teaches nothing.

    ``there_PK``: the arms that have a score on each row, None: all everywhere. A row that has none is decided as if it had all.
    """

    def decide(row_B: Int) -> tuple[Float, Int, Float]:
        x_BD = context_of(row_B)
        there_BK = None if there_PK is None else there_PK[row_B]
        if there_BK is None or there_BK.all():
            p_BK = router.probs(x_BD)
        else:
            p_BK = among(router, x_BD, there_BK, forced=True)
        if len(p_BK) < len(row_B):
            p_BK = np.repeat(p_BK, len(row_B), axis=0)
        return p_BK, *choose(p_BK, uniform_P[row_B])

    def learn(row_B: Int, arm_B: Int, propensity_B: Float) -> None:
        payoff_B = payoff_PK[row_B, arm_B]
        told_B = ~np.isnan(payoff_B)
        if told_B.any():
            context_BD = context_of(row_B[told_B])
            context_BD = np.broadcast_to(context_BD, (int(told_B.sum()), context_BD.shape[1]))
            router.update(context_BD, arm_B[told_B], payoff_B[told_B], propensity_B[told_B])

    stream(blocks, decide, learn, delay, probs_PK)


def play_batches(
    groups: Sequence[Int],
    size: int,
    router: Router,
    context_of: Callable[[Int], Float],
    payoff_PK: Float,
    uniform_P: Float,
    delay: int,
    probs_PK: AnyFloat,
    there_PK: Mask | None = None,
) -> None:
    """LASER's unit: ``size`` prompts share one decision, on the mean of their contexts, and one payoff, the mean over their rows.

    ``context_of(rows)`` as in :func:`play`, asked once a prompt; the payoff is the mean of what the batch's rows paid. ``there_PK``:
    the batch is decided among the arms that have a score on the most of its rows; on a row where the decided arm has none, the
    others share its probability.
    """

    def pooled(row_B: Int, first_B: Int) -> Float:
        return pool(np.concatenate([context_of(part)[:1] for part in np.split(row_B, first_B)]))

    contexts: dict[int, Float] = {}

    def blocks() -> Iterable[Int]:
        for start in range(0, len(groups), size):
            part = groups[start : start + size]
            row_B = np.concatenate(part)
            contexts[int(row_B[0])] = pooled(row_B, np.cumsum([len(g) for g in part])[:-1])
            yield row_B

    def decide(row_B: Int) -> tuple[Float, Int, Float]:
        x_1D = contexts[int(row_B[0])]
        there_BK = None if there_PK is None else there_PK[row_B]
        if there_BK is None or there_BK.all():
            p_1K = router.probs(x_1D)
            return np.repeat(p_1K, len(row_B), axis=0), *choose(p_1K, uniform_P[row_B[:1]])
        count_K = there_BK.sum(axis=0)
        p_1K = among(router, x_1D, (count_K == count_K.max())[None], forced=True)
        p_BK = np.repeat(p_1K, len(row_B), axis=0)
        known_B = there_BK.any(axis=1)
        p_BK[known_B] = masked(p_BK[known_B], there_BK[known_B])
        return p_BK, *choose(p_1K, uniform_P[row_B[:1]])

    def learn(row_B: Int, arm_1: Int, propensity_1: Float) -> None:
        payoff_B = payoff_PK[row_B, arm_1[0]]
        context_1D = contexts.pop(int(row_B[0]))
        if not np.isnan(payoff_B).all():
            router.update(context_1D, arm_1, np.array([np.nanmean(payoff_B)]), propensity_1)

    stream(blocks(), decide, learn, delay, probs_PK)
