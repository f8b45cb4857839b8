"""Time and memory to read many rows of each format.

They are compared with a plain loop of the library that parses the format.

    python benchmarks/reading.py [--rows 1000000] [--repeats 3] [--folder DIR]

The plain loop is ``json.loads`` a line, ``json.load`` of an array, ``csv.DictReader``, and
pyarrow's batches as Python rows: each yields a dictionary a row and does nothing else. Ours and the
plain one take turns on the same file in processes of their own, so that a busy machine slows both;
the ratio is that of the CPU times, median of the repeats. Memory is the process's peak, less what
its imports take.
"""

import argparse
import csv
import gzip
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FORMATS = ("jsonl", "jsonl.gz", "json", "json.gz", "csv", "csv.gz", "parquet")


def row(number: int) -> dict[str, Any]:
    """A preference with two arms' scores, of the length of a short chat turn: 0.6 kB as JSON."""
    asked = f'What is {number} plus {number % 97}, and why? Say "I do not know" if you do not.'
    good = (
        f"{number} plus {number % 97} is {number + number % 97}, because addition counts on "
        "from the first number.\nIt is that simple."
    )
    bad = (
        f"It is {number}. There is nothing more to say about it, "
        f"and I have said it already: {number}."
    )
    return {
        "id": f"q{number}", "prompt": asked, "response_a": good, "response_b": bad,
        "label": "ab"[number % 2], "category": "sums", "x:a": number % 13 / 13,
        "x:b": number % 7 / 7, "y:a": number % 11 / 11, "y:b": number % 5 / 5,
    }  # fmt: skip


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """The row with its scores as an object: what every format but CSV holds."""
    scores = {arm: [flat[f"{arm}:a"], flat[f"{arm}:b"]] for arm in "xy"}
    return {**{key: value for key, value in flat.items() if ":" not in key}, "scores": scores}


def write(folder: Path, rows: int) -> None:
    """The same rows in every format."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    part, writer = [], None
    with (
        (folder / "rows.jsonl").open("w") as lines,
        (folder / "rows.json").open("w") as array,
        (folder / "rows.csv").open("w", newline="") as table,
    ):
        cells = csv.DictWriter(table, list(row(0)))
        cells.writeheader()
        for number in range(rows):
            flat = row(number)
            text = json.dumps(nested(flat))
            lines.write(text + "\n")
            array.write(("[" if number == 0 else ",\n") + text)
            cells.writerow(flat)
            part.append(nested(flat))
            if len(part) == 50_000 or number == rows - 1:
                batch = pa.Table.from_pylist(part)
                writer = writer or pq.ParquetWriter(folder / "rows.parquet", batch.schema)
                writer.write_table(batch)
                part = []
        array.write("]\n")
    if writer is not None:
        writer.close()
    for name in ("jsonl", "json", "csv"):
        with (
            (folder / f"rows.{name}").open("rb") as plain,
            gzip.open(folder / f"rows.{name}.gz", "wb", 1) as packed,
        ):
            while block := plain.read(1 << 20):
                packed.write(block)


def plain(path: Path) -> Iterator[Any]:
    """The rows by the library alone."""
    packed = path.suffix == ".gz"
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        import pyarrow.parquet as pq

        for batch in pq.ParquetFile(path).iter_batches(batch_size=1024):
            yield from batch.to_pylist()
        return
    with gzip.open(path, "rt", encoding="utf-8") if packed else path.open(encoding="utf-8") as file:
        if kind == "json":
            yield from json.load(file)
        elif kind == "csv":
            yield from csv.DictReader(file)
        else:
            for line in file:
                yield json.loads(line)


def ours(path: Path) -> Iterator[Any]:
    """The rows by the reader of every command."""
    from reward_router.reading import read_rows

    for _, found in read_rows(str(path)):
        yield found


def measured(which: str, path: Path) -> dict[str, float]:
    """What a process of its own prints.

    These are rows, CPU and wall seconds, and peak memory above what importing took.
    """
    read = {"plain": plain, "ours": ours}[which]
    import reward_router.reading  # noqa: F401

    if path.suffix == ".parquet":
        import pyarrow.parquet  # noqa: F401
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    count = sum(1 for _ in read(path))
    return {
        "rows": count,
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
        "mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
    }


def compared(path: Path, repeats: int) -> str:
    """A line of the table: both in turn, ``repeats`` times."""
    found: dict[str, list[dict[str, float]]] = {"plain": [], "ours": []}
    for _ in range(repeats):
        for which in found:
            done = subprocess.run(
                [sys.executable, __file__, "--one", which, str(path)],
                capture_output=True,
                check=True,
            )
            found[which].append(json.loads(done.stdout))
    rows = {run["rows"] for runs in found.values() for run in runs}
    assert len(rows) == 1, f"{path.name}: {rows}"
    pairs = zip(found["ours"], found["plain"], strict=True)
    ratio = statistics.median(one["cpu"] / other["cpu"] for one, other in pairs)
    cells = [path.name.removeprefix("rows."), f"{path.stat().st_size / 2**20:,.0f}"]
    cells += [f"{min(run['cpu'] for run in found[which]):.2f}" for which in ("plain", "ours")]
    cells.append(f"{ratio:.2f}")
    cells += [f"{max(run['mib'] for run in found[which]):,.0f}" for which in ("plain", "ours")]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Write the files and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("WHICH", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measured(given.one[0], Path(given.one[1]))))
        return
    with tempfile.TemporaryDirectory() as made:
        folder = given.folder or Path(made)
        if not (folder / "rows.parquet").is_file():
            write(folder, given.rows)
        print(
            f"{given.rows:,} rows, {given.repeats} repeats in turn; "
            f"Python {platform.python_version()}, {os.cpu_count()} CPUs"
        )
        print(
            "| format | MiB | plain, CPU s | ours, CPU s | ratio "
            "| plain, MiB held | ours, MiB held |"
        )
        print("|---|---|---|---|---|---|---|")
        for name in FORMATS:
            print(compared(folder / f"rows.{name}", given.repeats), flush=True)


if __name__ == "__main__":
    main()
