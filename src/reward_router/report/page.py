"""One self-contained HTML page, which all reports share.

Style and a little script stand inside, and nothing is loaded from anywhere. Light and dark follow
the reader's system, narrow screens stack the panels, and paper gets neither script nor folded
details. The script only sorts tables and filters answers: a page without it says the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources

MINUS = "\u2212"


def page(title: str, lead: str, body: Sequence[str], meta: str = "") -> str:
    """A whole HTML document. Units never wrap.

    ``body`` holds finished HTML; the other texts are escaped here.
    """
    files = resources.files("reward_router.report")
    style = (files / "page.css").read_text(encoding="utf-8")
    script = (files / "page.js").read_text(encoding="utf-8")
    head = (
        '<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{style}</style></head>"
    )
    top = f'<h1>{escape(title)}</h1><p class="sub">{escape(lead)}</p>'
    top += f'<p class="meta">{escape(meta)}</p>' if meta else ""
    shown = "".join(body).replace(" %", "\u00a0%").replace(" pp", "\u00a0pp")
    end = f"<script>{script}</script>"
    text = f'<!doctype html><html lang="en">{head}<body>{top}{shown}{end}</body></html>\n'
    # Half a surrogate pair cannot be written.
    return text.encode("utf-8", "replace").decode("utf-8")


class Raw(str):
    """Finished HTML in a cell of `table`, which escapes everything else."""


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    text_columns: int = 1,
    classes: Sequence[str] = (),
    sortable: bool = False,
) -> str:
    """An HTML table; its cells are escaped here but for `Raw` ones.

    Args:
        header: of each column.
        rows: cells of each row.
        text_columns: so many are left-aligned; the very first stays in view where a narrow screen
            scrolls sideways.
        classes: one a row.
        sortable: whether a click on a head sorts.
    """
    marks = ["t" if j < text_columns else "" for j in range(len(header))]
    heads = [f"<th{_class(m)}>{_cell(h)}</th>" for m, h in zip(marks, header, strict=True)]

    lines = []
    for i, row in enumerate(rows):
        cells = [f"<td{_class(m)}>{_cell(c)}</td>" for m, c in zip(marks, row, strict=True)]
        row_class = classes[i] if classes else ""
        lines.append(f"<tr{_class(row_class)}>{''.join(cells)}</tr>")

    head = f"<thead><tr>{''.join(heads)}</tr></thead>"
    body = f"<tbody>{''.join(lines)}</tbody>"
    kind = "sortable" if sortable else ""
    return f'<div class="scroll"><table{_class(kind)}>{head}{body}</table></div>'


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _cell(text: str) -> str:
    return text if isinstance(text, Raw) else escape(text)


def tiles(pairs: Sequence[tuple[str, str]]) -> str:
    """Big numbers with a caption each."""
    drawn = (
        f'<div class="tile"><b>{escape(v)}</b><span>{escape(c)}</span></div>' for v, c in pairs
    )
    return f'<div class="tiles">{"".join(drawn)}</div>'


def facts_list(rows: Sequence[tuple[str, str]]) -> str:
    """What a run says in a few lines: a name and a sentence each."""
    lines = (
        f'<tr><td class="t">{escape(n)}</td><td class="t">{escape(t)}</td></tr>' for n, t in rows
    )
    return f'<table class="facts"><tbody>{"".join(lines)}</tbody></table>'


WORDS = {
    "better": "\u25b2 Better.",
    "worse": "\u25bc Worse.",
    "neither": "\u25a0 No difference shown.",
}


def verdict(
    headline: str, sentences: Sequence[str], tone: str = "", words: Mapping[str, str] = WORDS
) -> str:
    """The box at the top: what came of it, and why.

    ``tone``: better, worse or neither, said by word, mark and colour.
    """
    word = ""
    if tone in words:
        word = f'<span class="word">{escape(words[tone])}</span> '
    head = f'<b class="{escape(tone)}">{word}{escape(headline)}</b>'
    lines = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    return f'<div class="verdict {escape(tone)}">{head}{lines}</div>'


def note(text: str) -> str:
    """A caption: what to look for."""
    return f'<p class="note">{escape(text)}</p>'


def figure(title: str, caption: str, drawing: str, kind: str = "") -> str:
    """A chart under its title and caption.

    ``kind``: half (its text grows on a phone) or wide (it scrolls there).
    """
    if not drawing:
        return ""
    head = f"<b>{escape(title)}</b>" if title else ""
    text = f"<figcaption>{head}{escape(caption)}</figcaption>"
    return f'<figure class="figure {kind}">{text}{drawing}</figure>'


def grid(parts: Iterable[str], columns: int = 2) -> str:
    """Figures side by side, one below the other on a narrow screen; what is empty takes no room."""
    shown = [part for part in parts if part]
    return f'<div class="grid{columns}">{"".join(shown)}</div>' if shown else ""


def folded(title: str, body: str, opened: bool = False) -> str:
    """A part that opens on demand; nothing where ``body`` is empty."""
    if not body:
        return ""
    return f"<details{' open' if opened else ''}><summary>{escape(title)}</summary>{body}</details>"


def percent(value: float, digits: int = 1) -> str:
    """A share as a reader sees it.

    >>> percent(0.125), percent(0.5, 0)
    ('12.5 %', '50 %')
    """
    return f"{100 * value:.{digits}f} %"


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign, the minus a real one.

    >>> signed(-1.25, 2), signed(3)
    ('−1.25', '+3.0')
    """
    text = f"{value:+.{digits}f}"
    return f"{MINUS}{text[1:]}" if text.startswith("-") else text


def points(value: float) -> str:
    """A difference of shares in percentage points, signed."""
    return signed(100 * value)


def interval(ends: Sequence[float | None] | None, shown: str = "-") -> str:
    """A 95 % interval of a difference, in percentage points; ``shown`` where there is none."""
    if ends is None:
        return shown
    low, high = ends
    # The last two comparisons are true of NaN only.
    if low is None or high is None or low != low or high != high:
        return shown
    return f"{points(low)} to {points(high)}"
