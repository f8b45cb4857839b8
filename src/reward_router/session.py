"""The middle of the job on its own: a batch is judged, and the router learns what came of it.

On the way there, contexts become a decision, the arm scores, and scores become verdicts. On the way
back, an outcome becomes a payoff, and the payoff goes to the router.

A session needs no torch, no policy and no trainer: prompts and responses come from anybody, and
verdicts go to anybody. Two methods are enough for one batch:

    batch = session.judge(Batch(step, prompts, ids, responses))     # who judges, and what they say
    payoffs = session.learn(batch, outcome)                         # what came of it

``judge`` has four stages, ``fill``, ``route``, ``ask`` and ``record``, and ``learn`` has two,
``outcomes`` and ``pay``. A caller with work of its own between them takes them one by one, as our
training loop (``loop``) does, which fills its batches itself. Left out: preference pairs and
rewards (``pairs``), optimiser steps (``training``), and where responses come from.

In this file ``u`` is the number of a unit in its batch, and ``c`` the number of a cell in its unit.
A cell is a row of the batch with the indices of some of that row's responses.
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
from reward_router.verdicts.batch import Batch, Place, Unit, VerdictMode
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
        unit: the id of what was decided about: a batch, a prompt or a pair.
        row: the row of the batch.
        columns: the indices of the N responses it is about.
        decision_id: the receipt. Whoever knows what came of the decision gives its payoff to this
            id.
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
            ``VerdictMode``, such as a committee.

    The attribute ``gather`` joins lists over the processes of a run, so that every process gets the
    entries of all. One process alone keeps the default, which changes nothing.

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
        """InputError for an unknown payoff, an unknown way of judging, or an unknown arm."""
        self.dispatcher = dispatcher
        self.pool = pool if isinstance(pool, RewardPool) else RewardPool({}, models=dict(pool))
        self.contexts = contexts
        self.payoff = PayoffRule.of(payoff)
        self.mode = _mode(verdicts, self.pool)
        self.gather: Gather = list
        self._scale: ScoreScale | None = None
        for arm in dispatcher.arms:
            if arm not in self.pool.names:
                pool_names = ", ".join(self.pool.names)
                raise InputError(
                    f"arm {arm!r} of the dispatcher is none of the pool's: {pool_names}"
                )

    # judging --------------------------------------------------------------------------------------

    def judge(self, batch: Batch) -> Batch:
        """Route every unit of the batch, have it judged, and write both down.

        Fills ``units``, ``contexts``, ``decisions`` and ``verdicts`` where they are empty. It costs
        one call for each response that was not scored before; with an ensemble, one call of each
        arm.
        """
        self.fill(batch)
        self.route(batch)
        self.ask(batch)
        self.record(batch)
        return batch

    def fill(self, batch: Batch) -> None:
        """Give the batch units (whole prompts) and contexts (the encoder's) where it has none."""
        if not batch.units:
            batch.units = _whole_prompts(batch)
        if batch.contexts is None:
            batch.contexts = self._contexts(batch)

    def route(self, batch: Batch) -> None:
        """Decide about this process's units.

        Every process routes the units of all processes: their states and their draws are equal, so
        their decisions are, and no decision has to be sent. ``batch.contexts`` has a row for each
        unit of all processes, too.
        """
        # A unit that spans processes, such as a whole batch, is named by each of them.
        everyones_ids = self.gather([unit.id for unit in batch.units])
        unit_ids = list(dict.fromkeys(everyones_ids))

        context_UD = batch.contexts
        # No contexts: no process has a unit.
        if context_UD is None:
            context_UD = np.zeros((0, 1))
        # The dispatcher records how many prompts each unit stands for, by the name ``n_units``.
        prompts_per_unit = list(batch.n_units) or [1] * len(unit_ids)
        decisions = self.dispatcher.route(
            context_UD, unit_ids, batch.step, n_units=prompts_per_unit, by=self.mode.by
        )

        # All processes' decisions are here; this one keeps those of its own units.
        by_unit = {decision.unit: decision for decision in decisions}
        batch.decisions = [by_unit[unit.id] for unit in batch.units]

    def ask(self, batch: Batch) -> None:
        """Have every unit judged.

        An arm that rests (it failed again and again, see docs/concepts.md) is asked only about
        units that drew it, and never as a stand-in.
        """
        batch.resting = self.resting()
        self.mode.judge(batch)

    def record(self, batch: Batch) -> list[Call]:
        """Write down the calls and the failures of all processes; returns the calls."""
        calls = self.gather(batch.verdicts.calls)
        self.dispatcher.record_calls(calls)
        # The scale is only kept up to date where somebody has asked for judgements.
        if self._scale is not None:
            self._scale.learn((str(call.arm), call.status, call.score) for call in calls)
        # Asked between calls and failures: an answer recorded just now has ended its arm's rest,
        # and a failure would begin another one.
        nobody_is_awake = self.all_rest()
        failures = self.gather(batch.verdicts.failures)
        for decision_id, arm, reason in failures:
            self.dispatcher.record_failure(decision_id, arm, reason)
        batch.stuck = nobody_is_awake and bool(failures)
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
        """Arms that rest, and are therefore asked only about units that drew them.

        An arm whose pause is over counts as awake, although only an answer ends its rest. No arm
        counts as resting where all of them do: then everyone is asked in turn.
        """
        if self.all_rest():
            return frozenset()
        decisions_to_wait = self.dispatcher.resting
        return frozenset(name for name, wait in decisions_to_wait.items() if wait > 0)

    def all_rest(self) -> bool:
        """Whether every arm rests, those whose pause is over included."""
        return set(self.pool.names) <= self.dispatcher.resting.keys()

    def judgements(self, batch: Batch) -> list[Judgement]:
        """What was said of a judged batch, one entry for each prompt of each unit.

        This is for trainers, rewards and people: verdicts in words and on comparable scales.
        """
        judgements = []
        for u, decision in enumerate(batch.decisions):
            n_cells = len(batch.units[u].cells)
            places = [(u, c) for c in range(n_cells)]
            judgements += [self._judgement(batch, decision, place, self.scale) for place in places]
        return judgements

    def _judgement(
        self, batch: Batch, decision: Decision, place: Place, scale: ScoreScale
    ) -> Judgement:
        u, c = place
        row, columns = batch.units[u].cells[c]
        score_N = batch.verdicts.scores[u][c]
        scored = np.flatnonzero(np.isfinite(score_N)).tolist()
        best_first = tuple(sorted(scored, key=lambda n: -score_N[n]))

        # A committee ranks, an ensemble adds up: neither verdict is on the scale of one arm.
        ranking = batch.verdicts.rankings.get(place)
        together = ranking is not None or decision.by is not By.ROUTER
        arm = "" if together else batch.verdicts.stand_in.get(place, decision.name)
        confidence = None
        if ranking is not None and len(best_first) > 1:
            first, second = best_first[:2]
            confidence = float(ranking.confidence([first], [second])[0])
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
            ranking=best_first,
            confidence=confidence,
        )

    # learning -------------------------------------------------------------------------------------

    def learn(
        self, batch: Batch, outcome: Trained | Mapping[str, float] | None = None
    ) -> dict[str, float]:
        """Give the decisions of all processes their payoffs; the router learns from them.

        Args:
            batch: what was judged.
            outcome: a trainer's losses (``Trained``); or payoffs that somebody knows already, by
                decision id or by unit; or None where verdicts and gold are all that the payoff
                needs.

        Returns decision id -> payoff. A payoff that is made from a loss may be any number here
        (raw); the dispatcher scales it to [0, 1] before the router sees it. A failed arm, a skipped
        step or an uninformative loss gives no payoff.
        """
        if outcome is None or isinstance(outcome, Trained):
            outcomes = self.outcomes(batch, outcome)
            return self.pay(outcomes, batch.step)

        # Somebody knows the payoffs already: names of units become the ids of their decisions.
        id_by_unit = {decision.unit: decision.id for decision in batch.decisions}
        payoffs = {}
        for name, value in outcome.items():
            decision_id = id_by_unit.get(name, name)
            payoffs[decision_id] = value
        self._feed(payoffs)
        return payoffs

    def outcomes(self, batch: Batch, trained: Trained | None = None) -> list[Outcome]:
        """What came of every decision of all processes."""
        outcomes = []
        for u in range(len(batch.units)):
            outcome = _outcome(batch, u)
            if trained is not None:
                trained.write(u, outcome)
            outcomes.append(outcome)
        return merged(self.gather(outcomes))

    def pay(self, outcomes: Sequence[Outcome], step: int) -> dict[str, float]:
        """The payoffs of these outcomes, given to their decisions."""
        payoffs = self.payoff(outcomes, step)
        self._feed(payoffs)
        # Gold is recorded for the report; no router reads it.
        for outcome in outcomes:
            accuracy = outcome.mean(order_accuracy)
            if accuracy is not None and not outcome.failed:
                self.dispatcher.record_label(outcome.unit, step, accuracy, "gold order")
        return payoffs

    def _feed(self, payoffs: Mapping[str, float]) -> None:
        """Give payoffs to the dispatcher: it records them, and the router learns from them."""
        by_decision = list(payoffs.items())
        if self.payoff.raw:
            self.dispatcher.feedback_raw_many(by_decision, source=self.payoff.name)
        else:
            self.dispatcher.feedback_many(by_decision, source=self.payoff.name)

    def _contexts(self, batch: Batch) -> NDArray[Any]:
        if self.contexts is None:
            raise InputError(
                f"step {batch.step}: no contexts; give the session an encoder, or the batch its "
                f"own contexts, an array with one row for each of its {len(batch.units)} units"
            )
        mine_BD = np.asarray(self.contexts(batch.prompts))
        rows = self.gather(list(mine_BD))
        return np.stack(rows) if rows else np.zeros((0, 1))


def _outcome(batch: Batch, u: int) -> Outcome:
    """What verdicts and gold say of one unit of the batch."""
    verdicts = batch.verdicts
    unit = batch.units[u]
    decision = batch.decisions[u]
    outcome = Outcome(unit.id, decision.id, failed=u in verdicts.failed)
    for c, cell in enumerate(unit.cells):
        # A row that the arm failed on says nothing of the arm; one that it abstained from does.
        row_failed = (u, c) in verdicts.failed_cells
        if row_failed and not outcome.failed:
            continue
        row, _ = cell
        # The drawn arm's own scores: the router learns of that arm, and not of a stand-in.
        outcome.scores.append(verdicts.own[u][c])
        outcome.golds.append(batch.gold_of(cell))
        outcome.responses.append(batch.texts(cell))
        outcome.prompts.append(batch.prompts[row])
    return outcome


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

    InputError where prompts, ids and responses are not equally many.
    """
    n_prompts = len(batch.prompts)
    n_ids = len(batch.ids)
    n_groups = len(batch.responses)
    if not n_prompts == n_ids == n_groups:
        raise InputError(
            f"step {batch.step}: {n_prompts} prompts, {n_ids} ids and {n_groups} groups of "
            "responses; allowed one id and one group for each prompt"
        )
    units = []
    for row, (prompt_id, responses) in enumerate(zip(batch.ids, batch.responses, strict=True)):
        every_response = tuple(range(len(responses)))
        units.append(Unit(prompt_id, ((row, every_response),)))
    return units
