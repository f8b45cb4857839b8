"""``reward-router compare RUN RUN...``: several runs on one page and in one table.

Everything comes from what their directories hold.

Runs are compared as they are: where their held-out prompts or their policies differ, that is said,
because then their gold does not compare. Nothing is measured again.
"""

import math
from collections.abc import Sequence
from html import escape
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console

from reward_router.errors import InputError
from reward_router.facts import tone
from reward_router.headline import (
    GOLD_FIGURE,
    GOLD_SAMPLED,
    MEASURED,
    headline_gold,
    headline_win_rate,
)
from reward_router.progress import LiteralTable, minutes, say, show_table
from reward_router.report import charts, judged, marks, page
from reward_router.report.curves import CURVES, Curve
from reward_router.report.frame import THIRD, colour, cut
from reward_router.report.gather import Evidence, read_evidence, thin, trailing
from reward_router.rundir import refuse_folder, write_atomically

Json = dict[str, Any]
GOLD_WORDS = {GOLD_SAMPLED: "under sampling", GOLD_FIGURE: "greedy"}


def compare(folders: Sequence[Path], out: Path, console: Console) -> Path:
    """Print the table, write the page, return its path.

    InputError for fewer than two runs, or a directory without one.
    """
    if len(folders) < 2:
        raise InputError("compare: give two runs or more; one is shown by `reward-router report`")
    refuse_folder(out, "--out")
    if not out.resolve().parent.is_dir():
        raise InputError(f"--out {out}: the folder {out.parent} does not exist")

    names = short_names(folders)
    evidence = [read_evidence(Path(folder)) for folder in folders]
    runs = dict(zip(names, evidence, strict=True))
    show_table(console, _terminal(runs))
    for warning in warnings(runs):
        say(console, f"warning: {warning}", "yellow")
    write_atomically(out, render(runs))
    return out


def short_names(folders: Sequence[Path]) -> list[str]:
    """Short names of directories, all different.

    A name is the last part of the path, or more of it where that is not enough.

    >>> short_names([Path("a/run"), Path("b/run"), Path("c/other")])
    ['a/run', 'b/run', 'c/other']
    """
    resolved = [Path(folder).resolve() for folder in folders]
    for n_parts in (1, 2, 3):
        short = ["/".join(folder.parts[-n_parts:]) for folder in resolved]
        all_different = len(set(short)) == len(short)
        if all_different:
            return short
    # Numbered: one directory may be given twice.
    return [f"{i + 1}: {folder}" for i, folder in enumerate(resolved)]


def warnings(runs: dict[str, Evidence]) -> list[str]:
    """What keeps the runs from being compared."""
    manifests = [evidence.summary.get("manifest") or {} for evidence in runs.values()]
    held_out = {str((manifest.get("data") or {}).get("held_out")) for manifest in manifests}
    policies = {str(manifest.get("policy")) for manifest in manifests}

    obstacles = []
    for what, seen in (("held-out prompts", held_out), ("policies", policies)):
        if len(seen) > 1:
            obstacles.append(f"the runs have different {what}: their gold does not compare")
    kinds = [_kind_of_gold(evidence.summary) for evidence in runs.values()]
    if len(set(kinds) - {""}) > 1:
        told = ", ".join(f"{name} {kind or '-'}" for name, kind in zip(runs, kinds, strict=True))
        obstacles.append(f"gold was measured in two ways ({told}), which do not compare")
    running = [name for name, evidence in runs.items() if evidence.running]
    if running:
        obstacles.append(f"not finished yet: {', '.join(running)}")
    return obstacles


def _kind_of_gold(summary: Json) -> str:
    """How the gold was measured that a run is judged by; empty where there is none."""
    kinds = [kind for kind in MEASURED if summary.get(kind)]
    return GOLD_WORDS[kinds[0]] if kinds else ""


def _row(e: Evidence) -> Json:
    s = e.summary
    gold = (headline_gold(s) or {}).get("all")
    return {
        "gold": gold,
        "win_rate": headline_win_rate(s),
        "tone": "" if e.running else tone(s),
        "router": f"{s['router']}, {s['unit']}",
        "payoff": str(s["payoff"]),
        "steps": int(s["steps"]),
        "calls": int(s["calls"]["made"]),
        "price": s["calls"].get("price"),
        "seconds": sum(v or 0.0 for v in s["seconds"].values()),
    }


def _terminal(runs: dict[str, Evidence]) -> LiteralTable:
    table = LiteralTable("gold of runs side by side", box=None, padding=(0, 2, 0, 0))
    # a run without gold is judged by an arm that took no part in it
    any_win_rate = any(headline_win_rate(e.summary) for e in runs.values())
    liked = ("liked better",) if any_win_rate else ()
    for column in ("run", "router", "before", "after", "pp", "95 %", *liked, "calls", "time"):
        table.column(column, justify="left" if column in ("run", "router") else "right")
    for name, e in runs.items():
        row = _row(e)
        gold = row["gold"]
        told = ["-"] * 4
        if gold:
            told = [
                page.percent(gold["before"]),
                page.percent(gold["after"]),
                page.points(gold["diff"]),
            ]
            told.append(page.interval(gold["ci95"]).replace(" to ", ".."))
        if any_win_rate:
            told.append(_won(row["win_rate"]))
        table.row(
            name, row["router"].split(",")[0], *told, f"{row['calls']:,}", minutes(row["seconds"])
        )
    return table


def _won(row: Json | None) -> str:
    """How often the arm of `eval.arm` likes the response after training better.

    The 95 % interval over prompts stands behind it.
    """
    if row is None:
        return "-"
    low, high = row["ci95"]
    known = low is not None and high is not None and not math.isnan(low)
    ends = f" [{100 * low:.0f}, {100 * high:.0f}]" if known else ""
    return f"{100 * row['rate']:.0f} %{ends}"


def render(runs: dict[str, Evidence]) -> str:
    """The page as HTML text."""
    lead = (
        "Each run's own figures; a difference between two runs is more than noise where their "
        "intervals of change lie apart."
    )
    warned = "".join(
        f'<div class="verdict worse"><b>{escape(w[0].upper() + w[1:])}.</b></div>'
        for w in warnings(runs)
    )
    body = [
        warned,
        "<h2>Gold, calls and time</h2>",
        _table(runs),
        "<h2>Training</h2>",
        _curves(runs),
    ]
    body += [
        "<h2>Who judged</h2>",
        _shares(runs),
        "<h2>What is set differently</h2>",
        _differences(runs),
    ]
    return page.page(f"{len(runs)} runs side by side", lead, body)


def _table(runs: dict[str, Evidence]) -> str:
    rows = {name: _row(e) for name, e in runs.items()}
    moves = []
    for row in rows.values():
        gold = row["gold"]
        if gold:
            moves += [abs(gold["diff"]), *map(abs, _ends(gold))]
    # All marks share one scale, so that runs can be compared by eye.
    reach = 1.05 * max([*moves, 0.05])
    scale = marks.Scale(-reach, reach, factor=100.0, zero=0.0)
    header = ["run", marks.head(scale, "change of gold, pp"), "change", "95 %", "before", "after"]
    any_win_rate = any(row["win_rate"] for row in rows.values())
    if any_win_rate:
        header.append("liked better after training, 95 %")
    header += ["router, unit", "payoff", "steps", "calls", "price", "seconds"]
    cells = []
    classes = []
    for i, (name, r) in enumerate(rows.items()):
        gold = r["gold"]
        told: list[str] = ["-"] * 5
        if gold:
            mark = marks.value(scale, gold["diff"], _ends(gold) or None, ink=colour(i), what=name)
            told = [mark, page.points(gold["diff"]), page.interval(gold["ci95"])]
            told += [page.percent(gold["before"]), page.percent(gold["after"])]
        if any_win_rate:
            told.append(_won(r["win_rate"]))
        price = "-" if r["price"] is None else f"{r['price']:,.4g}"
        more = [
            r["router"],
            r["payoff"],
            f"{r['steps']:,}",
            f"{r['calls']:,}",
            price,
            f"{r['seconds']:,.0f}",
        ]
        cells.append([marks.coloured_name(cut(name, 36), colour(i)), *told, *more])
        classes.append({"better": "best", "worse": "worse"}.get(r["tone"], ""))
    return page.table(header, cells, 1, classes, sortable=True)


def _ends(gold: Json) -> list[float]:
    return [float(v) for v in gold["ci95"] if v is not None and not math.isnan(v)]


def _curves(runs: dict[str, Evidence]) -> str:
    size = {"width": THIRD, "height": 160, "left": 52, "right": 10, "top": 8, "bottom": 36}
    drawn = []
    for curve in CURVES:
        series = {name: _smoothed(evidence, curve) for name, evidence in runs.items()}
        is_logged = any(x for x, _ in series.values())
        if is_logged:
            chart = charts.line(series, "training step", "", percent=curve.share, size=size)
            drawn.append(page.figure(curve.heading, curve.caption, chart))
    return page.grid(drawn, 3) or page.note("No step was logged.")


def _smoothed(evidence: Evidence, curve: Curve) -> charts.Series:
    """The steps of one run and its trailing means there; steps without a value are left out."""
    points = []
    for record in evidence.records:
        value = curve.value(record)
        if value is not None:
            points.append((record["step"] + 1, value))
    kept = thin(points)
    # Over an eighth of the points: less shows noise, more hides a turn.
    window = max(1, min(len(kept) // 8, 50))
    mean = trailing([float(y or 0.0) for _, y in kept], window)
    return [x for x, _ in kept], mean


def _shares(runs: dict[str, Evidence]) -> str:
    every_arm = chain.from_iterable(evidence.arms for evidence in runs.values())
    arms = list(dict.fromkeys(every_arm))
    values = [_shares_of(arm, runs) for arm in arms]
    what = (
        "Per cent of each run's decisions that an arm judged; an empty cell: "
        "the run does not have it."
    )
    shade = charts.Shade(0.0, 1.0, percent=True)
    chart = charts.heatmap(values, arms, list(runs), shade)
    return page.figure("", what, chart, "wide")


def _shares_of(arm: str, runs: dict[str, Evidence]) -> list[float | None]:
    """The share of each run's decisions that this arm judged; None in a run without it."""
    shares: list[float | None] = []
    for evidence in runs.values():
        there = arm in evidence.arms
        shares.append(judged.judged_share(evidence.summary, arm) if there else None)
    return shares


def _differences(runs: dict[str, Evidence]) -> str:
    """Keys of the configurations that are not alike, one column a run."""
    configs = [_flat(evidence.config) for evidence in runs.values()]
    every_key = dict.fromkeys(chain.from_iterable(configs))
    rows = []
    for key in every_key:
        values = {str(config.get(key)) for config in configs}
        if len(values) > 1:
            shown = [str(config.get(key, "-")) for config in configs]
            rows.append([key, *(cut(value, 40) for value in shown)])
    if not rows:
        return page.note("Nothing: the configurations are equal.")
    return page.table(["key", *runs], rows, 1 + len(runs))


def _flat(tree: Json, at: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{at}.{key}" if at else str(key)
        # An empty section is a value: it would vanish otherwise.
        if isinstance(value, dict) and value:
            flat |= _flat(value, name)
        else:
            flat[name] = value
    return flat
