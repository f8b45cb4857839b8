"""What a store of events must do, whatever keeps the bytes.

The dispatcher, the fold, the tables and the reports use this one protocol.

A store keeps events and gives them back. What events mean is not its business: that is the fold's
(``fold``) and the tables' (``columns``). The store in ``sqlite`` is ``Ledger``. ``tests/ledger``
runs its laws over a table of stores.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from reward_router.ledger import columns
from reward_router.ledger.rows import Decided, LedgerRow, Paid
from reward_router.types import State

Snapshot = tuple[int, dict[str, Any], State]
"""A state as of an event: the event's ``seq``, what is not an array, and the arrays."""


class Store(Protocol):
    """An ordered event log with verified snapshots, one writer and any number of readers.

    The ``seq`` of events begins at 1 and has no gap. Every method that writes does all of it or
    nothing. A failure of the store is a LedgerError that says what to do; an event whose checksum
    does not hold is never given out.
    """

    @property
    def path(self) -> str:
        """The store's name in messages."""
        ...

    @property
    def contexts(self) -> str:
        """How contexts are kept: ``full``, ``f32`` or ``none``."""
        ...

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """A lock that the same thread may take twice.

        It is held from reading the state until the event is applied.
        """
        ...

    @property
    def generation(self) -> int:
        """A number that goes up when events are taken back.

        A state built before is then no longer the fold.
        """
        ...

    @property
    def last_seq(self) -> int:
        """The number of the newest event, 0 where there is none."""
        ...

    def reload(self) -> int:
        """Ask what the store really holds, after a write whose end was not seen.

        Returns the number of its newest event.
        """
        ...

    def close(self) -> None:
        """Let go of everything; safe to call twice."""
        ...

    # writing -------------------------------------------------------------------------------------

    def begin(self, binding: Mapping[str, Any], state: State, head: Mapping[str, Any]) -> None:
        """Keep what the ledger is bound to, and the state that every fold starts from."""
        ...

    def bind(self, binding: Mapping[str, Any]) -> None:
        """Keep another binding in place of the one before."""
        ...

    def append(self, rows: Sequence[LedgerRow]) -> None:
        """Write events whose ``seq`` continue ``last_seq``."""
        ...

    def rewind(self, seq: int, reason: str) -> int:
        """Put every event after ``seq`` aside, kept but never folded, with the snapshots beyond.

        Returns how many events they were.
        """
        ...

    def snapshot(self, state: State, head: Mapping[str, Any]) -> None:
        """Keep a state as of ``last_seq`` under a checksum."""
        ...

    def remember(self, key: str, value: Any, instead_of: Sequence[str] = ()) -> None:
        """Keep a JSON value by name beside the events; the values named ``instead_of`` go."""
        ...

    # reading -------------------------------------------------------------------------------------

    def last_snapshot(self) -> Snapshot | None:
        """The newest snapshot whose checksum holds."""
        ...

    def meta(self, key: str) -> Any:
        """A JSON value kept by name (``binding`` is one), None where there is none."""
        ...

    def named(self, prefix: str, order: str) -> list[str]:
        """Names of JSON values that begin with ``prefix``, by the number in a field of theirs.

        Those without the field come first. O(values).
        """
        ...

    def events(
        self, after: int = 0, types: Iterable[type[Any]] | None = None
    ) -> Iterator[LedgerRow]:
        """Events with ``seq`` > ``after`` in order, of all types or of these."""
        ...

    def fields(
        self, kind: type[Any], names: Sequence[str], after: int = 0
    ) -> Iterator[tuple[Any, ...]]:
        """``seq``, then the fields named, of the events of one type with ``seq`` > ``after``.

        For reading a few fields of many events, little by little: checksums are not looked at.
        """
        ...

    def table(self, kind: type[Any], names: Sequence[str]) -> list[tuple[Any, ...]]:
        """The same of all events of one type, at once and by columns.

        There is one tuple for ``seq``, and one for each field.
        """
        ...

    def payments(self, after: int = 0) -> Iterator[tuple[Paid, Decided]]:
        """Payoffs with ``seq`` > ``after`` in order, each with its decision."""
        ...

    def payments_at(self, seqs: Sequence[int]) -> list[tuple[Paid, Decided]]:
        """The payoffs with these numbers in order, each with its decision."""
        ...

    def find(self, ids: Sequence[bytes]) -> dict[bytes, tuple[Decided, Paid | None]]:
        """Decisions by id, those that are there, each with its payoff where it has one."""
        ...

    def unpaid(self) -> list[str]:
        """Ids of the decisions without a payoff, oldest first."""
        ...

    def width(self) -> int | None:
        """D of the contexts recorded, None where none are."""
        ...

    def counts(self) -> dict[str, Any]:
        """Decisions, payoffs, failures, labels, and ``calls`` by status.

        ``saturated`` is the share of raw payoffs that became 0 or 1.
        """
        ...

    # tables: what ``columns`` makes of ``table`` -------------------------------------------------

    def decisions(self, *, contexts: bool = True) -> columns.Decisions:
        """Every decision with its payoff."""
        ...

    def payoffs(self) -> columns.PayoffColumns:
        """Every payoff."""
        ...

    def calls(self) -> columns.Calls:
        """Every call."""
        ...

    def labels(self) -> columns.Labels:
        """Every gold label."""
        ...
