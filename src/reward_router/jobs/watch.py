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
from reward_router.facts import gold_fact, tone, win_rate_fact
from reward_router.progress import LiteralTable, duration, literal
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
    if once or not console.is_terminal:
        console.print(picture(run, console.width))
        return
    with Live(picture(run, console.width), console=console, auto_refresh=False) as live:
        while not run.summary.is_file():
            time.sleep(every)
            live.update(picture(run, console.width), refresh=True)


def picture(run: RunDir, width: int) -> Group:
    """What there is to see now."""
    # The run may be writing its last line at this moment: what is no whole record is left out.
    records = [record for record in finite(run.read_log()) if _is_step(record)]
    head = [literal(line) for line in _head(run, records)]
    return Group(*head, _arms(records), _curves(records, width))


def _is_step(record: Any) -> bool:
    return isinstance(record, dict) and isinstance(record.get("step"), int)


def _head(run: RunDir, records: list[Json]) -> list[str]:
    newest = records[-1] if records else None
    done = newest["step"] + 1 if newest else 0
    spent = sum(seconds or 0.0 for seconds in newest["seconds"].values()) if newest else 0.0
    if run.summary.is_file():
        return _ended(run, done, spent)

    planned = steps_planned(run)
    of_planned = f" of {planned}" if planned else ""
    lines = [f"{run.path.name}: step {done}{of_planned}, {duration(spent)} of work so far"]
    if newest and newest.get("look"):
        look = newest["look"]
        lines.append(
            f"last look: gold {look['gold']:.3f} on train prompts (base model {look['base']:.3f}, "
            f"best {look['best']:.3f})"
        )
    if newest and newest.get("resting"):
        lines.append(f"resting after failures: {', '.join(newest['resting'])}")
    return lines


def _ended(run: RunDir, done: int, spent: float) -> list[str]:
    """The head of a run that has written its summary: how long it took, and what came of it."""
    import json

    summary = finite(json.loads(run.summary.read_text(encoding="utf-8")))
    result = f"gold {gold_fact(summary)}" if gold_fact(summary) else win_rate_fact(summary)
    mark = {"better": "▲", "worse": "▼", "neither": "■"}.get(tone(summary), "")
    return [
        f"{run.path.name}: finished after {done} steps, {duration(spent)}",
        f"{mark} {result}" if result else "",
    ]


def steps_planned(run: RunDir) -> int | None:
    """Steps of the whole run, where the configuration alone says it."""
    text = (run.path / "config.yaml").read_text(encoding="utf-8")
    # Read as plain YAML and not as a config: a run of another version is watched as well.
    settings = configuration.parse_yaml(text, "config.yaml") or {}
    train = settings.get("train") or {}
    batches = train.get("batches_per_iteration")
    if batches is None:
        return None
    return int(train.get("iterations", 1)) * int(batches)


def _arms(records: list[Json]) -> LiteralTable:
    table = LiteralTable("who judged", box=None, padding=(0, 2, 0, 0))
    for name in ("arm", "all", "last 10 steps", "expected payoff"):
        table.column(name, justify="left" if name == "arm" else "right")
    if not records:
        return table
    newest = records[-1]
    posteriors = newest.get("posterior") or {}
    percent_in_all = _percent(records)
    percent_lately = _percent(records[-10:])
    for arm in newest["arms"]:
        # A router without a posterior logs none, and null stands for what was not finite.
        mean, sd = posteriors.get(arm) or (None, None)
        belief = "-" if mean is None or sd is None else f"{mean:.2f} ± {sd:.2f}"
        in_all = f"{percent_in_all[arm]:.0f} %"
        lately = f"{percent_lately[arm]:.0f} %"
        table.row(arm, in_all, lately, belief)
    return table


def _percent(records: list[Json]) -> dict[str, float]:
    """How much of the decisions of these steps each arm had, in percent."""
    decisions: dict[str, int] = {}
    for record in records:
        for arm, count in record["arms"].items():
            decisions[arm] = decisions.get(arm, 0) + count
    # A run may have steps without a single decision.
    total = sum(decisions.values()) or 1
    return {arm: 100 * count / total for arm, count in decisions.items()}


def _curves(records: list[Json], width: int) -> LiteralTable:
    table = LiteralTable("training", box=None, padding=(0, 2, 0, 0))
    for name in ("", "last", "since the first step"):
        table.column(name, justify="right" if name == "last" else "left")
    room = max(8, min(WIDEST, width - 34))
    for key, name, unit in CURVES:
        # Older runs, and losses without a reference, log fewer figures.
        values = [float(record[key]) for record in records if record.get(key) is not None]
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
        stretches = [values[start:stop] for start, stop in itertools.pairwise(edges)]
        values = [sum(part) / len(part) for part in stretches]

    low = min(values)
    reach = max(values) - low
    # A constant curve is a line along the bottom, and no division by 0.
    if not reach:
        return BARS[0] * len(values)

    tallest = len(BARS) - 1
    bars = []
    for value in values:
        height = round((value - low) / reach * tallest)
        bars.append(BARS[height])
    return "".join(bars)
