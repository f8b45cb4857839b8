"""Rows of a data set, wherever it lies and whatever holds it: one reader for every command.

A row comes with its place (file and line) for error messages, and a row that cannot be read comes
as `Broken`, which says why. Knows nothing of prompts, preferences or scores: `data` and `replay`
do.
"""

from reward_router.reading.broken import Broken, DataRow, RowTally
from reward_router.reading.container import FORMATS, FileKind, kind_of
from reward_router.reading.source import Placed, is_hub_name, read_rows

__all__ = [
    "FORMATS",
    "Broken",
    "DataRow",
    "FileKind",
    "Placed",
    "RowTally",
    "is_hub_name",
    "kind_of",
    "read_rows",
]
