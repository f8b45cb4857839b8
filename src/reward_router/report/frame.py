"""What all charts share: the plotting frame, axes with round ticks, colours, and SVG text."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import product

COLOURS = 12
"""Colours there are before they repeat: ``--c0`` to ``--c11`` of page.css.

Okabe and Ito's come first, then Tol's.
"""
GRID = "var(--line)"
INK = "var(--ink)"
FAINT = "var(--faint)"
PALE = "var(--pale)"
PAPER = "var(--paper)"
HALF = 560
"""Pixels of a chart that fills half the page's width; a third is `THIRD`."""
THIRD = 372
Number = float | int


@dataclass(frozen=True)
class Frame:
    """The plotting area in pixels and the data range it shows.

    ``log_x``: whether the x axis is logarithmic.
    """

    low_x: float
    high_x: float
    low_y: float
    high_y: float
    width: int = HALF
    height: int = 240
    left: int = 58
    right: int = 14
    top: int = 12
    bottom: int = 44
    log_x: bool = False

    def x(self, value: float) -> float:
        """Pixel of a data x."""
        start = self._u(self.low_x)
        # A frame of one value has no span; any will do, since its share is 0.
        span = (self._u(self.high_x) - start) or 1.0
        share = (self._u(value) - start) / span

        room = self.width - self.left - self.right
        pixel = self.left + share * room
        return round(pixel, 2)

    def y(self, value: float) -> float:
        """Pixel of a data y (upwards)."""
        span = (self.high_y - self.low_y) or 1.0
        share = (value - self.low_y) / span

        # Pixels count downwards.
        room = self.height - self.top - self.bottom
        foot = self.height - self.bottom
        pixel = foot - share * room
        return round(pixel, 2)

    def _u(self, value: float) -> float:
        """An x on the scale of the axis."""
        if not self.log_x:
            return value
        # Zero and less have no place on a logarithmic axis; they are drawn at its far left.
        return math.log(max(value, 1e-12))


def colour(index: int) -> str:
    """Colour of the index-th series; repeats after twelve."""
    return f"var(--c{index % COLOURS})"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` round numbers between low and high: steps of 1, 2 or 5 times a power of ten.

    >>> ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    round_steps = [multiple * power for multiple in (1, 2, 5, 10)]
    # A thousandth less, so that rounding does not skip a step that fits exactly.
    least = raw * 0.999
    step = next(round_step for round_step in round_steps if round_step >= least)

    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    # Adding 0.0 makes a -0.0 plain.
    return [round(k * step, 12) + 0.0 for k in range(first, last + 1)]


def frame_around(
    xs: Sequence[Number],
    ys: Sequence[Number],
    log_x: bool = False,
    size: Mapping[str, int] | None = None,
) -> Frame:
    """The frame that holds all given points, with a little room above and below.

    ``size``: fields of `Frame` in pixels.
    """
    known_x = [float(x) for x in xs if known(x)] or [0.0]
    known_y = [float(y) for y in ys if known(y)] or [0.0]

    low = min(known_y)
    high = max(known_y)
    # A constant has no spread to take a share of, and zeros not even a size.
    pad = (high - low) * 0.06 or abs(high) * 0.05 or 0.5

    low_x = min(known_x)
    high_x = max(known_x)
    is_point = high_x == low_x
    if is_point:
        high_x = low_x * 2 if log_x and low_x > 0 else low_x + 1
    if log_x:
        low_x = low_x / 1.15
        high_x = high_x * 1.15
    return Frame(low_x, high_x, low - pad, high + pad, log_x=log_x, **(size or {}))


def axes(frame: Frame, x_label: str, y_label: str, percent: bool, grid: bool = True) -> list[str]:
    """Grid, ticks and titles of both axes."""
    bottom = frame.height - frame.bottom
    right = frame.width - frame.right
    out = []
    for value in ticks(frame.low_y, frame.high_y, 5 if frame.height > 200 else 4):
        y = frame.y(value)
        if grid:
            ends = f'x1="{frame.left}" x2="{right}" y1="{y}" y2="{y}"'
            out.append(f'<line {ends} stroke="{GRID}"/>')
        else:
            out.append("")
        place = f'x="{frame.left - 7}" y="{y + 4}" text-anchor="end"'
        out.append(f'<text {place} class="small">{number_text(value, percent)}</text>')
    for value in _x_ticks(frame):
        x = frame.x(value)
        out.append(f'<line x1="{x}" x2="{x}" y1="{bottom}" y2="{bottom + 4}" stroke="{FAINT}"/>')
        place = f'x="{x}" y="{bottom + 18}" text-anchor="middle"'
        out.append(f'<text {place} class="small">{number_text(value, False)}</text>')
    ends = f'x1="{frame.left}" x2="{right}" y1="{bottom}" y2="{bottom}"'
    out.append(f'<line {ends} stroke="{FAINT}"/>')
    out.append(axis_title(frame, x_label))
    if not y_label:
        return out
    middle = (frame.top + bottom) / 2
    turn = f'text-anchor="middle" transform="rotate(-90 14 {middle})"'
    out.append(f'<text x="14" y="{middle}" {turn} class="label">{escape(y_label)}</text>')
    return out


def _x_ticks(frame: Frame) -> list[float]:
    low = frame.low_x
    high = frame.high_x
    if not frame.log_x:
        # Steps and other counts have no fractions between them.
        both_whole = low % 1 == 0 and high % 1 == 0
        counts = both_whole and high - low >= 2
        most = 6 if frame.width > THIRD else 4
        return [x for x in ticks(low, high, most) if not counts or x % 1 == 0]

    first = math.floor(math.log10(low))
    last = math.ceil(math.log10(high))
    powers = range(first, last + 1)
    candidates = [factor * 10.0**power for power, factor in product(powers, (1, 2, 5))]
    return [x for x in candidates if low <= x <= high]


def axis_title(frame: Frame, text: str) -> str:
    """The title under the x axis."""
    middle = (frame.left + frame.width - frame.right) / 2
    # A low chart has its title close to its edge, clear of the ticks' labels.
    below = 3 if frame.bottom < 40 else 8
    place = f'x="{middle}" y="{frame.height - below}" text-anchor="middle"'
    return f'<text {place} class="label">{escape(text)}</text>'


def svg(frame: Frame, marks: Sequence[str], what: str) -> str:
    """The marks as one SVG element that scales down with the page."""
    size = f'viewBox="0 0 {frame.width} {frame.height}" width="{frame.width}"'
    head = f'<svg {size} height="{frame.height}" role="img" aria-label="{escape(what)}">'
    return head + "".join(marks) + "</svg>"


def known(value: Number | None) -> bool:
    """Neither None nor NaN."""
    return value is not None and not math.isnan(value)


def number_text(value: float, percent: bool) -> str:
    """A value as a reader sees it: four digits, per cent where it is a share."""
    if percent:
        text = f"{100 * value:.4g} %"
    else:
        text = f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    return text.replace("-", "\u2212", 1) if text.startswith("-") else text


def cut(text: str, limit: int) -> str:
    """A long name, shortened with an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def band(
    frame: Frame,
    x: Sequence[Number],
    ends: tuple[Sequence[Number], Sequence[Number]],
    ink: str,
    opacity: float,
) -> str:
    """The area between the low and the high ``ends`` at each x.

    Places without both are left out.
    """
    above = []
    below = []
    for at_x, low, high in zip(x, *ends, strict=True):
        if known(low) and known(high):
            pixel_x = frame.x(at_x)
            above.append(f"{pixel_x},{frame.y(high)}")
            below.append(f"{pixel_x},{frame.y(low)}")
    # Along the high ends from left to right, and back along the low ends.
    outline = f"{' '.join(above)} {' '.join(reversed(below))}"
    return f'<polygon points="{outline}" fill="{ink}" fill-opacity="{opacity}"/>'
