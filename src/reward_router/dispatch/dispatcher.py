"""The dispatcher: routes units, takes payoffs, and writes both to the ledger under one lock.

It is the only stateful object; its state is kept equal to the ledger's by `live`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reward_router import keyed
from reward_router.dispatch import inputs, paying
from reward_router.dispatch.eligible import Present, UnitsOfCall, rested
from reward_router.dispatch.live import Live
from reward_router.dispatch.recording import arm_number, called, receipt, same_unit
from reward_router.dispatch.warmup import force
from reward_router.errors import AllArmsResting, InputError, LedgerError
from reward_router.ledger.breaker import USUAL, BreakerRule
from reward_router.ledger.fold import FoldState, Payment, Pull, answers, needs_cost
from reward_router.ledger.protocol import Store
from reward_router.ledger.rows import (
    NO_ARM,
    Action,
    Call,
    Changed,
    Decided,
    Failed,
    Labelled,
    digest,
    pack,
    pack_rows,
)
from reward_router.ledger.sqlite import Ledger
from reward_router.payoffs import QuantileScaler, finite_payoff
from reward_router.routers.binding import bound, resizable, without_forced_pulls
from reward_router.routers.choose import choose
from reward_router.types import By, Decision, Float, Router, State, reads_contexts


class _Unit(NamedTuple):
    """A unit that has no decision yet.

    ``key`` is its decision's key, ``name`` its id, ``n_units`` how many units it stands for.
    """

    key: bytes
    name: str
    n_units: int


class _Drawn(NamedTuple):
    """What was drawn for B units.

    The arms by number, their probabilities, and which rows warm-up forced.
    """

    arm: list[int]
    propensity: list[float]
    probs: list[bytes]
    forced: list[bool]


class Dispatcher:
    """Chooses an arm for every unit and teaches the router what came of it.

    It may be shared between threads.

    Args:
        router: what gives the probabilities.
        arms: K names, in the router's order.
        ledger: where everything is written; None: in memory only. A ledger with events gives the
            state back: its last verified snapshot plus the events after it. InputError where its
            arms, router, dim, seed or settings are not these.
        seed: of every draw.
        scaler: brings raw payoffs to [0, 1]; None: `QuantileScaler` with its defaults.
        hold_back: the first raw payoffs wait and are scaled together, so many of them;
            None: max(5, warmup K).
        costs: price of one call of each arm, put on recorded calls that name none (a router pays
            through ``Priced``).
        snapshot_every: events between snapshots.
        breaker: when an arm that fails (``record_failure``) rests and is probed again; None: never.
        fallback: names of arms in the order in which they judge while all arms rest. The first that
            works also judges where the router's whole probability is on resting arms. Empty: then
            ``route`` raises AllArmsResting.

    >>> from reward_router.routers.simple import Uniform
    >>> d = Dispatcher(Uniform(2), ["a", "b"])
    >>> [decision] = d.route(np.ones((1, 3)), ["p1"], step=0)
    >>> d.feedback(decision.id, 0.7), d.feedback(decision.id, 0.7)
    (True, False)
    """

    def __init__(  # noqa: PLR0913 - the signature is public
        self,
        router: Router,
        arms: Sequence[str],
        *,
        ledger: Store | None = None,
        seed: int = 0,
        scaler: QuantileScaler | None = None,
        hold_back: int | None = None,
        costs: Sequence[float] | None = None,
        snapshot_every: int = 10_000,
        breaker: BreakerRule | None = USUAL,
        fallback: Sequence[str] = (),
    ) -> None:
        """Bind the router to the ledger.

        The ledger is begun, or the router is brought to the state that the ledger holds.
        """
        names = inputs.unique_names(arms, bound(router).n_arms)
        if snapshot_every < 1 or (hold_back is not None and hold_back < 0):
            raise InputError(
                f"snapshot_every={snapshot_every}, hold_back={hold_back}; "
                "allowed at least 1 and at least 0"
            )

        self.router = router
        self.seed = int(seed)
        self.ledger: Store = ledger if ledger is not None else Ledger(":memory:")
        self.warmup = router.warmup
        # Warm-up is the dispatcher's business: it knows which decisions are still unpaid.
        self._believed = without_forced_pulls(router)
        self._fallback = inputs.fallback(fallback, names)
        self._prices: dict[str, float | None] = inputs.prices(costs, names)

        # The state is what the ledger's events make of these; the ledger refuses other ones.
        hold = max(5, self.warmup * len(names)) if hold_back is None else hold_back
        scaler = scaler if scaler is not None else QuantileScaler()
        state = FoldState(router, scaler, names, hold, breaker)
        settings = {"seed": self.seed, "warmup": self.warmup}
        self._lock = self.ledger.lock
        with self._lock:
            self._live = Live(self.ledger, state, settings, snapshot_every)

    def snapshot(self) -> None:
        """Write a verified snapshot now, so that opening this ledger again is fast."""
        with self._lock:
            self._live.snapshot()

    def close(self) -> None:
        """Write a snapshot and close the ledger."""
        with self._lock:
            self.snapshot()
            self.ledger.close()

    # routing --------------------------------------------------------------------------------------

    def route(
        self,
        contexts: ArrayLike,
        unit_ids: Sequence[str],
        step: int,
        *,
        n_units: int | Sequence[int] = 1,
        by: By | str = By.ROUTER,
    ) -> list[Decision]:
        """One decision a row of ``contexts`` (B, D), written before it is returned.

        Each is drawn by the key (seed, step, unit id). The same call again returns the recorded
        decisions; a unit that was routed in this step with another context is a LedgerError. An arm
        that rests has probability 0, but for one row a call once its pause is over; AllArmsResting
        where all rest. O(B K) and the router's.

        Args:
            contexts: (B, D) finite numbers.
            unit_ids: (B,) ids, none twice.
            step: a whole number of at least 0; a (step, unit) is decided once.
            n_units: how many units a row stands for (a batch-routed step is one decision).
            by: ``ensemble`` or ``committee`` where no router names an arm. Such a decision is
                recorded and paid like any other; the router is neither read nor taught.
        """
        by = inputs.decider(by)
        with self._lock:
            state = self._live.fresh()
            in_float32 = self.ledger.contexts == "f32"
            x = inputs.finite_contexts(contexts, self._live.width, in_float32)
            units = inputs.units(unit_ids, len(x))
            step = inputs.step_number(step)
            counts = inputs.unit_counts(n_units, len(x))

            # Units that were decided before keep their decision: a call may be repeated.
            keys = [inputs.decision_key(step, unit) for unit in units]
            rows = {key: row for key, (row, _) in self.ledger.find(keys).items()}
            for i, key in enumerate(keys):
                if key in rows:
                    same_unit(rows[key], units[i], x[i], int(counts[i]), by)

            fresh = [i for i, key in enumerate(keys) if key not in rows]
            # decided and written together, so that a failure leaves none of them
            if fresh:
                new = [_Unit(keys[i], units[i], int(counts[i])) for i in fresh]
                new_x = x[fresh]
                if by is By.ROUTER:
                    drawn = self._draw(state, new_x, [unit.name for unit in new], step)
                else:
                    drawn = self._undrawn(len(new), len(state.present), by)

                decided = self._decided(state, new_x, new, step, drawn)
                self._record(state, decided, new_x)
                rows |= {row.id: row for row in decided}

            return [receipt(state, rows[key]) for key in keys]

    def _draw(self, state: FoldState, x: NDArray[Any], units: list[str], step: int) -> _Drawn:
        """One arm a row, drawn from the router's probabilities among the arms that work."""
        pulls_K = state.pulls[state.present]
        if state.breaker is not None and state.breaker.resting:
            probs_BK, forced_B = self._among_awake(state, x, units, step)
        else:
            probs_BK = self._believed(x)
            probs_BK, forced_B = force(probs_BK, pulls_K, self.warmup, self.seed, step, units)

        # One keyed uniform a unit: the draw hangs on the unit and not on its place in the call.
        u_B = np.array([keyed.uniform(self.seed, "arm", step, unit) for unit in units])
        place_B, propensity_B = choose(probs_BK, u_B)
        # The router counts the arms that are there; the ledger counts all that ever were.
        chosen = [state.present[place] for place in place_B.tolist()]
        return _Drawn(chosen, propensity_B.tolist(), pack_rows(probs_BK), forced_B.tolist())

    def _among_awake(
        self, state: FoldState, x: NDArray[Any], units: list[str], step: int
    ) -> tuple[Float, NDArray[np.bool_]]:
        """Probabilities (B, K) while some arms rest, and which rows warm-up forced."""
        assert state.breaker is not None
        pulls_K = state.pulls[state.present]
        order = [state.names.index(name) for name in self._fallback if name in state.names]
        arms = Present(state.present, pulls_K, order)
        call = UnitsOfCall(self.seed, step, units)
        try:
            return rested(self.router, x, state.breaker, arms, call)
        except AllArmsResting:
            self._change(Action.ALL_RESTING, "")  # so that the next call asks again
            raise

    def _undrawn(self, rows: int, n_arms: int, by: By) -> _Drawn:
        """Nothing is drawn: an ensemble or a committee decides, and no arm had a probability."""
        no_probs = pack(np.zeros(n_arms))
        return _Drawn([NO_ARM[by]] * rows, [1.0] * rows, [no_probs] * rows, [False] * rows)

    def _decided(
        self, state: FoldState, x: NDArray[Any], units: list[_Unit], step: int, drawn: _Drawn
    ) -> list[Decided]:
        """The events that record what was drawn for each unit."""
        # a digest is enough to recognise a unit that comes again
        kept_B = [digest(row) for row in x] if self.ledger.contexts == "none" else pack_rows(x)
        first = self.ledger.last_seq + 1
        rows = []
        for i, unit in enumerate(units):
            row = Decided(
                seq=first + i,
                id=unit.key,
                unit=unit.name,
                step=step,
                arm=drawn.arm[i],
                propensity=drawn.propensity[i],
                probs=drawn.probs[i],
                context=kept_B[i],
                n_units=unit.n_units,
                version=state.version,
                forced=int(drawn.forced[i]),
            )
            rows.append(row)

        return rows

    def _record(self, state: FoldState, rows: list[Decided], x: NDArray[Any]) -> None:
        pulls = [Pull(row.seq, row.arm) for row in rows]
        self._live.commit(rows, pulls)
        self._live.width = x.shape[1]

        # the ledger has no contexts: the late payoff needs this one
        if self.ledger.contexts == "none" and reads_contexts(self.router):
            for row, context in zip(rows, x, strict=True):
                # Without an arm there is nobody to teach.
                if row.arm >= 0:
                    state.open[row.seq] = context

    # payoffs --------------------------------------------------------------------------------------

    def feedback(
        self, decision_id: str, payoff: float, *, source: str = "payoff", raw: float | None = None
    ) -> bool:
        """A decision's payoff in [0, 1], ``raw`` what it was made from (kept, not used).

        True if new, False if this value was there already; LedgerError for another value or an
        unknown id, InputError for one out of [0, 1]; then nothing is changed. It may come in any
        later step, and after a restart.
        """
        return self._pay([(decision_id, payoff)], source, "payoff", raw)[0]

    def feedback_many(
        self, payoffs: Sequence[tuple[str, float]], *, source: str = "payoff"
    ) -> list[bool]:
        """``feedback`` for many decisions, all or none, in one update of the router."""
        return self._pay(payoffs, source, "payoff")

    def feedback_raw(self, decision_id: str, raw: float, *, source: str) -> bool:
        """A raw payoff, any finite number, brought to [0, 1] by the scaler.

        The first ones are held back and scaled together.
        """
        return self._pay([(decision_id, raw)], source, "raw")[0]

    def feedback_raw_many(self, payoffs: Sequence[tuple[str, float]], *, source: str) -> list[bool]:
        """``feedback_raw`` for many decisions, all or none; each is scaled by those before it."""
        return self._pay(payoffs, source, "raw")

    def _pay(
        self, payoffs: Sequence[tuple[str, float]], source: str, kind: str, raw: float | None = None
    ) -> list[bool]:
        inputs.checked_text(source, "source")
        raw = None if raw is None else finite_payoff(raw, "raw payoff")
        reports = []
        for decision_id, value in payoffs:
            key = inputs.key_of(decision_id)
            number = inputs.payoff(value, kind)
            reports.append(paying.Report(decision_id, key, number, raw, source, kind))

        with self._lock:
            state = self._live.fresh()
            recorded = self.ledger.find([r.key for r in reports])
            verdicts = paying.sort_out(reports, recorded)
            new = [r for r, is_new in zip(reports, verdicts, strict=True) if is_new]

            if new:
                decided = [recorded[r.key][0] for r in new]
                events = paying.payment_events(state, new, decided, self.ledger.last_seq + 1)
                rows = [e.row if isinstance(e, Payment) else e for e in events]
                self._live.commit(rows, events)

            return verdicts

    # the rest of the record -----------------------------------------------------------------------

    def record_calls(self, calls: Sequence[Call]) -> None:
        """What the arms were asked, one row a call, all or none.

        InputError, LedgerError where a call names what is not there.
        """
        with self._lock:
            state = self._live.fresh()
            # Looked up before anything is written, so that a wrong name leaves nothing behind.
            seqs = self._seqs([call.decision_id for call in calls])
            prices = {**self._prices, **state.costs}

            first = self.ledger.last_seq + 1
            rows = []
            for i, call in enumerate(calls):
                rows.append(called(first + i, call, seqs, state, prices))
            self._live.commit(rows, answers(rows))

    def record_label(self, unit_id: str, step: int, value: float, source: str) -> None:
        """Gold for one unit; no router sees it."""
        unit = inputs.checked_text(unit_id, "unit id")
        source = inputs.checked_text(source, "source")
        gold = finite_payoff(value, "label")
        step_number = inputs.step_number(step)
        with self._lock:
            self._live.fresh()
            seq = self.ledger.last_seq + 1
            self._live.commit([Labelled(seq, unit, step_number, gold, source)])

    def record_failure(self, decision_id: str | None, arm: str | int, reason: str) -> None:
        """An arm failed (timeout, NaN, wrong length, refused connection): recorded, never a payoff.

        Several failures running, or among its last answers, and the arm rests (``breaker``). A call
        that the caller gave up or an arm that had nothing to say did not fail: report neither here.
        """
        with self._lock:
            state = self._live.fresh()
            decision = self._seqs([decision_id]).get(decision_id or "")
            number = arm_number(state, arm)
            why = inputs.checked_text(reason, "reason")
            seq = self.ledger.last_seq + 1
            row = Failed(seq, decision, number, why)
            # Once as what is kept, once as what the breaker hears.
            self._live.commit([row], [row])

    def _seqs(self, ids: Sequence[str | None]) -> dict[str, int]:
        key_by_id = {name: inputs.key_of(name) for name in ids if name}
        recorded = self.ledger.find(list(key_by_id.values()))
        seqs = {}
        for name, key in key_by_id.items():
            if key not in recorded:
                raise LedgerError(f"decision {name!r} is not in the ledger; nothing was changed")
            row, _ = recorded[key]
            seqs[name] = row.seq
        return seqs

    def add_arm(self, name: str, cost: float | None = None) -> None:
        """One arm more, at the router's prior and with its own forced pulls; ``cost``: of one call.

        InputError where the name is taken, or a ``Priced`` router is not told the cost.
        """
        with self._lock:
            self._live.fresh()
            if inputs.checked_text(name, "arm name") in self.arms:
                raise InputError(f"arm {name!r} is there already; arms: {self.arms}")
            # a fold of the event would fail later, for ever
            if cost is None and needs_cost(self.router):
                raise InputError(f"arm {name!r}: {type(self.router).__name__} needs its cost")

            self._change(
                Action.ARM_ADDED, name, None if cost is None else finite_payoff(cost, "cost")
            )

    def remove_arm(self, name: str) -> None:
        """Drop an arm; InputError for the last.

        The others' state is untouched, its late payoffs are recorded but not learned.
        """
        with self._lock:
            self._live.fresh()
            if name not in self.arms or len(self.arms) == 1:
                raise InputError(
                    f"arm {name!r} cannot be removed; arms: {self.arms}, and at least one stays"
                )

            self._change(Action.ARM_REMOVED, name)

    def reset_scaler(self) -> None:
        """Forget the raw payoffs seen (the ``per_iteration`` history).

        The next ones are held back and scaled together again.
        """
        with self._lock:
            self._live.fresh()
            self._change(Action.SCALER_RESET, "")

    def _change(self, action: Action, name: str, cost: float | None = None) -> None:
        if action in (Action.ARM_ADDED, Action.ARM_REMOVED):
            # refused before anything is written
            resizable(self.router)
        seq = self.ledger.last_seq + 1
        row = Changed(seq, str(action), name, cost)
        # Once as what is kept, once as what the state learns of it.
        self._live.commit([row], [row])

    # looking --------------------------------------------------------------------------------------

    @property
    def arms(self) -> list[str]:
        """Names of the arms present, in the router's order."""
        with self._lock:
            state = self._live.fresh()
            return [state.names[i] for i in state.present]

    @property
    def resting(self) -> dict[str, int]:
        """Arms that rest, by name, with the number of decisions until each is asked again.

        0: the next decision may be its probe. While an answer to a probe is awaited it is the
        number until the arm is asked once more.
        """
        with self._lock:
            state = self._live.fresh()
            breaker = state.breaker
            if breaker is None:
                return {}
            return {state.names[k]: breaker.waits(k) for k in sorted(breaker.resting)}

    @property
    def rested(self) -> dict[str, int]:
        """Every name that ever was an arm, with the number of decisions made while it rested."""
        with self._lock:
            state = self._live.fresh()
            if state.breaker is None:
                return dict.fromkeys(state.names, 0)
            return dict(zip(state.names, state.breaker.rested_K(), strict=True))

    @property
    def pending(self) -> list[str]:
        """Ids of the decisions without a payoff, oldest first. O(decisions)."""
        return self.ledger.unpaid()

    def counts(self) -> dict[str, Any]:
        """Decisions, payoffs, failures, labels, and ``calls`` by status.

        ``saturated`` is the share of raw payoffs that became 0 or 1.
        """
        return self.ledger.counts()

    def state_dict(self) -> State:
        """Router, scaler, warm-up and held-back payoffs, as arrays only."""
        with self._lock:
            return self._live.fresh().state_dict()
