"""What jobs measured, and the table that is made of it: means with 95 % intervals.

A job's cell holds, by row and column, one value for every prompt, whose mean is the figure. The
interval is over seeds and prompts together (`jobs.study.mean_interval`); a difference is taken
prompt by prompt and seed by seed before it is averaged.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reward_router.experiments.kind import Plan
from reward_router.jobs.study import mean_interval
from reward_router.rewards.check import wilson
from reward_router.types import Float, Int

AVERAGE = "average"


@dataclass(frozen=True)
class Figure:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Cell:
    """What one job measured with one seed.

    Args:
        values: row -> column -> a value for every prompt; their mean is the figure.
        ready: row -> column -> mean, low and high, where an interval was made elsewhere.
        calls: row -> reward-model calls: a judged row's for recorded scores, else those of a run.
        seconds: row -> wall-clock.
        facts: whatever the experiment's own sections read.
    """

    values: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    ready: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    calls: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def per_prompt(value_P: Float, group_P: Int, weight_P: Float | None = None) -> list[float]:
    """One number for every prompt, whose mean is the weighted mean over all rows. O(P).

    Rows of a prompt are one observation. The mean over rows is a ratio of sums over prompts,
    R = sum_g top_g / sum_g bottom_g; the numbers R + G (top_g - R bottom_g) / sum bottom have the
    mean R, and the variance of their mean is that of R to first order (linearised ratio).

    >>> import numpy as np
    >>> numbers = per_prompt(np.array([1.0, 1.0, 0.0]), np.array([0, 0, 1]))
    >>> round(float(np.mean(numbers)), 9)
    0.666666667
    """
    _, prompt_P = np.unique(group_P, return_inverse=True)
    weights_P = np.ones(len(value_P)) if weight_P is None else weight_P
    top_G = np.bincount(prompt_P, value_P * weights_P)
    bottom_G = np.bincount(prompt_P, weights_P)
    total = float(bottom_G.sum())
    if total == 0:
        return []
    ratio = float(top_G.sum()) / total
    # Rounded far below any interval, so that a cell is small and the same on every machine.
    numbers_G = ratio + len(top_G) * (top_G - ratio * bottom_G) / total
    return [round(number, 12) for number in numbers_G.tolist()]


@dataclass(frozen=True)
class RowResult:
    """One row of the table.

    Args:
        figures: by column; a column without a figure is missing.
        versus: the difference to the row's reference; None where there is none.
        reference: that row.
        calls: mean over seeds; None where they are not counted.
        seconds: mean over seeds, likewise.
        seeds: how many seeds there are.
    """

    figures: Mapping[str, Figure]
    versus: Figure | None
    reference: str
    calls: float | None
    seconds: float | None
    seeds: int


@dataclass(frozen=True)
class Results:
    """All that an experiment came to.

    Args:
        columns: of the table.
        rows: by name, in the order of the jobs.
        cells: (job, seed) -> what it measured.
        failed: (job, seed) -> why it failed.
        missing: (job, seed) that were not run yet.
    """

    columns: Sequence[str]
    rows: Mapping[str, RowResult]
    cells: Mapping[tuple[str, int], Cell]
    failed: Mapping[tuple[str, int], str]
    missing: Sequence[tuple[str, int]]


BySeed = dict[int, Float]
"""Seed -> (P,) values of the prompts."""


def tabulate(
    plan: Plan,
    cells: Mapping[tuple[str, int], Cell],
    failed: Mapping[tuple[str, int], str],
    missing: Sequence[tuple[str, int]],
) -> Results:
    """The table of whatever is there."""
    values = _values(cells.values(), cells)
    for name, parts in plan.derived.items():
        if all(part in values for part in parts):
            values[name] = _mean_of_rows([values[part] for part in parts])
    ready = _ready(cells.values())
    columns = list(plan.columns) or _columns(values, ready)
    rows = {}
    for name in [*values, *(name for name in ready if name not in values)]:
        by_column = values.get(name, {})
        figures = {column: _figure(by_seed, plan.percent) for column, by_seed in by_column.items()}
        for column, numbers in ready.get(name, {}).items():
            figures[column] = Figure(*numbers)
        if plan.average and len(columns) > 1 and all(column in figures for column in columns):
            figures[AVERAGE] = _average([figures[column] for column in columns])
        reference = (
            plan.reference if isinstance(plan.reference, str) else plan.reference.get(name, "")
        )
        versus = None
        if reference and reference != name and reference in values and name in values:
            versus = _difference(plan, columns, values[name], values[reference])
        rows[name] = RowResult(
            figures=figures,
            versus=versus,
            reference=reference if versus else "",
            calls=_mean(plan, name, [cell.calls for cell in cells.values()]),
            seconds=_mean(plan, name, [cell.seconds for cell in cells.values()]),
            seeds=max((len(by_seed) for by_seed in by_column.values()), default=plan.runs),
        )
    shown = [*columns, AVERAGE] if plan.average and len(columns) > 1 else columns
    return Results(shown, rows, cells, failed, missing)


def _values(cells: Iterable[Cell], keys: Iterable[tuple[str, int]]) -> dict[str, dict[str, BySeed]]:
    """Row -> column -> seed -> values; the first job that has a row of a seed gives it."""
    values: dict[str, dict[str, BySeed]] = {}
    for cell, (_, seed) in zip(cells, keys, strict=True):
        for row, by_column in cell.values.items():
            for column, numbers in by_column.items():
                by_seed = values.setdefault(row, {}).setdefault(column, {})
                by_seed.setdefault(seed, np.asarray(numbers, dtype=np.float64))
    return values


def _ready(cells: Iterable[Cell]) -> dict[str, dict[str, Sequence[float]]]:
    ready: dict[str, dict[str, Sequence[float]]] = {}
    for cell in cells:
        for row, by_column in cell.ready.items():
            ready.setdefault(row, {}).update(by_column)
    return ready


def _columns(*tables: Mapping[str, Mapping[str, Any]]) -> list[str]:
    names: dict[str, None] = {}
    for table in tables:
        for by_column in table.values():
            names |= dict.fromkeys(by_column)
    return list(names)


def _mean_of_rows(rows: Sequence[Mapping[str, BySeed]]) -> dict[str, BySeed]:
    """Column by column and seed by seed the mean of several rows."""
    mean: dict[str, BySeed] = {}
    for column in rows[0]:
        if not all(column in row for row in rows):
            continue
        common = set.intersection(*(set(row[column]) for row in rows))
        by_seed: BySeed = {}
        for seed in sorted(common):
            vectors = [row[column][seed] for row in rows]
            if len({len(vector) for vector in vectors}) == 1:
                by_seed[seed] = np.asarray(np.mean(vectors, axis=0), dtype=np.float64)
        mean[column] = by_seed
    return mean


def _figure(by_seed: BySeed, is_share: bool) -> Figure:
    value_SP = _stacked(list(by_seed.values()))
    mean, low, high = mean_interval(value_SP)
    if is_share and low == high and mean in (0.0, 1.0):
        # None (or all) of n prompts: no spread is seen, and still n says little. Wilson's interval.
        low, high = wilson(mean * value_SP.shape[1], value_SP.shape[1])
    if is_share:
        # A share lies in [0, 1], whatever a few seeds' t says.
        return Figure(mean, max(low, min(mean, 0.0)), min(high, max(mean, 1.0)))
    return Figure(mean, low, high)


def _stacked(vectors: Sequence[Float]) -> Float:
    """(S, P) values; (S, 1) means where seeds were measured on different numbers of prompts."""
    if len({len(vector) for vector in vectors}) == 1:
        return np.stack(vectors)
    return np.array([[vector.mean()] for vector in vectors])


def _average(figures: Sequence[Figure]) -> Figure:
    """The mean over columns; their prompts differ, so the half widths add as squares."""
    mean = float(np.mean([figure.mean for figure in figures]))
    halves = np.array([(figure.high - figure.low) / 2 for figure in figures])
    half = float(np.sqrt((halves**2).sum())) / len(figures)
    return Figure(mean, mean - half, mean + half)


def _difference(
    plan: Plan, columns: Sequence[str], own: Mapping[str, BySeed], other: Mapping[str, BySeed]
) -> Figure | None:
    wanted = [plan.compared] if plan.compared else columns if plan.average else columns[:1]
    figures = []
    for column in wanted:
        if column not in own or column not in other:
            return None
        figure = _paired(own[column], other[column])
        if figure is None:
            return None
        figures.append(figure)
    return figures[0] if len(figures) == 1 else _average(figures)


def _paired(own: BySeed, other: BySeed) -> Figure | None:
    """Own less other over the seeds of both; what has one seed for all stands for each of them."""
    seeds = sorted(own.keys() & other.keys())
    if len(other) == 1 or len(own) == 1:
        seeds = sorted(own if len(other) == 1 else other)
    gaps = []
    for seed in seeds:
        mine = own.get(seed, next(iter(own.values())))
        theirs = other.get(seed, next(iter(other.values())))
        if len(mine) != len(theirs):
            return None
        gaps.append(mine - theirs)
    return Figure(*mean_interval(np.stack(gaps))) if gaps else None


def _mean(plan: Plan, name: str, tables: Sequence[Mapping[str, float]]) -> float | None:
    """The mean over seeds of what is counted for a row; of a derived row over its parts."""
    names = plan.derived.get(name, (name,))
    numbers = [table[part] for table in tables for part in names if part in table]
    return float(np.mean(numbers)) if numbers else None
