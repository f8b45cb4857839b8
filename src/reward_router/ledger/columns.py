"""The ledger as numpy columns, for reports, the replay importer and off-policy estimators."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reward_router.ledger.rows import (
    NO_ARM,
    Action,
    Called,
    Changed,
    Decided,
    Labelled,
    Paid,
    Released,
    unpack,
    unpack_rows,
)
from reward_router.types import By, Float, Int

if TYPE_CHECKING:
    from reward_router.ledger.protocol import Store


_BY_NUMBER = {number: by for by, number in NO_ARM.items()}


@dataclass(frozen=True, slots=True)
class Decisions:
    """One row a decision, in order. ``probs_BK`` has a column for every arm that ever was (0 where it was absent).

    ``by`` says who decided; ``arm`` is -1 where that was not the router. Ledgers in which an ensemble or a committee decided
    under the name of an arm of its own read the same: that name is none of ``arms``.

    ``payoff``, ``raw`` are NaN and ``source`` "" where no payoff came (or it is still held back); ``context_BD`` is None where
    contexts were not kept or not asked for.
    """

    seq: Int
    id: list[str]
    unit: list[str]
    step: Int
    arm: Int
    propensity: Float
    probs_BK: Float
    context_BD: NDArray[Any] | None
    n_units: Int
    version: Int
    forced: NDArray[np.bool_]
    payoff: Float
    raw: Float
    source: list[str]
    arms: list[str]
    by: list[By]

    def deciders(self) -> dict[str, NDArray[np.bool_]]:
        """(B,) which decisions are whose: by the name of every arm, then ``ensemble`` and ``committee`` where they decided."""
        mine = {name: self.arm == k for k, name in enumerate(self.arms)}
        for by in sorted(set(self.by) - {By.ROUTER}):
            mine[str(by)] = np.array([each is by for each in self.by], dtype=bool)
        return mine


@dataclass(frozen=True, slots=True)
class Payoffs:
    """One row a payoff, in order of arrival; ``decision`` is the decision's seq. ``scaled`` NaN: still held back.

    ``arm`` is -1 where an ensemble or a committee decided.
    """

    seq: Int
    decision: Int
    arm: Int
    raw: Float
    scaled: Float
    source: list[str]


@dataclass(frozen=True, slots=True)
class Calls:
    """One row a call; ``decision`` is the decision's seq, -1 where it belongs to none."""

    seq: Int
    decision: Int
    response: list[str]
    arm: Int
    score: Float
    status: list[str]
    seconds: Float
    price: Float
    arms: list[str]


@dataclass(frozen=True, slots=True)
class Labels:
    """One row a gold label."""

    seq: Int
    unit: list[str]
    step: Int
    value: Float
    source: list[str]


def arm_names(ledger: "Store") -> list[str]:
    """Every name that ever was an arm, in the order of their numbers."""
    names = _all_names(ledger)
    return names if _invented_arm(ledger, names) is None else names[:-1]


def _all_names(ledger: "Store") -> list[str]:
    names = list((ledger.meta("binding") or {}).get("arms", []))
    for _, action, name in ledger.fields(Changed, ("action", "name")):
        if action == Action.ARM_ADDED and name not in names:
            names.append(name)
    return names


def _invented_arm(ledger: "Store", names: list[str]) -> By | None:
    """Who decided in place of the last arm, which is none; None where all names are arms.

    Decisions of an ensemble or a committee once bore the name of an arm of its own: the last one, which the router ``Fixed``
    always chose and which was never asked about a response.
    """
    binding = ledger.meta("binding") or {}
    if binding.get("router") != "Fixed" or names[-1] not in (By.ENSEMBLE, By.COMMITTEE):
        return None
    last = len(names) - 1
    was_asked = any(arm == last for _, arm in ledger.fields(Called, ("arm",)))
    return None if was_asked else By(names[-1])


def decisions(ledger: "Store", *, contexts: bool = True) -> Decisions:
    """Every decision with its payoff. O(decisions); ``contexts=False`` leaves the big column out."""
    narrow = ("id", "unit", "step", "arm", "propensity", "probs", "n_units", "version", "forced")
    data = _columns(ledger, Decided, (*narrow, "context") if contexts else narrow)
    seq = _ints(data[0])
    paid = payoffs(ledger)
    at = np.searchsorted(seq, paid.decision)
    value, raw, source = np.full(len(seq), np.nan), np.full(len(seq), np.nan), [""] * len(seq)
    value[at], raw[at] = paid.scaled, paid.raw
    for i, name in zip(at, paid.source, strict=True):
        source[i] = name
    names = _all_names(ledger)
    arm = _ints(data[4])
    probs_BK = _probs(ledger, seq, data[6], names)
    deciders = [_BY_NUMBER.get(number, By.ROUTER) for number in arm.tolist()]
    invented = _invented_arm(ledger, names)
    if invented is not None:
        names = names[:-1]
        probs_BK = probs_BK[:, :-1]
        deciders = [invented] * len(seq)
        arm = np.full(len(seq), -1, dtype=np.int64)
    kept = contexts and len(seq) > 0 and all(blob is not None and blob[:1] != b"#" for blob in data[10])
    return Decisions(
        seq=seq,
        id=[blob.hex() for blob in data[1]],
        unit=list(data[2]),
        step=_ints(data[3]),
        arm=np.maximum(arm, -1),
        propensity=_floats(data[5]),
        probs_BK=probs_BK,
        context_BD=unpack_rows(data[10]) if kept else None,
        n_units=_ints(data[7]),
        version=_ints(data[8]),
        forced=_ints(data[9]).astype(bool),
        payoff=value,
        raw=raw,
        source=source,
        arms=names,
        by=deciders,
    )


def payoffs(ledger: "Store") -> Payoffs:
    """Every payoff, the ones held back with the value of their release. O(payoffs)."""
    data = _columns(ledger, Paid, ("decision", "raw", "scaled", "source"))
    seq = _ints(data[0])
    decision = _ints(data[1])
    scaled = _floats(data[3])
    for _, released_seqs, values in ledger.fields(Released, ("payoffs", "scaled")):
        scaled[np.searchsorted(seq, unpack(released_seqs))] = unpack(values)
    decided = _columns(ledger, Decided, ("arm",))
    arm = np.maximum(_ints(decided[1])[np.searchsorted(_ints(decided[0]), decision)], -1)
    if _invented_arm(ledger, _all_names(ledger)) is not None:
        arm = np.full(len(seq), -1, dtype=np.int64)
    return Payoffs(seq, decision, arm, _floats(data[2]), scaled, list(data[4]))


def calls(ledger: "Store") -> Calls:
    """Every call. O(calls)."""
    data = _columns(ledger, Called, ("decision", "response", "arm", "score", "status", "seconds", "price"))
    decision = [-1 if number is None else number for number in data[1]]
    return Calls(
        seq=_ints(data[0]),
        decision=_ints(tuple(decision)),
        response=list(data[2]),
        arm=_ints(data[3]),
        score=_floats(data[4]),
        status=list(data[5]),
        seconds=_floats(data[6]),
        price=_floats(data[7]),
        arms=arm_names(ledger),
    )


def labels(ledger: "Store") -> Labels:
    """Every gold label. O(labels)."""
    data = _columns(ledger, Labelled, ("unit", "step", "value", "source"))
    return Labels(_ints(data[0]), list(data[1]), _ints(data[2]), _floats(data[3]), list(data[4]))


def _columns(ledger: "Store", kind: type[Any], names: Sequence[str]) -> list[tuple[Any, ...]]:
    """``seq`` and the fields named, one tuple each."""
    records = list(ledger.fields(kind, names))
    return list(zip(*records, strict=True)) if records else [()] * (1 + len(names))


def _ints(column: tuple[Any, ...]) -> Int:
    return np.array(column, dtype=np.int64)


def _floats(column: tuple[Any, ...]) -> Float:
    return np.array(column, dtype=np.float64)  # None becomes NaN


def _probs(ledger: "Store", seq: Int, blobs: tuple[bytes, ...], names: list[str]) -> Float:
    out = np.zeros((len(seq), len(names)))
    present = list((ledger.meta("binding") or {}).get("arms", []))
    resized = (Action.ARM_ADDED, Action.ARM_REMOVED)
    edges = [change for change in ledger.fields(Changed, ("action", "name")) if change[1] in resized]
    start = 0
    for change in [*edges, None]:
        stop = len(seq) if change is None else int(np.searchsorted(seq, change[0]))
        if stop > start:
            out[start:stop, [names.index(n) for n in present]] = unpack_rows(blobs[start:stop])
        if change is not None:
            _, action, name = change
            present = [*present, name] if action == Action.ARM_ADDED else [n for n in present if n != name]
        start = stop
    return out
