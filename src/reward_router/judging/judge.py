"""Who judges what: every unit's responses go to the arm that was drawn for it; the fallback answers where that arm cannot.

One call per response of a unit, and one only where several units of an arm hold the same response; an ensemble (the
baseline) asks all K arms; an audit asks the others as well, for agreement figures only, and ``compare`` for a payoff that
needs all labels. An arm cannot answer when its request fails (raises, NaN of the wrong shape, too slow), or when it abstains
on a prompt: fewer than two of its scores are numbers, so it orders nothing. The fallback's scores are trained on;
what the chosen arm itself said is kept beside them, because the router learns of that arm. What no arm scored stays NaN.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from reward_router.committee import Ranking
from reward_router.data import Prompt
from reward_router.errors import RunError
from reward_router.keyed import rng
from reward_router.ledger.rows import Call
from reward_router.rewards.pool import RewardPool
from reward_router.rewards.request import ScoreResult
from reward_router.types import Decision, Float


@dataclass(frozen=True)
class Unit:
    """What one decision is about: ``cells`` are (row of the batch, indices of that prompt's responses)."""

    id: str
    cells: tuple[tuple[int, tuple[int, ...]], ...]


@dataclass
class Verdicts:
    """``scores``: per unit, per cell, the scores of that cell's responses, and ``own`` what the unit's own arm said of them.

    ``failed``: units whose own arm failed, in the whole request or on every cell of theirs; ``failures``: (decision, arm, reason) of
    requests that failed as a whole, ``row_failures`` the same of single rows of a request that was answered otherwise, and
    ``failed_cells`` the (unit, cell) of which their own arm failed on the row.
    ``failed_rows``: arm -> rows of the batch that it failed on -> why. ``abstained``: (unit, cell) of which their own arm said too
    little to order anything; ``stand_in``: the arm whose scores stand there instead. ``others``: per unit, what all other arms said of its first cell.
    ``known``: per arm, its scores by (row, response). ``resting``: arms asked by no decision but their own.
    ``rankings``: per (unit, cell), what the committee thinks of its responses. ``bills``: per arm and (row, response), seconds and
    price (NaN: not measured).
    """

    scores: list[list[Float]]
    own: list[list[Float]] = field(default_factory=list)
    abstained: set[tuple[int, int]] = field(default_factory=set)
    calls: list[Call] = field(default_factory=list)
    failures: list[tuple[str, str, str]] = field(default_factory=list)
    row_failures: list[tuple[str, str, str]] = field(default_factory=list)
    failed: set[int] = field(default_factory=set)
    failed_cells: set[tuple[int, int]] = field(default_factory=set)
    failed_rows: dict[str, dict[int, str]] = field(default_factory=dict)
    stand_in: dict[tuple[int, int], str] = field(default_factory=dict)
    others: dict[int, dict[str, Float]] = field(default_factory=dict)
    known: dict[str, dict[tuple[int, int], float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    load_seconds: float = 0.0
    resting: frozenset[str] = frozenset()
    rankings: dict[tuple[int, int], Ranking] = field(default_factory=dict)
    bills: dict[str, dict[tuple[int, int], tuple[float, float]]] = field(default_factory=dict)


class Judge:
    """Asks the pool on behalf of decisions."""

    def __init__(
        self,
        pool: RewardPool,
        costs: dict[str, float],
        *,
        fallback: str | None = None,
        ensemble: str | None = None,
        noise: float = 0.0,
        seed: int = 0,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``ensemble``: zscore or raw, where all arms judge together; ``say`` is told what is being scored.

        The attribute ``warn`` is told what a user should read; it is ``say`` until it is set.
        """
        self.warn = say
        self.pool, self.costs, self.fallback, self.ensemble = pool, costs, fallback, ensemble
        self.noise, self.seed, self.say = noise, seed, say

    def judge(
        self,
        units: Sequence[Unit],
        decisions: Sequence[Decision],
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[str]],
        step: int,
        audited: frozenset[int] = frozenset(),
        resting: frozenset[str] = frozenset(),
    ) -> Verdicts:
        """Scores for every cell of every unit; one request an arm. ``audited``: rows that all other arms score too.

        ``resting``: arms that failed lately and are asked by nobody but the decisions that name them.
        """
        verdicts = Verdicts([[np.full(len(cols), np.nan) for _, cols in u.cells] for u in units])
        asked = _Asked(units, decisions, prompts, responses, verdicts, step)
        verdicts.resting = resting
        if self.ensemble:
            self._ensemble(asked)
        else:
            for arm in self.pool.order({d.name for d in decisions}):
                mine = [(i, c) for i, d in enumerate(decisions) if d.name == arm for c in range(len(units[i].cells))]
                self._ask(arm, mine, asked, "ok")
        verdicts.own = [[part.copy() for part in parts] for parts in verdicts.scores]
        if not self.ensemble:
            self._fall_back(asked)
            self._audit(audited, asked)
        _sort_calls(verdicts, decisions)
        return verdicts

    def compare(
        self,
        chosen: Sequence[int],
        units: Sequence[Unit],
        decisions: Sequence[Decision],
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[str]],
        verdicts: Verdicts,
    ) -> None:
        """Ask every other arm about the first cell of the ``chosen`` units; calls of status ``compared``, K - 1 times two a pair."""
        broken, calls = {arm for _, arm, _ in verdicts.failures} | verdicts.resting, list[Call]()
        for arm in self.pool.order(set(self.pool.names) - broken):
            rows = {i: Unit(units[i].id, units[i].cells[:1]) for i in chosen if decisions[i].name != arm}
            known = verdicts.known.setdefault(arm, {})
            seen, missing = set(known), cells_of(list(rows.values()), known)
            score, result = self.score(arm, missing, prompts, responses, verdicts) if missing else ({}, None)
            known |= score
            status = "compared" if result is None or result.ok else result.status
            if result is not None and not result.ok:
                verdicts.failures.append((decisions[min(rows)].id, arm, f"{result.status}: {result.error}"))
            failed = verdicts.failed_rows.get(arm, {})
            for i, unit in rows.items():
                bills = verdicts.bills.get(arm)
                calls += calls_of(decisions[i], arm, unit, known, result, self.costs, status, seen, failed, bills)
                note_rows(verdicts, decisions[i], arm, unit)
                [(b, cols)] = unit.cells
                verdicts.others.setdefault(i, {})[arm] = np.array([known[b, n] for n in cols])
        verdicts.calls += sorted(calls, key=lambda call: self.pool.names.index(str(call.arm)))
        _sort_calls(verdicts, decisions)

    def _ask(self, arm: str, places: Sequence[tuple[int, int]], asked: "_Asked", status: str) -> None:
        """One request to one arm about these cells (unit, cell); a failure is recorded with every decision it concerns."""
        verdicts, decisions = asked.verdicts, asked.decisions
        mine: dict[int, list[int]] = {}
        for i, c in places:
            mine.setdefault(i, []).append(c)
        parts = {i: Unit(asked.units[i].id, tuple(asked.units[i].cells[c] for c in cells)) for i, cells in mine.items()}
        score, result = self.score(arm, cells_of(list(parts.values())), asked.prompts, asked.responses, verdicts)
        if result.ok and self.noise > 0:
            # what it is asked about in another's stead has noise of its own
            _add_noise(score, self.noise, self.seed, asked.step, arm if status == "ok" else f"{arm}\x1f{status}")
        if result.ok:
            verdicts.known.setdefault(arm, {}).update(score)
        seen: set[tuple[int, int]] = set()
        failed = verdicts.failed_rows.get(arm, {})
        for i, unit in parts.items():
            said = status if result.ok else result.status
            verdicts.calls += calls_of(
                decisions[i], arm, unit, score, result, self.costs, said, seen, failed, verdicts.bills[arm]
            )
            if not result.ok:
                verdicts.failures.append((decisions[i].id, arm, f"{result.status}: {result.error}"))
                verdicts.failed |= {i} if decisions[i].name == arm else set()
                continue
            note_rows(verdicts, decisions[i], arm, unit)
            for c, (b, cols) in zip(mine[i], unit.cells, strict=True):
                if b in failed:
                    verdicts.failed_cells |= {(i, c)} if decisions[i].name == arm else set()
                    continue
                verdicts.scores[i][c][:] = [score[b, n] for n in cols]
                if status == "fallback":
                    verdicts.stand_in[i, c] = arm

    def score(
        self,
        arm: str,
        cells: Sequence[tuple[int, tuple[int, ...]]],
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[str]],
        verdicts: Verdicts,
    ) -> tuple[dict[tuple[int, int], float], ScoreResult]:
        """Scores of one arm by (row, response), NaN where it failed or abstained; seconds go to ``verdicts``."""
        self.say(f"scoring {sum(len(c) for _, c in cells)} responses with {arm}")
        result = self.pool.score(
            arm, [prompts[b] for b, _ in cells], [[responses[b][n] for n in cols] for b, cols in cells]
        )
        for notice in result.notices:
            self.warn(f"warning: arm {arm!r}: {notice}")
        if result.stops:
            raise RunError(f"arm {arm!r}: {result.error}")
        verdicts.seconds[arm] = verdicts.seconds.get(arm, 0.0) + result.seconds
        verdicts.load_seconds += result.load_seconds
        failed = {cells[i][0]: why for i, why in result.row_errors.items()}
        verdicts.failed_rows.setdefault(arm, {}).update(failed)
        pairs = [(i, b, j, n) for i, (b, cols) in enumerate(cells) for j, n in enumerate(cols)]
        verdicts.bills.setdefault(arm, {}).update({(b, n): result.bill(i, j) for i, b, j, n in pairs})
        return {(b, n): float(result.scores_BN[i, j]) for i, b, j, n in pairs}, result

    def _fall_back(self, asked: "_Asked") -> None:
        """Other arms judge where the chosen one failed or abstained: the configured fallback, then the others in turn."""
        verdicts, decisions = asked.verdicts, asked.decisions
        todo = [(i, c) for i, parts in enumerate(verdicts.scores) for c, part in enumerate(parts) if _silent(part)]
        whole = {i for i, unit in enumerate(asked.units) if _all_failed(i, unit, verdicts)}
        # a decision none of whose rows its arm could answer teaches as little as a failed request
        verdicts.failed |= whole
        verdicts.abstained = {(i, c) for i, c in todo if i not in verdicts.failed} - verdicts.failed_cells
        broken = {arm for _, arm, _ in verdicts.failures} | verdicts.resting
        first = [self.fallback] if self.fallback else []
        for arm in dict.fromkeys([*first, *self.pool.names]):
            mine = [(i, c) for i, c in todo if decisions[i].name != arm]
            if mine and arm not in broken:
                self._ask(arm, mine, asked, "fallback")
                todo = [(i, c) for i, c in todo if _silent(verdicts.scores[i][c])]

    def _audit(self, audited: frozenset[int], asked: "_Asked") -> None:
        """All arms on the audited rows; calls counted as audits, seen by neither router nor trainer."""
        units, decisions, verdicts = asked.units, asked.decisions, asked.verdicts
        own = {(i, b) for i, unit in enumerate(units) for b, _ in unit.cells if b in audited}
        for arm in [name for name in self.pool.names if own and name not in asked.verdicts.resting]:
            todo = sorted((i, b) for i, b in own if decisions[i].name != arm)
            rows = [Unit(units[i].id, tuple(c for c in units[i].cells if c[0] == b)) for i, b in todo]
            if not rows:
                continue
            score, result = self.score(arm, cells_of(rows), asked.prompts, asked.responses, verdicts)
            status, seen = "audit" if result.ok else result.status, set[tuple[int, int]]()
            for (i, _), unit in zip(todo, rows, strict=True):
                verdicts.calls += calls_of(
                    decisions[i], arm, unit, score, result, self.costs, status, seen, bills=verdicts.bills[arm]
                )
                if result.ok:
                    note_rows(verdicts, decisions[i], arm, unit)
            if not result.ok:
                reason = f"{result.status}: {result.error}"
                verdicts.failures += [(decisions[i].id, arm, reason) for i in dict.fromkeys(i for i, _ in todo)]

    def _ensemble(self, asked: "_Asked") -> None:
        """The mean over all arms that answered: of z-scores over this batch, or of raw scores (the paper's)."""
        units, decisions, verdicts = asked.units, asked.decisions, asked.verdicts
        totals: dict[tuple[int, int], list[float]] = {}
        for arm in [name for name in self.pool.names if name not in asked.verdicts.resting]:
            score, result = self.score(arm, cells_of(units), asked.prompts, asked.responses, verdicts)
            status, seen = "ok" if result.ok else result.status, set[tuple[int, int]]()
            failed = verdicts.failed_rows.get(arm, {})
            for i, unit in enumerate(units):
                verdicts.calls += calls_of(
                    decisions[i], arm, unit, score, result, self.costs, status, seen, failed, verdicts.bills[arm]
                )
                note_rows(verdicts, decisions[i], arm, unit)
            if not result.ok and decisions:
                verdicts.failures.append((decisions[0].id, arm, f"{result.status}: {result.error}"))
                continue
            for place, value in (zscores(score) if self.ensemble == "zscore" else score).items():
                if np.isfinite(value):
                    totals.setdefault(place, []).append(value)
        for parts, unit in zip(verdicts.scores, units, strict=True):
            for part, (b, cols) in zip(parts, unit.cells, strict=True):
                part[:] = [np.mean(totals[b, n]) if (b, n) in totals else np.nan for n in cols]


@dataclass(frozen=True)
class _Asked:
    """What one call of :meth:`Judge.judge` is about."""

    units: Sequence[Unit]
    decisions: Sequence[Decision]
    prompts: Sequence[Prompt]
    responses: Sequence[Sequence[str]]
    verdicts: Verdicts
    step: int


def _silent(score_N: Float) -> bool:
    """Whether these scores order nothing: fewer than two of them are numbers."""
    return int(np.isfinite(score_N).sum()) < 2


def _all_failed(i: int, unit: Unit, verdicts: Verdicts) -> bool:
    return bool(unit.cells) and all((i, c) in verdicts.failed_cells for c in range(len(unit.cells)))


def note_rows(verdicts: Verdicts, decision: Decision, arm: str, unit: Unit) -> None:
    """Write down the rows of this unit that the arm failed on, beside the requests that failed as a whole."""
    failed = verdicts.failed_rows.get(arm, {})
    verdicts.row_failures += [(decision.id, arm, failed[b]) for b, _ in unit.cells if b in failed]


def zscores(score: dict[tuple[int, int], float]) -> dict[tuple[int, int], float]:
    """One arm's scores at mean 0 and standard deviation 1 over the batch; a constant arm says nothing (0)."""
    values = np.array([v for v in score.values() if np.isfinite(v)])
    if len(values) == 0:
        return score
    mean, sd = float(values.mean()), float(values.std())
    return {place: (v - mean) / sd if sd > 0 else 0.0 * v for place, v in score.items()}


def cells_of(
    units: Sequence[Unit], known: Container[tuple[int, int]] = frozenset()
) -> list[tuple[int, tuple[int, ...]]]:
    """Rows and response indices that these units need beyond the ``known`` ones, each response of a row once."""
    rows: dict[int, set[int]] = {}
    for unit in units:
        for b, cols in unit.cells:
            rows.setdefault(b, set()).update(n for n in cols if (b, n) not in known)
    return [(b, tuple(sorted(cols))) for b, cols in sorted(rows.items()) if cols]


def calls_of(
    decision: Decision,
    arm: str,
    unit: Unit,
    score: Mapping[tuple[int, int], float],
    result: ScoreResult | None,
    costs: dict[str, float],
    status: str,
    seen: set[tuple[int, int]],
    failed: Container[int] = (),
    bills: Mapping[tuple[int, int], tuple[float, float]] | None = None,
) -> list[Call]:
    """One row a response; those in ``seen`` have theirs already: shared, at no price. ``seen`` takes in the rest.

    ``failed``: rows of the batch that the arm could not answer; their calls bear that status. ``bills``: seconds and measured price of
    a response; without a measured price a call costs what the arm's ``cost`` says.
    """
    seconds = result.seconds / max(1, result.n_calls) if result else 0.0
    calls = []
    for b, n in [(b, n) for b, cols in unit.cells for n in cols]:
        said = "abstained" if status == "ok" and np.isnan(score[b, n]) else status
        said = "failed" if b in failed else said
        took, price = (bills or {}).get((b, n), (seconds, np.nan))
        price = costs.get(arm, 1.0) if np.isnan(price) else price
        effort = ("shared", 0.0, 0.0) if (b, n) in seen else (said, took, price)
        calls.append(Call(decision.id, f"{unit.id}/{b}/{n}", arm, score[b, n], *effort))
        seen.add((b, n))
    return calls


def _sort_calls(verdicts: Verdicts, decisions: Sequence[Decision]) -> None:
    """By decision: which models were in memory is no part of the record."""
    turn = {d.id: i for i, d in enumerate(decisions)}
    verdicts.calls.sort(key=lambda call: turn[call.decision_id or ""])


def _add_noise(score: dict[tuple[int, int], float], sd: float, seed: int, step: int, arm: str) -> None:
    """Gaussian noise on scores brought to unit variance over the batch (LASER section 5, sigma 0.1 to 0.4)."""
    scaled = zscores(score)
    noise = rng(seed, "noise", step, arm).normal(0.0, sd, len(score))
    for place, eps in zip(sorted(score), noise, strict=True):
        score[place] = scaled[place] + float(eps)
