"""The events of a ledger as typed rows, field for field what the tables hold, and arrays as bytes.

An array is its dtype, its shape and its little-endian contents: never a pickle. A row's ``arm`` is
the arm's number in the order in which names entered the ledger; it stays valid when arms come and
go.
"""

import hashlib
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reward_router.errors import LedgerError
from reward_router.types import By

DIGEST = b"#"  # first byte of a context that was not kept, only its digest


class _Word(StrEnum):
    """A word that is kept in the ledger as it is: its checksum is that of the plain string."""

    __repr__ = str.__repr__


class Status(_Word):
    """What became of a call, or what it was made for."""

    OK = "ok"
    """The arm that the decision chose scored the response."""
    FAILED = "failed"
    """The arm raised, or gave something that is no score."""
    TIMEOUT = "timeout"
    """The arm gave no score in the time allowed."""
    ABSTAINED = "abstained"
    """The arm answered that it has no score for this response (NaN)."""
    AUDIT = "audit"
    """An arm that was not chosen was asked for the report only.

    Neither router nor training sees the score.
    """
    FALLBACK = "fallback"
    """The arm stood in for the chosen one, which failed."""
    COMPARED = "compared"
    """An arm was asked beside the chosen one, because the payoff needs the labels of all."""
    SHARED = "shared"
    """No new call: the arm had scored this very response for another unit of the step, for free."""
    LABEL = "label"
    """The committee learns from it.

    It is a response by an arm that the committee had not asked, or by the arm that labels.
    """


STATUSES: tuple[str, ...] = tuple(Status)


class EventKind(_Word):
    """The kinds of events, by the names of their tables and of the records of an export."""

    DECISION = "decisions"
    """A unit was given an arm, or to an ensemble or a committee."""
    CALL = "calls"
    """One arm scored one response."""
    PAYOFF = "payoffs"
    """A decision got its payoff."""
    RELEASE = "releases"
    """The payoffs held back until then were scaled together and learned."""
    LABEL = "labels"
    """Gold for a unit came; no router sees it."""
    FAILURE = "failures"
    """An arm failed."""
    CHANGE = "changes"
    """An arm came or went, or something else of ``Action`` happened."""


class Action(_Word):
    """What a change changed."""

    ARM_ADDED = "arm_added"
    """An arm came, or came back."""
    ARM_REMOVED = "arm_removed"
    """An arm went; its late payoffs are recorded and not learned."""
    SCALER_RESET = "scaler_reset"
    """The raw payoffs seen so far were forgotten."""
    ALL_RESTING = "all_resting"
    """No arm changed: all rested, so nothing could be routed and the caller was told."""


NO_ARM: dict[By, int] = {By.ENSEMBLE: -1, By.COMMITTEE: -2}
"""What stands in the place of an arm's number where nobody was routed.

Every number below 0 is no arm.
"""
_DECIDER = {number: by for by, number in NO_ARM.items()}


class Decided(NamedTuple):
    """A unit was given an arm, or to an ensemble or a committee: the receipt that payoffs name.

    Without an arm, ``arm`` is the number of ``NO_ARM``, ``propensity`` is 1 and ``probs`` are
    zeros.
    """

    seq: int
    id: bytes
    unit: str
    step: int
    arm: int
    propensity: float
    probs: bytes
    context: bytes | None
    n_units: int
    version: int
    forced: int

    @property
    def by(self) -> By:
        """Who decided. LedgerError for a number that this version does not know."""
        if self.arm >= 0:
            return By.ROUTER
        if self.arm not in _DECIDER:
            raise LedgerError(
                f"event {self.seq}: decided by {self.arm}, which this version does not know"
            )

        return _DECIDER[self.arm]

    @property
    def probs_K(self) -> NDArray[Any]:
        """(K,) the distribution the arm was drawn from, over the arms present then."""
        return unpack(self.probs)

    @property
    def context_D(self) -> NDArray[Any] | None:
        """(D,) the context, None where it was not kept."""
        return None if self.context is None or self.context[:1] == DIGEST else unpack(self.context)


class Called(NamedTuple):
    """One arm scored one response: the unit of cost.

    ``score`` None is NaN (abstained), ``decision`` None is no decision's.
    """

    seq: int
    decision: int | None
    response: str
    arm: int
    score: float | None
    status: str
    seconds: float | None
    price: float | None


class Paid(NamedTuple):
    """A payoff for one decision.

    ``scaled`` is None for a raw payoff that is held back; its value comes with a ``Released``.
    Payoffs of one ``batch`` (the seq of its first) were given to the router in one update.
    """

    seq: int
    decision: int
    raw: float | None
    scaled: float | None
    source: str
    kind: str
    batch: int


class Released(NamedTuple):
    """The payoffs held back until now, scaled together and given to the router in one update."""

    seq: int
    payoffs: bytes
    scaled: bytes


class Labelled(NamedTuple):
    """Gold for one unit; never seen by a router."""

    seq: int
    unit: str
    step: int
    value: float
    source: str


class Failed(NamedTuple):
    """An arm failed: data, never a zero score."""

    seq: int
    decision: int | None
    arm: int
    reason: str


class Changed(NamedTuple):
    """An arm came or went, or the scaler's history was reset.

    ``action`` is one of ``Action``. ``cost`` is that of a call of an arm that came; None: none was
    named.
    """

    seq: int
    action: str
    name: str
    cost: float | None = None


LedgerRow = Decided | Called | Paid | Released | Labelled | Failed | Changed

TABLES: dict[type[Any], EventKind] = {
    Decided: EventKind.DECISION,
    Called: EventKind.CALL,
    Paid: EventKind.PAYOFF,
    Released: EventKind.RELEASE,
    Labelled: EventKind.LABEL,
    Failed: EventKind.FAILURE,
    Changed: EventKind.CHANGE,
}


COLUMNS: dict[type[Any], str] = {kind: ", ".join(kind._fields) for kind in TABLES}


def _blob_places(kind: type[Any]) -> list[int]:
    """Places of the fields that are bytes."""
    return [i for i, t in enumerate(kind.__annotations__.values()) if "bytes" in str(t)]


def _plain_fields(kind: type[Any]) -> Callable[[Any], Any]:
    """What reads all other fields of a row."""
    blobs = _blob_places(kind)
    return itemgetter(*(i for i in range(len(kind._fields)) if i not in blobs))


_BLOBS = {kind: _blob_places(kind) for kind in TABLES}
_PLAIN = {kind: _plain_fields(kind) for kind in TABLES}


def seal(row: LedgerRow) -> int:
    """A CRC-32 of a row's contents, kept beside it: it finds a torn or altered row. O(bytes)."""
    kind = type(row)
    # ascii, so that no locale and no encoding enters
    crc = zlib.crc32(ascii(_PLAIN[kind](row)).encode())
    for i in _BLOBS[kind]:
        crc = zlib.crc32(row[i] or b"", crc)  # type: ignore[arg-type]
    return crc


@dataclass(frozen=True, slots=True)
class Call:
    """One arm's verdict on one response, as a caller reports it.

    ``arm`` is a name or an index into the dispatcher's arms, ``score`` may be NaN, ``seconds`` and
    ``price`` are this call's own.
    """

    decision_id: str | None
    response_id: str
    arm: str | int
    score: float
    status: str = "ok"
    seconds: float = float("nan")
    price: float = float("nan")


def pack(array: NDArray[Any]) -> bytes:
    """An array as bytes: dtype, number of dimensions, the dimensions, the contents. O(size).

    The dtype takes 4 bytes (``<f8 ``), and so does each number.
    """
    # the bytes are little-endian on every machine we know, and marked as such
    native = array
    if not array.dtype.isnative:
        native = array.astype(array.dtype.newbyteorder("="))
    code = native.dtype.str.encode().ljust(4)
    if native.dtype.kind not in "fiub" or len(code) != 4:
        raise LedgerError(
            f"array of dtype {native.dtype}: the ledger keeps plain numbers and booleans only"
        )

    n_axes = native.ndim
    shape = struct.pack(f"<I{n_axes}I", n_axes, *native.shape)
    return code + shape + native.tobytes()


def pack_rows(array_BD: NDArray[Any]) -> list[bytes]:
    """``pack`` of each row."""
    head = pack(array_BD[:1].reshape(-1))[:12] if len(array_BD) else b""
    return [head + row.tobytes() for row in array_BD]


def digest(array: NDArray[Any]) -> bytes:
    """What stands for a context that is not kept: enough to recognise it again."""
    return DIGEST + hashlib.blake2b(pack(array), digest_size=15).digest()


def unpack(data: bytes) -> NDArray[Any]:
    """The array that ``pack`` made into bytes (read-only).

    LedgerError where the bytes are not one.
    """
    try:
        dtype = _dtype(data[:4])
        # one dimension is by far the most frequent: no struct is needed
        if data[4:8] == b"\x01\x00\x00\x00":
            length = int.from_bytes(data[8:12], "little")
            return np.frombuffer(data, dtype, length, 12)
        (n_axes,) = struct.unpack_from("<I", data, 4)
        shape = struct.unpack_from(f"<{n_axes}I", data, 8)
        return np.frombuffer(data, dtype, offset=8 + 4 * n_axes).reshape(shape)
    except (struct.error, ValueError, TypeError) as error:
        raise LedgerError(f"{len(data)} bytes that are no array: {error}") from None


def unpack_rows(blobs: Sequence[bytes]) -> NDArray[Any]:
    """Vectors of one length -> (B, D), dtypes promoted where they differ."""
    # 4 bytes of dtype, 4 of the number of dimensions (1), 4 of the length: see `pack`.
    head = blobs[0][:12]
    # equal heads mean equal dtype and length: one copy is enough
    if all(blob[:12] == head for blob in blobs):
        numbers = b"".join([blob[12:] for blob in blobs])
        body = np.frombuffer(numbers, _dtype(head[:4]))
        return body.reshape(len(blobs), -1)
    return np.stack([unpack(blob) for blob in blobs])


@cache
def _dtype(code: bytes) -> np.dtype[Any]:
    return np.dtype(code.decode().strip())
