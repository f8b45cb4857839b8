"""Rows that cannot be read: the first is named, all are counted.

It is an error where they are most of the data.
"""

import warnings
from collections.abc import Mapping
from typing import Any

from reward_router.errors import DataWarning, InputError

DataRow = Mapping[str, Any]


class Broken(str):
    """Why a row cannot be read, in its place among the rows."""


class RowTally:
    """What became of the rows of one source.

    ``read`` rows were looked at; ``lost`` of them cannot be used; ``identical`` pairs hold one
    response twice and ``ties`` have no better one: those two are left out and are no loss.
    """

    def __init__(self, source: str) -> None:
        """Nothing was read yet."""
        self.source = source
        self.read = self.lost = self.identical = self.ties = 0
        self.first: str | None = None

    def broken(self, why: str) -> None:
        """Count a row that cannot be used; the first is named."""
        self.lost += 1
        if self.first is None:
            self.first = why

    def check(self) -> None:
        """InputError where more than half of the rows were lost."""
        if 2 * self.lost > self.read:
            raise InputError(
                f"data {self.source}: {self.lost} of {self.read} rows cannot be read, "
                f"more than half; first: {self.first}"
            )

    def told(self) -> str:
        """What was left out, in words; '' where nothing was."""
        parts = []
        if self.lost:
            parts.append(
                f"{self.lost} of {self.read} rows cannot be read and are left out, "
                f"first: {self.first}"
            )
        if self.identical:
            parts.append(
                f"{self.identical} {_pairs(self.identical)} of identical responses left out"
            )
        if self.ties:
            parts.append(
                f"{self.ties} {_pairs(self.ties)} without a better response (ties) left out"
            )
        return "; ".join(parts)

    def tell(self) -> None:
        """A `DataWarning` with what was left out; the command line prints it."""
        if told := self.told():
            warnings.warn(DataWarning(f"data {self.source}: {told}"), stacklevel=2)


def _pairs(count: int) -> str:
    return "pair" if count == 1 else "pairs"
