"""Charts made of dots, as SVG text.

A course of single values with its mean, shares against a mean, and small panels, one an arm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import chain

from reward_router.report.charts import Point, Series, shape
from reward_router.report.frame import (
    FAINT,
    PALE,
    THIRD,
    Frame,
    Number,
    axes,
    band,
    colour,
    cut,
    frame_around,
    known,
    number_text,
    svg,
)

SMALL = {"width": THIRD, "height": 122, "left": 52, "right": 10, "top": 8, "bottom": 36}


def trend(
    points: Series, mean: Sequence[float], x_label: str, y_label: str, percent: bool = False
) -> str:
    """Single values as dots, their smoothed course as a line; a third of the page wide."""
    frame = frame_around(*points, size=SMALL)
    # Few dots may be strong; many would hide the line.
    strength = 0.9 if len(mean) < 16 else 0.35
    style = f'r="2.8" fill="{colour(0)}" fill-opacity="{strength}"'

    marks = []
    for x, y in zip(*points, strict=True):
        title = f"<title>{number_text(y, percent)} at {x:g}</title>"
        marks.append(f'<circle cx="{frame.x(x)}" cy="{frame.y(y)}" {style}>{title}</circle>')
    x_values = points[0]
    course = _line(frame, (x_values, mean), colour(0), 2.2)

    drawn = [*axes(frame, x_label, "", percent), *marks, course]
    return svg(frame, drawn, f"{y_label} over {x_label}")


def ranked(points: Sequence[Point], colours: Sequence[str], x_label: str, y_label: str) -> str:
    """Shares against a mean with 95 % bars, chance (1/2) dashed.

    Every label stands to the right, with a thin line to its point. ``colours``: the order of the
    points' groups that gives their colours.
    """
    ys = [0.5]
    for point in points:
        ys += [point.low, point.high]
    size = {"width": 760, "height": 330, "right": 190}
    around = frame_around([point.x for point in points], ys, size=size)
    pad = 0.04 * (around.high_x - around.low_x)
    frame = replace(around, low_x=around.low_x - pad, high_x=around.high_x + pad)

    edge = frame.width - frame.right
    chance = frame.y(0.5)
    marks = axes(frame, x_label, y_label, True)
    across = f'x1="{frame.left}" x2="{edge}" y1="{chance}" y2="{chance}"'
    marks.append(f'<line {across} stroke="{FAINT}" stroke-dasharray="5 4"/>')

    label_y = float(frame.top)
    for p in sorted(points, key=lambda point: -point.y):
        x = frame.x(p.x)
        y = frame.y(p.y)
        group = colours.index(p.group)
        ink = colour(group)
        # Labels never cover each other: each stands at least 14 pixels below the one before.
        label_y = max(label_y + 14, y)

        value = number_text(p.y, True)
        low = number_text(p.low, True)
        high = number_text(p.high, True)
        hover = f"{escape(p.label)}: {value} [{low}, {high}] at {p.x:.3g}"
        ends = f'x1="{x}" x2="{x}" y1="{frame.y(p.low)}" y2="{frame.y(p.high)}"'
        lead = f"{x},{y} {edge},{label_y - 4} {edge + 8},{label_y - 4}"
        text = escape(cut(p.label, 27))
        marks += [
            f'<line {ends} stroke="{ink}" stroke-opacity="0.5" stroke-width="1.6"/>',
            f'<polyline points="{lead}" fill="none" stroke="{ink}" stroke-opacity="0.3"/>',
            shape(x, y, group, hover),
            f'<text x="{edge + 12}" y="{label_y}" class="small">{text}</text>',
        ]
    return svg(frame, marks, f"{y_label} against {x_label}")


Band = tuple[Sequence[float], Sequence[float]]
"""The lower and the upper ends of a band, one for each point of its line."""


@dataclass(frozen=True)
class DotPanel:
    """One small chart: a line, and what goes with it.

    Args:
        line: its points.
        dots: single values.
        band: around the line.
        note: beside the name.
    """

    line: Series
    dots: Series = ((), ())
    band: Band | None = None
    note: str = ""


def panels(
    charts: Mapping[str, DotPanel], x_label: str, y_label: str, within: Sequence[float] = ()
) -> str:
    """One small chart a name, all on the same axes, with the other lines in grey behind.

    ``within``: values that the y axis shows in any case.
    """
    frame = _common_frame(list(charts.values()), within)
    # Every panel shows the others' lines, so each is drawn in grey once.
    grey = {name: _line(frame, panel.line, PALE, 1.0) for name, panel in charts.items()}

    drawn = []
    for i, (name, panel) in enumerate(charts.items()):
        ink = colour(i)
        marks = axes(frame, x_label, y_label, False)
        marks += [mark for other, mark in grey.items() if other != name]
        if panel.band is not None:
            x_values = panel.line[0]
            marks.append(band(frame, x_values, panel.band, ink, 0.2))

        style = f'r="2.6" fill="{ink}" fill-opacity="0.3"'
        for x, y in zip(*panel.dots, strict=True):
            if known(y):
                marks.append(f'<circle cx="{frame.x(x)}" cy="{frame.y(y)}" {style}/>')
        # Last, so that the line lies over its dots and the other panels' lines.
        marks.append(_line(frame, panel.line, ink, 2.2))
        marks.append(_title(name, panel.note))
        drawn.append(svg(frame, marks, f"{name}: {y_label} over {x_label}"))
    return f'<div class="panels">{"".join(drawn)}</div>'


def _common_frame(charts: Sequence[DotPanel], within: Sequence[float]) -> Frame:
    """The frame that holds every panel's points.

    Bands may reach out of it where ``within`` is given.
    """
    xs: list[Number] = []
    ys: list[Number] = [*within]
    bands: list[Number] = []
    for panel in charts:
        xs += [*panel.line[0], *panel.dots[0]]
        ys += [*panel.line[1], *panel.dots[1]]
        if panel.band is not None:
            bands += chain.from_iterable(panel.band)
    whole = frame_around(xs, ys + bands)
    low = min(ys, default=0.0) if within else whole.low_y
    high = max(ys, default=1.0) if within else whole.high_y
    return Frame(
        whole.low_x, whole.high_x, low, high, 316, 180, left=56, right=10, top=26, bottom=42
    )


def _title(name: str, note: str) -> str:
    room = max(12, 40 - len(note))
    more = ""
    if note:
        more = f'<tspan class="label" dx="8" style="font-weight:400">{escape(note)}</tspan>'
    style = 'class="small" style="font-weight:600"'
    return f'<text x="56" y="17" {style}>{escape(cut(name, room))}{more}</text>'


def _line(frame: Frame, points: Series, ink: str, width: float) -> str:
    spots = []
    for x, y in zip(*points, strict=True):
        if known(y):
            spots.append((frame.x(x), frame.y(y)))

    # A line through a single point would not be seen.
    if len(spots) == 1:
        x, y = spots[0]
        return f'<circle cx="{x}" cy="{y}" r="{1.4 * width}" fill="{ink}"/>'
    path = " ".join(f"{x},{y}" for x, y in spots)
    style = f'fill="none" stroke="{ink}" stroke-width="{width}" stroke-linejoin="round"'
    return f'<polyline points="{path}" {style}/>'
