"""The ledger as numpy columns, for reports, the replay importer and off-policy estimators."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reward_router.ledger.rows import NO_ARM, Changed, Released, unpack, unpack_rows
from reward_router.types import By, Float, Int

if TYPE_CHECKING:
    from reward_router.ledger.store import Ledger


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


def arm_names(ledger: "Ledger") -> list[str]:
    """Every name that ever was an arm, in the order of their numbers."""
    names = _all_names(ledger)
    return names if _invented_arm(ledger, names) is None else names[:-1]


def _all_names(ledger: "Ledger") -> list[str]:
    names = list((ledger.meta("binding") or {}).get("arms", []))
    for change in ledger.rows(Changed, "WHERE action='arm_added' ORDER BY seq"):
        if change.name not in names:
            names.append(change.name)
    return names


def _invented_arm(ledger: "Ledger", names: list[str]) -> By | None:
    """Who decided in place of the last arm, which is none; None where all names are arms.

    Decisions of an ensemble or a committee once bore the name of an arm of its own: the last one, which the router ``Fixed``
    always chose and which was never asked about a response.
    """
    binding = ledger.meta("binding") or {}
    invented = binding.get("router") == "Fixed" and names[-1] in (By.ENSEMBLE, By.COMMITTEE)
    if not invented or ledger.query("SELECT 1 FROM calls WHERE arm=? LIMIT 1", (len(names) - 1,)):
        return None
    return By(names[-1])


def decisions(ledger: "Ledger", *, contexts: bool = True) -> Decisions:
    """Every decision with its payoff. O(decisions); ``contexts=False`` leaves the big column out."""
    columns = "seq, id, unit, step, arm, propensity, probs, n_units, version, forced" + (
        ", context" if contexts else ""
    )
    data = _columns(ledger.query(f"SELECT {columns} FROM decisions ORDER BY seq"), 11 if contexts else 10)
    seq, paid = _ints(data[0]), payoffs(ledger)
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


def payoffs(ledger: "Ledger") -> Payoffs:
    """Every payoff, the ones held back with the value of their release. O(payoffs)."""
    sql = "SELECT p.seq, p.decision, d.arm, p.raw, p.scaled, p.source FROM payoffs p JOIN decisions d ON d.seq=p.decision ORDER BY p.seq"
    data = _columns(ledger.query(sql), 6)
    seq, scaled = _ints(data[0]), _floats(data[4])
    for release in ledger.rows(Released, ""):
        scaled[np.searchsorted(seq, unpack(release.payoffs))] = unpack(release.scaled)
    arm = np.maximum(_ints(data[2]), -1)
    if _invented_arm(ledger, _all_names(ledger)) is not None:
        arm = np.full(len(seq), -1, dtype=np.int64)
    return Payoffs(seq, _ints(data[1]), arm, _floats(data[3]), scaled, list(data[5]))


def calls(ledger: "Ledger") -> Calls:
    """Every call. O(calls)."""
    sql = "SELECT seq, coalesce(decision, -1), response, arm, score, status, seconds, price FROM calls ORDER BY seq"
    data = _columns(ledger.query(sql), 8)
    numbers = _ints(data[0]), _ints(data[1]), list(data[2]), _ints(data[3])
    return Calls(*numbers, _floats(data[4]), list(data[5]), _floats(data[6]), _floats(data[7]), arm_names(ledger))


def labels(ledger: "Ledger") -> Labels:
    """Every gold label. O(labels)."""
    data = _columns(ledger.query("SELECT seq, unit, step, value, source FROM labels ORDER BY seq"), 5)
    return Labels(_ints(data[0]), list(data[1]), _ints(data[2]), _floats(data[3]), list(data[4]))


def _columns(rows: list[tuple[Any, ...]], n: int) -> list[tuple[Any, ...]]:
    return list(zip(*rows, strict=True)) if rows else [()] * n


def _ints(column: tuple[Any, ...]) -> Int:
    return np.array(column, dtype=np.int64)


def _floats(column: tuple[Any, ...]) -> Float:
    return np.array(column, dtype=np.float64)  # None becomes NaN


def _probs(ledger: "Ledger", seq: Int, blobs: tuple[bytes, ...], names: list[str]) -> Float:
    out = np.zeros((len(seq), len(names)))
    present = list((ledger.meta("binding") or {}).get("arms", []))
    edges = ledger.rows(Changed, "WHERE action IN ('arm_added', 'arm_removed') ORDER BY seq")
    start = 0
    for change in [*edges, None]:
        stop = len(seq) if change is None else int(np.searchsorted(seq, change.seq))
        if stop > start:
            out[start:stop, [names.index(n) for n in present]] = unpack_rows(blobs[start:stop])
        if change is not None:
            present = (
                [*present, change.name] if change.action == "arm_added" else [n for n in present if n != change.name]
            )
        start = stop
    return out
