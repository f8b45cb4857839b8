"""Charts made of dots, as SVG text: gold before and after with the interval of the change, and small panels, one an arm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape

from reward_router.report.charts import Point, Series
from reward_router.report.frame import FAINT, GRID, Frame, axes, colour, cut, fit, known, number_text, svg, ticks

RISE, FALL, ROW = "#009E73", "#D55E00", 27


@dataclass(frozen=True)
class Change:
    """One row: shares before and after, their difference, and its 95 % interval (None where there is none)."""

    label: str
    before: float
    after: float
    diff: float
    low: float | None
    high: float | None


def changes(
    rows: Sequence[Change],
    ends: tuple[str, str] = ("before", "after"),
    what: str = "gold before and after training, with the change and its 95 % interval",
) -> str:
    """Left, where each row stood before (ring) and after (disc); right, the change in points with its interval.

    ``ends``: what ring and disc are called; ``what``: the drawing in words.
    """
    height = 46 + ROW * len(rows) + 40
    moves = [v for r in rows for v in (r.diff, r.low, r.high) if v is not None] + [-0.05, 0.05]
    reach = max(abs(min(moves)), abs(max(moves))) * 1.05
    high = max([r.before for r in rows] + [r.after for r in rows] + [0.1])
    left = 24 + 7 * min(26, max(len(r.label) for r in rows))
    stand = Frame(0.0, min(1.0, high * 1.1), 0, 1, left + 680, height, left=left, right=380)
    moved = Frame(-reach, reach, 0, 1, left + 680, height, left=left + 350, right=60)
    marks = [
        *_ruler(stand, f"share right (ring: {ends[0]}, disc: {ends[1]})"),
        *_ruler(moved, "change, percentage points", 100.0),
    ]
    for i, row in enumerate(rows):
        marks += _change(row, 34 + ROW * i + ROW // 2, stand, moved, ends, bold=i == 0)
    return svg(stand, marks, what)


def _ruler(frame: Frame, title: str, factor: float = 0.0) -> list[str]:
    """Vertical grid lines with their values below and a title above; ``factor`` 0: per cent."""
    bottom, middle = frame.height - 34, (frame.left + frame.width - frame.right) / 2
    marks = [f'<text x="{middle}" y="18" text-anchor="middle" class="label">{escape(title)}</text>']
    for value in ticks(frame.low_x, frame.high_x, 6 if factor else 4):
        x, ink = frame.x(value), FAINT if value == 0 and factor else GRID
        text = f"{factor * value:+.4g}".replace("+0", "0") if factor else number_text(value, True)
        marks.append(f'<line x1="{x}" x2="{x}" y1="30" y2="{bottom}" stroke="{ink}"/>')
        marks.append(f'<text x="{x}" y="{bottom + 17}" text-anchor="middle" class="small">{text}</text>')
    return marks


def _change(row: Change, y: int, stand: Frame, moved: Frame, ends: tuple[str, str], bold: bool) -> list[str]:
    sure = row.low is not None and row.high is not None and (row.low > 0 or row.high < 0)
    ink = (RISE if row.diff > 0 else FALL) if sure else FAINT
    a, b, c, weight = (
        stand.x(row.before),
        stand.x(row.after),
        moved.x(row.diff),
        ' style="font-weight:600"' if bold else "",
    )
    span = "" if row.low is None or row.high is None else f", 95 % {100 * row.low:+.1f} to {100 * row.high:+.1f}"
    hover = f"{escape(row.label)}: {number_text(row.before, True)} {ends[0]}, {number_text(row.after, True)} {ends[1]}, {100 * row.diff:+.1f} points{span}"
    marks = [
        f'<text x="{stand.left - 10}" y="{y + 4}" text-anchor="end" class="small"{weight}>{escape(cut(row.label, 26))}</text>',
        f'<line x1="{a}" x2="{b}" y1="{y}" y2="{y}" stroke="{ink}" stroke-width="3" stroke-opacity="0.5"/>',
        f'<circle cx="{b}" cy="{y}" r="5" fill="{ink}"><title>{hover}</title></circle>',
        f'<circle cx="{a}" cy="{y}" r="5" fill="#fff" fill-opacity="0.6" stroke="{ink}" stroke-width="1.8"><title>{hover}</title></circle>',
    ]
    if row.low is not None and row.high is not None:
        marks.append(
            f'<line x1="{moved.x(row.low)}" x2="{moved.x(row.high)}" y1="{y}" y2="{y}" stroke="{ink}" stroke-width="2"/>'
        )
    marks.append(f'<circle cx="{c}" cy="{y}" r="4.5" fill="{ink}"><title>{hover}</title></circle>')
    marks.append(f'<text x="{moved.width - 52}" y="{y + 4}" class="small"{weight}>{100 * row.diff:+.1f}</text>')
    return marks


def trend(points: Series, mean: Sequence[float], x_label: str, y_label: str, percent: bool = False) -> str:
    """Single values as dots and their smoothed course as a line over them."""
    frame = replace(fit(*points), height=260)
    marks = [
        f'<circle cx="{frame.x(x)}" cy="{frame.y(y)}" r="3.2" fill="{colour(0)}" fill-opacity="{0.9 if len(mean) < 16 else 0.35}"><title>{number_text(y, percent)} at {x:g}</title></circle>'
        for x, y in zip(*points, strict=True)
    ]
    course = _line(frame, (points[0], mean), colour(0), 2.4)
    return svg(frame, [*axes(frame, x_label, y_label, percent), *marks, course], f"{y_label} over {x_label}")


def ranked(points: Sequence[Point], colours: Sequence[str], x_label: str, y_label: str) -> str:
    """Shares against a mean with 95 % bars, chance (1/2) dashed; every label to the right, each with a thin line to its point.

    ``colours``: the order of labels' groups that gives their colours.
    """
    ys = [v for p in points for v in (p.low, p.high)] + [0.5]
    around = fit([p.x for p in points], ys, height=400, right=190)
    pad = 0.04 * (around.high_x - around.low_x)
    frame = replace(around, low_x=around.low_x - pad, high_x=around.high_x + pad)
    edge, chance, marks = frame.width - frame.right, frame.y(0.5), axes(frame, x_label, y_label, True)
    marks.append(
        f'<line x1="{frame.left}" x2="{edge}" y1="{chance}" y2="{chance}" stroke="{FAINT}" stroke-dasharray="5 4"/>'
    )
    at = float(frame.top)
    for p in sorted(points, key=lambda p: -p.y):
        x, y, ink, at = frame.x(p.x), frame.y(p.y), colour(colours.index(p.group)), max(at + 14, frame.y(p.y))
        span = f"{number_text(p.y, True)} [{number_text(p.low, True)}, {number_text(p.high, True)}] at {p.x:.3g}"
        marks += [
            f'<line x1="{x}" x2="{x}" y1="{frame.y(p.low)}" y2="{frame.y(p.high)}" stroke="{ink}" stroke-opacity="0.5" stroke-width="1.6"/>',
            f'<polyline points="{x},{y} {edge},{at - 4} {edge + 8},{at - 4}" fill="none" stroke="{ink}" stroke-opacity="0.25"/>',
            f'<circle cx="{x}" cy="{y}" r="5" fill="{ink}" fill-opacity="0.9" stroke="#fff"><title>{escape(p.label)}: {span}</title></circle>',
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
    dots, bands, notes = dots or {}, bands or {}, notes or {}
    xs = [x for group in (lines, dots) for points in group.values() for x in points[0]]
    ys = [*within, *(y for group in (lines, dots) for points in group.values() for y in points[1])]
    whole = fit(xs, ys + [y for pair in bands.values() for side in pair for y in side])
    frame = Frame(whole.low_x, whole.high_x, whole.low_y, whole.high_y, 316, 196, left=58, right=10, top=28, bottom=42)
    grey = {name: _line(frame, points, "#c9ced6", 1.0) for name, points in lines.items()}
    drawn = []
    for i, name in enumerate(lines):
        marks = [*axes(frame, x_label, y_label, False), *(mark for other, mark in grey.items() if other != name)]
        if name in bands:
            marks.append(_band(frame, lines[name][0], *bands[name], colour(i)))
        marks += [
            f'<circle cx="{frame.x(x)}" cy="{frame.y(y)}" r="2.6" fill="{colour(i)}" fill-opacity="0.3"/>'
            for x, y in zip(*dots.get(name, ((), ())), strict=True)
            if known(y)
        ]
        marks.append(_line(frame, lines[name], colour(i), 2.2))
        note = (
            f'<tspan class="label" dx="8" style="font-weight:400">{escape(notes[name])}</tspan>'
            if name in notes
            else ""
        )
        marks.append(
            f'<text x="58" y="17" class="small" style="font-weight:600">{escape(cut(name, max(12, 40 - len(notes.get(name, "")))))}{note}</text>'
        )
        drawn.append(svg(frame, marks, f"{name}: {y_label} over {x_label}"))
    return f'<div class="panels">{"".join(drawn)}</div>'


def _line(frame: Frame, points: Series, ink: str, width: float) -> str:
    there = [(frame.x(x), frame.y(y)) for x, y in zip(*points, strict=True) if known(y)]
    if len(there) == 1:
        return f'<circle cx="{there[0][0]}" cy="{there[0][1]}" r="{1.4 * width}" fill="{ink}"/>'
    path = " ".join(f"{x},{y}" for x, y in there)
    return f'<polyline points="{path}" fill="none" stroke="{ink}" stroke-width="{width}" stroke-linejoin="round"/>'


def _band(frame: Frame, x: Sequence[float], low: Sequence[float], high: Sequence[float], ink: str) -> str:
    there = [(a, lo, hi) for a, lo, hi in zip(x, low, high, strict=True) if known(lo) and known(hi)]
    up = " ".join(f"{frame.x(a)},{frame.y(hi)}" for a, _, hi in there)
    down = " ".join(f"{frame.x(a)},{frame.y(lo)}" for a, lo, _ in reversed(there))
    return f'<polygon points="{up} {down}" fill="{ink}" fill-opacity="0.2"/>'
