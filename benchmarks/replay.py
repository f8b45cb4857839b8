"""How long a replay takes and how much memory it needs.

    python benchmarks/replay.py files [--seeds 20] [--drop-arms GLOB] FILE...    every default router, seconds and peak memory
    python benchmarks/replay.py stream [--rows 1000000] [--arms 13]              a synthetic file that is read row by row

Embeddings are cached by the first run (REWARD_ROUTER_CACHE): run twice to time without them.
"""

import argparse
import gzip
import json
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console

from reward_router.replay.evaluate import Settings
from reward_router.replay.run import Selection, measure

STREAMED = ["uniform", "exp3", "best_train", "category_best", "majority", "weighted_vote", "mean", "stacking", "oracle"]


def peak_mib() -> tuple[float, float]:
    """Peak resident memory of this process and of its largest worker."""
    return tuple(resource.getrusage(w).ru_maxrss / 1024 for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))  # type: ignore[return-value]


def cpu_seconds() -> float:
    return sum(sum(resource.getrusage(w)[:2]) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def timed(files: list[str], settings: Settings, selection: Selection) -> None:
    for file in files:
        wall, cpu = time.perf_counter(), cpu_seconds()
        result = measure([file], selection, settings, Console(quiet=True))["files"][0]
        size = (
            f"{result['rows']} rows, {len(result['arms'])} arms, {len(result['routers']) - len(result['arms'])} methods"
        )
        took = f"{time.perf_counter() - wall:.1f} s wall, {cpu_seconds() - cpu:.1f} s CPU"
        print(f"{result['name']}: {size}: {took}, peak {peak_mib()[0]:.0f} + {peak_mib()[1]:.0f} MiB", flush=True)


def write_synthetic(path: Path, n_rows: int, n_arms: int) -> None:
    """Rows in groups of four; arms of different skill and scale, two categories."""
    draw = np.random.default_rng(0)
    skill_K, scale_K = np.linspace(0.1, 1.2, n_arms), 10.0 ** draw.uniform(-1, 1, n_arms)
    with gzip.open(path, "wt", compresslevel=1) as file:
        for start in range(0, n_rows, 10_000):
            size = min(10_000, n_rows - start)
            label_B = draw.choice([-1.0, 1.0], size)
            score_BK = (label_B[:, None] * skill_K + draw.normal(size=(size, n_arms))) * scale_K
            for i in range(size):
                scores = {f"arm{k}": [round(float(score_BK[i, k]), 4), 0.0] for k in range(n_arms)}
                row = {
                    "id": f"s-{(start + i) // 4}-{i % 4}",
                    "category": f"c{(start + i) // 4 % 2}",
                    "label": "a" if label_B[i] > 0 else "b",
                    "scores": scores,
                }
                file.write(json.dumps(row) + "\n")


def stream(n_rows: int, n_arms: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "synthetic.jsonl.gz"
        write_synthetic(path, n_rows, n_arms)
        print(f"{n_rows} rows, {n_arms} arms, {path.stat().st_size / 2**20:.0f} MiB packed")
        timed([str(path)], Settings(STREAMED, "none", seeds=1), Selection())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    files = commands.add_parser("files")
    files.add_argument("files", nargs="+")
    files.add_argument("--seeds", type=int, default=20)
    files.add_argument("--drop-arms")
    files.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    long = commands.add_parser("stream")
    long.add_argument("--rows", type=int, default=1_000_000)
    long.add_argument("--arms", type=int, default=13)
    args = parser.parse_args()
    if args.command == "stream":
        stream(args.rows, args.arms)
    else:
        timed(args.files, Settings(seeds=args.seeds, workers=args.workers), Selection(None, args.drop_arms))


if __name__ == "__main__":
    main()
