"""An experiment as one HTML report, one Markdown table, and a table on the terminal.

What was measured here and what a paper published stand in tables of their own, each with the name
of whose figures they are, and are never mixed.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from reward_router.experiments.kind import ExperimentKind, Part, Plan, Published, Request
from reward_router.experiments.results import AVERAGE, Figure, Results, RowResult
from reward_router.progress import LiteralTable
from reward_router.report import charts
from reward_router.report import page as html_page
from reward_router.report.page import MINUS


@dataclass(frozen=True)
class Shown:
    """All that a page is made of."""

    kind: ExperimentKind
    request: Request
    plan: Plan
    results: Results

    @property
    def parts(self) -> list[Part]:
        """The experiment's own sections; none while nothing was measured."""
        if self.plan.parts is None or not self.results.rows:
            return []
        return self.plan.parts(self.results)

    @property
    def deviations(self) -> list[str]:
        """Where this differs from the paper, in the order of their numbers."""
        return [*self.kind.deviations, *self.plan.deviations]


def state(shown: Shown) -> list[str]:
    """What is not in the table: variants that failed, and runs that are not done."""
    results = shown.results
    lines = []
    if results.failed:
        runs = "run" if len(results.failed) == 1 else "runs"
        lines.append(f"{len(results.failed)} {runs} failed:")
        lines += [f"  {name}, seed {seed}: {why}" for (name, seed), why in results.failed.items()]
    if results.missing:
        runs = "run is" if len(results.missing) == 1 else "runs are"
        names = ", ".join(dict.fromkeys(name for name, _ in results.missing))
        lines.append(
            f"{len(results.missing)} {runs} not done yet ({names}); the table has the others. "
            "--resume goes on."
        )
    return lines


# Cells


def _header(shown: Shown) -> list[str]:
    header = ["variant", *(f"{column} [95 %]" for column in shown.results.columns)]
    if _has_versus(shown):
        header.append("difference [95 %]")
        if isinstance(shown.plan.reference, str):
            header[-1] = f"less {shown.plan.reference} [95 %]"
    if _has_calls(shown):
        header.append("calls")
    return [*header, "seeds"]


def _has_versus(shown: Shown) -> bool:
    return any(row.versus is not None for row in shown.results.rows.values())


def _has_calls(shown: Shown) -> bool:
    return any(row.calls is not None for row in shown.results.rows.values())


def _cells(shown: Shown, name: str, row: RowResult) -> list[str]:
    percent = shown.plan.percent
    cells = [name]
    cells += [figure_text(row.figures.get(column), percent) for column in shown.results.columns]
    if _has_versus(shown):
        cells.append(figure_text(row.versus, percent, signed=True))
    if _has_calls(shown):
        cells.append("-" if row.calls is None else _calls_text(row.calls))
    return [*cells, str(row.seeds)]


def _calls_text(calls: float) -> str:
    return f"{calls:,.0f}" if calls >= 100 else f"{calls:.2f}"


def figure_text(figure: Figure | None, percent: bool, signed: bool = False) -> str:
    """A figure with its interval, in per cent (a difference in points) or as it is.

    >>> half, fallen = Figure(0.5, 0.25, 0.75), Figure(-0.01, -0.02, 0.0)
    >>> figure_text(half, True), figure_text(fallen, True, True)
    ('50.0 [25.0, 75.0]', '\u22121.0 [\u22122.0, +0.0]')
    """
    if figure is None:
        return "-"
    numbers = [number_text(x, percent, signed) for x in (figure.mean, figure.low, figure.high)]
    return f"{numbers[0]} [{numbers[1]}, {numbers[2]}]"


def number_text(value: float, percent: bool, signed: bool = False) -> str:
    """One number of a table."""
    sign = "+" if signed else ""
    text = f"{100 * value:{sign}.1f}" if percent else f"{value:{sign}.3f}"
    # A difference that is rounded to nothing has no sign of its own.
    text = text.replace("-0.0", "+0.0" if signed else "0.0") if float(text) == 0 else text
    return text.replace("-", MINUS)


# The terminal


def terminal(shown: Shown, width: int) -> LiteralTable:
    """The main table; means alone where intervals have no room, for the page has them."""
    header = _header(shown)
    rows = _rows(shown)
    widest = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    is_wide = sum(widest) + 2 * len(widest) > width
    if is_wide:
        header = [column.removesuffix(" [95 %]") for column in header]
        rows = [[row[0], *(cell.partition(" [")[0] for cell in row[1:])] for row in rows]
    table = LiteralTable(f"{shown.kind.name}: {shown.plan.subject}", box=None, pad_edge=False)
    for j, column in enumerate(header):
        table.column(column, justify="right" if j else "left", no_wrap=not is_wide)
    for row in rows:
        table.row(*row)
    return table


# Markdown


WIDTH = 100
"""Columns of Markdown prose; tables are as wide as they are."""


def markdown(shown: Shown) -> str:
    """The page as Markdown, ready for a repository's docs."""
    kind = shown.kind
    lines = [f"# Experiment {kind.name}", ""]
    lines += _prose(f"{_sentence(kind.sentence)} From {kind.paper}. {command(shown)}")
    lines += ["## Measured", "", *_prose(_sentence(shown.plan.subject))]
    lines += _prose(f"{shown.plan.metric} {_intervals(shown)}")
    lines += [*_markdown_table(_header(shown), _rows(shown)), ""]
    for line in (*state(shown), *shown.plan.notes):
        lines += _prose(line.strip())
    for part in shown.parts:
        # A drawing without a table has no form in Markdown.
        if not part.rows:
            continue
        lines += [f"## {part.title}", "", *_prose(part.caption)]
        lines += [*_markdown_table(part.header, part.rows), ""]
    lines += _markdown_published(kind.published)
    lines += ["## Deviations from the paper", "", *_numbered(shown.deviations), ""]
    lines += ["## Settings that the paper does not give", "", *_numbered(kind.unknown), ""]
    return "\n".join(lines)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _prose(text: str) -> list[str]:
    """A paragraph, and the empty line behind it."""
    wrapped = textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)
    return [*wrapped, ""]


def _rows(shown: Shown) -> list[list[str]]:
    return [_cells(shown, name, row) for name, row in shown.results.rows.items()]


def command(shown: Shown) -> str:
    """The command that makes the page again."""
    request = shown.request
    words = ["reward-router experiment", shown.kind.name]
    words += [f"--profile {request.profile}"] if request.profile != "laptop" else []
    words += [f"--seeds {max(shown.plan.seeds, shown.plan.runs)}"]
    words += [f"--scores {name}" for name in request.scores]
    words += [f"--responses {request.responses}"] if request.responses else []
    words += [f"--config {request.config}"] if request.config else []
    words += [f"--set '{setting}'" for setting in request.settings]
    return f"`{' '.join(words)}`"


def _intervals(shown: Shown) -> str:
    text = "Intervals are 95 %, over seeds and prompts together."
    if isinstance(shown.plan.reference, str) and shown.plan.reference:
        text += f" Differences are to {shown.plan.reference}, prompt by prompt."
    return text


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(map(_plain, header))} |"]
    lines.append(f"|{'|'.join(['---', *['---:'] * (len(header) - 1)])}|")
    lines += [f"| {' | '.join(map(_plain, row))} |" for row in rows]
    return lines


def _plain(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def _markdown_published(tables: Sequence[Published]) -> list[str]:
    lines = []
    for table in tables:
        lines += [f"## {table.setting[:1].upper()}{table.setting[1:]}", ""]
        lines += _prose(f"{table.source}. {table.note}".strip())
        if table.rows:
            lines += [*_markdown_table(table.header, table.rows), ""]
    return lines


def _numbered(texts: Sequence[str]) -> list[str]:
    lines = []
    for number, text in enumerate(texts, 1):
        start = f"{number}. "
        wrapped = textwrap.wrap(
            start + text,
            WIDTH,
            subsequent_indent=" " * len(start),
            break_long_words=False,
            break_on_hyphens=False,
        )
        lines += wrapped
    return lines or ["None is known."]


# HTML


def html(shown: Shown) -> str:
    """The report as one self-contained page."""
    kind = shown.kind
    body = [
        _failures(shown),
        f"<h2>Measured: {escape(shown.plan.subject)}</h2>",
        html_page.note(f"{shown.plan.metric} {_intervals(shown)}"),
        _bars(shown),
        _html_table(shown),
    ]
    body += [html_page.note(text) for text in shown.plan.notes]
    body += [_html_part(part) for part in shown.parts]
    body += [_html_published(table) for table in kind.published]
    body.append(_html_list("Deviations from the paper", shown.deviations))
    body.append(_html_list("Settings that the paper does not give", kind.unknown))
    body.append(f"<h2>Again</h2><pre>{escape(command(shown).strip('`'))}</pre>")
    title = f"Experiment {kind.name}"
    lead = f"{kind.sentence}."
    return html_page.page(title, lead[:1].upper() + lead[1:], body, f"From {kind.paper}")


def _failures(shown: Shown) -> str:
    lines = state(shown)
    if not lines:
        return ""
    return html_page.verdict(
        lines[0], [line.strip() for line in lines[1:]], "worse", {"worse": "!"}
    )


def _html_table(shown: Shown) -> str:
    classes = []
    for row in shown.results.rows.values():
        versus = row.versus
        tone = "" if versus is None else "dim"
        if versus is not None and versus.is_clear:
            tone = "best" if versus.mean > 0 else "worse"
        classes.append(tone)
    table = html_page.table(_header(shown), _rows(shown), 1, classes, sortable=True)
    if not _has_versus(shown):
        return table
    return table + html_page.note(
        "Green: better than what it is compared with beyond the interval of the difference, "
        "orange: worse; grey: the interval holds zero."
    )


def _bars(shown: Shown) -> str:
    """Bars of the first column (the average where there is one), for tables without a drawing."""
    results = shown.results
    if any(part.drawing for part in shown.parts) or not results.columns:
        return ""
    column = AVERAGE if AVERAGE in results.columns else results.columns[0]
    values = {}
    ends = {}
    for name, row in results.rows.items():
        figure = row.figures.get(column)
        if figure is not None:
            values[name] = figure.mean
            ends[name] = (figure.low, figure.high)
    if len(values) < 2:
        return ""
    drawn = charts.bars(values, column, ends, percent=shown.plan.percent)
    return html_page.figure("", f"{column}, with 95 % intervals", drawn, "half")


def _html_part(part: Part) -> str:
    kind = "wide" if part.wide else "half"
    drawn = html_page.figure("", part.caption, part.drawing, kind)
    text = "" if part.drawing else html_page.note(part.caption)
    table = html_page.table(part.header, part.rows, 1, sortable=True) if part.rows else ""
    if part.drawing and table:
        table = html_page.folded("The same as a table", table)
    return f"<h2>{escape(part.title)}</h2>{drawn}{text}{table}"


def _html_published(table: Published) -> str:
    head = f"<h2>{escape(table.setting[:1].upper() + table.setting[1:])}</h2>"
    note = html_page.note(f"{table.source}. {table.note}".strip())
    drawn = html_page.table(table.header, table.rows, 1, sortable=True) if table.rows else ""
    return head + note + drawn


def _html_list(title: str, texts: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    shown = f"<ol>{items}</ol>" if texts else "<p>None is known.</p>"
    return f"<h2>{escape(title)}</h2>{shown}"
