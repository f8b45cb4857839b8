"""The terminal's table: accuracy with interval, what it costs, and whether it differs from the best single arm."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console

from reward_router.progress import Table, literal, say, show_table

Json = dict[str, Any]
_ARMS_SHOWN = 8
_WIDE = 132
_NAME = 14  # a name is cut to no less than this
_ORDER = {"arm": 0, "one call": 1, "online": 2, "committee": 3, "K calls": 4, "bound": 5}


def show(result: Json, console: Console, by_category: bool = False) -> None:
    """Print one file: header, table, verdict; a table by category on request."""
    say(console, _header(result), wrap=False)
    for problem in result["problems"]:
        say(console, f"  left out: {problem}", wrap=False)
    show_table(console, _main_table(result, console.width))
    say(console, f"{_LEGEND} {_hidden(result)}")
    if by_category:
        show_table(console, _category_table(result, console.width))
    if result["official"]:
        show_table(console, _official_table(result, console.width))
    if result.get("lengths") and result["lengths"]["text"]:
        say(console, f"Lengths: {result['lengths']['text']}", wrap=False)
    say(console, f"Verdict: {result['verdict']['text']}", wrap=False)
    if result["verdict"]["named"]:
        say(console, f"Named beforehand: {', '.join(result['verdict']['named'])}.", wrap=False)
    console.line()


def _header(result: Json) -> str:
    encoder = f" ({result['features']['encoder']})" if result["features"]["encoder"] else ""
    missing = (
        f" ({len(result['missing'])} of them missing on some rows)" if result["missing"] else ""
    )
    return (
        f"{result['name']}: {result['rows']} rows, {result['prompts']} prompts, {len(result['arms'])} arms{missing}; "
        f"some arm right on {result['some_right_rows']}; features {'+'.join(result['features']['blocks'])}{encoder}"
        + (f"; {result['broken_rows']} broken rows left out" if result["broken_rows"] else "")
        + (
            f"; {result['identical_rows']} rows of identical responses left out"
            if result["identical_rows"]
            else ""
        )
        + (
            f"; {result['tied_rows']} rows whose label is a tie left out"
            if result["tied_rows"]
            else ""
        )
        + (
            f"; learned on {result['training_rows']} rows of {', '.join(result['trained_on'])}"
            if "trained_on" in result
            else ""
        )
        + (
            f", {result['shared_rows']} more left out: their prompts are judged here"
            if result.get("shared_rows")
            else ""
        )
    )


_VERSUS = "vs best single [95 %]"
_LEGEND = (
    "* best arm in hindsight. vs best single: in points; inside: its interval holds zero. "
    "some right: on the rows where some arm is right, which flatters everybody."
)
_COLUMNS: dict[str, Callable[[Json], str]] = {
    "kind": lambda e: str(e["kind"]),
    "accuracy": lambda e: _percent(e["accuracy"]),
    "95 %": lambda e: f"{_percent(e['ci95'][0])}-{_percent(e['ci95'][1])}",
    "some right": lambda e: _percent(e["accuracy_some_right"]),
    "calls": lambda e: f"{e['calls_per_row']:.2f}",
    "cost": lambda e: f"{e['cost_per_row']:.3g}",
    _VERSUS: lambda e: _gain(e["vs_best_single"]),
    "regret": lambda e: f"{e['regret']:.0f}",
}


def _gain(found: Json) -> str:
    low, high = found["ci95"]
    inside = " inside" if found["inside"] else ""
    return f"{100 * found['diff']:+5.1f} [{100 * low:+.1f} {100 * high:+.1f}]{inside}"


def _main_table(result: Json, width: int) -> Table:
    """Every column where the terminal is wide enough; else those that matter most, and names cut in the middle, never numbers."""
    entries = list(_rows(result))
    priced = any(abs(e["cost_per_row"] - e["calls_per_row"]) > 1e-6 for _, e in entries)
    shown = [
        name
        for name in _COLUMNS
        if width >= _WIDE or name not in ("kind", "95 %", "cost", "regret")
    ]
    shown = shown if width >= _WIDE or not priced else [*shown[:-1], "cost", shown[-1]]
    cells = {name: [_COLUMNS[name](e) for _, e in entries] for name in shown}
    names = [label + (" *" if label == result["best_single"] else "") for label, _ in entries]
    return _table(names, cells, width, {"kind", _VERSUS})


def _table(
    names: Sequence[str], cells: Mapping[str, Sequence[str]], width: int, left: Container[str] = ()
) -> Table:
    """Names (escaped, cut to the room that is left) and columns of text that are never cut."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    taken = sum(2 + max(map(len, (name, *column))) for name, column in cells.items())
    room = max(_NAME, width - taken)
    table.column("", no_wrap=True)
    for name, column in cells.items():
        least = max(map(len, (name, *column)))
        table.column(
            name, justify="left" if name in left else "right", no_wrap=True, min_width=least
        )
    for row, name in enumerate(names):
        table.row(middle(name, room), *(column[row] for column in cells.values()))
    return table


def middle(name: str, room: int) -> str:
    """A name shortened in its middle: names of arms differ at either end.

    >>> middle("rubric:Qwen3-8B|rubric=Qwen3-8B", 19)
    'rubric:Qw…=Qwen3-8B'
    """
    if len(name) <= room:
        return name
    back = room // 2
    return f"{name[: room - 1 - back]}…{name[len(name) - back :]}"


def show_sources(result: Json, console: Console) -> None:
    """Print what each method gains on sources that it never saw, the steadiest first."""
    methods = sorted(result["by_source"].items(), key=lambda item: -item[1]["mean"])
    found = [entry for _, entry in methods]
    cells = {
        "accuracy": [_percent(e["accuracy"]) for e in found],
        "calls": [f"{e['calls']:.2f}" for e in found],
        "gain": [f"{100 * e['mean']:+.1f}" for e in found],
        "worst": [f"{100 * e['worst']:+.1f}" for e in found],
        "on": [middle(e["worst_source"], 24) for e in found],
        "above 0": [f"{e['better']} of {len(result['files'])}" for e in found],
    }
    table = _table([name for name, _ in methods], cells, console.width, {"on"})
    table.title = literal(
        "each source left out in turn: points over the best arm of the other sources", "italic"
    )
    show_table(console, table)


def _rows(result: Json) -> Iterator[tuple[str, Json]]:
    """Arms by accuracy (the first eight), then the methods by kind and accuracy."""
    entries = sorted(
        result["routers"].items(), key=lambda item: (_ORDER[item[1]["kind"]], -item[1]["accuracy"])
    )
    shown = 0
    for label, entry in entries:
        if entry["kind"] == "arm":
            shown += 1
            if shown > _ARMS_SHOWN:
                continue
        yield label, entry


def _hidden(result: Json) -> str:
    hidden = len(result["arms"]) - _ARMS_SHOWN
    return f"{hidden} weaker arms are not shown (all are in --json)." if hidden > 0 else ""


def _percent(x: float | None) -> str:
    return "-" if x is None else f"{100 * x:.1f}"


def _category_table(result: Json, width: int) -> Table:
    """A line a category, largest first: its best arm, and every method where they fit beside each other, else the ones to know."""
    parts = dict(sorted(result["by"].items(), key=lambda item: -item[1]["rows"]))
    verdict = result["verdict"]
    methods = [m for m, e in _rows(result) if e["kind"] != "arm"]
    known = [
        m
        for m in dict.fromkeys((verdict["best_router"], verdict["best_committee"]))
        if m is not None
    ]
    for wanted in (methods, known):
        cells = {"rows": [str(p["rows"]) for p in parts.values()]}
        for label, title in {
            result["best_single"]: "best single",
            **{m: middle(m, 18) for m in wanted},
        }.items():
            cells[title] = [_percent(p["accuracy"][label]) for p in parts.values()]
        if sum(2 + len(title) for title in cells) + _NAME + 24 <= width:
            break
    cells["best arm here"] = [_best_arm(p["accuracy"], result["arms"]) for p in parts.values()]
    table = _table(list(parts), cells, width)
    table.title = literal("by category, accuracy in %", "italic")
    return table


def _best_arm(accuracy: Mapping[str, float], arms: Sequence[str]) -> str:
    best = max(arms, key=lambda arm: accuracy[arm])
    return f"{middle(best, 15)} {_percent(accuracy[best])}"


def _official_table(result: Json, width: int) -> Table:
    subsets = sorted({s for scores in result["official"].values() for s in scores})
    cells = {
        s: [_percent(scores.get(s)) for scores in result["official"].values()] for s in subsets
    }
    table = _table(list(result["official"]), cells, width)
    table.title = literal("the benchmark's own metric, in %", "italic")
    return table


_METHODS = {"dr": "DR 95 %", "snips": "SNIPS 95 %", "cs": "IPS, always valid"}


def show_values(found: Json, console: Console) -> None:
    """Print a ledger's off-policy values, or why there are none."""
    if "refused" in found:
        say(console, f"{found['name']}, off-policy: {found['refused']}", wrap=False)
        console.line()
        return
    say(
        console,
        f"{found['name']}: mean payoff ({found['payoff']}) of other routers, frozen, over the {found['decisions']} logged contexts",
        wrap=False,
    )
    targets = found["targets"]
    cells: dict[str, list[str]] = {}
    for method, title in _METHODS.items():
        if console.width >= _WIDE or method != "snips":
            cells[title] = [
                f"{v[method]['value']:.3f} {_interval(v[method]['ci95'])}" for v in targets.values()
            ]
    cells["ESS"] = [
        f"{v['ess']:.0f}{' few' if v['ess'] < 100 else '    '}" for v in targets.values()
    ]
    if console.width >= _WIDE:
        cells["rows"] = [str(v["rows"]) for v in targets.values()]
    cells["left out"] = [str(v["left_out"]) for v in targets.values()]
    show_table(console, _table(list(targets), cells, console.width))
    if "no_rows" in found:
        say(console, f"No replay of its audits: {found['no_rows']}", wrap=False)
        console.line()


def _interval(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.3f}-{pair[1]:.3f}"
