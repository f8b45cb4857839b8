"""Who judges what: every unit's responses go to the arm that was drawn for it, and a failure goes to the fallback.

One call per response of a unit; an ensemble (the baseline) asks all K arms; an audit asks the others as well, for
agreement figures only. A score is never invented: what no arm scored stays NaN.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from reward_router.keyed import rng
from reward_router.ledger.rows import Call
from reward_router.policy import Prompt
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
    """``scores``: per unit, per cell, the scores of that cell's responses. ``failed``: units whose own arm failed."""

    scores: list[list[Float]]
    calls: list[Call] = field(default_factory=list)
    failures: list[tuple[str, str, str]] = field(default_factory=list)
    failed: set[int] = field(default_factory=set)
    audit: dict[str, dict[tuple[int, int], float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    load_seconds: float = 0.0


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
        """``ensemble``: zscore or raw, where all arms judge together; ``say`` is told what is being scored."""
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
    ) -> Verdicts:
        """Scores for every cell of every unit; one request an arm. ``audited``: rows that all other arms score too."""
        verdicts = Verdicts([[np.full(len(cols), np.nan) for _, cols in u.cells] for u in units])
        if self.ensemble:
            self._ensemble(units, decisions, prompts, responses, verdicts)
        else:
            for arm in self._by_residence({d.name for d in decisions}):
                mine = [i for i, d in enumerate(decisions) if d.name == arm]
                self._ask(arm, mine, units, decisions, prompts, responses, verdicts, step)
            self._fall_back(units, decisions, prompts, responses, verdicts, step)
            self._audit(audited, units, decisions, prompts, responses, verdicts)
        return verdicts

    def _by_residence(self, arms: set[str]) -> list[str]:
        """Each model once: those in memory first (the pool knows), then by name."""
        return [arm for arm in self.pool.names if arm in arms]

    def _ask(
        self,
        arm: str,
        mine: Sequence[int],
        units: Sequence[Unit],
        decisions: Sequence[Decision],
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[str]],
        verdicts: Verdicts,
        step: int,
        status: str = "ok",
    ) -> None:
        cells = _cells([units[i] for i in mine])
        score, result = self._score(arm, cells, prompts, responses, verdicts)
        if not result.ok:
            for i in mine:
                verdicts.failures.append((decisions[i].id, arm, f"{result.status}: {result.error}"))
                verdicts.failed.add(i)
                verdicts.calls += _calls(decisions[i], arm, units[i], score, result, self.costs, result.status)
            return
        if self.noise > 0:
            _add_noise(score, self.noise, self.seed, step, arm)
        for i in mine:
            for part, (b, cols) in zip(verdicts.scores[i], units[i].cells, strict=True):
                part[:] = [score[b, n] for n in cols]
            verdicts.calls += _calls(decisions[i], arm, units[i], score, result, self.costs, status)

    def _score(
        self,
        arm: str,
        cells: Sequence[tuple[int, tuple[int, ...]]],
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[str]],
        verdicts: Verdicts,
    ) -> tuple[dict[tuple[int, int], float], ScoreResult]:
        self.say(f"scoring {sum(len(c) for _, c in cells)} responses with {arm}")
        result = self.pool.score(
            arm, [prompts[b] for b, _ in cells], [[responses[b][n] for n in cols] for b, cols in cells]
        )
        verdicts.seconds[arm] = verdicts.seconds.get(arm, 0.0) + result.seconds
        verdicts.load_seconds += result.load_seconds
        pairs = ((i, b, j, n) for i, (b, cols) in enumerate(cells) for j, n in enumerate(cols))
        return {(b, n): float(result.scores_BN[i, j]) for i, b, j, n in pairs}, result

    def _fall_back(
        self,
        units: Sequence[Unit],
        decisions: Sequence[Decision],
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[str]],
        verdicts: Verdicts,
        step: int,
    ) -> None:
        """The fallback judges where an arm failed: the configured one, else the first other arm that answers."""
        failed = sorted(verdicts.failed)
        broken = {decisions[i].name for i in failed}
        others = [self.fallback] if self.fallback else self.pool.names
        for arm in [a for a in others if a not in broken]:
            if not failed:
                return
            before = len(verdicts.failures)
            self._ask(arm, failed, units, decisions, prompts, responses, verdicts, step, status="fallback")
            if len(verdicts.failures) == before:
                return

    def _audit(
        self,
        rows: frozenset[int],
        units: Sequence[Unit],
        decisions: Sequence[Decision],
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[str]],
        verdicts: Verdicts,
    ) -> None:
        """All arms on the audited rows; calls counted as audits, seen by neither router nor trainer."""
        own = {(i, b) for i, unit in enumerate(units) for b, _ in unit.cells if b in rows}
        for arm in self.pool.names if own else []:
            cells = sorted({(b, cols) for i, b in own for row, cols in units[i].cells if row == b})
            todo = [(i, b) for i, b in own if decisions[i].name != arm]
            score, result = self._score(arm, cells, prompts, responses, verdicts)
            verdicts.audit[arm] = score
            for i, b in sorted(todo):
                unit = Unit(units[i].id, tuple(c for c in units[i].cells if c[0] == b))
                verdicts.calls += _calls(decisions[i], arm, unit, score, result, self.costs, "audit")

    def _ensemble(
        self,
        units: Sequence[Unit],
        decisions: Sequence[Decision],
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[str]],
        verdicts: Verdicts,
    ) -> None:
        """The mean over all arms that answered: of z-scores over this batch, or of raw scores (the paper's)."""
        totals: dict[tuple[int, int], list[float]] = {}
        for arm in self.pool.names:
            score, result = self._score(arm, _cells(units), prompts, responses, verdicts)
            status = "ok" if result.ok else result.status
            for i, unit in enumerate(units):
                verdicts.calls += _calls(decisions[i], arm, unit, score, result, self.costs, status)
            if not result.ok:
                verdicts.failures.append((decisions[0].id, arm, f"{result.status}: {result.error}"))
                continue
            for place, value in (zscores(score) if self.ensemble == "zscore" else score).items():
                if np.isfinite(value):
                    totals.setdefault(place, []).append(value)
        for parts, unit in zip(verdicts.scores, units, strict=True):
            for part, (b, cols) in zip(parts, unit.cells, strict=True):
                part[:] = [np.mean(totals[b, n]) if (b, n) in totals else np.nan for n in cols]


def zscores(score: dict[tuple[int, int], float]) -> dict[tuple[int, int], float]:
    """One arm's scores at mean 0 and standard deviation 1 over the batch; a constant arm says nothing (0)."""
    values = np.array([v for v in score.values() if np.isfinite(v)])
    if len(values) == 0:
        return score
    mean, sd = float(values.mean()), float(values.std())
    return {place: (v - mean) / sd if sd > 0 else 0.0 * v for place, v in score.items()}


def _cells(units: Sequence[Unit]) -> list[tuple[int, tuple[int, ...]]]:
    """Rows and response indices that these units need, each response of a row once."""
    rows: dict[int, set[int]] = {}
    for unit in units:
        for b, cols in unit.cells:
            rows.setdefault(b, set()).update(cols)
    return [(b, tuple(sorted(cols))) for b, cols in sorted(rows.items())]


def _calls(
    decision: Decision,
    arm: str,
    unit: Unit,
    score: dict[tuple[int, int], float],
    result: ScoreResult,
    costs: dict[str, float],
    status: str,
) -> list[Call]:
    seconds = result.seconds / max(1, result.n_calls)
    places = [(b, n) for b, cols in unit.cells for n in cols]
    return [
        Call(
            decision.id,
            f"{unit.id}/{b}/{n}",
            arm,
            score[b, n],
            "abstained" if status == "ok" and np.isnan(score[b, n]) else status,
            seconds,
            costs.get(arm, 1.0),
        )
        for b, n in places
    ]


def _add_noise(score: dict[tuple[int, int], float], sd: float, seed: int, step: int, arm: str) -> None:
    """Gaussian noise on scores brought to unit variance over the batch (LASER section 5, sigma 0.1 to 0.4)."""
    scaled = zscores(score)
    noise = rng(seed, "noise", step, arm).normal(0.0, sd, len(score))
    for place, eps in zip(sorted(score), noise, strict=True):
        score[place] = scaled[place] + float(eps)
