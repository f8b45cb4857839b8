"""Probabilities among the arms that may be drawn.

This is the one place where an arm that rests, or has no score, is masked. A router that chooses by
utility (LinUCB, Thompson, Exp3, ...) is read with the utilities of the others lowered out of sight,
so its choice among the rest is its own. Then the others' probability is set to 0 and the row
renormalised; where that leaves nothing (round robin's turn, a fixed arm) the arm named for it
judges, or each of the rest alike. Where every arm may be drawn, the router's probabilities are
passed on untouched.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reward_router.dispatch.warmup import believed, force
from reward_router.errors import AllArmsResting
from reward_router.ledger.breaker import Breaker
from reward_router.types import AnyFloat, Float, Forced, Int, Penalised, Router

Mask = NDArray[np.bool_]
OUT_OF_SIGHT = 1e9  # payoff units: far below whatever an arm may promise


class Present(NamedTuple):
    """The arms that are there: their numbers, their pulls, and who stands in for a resting arm."""

    numbers: Sequence[int]
    pulls_K: Int
    fallback: Sequence[int]


class UnitsOfCall(NamedTuple):
    """The units of one call; with the seed and the step they key every draw."""

    seed: int
    step: int
    names: list[str]


def among(
    router: Router,
    context_BD: AnyFloat,
    allowed_BK: Mask,
    stand_in: int | None = None,
    *,
    forced: bool = False,
) -> Float:
    """(B, K) probabilities among the arms allowed at each row, rows sum to 1.

    A row that allows no arm is left as the router gives it. O(B K) and one read of the router a
    distinct row of ``allowed_BK``.

    Args:
        router: what gives the probabilities.
        context_BD: the rows' contexts, or one row that all share.
        allowed_BK: which arms may be drawn.
        stand_in: the arm that judges where the router's whole probability lies on arms that are not
            allowed; None: the allowed ones alike.
        forced: whether the router makes its own forced pulls.
    """
    ask = router.probs if forced else partial(believed, router)
    n_rows = len(allowed_BK)
    some_allowed_B = allowed_BK.any(axis=1)
    all_allowed_B = allowed_BK.all(axis=1)
    restricted_B: Mask = np.asarray(~all_allowed_B & some_allowed_B)
    # the router's own numbers, untouched
    if not restricted_B.any():
        return _spread(ask(context_BD), n_rows)

    probs_BK = np.empty(allowed_BK.shape)
    if not restricted_B.all():
        free_B = np.logical_not(restricted_B)
        free_BK = ask(_part(context_BD, free_B))
        probs_BK[free_B] = _spread(free_BK, int(free_B.sum()))

    # one read of the router for each set of arms, not for each row
    masks, which_R = np.unique(allowed_BK[restricted_B], axis=0, return_inverse=True)
    rows_R = np.flatnonzero(restricted_B)
    for number, allowed_K in enumerate(masks):
        rows = rows_R[which_R.reshape(-1) == number]
        chosen_B = np.zeros(n_rows, dtype=bool)
        chosen_B[rows] = True
        lowered = _lowered(router, _part(context_BD, chosen_B), allowed_K, forced)
        among_allowed = masked(lowered, allowed_K[None], stand_in)
        probs_BK[rows] = _spread(among_allowed, len(rows))

    return probs_BK


def masked(probs_BK: Float, allowed_BK: Mask, stand_in: int | None = None) -> Float:
    """Probabilities with those of arms that are not allowed at 0, renormalised.

    See ``among`` for rows with nothing left.
    """
    kept_BK = np.where(allowed_BK, probs_BK, 0.0)
    total_B1 = kept_BK.sum(axis=1, keepdims=True)
    even_BK = allowed_BK / np.maximum(allowed_BK.sum(axis=1, keepdims=True), 1)
    if stand_in is not None:
        named_BK = np.zeros_like(kept_BK)
        named_BK[:, stand_in] = 1.0
        stands_B1 = np.broadcast_to(allowed_BK, kept_BK.shape)[:, [stand_in]]
        even_BK = np.where(stands_B1, named_BK, even_BK)

    with np.errstate(divide="ignore", invalid="ignore"):
        scaled_BK = kept_BK / total_B1

    return np.asarray(np.where(total_B1 > 0, scaled_BK, even_BK))


def _lowered(router: Router, context_BD: AnyFloat, allowed_K: Mask, forced: bool) -> Float:
    """The router's probabilities with the other arms out of sight.

    Forced pulls of arms that are not allowed are passed over.
    """
    # a router without utilities is masked afterwards
    if not isinstance(router, Penalised):
        return router.probs(context_BD) if forced else believed(router, context_BD)

    penalty_K = np.where(allowed_K, 0.0, OUT_OF_SIGHT)
    if not isinstance(router, Forced):
        return router.probs(context_BD, penalty_K)

    # its forced pulls count only where they leave an allowed arm
    if forced:
        probs_BK = router.probs(context_BD, penalty_K)
        if (probs_BK[:, allowed_K].sum(axis=1) > 0).all():
            return probs_BK

    return router.probs(context_BD, penalty_K, forced=False)


def _part(context_BD: AnyFloat, chosen_B: Mask) -> AnyFloat:
    return context_BD if len(context_BD) < len(chosen_B) else context_BD[chosen_B]


def _spread(probs_BK: Float, rows: int) -> Float:
    return np.repeat(probs_BK, rows, axis=0) if len(probs_BK) < rows else probs_BK


def rested(
    router: Router, context_BD: NDArray[Any], breaker: Breaker, arms: Present, units: UnitsOfCall
) -> tuple[Float, Mask]:
    """Probabilities of a call in which some arm rests, and which rows warm-up forced.

    An arm whose pause ends at a row of the call is probed there: that row is its own, with
    probability 1, and no other row of the call. An arm that was never drawn is probed only where
    the router would draw it (a fixed router's others are not). While all arms rest, the one whose
    pause is over, or whose probe is under way, judges the call; else the first of ``fallback`` that
    has not failed since; else AllArmsResting.
    """
    n_rows = len(units.names)
    present = arms.numbers
    allowed_K = np.array([arm not in breaker.resting for arm in present])
    if not allowed_K.any():
        # Somebody has to judge: one arm has the whole call.
        last_resort = present.index(_last_resort(breaker, arms))
        probs_BK = np.zeros((n_rows, len(present)))
        probs_BK[:, last_resort] = 1.0
        return probs_BK, np.zeros(n_rows, dtype=bool)

    working = [arm for arm in arms.fallback if arm in present and arm not in breaker.resting]
    stand_in = present.index(working[0]) if working else None
    probs_BK = among(router, context_BD, np.tile(allowed_K, (n_rows, 1)), stand_in)
    # an arm that rests lacks no forced decision until it comes back
    pulls_K = np.where(allowed_K, arms.pulls_K, np.iinfo(np.int64).max)
    probs_BK, forced_B = force(
        probs_BK, pulls_K, router.warmup, units.seed, units.step, units.names
    )
    probs_BK = probs_BK.copy()

    # two arms are never probed at the same row
    taken: set[int] = set()
    for k in np.flatnonzero(~allowed_K).tolist():
        arm = present[k]
        free_rows = (i for i in range(breaker.waits(arm), n_rows) if i not in taken)
        row = next(free_rows, None)
        if row is None:
            continue
        # An arm that was never drawn waits until the router itself would draw it.
        if not breaker.drawn(arm):
            own_BK = believed(router, context_BD[row : row + 1])
            if own_BK[0, k] == 0:
                continue

        taken.add(row)
        probs_BK[row] = np.eye(len(present))[k]
        forced_B[row] = False

    return probs_BK, forced_B


def _last_resort(breaker: Breaker, arms: Present) -> int:
    """The arm that judges while all rest."""
    present = arms.numbers
    ready = [arm for arm in present if breaker.waits(arm) == 0 or breaker.probing(arm)]
    untried = [arm for arm in arms.fallback if arm in present and not breaker.tried(arm)]
    candidates = [*untried, *ready]
    if not candidates:
        raise AllArmsResting(
            "all arms failed and rest, so nothing can be routed; see the ledger's failures for "
            "why, and try again once one is back: "
            "the next call asks the arm whose pause ends first"
        )

    return candidates[0]
