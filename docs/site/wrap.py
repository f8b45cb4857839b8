"""Wraps the prose of Markdown pages at 100 columns; code, tables, headings and comments stay.

    python docs/site/wrap.py FILE...    rewrite the files in place

A paragraph or list item whose lines are all short enough is left as it is.
"""

import re
import sys
from pathlib import Path

WIDTH = 100
FENCE = re.compile(r"^\s*```")
ITEM = re.compile(r"^\s*([-*+]|\d+\.)\s+")
STAYS = ("|", "#", "<", "![")
"""Lines that begin so are tables, headings, comments and pictures."""

GLUED = re.compile(r"^([-+*>]|\d+[.)]|#+|=+|%\S*|\|.*)$")
"""Words that would mean something else, or read badly, at the beginning of a line."""


def wrapped(text: str) -> str:
    """The page with its long paragraphs wrapped."""
    lines = text.split("\n")
    out: list[str] = []
    in_code = False
    position = 0
    while position < len(lines):
        line = lines[position]
        if FENCE.match(line):
            in_code = not in_code
        if in_code or stays(line) or FENCE.match(line) or is_indented_code(line, out):
            out.append(line)
            position += 1
            continue
        end = position + 1
        while end < len(lines) and continues(lines[end]):
            end += 1
        paragraph = lines[position:end]
        if any(len(each) > WIDTH for each in paragraph):
            paragraph = filled(paragraph)
        out += paragraph
        position = end
    return "\n".join(out)


def stays(line: str) -> bool:
    """Whether a line is no prose."""
    return not line.strip() or line.lstrip().startswith(STAYS)


def is_indented_code(line: str, before: list[str]) -> bool:
    """Whether a line is code by its indentation: four spaces, after an empty line or more of it."""
    if not line.startswith("    ") or ITEM.match(line):
        return False
    return not before or not before[-1].strip() or before[-1].startswith("    ")


def continues(line: str) -> bool:
    """Whether a line belongs to the paragraph or list item before it."""
    return not (stays(line) or FENCE.match(line) or ITEM.match(line))


def filled(paragraph: list[str]) -> list[str]:
    """One paragraph or list item in lines of at most `WIDTH` columns."""
    item = ITEM.match(paragraph[0])
    indent = re.match(r"\s*", paragraph[0]).group()  # type: ignore[union-attr]
    first = item.group() if item else indent
    rest = " " * len(first)
    text = " ".join([paragraph[0][len(first) :], *paragraph[1:]])
    all_words = words(text)
    lines = [first + all_words[0]]
    for word in all_words[1:]:
        if len(lines[-1]) + 1 + len(word) <= WIDTH:
            lines[-1] += " " + word
        else:
            lines.append(rest + word)
    return lines


def words(text: str) -> list[str]:
    """The words of a text; a word that may not begin a line is joined to the one before it."""
    joined: list[str] = []
    for word in text.split():
        if joined and GLUED.match(word):
            joined[-1] += " " + word
        else:
            joined.append(word)
    return joined


if __name__ == "__main__":
    for name in sys.argv[1:]:
        page = Path(name)
        page.write_text(wrapped(page.read_text(encoding="utf-8")), encoding="utf-8")
