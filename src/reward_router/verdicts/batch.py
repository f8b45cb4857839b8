"""The record that travels down a step, and what a way of judging writes into it.

``Batch`` holds one field for every stage, so that no function needs parallel lists: prompts and
responses come from a policy (or anybody), units and contexts are what is routed, decisions come
from the dispatcher, verdicts from a ``VerdictMode``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reward_router.ledger.rows import Call
from reward_router.types import By, Decision, Float

if TYPE_CHECKING:
    from reward_router.committee import Ranking

Place = tuple[int, int]
"""(number of a unit in its batch, number of a cell in its unit): what one verdict is about."""
ResponseAt = tuple[int, int]
"""(row of the batch, index of one of that prompt's responses)."""
Cell = tuple[int, tuple[int, ...]]
"""(row of the batch, indices of some of that prompt's responses)."""


@dataclass(frozen=True)
class Unit:
    """What one decision is about.

    A prompt with its responses, a pair of responses, or a whole batch.
    """

    id: str
    cells: tuple[Cell, ...]


def _no_scores(unit: Unit) -> list[Float]:
    return [np.full(len(columns), np.nan) for _, columns in unit.cells]


@dataclass
class Verdicts:
    """What was said of a batch, and what it took.

    Args:
        scores: per unit, per cell, the scores of that cell's responses; NaN where nobody gave one.
        own: the same by the arm that was drawn, where another may have stood in for it.
        abstained: (unit, cell) of which their own arm said too little to order anything.
        calls: one record a response and arm, for the ledger.
        failures: (decision, arm, reason) of requests that failed as a whole.
        row_failures: the same of single rows of a request that was answered otherwise.
        failed: units whose own arm failed, in the whole request or on every cell of theirs.
        failed_cells: (unit, cell) of which their own arm failed on the row.
        failed_rows: arm -> rows of the batch that it failed on -> why.
        stand_in: (unit, cell) -> the arm whose scores stand there instead of its own arm's.
        others: per unit, what all other arms said of its first cell.
        known: per arm, its scores by (row, response).
        seconds: per arm, what its requests took.
        load_seconds: what loading models took.
        rankings: per (unit, cell), what a committee thinks of its responses.
    """

    scores: list[list[Float]] = field(default_factory=list)
    own: list[list[Float]] = field(default_factory=list)
    abstained: set[Place] = field(default_factory=set)
    calls: list[Call] = field(default_factory=list)
    failures: list[tuple[str, str, str]] = field(default_factory=list)
    row_failures: list[tuple[str, str, str]] = field(default_factory=list)
    failed: set[int] = field(default_factory=set)
    failed_cells: set[Place] = field(default_factory=set)
    failed_rows: dict[str, dict[int, str]] = field(default_factory=dict)
    stand_in: dict[Place, str] = field(default_factory=dict)
    others: dict[int, dict[str, Float]] = field(default_factory=dict)
    known: dict[str, dict[ResponseAt, float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    load_seconds: float = 0.0
    rankings: dict[Place, "Ranking"] = field(default_factory=dict)

    @classmethod
    def silent(cls, units: Sequence[Unit]) -> "Verdicts":
        """Nobody has said anything yet: every score is NaN."""
        return cls([_no_scores(unit) for unit in units])

    def sort_calls(self, decisions: Sequence[Decision]) -> None:
        """Order the calls by decision: which models were in memory is no part of the record."""
        turn = {decision.id: i for i, decision in enumerate(decisions)}
        self.calls.sort(key=lambda call: turn[call.decision_id or ""])

    def by_other(self, place: Place) -> bool:
        """Whether another arm judged this (unit, cell): it says nothing of the unit's own."""
        unit, _ = place
        return unit in self.failed or place in self.abstained or place in self.failed_cells


@dataclass
class Batch:
    """B prompts with their responses on their way through one step.

    Every stage fills its own field.

    Args:
        step: the number of the step; a unit is decided once in a step.
        prompts: B prompts, texts or lists of messages.
        ids: B names of the prompts, none twice.
        responses: per prompt, its N responses; prompts may have different numbers of them.
        gold: per prompt (N,) 1 right, 0 wrong, NaN unknown; None where nothing is known.
        categories: per prompt, its kind; empty where there are none.
        units: what is routed; a session fills in one unit a prompt where it is empty.
        contexts: (U, D) one row for each unit of all processes, although ``units`` are those of
            this process alone; a session computes them where it is None.
        n_units: how many prompts each row of ``contexts`` stands for; empty: one. The name is the
            ledger's.
        audited: rows of the batch that every arm scores as well, seen by neither router nor
            trainer.
        resting: arms that failed lately and are asked only about units that drew them.
        learn: whether a committee may learn from labels of this batch.
        decisions: one a unit, each the receipt for its payoff.
        verdicts: what was said of the units.
        stuck: whether all arms rest and none of them answered.
    """

    step: int
    prompts: Sequence[Any]
    ids: Sequence[str]
    responses: Sequence[Sequence[str]]
    gold: Sequence[Float] | None = None
    categories: Sequence[str] = ()
    units: list[Unit] = field(default_factory=list)
    contexts: NDArray[Any] | None = None
    n_units: Sequence[int] = ()
    audited: frozenset[int] = frozenset()
    resting: frozenset[str] = frozenset()
    learn: bool = True
    decisions: list[Decision] = field(default_factory=list)
    verdicts: Verdicts = field(default_factory=Verdicts)
    stuck: bool = False

    def texts(self, cell: Cell) -> list[str]:
        """The responses of a cell."""
        row, columns = cell
        return [self.responses[row][n] for n in columns]

    def gold_of(self, cell: Cell) -> Float:
        """(N,) gold of the responses of a cell, NaN where it is unknown."""
        row, columns = cell
        if self.gold is None:
            return np.full(len(columns), np.nan)
        gold_N = np.asarray(self.gold[row], np.float64)
        return gold_N[list(columns)]

    def category(self, row: int) -> str:
        """The kind of a prompt, '' where there is none."""
        return self.categories[row] if self.categories else ""


class VerdictMode(Protocol):
    """A way of judging. ``by``: who decides; where it is not the router, decisions have no arm."""

    by: By

    def judge(self, batch: Batch) -> Verdicts:
        """Ask arms about every unit of a batch with decisions.

        Fills ``batch.verdicts`` and returns it.
        """
        ...
