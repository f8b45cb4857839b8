"""The ledger as numpy columns, for reports, the replay importer and off-policy estimators."""

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reward_router.ledger.rows import (
    DIGEST,
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
    """One row a decision, in order.

    ``probs_BK`` has a column for every arm that ever was (0 where it was absent). ``by`` says who
    decided; ``arm`` is -1 where that was not the router. Ledgers in which an ensemble or a
    committee decided under the name of an arm of its own read the same: that name is none of
    ``arms``.

    ``payoff``, ``raw`` are NaN and ``source`` "" where no payoff came (or it is still held back);
    ``context_BD`` is None where contexts were not kept or not asked for.
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
        """(B,) which decisions are whose, by the name of every arm.

        ``ensemble`` and ``committee`` follow where they decided.
        """
        mine = {}
        for number, name in enumerate(self.arms):
            mine[name] = self.arm == number
        # Sorted, so that the columns of a report have one order.
        together = sorted(set(self.by) - {By.ROUTER})
        for by in together:
            mine[str(by)] = np.array([decider is by for decider in self.by], dtype=bool)
        return mine


@dataclass(frozen=True, slots=True)
class PayoffColumns:
    """One row a payoff, in order of arrival; ``decision`` is the decision's seq.

    ``scaled`` is NaN while a payoff is held back; ``arm`` is -1 where an ensemble or a committee
    decided.
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


def every_arm_name(ledger: "Store") -> list[str]:
    """Every name that ever was an arm, in the order of their numbers."""
    names = _all_names(ledger)
    return names if _invented_arm(ledger, names) is None else names[:-1]


def _all_names(ledger: "Store") -> list[str]:
    names = list((ledger.meta("binding") or {}).get("arms", []))
    for _, action, name in ledger.fields(Changed, ("action", "name")):
        # an arm that came back keeps its number
        if action == Action.ARM_ADDED and name not in names:
            names.append(name)
    return names


def _invented_arm(ledger: "Store", names: list[str]) -> By | None:
    """Who decided in place of the last arm, which is none; None where all names are arms.

    Decisions of an ensemble or a committee once bore the name of an arm of its own: the last one,
    which the router ``Fixed`` always chose and which was never asked about a response.
    """
    binding = ledger.meta("binding") or {}
    last_name = names[-1]
    may_be_invented = binding.get("router") == "Fixed" and last_name in (By.ENSEMBLE, By.COMMITTEE)
    if not may_be_invented:
        return None

    # A real arm of that name was asked at least once.
    last = len(names) - 1
    was_asked = any(arm == last for _, arm in ledger.fields(Called, ("arm",)))
    return None if was_asked else By(last_name)


def decisions(ledger: "Store", *, contexts: bool = True) -> Decisions:
    """Every decision with its payoff.

    O(decisions); ``contexts=False`` leaves the big column out.
    """
    narrow = ("id", "unit", "step", "arm", "propensity", "probs", "n_units", "version", "forced")
    data = ledger.table(Decided, (*narrow, "context") if contexts else narrow)
    seq = _ints(data[0])
    arm = _ints(data[4])
    paid = _payoffs(ledger, seq, arm)
    row_of_payoff = np.searchsorted(seq, paid.decision)
    value = np.full(len(seq), np.nan)
    raw = np.full(len(seq), np.nan)
    source = [""] * len(seq)
    value[row_of_payoff] = paid.scaled
    raw[row_of_payoff] = paid.raw
    for i, name in zip(row_of_payoff, paid.source, strict=True):
        source[i] = name

    names = _all_names(ledger)
    probs_BK = _probs(ledger, seq, data[6], names)
    deciders = [_BY_NUMBER.get(number, By.ROUTER) for number in arm.tolist()]
    invented = _invented_arm(ledger, names)

    if invented is not None:
        # the invented arm is the last, and nobody else's column moves
        names = names[:-1]
        probs_BK = probs_BK[:, :-1]
        deciders = [invented] * len(seq)
        arm = np.full(len(seq), -1, dtype=np.int64)

    kept = contexts and len(seq) > 0 and all(map(_is_array, data[10]))
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


def payoff_rows(ledger: "Store") -> PayoffColumns:
    """Every payoff, the ones held back with the value of their release. O(payoffs)."""
    decided = ledger.table(Decided, ("arm",))
    return _payoffs(ledger, _ints(decided[0]), _ints(decided[1]))


def _payoffs(ledger: "Store", decided_seq: Int, decided_arm: Int) -> PayoffColumns:
    """The payoffs of decisions with these numbers and arms."""
    data = ledger.table(Paid, ("decision", "raw", "scaled", "source"))
    seq = _ints(data[0])
    decision = _ints(data[1])
    scaled = _floats(data[3])
    for _, released_seqs, values in ledger.fields(Released, ("payoffs", "scaled")):
        # payoffs that were held back have their value in the release
        scaled[np.searchsorted(seq, unpack(released_seqs))] = unpack(values)

    place = np.searchsorted(decided_seq, decision)
    # any place will do: the comparison below finds that it is wrong
    place[place == len(decided_seq)] = 0
    # In a damaged file a payoff may have lost its decision; it is left out.
    if len(decided_seq):
        decided = decided_seq[place] == decision
    else:
        decided = np.zeros(len(seq), dtype=bool)

    arm = np.maximum(decided_arm[place[decided]], -1)
    if _invented_arm(ledger, _all_names(ledger)) is not None:
        arm = np.full(len(arm), -1, dtype=np.int64)

    return PayoffColumns(
        seq=seq[decided],
        decision=decision[decided],
        arm=arm,
        raw=_floats(data[2])[decided],
        scaled=scaled[decided],
        source=list(itertools.compress(data[4], decided)),
    )


def call_rows(ledger: "Store") -> Calls:
    """Every call. O(calls)."""
    data = ledger.table(
        Called, ("decision", "response", "arm", "score", "status", "seconds", "price")
    )
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
        arms=every_arm_name(ledger),
    )


def labels(ledger: "Store") -> Labels:
    """Every gold label. O(labels)."""
    data = ledger.table(Labelled, ("unit", "step", "value", "source"))
    return Labels(_ints(data[0]), list(data[1]), _ints(data[2]), _floats(data[3]), list(data[4]))


def _is_array(context: bytes | None) -> bool:
    """Whether a context was kept, and not its digest alone."""
    return context is not None and context[:1] != DIGEST


def _ints(column: tuple[Any, ...]) -> Int:
    return np.array(column, dtype=np.int64)


def _floats(column: tuple[Any, ...]) -> Float:
    return np.array(column, dtype=np.float64)  # None becomes NaN


def _probs(ledger: "Store", seq: Int, blobs: tuple[bytes, ...], names: list[str]) -> Float:
    """(B, K) probabilities, a column for every arm that ever was.

    A recorded row has a number for each arm present then, so the rows are read in stretches between
    changes of the arms.
    """
    out = np.zeros((len(seq), len(names)))
    present = list((ledger.meta("binding") or {}).get("arms", []))
    start = 0
    for changed_seq, action, name in ledger.fields(Changed, ("action", "name")):
        if action not in (Action.ARM_ADDED, Action.ARM_REMOVED):
            continue

        stop = int(np.searchsorted(seq, changed_seq))
        _fill(out, blobs, slice(start, stop), [names.index(each) for each in present])
        if action == Action.ARM_ADDED:
            present = [*present, name]
        else:
            present = [each for each in present if each != name]

        start = stop

    _fill(out, blobs, slice(start, len(seq)), [names.index(each) for each in present])
    return out


def _fill(out_BK: Float, blobs: tuple[bytes, ...], rows: slice, columns: list[int]) -> None:
    if rows.stop > rows.start:
        out_BK[rows, columns] = unpack_rows(blobs[rows])
