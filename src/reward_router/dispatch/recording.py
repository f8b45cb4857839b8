"""Calls and arms as callers name them, turned into what the ledger keeps."""

from collections.abc import Mapping

import numpy as np

from reward_router.dispatch import inputs
from reward_router.errors import InputError
from reward_router.ledger.fold import FoldState
from reward_router.ledger.rows import STATUSES, Call, Called


def called(
    seq: int, call: Call, seqs: Mapping[str, int], state: FoldState, prices: Mapping[str, float | None]
) -> Called:
    """One call as an event; InputError where it names an arm, a status or a number that is not allowed."""
    if call.status not in STATUSES:
        raise InputError(f"call of arm {call.arm!r}: status {call.status!r}; allowed {', '.join(STATUSES)}")
    decision = seqs[call.decision_id] if call.decision_id else None
    numbers = [inputs.number_or_none(getattr(call, field), field) for field in ("score", "seconds", "price")]
    response, arm = inputs.text(call.response_id, "response id"), arm_number(state, call.arm)
    price = numbers[2] if numbers[2] is not None else prices.get(state.names[arm])
    return Called(seq, decision, response, arm, numbers[0], call.status, numbers[1], price)


def arm_number(state: FoldState, arm: str | int) -> int:
    """The number of an arm given by name or by index into the arms present; InputError otherwise."""
    if isinstance(arm, str) and arm in state.names:
        return state.names.index(arm)
    if isinstance(arm, int | np.integer) and not isinstance(arm, bool) and 0 <= arm < len(state.present):
        return state.present[arm]
    raise InputError(f"arm {arm!r}; allowed a name of {state.names} or an index below {len(state.present)}")
