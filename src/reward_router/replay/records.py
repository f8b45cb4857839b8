"""Recorded scores of labelled pairs as columns: what this package works on.

Accuracy convention: right 1, tie 1/2, wrong 0; an arm that was not recorded on a row abstains there
and counts 1/2.

A *call* here is one arm judging one pair (a scalar reward model needs two forward passes for it).
Text is kept only while features need it, so a file of a million rows is held as numbers alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router.errors import InputError
from reward_router.types import Float, Int

Tag = tuple[Int, tuple[str, ...]]
"""A column of text: the code of each row, and what the codes stand for."""
NO_VALUE = "none"  # of a column, on a row that has none


@dataclass(frozen=True)
class Records:
    """P labelled pairs with the scores of K arms.

    Args:
        name: of the file.
        arms: their names.
        first_PK: scores of response a; NaN: the arm abstained.
        second_PK: scores of response b.
        label_P: +1 where a is right, -1 where b is.
        group_P: the prompts' numbers, 0..G-1.
        category_P: indexes ``categories``.
        categories: their names.
        cost_PK: price of one call; None: 1 for all.
        prompts: one text a group; empty where they were not kept.
        responses: one pair of texts a row; empty where they were not kept.
        problems: the first of the rows that could not be used.
        n_broken: number of such rows.
        n_identical: rows left out because both responses are the same.
        n_ties: rows left out because their label is a tie.
        official: the benchmark's own metric by arm.
        source_P: indexes ``sources``.
        sources: the benchmarks or tasks that rows are from; the file's name where a row names none.
        key_G: tells which prompts of two files are one.
        length_P2: characters of the two responses, NaN where they are not recorded.
        tags: further columns that were asked for.
    """

    name: str
    arms: tuple[str, ...]
    first_PK: Float
    second_PK: Float
    label_P: NDArray[np.int8]
    group_P: Int
    category_P: Int
    categories: tuple[str, ...]
    cost_PK: Float | None = None
    prompts: tuple[str, ...] = ()
    responses: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()
    n_broken: int = 0
    n_identical: int = 0
    n_ties: int = 0
    official: Mapping[str, Any] = field(default_factory=dict)
    source_P: Int | None = None
    sources: tuple[str, ...] = ()
    key_G: NDArray[np.uint64] | None = None
    length_P2: Float | None = None
    tags: Mapping[str, Tag] = field(default_factory=dict)

    def __len__(self) -> int:
        """Rows."""
        return len(self.label_P)

    @property
    def n_groups(self) -> int:
        """Number of distinct prompts."""
        return int(self.group_P.max()) + 1

    @cached_property
    def margins_PK(self) -> Float:
        """Score of a minus score of b; NaN where the arm abstained."""
        return self.first_PK - self.second_PK

    @cached_property
    def present_PK(self) -> NDArray[np.bool_] | None:
        """(P, K) which arms may be drawn on a row: those with a score there, all where none has.

        None: all arms everywhere.
        """
        present_PK = ~np.isnan(self.margins_PK)
        if present_PK.all():
            return None
        present_PK[~present_PK.any(axis=1)] = True
        return present_PK

    def eligible(self, value_PK: Float, rows_P: Int | None = None) -> Float:
        """Values of the arms with -inf where an arm cannot be drawn: for an argmax.

        ``rows_P``: the rows that the values belong to; None: all.
        """
        if self.present_PK is None:
            return value_PK
        present_PK = self.present_PK if rows_P is None else self.present_PK[rows_P]
        return np.where(present_PK, value_PK, -np.inf)

    @cached_property
    def correct_PK(self) -> Float:
        """1 right, 1/2 tie or abstained, 0 wrong."""
        return credit(self.margins_PK, self.label_P[:, None])

    @cached_property
    def price_PK(self) -> Float:
        """Price of one call; 1 where the file names no cost."""
        return np.broadcast_to(1.0, self.margins_PK.shape) if self.cost_PK is None else self.cost_PK

    def tag(self, column: str) -> Tag:
        """``category``, ``source`` or a column that was asked for.

        ``InputError`` where no row has it.
        """
        tags: dict[str, Tag] = {"category": (self.category_P, self.categories), **self.tags}
        if self.source_P is not None:
            tags["source"] = (self.source_P, self.sources)
        if column not in tags or tags[column][1] == (NO_VALUE,):
            there = [name for name, (_, values) in tags.items() if values != (NO_VALUE,)]
            allowed = ", ".join(there) or "none, for no row has a category or a source"
            raise InputError(
                f"{self.name}: no row has a column {column!r}, allowed here: {allowed}"
            )
        return tags[column]

    def take(self, rows_P: Int, name: str | None = None) -> "Records":
        """These rows alone, in this order. O(rows).

        Prompts are numbered anew; categories and sources keep their numbers.
        """
        kept_G, group_P = np.unique(self.group_P[rows_P], return_inverse=True)
        return replace(
            self,
            name=name or self.name,
            first_PK=self.first_PK[rows_P],
            second_PK=self.second_PK[rows_P],
            label_P=self.label_P[rows_P],
            group_P=group_P.astype(np.int64),
            category_P=self.category_P[rows_P],
            cost_PK=None if self.cost_PK is None else self.cost_PK[rows_P],
            prompts=tuple(self.prompts[g] for g in kept_G) if self.prompts else (),
            responses=tuple(self.responses[p] for p in rows_P) if self.responses else (),
            source_P=None if self.source_P is None else self.source_P[rows_P],
            key_G=None if self.key_G is None else self.key_G[kept_G],
            length_P2=None if self.length_P2 is None else self.length_P2[rows_P],
            tags={column: (code_P[rows_P], names) for column, (code_P, names) in self.tags.items()},
        )

    def select(self, keep: str | None = None, drop: str | None = None) -> "Records":
        """Only the arms whose name matches the glob ``keep`` and none of ``drop``.

        Commas separate several globs.

        Raises ``InputError`` where fewer than two arms are left: one arm leaves nothing to route.
        """
        kept = [
            k
            for k, arm in enumerate(self.arms)
            if _matches(arm, keep, True) and not _matches(arm, drop, False)
        ]
        if len(kept) < 2:
            names = ", ".join(self.arms[k] for k in kept) or "none"
            raise InputError(
                f"{self.name}: routing needs at least 2 arms, "
                f"{names} left of {', '.join(self.arms)}"
            )
        if len(kept) == len(self.arms):
            return self
        return replace(
            self,
            arms=tuple(self.arms[k] for k in kept),
            first_PK=self.first_PK[:, kept],
            second_PK=self.second_PK[:, kept],
            cost_PK=None if self.cost_PK is None else self.cost_PK[:, kept],
        )


def credit(margins: Float, label: Float | NDArray[np.int8]) -> Float:
    """1 where margin and label agree in sign, 0 where they disagree. Elementwise.

    1/2 where the margin is 0 or NaN.
    """
    return np.asarray(0.5 + 0.5 * np.sign(np.nan_to_num(margins)) * label)


def _matches(arm: str, globs: str | None, empty: bool) -> bool:
    return empty if not globs else any(fnmatchcase(arm, g.strip()) for g in globs.split(","))
