"""Charts as SVG text: line, share over time, heat map, scatter with intervals, bars.

Pure functions, no library, no script. Colours are those of page.css (Okabe and Ito's, then Tol's,
told apart by every common kind of colour vision), and never alone: lines change their dash pattern,
bands carry their letter, points their shape. Every mark carries a ``<title>``, which browsers show
on hover. Text is escaped here, once.
"""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import chain, pairwise

from reward_router.report.frame import (
    COLOURS,
    FAINT,
    INK,
    PALE,
    PAPER,
    Frame,
    Number,
    axes,
    axis_title,
    band,
    colour,
    cut,
    frame_around,
    known,
    number_text,
    svg,
)

Series = tuple[Sequence[Number], Sequence[Number]]
"""The x and the y of the points of a line."""
Spot = tuple[float, float]
"""A place in pixels."""
PATTERNS = ("", "7 3", "2 3", "9 3 2 3", "4 2", "12 4")
SHAPES = "odsuvx"
"""Marks of a scatter's groups: disc, diamond, square, triangle up, triangle down, cross."""
LABELLED = 14
"""Points of one place that have a label at most."""
FEW_STEPS = 40
"""Up to so many steps, shares are drawn as one bar a step; beyond them as areas."""


def line(
    series: Mapping[str, Series],
    x_label: str,
    y_label: str,
    bands: Mapping[str, tuple[Sequence[Number], Sequence[Number]]] | None = None,
    percent: bool = False,
    size: Mapping[str, int] | None = None,
) -> str:
    """Lines over a common x. NaN and None are gaps.

    Args:
        series: the lines by name.
        x_label: title of the x axis.
        y_label: title of the y axis.
        bands: (low, high) intervals that are drawn as a shade.
        percent: whether values are shares.
        size: fields of the frame, in pixels.
    """
    bands = bands or {}
    xs = list(chain.from_iterable(x for x, _ in series.values()))
    ys = list(chain.from_iterable(y for _, y in series.values()))
    ys += chain.from_iterable(chain.from_iterable(bands.values()))
    frame = frame_around(xs, ys, size=size)

    marks = []
    for i, (name, (x, y)) in enumerate(series.items()):
        # The band first, so that its own line lies over it.
        if name in bands:
            marks.append(band(frame, x, bands[name], colour(i), 0.16))
        style = (
            f'fill="none" stroke="{colour(i)}" stroke-width="2" '
            f'stroke-dasharray="{pattern(i)}" stroke-linejoin="round"'
        )
        backwards = reversed(list(y))
        last = next((value for value in backwards if known(value)), None)
        end = "" if last is None else f": {number_text(last, percent)} at the end"
        title = f"<title>{escape(name)}{end}</title>"
        path = _path(frame, x, y)
        marks.append(f'<path d="{path}" {style}>{title}</path>')

    drawn = [*axes(frame, x_label, y_label, percent), *marks]
    chart = svg(frame, drawn, f"{y_label} over {x_label}")
    return chart + legend(list(series))


def shares(
    x: Sequence[Number],
    share: Mapping[str, Sequence[Number]],
    x_label: str,
    y_label: str = "share of decisions",
) -> str:
    """Stacked shares that add up to one: bars for few steps, areas for many.

    Letters tell the bands from each other.
    """
    # A gap between steps would be a bar that is missing; an area bridges it.
    consecutive = all(after - before == 1 for before, after in pairwise(x))
    if len(x) <= FEW_STEPS and consecutive:
        drawn = _stacked_bars(x, share, x_label, y_label)
    else:
        drawn = _stacked_areas(x, share, x_label, y_label)
    return drawn + legend(list(share), lettered=True)


def _stacked_bars(
    x: Sequence[Number], share: Mapping[str, Sequence[Number]], x_label: str, y_label: str
) -> str:
    frame = Frame(min(x) - 0.5, max(x) + 0.5, 0.0, 1.0)
    # A little less than a step, so that bars stand apart.
    step_width = frame.x(1.0) - frame.x(0.0)
    width = step_width * 0.86

    marks = []
    below = [0.0] * len(x)
    for i, (name, values) in enumerate(share.items()):
        style = f'fill="{colour(i)}" fill-opacity="{opacity(i)}" stroke="{PAPER}"'
        for j, value in enumerate(values):
            share_of_step = float(value)
            # Rounding must not push the last bar out of the frame.
            top = frame.y(min(below[j] + share_of_step, 1.0))
            height = frame.y(below[j]) - top
            below[j] += share_of_step
            if height <= 0:
                continue

            centre = frame.x(x[j])
            left = centre - width / 2
            hover = f"{escape(name)}: {100 * share_of_step:.0f} % at step {x[j]:g}"
            box = f'x="{left:.2f}" y="{top}" width="{width:.2f}" height="{height:.2f}"'
            marks.append(f"<rect {box} {style}><title>{hover}</title></rect>")
            # A letter needs this much room to be read.
            if height > 13 and width > 14:
                middle = top + height / 2
                marks.append(_letter(centre, middle + 4, i))
    shown = [mark for mark in axes(frame, x_label, y_label, True, grid=False) if mark]
    return svg(frame, [*marks, *shown], f"{y_label} over {x_label}")


def _letter(x: float, y: float, index: int) -> str:
    halo = 'style="fill:#fff;paint-order:stroke;stroke:#0008;stroke-width:2px;pointer-events:none"'
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="middle"'
    return f'<text {place} class="small" {halo}>{letter(index)}</text>'


def _stacked_areas(
    x: Sequence[Number], share: Mapping[str, Sequence[Number]], x_label: str, y_label: str
) -> str:
    frame = Frame(min(x), max(x), 0.0, 1.0)
    leftmost = frame.left + 8
    rightmost = frame.width - frame.right - 8

    marks = []
    letters = []
    below = [0.0] * len(x)
    for i, (name, values) in enumerate(share.items()):
        numbers = [float(value) for value in values]
        above = [floor + number for floor, number in zip(below, numbers, strict=True)]
        # The outline goes along the upper edge and back along the lower one.
        upper_edge = _corners(frame, x, above)
        lower_edge = _corners(frame, x, below)
        outline = " ".join([*upper_edge, *reversed(lower_edge)])
        hover = (
            f"{escape(name)}: {100 * numbers[0]:.0f} % at the start, "
            f"{100 * numbers[-1]:.0f} % at the end"
        )
        style = (
            f'fill="{colour(i)}" fill-opacity="{opacity(i)}" stroke="{PAPER}" stroke-width="0.6"'
        )
        marks.append(f'<polygon points="{outline}" {style}><title>{hover}</title></polygon>')

        # The letter stands where the band is widest, and not at all in a thin band.
        widest = max(range(len(x)), key=lambda j: numbers[j])
        width = numbers[widest]
        if width > 0.08:
            centre = frame.x(x[widest])
            letter_x = min(max(centre, leftmost), rightmost)
            middle = below[widest] + width / 2
            letters.append(_letter(letter_x, frame.y(middle) + 4, i))
        below = above
    shown = axes(frame, x_label, y_label, True, grid=False)
    return svg(frame, [*marks, *letters, *shown], f"{y_label} over {x_label}")


def _corners(frame: Frame, x: Sequence[Number], heights: Sequence[float]) -> list[str]:
    """Points of an edge; sums of shares may exceed 1 by rounding, and are cut there."""
    corners = []
    for at_x, height in zip(x, heights, strict=True):
        corners.append(f"{frame.x(at_x)},{frame.y(min(height, 1.0))}")
    return corners


@dataclass(frozen=True)
class Shade:
    """How a heat map shows its numbers.

    Args:
        low: the value that is bare.
        high: the value that is blue.
        percent: whether values are shares.
        few: numbers of columns that stand for too few observations to tell: their cells are grey.
    """

    low: float
    high: float
    percent: bool = False
    few: Sequence[int] = ()

    def depth(self, value: float | None) -> float | None:
        """How deep the colour is, from 0 to 1; None without a value."""
        if value is None or not known(value):
            return None
        span = (self.high - self.low) or 1.0
        share = (value - self.low) / span
        return min(max(share, 0.0), 1.0)


def heatmap(
    values: Sequence[Sequence[float | None]],
    rows: Sequence[str],
    columns: Sequence[str],
    shade: Shade,
) -> str:
    """Numbers in coloured cells; an empty cell where there is none."""
    # Seven pixels are a character's width, and a name of a column is slanted.
    longest_row = max((len(cut(name, 26)) for name in rows), default=1)
    longest_column = max((len(name) for name in columns), default=1)
    left = min(190, 12 + 7 * longest_row)
    top = min(150, 24 + 4 * longest_column)
    cell = max(28, min(58, (620 - left) // max(1, len(columns))))

    # The slanted names of the columns reach further to the right than their cells.
    ends = []
    marks = []
    for j, name in enumerate(columns):
        middle = cell * (j + 0.5)
        ends.append(middle + 5.2 * len(cut(name, 34)))
        marks.append(_slanted(left + middle, top - 6, name))
    inner = max([cell * len(columns) + 8, *ends])
    width = left + round(inner) + 4
    frame = Frame(0, 1, 0, 1, width, top + 24 * len(rows) + 6)

    for i, row in enumerate(rows):
        y = top + 24 * i
        place = f'x="{left - 6}" y="{y + 16}" text-anchor="end"'
        marks.append(f'<text {place} class="small">{escape(cut(row, 26))}</text>')
        for j, (column, value) in enumerate(zip(columns, values[i], strict=True)):
            box = (left + cell * j, y, cell)
            is_few = j in shade.few
            marks.append(_cell(box, value, shade, is_few, f"{row}, {column}"))
    return svg(frame, marks, "heat map")


def _cell(
    box: tuple[float, float, float],
    value: float | None,
    shade: Shade,
    few: bool,
    what: str,
) -> str:
    x, y, size = box
    shape = f'<rect x="{x}" y="{y}" width="{size - 1}" height="23"'
    share = shade.depth(value)
    if value is None or share is None:
        return f'{shape} fill="var(--tint)"><title>{escape(what)}: none</title></rect>'
    if few:
        ink = FAINT
        fill = "var(--pale)"
        depth = 0.35 * share
        too_few = ", too few to tell"
    else:
        # Dark ink cannot be read on a deep cell.
        ink = "#fff" if share > 0.6 else INK
        fill = "var(--c0)"
        depth = share
        too_few = ""
    hover = f"{escape(what)}: {number_text(value, shade.percent)}{too_few}"
    text = f"{100 * value:.0f}" if shade.percent else f"{value:.2f}"
    return (
        f'{shape} fill="{fill}" fill-opacity="{depth:.3f}" stroke="var(--line)" stroke-width="0.5">'
        f"<title>{hover}</title></rect>"
        f'<text x="{x + size / 2}" y="{y + 16}" text-anchor="middle" class="small" '
        f'style="fill:{ink};pointer-events:none">{text}</text>'
    )


@dataclass(frozen=True)
class Point:
    """One mark of a scatter.

    Args:
        x: its place.
        y: its value.
        low: the lower end of its interval.
        high: the upper end.
        label: written only where ``named``.
        group: gives its colour and shape.
        named: whether the label may be written.
    """

    x: float
    y: float
    low: float
    high: float
    label: str
    group: str
    named: bool = True


def scatter(
    points: Sequence[Point],
    x_label: str,
    y_label: str,
    log_x: bool = False,
    curves: Mapping[str, Series] | None = None,
) -> str:
    """Shares as points with 95 % bars; those of one place are told apart by shape.

    The `LABELLED` highest points of one place have a label.

    Args:
        points: the marks.
        x_label: title of the x axis.
        y_label: title of the y axis.
        log_x: whether the x axis is logarithmic.
        curves: lines behind the points, in the colour of the group of that name.
    """
    groups = list(dict.fromkeys(point.group for point in points))
    curves = curves or {}
    frame = _scatter_frame(points, curves, log_x)
    shown = axes(frame, x_label, y_label, True)

    lines = []
    for name, (x, y) in curves.items():
        # Labels keep off the curves, so their places in pixels are kept.
        spots = [(frame.x(at_x), frame.y(at_y)) for at_x, at_y in zip(x, y, strict=True)]
        lines.append(spots)
        ink = colour(groups.index(name))
        style = f'fill="none" stroke="{ink}" stroke-width="2" stroke-opacity="0.6"'
        title = f"<title>{escape(name)}, over all prices</title>"
        shown.append(f'<path d="{_path(frame, x, y)}" {style}>{title}</path>')

    # Points closer than 30 pixels share one column of labels.
    clusters: dict[int, list[Point]] = {}
    for point in points:
        column = round(frame.x(point.x) / 30)
        clusters.setdefault(column, []).append(point)

    # Small clusters first: their labels can hardly move, those of large ones can.
    taken: list[Spot] = []
    for cluster in sorted(clusters.values(), key=len):
        for point in cluster:
            shown += _mark(frame, point, groups.index(point.group), True)
        named = [point for point in cluster if point.named]
        highest_first = sorted(named, key=lambda point: -point.y)
        shown += _labels(frame, highest_first[:LABELLED], taken, lines)
    drawn = svg(frame, shown, f"{y_label} against {x_label}")
    return drawn + legend(groups, shaped=True)


def _scatter_frame(points: Sequence[Point], curves: Mapping[str, Series], log_x: bool) -> Frame:
    """The frame that holds points, their intervals and the curves, with room at both sides."""
    xs = [point.x for point in points]
    ys: list[float] = []
    for point in points:
        ys += [point.low, point.high]
    for curve_x, curve_y in curves.values():
        xs += map(float, curve_x)
        ys += map(float, curve_y)

    low = min(xs)
    high = max(xs)
    if log_x:
        shown_x = [low / 1.1, high]
    else:
        room = 0.05 * (high - low)
        shown_x = [*xs, low - room, high + room]
    # The labels stand on the right.
    size = {"width": 1120, "height": 480, "right": 190}
    return frame_around(shown_x, ys, log_x, size)


def _mark(frame: Frame, p: Point, index: int, percent: bool) -> list[str]:
    value = number_text(p.y, percent)
    low = number_text(p.low, percent)
    high = number_text(p.high, percent)
    hover = f"{escape(p.label)}: {value} [{low}, {high}] at {p.x:.3g}"

    x = frame.x(p.x)
    ends = f'x1="{x}" x2="{x}" y1="{frame.y(p.low)}" y2="{frame.y(p.high)}"'
    stroke = f'stroke="{colour(index)}" stroke-opacity="0.3" stroke-width="1.5"'
    interval = f"<line {ends} {stroke}/>"
    # The interval first, so that its point lies over it.
    return [interval, shape(x, frame.y(p.y), index, hover)]


def shape(x: float, y: float, index: int, hover: str = "") -> str:
    """The mark of the index-th group at a place in pixels."""
    kind = SHAPES[index % len(SHAPES)]
    r = 4.8
    corners = {
        "d": [(0, -r * 1.25), (r * 1.25, 0), (0, r * 1.25), (-r * 1.25, 0)],
        "s": [(-r, -r), (r, -r), (r, r), (-r, r)],
        "u": [(0, -r * 1.2), (r * 1.15, r), (-r * 1.15, r)],
        "v": [(0, r * 1.2), (r * 1.15, -r), (-r * 1.15, -r)],
        "x": [(-r, -r * 0.4), (r, -r * 0.4), (r, r * 0.4), (-r, r * 0.4)],
    }
    style = f'fill="{colour(index)}" fill-opacity="0.9" stroke="{PAPER}"'
    title = f"<title>{hover}</title>" if hover else ""
    if kind == "o":
        return f'<circle cx="{x}" cy="{y}" r="{r}" {style}>{title}</circle>'
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners[kind])
    return f'<polygon points="{points}" {style}>{title}</polygon>'


def _labels(
    frame: Frame,
    points: Sequence[Point],
    taken: list[Spot],
    lines: Sequence[Sequence[Spot]],
) -> list[str]:
    """Labels to the right of points at one x, highest first, each with a thin line to its point.

    They are pushed down past ``taken`` ones and off the ``lines``.
    """
    out: list[str] = []
    furthest = max((frame.x(point.x) for point in points), default=0.0)
    text_x = furthest + 30
    for point in points:
        text = cut(point.label, 28)
        point_y = frame.y(point.y)
        y = point_y + 4
        end = text_x + 7 * len(text)
        # Down a pixel at a time: below the last label and the last curve there is always room.
        while _is_taken(text_x, y, taken) or _crossed(lines, text_x, end, y):
            y += 1
        taken.append((text_x, y))

        x = round(frame.x(point.x) + 5, 2)
        ends = f'x1="{x}" x2="{text_x - 3}" y1="{point_y}" y2="{y - 4:.1f}"'
        out.append(f'<line {ends} stroke="{PALE}"/>')
        out.append(f'<text x="{text_x}" y="{y:.1f}" class="small">{escape(text)}</text>')
    return out


def _is_taken(x: float, y: float, taken: Sequence[Spot]) -> bool:
    """Whether a label at this place would cover another one."""
    return any(abs(x0 - x) < 130 and abs(y0 - y) < 13 for x0, y0 in taken)


def _crossed(lines: Sequence[Sequence[Spot]], left: float, right: float, y: float) -> bool:
    """Whether any line passes through a label that is written at this height."""
    return any(_through(line, left, right, y - 12, y + 5) for line in lines)


def _through(line: Sequence[Spot], left: float, right: float, top: float, bottom: float) -> bool:
    """Whether a line of points (pixels) passes through a box."""
    for (x0, y0), (x1, y1) in pairwise(sorted(line)):
        if x1 < left or x0 > right:
            continue
        # A segment straight up has no slope; any number will do where it enters and leaves at once.
        run = (x1 - x0) or 1.0
        rise = y1 - y0
        # The heights at which the segment enters and leaves the box's columns.
        enters = y0 + rise * (max(left, x0) - x0) / run
        leaves = y0 + rise * (min(right, x1) - x0) / run
        highest = min(enters, leaves)
        lowest = max(enters, leaves)
        if highest <= bottom and lowest >= top:
            return True
    return False


def bars(
    values: Mapping[str, float],
    y_label: str,
    intervals: Mapping[str, tuple[float, float]] | None = None,
    percent: bool = False,
) -> str:
    """Horizontal bars from zero, with the value beside each and an interval where there is one."""
    intervals = intervals or {}
    ends = [*values.values(), *chain.from_iterable(intervals.values()), 0.0]
    longest_name = max((len(name) for name in values), default=1)
    left = min(240, 16 + 7 * longest_name)
    size = replace(Frame(min(ends), max(ends) or 1.0, 0, 1), height=24 * len(values) + 28)
    frame = replace(size, left=left, right=84, top=4, bottom=22)

    zero = frame.x(0.0)
    marks = []
    for i, (name, value) in enumerate(values.items()):
        y = frame.top + 24 * i
        x = frame.x(value)
        low, high = intervals.get(name, (value, value))
        text = number_text(value, percent)

        label = escape(cut(name, 34))
        place = f'x="{left - 8}" y="{y + 16}" text-anchor="end"'
        marks.append(f'<text {place} class="small">{label}</text>')

        # Half a pixel at least: a bar of nothing would look like a value that is missing.
        width = max(abs(x - zero), 0.5)
        box = f'x="{min(zero, x)}" y="{y + 4}" width="{width:.2f}" height="16" rx="2"'
        hover = f"<title>{escape(name)}: {text}</title>"
        marks.append(f'<rect {box} fill="{colour(0)}" fill-opacity="0.8">{hover}</rect>')

        if name in intervals:
            span = f'x1="{frame.x(low)}" x2="{frame.x(high)}" y1="{y + 12}" y2="{y + 12}"'
            marks.append(f'<line {span} stroke="{INK}" stroke-width="1.5"/>')

        # Behind whatever reaches further, the bar or its interval.
        text_x = max(x, frame.x(high)) + 6
        marks.append(f'<text x="{text_x}" y="{y + 16}" class="small">{text}</text>')

    ends_of_zero = f'x1="{zero}" x2="{zero}" y1="{frame.top}" y2="{frame.height - frame.bottom}"'
    marks.append(f'<line {ends_of_zero} stroke="{FAINT}"/>')
    return svg(frame, [*marks, axis_title(frame, y_label)], y_label)


def legend(names: Sequence[str], lettered: bool = False, shaped: bool = False) -> str:
    """Names with their colours and their other mark, as HTML below a chart.

    Nothing for a single series.
    """
    if len(names) < 2:
        return ""
    keys = []
    for i, name in enumerate(names):
        if lettered:
            fill = f'fill="{colour(i)}" fill-opacity="{opacity(i)}"'
            mark = f'<rect width="22" height="14" y="0" rx="2" {fill}/>'
            mark += _letter(11, 11, i)
        elif shaped:
            mark = shape(11, 7, i)
        else:
            style = f'stroke="{colour(i)}" stroke-width="3" stroke-dasharray="{pattern(i)}"'
            mark = f'<line x1="0" x2="22" y1="7" y2="7" {style}/>'
        drawn = f'<svg width="22" height="14" viewBox="0 0 22 14" aria-hidden="true">{mark}</svg>'
        keys.append(f'<span class="key">{drawn}{escape(name)}</span>')
    return f'<div class="legend">{"".join(keys)}</div>'


def letter(index: int) -> str:
    """A, B, C, ... of the index-th series; after Z come AA, AB, ..."""
    letters = string.ascii_uppercase
    if index < 26:
        return letters[index]
    return letters[index // 26 - 1] + letters[index % 26]


def pattern(index: int) -> str:
    """Dash pattern of the index-th line."""
    return PATTERNS[index % len(PATTERNS)]


def opacity(index: int) -> float:
    """How strongly a band is filled: weaker where the colours come round again."""
    return 0.88 if index < COLOURS else 0.5


def _path(frame: Frame, x: Sequence[Number], y: Sequence[Number]) -> str:
    parts = []
    pen = "M"
    for a, b in zip(x, y, strict=True):
        if known(b):
            parts.append(f"{pen}{frame.x(a)} {frame.y(b)}")
            pen = "L"
        else:
            # The pen is lifted: a gap in the values is a gap in the line.
            pen = "M"
    return " ".join(parts)


def _slanted(x: float, y: float, text: str) -> str:
    turn = f'transform="rotate(-38 {x} {y})"'
    return f'<text x="{x}" y="{y}" {turn} class="small">{escape(cut(text, 34))}</text>'
