"""Decisions, calls and arms as callers name them, and as the ledger keeps them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router.dispatch import inputs
from reward_router.errors import InputError, LedgerError
from reward_router.ledger.fold import FoldState
from reward_router.ledger.rows import DIGEST, STATUSES, Call, Called, Decided, digest, pack, unpack
from reward_router.types import By, Decision


def called(
    seq: int,
    call: Call,
    seqs: Mapping[str, int],
    state: FoldState,
    prices: Mapping[str, float | None],
) -> Called:
    """One call as an event.

    InputError where it names an arm, a status or a number that is not allowed.
    """
    if call.status not in STATUSES:
        raise InputError(
            f"call of arm {call.arm!r}: status {call.status!r}; allowed {', '.join(STATUSES)}"
        )

    decision = seqs[call.decision_id] if call.decision_id else None
    score = inputs.number_or_none(call.score, "score")
    seconds = inputs.number_or_none(call.seconds, "seconds")
    price = inputs.number_or_none(call.price, "price")
    response = inputs.checked_text(call.response_id, "response id")
    arm = arm_number(state, call.arm)
    if price is None:
        price = prices.get(state.names[arm])

    return Called(seq, decision, response, arm, score, str(call.status), seconds, price)


def arm_number(state: FoldState, arm: str | int) -> int:
    """The number of an arm given by name or by index into the arms present.

    InputError otherwise.
    """
    if isinstance(arm, str) and arm in state.names:
        return state.names.index(arm)

    n_arms = len(state.present)
    if isinstance(arm, int | np.integer) and not isinstance(arm, bool) and 0 <= arm < n_arms:
        return state.present[arm]

    raise InputError(
        f"arm {arm!r}; allowed a name of {state.names} or an index below {len(state.present)}"
    )


def same_unit(row: Decided, unit: str, context: NDArray[Any], n_units: int, by: By) -> None:
    """LedgerError where a unit that was decided comes again as something else."""
    if row.by != by:
        raise LedgerError(
            f"unit {unit!r} was decided by the {row.by} in step {row.step} before, "
            f"the {by} is refused; a (step, unit) is decided once"
        )

    only_digest = row.context is not None and row.context[:1] == DIGEST
    kept = digest(context) if only_digest else pack(context)
    if (row.unit, row.n_units, row.context) != (unit, n_units, kept):
        raise LedgerError(
            f"unit {unit!r} was routed in step {row.step} before, "
            "with another context or n_units; a (step, unit) is decided once"
        )


def receipt(state: FoldState, row: Decided) -> Decision:
    """What the caller gets of a recorded decision."""
    return Decision(
        id=row.id.hex(),
        unit=row.unit,
        step=row.step,
        arm=state.present.index(row.arm) if row.arm in state.present else -1,  # -1: removed since
        name=state.names[row.arm] if row.arm >= 0 else "",
        propensity=row.propensity,
        probs_K=unpack(row.probs),
        version=row.version,
        n_units=row.n_units,
        forced=bool(row.forced),
        by=row.by,
    )
