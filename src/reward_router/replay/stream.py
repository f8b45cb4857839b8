"""A stream of recorded rows: blocks decided together, payoffs released late.

LASER makes one decision for a batch of prompts. An arm without a score on a row is not eligible
there: it draws no decision, and the others' probabilities are renormalised.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from reward_router.dispatch.eligible import Mask, among, masked
from reward_router.features import pool
from reward_router.routers import choose
from reward_router.routers.greedy import Greedy
from reward_router.types import AnyFloat, Float, Int, Router

Decide = Callable[[Int], tuple[Float, Int, Float]]
"""Row numbers of a block -> (probabilities, arms, propensities)."""
Learn = Callable[[Int, Int, Float], None]
"""What a router learns from: row numbers, their arms and propensities."""
ContextOf = Callable[[Int], Float]
"""Row numbers -> (B, D) contexts, or (1, D) that all the rows share."""


@dataclass(frozen=True)
class PayoffRows:
    """What rows pay, and how a router's arm is drawn on them.

    Args:
        payoff_PK: what each arm would earn; NaN: no payoff comes, and nothing is learned.
        uniform_P: the uniform number that draws the arm of each row.
        delay: rows after which a payoff comes.
        present_PK: the arms that have a score on each row, None: all everywhere. A row that has
            none is decided as if it had all.
        frozen_P: the rows that are decided greedily, None: none. No payoff comes there, so trying
            an arm earns nothing.
    """

    payoff_PK: Float
    uniform_P: Float
    delay: int
    present_PK: Mask | None = None
    frozen_P: Mask | None = None

    def frozen(self, row_B: Int) -> bool:
        """Whether all of these rows are decided greedily."""
        return self.frozen_P is not None and bool(self.frozen_P[row_B].all())


def distribution(
    router: Router, context_BD: AnyFloat, present_BK: Mask | None, frozen: bool
) -> Float:
    """(B, K) probabilities among the arms that are present; one row where all rows are alike.

    ``frozen``: the arm of the best expected payoff is taken (`Greedy`).
    """
    everywhere = present_BK is None or bool(present_BK.all())
    if everywhere:
        return Greedy(router).probs(context_BD) if frozen else router.probs(context_BD)
    assert present_BK is not None
    if not frozen:
        return among(router, context_BD, present_BK, forced=True)

    probs_BK = np.empty(present_BK.shape)
    # one read of the router for each set of arms, not for each row
    masks, which_B = np.unique(present_BK, axis=0, return_inverse=True)
    for number, present_K in enumerate(masks):
        rows_B = which_B.reshape(-1) == number
        shared = len(context_BD) == 1
        absent = np.flatnonzero(~present_K).tolist()
        probs_BK[rows_B] = Greedy(router, absent).probs(
            context_BD if shared else context_BD[rows_B]
        )
    return probs_BK


def stream(
    blocks: Iterable[Int], decide: Decide, learn: Learn, delay: int, probs_PK: AnyFloat
) -> None:
    """Go through row numbers block by block; fills ``probs_PK`` at their rows. Memory: what waits.

    Args:
        blocks: row numbers that are decided together.
        decide: draws their arms.
        learn: is called once ``delay`` more rows are seen.
        delay: in rows.
        probs_PK: gets the probabilities.
    """
    waiting: deque[tuple[int, Int, Int, Float]] = deque()
    seen = 0
    for row_B in blocks:
        p_BK, arm_B, propensity_B = decide(row_B)
        probs_PK[row_B] = p_BK
        seen += len(row_B)

        # Payoffs of a block are due only after all of it was decided, even without a delay.
        due_at = seen + delay
        waiting.append((due_at, row_B, arm_B, propensity_B))
        while waiting and waiting[0][0] <= seen:
            _, due_B, arm_B, propensity_B = waiting.popleft()
            learn(due_B, arm_B, propensity_B)


def play(
    blocks: Iterable[Int],
    router: Router,
    context_of: ContextOf,
    paid: PayoffRows,
    probs_PK: AnyFloat,
) -> None:
    """A router over blocks, one decision a row; fills ``probs_PK``."""

    def decide(row_B: Int) -> tuple[Float, Int, Float]:
        n_rows = len(row_B)
        x_BD = context_of(row_B)
        present_BK = None if paid.present_PK is None else paid.present_PK[row_B]
        p_BK = distribution(router, x_BD, present_BK, paid.frozen(row_B))
        # A router without contexts answers with one row for all.
        if len(p_BK) < n_rows:
            p_BK = np.repeat(p_BK, n_rows, axis=0)
        return p_BK, *choose(p_BK, paid.uniform_P[row_B])

    def learn(row_B: Int, arm_B: Int, propensity_B: Float) -> None:
        payoff_B = paid.payoff_PK[row_B, arm_B]
        came_B = ~np.isnan(payoff_B)
        n_came = int(came_B.sum())
        if not n_came:
            return
        context_BD = context_of(row_B[came_B])
        width = context_BD.shape[1]
        context_BD = np.broadcast_to(context_BD, (n_came, width))
        router.update(context_BD, arm_B[came_B], payoff_B[came_B], propensity_B[came_B])

    stream(blocks, decide, learn, paid.delay, probs_PK)


def play_batches(
    groups: Sequence[Int],
    size: int,
    router: Router,
    context_of: ContextOf,
    paid: PayoffRows,
    probs_PK: AnyFloat,
) -> None:
    """LASER's unit: prompts share one decision and one payoff; fills ``probs_PK``.

    The decision is made on the mean of the prompts' contexts, among the arms that have a score on
    the most of the batch's rows; on a row where the decided arm has none, the others share its
    probability. The payoff is the mean of what the batch's rows paid.

    Args:
        groups: row numbers of each prompt.
        size: prompts of a batch.
        router: learns as it goes.
        context_of: called once a prompt.
        paid: what the rows pay.
        probs_PK: gets the probabilities.
    """

    def pooled(row_B: Int, first_B: Int) -> Float:
        of_prompts = [context_of(part)[:1] for part in np.split(row_B, first_B)]
        return pool(np.concatenate(of_prompts))

    contexts: dict[int, Float] = {}

    def blocks() -> Iterable[Int]:
        for start in range(0, len(groups), size):
            part = groups[start : start + size]
            row_B = np.concatenate(part)
            first_B = np.cumsum([len(rows) for rows in part])[:-1]
            contexts[int(row_B[0])] = pooled(row_B, first_B)
            yield row_B

    def decide(row_B: Int) -> tuple[Float, Int, Float]:
        x_1D = contexts[int(row_B[0])]
        present_BK = None if paid.present_PK is None else paid.present_PK[row_B]
        frozen = paid.frozen(row_B)
        if present_BK is None or present_BK.all():
            p_1K = distribution(router, x_1D, None, frozen)
            p_BK = np.repeat(p_1K, len(row_B), axis=0)
        else:
            count_K = present_BK.sum(axis=0)
            most_1K = (count_K == count_K.max())[None]
            p_1K = distribution(router, x_1D, most_1K, frozen)
            p_BK = np.repeat(p_1K, len(row_B), axis=0)
            scored_B = present_BK.any(axis=1)
            p_BK[scored_B] = masked(p_BK[scored_B], present_BK[scored_B])
        return p_BK, *choose(p_1K, paid.uniform_P[row_B[:1]])

    def learn(row_B: Int, arm_1: Int, propensity_1: Float) -> None:
        payoff_B = paid.payoff_PK[row_B, arm_1[0]]
        context_1D = contexts.pop(int(row_B[0]))
        if not np.isnan(payoff_B).all():
            router.update(context_1D, arm_1, np.array([np.nanmean(payoff_B)]), propensity_1)

    stream(blocks(), decide, learn, paid.delay, probs_PK)
