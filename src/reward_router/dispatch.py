"""The dispatcher: routes units, takes payoffs, writes both to the ledger. The only stateful object.

Write first, then apply: an event is committed before the state learns it, both under one lock. Whatever goes wrong in between
(a full disk, an interrupt) leaves a mark, and the next call rebuilds the state from the ledger.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reward_router import keyed
from reward_router.errors import InputError, LedgerError
from reward_router.ledger.fold import Event, FoldState, Payment, Pull, fold
from reward_router.ledger.rows import (
    STATUSES,
    Call,
    Called,
    Changed,
    Decided,
    Failed,
    Labelled,
    Paid,
    Released,
    Row,
    digest,
    pack,
    unpack,
)
from reward_router.ledger.store import Ledger
from reward_router.payoffs import QuantileScaler, finite
from reward_router.routers.choose import choose
from reward_router.types import Decision, Float, Router, State

GROUP = 1024


class Dispatcher:
    """Chooses an arm for every unit and teaches the router what came of it; safe to share between threads.

    ``ledger`` None keeps everything in memory. A ledger with events gives the state back: its last verified snapshot plus the
    events after it. InputError where its arms, router, seed or settings are not these.

    >>> from reward_router.routers.simple import Uniform
    >>> d = Dispatcher(Uniform(2), ["a", "b"])
    >>> [decision] = d.route(np.ones((1, 3)), ["p1"], step=0)
    >>> d.feedback(decision.id, 0.7), d.feedback(decision.id, 0.7)
    (True, False)
    """

    def __init__(
        self,
        router: Router,
        arms: Sequence[str],
        *,
        ledger: Ledger | None = None,
        seed: int = 0,
        scaler: QuantileScaler | None = None,
        hold_back: int | None = None,
        costs: Sequence[float] | None = None,
        snapshot_every: int = 10_000,
    ) -> None:
        """Bind the router to the ledger: create it, or bring the router to the state the ledger holds."""
        names = _names(arms, router.n_arms)
        self.router, self.seed, self.snapshot_every = router, seed, snapshot_every
        self.ledger = ledger if ledger is not None else Ledger(":memory:")
        self.warmup = int(getattr(router, "warmup", 0))
        self._scaler = scaler if scaler is not None else QuantileScaler()
        self._hold = max(5, self.warmup * len(names)) if hold_back is None else hold_back
        self._state = FoldState(router, self._scaler, names, self._hold)
        self._lock = self.ledger.lock
        self._dim: int | None = getattr(router, "dim", None)
        with self._lock:
            self._bind(names)

    # opening -----------------------------------------------------------------------------------------------------------

    def _bind(self, names: list[str]) -> None:
        s = self._scaler
        binding = {
            "arms": names,
            "router": type(self.router).__name__,
            "dim": getattr(self.router, "dim", None),
            "seed": self.seed,
            "warmup": self.warmup,
            "hold_back": self._hold,
            "scaler": [s.low, s.high, s.warmup, s.window],
        }
        known = self.ledger.meta("binding")
        if known is None:
            self.ledger.set_meta("binding", binding)
            self.ledger.snapshot(self._state.state_dict(), self._state.head())
        else:
            for key, value in binding.items():
                if known.get(key) != value:
                    raise InputError(f"{self.ledger.path}: {key} is {known.get(key)!r} in the ledger, {value!r} here")
        self._rebuild()

    def _rebuild(self) -> None:
        found = self.ledger.last_snapshot()
        if found is None:
            raise LedgerError(f"{self.ledger.path}: no snapshot in it is whole, so the state cannot be rebuilt")
        seq, head, state = found
        self._state.load(state, head, self.ledger)
        fold(self._state, self.ledger, seq)
        self._stale, self._generation = False, self.ledger.generation

    def _fresh(self) -> FoldState:
        if self._stale or self._generation != self.ledger.generation:
            self._rebuild()
        return self._state

    # routing -----------------------------------------------------------------------------------------------------------

    def route(
        self, contexts: ArrayLike, unit_ids: Sequence[str], step: int, *, n_units: int | Sequence[int] = 1
    ) -> list[Decision]:
        """One decision a row of ``contexts`` (B, D), drawn by the key (seed, step, unit id); written before it is returned.

        The same call again returns the recorded decisions; a unit that was routed in this step with another context is a
        LedgerError. ``n_units``: how many units a row stands for (a batch-routed step is one decision).
        """
        x, units, counts = self._checked(contexts, unit_ids, step, n_units)
        with self._lock:
            state = self._fresh()
            ids = [decision_id(step, unit) for unit in units]
            known = self._retried(ids, units, x, counts)
            fresh = [i for i in range(len(ids)) if ids[i] not in known]
            if fresh:
                rows = self._decide(
                    state, x[fresh], [ids[i] for i in fresh], [units[i] for i in fresh], step, counts[fresh]
                )
                self._commit(rows, [Pull(row.seq, row.arm) for row in rows])
                if self.ledger.contexts == "none" and self._dim is not None:
                    state.open.update(zip((row.seq for row in rows), x[fresh], strict=True))
                known |= {row.id: row for row in rows}
            return [self._receipt(known[i]) for i in ids]

    def _decide(
        self,
        state: FoldState,
        x: NDArray[Any],
        ids: list[bytes],
        units: list[str],
        step: int,
        counts: NDArray[np.int64],
    ) -> list[Decided]:
        p_BK = np.array(self.router.probs(x), dtype=np.float64)
        forced = self._force(state, p_BK, units, step)
        u = np.array([keyed.uniform(self.seed, "arm", step, unit) for unit in units])
        arm_B, propensity_B = choose(p_BK, u)
        seq = self.ledger.last_seq
        return [
            Decided(
                seq + 1 + i,
                ids[i],
                units[i],
                step,
                state.present[arm_B[i]],
                float(propensity_B[i]),
                pack(p_BK[i]),
                self._keep(x[i]),
                int(counts[i]),
                state.version,
                int(forced[i]),
            )
            for i in range(len(ids))
        ]

    def _force(self, state: FoldState, p_BK: Float, units: list[str], step: int) -> NDArray[np.bool_]:
        pulls = state.pulls[state.present]
        forced = np.zeros(len(units), dtype=bool)
        room = int(np.maximum(self.warmup - pulls, 0).sum())
        if room:
            order = np.argsort([keyed.uniform(self.seed, "warmup", step, unit) for unit in units], kind="stable")[:room]
            lacking = pulls == pulls.min()
            p_BK[order] = lacking / lacking.sum()
            forced[order] = True
        return forced

    def _keep(self, context: NDArray[Any]) -> bytes:
        return pack(context) if self.ledger.contexts != "none" else digest(context)

    def _retried(
        self, ids: list[bytes], units: list[str], x: NDArray[Any], counts: NDArray[np.int64]
    ) -> dict[bytes, Decided]:
        known = {key: row for key, (row, _) in self.ledger.find(ids).items()}
        for i, key in enumerate(ids):
            row = known.get(key)
            if row is not None and (row.unit, row.n_units, row.context) != (units[i], counts[i], self._keep(x[i])):
                raise LedgerError(
                    f"unit {units[i]!r} was routed in step {row.step} before, with another context; a (step, unit) is decided once"
                )
        return known

    def _receipt(self, row: Decided) -> Decision:
        state = self._state
        return Decision(
            id=row.id.hex(),
            unit=row.unit,
            step=row.step,
            arm=state.present.index(row.arm) if row.arm in state.present else -1,
            name=state.names[row.arm],
            propensity=row.propensity,
            probs_K=unpack(row.probs),
            version=row.version,
            n_units=row.n_units,
            forced=bool(row.forced),
        )

    def _checked(
        self, contexts: ArrayLike, unit_ids: Sequence[str], step: int, n_units: int | Sequence[int]
    ) -> tuple[NDArray[Any], list[str], NDArray[np.int64]]:
        x = _contexts(contexts, self.ledger.contexts == "f32")
        units = [_text(unit, "unit id") for unit in unit_ids]
        if len(units) != len(x):
            raise InputError(f"route: {len(x)} contexts, {len(units)} unit ids; allowed one each")
        if len(set(units)) != len(units):
            raise InputError("route: a unit id occurs twice in one call; a (step, unit) is decided once")
        if isinstance(step, bool) or not isinstance(step, int | np.integer) or not 0 <= step < 2**47:
            raise InputError(f"route: step={step!r}; allowed a whole number in [0, 2**47)")
        counts = np.broadcast_to(np.asarray(n_units, dtype=np.int64), len(units))
        if (counts < 1).any():
            raise InputError(f"route: n_units={n_units!r}; allowed 1 or more")
        return x, units, counts

    # payoffs -----------------------------------------------------------------------------------------------------------

    def feedback(self, decision_id: str, payoff: float, *, source: str = "payoff", raw: float | None = None) -> bool:
        """A decision's payoff in [0, 1]. True if new, False if this value was there already; LedgerError for another value."""
        return self._pay([(decision_id, payoff)], source, "payoff", [raw])[0]

    def feedback_many(self, payoffs: Sequence[tuple[str, float]], *, source: str = "payoff") -> list[bool]:
        """Payoffs in [0, 1], all or none, in one update of the router."""
        return self._pay(payoffs, source, "payoff", [None] * len(payoffs))

    def feedback_raw(self, decision_id: str, raw: float, *, source: str) -> bool:
        """A raw payoff, any finite number, brought to [0, 1] by the scaler; the first ones are held back and scaled together."""
        return self._pay([(decision_id, raw)], source, "raw", [None])[0]

    def feedback_raw_many(self, payoffs: Sequence[tuple[str, float]], *, source: str) -> list[bool]:
        """Raw payoffs, all or none, scaled in order."""
        return self._pay(payoffs, source, "raw", [None] * len(payoffs))

    def _pay(
        self, payoffs: Sequence[tuple[str, float]], source: str, kind: str, raws: list[float | None]
    ) -> list[bool]:
        values = [_payoff(v, kind) for _, v in payoffs]
        keys = [_key(i) for i, _ in payoffs]
        with self._lock:
            state = self._fresh()
            found = self.ledger.find(keys)
            new: dict[bytes, int] = {}
            for i, key in enumerate(keys):
                if key not in found:
                    raise LedgerError(f"decision {payoffs[i][0]!r} is not in the ledger; nothing was changed")
                first = found[key][1]
                if first is not None:
                    _same(
                        payoffs[i][0], first.raw if first.kind == "raw" else first.scaled, first.kind, values[i], kind
                    )
                elif key in new:
                    _same(payoffs[i][0], values[new[key]], kind, values[i], kind)
                else:
                    new[key] = i
            if new:
                picked = list(new.values())
                self._learn(
                    state,
                    [found[keys[i]][0] for i in picked],
                    [values[i] for i in picked],
                    [raws[i] for i in picked],
                    source,
                    kind,
                )
            return [new.get(key) == i for i, key in enumerate(keys)]

    def _learn(
        self,
        state: FoldState,
        rows: list[Decided],
        values: list[float],
        raws: list[float | None],
        source: str,
        kind: str,
    ) -> None:
        events: Sequence[Payment | Released]
        if kind == "payoff":
            events = self._payments(state, rows, raws, list(values), source, kind)
        else:
            events = self._raw_events(state, rows, values, source)
        self._commit([e.row if isinstance(e, Payment) else e for e in events], events)

    def _raw_events(
        self, state: FoldState, rows: list[Decided], raws: list[float], source: str
    ) -> list[Payment | Released]:
        lacking = self._hold - len(state.scaler) - len(state.held)
        wait = max(0, min(lacking, len(rows)))
        first = self._payments(state, rows[:wait], raws[:wait], [None] * wait, source, "raw")
        held = [cast(float, p.row.raw) for p in [*state.held, *first]]
        events: list[Payment | Released] = list(first)
        if 0 < lacking <= len(rows):
            seqs = np.array([p.row.seq for p in [*state.held, *first]], dtype=np.int64)
            together = np.array(state.scaler.scale_together(held))
            events.append(Released(self.ledger.last_seq + 1 + len(first), pack(seqs), pack(together)))
        if wait < len(rows):
            scaled = state.scaler.preview([*held, *raws[wait:]])[len(held) :]
            events += self._payments(state, rows[wait:], raws[wait:], scaled, source, "raw", len(events))
        return events

    def _payments(
        self,
        state: FoldState,
        rows: list[Decided],
        raws: Sequence[float | None],
        scaled: Sequence[float | None],
        source: str,
        kind: str,
        offset: int = 0,
    ) -> list[Payment]:
        at = self.ledger.last_seq + 1 + offset
        payments = []
        for i, row in enumerate(rows):
            context = state.context_of(row.seq, row.context)
            if context is None:
                raise LedgerError(
                    f"decision {row.id.hex()}: its context was not kept (contexts='none') and is lost since a restart"
                )
            paid = Paid(at + i, row.seq, raws[i], scaled[i], source, kind, at + i - i % GROUP)
            payments.append(Payment(paid, row.arm, row.propensity, context))
        return payments

    def _commit(self, rows: Sequence[Row], events: Sequence[Event]) -> None:
        self._stale = True  # whoever finds this set builds the state anew from the ledger
        before = self.ledger.last_seq
        self.ledger.append(rows)
        self._state.apply(events)
        self._stale = False
        if before // self.snapshot_every != self.ledger.last_seq // self.snapshot_every:
            self.snapshot()

    def snapshot(self) -> None:
        """Write a verified snapshot now, so that opening this ledger again is fast."""
        with self._lock:
            state = self._fresh()
            self.ledger.snapshot(state.state_dict(), state.head())

    # the rest of the record --------------------------------------------------------------------------------------------

    def record_calls(self, calls: Sequence[Call]) -> None:
        """What the arms were asked: one row a call, all or none."""
        with self._lock:
            self._fresh()
            known = self._seqs([c.decision_id for c in calls])
            rows = [self._called(c, known, self.ledger.last_seq + 1 + i) for i, c in enumerate(calls)]
            self._commit(rows, [])

    def _called(self, c: Call, known: Mapping[str, int], seq: int) -> Called:
        if c.status not in STATUSES:
            raise InputError(f"call of {c.arm!r}: status {c.status!r}; allowed {', '.join(STATUSES)}")
        decision = known[c.decision_id] if c.decision_id else None
        return Called(
            seq,
            decision,
            _text(c.response_id, "response id"),
            self._number(c.arm),
            _number_or_nan(c.score, "score"),
            c.status,
            _number_or_nan(c.seconds, "seconds"),
            _number_or_nan(c.price, "price"),
        )

    def _seqs(self, ids: Sequence[str | None]) -> dict[str, int]:
        wanted = [i for i in dict.fromkeys(ids) if i]
        found = self.ledger.find([_key(i) for i in wanted])
        for i in wanted:
            if _key(i) not in found:
                raise LedgerError(f"decision {i!r} is not in the ledger; nothing was changed")
        return {i: found[_key(i)][0].seq for i in wanted}

    def _number(self, arm: str | int) -> int:
        state = self._state
        if isinstance(arm, str) and arm in state.names:
            return state.names.index(arm)
        if isinstance(arm, int | np.integer) and 0 <= arm < len(state.present):
            return state.present[arm]
        raise InputError(f"arm {arm!r}; allowed a name of {self.arms} or an index below {len(state.present)}")

    def record_label(self, unit_id: str, step: int, value: float, source: str) -> None:
        """Gold for one unit; no router sees it."""
        with self._lock:
            self._fresh()
            value = finite(value, "label")
            row = Labelled(
                self.ledger.last_seq + 1, _text(unit_id, "unit id"), int(step), value, _text(source, "source")
            )
            self._commit([row], [])

    def record_failure(self, decision_id: str | None, arm: str | int, reason: str) -> None:
        """An arm failed: recorded, never a payoff."""
        with self._lock:
            self._fresh()
            decision = self._seqs([decision_id])[decision_id] if decision_id else None
            self._commit([Failed(self.ledger.last_seq + 1, decision, self._number(arm), _text(reason, "reason"))], [])

    def add_arm(self, name: str) -> None:
        """One arm more, at its prior and with its forced pulls. InputError where the name is there already."""
        with self._lock:
            self._fresh()
            if _text(name, "arm name") in self.arms:
                raise InputError(f"arm {name!r} is there already; arms: {self.arms}")
            if not hasattr(self.router, "add_arm"):
                raise InputError(f"{type(self.router).__name__} cannot take on arms at run time")
            row = Changed(self.ledger.last_seq + 1, "arm_added", name)
            self._commit([row], [row])

    def remove_arm(self, name: str) -> None:
        """Drop an arm; the others' state is untouched, its late payoffs are recorded but not learned."""
        with self._lock:
            self._fresh()
            if name not in self.arms or len(self.arms) == 1 or not hasattr(self.router, "remove_arm"):
                raise InputError(f"arm {name!r} cannot be removed from {self.arms} ({type(self.router).__name__})")
            row = Changed(self.ledger.last_seq + 1, "arm_removed", name)
            self._commit([row], [row])

    def reset_scaler(self) -> None:
        """Forget the raw payoffs seen (the ``per_iteration`` history)."""
        with self._lock:
            self._fresh()
            row = Changed(self.ledger.last_seq + 1, "scaler_reset", "")
            self._commit([row], [row])

    # looking -----------------------------------------------------------------------------------------------------------

    @property
    def arms(self) -> list[str]:
        """Names of the arms present, in the router's order."""
        with self._lock:
            state = self._fresh()
            return [state.names[i] for i in state.present]

    @property
    def pending(self) -> list[str]:
        """Ids of the decisions without a payoff, oldest first. O(decisions)."""
        sql = "SELECT id FROM decisions d WHERE NOT EXISTS(SELECT 1 FROM payoffs p WHERE p.decision=d.seq) ORDER BY seq"
        return [row[0].hex() for row in self.ledger.query(sql)]

    def counts(self) -> dict[str, Any]:
        """Decisions, payoffs, calls by status, failures, and the share of payoffs saturated at 0 or 1."""
        return self.ledger.counts()

    def state_dict(self) -> State:
        """Router, scaler, warm-up and held-back payoffs, as arrays only."""
        with self._lock:
            return self._fresh().state_dict()


def decision_id(step: int, unit: str) -> bytes:
    """16 bytes from (step, unit): the step, so that neighbours in time lie together in the index, then BLAKE2."""
    return int(step).to_bytes(6, "big") + hashlib.blake2b(f"{int(step)}\x1f{unit}".encode(), digest_size=10).digest()


def _key(decision_id: str) -> bytes:
    try:
        return bytes.fromhex(decision_id)
    except (TypeError, ValueError):
        raise LedgerError(f"decision id {decision_id!r} is not one of this ledger's; nothing was changed") from None


def _names(arms: Sequence[str], n_arms: int) -> list[str]:
    names = [_text(name, "arm name") for name in arms]
    if isinstance(arms, str) or len(names) != n_arms or len(set(names)) != len(names):
        raise InputError(f"arms {names}; allowed {n_arms} different names, one for each of the router's arms")
    return names


def _contexts(contexts: ArrayLike, single: bool) -> NDArray[Any]:
    try:
        x = np.asarray(contexts)
        x = x if x.dtype in (np.float32, np.float64) else x.astype(np.float64, casting="same_kind")
    except (TypeError, ValueError) as error:
        raise InputError(f"contexts: {error}; allowed real numbers of shape (B, D)") from None
    if x.ndim != 2 or x.shape[1] < 1 or not np.isfinite(x).all():
        bad = int(np.count_nonzero(~np.isfinite(x)))
        raise InputError(
            f"contexts of shape {x.shape}, {bad} values not finite; allowed finite (B, D) with D at least 1"
        )
    return np.ascontiguousarray(x, dtype=np.float32 if single else x.dtype)


def _text(text: str, what: str) -> str:
    if not isinstance(text, str):
        raise InputError(f"{what} {text!r}; allowed a string")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{what} {text!r} holds half of a character pair; allowed any Unicode text") from None
    return text


def _payoff(value: float, kind: str) -> float:
    number = finite(value, "payoff")
    if kind == "payoff" and not 0.0 <= number <= 1.0:
        raise InputError(f"payoff {number!r}; allowed 0 to 1 (give raw payoffs to feedback_raw); nothing was changed")
    return number


def _number_or_nan(value: float, what: str) -> float | None:
    number = float(value) + 0.0
    if np.isinf(number):
        raise InputError(f"{what} {number!r}; allowed a finite number, or NaN where there is none")
    return None if np.isnan(number) else number


def _same(name: str, first: float | None, first_kind: str, value: float, kind: str) -> None:
    if first != value or first_kind != kind:
        raise LedgerError(
            f"decision {name} has the {first_kind} {first!r} already, {kind} {value!r} is refused; nothing was changed"
        )
