"""Charts made of dots, as SVG text: a course of single values with its mean, shares against a mean, and small panels, one an arm."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape

from reward_router.report.charts import Point, Series, shape
from reward_router.report.frame import (
    FAINT,
    PALE,
    THIRD,
    Frame,
    axes,
    colour,
    cut,
    fit,
    known,
    number_text,
    svg,
)

SMALL = {"width": THIRD, "height": 122, "left": 52, "right": 10, "top": 8, "bottom": 36}


def trend(
    points: Series, mean: Sequence[float], x_label: str, y_label: str, percent: bool = False
) -> str:
    """Single values as dots and their smoothed course as a line over them; a third of the page wide."""
    frame = fit(*points, size=SMALL)
    faint = 0.9 if len(mean) < 16 else 0.35
    marks = [
        f'<circle cx="{frame.x(x)}" cy="{frame.y(y)}" r="2.8" fill="{colour(0)}" fill-opacity="{faint}">'
        f"<title>{number_text(y, percent)} at {x:g}</title></circle>"
        for x, y in zip(*points, strict=True)
    ]
    course = _line(frame, (points[0], mean), colour(0), 2.2)
    drawn = [*axes(frame, x_label, "", percent), *marks, course]
    return svg(frame, drawn, f"{y_label} over {x_label}")


def ranked(points: Sequence[Point], colours: Sequence[str], x_label: str, y_label: str) -> str:
    """Shares against a mean with 95 % bars, chance (1/2) dashed; every label to the right, each with a thin line to its point.

    ``colours``: the order of labels' groups that gives their colours.
    """
    ys = [v for p in points for v in (p.low, p.high)] + [0.5]
    around = fit([p.x for p in points], ys, size={"width": 760, "height": 330, "right": 190})
    pad = 0.04 * (around.high_x - around.low_x)
    frame = replace(around, low_x=around.low_x - pad, high_x=around.high_x + pad)
    edge = frame.width - frame.right
    chance = frame.y(0.5)
    marks = axes(frame, x_label, y_label, True)
    marks.append(
        f'<line x1="{frame.left}" x2="{edge}" y1="{chance}" y2="{chance}" stroke="{FAINT}" stroke-dasharray="5 4"/>'
    )
    at = float(frame.top)
    for p in sorted(points, key=lambda p: -p.y):
        x = frame.x(p.x)
        y = frame.y(p.y)
        index = colours.index(p.group)
        at = max(at + 14, y)
        span = f"{number_text(p.y, True)} [{number_text(p.low, True)}, {number_text(p.high, True)}] at {p.x:.3g}"
        ends = f'x1="{x}" x2="{x}" y1="{frame.y(p.low)}" y2="{frame.y(p.high)}"'
        lead = f"{x},{y} {edge},{at - 4} {edge + 8},{at - 4}"
        marks += [
            f'<line {ends} stroke="{colour(index)}" stroke-opacity="0.5" stroke-width="1.6"/>',
            f'<polyline points="{lead}" fill="none" stroke="{colour(index)}" stroke-opacity="0.3"/>',
            shape(x, y, index, f"{escape(p.label)}: {span}"),
            f'<text x="{edge + 12}" y="{at}" class="small">{escape(cut(p.label, 27))}</text>',
        ]
    return svg(frame, marks, f"{y_label} against {x_label}")


def panels(
    lines: Mapping[str, Series],
    x_label: str,
    y_label: str,
    dots: Mapping[str, Series] | None = None,
    bands: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    notes: Mapping[str, str] | None = None,
    within: Sequence[float] = (),
) -> str:
    """One small chart a name, all on the same axes: its line, dots and band in colour, the other lines in grey behind.

    ``within``: values that the y axis shows in any case.
    """
    dots = dots or {}
    bands = bands or {}
    notes = notes or {}
    xs = [x for group in (lines, dots) for points in group.values() for x in points[0]]
    ys = [*within, *(y for group in (lines, dots) for points in group.values() for y in points[1])]
    whole = fit(xs, ys + [y for pair in bands.values() for side in pair for y in side])
    low, high = (
        (whole.low_y, whole.high_y) if not within else (min(ys, default=0.0), max(ys, default=1.0))
    )
    frame = Frame(
        whole.low_x, whole.high_x, low, high, 316, 180, left=56, right=10, top=26, bottom=42
    )
    grey = {name: _line(frame, points, PALE, 1.0) for name, points in lines.items()}
    drawn = []
    for i, name in enumerate(lines):
        marks = [
            *axes(frame, x_label, y_label, False),
            *(mark for other, mark in grey.items() if other != name),
        ]
        if name in bands:
            marks.append(_band(frame, lines[name][0], *bands[name], colour(i)))
        marks += [
            f'<circle cx="{frame.x(x)}" cy="{frame.y(y)}" r="2.6" fill="{colour(i)}" fill-opacity="0.3"/>'
            for x, y in zip(*dots.get(name, ((), ())), strict=True)
            if known(y)
        ]
        marks.append(_line(frame, lines[name], colour(i), 2.2))
        marks.append(_title(name, notes.get(name, "")))
        drawn.append(svg(frame, marks, f"{name}: {y_label} over {x_label}"))
    return f'<div class="panels">{"".join(drawn)}</div>'


def _title(name: str, note: str) -> str:
    room = max(12, 40 - len(note))
    more = (
        f'<tspan class="label" dx="8" style="font-weight:400">{escape(note)}</tspan>'
        if note
        else ""
    )
    return f'<text x="56" y="17" class="small" style="font-weight:600">{escape(cut(name, room))}{more}</text>'


def _line(frame: Frame, points: Series, ink: str, width: float) -> str:
    there = [(frame.x(x), frame.y(y)) for x, y in zip(*points, strict=True) if known(y)]
    if len(there) == 1:
        return f'<circle cx="{there[0][0]}" cy="{there[0][1]}" r="{1.4 * width}" fill="{ink}"/>'
    path = " ".join(f"{x},{y}" for x, y in there)
    return f'<polyline points="{path}" fill="none" stroke="{ink}" stroke-width="{width}" stroke-linejoin="round"/>'


def _band(
    frame: Frame, x: Sequence[float], low: Sequence[float], high: Sequence[float], ink: str
) -> str:
    there = [(a, lo, hi) for a, lo, hi in zip(x, low, high, strict=True) if known(lo) and known(hi)]
    up = " ".join(f"{frame.x(a)},{frame.y(hi)}" for a, _, hi in there)
    down = " ".join(f"{frame.x(a)},{frame.y(lo)}" for a, lo, _ in reversed(there))
    return f'<polygon points="{up} {down}" fill="{ink}" fill-opacity="0.2"/>'
