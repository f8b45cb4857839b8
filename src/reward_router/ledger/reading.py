"""Small pure pieces of reading a ledger: chunks in order, tallies and JSON."""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from reward_router.errors import LedgerError
from reward_router.ledger.rows import TABLES, Called, LedgerRow, Paid, Released, unpack

R = TypeVar("R")


class OutOfOrder(LedgerError):
    """Events came back in another order than they were asked for: the file's trees are damaged."""


def paged(
    fetch: Callable[[int], list[R]], seq: Callable[[R], int], after: int
) -> Iterator[list[R]]:
    """Chunks of what ``fetch`` gives after a seq, until there is nothing.

    OutOfOrder where it does not move on.
    """
    while chunk := fetch(after):
        seqs = [after, *map(seq, chunk)]
        # without this a damaged tree could be read for ever
        if any(a >= b for a, b in itertools.pairwise(seqs)):
            raise OutOfOrder(f"events after {after} are not in order: the file is damaged")
        after = seqs[-1]
        yield chunk


def to_json(row: LedgerRow) -> str:
    """A row as JSON, bytes as hexadecimal; floats round-trip exactly."""
    fields = row._asdict().items()
    return json.dumps({k: v.hex() if isinstance(v, bytes) else v for k, v in fields})


def tally(rows: Iterable[LedgerRow]) -> Counter[str]:
    """Events by table, calls by status, raw payoffs scaled and saturated at 0 or 1."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts[TABLES[type(row)]] += 1
        values: list[float] = []
        if isinstance(row, Called):
            counts[f"calls/{row.status}"] += 1
        elif isinstance(row, Paid) and row.kind == "raw" and row.scaled is not None:
            values = [row.scaled]
        elif isinstance(row, Released):
            values = unpack(row.scaled).tolist()

        counts["scaled"] += len(values)
        counts["saturated"] += sum(v in (0.0, 1.0) for v in values)

    return counts
