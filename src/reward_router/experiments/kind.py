"""What an experiment is: its declaration, what a user asked for, and the plan that comes of both.

A file of this folder that ends with ``KIND = ExperimentKind(...)`` is an experiment; nothing else
lists the names. Its ``make`` turns a `Request` into a `Plan`: jobs that are run seed by seed, each
in a folder of its own, and how their figures are laid out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from reward_router.kinds import Kind, KindTable

if TYPE_CHECKING:
    from reward_router.config import Config
    from reward_router.experiments.results import Cell, Results

PROFILES = ("laptop", "gpu")
"""``laptop``: the embedded policy, tasks and recorded scores; ``gpu``: the papers' models."""


@dataclass(frozen=True)
class Published:
    """A table of a paper, copied figure by figure.

    Args:
        source: which paper, table and section.
        setting: whose figures these are, as in "published, Llama-3-8B".
        header: of each column.
        rows: the cells as they are printed; '-' where the paper gives no figure.
        note: what a reader must know of it.
    """

    source: str
    setting: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    @classmethod
    def of(cls, source: str, setting: str, text: str, note: str = "") -> Published:
        """A table written as lines of cells that are parted by ``|``; the first is the header."""
        lines = [line.strip() for line in text.strip().splitlines()]
        cells = [tuple(cell.strip() for cell in line.split("|")) for line in lines]
        return cls(source, setting, cells[0], tuple(cells[1:]), note)


@dataclass(frozen=True)
class Request:
    """What a user asked for.

    Args:
        profile: one of `PROFILES`.
        seeds: runs of each variant; None: as many as the experiment usually has.
        scores: files of recorded scores; none: the experiment's own.
        responses: a file of responses for the experiments with best of n.
        config: a configuration in place of the packaged ones.
        settings: ``a.b=v`` changes of every variant.
    """

    profile: str = "laptop"
    seeds: int | None = None
    scores: tuple[str, ...] = ()
    responses: str | None = None
    config: str | None = None
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """Where a job works: its seed, its own folder, one that all jobs share, and the console."""

    seed: int
    folder: Path
    shared: Path
    console: Console


@dataclass(frozen=True)
class Job:
    """One variant, run once a seed.

    Args:
        name: names its folder, and the variant where it fails.
        sentence: what it is, for the page.
        work: does it; returns what came of it.
        seeded: whether a seed changes it; else it is run once.
        needs: jobs whose runs of the same seed it reads; it waits for them.
    """

    name: str
    sentence: str
    work: Callable[[Place], Cell]
    seeded: bool = True
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """A further section of the page: a table, and perhaps a drawing of it.

    Args:
        title: its heading.
        caption: what to look for.
        header: of each column of the table.
        rows: its cells.
        drawing: finished SVG.
        wide: whether the drawing takes the page's whole width.
    """

    title: str
    caption: str
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    drawing: str = ""
    wide: bool = True


@dataclass(frozen=True)
class Plan:
    """The jobs of an experiment, and how their figures are laid out.

    Args:
        jobs: the variants.
        seeds: how many seeds each has.
        runs: seeds that a job runs by itself, where intervals are made elsewhere.
        subject: whose figures these are, as in "here, SmolLM2-135M on the embedded tasks".
        metric: what a figure is, with its unit.
        columns: of the main table; empty: those that the cells have, in their order.
        reference: row -> the row that it is compared with, pair by pair; a text: one for all.
        compared: the column of that comparison; '': the average, or the only column.
        average: whether a column with the mean over the columns is added.
        derived: row -> rows of which it is the mean.
        percent: whether figures are shares.
        notes: what a reader must know of the data.
        identity: what the figures depend on beside the options, for ``--resume``.
        parts: draws further sections from the results.
        example: the configuration of one run, where runs train; --dry-run estimates it.
        deviations: beyond those of the experiment, those of this profile and data.
    """

    jobs: Sequence[Job]
    seeds: int
    subject: str
    metric: str
    runs: int = 1
    columns: Sequence[str] = ()
    reference: Mapping[str, str] | str = ""
    compared: str = ""
    average: bool = False
    derived: Mapping[str, Sequence[str]] = field(default_factory=dict)
    percent: bool = True
    notes: Sequence[str] = ()
    identity: Mapping[str, Any] = field(default_factory=dict)
    parts: Callable[[Results], list[Part]] | None = None
    deviations: Sequence[str] = ()
    example: Config | None = None


@dataclass(frozen=True)
class ExperimentKind(Kind):
    """An experiment by name. ``make`` takes a `Request` and gives a `Plan`.

    Args:
        paper: which paper, tables and figures.
        published: its tables, copied.
        deviations: where this differs from the paper, numbered on the page.
        unknown: settings that the paper does not give.
        cost: what it takes, by profile, in words.
    """

    paper: str = ""
    published: tuple[Published, ...] = ()
    deviations: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    cost: Mapping[str, str] = field(default_factory=dict)


EXPERIMENTS = KindTable("experiment", "reward_router.experiments", ExperimentKind)
"""The experiments that `reward-router experiment` knows by name."""
