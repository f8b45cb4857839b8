"""State = fold(apply, events).

The state is the router, the scaler, the warm-up counts, the payoffs held back and which arms rest.

Live running and reopening a ledger go through the same ``apply_*`` with the same groups of payoffs,
which is why they agree bit for bit. Nothing here reads a clock, a generator or a file.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from reward_router.errors import InputError, LedgerError
from reward_router.ledger.breaker import CALLED, PAID, Breaker, BreakerRule
from reward_router.ledger.protocol import Store
from reward_router.ledger.rows import (
    DIGEST,
    Action,
    Called,
    Changed,
    Decided,
    Failed,
    Paid,
    Released,
    Status,
    unpack,
)
from reward_router.payoffs import QuantileScaler
from reward_router.types import Costed, Float, Int, Resizable, Router, State, reads_contexts


class Payment(NamedTuple):
    """A payoff with what the router needs of its decision."""

    row: Paid
    arm: int
    propensity: float
    context: NDArray[Any]


class Pull(NamedTuple):
    """What the state needs of a decision."""

    seq: int
    arm: int


class Answer(NamedTuple):
    """What the state needs of a call that did not fail, or of a payoff.

    ``decision`` None: it belongs to none.
    """

    seq: int
    decision: int | None
    arm: int
    outcome: int = CALLED

    @property
    def position(self) -> int:
        """Where it belongs among the decisions."""
        return self.seq if self.decision is None else self.decision


Event = Payment | Pull | Released | Changed | Failed | Answer
SILENT = (Status.FAILED, Status.TIMEOUT, Status.SHARED)
"""Calls that are no answer: the first two failed, the third was not made."""


def answers(calls: Iterable[Called]) -> list[Answer]:
    """The calls that are answers."""
    return [
        Answer(call.seq, call.decision, call.arm) for call in calls if call.status not in SILENT
    ]


def needs_cost(router: Router) -> bool:
    """Whether a new arm must come with its cost."""
    return isinstance(router, Costed)


class FoldState:
    """Everything the dispatcher decides from.

    ``present`` are the numbers of the router's arms, in its order.
    """

    def __init__(
        self,
        router: Router,
        scaler: QuantileScaler,
        names: list[str],
        hold_back: int,
        rule: BreakerRule | None = None,
    ) -> None:
        """The state before the first event. ``rule`` None: no arm ever rests."""
        self.router = router
        self.scaler = scaler
        self.hold_back = hold_back
        self.names = list(names)
        self.costs: dict[str, float | None] = {}
        self.present = list(range(len(names)))
        self.pulls = np.zeros(len(names), dtype=np.int64)
        self.version = 0
        self.released = len(scaler) >= hold_back
        self.held: list[Payment] = []
        self.breaker = None if rule is None else Breaker(rule, len(names))
        # contexts of decisions without payoff, where the ledger keeps none
        self.open: dict[int, NDArray[Any]] = {}

    @property
    def lacking(self) -> int:
        """How many raw payoffs are still to be held back."""
        return 0 if self.released else self.hold_back - len(self.held)

    # applying events ------------------------------------------------------------------------------

    def apply(self, events: Iterable[Event]) -> None:
        """Apply events in order; payoffs of one batch in one update."""
        group: list[Payment] = []
        for event in events:
            if group and not (isinstance(event, Payment) and event.row.batch == group[0].row.batch):
                self.paid(group)
                group = []

            if isinstance(event, Payment):
                group.append(event)
            elif isinstance(event, Pull):
                if event.arm >= 0:
                    self.pulls[event.arm] += 1
                self._break(event)
            elif isinstance(event, Released):
                self.release(event)
            elif isinstance(event, Changed):
                self.changed(event)
                self._break(event)
            else:
                self._break(event)

        if group:
            self.paid(group)

    def _break(self, event: Event) -> None:
        """What an event means for the breaker."""
        breaker = self.breaker
        if breaker is None:
            return

        if isinstance(event, Pull):
            breaker.pulled(event.arm, event.seq)
        elif isinstance(event, Failed):
            breaker.failed(event.arm, event.seq if event.decision is None else event.decision)
        elif isinstance(event, Answer):
            if event.arm >= 0:
                breaker.answered(event.arm, event.position, event.outcome)
        elif isinstance(event, Payment):
            if event.arm >= 0:
                breaker.answered(event.arm, event.row.decision, PAID)
        elif isinstance(event, Changed) and event.action == Action.ALL_RESTING:
            breaker.stopped()
        elif isinstance(event, Changed) and event.action == Action.ARM_ADDED:
            breaker.added(self.names.index(event.name))
        elif isinstance(event, Changed) and event.action == Action.ARM_REMOVED:
            breaker.removed(self.names.index(event.name))

    def paid(self, group: list[Payment]) -> None:
        """Apply payoffs that were given together: one update of the router, or held back."""
        # the breaker sees them in order, the router all at once
        for payment in group:
            self._break(payment)

        waiting = [p for p in group if p.row.scaled is None]
        self.held += waiting
        ready = [p for p in group if p.row.scaled is not None]
        for p in ready:
            if p.row.kind == "raw":
                self.scaler.push(cast(float, p.row.raw))

        self._learn(ready, np.array([p.row.scaled for p in ready], dtype=np.float64))

    def release(self, row: Released) -> None:
        """Apply the payoffs held back, in order, with the values they were scaled to together."""
        # the release names what it releases, so that an altered ledger is found out
        if [p.row.seq for p in self.held] != unpack(row.payoffs).tolist():
            raise LedgerError(
                f"event {row.seq} releases payoffs that are not the ones held back: "
                "the ledger was altered"
            )

        held = self.held
        self.held = []
        self.released = True
        for p in held:
            self.scaler.push(cast(float, p.row.raw))

        self._learn(held, unpack(row.scaled))

    def changed(self, row: Changed) -> None:
        """An arm came or went, or the scaler starts afresh."""
        if row.action == Action.ALL_RESTING:
            return

        if row.action == Action.SCALER_RESET:
            self.scaler.reset()
            self.released = self.hold_back == 0
        elif row.action == Action.ARM_ADDED:
            if row.name not in self.names:
                self.names.append(row.name)
                self.pulls = np.append(self.pulls, 0)

            number = self.names.index(row.name)
            # an arm that comes back is warmed up again
            self.pulls[number] = 0
            if isinstance(self.router, Costed):
                self.router.add_arm(cast(float, row.cost))
            else:
                cast(Resizable, self.router).add_arm()

            self.costs[row.name] = row.cost
            self.present.append(number)
        else:
            place = self.present.index(self.names.index(row.name))
            cast(Resizable, self.router).remove_arm(place)
            del self.present[place]

    def _learn(self, group: list[Payment], scaled_B: Float) -> None:
        place = {number: i for i, number in enumerate(self.present)}
        # the late payoff of a removed arm, and that of a decision without an arm, are kept and not
        # learned
        keep = [i for i, p in enumerate(group) if p.arm in place]
        if keep:
            arm_B: Int = np.array([place[group[i].arm] for i in keep], dtype=np.int64)
            context_BD = np.stack([group[i].context for i in keep])
            propensity_B = np.array([group[i].propensity for i in keep])
            self.router.update(context_BD, arm_B, scaled_B[keep], propensity_B)

        self.version += len(group)
        for p in group:
            # paid: its context is not needed any more
            self.open.pop(p.row.decision, None)

    def context_of(self, decision: Decided) -> NDArray[Any] | None:
        """The context a payoff is learned with.

        It is the recorded one, or where contexts are not kept the one still in memory. None where
        it is lost: nothing is put in its place. A row of zeros where nobody learns from it: the
        decision has no arm, or the router says that it reads none.
        """
        blob = decision.context
        if blob is not None and blob[:1] != DIGEST:
            return unpack(blob)
        if decision.arm < 0 or not reads_contexts(self.router):
            return np.zeros(1)

        return self.open.get(decision.seq)

    @property
    def width(self) -> int | None:
        """D of the contexts in memory; None where there are none."""
        return len(next(iter(self.open.values()))) if self.open else None

    # as arrays ------------------------------------------------------------------------------------

    def state_dict(self) -> State:
        """Every array the state is made of; ``head`` holds the rest."""
        state = {f"router/{k}": np.asarray(v) for k, v in self.router.state_dict().items()}
        state |= {f"scaler/{k}": v for k, v in self.scaler.state_dict().items()}
        state["present"] = np.array(self.present, dtype=np.int64)
        state["pulls"] = self.pulls.copy()
        state["released"] = np.array(self.released)
        state["version"] = np.array(self.version, dtype=np.int64)
        state["held"] = np.array([p.row.seq for p in self.held], dtype=np.int64)
        state["open"] = np.array(list(self.open), dtype=np.int64)
        if self.open:
            state["open_contexts"] = np.stack(list(self.open.values()))

        if self.breaker is not None:
            state |= {f"breaker/{k}": v for k, v in self.breaker.state_dict().items()}

        return state

    def head(self) -> dict[str, Any]:
        """The names, and the costs that came with an arm."""
        return {"names": self.names, "costs": self.costs}

    def load(
        self, state: Mapping[str, NDArray[Any]], head: Mapping[str, Any], ledger: Store, seq: int
    ) -> None:
        """Take the state of a snapshot as of event ``seq``.

        InputError where the router cannot take its part.
        """
        try:
            self.router.load_state_dict(_part(state, "router/"))
        except (ValueError, KeyError) as error:
            raise InputError(
                f"{ledger.path}: this router cannot take the state in the ledger: {error}"
            ) from error

        self.scaler.load_state_dict(_part(state, "scaler/"))
        self.names = list(head["names"])
        self.present = state["present"].tolist()
        self.costs = dict(head.get("costs", {}))
        self.pulls = state["pulls"].copy()
        self.version = int(state["version"])
        enough = len(self.scaler) >= self.hold_back  # what schema 0 went by
        self.released = bool(state["released"]) if "released" in state else enough
        self.open = dict(zip(state["open"].tolist(), state.get("open_contexts", ()), strict=True))
        held = ledger.payments_at(state["held"].tolist())
        self.held = [_payment(self, ledger, row, decision) for row, decision in held]

        if self.breaker is not None:
            kept = _part(state, "breaker/")
            first_names = (ledger.meta("binding") or {}).get("arms", self.names)
            self.breaker = Breaker(self.breaker.rule, len(first_names))
            if kept:
                self.breaker.load_state_dict(kept)
            else:  # written before there was a breaker
                self._fold_breaker(ledger, seq)

    def _fold_breaker(self, ledger: Store, upto: int) -> None:
        """The breaker as of event ``upto``, from the events alone."""
        names = self.names
        self.names = list((ledger.meta("binding") or {}).get("arms", self.names))
        paid = (
            Answer(row.seq, row.decision, decision.arm, PAID) for row, decision in ledger.payments()
        )
        streams: list[Iterator[Event]] = [_pulls(ledger, 0), *_breaker_streams(ledger, 0)]
        streams.append(paid)
        streams.append(cast(Iterator[Event], ledger.events(0, [Changed])))

        for event in heapq.merge(*streams, key=_seq):
            if _seq(event) > upto:
                break

            if (
                isinstance(event, Changed)
                and event.action == Action.ARM_ADDED
                and event.name not in self.names
            ):
                self.names.append(event.name)

            self._break(event)

        self.names = names


def _part(state: Mapping[str, NDArray[Any]], prefix: str) -> State:
    """The entries of one part, under the names that the part gave them."""
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }


def fold(state: FoldState, ledger: Store, after: int) -> None:
    """Apply every event with seq > ``after``, in order and in their groups. O(events)."""
    rest = cast(Iterator[Event], ledger.events(after, [Released, Changed]))
    streams: list[Iterator[Event]] = [
        _pulls(ledger, after),
        _payment_stream(state, ledger, after),
        rest,
    ]
    if state.breaker is not None:
        streams += _breaker_streams(ledger, after)

    state.apply(heapq.merge(*streams, key=_seq))


def _breaker_streams(ledger: Store, after: int) -> list[Iterator[Event]]:
    return [cast(Iterator[Event], ledger.events(after, [Failed])), _answers(ledger, after)]


def _answers(ledger: Store, after: int) -> Iterator[Answer]:
    for seq, decision, arm, status in ledger.fields(Called, ("decision", "arm", "status"), after):
        if status not in SILENT:
            yield Answer(seq, decision, arm)


def _seq(event: Any) -> int:
    return cast(int, event.row.seq if isinstance(event, Payment) else event.seq)


def _pulls(ledger: Store, after: int) -> Iterator[Pull]:
    return map(Pull._make, ledger.fields(Decided, ("arm",), after))


def _payment_stream(state: FoldState, ledger: Store, after: int) -> Iterator[Payment]:
    for row, decision in ledger.payments(after):
        yield _payment(state, ledger, row, decision)


def _payment(state: FoldState, ledger: Store, row: Paid, decision: Decided) -> Payment:
    context = state.context_of(decision)
    if context is None:
        raise LedgerError(
            f"{ledger.path}: contexts were not kept (contexts='none'), so the payoff at event "
            f"{row.seq} cannot be learned again; "
            "rewind to the last snapshot, and keep contexts as 'f32'"
        )

    return Payment(row, decision.arm, decision.propensity, context)
