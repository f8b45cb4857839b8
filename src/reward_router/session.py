"""The middle of the job, on its own.

Contexts -> decision -> arms score -> verdicts, and outcome -> payoff -> router.

Needs no torch, no policy and no trainer: prompts and responses come from anybody, verdicts go to
anybody. Our training loop, best of n and whoever brings a trainer of their own call the same two
methods. One batch:

    batch = session.judge(Batch(step, prompts, ids, responses))     # who judges, and what they say
    payoffs = session.learn(batch, outcome)                         # what came of it

``judge`` is four stages, ``fill``, ``route``, ``ask`` and ``record``, which a caller may take one
by one. What this leaves out: pairs and rewards (``pairs``), optimiser steps (``training``), and
where responses come from.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reward_router.dispatch import Dispatcher
from reward_router.errors import InputError
from reward_router.ledger.rows import Call
from reward_router.outcomes import Outcome, PayoffRule, Trained, merged
from reward_router.payoffs import order_accuracy
from reward_router.rewards.pool import RewardPool
from reward_router.types import By, Decision, Float, RewardModel
from reward_router.verdicts.asking import Asker
from reward_router.verdicts.batch import Batch, Unit, VerdictMode
from reward_router.verdicts.ensemble import Ensemble
from reward_router.verdicts.scale import ScoreScale
from reward_router.verdicts.single import SingleArm

Encoder = Callable[[Sequence[Any]], ArrayLike]
Gather = Callable[[list[Any]], list[Any]]

__all__ = ["Batch", "Judgement", "Outcome", "PayoffRule", "Session", "Trained", "Unit"]


@dataclass(frozen=True)
class Judgement:
    """What was said of one prompt's responses, or of a pair of them.

    Args:
        unit: what was decided about.
        row: the row of the batch.
        columns: the indices of the N responses it is about.
        decision_id: the receipt: whoever knows what came of it gives the payoff to this id.
        by: who decided: the router, an ensemble or a committee.
        arm: the arm whose scores these are; '' where several judged together.
        propensity: the probability with which the arm was drawn; 1 where nothing was drawn.
        scores: (N,) as the arm gave them, or as several arms agreed on them; NaN where nobody gave
            one.
        calibrated: (N,) on a scale that is comparable between arms; NaN where the scale is not
            known yet.
        ranking: indices into ``columns``, the best first; those without a score are left out.
        confidence: the probability that the first of the ranking is better than the second, where a
            committee has learned it.
    """

    unit: str
    row: int
    columns: tuple[int, ...]
    decision_id: str
    by: By
    arm: str
    propensity: float
    scores: Float
    calibrated: Float
    ranking: tuple[int, ...]
    confidence: float | None = None


class Session:
    """Judges batches and learns from what came of them.

    Args:
        dispatcher: the router with its ledger; its arms are the pool's.
        pool: the arms, or reward models by name.
        contexts: prompts -> (B, D) what the router sees of them (``contexts.Hashing`` needs no
            model). None: every batch brings its own ``contexts``.
        payoff: the name of a payoff, a function of an ``Outcome`` that returns a number in [0, 1]
            or None, or a ``PayoffRule``.
        verdicts: who judges: ``single`` (the drawn arm), ``ensemble`` (all arms), or any
            ``VerdictMode``, as a committee.

    ``gather`` joins lists over the processes of a run; alone it changes nothing.

    >>> from reward_router import Dispatcher, Uniform
    >>> from reward_router.contexts import Hashing
    >>> from reward_router.testing import FakeArm
    >>> arms = {"long": FakeArm(len), "short": FakeArm(lambda text: -len(text))}
    >>> session = Session(Dispatcher(Uniform(2), list(arms)), arms, Hashing(8), "probe")
    >>> responses, gold = [["hi", "hello there"]], [np.array([1.0, 0.0])]
    >>> batch = session.judge(Batch(0, ["Say hi."], ["p1"], responses, gold))
    >>> [judgement] = session.judgements(batch)
    >>> judgement.arm in arms, judgement.propensity
    (True, 0.5)
    >>> session.learn(batch) == {judgement.decision_id: float(judgement.arm == "short")}
    True
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        pool: RewardPool | Mapping[str, RewardModel],
        contexts: Encoder | None = None,
        payoff: PayoffRule | str | Callable[[Outcome], float | None] = "probe",
        verdicts: VerdictMode | str = "single",
    ) -> None:
        """InputError for an unknown payoff, way of judging, or arm."""
        self.dispatcher = dispatcher
        self.pool = pool if isinstance(pool, RewardPool) else RewardPool({}, models=dict(pool))
        self.contexts = contexts
        self.payoff = PayoffRule.of(payoff)
        self.mode = _mode(verdicts, self.pool)
        self.gather: Gather = list
        self._scale: ScoreScale | None = None
        for arm in dispatcher.arms:
            if arm not in self.pool.names:
                known = ", ".join(self.pool.names)
                raise InputError(f"arm {arm!r} of the dispatcher is none of the pool's: {known}")

    # judging --------------------------------------------------------------------------------------

    def judge(self, batch: Batch) -> Batch:
        """Route every unit of the batch, have it judged, and write both down.

        Fills ``units``, ``contexts``, ``decisions`` and ``verdicts`` where they are empty. One call
        a response that was not scored before, with one arm a unit; all arms with an ensemble.
        """
        self.fill(batch)
        self.route(batch)
        self.ask(batch)
        self.record(batch)
        return batch

    def fill(self, batch: Batch) -> None:
        """Whole prompts as units and the encoder's contexts, where the batch has none."""
        if not batch.units:
            batch.units = _whole_prompts(batch)
        if batch.contexts is None:
            batch.contexts = self._contexts(batch)

    def route(self, batch: Batch) -> None:
        """Decisions of this process's units. Every process routes all units.

        Equal state, equal draws.
        """
        contexts = np.zeros((0, 1)) if batch.contexts is None else batch.contexts
        ids = list(dict.fromkeys(self.gather([unit.id for unit in batch.units])))
        counts = list(batch.n_units) or [1] * len(ids)
        decisions = self.dispatcher.route(
            contexts, ids, batch.step, n_units=counts, by=self.mode.by
        )
        by_unit = {decision.unit: decision for decision in decisions}
        batch.decisions = [by_unit[unit.id] for unit in batch.units]

    def ask(self, batch: Batch) -> None:
        """The verdicts on every unit; arms that rest are asked by no decision but their own."""
        batch.resting = self.resting()
        self.mode.judge(batch)

    def record(self, batch: Batch) -> list[Call]:
        """Write down what all processes' arms were asked and who failed; returns the calls."""
        calls = self.gather(batch.verdicts.calls)
        self.dispatcher.record_calls(calls)
        if self._scale is not None:
            self._scale.learn((str(call.arm), call.status, call.score) for call in calls)
        nobody = self.all_rest()  # an answer recorded just now has ended its arm's rest
        failures = self.gather(batch.verdicts.failures)
        for decision_id, arm, reason in failures:
            self.dispatcher.record_failure(decision_id, arm, reason)
        batch.stuck = nobody and bool(failures)
        return calls

    @property
    def scale(self) -> ScoreScale:
        """Each arm's own scale, from all calls recorded so far."""
        if self._scale is None:
            self._scale = ScoreScale.of(self.dispatcher.ledger)
        return self._scale

    def reread(self) -> None:
        """Read anew what was derived from the ledger: it was rewound."""
        self._scale = None

    def resting(self) -> frozenset[str]:
        """Arms that rest and are asked by no decision but their own.

        None where all rest: then everyone is asked in turn.
        """
        if self.all_rest():
            return frozenset()
        waits = self.dispatcher.resting
        return frozenset(name for name, wait in waits.items() if wait > 0)

    def all_rest(self) -> bool:
        """Whether every arm rests."""
        return set(self.pool.names) <= self.dispatcher.resting.keys()

    def judgements(self, batch: Batch) -> list[Judgement]:
        """What was said of a judged batch, one entry a unit and prompt.

        For trainers, rewards and people.
        """
        judgements = []
        for u, (unit, decision) in enumerate(zip(batch.units, batch.decisions, strict=True)):
            places = [(u, c) for c in range(len(unit.cells))]
            judgements += [self._judgement(batch, decision, place, self.scale) for place in places]
        return judgements

    def _judgement(
        self, batch: Batch, decision: Decision, place: tuple[int, int], scale: ScoreScale
    ) -> Judgement:
        u, c = place
        row, columns = batch.units[u].cells[c]
        score_N = batch.verdicts.scores[u][c]
        known = [n for n in range(len(columns)) if np.isfinite(score_N[n])]
        order = tuple(sorted(known, key=lambda n: -score_N[n]))
        ranking = batch.verdicts.rankings.get(place)
        together = ranking is not None or decision.by is not By.ROUTER
        arm = "" if together else batch.verdicts.stand_in.get(place, decision.name)
        sure = None
        if ranking is not None and len(order) > 1:
            sure = float(ranking.confidence([order[0]], [order[1]])[0])
        return Judgement(
            unit=decision.unit,
            row=row,
            columns=columns,
            decision_id=decision.id,
            by=decision.by,
            arm=arm,
            propensity=decision.propensity,
            scores=score_N,
            calibrated=score_N if together else scale.calibrated(arm, score_N),
            ranking=order,
            confidence=sure,
        )

    # learning -------------------------------------------------------------------------------------

    def learn(
        self, batch: Batch, outcome: Trained | Mapping[str, float] | None = None
    ) -> dict[str, float]:
        """Give each decision of all processes its payoff, and the router what it learns from it.

        ``outcome``: a trainer's losses (``Trained``); or payoffs that are known already, by
        decision id or by unit; or None where verdicts and gold are all that the payoff needs.
        Returns decision id -> payoff (raw where it is a loss: the dispatcher scales it). A failed
        arm, a skipped step or an uninformative loss gives none.
        """
        if outcome is None or isinstance(outcome, Trained):
            return self.pay(self.outcomes(batch, outcome), batch.step)
        decision_by_unit = {decision.unit: decision.id for decision in batch.decisions}
        payoffs = {decision_by_unit.get(name, name): value for name, value in outcome.items()}
        self._feed(payoffs)
        return payoffs

    def outcomes(self, batch: Batch, trained: Trained | None = None) -> list[Outcome]:
        """What came of every decision of all processes."""
        mine = []
        verdicts = batch.verdicts
        for u, (unit, decision) in enumerate(zip(batch.units, batch.decisions, strict=True)):
            outcome = Outcome(unit.id, decision.id, failed=u in verdicts.failed)
            for c, cell in enumerate(unit.cells):
                # a row that the arm failed on says nothing of it, unlike one that it abstained from
                if outcome.failed or (u, c) not in verdicts.failed_cells:
                    outcome.scores.append(verdicts.own[u][c])
                    outcome.golds.append(batch.gold_of(cell))
                    outcome.responses.append(batch.texts(cell))
            if trained is not None:
                trained.write(u, outcome)
            mine.append(outcome)
        return merged(self.gather(mine))

    def pay(self, outcomes: Sequence[Outcome], step: int) -> dict[str, float]:
        """The payoffs of these outcomes, given to their decisions."""
        payoffs = self.payoff(outcomes, step)
        self._feed(payoffs)
        for outcome in outcomes:  # gold is recorded for the report; no router reads it
            right = outcome.mean(order_accuracy)
            if right is not None and not outcome.failed:
                self.dispatcher.record_label(outcome.unit, step, right, "gold order")
        return payoffs

    def _feed(self, payoffs: Mapping[str, float]) -> None:
        given = list(payoffs.items())
        if self.payoff.raw:
            self.dispatcher.feedback_raw_many(given, source=self.payoff.name)
        else:
            self.dispatcher.feedback_many(given, source=self.payoff.name)

    def _contexts(self, batch: Batch) -> NDArray[Any]:
        if self.contexts is None:
            raise InputError(
                f"step {batch.step}: no contexts; give the session an encoder, or the batch its "
                f"own contexts, an array with one row for each of its {len(batch.units)} units"
            )
        rows = self.gather(list(np.asarray(self.contexts(batch.prompts))))
        return np.stack(rows) if rows else np.zeros((0, 1))


def _mode(verdicts: VerdictMode | str, pool: RewardPool) -> VerdictMode:
    if verdicts == "single":
        return SingleArm(Asker(pool))
    if verdicts == "ensemble":
        return Ensemble(Asker(pool))
    if isinstance(verdicts, str):
        raise InputError(
            f"verdicts={verdicts!r}; allowed single, ensemble, or an object that judges a batch"
        )
    return verdicts


def _whole_prompts(batch: Batch) -> list[Unit]:
    """One unit a prompt, with all of its responses.

    InputError where the lists do not fit together.
    """
    lengths = len(batch.prompts), len(batch.ids), len(batch.responses)
    if len(set(lengths)) > 1:
        raise InputError(
            f"step {batch.step}: {lengths[0]} prompts, {lengths[1]} ids and {lengths[2]} groups of "
            "responses; allowed one id and one group for each prompt"
        )
    units = []
    for row, (name, group) in enumerate(zip(batch.ids, batch.responses, strict=True)):
        units.append(Unit(name, ((row, tuple(range(len(group)))),)))
    return units
