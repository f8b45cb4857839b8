"""One self-contained HTML page: style inside, nothing loaded from anywhere, readable on paper. Shared by all reports."""

from collections.abc import Sequence
from html import escape

STYLE = """
:root{--ink:#1c2733;--faint:#5f6b7a;--line:#e3e6ea;--tint:#f6f8fa;--blue:#0072B2}
*{box-sizing:border-box}
body{font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,Helvetica,Arial,sans-serif;color:var(--ink);margin:0 auto;max-width:1180px;padding:28px 24px 80px;background:#fff}
h1{font-size:26px;margin:0 0 4px;letter-spacing:-.01em}h2{font-size:20px;margin:44px 0 8px;padding-top:14px;border-top:1px solid var(--line)}h3{font-size:16px;margin:28px 0 4px}
p{margin:6px 0 10px;max-width:92ch}.sub{color:var(--faint)}.note{color:var(--faint);font-size:13.5px}
.verdict{background:#eef5fa;border-left:5px solid var(--blue);padding:14px 18px;margin:16px 0 20px;border-radius:0 6px 6px 0;max-width:none}
.verdict b{display:block;font-size:17px;margin-bottom:4px}.verdict p{margin:4px 0;max-width:none}
.tiles{display:flex;flex-wrap:wrap;gap:12px;margin:14px 0}.tile{border:1px solid var(--line);border-radius:8px;padding:10px 16px;min-width:130px}
.tile b{display:block;font-size:21px}.tile span{color:var(--faint);font-size:13px}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:13px;margin:10px 0;width:100%}
th,td{padding:4px 8px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap;font-variant-numeric:tabular-nums}
th{background:var(--tint);font-weight:600;position:sticky;top:0}td:first-child,th:first-child,td.t,th.t{text-align:left}
.facts td{white-space:normal;vertical-align:top}.facts td:first-child{white-space:nowrap;font-weight:600}
tr.best td{background:#f3faf6}tr.worse td{background:#fdf2ec}tr.dim td{color:var(--faint)}
svg{max-width:100%;height:auto;display:block;margin:6px 0}svg .small{font-size:11.5px;fill:var(--ink)}svg .label{font-size:12.5px;fill:var(--faint)}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:12.5px;margin:0 0 8px 62px}.key{display:inline-flex;align-items:center;gap:6px}
details{margin:10px 0}summary{cursor:pointer;color:var(--blue)}nav a{margin-right:14px;color:var(--blue);text-decoration:none}
code{background:var(--tint);padding:1px 4px;border-radius:3px;font-size:.92em}
.panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(285px,1fr));gap:6px 12px;margin:8px 0}pre{background:var(--tint);padding:12px 14px;border-radius:6px;overflow-x:auto;font-size:12.5px;line-height:1.45}
.figure{overflow-x:auto}@media(max-width:640px){body{padding:18px 14px 60px}.figure>svg{max-width:none;zoom:.8}.figure.fit,.figure.fit>svg{overflow:visible}.figure.fit>svg{max-width:100%;zoom:1}.figure.fit>svg .small,.figure.fit>svg .label{font-size:19px}.figure.fit>svg [transform]{translate:-14px 0}.legend{margin-left:8px}}
@media print{body{max-width:none}h2{break-before:auto}svg,table{break-inside:avoid}}
"""


def page(title: str, lead: str, body: Sequence[str]) -> str:
    """A whole HTML document; ``body`` holds finished HTML, ``title`` and ``lead`` are escaped here. Units never wrap."""
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    head = f"<head>{meta}<title>{escape(title)}</title><style>{STYLE}</style></head>"
    top = f'<h1>{escape(title)}</h1><p class="sub">{escape(lead)}</p>'
    text = f'<!doctype html><html lang="en">{head}<body>{top}{"".join(body)}</body></html>\n'
    return text.replace(" %", "\u00a0%").replace(" pp", "\u00a0pp")


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1, classes: Sequence[str] = ()
) -> str:
    """An HTML table of plain text cells (escaped here); the first ``text_columns`` are left-aligned, ``classes`` one a row."""
    marks = ['class="t"' if j < text_columns else "" for j in range(len(header))]
    head = "".join(f"<th {m}>{escape(h)}</th>" for m, h in zip(marks, header, strict=True))
    lines = []
    for i, row in enumerate(rows):
        cells = "".join(f"<td {m}>{escape(cell)}</td>" for m, cell in zip(marks, row, strict=True))
        lines.append(f'<tr class="{classes[i] if classes else ""}">{cells}</tr>')
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def tiles(pairs: Sequence[tuple[str, str]]) -> str:
    """Big numbers with a caption each."""
    return (
        '<div class="tiles">'
        + "".join(f'<div class="tile"><b>{escape(v)}</b><span>{escape(c)}</span></div>' for v, c in pairs)
        + "</div>"
    )


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """What a run says in a few lines: a name and a sentence each."""
    lines = (f'<tr><td class="t">{escape(name)}</td><td class="t">{escape(text)}</td></tr>' for name, text in rows)
    return f'<table class="facts"><tbody>{"".join(lines)}</tbody></table>'


def verdict(headline: str, sentences: Sequence[str]) -> str:
    """The box at the top: what to do, and why."""
    return f'<div class="verdict"><b>{escape(headline)}</b>{"".join(f"<p>{escape(s)}</p>" for s in sentences)}</div>'
