"""A sampled response: a text that knows whether it came to its own end.

This module needs no torch, so that code which only chooses among texts can use it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class Response(str):
    """A response that knows how it ended.

    ``finished`` is True where the model ended it and False where the token limit cut it. ``tokens``
    is how many tokens were generated for it, its end-of-sequence token included; None: not counted.

    >>> Response("Paris.", finished=False).finished, Response("Paris.") == "Paris."
    (False, True)
    """

    finished: bool
    tokens: int | None

    def __new__(cls, text: str, finished: bool = True, tokens: int | None = None) -> "Response":
        """Text, whether its end is the model's own, and its length in tokens."""
        made = super().__new__(cls, text)
        made.finished = finished
        made.tokens = tokens
        return made


def finished(responses: Sequence[str]) -> NDArray[np.bool_]:
    """(N,) whether each response came to its own end; a plain text did.

    >>> finished(["yes", Response("no, bec", finished=False)]).tolist()
    [True, False]
    """
    return np.array([not isinstance(r, Response) or r.finished for r in responses], dtype=bool)
