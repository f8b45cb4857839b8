"""Charts as SVG text: line, share over time, heat map, scatter with intervals, bars. Pure functions, no library, no script.

Colours are Okabe and Ito's, then Tol's, told apart by every common kind of colour vision; where more series come than colours, the dash
pattern changes. Every mark carries a ``<title>``, which browsers show on hover. Text is escaped here, once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from reward_router.report.frame import (
    FAINT,
    INK,
    PALETTE,
    Frame,
    Number,
    axes,
    axis_title,
    colour,
    cut,
    dash,
    fit,
    known,
    number_text,
    svg,
)

Series = tuple[Sequence[Number], Sequence[Number]]


def line(
    series: Mapping[str, Series],
    x_label: str,
    y_label: str,
    bands: Mapping[str, tuple[Sequence[Number], Sequence[Number]]] | None = None,
    percent: bool = False,
) -> str:
    """Lines over a common x; ``bands`` gives (low, high) intervals drawn as a shade. NaN and None are gaps."""
    bands = bands or {}
    xs = [x for points in series.values() for x in points[0]]
    ys = [y for points in series.values() for y in points[1]] + [
        y for pair in bands.values() for side in pair for y in side
    ]
    frame = fit(xs, ys)
    marks = []
    for i, (name, (x, y)) in enumerate(series.items()):
        if name in bands:
            marks.append(_band(frame, x, *bands[name], i))
        style = (
            f'fill="none" stroke="{colour(i)}" stroke-width="2" stroke-dasharray="{dash(i)}" stroke-linejoin="round"'
        )
        last = next((v for v in reversed(list(y)) if known(v)), None)
        hover = f"{escape(name)}{'' if last is None else f': {number_text(last, percent)} at the end'}"
        marks.append(f'<path d="{_path(frame, x, y)}" {style}><title>{hover}</title></path>')
    return svg(frame, [*axes(frame, x_label, y_label, percent), *marks], f"{y_label} over {x_label}") + legend(
        list(series)
    )


def shares(
    x: Sequence[Number], share: Mapping[str, Sequence[Number]], x_label: str, y_label: str = "share of decisions"
) -> str:
    """Stacked areas that add up to one, e.g. how often each arm was chosen as a run went on."""
    frame = Frame(min(x), max(x) if max(x) > min(x) else min(x) + 1, 0.0, 1.0)
    marks, below = [], [0.0] * len(x)
    for i, (name, values) in enumerate(share.items()):
        above = [b + float(v) for b, v in zip(below, values, strict=True)]
        up = " ".join(f"{frame.x(a)},{frame.y(min(b, 1.0))}" for a, b in zip(x, above, strict=True))
        down = " ".join(
            f"{frame.x(a)},{frame.y(min(b, 1.0))}" for a, b in zip(reversed(x), reversed(below), strict=True)
        )
        hover = (
            f"{escape(name)}: {100 * float(values[0]):.0f} % at the start, {100 * float(values[-1]):.0f} % at the end"
        )
        style = f'fill="{colour(i)}" fill-opacity="{0.85 if not dash(i) else 0.45}" stroke="#fff" stroke-width="0.6"'
        marks.append(f'<polygon points="{up} {down}" {style}><title>{hover}</title></polygon>')
        below = above
    return svg(frame, [*marks, *axes(frame, x_label, y_label, True, grid=False)], f"{y_label} over {x_label}") + legend(
        list(share)
    )


def heatmap(
    values: Sequence[Sequence[float | None]],
    rows: Sequence[str],
    columns: Sequence[str],
    low: float,
    high: float,
    percent: bool = False,
) -> str:
    """Numbers in coloured cells, white at ``low`` to blue at ``high``; an empty cell where there is none."""
    left = min(260, 12 + 7 * max((len(r) for r in rows), default=1))
    top = min(190, 22 + 4 * max((len(c) for c in columns), default=1))
    cell = max(26, min(74, (880 - left) // max(1, len(columns))))
    ends = [cell * (j + 0.5) + 5 * len(cut(c, 40)) for j, c in enumerate(columns)]  # where the slanted names end
    frame = Frame(0, 1, 0, 1, left + round(max([cell * len(columns) + 8, *ends])) + 4, top + 24 * len(rows) + 8)
    marks = [_slanted(left + cell * (j + 0.5), top - 6, c) for j, c in enumerate(columns)]
    for i, row in enumerate(rows):
        y = top + 24 * i
        marks.append(f'<text x="{left - 6}" y="{y + 16}" text-anchor="end" class="small">{escape(cut(row, 36))}</text>')
        marks += [
            _cell(left + cell * j, y, cell, v, low, high, percent, f"{row}, {c}")
            for j, (c, v) in enumerate(zip(columns, values[i], strict=True))
        ]
    return svg(frame, marks, "heat map")


@dataclass(frozen=True)
class Point:
    """One mark of a scatter: its value with an interval in y, a label (written only where ``named``), and the group that gives its colour."""

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
    percent: bool = True,
    named: int = 14,
    curves: Mapping[str, Series] | None = None,
) -> str:
    """Points with 95 % bars; groups at the same x stand side by side, the ``named`` highest of each x carry their label.

    ``curves``: lines behind the points, in the colour of the group of that name.
    """
    groups, curves = list(dict.fromkeys(p.group for p in points)), curves or {}
    ys = [v for p in points for v in (p.low, p.high)] + [float(y) for _, curve in curves.values() for y in curve]
    xs = [p.x for p in points] + [float(x) for curve, _ in curves.values() for x in curve]
    room = 0.05 * (max(xs) - min(xs))
    ends = [max(x, 1e-9) if log_x else x for x in (min(xs) - room, max(xs) + room)]
    frame = fit([*xs, *ends] if not log_x else [min(xs) / 1.1, max(xs)], ys, height=520, log_x=log_x, right=190)
    shown = axes(frame, x_label, y_label, percent)
    lines = [[(frame.x(a), frame.y(b)) for a, b in zip(*curve, strict=True)] for curve in curves.values()]
    for name, (x, y) in curves.items():
        style = f'fill="none" stroke="{colour(groups.index(name))}" stroke-width="2" stroke-opacity="0.6"'
        shown.append(f'<path d="{_path(frame, x, y)}" {style}><title>{escape(name)}, over all prices</title></path>')
    clusters: dict[int, list[Point]] = {}
    for p in points:
        clusters.setdefault(round(frame.x(p.x) / 30), []).append(p)
    taken: list[tuple[float, float]] = []
    for cluster in sorted(clusters.values(), key=len):
        here = [g for g in groups if any(p.group == g for p in cluster)]
        at = {g: 11 * (i - (len(here) - 1) / 2) for i, g in enumerate(here)}  # groups at one x stand side by side
        for p in cluster:
            shown += _mark(frame, p, round(frame.x(p.x) + at[p.group], 2), groups.index(p.group), percent)
        labelled = sorted((p for p in cluster if p.named), key=lambda p: -p.y)[:named]
        shown += _labels(frame, labelled, at, taken, lines)
    return svg(frame, shown, f"{y_label} against {x_label}") + legend(groups)


def _mark(frame: Frame, p: Point, x: float, index: int, percent: bool) -> list[str]:
    text = (number_text(v, percent) for v in (p.y, p.low, p.high))
    hover = "{}: {} [{}, {}] at {:.3g}".format(escape(p.label), *text, p.x)
    bar = f'<line x1="{x}" x2="{x}" y1="{frame.y(p.low)}" y2="{frame.y(p.high)}" stroke="{colour(index)}"'
    dot = f'<circle cx="{x}" cy="{frame.y(p.y)}" r="4.5" fill="{colour(index)}" fill-opacity="0.85" stroke="#fff">'
    return [f'{bar} stroke-opacity="0.35" stroke-width="1.5"/>', f"{dot}<title>{hover}</title></circle>"]


def _labels(
    frame: Frame,
    points: Sequence[Point],
    at: Mapping[str, float],
    taken: list[tuple[float, float]],
    lines: Sequence[Sequence[tuple[float, float]]],
) -> list[str]:
    """Labels to the right of points at one x, highest first, pushed down past ``taken`` ones and off the ``lines``, each with a thin line."""
    out: list[str] = []
    text_x = max((frame.x(p.x) for p in points), default=0.0) + max(at.values()) + 30
    for p in points:
        y = frame.y(p.y) + 4
        end = text_x + 7 * len(cut(p.label, 28))
        while any(abs(x0 - text_x) < 130 and abs(y0 - y) < 13 for x0, y0 in taken) or any(
            _through(line, text_x, end, y - 12, y + 5) for line in lines
        ):
            y += 1
        taken.append((text_x, y))
        x = round(frame.x(p.x) + at[p.group] + 5, 2)
        out.append(f'<line x1="{x}" x2="{text_x - 3}" y1="{frame.y(p.y)}" y2="{y - 4:.1f}" stroke="#b9c1cb"/>')
        out.append(f'<text x="{text_x}" y="{y:.1f}" class="small">{escape(cut(p.label, 28))}</text>')
    return out


def _through(line: Sequence[tuple[float, float]], left: float, right: float, top: float, bottom: float) -> bool:
    """Whether a line of points (pixels) passes through a box."""
    for (x0, y0), (x1, y1) in pairwise(sorted(line)):
        if x1 >= left and x0 <= right:
            run = (x1 - x0) or 1.0
            ends = [y0 + (y1 - y0) * (x - x0) / run for x in (max(left, x0), min(right, x1))]
            if min(ends) <= bottom and max(ends) >= top:
                return True
    return False


def bars(
    values: Mapping[str, float],
    y_label: str,
    intervals: Mapping[str, tuple[float, float]] | None = None,
    percent: bool = False,
) -> str:
    """Horizontal bars from zero, the value written beside each, with an interval where there is one."""
    intervals = intervals or {}
    ends = [*values.values(), *(v for pair in intervals.values() for v in pair), 0.0]
    left = min(280, 16 + 7 * max((len(n) for n in values), default=1))
    frame = Frame(min(ends), max(ends) or 1.0, 0, 1, 720, 30 * len(values) + 50, left=left, right=80, top=6, bottom=40)
    marks, zero = [], frame.x(0.0)
    for i, (name, value) in enumerate(values.items()):
        y, x = frame.top + 30 * i, frame.x(value)
        low, high = intervals.get(name, (value, value))
        marks.append(
            f'<text x="{left - 8}" y="{y + 19}" text-anchor="end" class="small">{escape(cut(name, 38))}</text>'
        )
        marks.append(
            f'<rect x="{min(zero, x)}" y="{y + 5}" width="{max(abs(x - zero), 0.5):.2f}" height="20" rx="2" fill="{PALETTE[0]}" fill-opacity="0.8">'
            f"<title>{escape(name)}: {number_text(value, percent)}</title></rect>"
        )
        if name in intervals:
            marks.append(
                f'<line x1="{frame.x(low)}" x2="{frame.x(high)}" y1="{y + 15}" y2="{y + 15}" stroke="{INK}" stroke-width="1.5"/>'
            )
        marks.append(
            f'<text x="{max(x, frame.x(high)) + 6}" y="{y + 19}" class="small">{number_text(value, percent)}</text>'
        )
    marks.append(f'<line x1="{zero}" x2="{zero}" y1="{frame.top}" y2="{frame.height - 40}" stroke="{FAINT}"/>')
    return svg(frame, [*marks, axis_title(frame, y_label)], y_label)


def legend(names: Sequence[str]) -> str:
    """Names with their colours, as HTML below a chart; nothing for a single series."""
    if len(names) < 2:
        return ""
    keys = (
        f'<span class="key"><svg width="22" height="10" aria-hidden="true"><line x1="1" x2="21" y1="5" y2="5" stroke="{colour(i)}" '
        f'stroke-width="3.5" stroke-dasharray="{dash(i)}"/></svg>{escape(name)}</span>'
        for i, name in enumerate(names)
    )
    return f'<div class="legend">{"".join(keys)}</div>'


def _band(frame: Frame, x: Sequence[Number], low: Sequence[Number], high: Sequence[Number], index: int) -> str:
    there = [(a, lo, hi) for a, lo, hi in zip(x, low, high, strict=True) if known(lo) and known(hi)]
    up = " ".join(f"{frame.x(a)},{frame.y(hi)}" for a, _, hi in there)
    down = " ".join(f"{frame.x(a)},{frame.y(lo)}" for a, lo, _ in reversed(there))
    return f'<polygon points="{up} {down}" fill="{colour(index)}" fill-opacity="0.14"/>'


def _path(frame: Frame, x: Sequence[Number], y: Sequence[Number]) -> str:
    parts, pen = [], "M"
    for a, b in zip(x, y, strict=True):
        if known(b):
            parts.append(f"{pen}{frame.x(a)} {frame.y(b)}")
            pen = "L"
        else:
            pen = "M"
    return " ".join(parts)


def _cell(
    x: float, y: float, size: float, value: float | None, low: float, high: float, percent: bool, what: str
) -> str:
    if value is None or not known(value):
        return f'<rect x="{x}" y="{y}" width="{size - 1}" height="23" fill="#f4f5f7"><title>{escape(what)}: none</title></rect>'
    share = min(max((value - low) / ((high - low) or 1.0), 0.0), 1.0)
    red, green, blue = (round(255 + (end - 255) * share) for end in (0, 90, 160))
    ink = "#fff" if share > 0.55 else INK
    text = f"{100 * value:.0f}" if percent else f"{value:.2f}"
    return (
        f'<rect x="{x}" y="{y}" width="{size - 1}" height="23" fill="rgb({red},{green},{blue})"><title>{escape(what)}: {number_text(value, percent)}</title></rect>'
        f'<text x="{x + size / 2}" y="{y + 16}" text-anchor="middle" class="small" style="fill:{ink};pointer-events:none">{text}</text>'
    )


def _slanted(x: float, y: float, text: str) -> str:
    return f'<text x="{x}" y="{y}" transform="rotate(-38 {x} {y})" class="small">{escape(cut(text, 40))}</text>'
