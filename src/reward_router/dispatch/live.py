"""The state a dispatcher decides from, kept equal to the fold of its ledger.

Write first, then apply: an event is committed before the state learns it. Whatever goes wrong in
between (a full disk, an interrupt) leaves a mark, and the next call rebuilds the state from the
ledger. The caller holds the ledger's lock.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from reward_router.errors import InputError, LedgerError
from reward_router.ledger.fold import Event, FoldState, fold
from reward_router.ledger.protocol import Store
from reward_router.ledger.rows import LedgerRow

log = logging.getLogger(__name__)


class Live:
    """Binds a state to a ledger: begins the ledger, or brings the state to what the ledger holds.

    InputError where the ledger belongs to another set-up.

    Attributes:
        dim: D the router reads, None where it reads no contexts.
        width: D of the contexts so far.
    """

    def __init__(
        self, ledger: Store, state: FoldState, settings: Mapping[str, Any], snapshot_every: int
    ) -> None:
        """``settings``: what the ledger is bound to beside the router's and the scaler's own."""
        self.ledger = ledger
        self.snapshot_every = snapshot_every
        self.dim = state.router.dim
        self._state = state
        scaler = state.scaler
        binding = {
            "arms": list(state.names),
            "router": type(state.router).__name__,
            "dim": self.dim,
            **settings,
            "breaker": None if state.breaker is None else state.breaker.rule.as_list(),
            "hold_back": state.hold_back,
            "scaler": [scaler.low, scaler.high, scaler.warmup, scaler.window],
        }
        recorded = ledger.meta("binding")

        if recorded is None:
            ledger.begin(binding, state.state_dict(), state.head())
        else:
            if "breaker" not in recorded:  # begun before there was one
                ledger.bind({**recorded, "breaker": binding["breaker"]})
                recorded["breaker"] = binding["breaker"]

            for key, value in binding.items():
                if recorded.get(key) != value:
                    raise InputError(
                        f"{ledger.path}: {key} is {recorded.get(key)!r} in the ledger, "
                        f"{value!r} here"
                    )

        self._rebuild()

    def _rebuild(self) -> None:
        """Bring the state to the ledger's last event: the newest snapshot and the events after."""
        newest = self.ledger.last_snapshot()
        if newest is None:
            raise LedgerError(
                f"{self.ledger.path}: no snapshot in it is whole, so the state cannot be rebuilt"
            )

        seq, head, arrays = newest
        # Until everything is folded in, the state is that of no event.
        self._applied = -1
        self._state.load(arrays, head, self.ledger, seq)
        fold(self._state, self.ledger, seq)
        self.width = self.dim or self.ledger.width() or self._state.width

        self._applied = self.ledger.last_seq
        self._generation = self.ledger.generation
        self._writing = False

    def fresh(self) -> FoldState:
        """The state after the ledger's last event."""
        # the last write did not end as it should: the store is read again
        if self._writing:
            self.ledger.reload()
        if self._applied != self.ledger.last_seq or self._generation != self.ledger.generation:
            self._rebuild()
        self._writing = False
        return self._state

    def commit(self, rows: Sequence[LedgerRow], events: Sequence[Event] = ()) -> None:
        """Write events and apply what the state needs of them.

        What the router refuses is put aside again.
        """
        before = self._applied
        # Whoever finds this set knows that the end of a write was not seen: the file knows more.
        self._writing = True
        self.ledger.append(rows)
        # Whoever finds this knows that the state is not the fold of the ledger, and builds it anew.
        self._applied = -1

        try:
            self._state.apply(events)
        except BaseException as error:
            # Whatever a router raises: what it cannot learn must not stay, or no fold ends.
            self.ledger.rewind(before, f"refused by the router: {type(error).__name__}: {error}")
            raise

        self._applied = self.ledger.last_seq
        self._writing = False
        # counted in events, so that it does not depend on how they were grouped
        if before // self.snapshot_every != self.ledger.last_seq // self.snapshot_every:
            try:
                self.snapshot()
            except LedgerError as error:  # the events are safe; only the next opening is slower
                log.warning("no snapshot at event %d: %s", self.ledger.last_seq, error)

    def snapshot(self) -> None:
        """Write a verified snapshot of the state now."""
        state = self.fresh()
        self.ledger.snapshot(state.state_dict(), state.head())
