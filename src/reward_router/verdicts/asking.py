"""One request to one arm about cells of a batch, and the calls that it is recorded as.

A response that several units hold is asked about once; for the others the call is recorded as
shared, at no price.
"""

import math
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from reward_router.errors import RunError
from reward_router.ledger.rows import Call
from reward_router.rewards.pool import RewardPool
from reward_router.rewards.request import ScoreResult
from reward_router.types import Decision, Float
from reward_router.verdicts.batch import Batch, Cell, ResponseAt, Unit


@dataclass
class ArmReply:
    """What one arm said to one request.

    Args:
        arm: the arm's name.
        score: its scores by (row, response), NaN where it failed or abstained.
        result: the request's result; None where all was known already, so that nothing was asked.
        cost: the price of one call.
        failed: rows of the batch that the arm could not answer; their calls bear that status.
        seen: places whose call is recorded already; it takes in those that are.
        bills: seconds and price of each place as the arm measured them; a price of NaN: it did not.
    """

    arm: str
    score: Mapping[ResponseAt, float]
    result: ScoreResult | None
    cost: float = 1.0
    failed: Container[int] = ()
    seen: set[ResponseAt] = field(default_factory=set)
    bills: Mapping[ResponseAt, tuple[float, float]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the request as a whole did not fail."""
        return self.result is None or self.result.ok

    @property
    def reason(self) -> str:
        """Why the request failed."""
        return "" if self.result is None else f"{self.result.status}: {self.result.error}"

    def calls(self, decision: Decision, unit: Unit, status: str) -> list[Call]:
        """One record a response of this unit.

        ``status`` where the arm answered, shared where it had before.
        """
        calls = []
        for row, columns in unit.cells:
            for n in columns:
                response = f"{unit.id}/{row}/{n}"
                effort = self._effort((row, n), status)
                calls.append(Call(decision.id, response, self.arm, self.score[row, n], *effort))
                # The first unit that holds a response pays for it; the next ones share it.
                self.seen.add((row, n))
        return calls

    def _effort(self, place: ResponseAt, status: str) -> tuple[str, float, float]:
        """(status, seconds, price) of the call about one response."""
        if place in self.seen:
            return "shared", 0.0, 0.0

        # An arm that keeps no bill took an equal share of the request, at the configured price.
        seconds, price = self.bills.get(place, (self._seconds_a_call(), math.nan))
        if math.isnan(price):
            price = self.cost
        return self._status_of(place, status), seconds, price

    def _status_of(self, place: ResponseAt, status: str) -> str:
        """What the ledger says of one response: the row's failure before the request's status."""
        row, _ = place
        if row in self.failed:
            return "failed"
        if not self.ok and self.result is not None:
            return self.result.status
        # NaN from an arm that answered is its own refusal to judge, and no failure.
        if status == "ok" and math.isnan(self.score[place]):
            return "abstained"
        return status

    def _seconds_a_call(self) -> float:
        if self.result is None:
            return 0.0
        return self.result.seconds / max(1, self.result.n_calls)


class Asker:
    """Asks the pool on behalf of decisions.

    Args:
        pool: the arms.
        costs: the price of one call by arm; 1 where an arm is not listed.
        fallback: the arm that is asked first where the drawn one failed or abstained.
        noise: standard deviation of noise put on scores of unit variance (LASER section 5); 0:
            none.
        seed: of that noise.
        say: is told what is being scored.
        warn: is told what a user should read.
    """

    def __init__(
        self,
        pool: RewardPool,
        costs: Mapping[str, float] | None = None,
        *,
        fallback: str | None = None,
    ) -> None:
        """Without noise, and silent, unless the attributes say otherwise."""
        self.pool = pool
        self.costs = dict(costs or {})
        self.fallback = fallback
        self.noise = 0.0
        self.seed = 0
        self.say: Callable[[str], None] = lambda _: None
        self.warn: Callable[[str], None] = lambda _: None

    def cost(self, arm: str) -> float:
        """The price of one call."""
        return self.costs.get(arm, 1.0)

    def ask(self, batch: Batch, arm: str, cells: Iterable[Cell]) -> ArmReply:
        """One request about these cells.

        Its seconds and the rows that failed go into the batch's verdicts.
        """
        wanted = list(cells)
        verdicts = batch.verdicts
        n_responses = sum(len(columns) for _, columns in wanted)
        self.say(f"scoring {n_responses} responses with {arm}")
        prompts = [batch.prompts[row] for row, _ in wanted]
        responses = [batch.texts(cell) for cell in wanted]
        result = self.pool.score(arm, prompts, responses)
        for notice in result.notices:
            self.warn(f"warning: arm {arm!r}: {notice}")
        # A refusal that no later request can mend (a wrong key, a spent budget) ends the run.
        if result.stops:
            raise RunError(f"arm {arm!r}: {result.error}")

        verdicts.seconds[arm] = verdicts.seconds.get(arm, 0.0) + result.seconds
        verdicts.load_seconds += result.load_seconds
        failed_rows = verdicts.failed_rows.setdefault(arm, {})
        # The request numbers its own rows; the verdicts know those of the batch.
        for i, why in result.row_errors.items():
            row, _ = wanted[i]
            failed_rows[row] = why

        score: dict[ResponseAt, float] = {}
        bills: dict[ResponseAt, tuple[float, float]] = {}
        for i, (row, columns) in enumerate(wanted):
            for j, n in enumerate(columns):
                score[row, n] = float(result.scores_BN[i, j])
                bills[row, n] = result.bill(i, j)
        return ArmReply(arm, score, result, self.cost(arm), failed_rows, bills=bills)

    def ask_the_rest(self, batch: Batch, arm: str, units: Iterable[Unit]) -> ArmReply:
        """The same about those responses of the units that the arm has not scored yet.

        It remembers what it said.
        """
        known = batch.verdicts.known.setdefault(arm, {})
        # Taken before the request: what it brings is new and has to be paid for.
        seen = set(known)
        missing = cells_of(units, known)
        if not missing:
            failed_rows = batch.verdicts.failed_rows.get(arm, {})
            return ArmReply(arm, known, None, self.cost(arm), failed_rows, seen)

        reply = self.ask(batch, arm, missing)
        score = {**known, **reply.score}
        # A failed request leaves NaN, which is not known: the next caller may ask again.
        if reply.ok:
            known.update(reply.score)
        return ArmReply(arm, score, reply.result, reply.cost, reply.failed, seen, reply.bills)


def silent(score_N: Float) -> bool:
    """Whether these scores order nothing: fewer than two of them are numbers.

    One response alone is never ordered; its score is a reward, and a number is all it needs.
    """
    needed = 1 if len(score_N) == 1 else 2
    return int(np.isfinite(score_N).sum()) < needed


def note_rows(batch: Batch, decision: Decision, arm: str, unit: Unit) -> None:
    """Write down the rows of this unit that the arm failed on."""
    failed = batch.verdicts.failed_rows.get(arm, {})
    for row, _ in unit.cells:
        if row in failed:
            reason = failed[row]
            failure = (decision.id, arm, reason)
            batch.verdicts.row_failures.append(failure)


def zscores(score: Mapping[ResponseAt, float]) -> dict[ResponseAt, float]:
    """One arm's scores at mean 0 and standard deviation 1 over the batch.

    A constant arm says nothing (0).
    """
    finite = np.array([value for value in score.values() if np.isfinite(value)])
    if len(finite) == 0:
        return dict(score)

    mean = float(finite.mean())
    sd = float(finite.std())
    if sd > 0:
        return {place: (value - mean) / sd for place, value in score.items()}
    # Times 0 and not 0, so that NaN stays NaN.
    return {place: 0.0 * value for place, value in score.items()}


def cells_of(units: Iterable[Unit], known: Container[ResponseAt] = frozenset()) -> list[Cell]:
    """What these units need beyond the ``known`` places, each response of a row once."""
    wanted_by_row: dict[int, set[int]] = {}
    for unit in units:
        for row, columns in unit.cells:
            unknown = [n for n in columns if (row, n) not in known]
            wanted_by_row.setdefault(row, set()).update(unknown)

    cells = []
    # In the order of the batch, so that the request does not depend on the order of the units.
    for row, wanted in sorted(wanted_by_row.items()):
        if wanted:
            cells.append((row, tuple(sorted(wanted))))
    return cells
