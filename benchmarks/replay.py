"""How long a replay takes and how much memory it needs.

    python benchmarks/replay.py files [--seeds 20] [--drop-arms GLOB] FILE...    every default router, seconds and peak memory
    python benchmarks/replay.py stream [--rows 1000000] [--arms 13]              a synthetic file that is read row by row
    python benchmarks/replay.py table RESULT.json                                the tables of docs/replay.md from --json

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
from typing import Any

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


def table(path: Path) -> None:
    """Markdown: a summary line a file, then every method of every file."""
    files = json.loads(path.read_text())["files"]
    print(
        "| file | rows / prompts / arms | best single arm | at most | best one-call router | best committee | do |\n|---|---|---|---|---|---|---|"
    )
    for f in files:
        v, routers = f["verdict"], f["routers"]
        best = f"{v['best_single']} {100 * routers[v['best_single']]['accuracy']:.1f}"
        cells = [
            f"{f['rows']} / {f['prompts']} / {len(f['arms'])}",
            best,
            f"{100 * v['headroom']:+.1f}",
            _gain(v["best_router"], routers),
            _gain(v["best_committee"], routers, True),
        ]
        print(
            f"| {f['name']} | {' | '.join(cells)} | {'one arm' if v['action'] == 'arm' else v['action'] + ': ' + v['method']} |"
        )
    for f in files:
        print(
            f"\n**{f['name']}**: {f['verdict']['text']}\n\n| method | accuracy | where some right | calls | vs best single | regret |\n|---|---|---|---|---|---|"
        )
        for label, e in sorted(f["routers"].items(), key=lambda item: (item[1]["kind"] != "arm", -item[1]["accuracy"])):
            if e["kind"] != "arm" or label in sorted(f["arms"], key=lambda a: -f["routers"][a]["accuracy"])[:3]:
                low, high = e["ci95"]
                print(
                    f"| {label} | {100 * e['accuracy']:.1f} [{100 * low:.1f}, {100 * high:.1f}] | {100 * e['accuracy_some_right']:.1f} | {e['calls_per_row']:.2f} | {_diff(e)} | {e['regret']:.0f} |"
                )


def _diff(e: dict[str, Any]) -> str:
    best = e["vs_best_single"]
    return f"{100 * best['diff']:+.1f} [{100 * best['ci95'][0]:+.1f}, {100 * best['ci95'][1]:+.1f}]{' inside' if best['inside'] else ''}"


def _gain(label: str | None, routers: dict[str, Any], calls: bool = False) -> str:
    if label is None:
        return "-"
    return f"{label} {_diff(routers[label])}" + (f" at {routers[label]['calls_per_row']:.2f} calls" if calls else "")


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
    commands.add_parser("table").add_argument("result", type=Path)
    args = parser.parse_args()
    if args.command == "table":
        table(args.result)
    elif args.command == "stream":
        stream(args.rows, args.arms)
    else:
        timed(args.files, Settings(seeds=args.seeds, workers=args.workers), Selection(None, args.drop_arms))


if __name__ == "__main__":
    main()
