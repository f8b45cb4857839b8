"""Small drawings for the cells of a table, as SVG text without script.

Each shows a value on a scale, with its interval and where it came from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from reward_router.report.frame import FAINT, GRID, INK, PAPER, Frame, number_text, svg, ticks
from reward_router.report.page import Raw

WIDTH = 215
HEIGHT = 22
AXIS = 26
EDGE = 14


@dataclass(frozen=True)
class Scale:
    """What the cells of one column share.

    Args:
        low: the lower end of the range, in data units.
        high: the upper end.
        percent: whether values are shares.
        factor: ticks are written times this.
        zero: where a line to compare with stands.
        count: about how many ticks there are.
    """

    low: float
    high: float
    percent: bool = False
    factor: float = 1.0
    zero: float | None = None
    count: int = 4

    def frame(self, height: int = HEIGHT) -> Frame:
        """The plotting area of one cell."""
        return Frame(
            self.low, self.high, 0, 1, WIDTH, height, left=EDGE, right=EDGE, top=0, bottom=0
        )

    def ticks(self) -> list[float]:
        """The values that the head of the column writes."""
        return [
            v / self.factor
            for v in ticks(self.low * self.factor, self.high * self.factor, self.count)
        ]


def head(scale: Scale, title: str) -> Raw:
    """The head of the column: its title and the axis."""
    frame = scale.frame(AXIS + 12)
    middle = WIDTH / 2
    marks = [f'<text x="{middle}" y="13" text-anchor="middle" class="label">{escape(title)}</text>']
    for value in scale.ticks():
        x = frame.x(value)
        shown = value if scale.percent else value * scale.factor
        text = number_text(shown, scale.percent)
        # A label at either end stays inside the column.
        half = 3.6 * len(text)
        text_x = min(max(x, half), WIDTH - half)
        marks.append(f'<text x="{text_x}" y="29" text-anchor="middle" class="label">{text}</text>')
        marks.append(f'<line x1="{x}" x2="{x}" y1="33" y2="38" stroke="{FAINT}"/>')
    return Raw(svg(frame, marks, f"axis of {title}"))


def value(
    scale: Scale,
    x: float,
    ends: Sequence[float] | None = None,
    start: float | None = None,
    ink: str = INK,
    what: str = "",
) -> Raw:
    """One row's mark.

    Args:
        scale: of the column.
        x: a disc stands here.
        ends: a bar reaches from one to the other.
        start: a ring stands here, with a line to the disc.
        ink: colour of all of them.
        what: the mark in words.
    """
    frame = scale.frame()
    y = HEIGHT / 2
    disc_x = frame.x(x)
    level = f'y1="{y}" y2="{y}" stroke="{ink}"'
    # The grid lies under everything, the disc over everything.
    marks = [_line(frame.x(tick), GRID) for tick in scale.ticks()]
    if scale.zero is not None:
        marks.append(_line(frame.x(scale.zero), FAINT))

    if ends is not None:
        low, high = (frame.x(min(max(end, scale.low), scale.high)) for end in ends)
        marks.append(f'<line x1="{low}" x2="{high}" {level} stroke-width="2.4"/>')

    if start is not None:
        ring_x = frame.x(start)
        thin = f'{level} stroke-opacity=".5" stroke-width="2"'
        ring = f'r="4" fill="{PAPER}" stroke="{ink}" stroke-width="1.6"'
        marks.append(f'<line x1="{ring_x}" x2="{disc_x}" {thin}/>')
        marks.append(f'<circle cx="{ring_x}" cy="{y}" {ring}/>')

    title = f"<title>{escape(what)}</title>" if what else ""
    marks.append(f'<circle cx="{disc_x}" cy="{y}" r="4.6" fill="{ink}">{title}</circle>')
    return Raw(svg(frame, marks, what or "value"))


def _line(x: float, ink: str) -> str:
    return f'<line x1="{x}" x2="{x}" y1="0" y2="{HEIGHT}" stroke="{ink}"/>'


def swatch(ink: str) -> Raw:
    """A square in an arm's colour, before its name."""
    return Raw(
        '<svg width="11" height="11" viewBox="0 0 11 11" aria-hidden="true">'
        f'<rect width="11" height="11" rx="2" fill="{ink}"/></svg>'
    )


def coloured_name(name: str, ink: str) -> Raw:
    """A name with its colour, as the first cell of a row."""
    return Raw(f"{swatch(ink)} {escape(name)}")
