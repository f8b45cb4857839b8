"""From payoffs as they are reported to the events that record them.

It is settled which are new, which are held back, and what they scale to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from reward_router.errors import LedgerError
from reward_router.ledger.fold import FoldState, Payment
from reward_router.ledger.rows import Decided, Paid, Released, pack

GROUP = 1024  # payoffs in one update of the router, at most


@dataclass(frozen=True, slots=True)
class Report:
    """One payoff as it came: ``value`` is raw where ``kind`` is raw, else in [0, 1]."""

    decision_id: str
    key: bytes
    value: float
    raw: float | None
    source: str
    kind: str


def sort_out(
    reports: Sequence[Report], recorded: dict[bytes, tuple[Decided, Paid | None]]
) -> list[bool]:
    """Which reports are new: the first of a decision without a payoff.

    LedgerError for an unknown id or another value.
    """
    new: dict[bytes, Report] = {}
    verdicts = []
    for r in reports:
        if r.key not in recorded:
            raise LedgerError(
                f"decision {r.decision_id!r} is not in the ledger; nothing was changed"
            )

        _, paid = recorded[r.key]
        if paid is not None:
            _same(r, paid.raw if paid.kind == "raw" else paid.scaled, paid.kind)
        elif r.key in new:
            _same(r, new[r.key].value, new[r.key].kind)

        # a second report in this call is no news either
        verdicts.append(paid is None and new.setdefault(r.key, r) is r)

    return verdicts


def _same(report: Report, first: float | None, kind: str) -> None:
    if first != report.value or kind != report.kind:
        raise LedgerError(
            f"decision {report.decision_id}: it has the {kind} {first!r} already, "
            f"the {report.kind} {report.value!r} is refused; "
            "nothing was changed"
        )


def payment_events(
    state: FoldState, reports: Sequence[Report], rows: Sequence[Decided], first_seq: int
) -> list[Payment | Released]:
    """The events of new payoffs of one kind, the first with seq ``first_seq``."""
    values = [report.value for report in reports]
    if reports[0].kind == "payoff":
        raw = [report.raw for report in reports]
        return list(_payments(state, reports, rows, raw, values, first_seq))

    # Raw payoffs: as many as are still lacking are held back, without a scaled value.
    lacking = state.lacking
    wait = min(lacking, len(rows))
    nothing = [None] * wait
    waiting = _payments(state, reports[:wait], rows[:wait], values[:wait], nothing, first_seq)
    held = [*state.held, *waiting]
    held_raw = [cast(float, payment.row.raw) for payment in held]
    out: list[Payment | Released] = list(waiting)

    # The last one that was lacking releases all of them, scaled together.
    if 0 < lacking == wait:
        seqs = np.array([payment.row.seq for payment in held], dtype=np.int64)
        together = np.array(state.scaler.scale_together(held_raw))
        out.append(Released(first_seq + wait, pack(seqs), pack(together)))

    # The rest is scaled one by one, each by the history before it.
    if wait < len(rows):
        before = held_raw if wait else []
        previewed = state.scaler.preview([*before, *values[wait:]])
        scaled = previewed[len(before) :]
        next_seq = first_seq + len(out)
        out += _payments(state, reports[wait:], rows[wait:], values[wait:], scaled, next_seq)

    return out


def _payments(
    state: FoldState,
    reports: Sequence[Report],
    rows: Sequence[Decided],
    raw: Sequence[float | None],
    scaled: Sequence[float | None],
    first_seq: int,
) -> list[Payment]:
    payments = []
    for i, row in enumerate(rows):
        context = state.context_of(row)
        if context is None:
            raise LedgerError(
                f"decision {row.id.hex()}: its context was not kept (contexts='none') "
                "and is lost since a restart"
            )

        seq = first_seq + i
        batch = seq - i % GROUP  # payoffs of one batch are learned in one update
        report = reports[i]
        paid = Paid(seq, row.seq, raw[i], scaled[i], report.source, report.kind, batch)
        payments.append(Payment(paid, row.arm, row.propensity, context))

    return payments
