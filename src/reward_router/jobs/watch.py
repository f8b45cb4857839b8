"""``reward-router watch RUN``: a run in a terminal, live.

It is shown from the files that the run writes, and the run is never touched.

Read are config.yaml, metrics.jsonl and, once the run has ended, summary.json. The ledger stays
closed.
"""

import itertools
import time
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live

from reward_router import config as configuration
from reward_router.errors import InputError
from reward_router.facts import gold, tone
from reward_router.progress import Table, duration, literal
from reward_router.rundir import RunDir
from reward_router.strict_json import finite

Json = dict[str, Any]
BARS = "▁▂▃▄▅▆▇█"
CURVES = (
    ("loss", "loss", ""),
    ("payoff", "payoff", ""),
    ("gold_sampled", "gold of samples", "%"),
    ("margin", "reward margin", ""),
    ("pair_accuracy", "pair accuracy", "%"),
    ("kl", "KL to reference", ""),
    ("finished", "share finished", "%"),
    ("words", "words a response", ""),
    ("grad_norm", "gradient norm", ""),
)
WIDEST = 40


def watch(folder: Path, console: Console, every: float = 2.0, once: bool = False) -> None:
    """Show the run in ``folder`` until it has ended (or is interrupted).

    InputError where there is no run.
    """
    run = RunDir(folder)
    if not (folder / "config.yaml").is_file():
        raise InputError(
            f"{folder}: no run here (no config.yaml); give the directory a run "
            "is written to with --out"
        )
    # Where there is no terminal a picture that changes would only fill a file.
    if once or not console.is_terminal:
        console.print(picture(run, console.width))
        return
    with Live(picture(run, console.width), console=console, auto_refresh=False) as live:
        while not run.summary.is_file():
            time.sleep(every)
            live.update(picture(run, console.width), refresh=True)


def picture(run: RunDir, width: int) -> Group:
    """What there is to see now."""
    records = [
        r for r in finite(run.read_log()) if isinstance(r, dict) and isinstance(r.get("step"), int)
    ]
    return Group(
        *(literal(line) for line in _head(run, records)), _arms(records), _curves(records, width)
    )


def _head(run: RunDir, records: list[Json]) -> list[str]:
    planned = steps_planned(run)
    done = records[-1]["step"] + 1 if records else 0
    spent = sum(v or 0.0 for v in records[-1]["seconds"].values()) if records else 0.0
    known = f" of {planned}" if planned else ""
    if run.summary.is_file():
        import json

        summary = finite(json.loads(run.summary.read_text(encoding="utf-8")))
        change = gold(summary)
        mark = {"better": "▲", "worse": "▼", "neither": "■"}.get(tone(summary), "")
        return [
            f"{run.path.name}: finished after {done} steps, {duration(spent)}",
            f"{mark} gold {change}" if change else "",
        ]
    lines = [f"{run.path.name}: step {done}{known}, {duration(spent)} of work so far"]
    if records and records[-1].get("look"):
        look = records[-1]["look"]
        lines.append(
            f"last look: gold {look['gold']:.3f} on train prompts (base model {look['base']:.3f}, "
            f"best {look['best']:.3f})"
        )
    if records and records[-1].get("resting"):
        lines.append(f"resting after failures: {', '.join(records[-1]['resting'])}")
    return lines


def steps_planned(run: RunDir) -> int | None:
    """Steps of the whole run, where the configuration alone says it."""
    text = (run.path / "config.yaml").read_text(encoding="utf-8")
    train = (configuration.parse_yaml(text, "config.yaml") or {}).get("train") or {}
    batches = train.get("batches_per_iteration")
    return None if batches is None else int(train.get("iterations", 1)) * int(batches)


def _arms(records: list[Json]) -> Table:
    table = Table("who judged", box=None, padding=(0, 2, 0, 0))
    for name in ("arm", "all", "last 10 steps", "expected payoff"):
        table.column(name, justify="left" if name == "arm" else "right")
    if not records:
        return table
    recent = records[-10:]
    total = sum(sum(r["arms"].values()) for r in records) or 1
    late = sum(sum(r["arms"].values()) for r in recent) or 1
    for arm in records[-1]["arms"]:
        everywhere = sum(r["arms"].get(arm, 0) for r in records)
        lately = sum(r["arms"].get(arm, 0) for r in recent)
        mean, sd = (records[-1].get("posterior") or {}).get(arm) or (None, None)
        belief = "-" if mean is None or sd is None else f"{mean:.2f} ± {sd:.2f}"
        table.row(arm, f"{100 * everywhere / total:.0f} %", f"{100 * lately / late:.0f} %", belief)
    return table


def _curves(records: list[Json], width: int) -> Table:
    table = Table("training", box=None, padding=(0, 2, 0, 0))
    for name in ("", "last", "since the first step"):
        table.column(name, justify="right" if name == "last" else "left")
    room = max(8, min(WIDEST, width - 34))
    for key, name, unit in CURVES:
        values = [float(r[key]) for r in records if r.get(key) is not None]
        if values:
            last = f"{100 * values[-1]:.0f} %" if unit else f"{values[-1]:.3g}"
            table.row(name, last, spark(values, room))
    return table


def spark(values: list[float], room: int) -> str:
    """Values as a row of bars, at most ``room`` of them, each the mean of its stretch.

    >>> spark([0.0, 1.0, 2.0, 7.0], 4)
    '▁▂▃█'
    """
    if len(values) > room:
        edges = [round(i * len(values) / room) for i in range(room + 1)]
        # More values than room: each bar is the mean of its stretch.
        stretches = [values[a:b] for a, b in itertools.pairwise(edges)]
        values = [sum(part) / len(part) for part in stretches]
    low = min(values)
    reach = max(values) - low
    return "".join(BARS[round((v - low) / reach * (len(BARS) - 1)) if reach else 0] for v in values)
