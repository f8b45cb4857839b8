"""Throughput of the ledger and the dispatcher.

Route + feedback pairs a second, opening and folding a large ledger.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
        python benchmarks/ledger.py [--decisions 1000000] [--folder DIR]

Prints one Markdown table. "wall" counts what else the machine does, "CPU" is this process's own
time in all its threads.
"""

import argparse
import gc
import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from reward_router.dispatch import Dispatcher
from reward_router.ledger import Ledger
from reward_router.routers import Exp3, LinearThompson, LinUCB, Uniform

K, B = 8, 32
ARMS = [f"arm{k}" for k in range(K)]
UNITS = [f"p{i}" for i in range(B)]


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def run(d: Dispatcher, x_SBD: np.ndarray, first: int, steps: int) -> None:
    """Route a batch and pay it, ``steps`` times."""
    for step in range(first, first + steps):
        decisions = d.route(x_SBD[step % len(x_SBD)], UNITS, step)
        d.feedback_many([(q.id, 0.25 + 0.5 * (q.arm == step % K)) for q in decisions])


def pairs(
    folder: Path, name: str, router, dim: int, steps: int, repeats: int = 5, **options
) -> str:
    """Median over repeats of route + feedback pairs a second."""
    x = np.random.default_rng(0).normal(size=(64, B, dim))
    x /= np.linalg.norm(x, axis=2, keepdims=True)
    with Ledger(folder / "pairs.sqlite", **options) as ledger:
        d = Dispatcher(router, ARMS, ledger=ledger)
        run(d, x, 0, 40)
        walls, cpus = zip(
            *(timed(lambda r=r: run(d, x, 40 + r * steps, steps)) for r in range(repeats)),
            strict=True,
        )
    (folder / "pairs.sqlite").unlink()
    n = steps * B
    wall, cpu = n / np.median(walls), n / np.median(cpus)
    setting = (
        ", ".join(f"{key} {value}" for key, value in options.items())
        or "durability normal, contexts full"
    )
    return (
        f"| {name}, d = {dim}, {setting} | {wall:,.0f} pairs/s | {n / min(walls):,.0f} pairs/s "
        f"| {cpu:,.0f} pairs/s |"
    )


def large(folder: Path, decisions: int, dim: int) -> list[str]:
    """Open a ledger of many decisions from its last snapshot, and fold it from its first event."""
    x = np.random.default_rng(0).normal(size=(64, B, dim))
    path, steps = folder / "large.sqlite", decisions // B
    with Ledger(path) as ledger:
        run(Dispatcher(Exp3(K), ARMS, ledger=ledger), x, 0, steps)
    size = path.stat().st_size / 2**20

    def opened() -> None:
        with Ledger(path) as ledger:
            Dispatcher(Exp3(K), ARMS, ledger=ledger)

    warm, snapshot_cpu = timed(opened)
    db = sqlite3.connect(path)
    db.execute("DELETE FROM snapshots WHERE seq>0")
    db.commit()
    db.close()
    wall, cpu = timed(opened)
    n = steps * B
    return [
        f"| open {n:,} decisions + {n:,} payoffs ({size:,.0f} MiB, Exp3, d = {dim}) "
        "from the last snapshot "
        f"| {warm:.2f} s | | {snapshot_cpu:.2f} s |",
        f"| fold the same from its first event | {n / wall:,.0f} decisions with payoff/s | "
        f"| {n / cpu:,.0f} decisions with payoff/s |",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--folder", type=Path, default=None)
    args = parser.parse_args()
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, numpy {np.__version__}, "
        f"SQLite {sqlite3.sqlite_version}, load {os.getloadavg()[0]:.1f}\n"
    )
    print(f"K = {K}, batches of {B}, one process, one BLAS thread\n")
    print("| what | wall, median | wall, best of 5 | CPU, median |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        print(
            pairs(folder, "Uniform (ledger and dispatcher alone)", Uniform(K), 384, args.steps),
            flush=True,
        )
        print(pairs(folder, "Uniform", Uniform(K), 384, args.steps, contexts="f32"), flush=True)
        print(pairs(folder, "Uniform", Uniform(K), 384, args.steps, contexts="none"), flush=True)
        print(pairs(folder, "Uniform", Uniform(K), 384, args.steps, durability="full"), flush=True)
        print(pairs(folder, "Exp3", Exp3(K), 384, args.steps), flush=True)
        print(pairs(folder, "LinUCB", LinUCB(K, 384), 384, args.steps), flush=True)
        print(pairs(folder, "LinearThompson", LinearThompson(K, 384), 384, args.steps), flush=True)
        for line in large(folder, args.decisions, 16):
            print(line, flush=True)


if __name__ == "__main__":
    main()
