"""How long a replay takes and how much memory it needs.

    python benchmarks/replay.py files [--seeds 20] [--drop-arms GLOB] FILE...
    python benchmarks/replay.py stream [--rows 1000000] [--arms 13]
    python benchmarks/replay.py table RESULT.json... [--into results-replay.md]

``files`` measures seconds and peak memory of every default router, ``stream`` reads a synthetic
file row by row, and ``table`` writes the tables of results-replay.md from what --json kept.

What results-replay.md reports, on a machine that does nothing else: files
$REWARD_ROUTER_DATA/replay/*.jsonl.gz (the folder), and files --drop-arms 'judge*'
$REWARD_ROUTER_DATA/replay/rewardmath.jsonl.gz (13 arms, 2,925 rows). Embeddings are cached by the
first run (REWARD_ROUTER_CACHE): run twice to time without them.
"""

import argparse
import gzip
import json
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from reward_router.replay.evaluate import ReplaySettings
from reward_router.replay.run import Selection, measure

BEGIN, END = "<!-- results: written by benchmarks/replay.py table -->", "<!-- end of results -->"
STREAMED = [
    "uniform",
    "exp3",
    "best_train",
    "category_best",
    "majority",
    "weighted_vote",
    "mean",
    "stacking",
    "oracle",
]


def peak_mib() -> tuple[float, float]:
    """Peak resident memory of this process and of its largest worker."""
    return tuple(
        resource.getrusage(w).ru_maxrss / 1024
        for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )  # type: ignore[return-value]


def cpu_seconds() -> float:
    return sum(
        sum(resource.getrusage(w)[:2]) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )


def timed(files: list[str], settings: ReplaySettings, selection: Selection) -> None:
    for file in files:
        wall, cpu = time.perf_counter(), cpu_seconds()
        result = measure([file], selection, settings, Console(quiet=True))["files"][0]
        n_arms = len(result["arms"])
        n_methods = len(result["routers"]) - n_arms
        size = f"{result['rows']} rows, {n_arms} arms, {n_methods} methods"
        took = f"{time.perf_counter() - wall:.1f} s wall, {cpu_seconds() - cpu:.1f} s CPU"
        print(
            f"{result['name']}: {size}: {took}, peak {peak_mib()[0]:.0f} + {peak_mib()[1]:.0f} MiB",
            flush=True,
        )


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
        timed([str(path)], ReplaySettings(STREAMED, "none", seeds=1), Selection())


def table(paths: list[Path]) -> str:
    """Markdown: a line a file, accuracy of every method on every file, the verdicts."""
    files = [f for path in paths for f in json.loads(path.read_text())["files"]]
    head = (
        "| file | rows / prompts / arms | best single arm | at most | best one-call router "
        "| best committee | do |\n" + "|---" * 7 + "|"
    )
    lines = [head, *(_line(f) for f in files), "", *_matrix(files), ""]
    return "\n".join([*lines, *(f"- **{f['name']}**: {f['verdict']['text']}" for f in files)])


def _line(f: dict[str, Any]) -> str:
    v, routers = f["verdict"], f["routers"]
    cells = [
        f"{f['rows']} / {f['prompts']} / {len(f['arms'])}",
        f"{v['best_single']} {_accuracy(routers[v['best_single']])}",
        f"{100 * v['headroom']:+.1f}",
        _gain(v["best_router"], routers),
        _gain(v["best_committee"], routers),
        "one arm" if v["action"] == "arm" else f"{v['action']}: {v['method']}",
    ]
    return f"| {f['name']} | {' | '.join(cells)} |"


def _accuracy(e: dict[str, Any]) -> str:
    return f"{100 * e['accuracy']:.1f} [{100 * e['ci95'][0]:.1f}, {100 * e['ci95'][1]:.1f}]"


def _gain(label: str | None, routers: dict[str, Any]) -> str:
    """Accuracy, calls where they are more than one, and the difference to the best single arm."""
    if label is None:
        return "-"
    best, calls = routers[label]["vs_best_single"], routers[label]["calls_per_row"]
    asked = f" @ {calls:.3g}" if calls > 1 else ""
    inside = " inside" if best["inside"] else ""
    low, high = best["ci95"]
    return (
        f"{label} {100 * routers[label]['accuracy']:.1f}{asked}, {100 * best['diff']:+.1f} "
        f"[{100 * low:+.1f}, {100 * high:+.1f}]{inside}"
    )


def _matrix(files: list[dict[str, Any]]) -> Iterator[str]:
    """A table of methods by files.

    Bold: above the best single arm beyond the interval of the difference; ~: inside it.
    """
    yield "| accuracy in % | " + " | ".join(f["name"] for f in files) + " |"
    yield "|---" * (len(files) + 1) + "|"
    yield (
        "| best single arm | "
        + " | ".join(f"{100 * f['routers'][f['best_single']]['accuracy']:.1f}" for f in files)
        + " |"
    )
    labels = dict.fromkeys(
        label for f in files for label, e in f["routers"].items() if e["kind"] != "arm"
    )
    for label in labels:
        yield f"| {label} | " + " | ".join(_cell(f["routers"].get(label)) for f in files) + " |"


def _cell(e: dict[str, Any] | None) -> str:
    if e is None:
        return "-"
    text, best = f"{100 * e['accuracy']:.1f}", e["vs_best_single"]
    text += f" @ {e['calls_per_row']:.2f}" if e["kind"] == "committee" else ""
    return (
        f"~{text}"
        if best["inside"]
        else f"**{text}**"
        if best["diff"] > 0 and e["kind"] != "bound"
        else text
    )


def into(page: Path, text: str) -> None:
    """Put ``text`` between the page's two markers."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise SystemExit(f"{page}: needs the lines {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


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
    shown = commands.add_parser("table")
    shown.add_argument("results", nargs="+", type=Path)
    shown.add_argument("--into", type=Path, help="a page with the two markers")
    args = parser.parse_args()
    if args.command == "table":
        text = table(args.results)
        into(args.into, text) if args.into else print(text)
    elif args.command == "stream":
        stream(args.rows, args.arms)
    else:
        timed(
            args.files,
            ReplaySettings(seeds=args.seeds, workers=args.workers),
            Selection(None, args.drop_arms),
        )


if __name__ == "__main__":
    main()
