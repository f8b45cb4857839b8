"""The terminal's table of a replay.

It shows accuracy with interval, what it costs, and whether it differs from the best single arm.
"""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console

from reward_router.progress import LiteralTable, literal, say, show_table
from reward_router.replay.verdict import next_commands, next_lead, signed

Json = dict[str, Any]
_ARMS_SHOWN = 8
_WIDE = 132
_NAME = 14  # a name is cut to no less than this
_ORDER = {"arm": 0, "one call": 1, "online": 2, "committee": 3, "K calls": 4, "bound": 5}


def show_file(result: Json, console: Console, by_category: bool = False) -> None:
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
    first, *others = result["verdict"]["sentences"]
    say(console, f"Verdict: {first}")
    for sentence in others:
        say(console, sentence)
    if result["verdict"]["named"]:
        say(console, f"Named beforehand: {', '.join(result['verdict']['named'])}.", wrap=False)
    say(console, next_lead(result))
    for command in next_commands(result):
        say(console, f"  {command}", wrap=False)
    console.line()


def _header(result: Json) -> str:
    features = result["features"]
    encoder = f" ({features['encoder']})" if features["encoder"] else ""
    missing = len(result["missing"])
    some_missing = f" ({missing} of them missing on some rows)" if missing else ""
    parts = [
        f"{result['name']}: {result['rows']} rows, {result['prompts']} prompts, "
        f"{len(result['arms'])} arms{some_missing}",
        f"some arm right on {result['some_right_rows']}",
        f"features {'+'.join(features['blocks'])}{encoder}",
    ]
    if result["broken_rows"]:
        parts.append(f"{result['broken_rows']} broken rows left out")
    if result["identical_rows"]:
        parts.append(f"{result['identical_rows']} rows of identical responses left out")
    if result["tied_rows"]:
        parts.append(f"{result['tied_rows']} rows whose label is a tie left out")
    if "trained_on" in result:
        sources = ", ".join(result["trained_on"])
        parts.append(f"learned on {result['training_rows']} rows of {sources}")
    header = "; ".join(parts)
    if result.get("shared_rows"):
        header += f", {result['shared_rows']} more left out: their prompts are judged here"
    return header


_VERSUS = "vs best single [95 %]"
_LEGEND = (
    "* best arm in hindsight. vs best single: in points; inside: its interval holds zero, so no "
    "difference is shown. some right: on the rows where some arm is right, which flatters "
    "everybody. calls: a row. docs/replay.md says what each method does."
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


def _gain(difference: Json) -> str:
    low, high = difference["ci95"]
    inside = " inside" if difference["inside"] else ""
    return f"{signed(difference['diff']):>5} [{signed(low)} {signed(high)}]{inside}"


def _main_table(result: Json, width: int) -> LiteralTable:
    """Every column where the terminal is wide enough, else those that matter most.

    Names are cut in the middle, numbers never.
    """
    rows = list(_rows(result))
    priced = any(abs(entry["cost_per_row"] - entry["calls_per_row"]) > 1e-6 for _, entry in rows)
    columns = list(_COLUMNS)
    if width < _WIDE:
        less_needed = ("kind", "95 %", "cost", "regret")
        columns = [column for column in columns if column not in less_needed]
        # Where calls have prices of their own, the number of calls does not say what was paid.
        if priced:
            columns.insert(-1, "cost")

    cells: dict[str, list[str]] = {}
    for column in columns:
        text_of = _COLUMNS[column]
        cells[column] = [text_of(entry) for _, entry in rows]
    names = []
    for label, _ in rows:
        is_best = label == result["best_single"]
        names.append(f"{label} *" if is_best else label)
    return _table(names, cells, width, {"kind", _VERSUS})


def _table(
    names: Sequence[str], cells: Mapping[str, Sequence[str]], width: int, left: Container[str] = ()
) -> LiteralTable:
    """Names (escaped, cut to the room that is left) and columns of text that are never cut."""
    table = LiteralTable(box=None, pad_edge=False, header_style="bold")
    widths = {}
    for name, column in cells.items():
        widths[name] = max(map(len, (name, *column)))
    # Two blanks part the columns; what is left is the names' room.
    taken = sum(2 + column_width for column_width in widths.values())
    room = max(_NAME, width - taken)

    table.column("", no_wrap=True)
    for name, least in widths.items():
        justify = "left" if name in left else "right"
        table.column(name, justify=justify, no_wrap=True, min_width=least)
    for row, name in enumerate(names):
        values = [column[row] for column in cells.values()]
        table.row(middle(name, room), *values)
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
    names = [name for name, _ in methods]
    entries = [entry for _, entry in methods]
    n_sources = len(result["files"])
    cells = {
        "accuracy": [_percent(e["accuracy"]) for e in entries],
        "calls": [f"{e['calls']:.2f}" for e in entries],
        "gain": [signed(e["mean"]) for e in entries],
        "worst": [signed(e["worst"]) for e in entries],
        "on": [middle(e["worst_source"], 24) for e in entries],
        "above 0": [f"{e['better']} of {n_sources}" for e in entries],
    }
    table = _table(names, cells, console.width, {"on"})
    table.title = literal(
        "each source left out in turn: points over the best arm of the other sources", "italic"
    )
    show_table(console, table)


def _rows(result: Json) -> Iterator[tuple[str, Json]]:
    """Arms by accuracy (the first eight), then the methods by kind and accuracy."""

    def place(item: tuple[str, Json]) -> tuple[int, float]:
        return _ORDER[item[1]["kind"]], -item[1]["accuracy"]

    entries = sorted(result["routers"].items(), key=place)
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


def _category_table(result: Json, width: int) -> LiteralTable:
    """A line a category, largest first, with its best arm.

    Every method has a column where they fit beside each other, else the ones to know.
    """
    largest_first = sorted(result["by"].items(), key=lambda item: -item[1]["rows"])
    parts = dict(largest_first)
    verdict = result["verdict"]
    methods = [name for name, entry in _rows(result) if entry["kind"] != "arm"]
    recommended = (verdict["best_router"], verdict["best_committee"])
    to_know = [name for name in recommended if name is not None]

    cells = _category_cells(result, parts, methods)
    # Beside the columns stand the categories' names and the best arm.
    needed = sum(2 + len(title) for title in cells) + _NAME + 24
    if needed > width:
        cells = _category_cells(result, parts, to_know)
    arms = result["arms"]
    cells["best arm here"] = [_best_arm(part["accuracy"], arms) for part in parts.values()]

    table = _table(list(parts), cells, width)
    table.title = literal("by category, accuracy in %", "italic")
    return table


def _category_cells(result: Json, parts: Json, methods: Sequence[str]) -> dict[str, list[str]]:
    """Rows of each category, and accuracies of the best single arm and of ``methods``."""
    titles = {result["best_single"]: "best single"}
    for method in methods:
        titles[method] = middle(method, 18)

    cells = {"rows": [str(part["rows"]) for part in parts.values()]}
    for label, title in titles.items():
        cells[title] = [_percent(part["accuracy"][label]) for part in parts.values()]
    return cells


def _best_arm(accuracy: Mapping[str, float], arms: Sequence[str]) -> str:
    best = max(arms, key=lambda arm: accuracy[arm])
    return f"{middle(best, 15)} {_percent(accuracy[best])}"


def _official_table(result: Json, width: int) -> LiteralTable:
    official = result["official"]
    subsets = sorted(set().union(*official.values()))
    cells = {}
    for subset in subsets:
        cells[subset] = [_percent(scores.get(subset)) for scores in official.values()]
    table = _table(list(official), cells, width)
    table.title = literal("the benchmark's own metric, in %", "italic")
    return table


_METHODS = {"dr": "DR 95 %", "snips": "SNIPS 95 %", "cs": "IPS, always valid"}


def show_values(values: Json, console: Console) -> None:
    """Print a ledger's off-policy values, or why there are none."""
    if "refused" in values:
        say(console, f"{values['name']}, off-policy: {values['refused']}", wrap=False)
        console.line()
        return
    say(
        console,
        f"{values['name']}: mean payoff ({values['payoff']}) of other routers, frozen, "
        f"over the {values['decisions']} logged contexts",
        wrap=False,
    )
    names = list(values["targets"])
    targets = list(values["targets"].values())
    wide = console.width >= _WIDE
    cells: dict[str, list[str]] = {}
    for method, title in _METHODS.items():
        if wide or method != "snips":
            cells[title] = [_estimate(target[method]) for target in targets]
    cells["ESS"] = [f"{t['ess']:.0f}{' few' if t['ess'] < 100 else '    '}" for t in targets]
    if wide:
        cells["rows"] = [str(target["rows"]) for target in targets]
    cells["left out"] = [str(target["left_out"]) for target in targets]
    show_table(console, _table(names, cells, console.width))
    if "no_rows" in values:
        say(console, f"No replay of its audits: {values['no_rows']}", wrap=False)
        console.line()


def _estimate(entry: Json) -> str:
    low, high = entry["ci95"]
    return f"{entry['value']:.3f} {low:.3f}-{high:.3f}"
