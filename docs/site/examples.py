"""Examples in docstrings (`>>>` lines) as code blocks; Markdown would read them as quotations."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"(?:^>>> .*\n?(?:^(?!>>> |\s*$).*\n?)*)+", re.M)


class Examples(griffe.Extension):
    """Puts a fence around every example of every docstring."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called once for every function, class, attribute and module that was loaded."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(docstring: str) -> str:
    """The docstring with each run of example lines (and what they print) inside a fence."""
    return EXAMPLE.sub(lambda match: f"\n```pycon\n{match.group().rstrip()}\n```\n", docstring)
