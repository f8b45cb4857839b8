"""The terminal's table: accuracy with interval, what it costs, and whether it differs from the best single arm."""

from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

Json = dict[str, Any]
_ARMS_SHOWN = 8
_WIDE = 130
_ORDER = {"arm": 0, "one call": 1, "online": 2, "committee": 3, "K calls": 4, "bound": 5}


def show(result: Json, console: Console, by_category: bool = False) -> None:
    """Print one file: header, table, verdict; a table by category on request."""
    console.print(_header(result), highlight=False, soft_wrap=True)
    for problem in result["problems"]:
        console.print(f"  left out: {problem}", highlight=False, soft_wrap=True, markup=False)
    console.print(_main_table(result, console.width))
    if by_category:
        console.print(_category_table(result))
    if result["official"]:
        console.print(_official_table(result))
    console.print(f"Verdict: {result['verdict']['text']}\n", highlight=False, soft_wrap=True, markup=False)


def _header(result: Json) -> str:
    encoder = f" ({result['features']['encoder']})" if result["features"]["encoder"] else ""
    missing = f" ({len(result['missing'])} of them missing on some rows)" if result["missing"] else ""
    return (
        f"[bold]{result['name']}[/bold]: {result['rows']} rows, {result['prompts']} prompts, {len(result['arms'])} arms{missing}; "
        f"some arm right on {result['some_right_rows']}; features {'+'.join(result['features']['blocks'])}{encoder}"
        + (f"; [bold]{result['broken_rows']} broken rows left out[/bold]" if result["broken_rows"] else "")
    )


_COLUMNS: dict[str, Callable[[Json], str]] = {
    "kind": lambda e: str(e["kind"]),
    "accuracy": lambda e: f"{100 * e['accuracy']:.1f}",
    "95 %": lambda e: f"{100 * e['ci95'][0]:.1f}-{100 * e['ci95'][1]:.1f}",
    "where some right": lambda e: _percent(e["accuracy_some_right"]),
    "calls": lambda e: f"{e['calls_per_row']:.2f}",
    "cost": lambda e: f"{e['cost_per_row']:.3g}",
    "vs best single": lambda e: (
        f"{100 * e['vs_best_single']['diff']:+.1f}{' (inside)' if e['vs_best_single']['inside'] else ''}"
    ),
    "its 95 %": lambda e: "{:+.1f} {:+.1f}".format(*(100 * x for x in e["vs_best_single"]["ci95"])),
    "regret": lambda e: f"{e['regret']:.0f}",
}
_NARROW = ("accuracy", "calls", "vs best single", "its 95 %")


def _main_table(result: Json, width: int) -> Table:
    """Every column where the terminal is wide enough, the four that matter where it is not."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    shown = _COLUMNS if width >= _WIDE else {name: _COLUMNS[name] for name in _NARROW}
    table.add_column("router", no_wrap=True)
    for name in shown:
        table.add_column(name, justify="left" if name == "kind" else "right", no_wrap=True)
    for label, entry in _rows(result):
        table.add_row(
            label + (" *" if label == result["best_single"] else ""), *(cell(entry) for cell in shown.values())
        )
    table.caption = f"* best in hindsight; (inside): the difference lies inside its interval. {_hidden(result)}"
    return table


def _rows(result: Json) -> Iterator[tuple[str, Json]]:
    """Arms by accuracy (the first eight), then the methods by kind and accuracy."""
    entries = sorted(result["routers"].items(), key=lambda item: (_ORDER[item[1]["kind"]], -item[1]["accuracy"]))
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


def _category_table(result: Json) -> Table:
    labels = [label for label, entry in _rows(result) if entry["kind"] != "arm" or label == result["best_single"]]
    table = Table(
        box=None, pad_edge=False, header_style="bold", title="by category, accuracy in %", title_justify="left"
    )
    table.add_column("router", no_wrap=True)
    for category, part in result["by"].items():
        table.add_column(f"{category} ({part['rows']})", justify="right")
    for label in labels:
        table.add_row(label, *(f"{100 * part['accuracy'][label]:.1f}" for part in result["by"].values()))
    return table


def _official_table(result: Json) -> Table:
    subsets = sorted({s for scores in result["official"].values() for s in scores})
    table = Table(
        box=None, pad_edge=False, header_style="bold", title="the benchmark's own metric, in %", title_justify="left"
    )
    table.add_column("arm", no_wrap=True)
    for subset in subsets:
        table.add_column(subset, justify="right")
    for arm, scores in result["official"].items():
        table.add_row(arm, *(_percent(scores.get(subset)) for subset in subsets))
    return table


def show_values(found: Json, console: Console) -> None:
    """Print a ledger's off-policy values, or why there are none."""
    if "refused" in found:
        console.print(
            f"{found['name']}, off-policy: {found['refused']}\n", highlight=False, soft_wrap=True, markup=False
        )
        return
    title = f"{found['name']}: mean payoff ({found['payoff']}) of other routers over the {found['decisions']} logged contexts"
    table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    table.add_column("target, frozen", no_wrap=True)
    for name in ("DR", "95 %", "SNIPS", "95 %", "always valid", "ESS", "rows", "left out"):
        table.add_column(name, justify="right", no_wrap=True)
    for target, v in found["targets"].items():
        cells = [c for m in ("dr", "snips") for c in (f"{v[m]['value']:.3f}", _interval(v[m]["ci95"]))]
        weak = " (few)" if v["ess"] < 100 else ""
        table.add_row(
            target, *cells, _interval(v["cs"]["ci95"]), f"{v['ess']:.0f}{weak}", str(v["rows"]), str(v["left_out"])
        )
    console.print(table)
    if "no_rows" in found:
        console.print(f"No replay of its audits: {found['no_rows']}\n", highlight=False, soft_wrap=True, markup=False)


def _interval(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.3f}-{pair[1]:.3f}"
