"""Checking a ledger, and getting out of a damaged one whatever is still readable.

A damaged file is opened for reading only and never written (``sqlite.reader``).
"""

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reward_router.errors import InputError
from reward_router.ledger.rows import DIGEST, TABLES, Decided, LedgerRow, Paid, Released, unpack
from reward_router.ledger.sqlite.reader import Reader
from reward_router.strict_json import dumps

BATCH = 4096


@dataclass(slots=True)
class CheckReport:
    """What a check found.

    ``ok``: every event and snapshot is whole. ``events``: readable events by table.
    """

    path: str
    problems: list[str] = field(default_factory=list)
    events: dict[str, int] = field(default_factory=dict)
    last_seq: int = 0
    snapshots: int = 0

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return not self.problems

    def __str__(self) -> str:
        """A few lines for a person."""
        verdict = "whole" if self.ok else "damaged"
        head = f"{self.path}: {verdict}, events up to {self.last_seq}, {self.snapshots} snapshots"
        counts = [f"{count} {table}" for table, count in self.events.items() if count]
        readable = ", ".join(counts) or "nothing"
        problems = [f"  {problem}" for problem in self.problems]
        return "\n".join([head, f"  readable: {readable}", *problems])


def check_ledger(path: str | Path) -> CheckReport:
    """Read a ledger from end to end. O(file).

    SQLite's own check is made, then every checksum, order, references and ranges. InputError where
    there is no such file, LedgerError where it is something else. The file is not changed.
    """
    reader = Reader(path)
    report = CheckReport(str(path), problems=reader.integrity())
    seqs: list[int] = []
    decided: set[int] = set()
    faults: dict[str, list[int]] = {}

    for kind, table in TABLES.items():
        before = len(seqs)
        for row in reader.events(kind):
            seqs.append(row.seq)
            if isinstance(row, Decided):
                decided.add(row.seq)
            if fault := _fault(row, decided):
                faults.setdefault(fault, []).append(row.seq)

        report.events[table] = len(seqs) - before

    report.last_seq = max(seqs, default=0)
    report.problems += [
        f"{fault}: {len(faulty)} times, first at event {faulty[0]}"
        for fault, faulty in faults.items()
    ]
    # a seq has no gap in a whole ledger
    if missing := report.last_seq - len(set(seqs)):
        report.problems.append(f"{missing} of {report.last_seq} events are missing")

    report.snapshots, wrong = reader.snapshots()
    report.problems += [*reader.lost, *wrong]
    reader.close()
    return report


def _fault(row: LedgerRow, decided: set[int]) -> str:
    """What is wrong with an event; '' where nothing is."""
    if isinstance(row, Decided):
        p_K = unpack(row.probs)
        if row.arm < 0:
            whole = row.propensity == 1 and not p_K.any()
            return "" if whole else "a decision without an arm has probabilities"

        ok = row.propensity in p_K and abs(p_K.sum() - 1) < 1e-6 and 0 < row.propensity <= 1
        return "" if ok else "a decision's propensity is not one of its probabilities"

    if isinstance(row, Paid):
        if row.scaled is not None and not 0.0 <= row.scaled <= 1.0:
            return "a payoff is not in [0, 1]"
        return "" if row.decision in decided else "a payoff's decision is missing"

    if isinstance(row, Released) and len(unpack(row.payoffs)) != len(unpack(row.scaled)):
        return "a release has more payoffs than values, or fewer"

    return ""


def export_ledger(path: str | Path, out: str | Path) -> CheckReport:
    """Save every readable event of a ledger, whole or damaged, to ``out``. O(file).

    ``out`` ends in .jsonl or .parquet; the latter needs pyarrow. One record an event, in order:
    ``seq``, ``type`` (the table), then its fields; arrays as lists, NaN as null, ids in
    hexadecimal, arms by ``arm`` (number) and ``name`` (both null where an ensemble or a committee
    decided, which ``by`` says). Returns the check of the ledger, problems included. InputError for
    another ending, LedgerError where ``path`` is no ledger.
    """
    target = Path(out)
    if target.suffix not in (".jsonl", ".parquet"):
        raise InputError(f"export to {str(out)!r}; allowed a file ending in .jsonl or .parquet")

    report = check_ledger(path)
    reader = Reader(path)
    names = reader.names()
    # merged lazily: an export may be larger than memory
    streams = (reader.events(kind) for kind in TABLES)
    records = (record(row, names) for row in heapq.merge(*streams, key=lambda row: row.seq))

    if target.suffix == ".jsonl":
        with target.open("w", encoding="utf-8") as file:
            file.writelines(dumps(each, ensure_ascii=False) + "\n" for each in records)
    else:
        _write_parquet(records, target)

    reader.close()
    return report


def _write_parquet(records: Iterator[dict[str, Any]], target: Path) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise InputError(
            f"export to {target}: Parquet needs pyarrow; "
            "pip install 'reward-router[parquet]', or use .jsonl"
        ) from None

    types = {
        "str": pa.string(),
        "int": pa.int64(),
        "float": pa.float64(),
        "bytes": pa.list_(pa.float64()),
    }
    fields = {"seq": pa.int64(), "type": pa.string(), "name": pa.string()}

    for kind in TABLES:
        for name, annotation in kind.__annotations__.items():
            word = str(getattr(annotation, "__name__", annotation)).split(" |")[0]
            fields[name] = types[word]

    fields |= {
        "id": pa.string(),
        "by": pa.string(),
        "scaled": pa.float64(),
        "values": types["bytes"],
    }
    layout = pa.schema(list(fields.items()))
    with pq.ParquetWriter(target, layout) as writer:
        while batch := list(itertools.islice(records, BATCH)):
            writer.write_table(pa.Table.from_pylist(batch, schema=layout))


def record(row: LedgerRow, names: list[str]) -> dict[str, Any]:
    """An event as plain values."""
    out: dict[str, Any] = {"seq": row.seq, "type": TABLES[type(row)]}
    fields: Any = row._asdict()
    if isinstance(row, Decided):
        fields["id"] = row.id.hex()
        fields["by"] = str(row.by)

    if isinstance(row, Released):
        fields["values"] = fields.pop("scaled")

    for name, value in fields.items():
        out[name] = _plain(value)
        if name == "arm":
            out["name"] = names[value] if 0 <= value < len(names) else None
            out["arm"] = value if value >= 0 else None

    return out


def _plain(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    return None if value[:1] == DIGEST else unpack(value).tolist()
