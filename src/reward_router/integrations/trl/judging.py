"""Prompt groups through a session: recorded and learned from while training, by a frozen router
while evaluating.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from reward_router import keyed
from reward_router.dispatch.eligible import masked
from reward_router.errors import AllArmsResting, InputError
from reward_router.integrations.trl.rows import Group, Row
from reward_router.ledger.rows import Call
from reward_router.routers.choose import choose
from reward_router.routers.greedy import Greedy
from reward_router.session import Session
from reward_router.types import By, Decision, Float
from reward_router.verdicts.batch import Batch

EVALUATION = 2**40
"""Added to the step of an evaluation, so that its draws are those of no training step."""


@dataclass(frozen=True)
class Answer:
    """What was said of one group.

    ``scores``: calibrated, NaN where nobody gave one. ``failed``: whether every arm that was asked
    failed.
    """

    rows: tuple[int, ...]
    scores: Float
    arm: str = ""
    decision_id: str = ""
    failed: bool = False


@dataclass
class Judged:
    """The groups of all processes, judged. ``batch``: this process's own, None where nothing was
    recorded.
    """

    answers: list[Answer]
    calls: list[Call] = field(default_factory=list)
    batch: Batch | None = None


def batch_of(groups: Sequence[Group], rows: Sequence[Row], step: int) -> Batch:
    """These groups as what a session judges."""
    return Batch(
        step=step,
        prompts=[group.prompt for group in groups],
        ids=[group.id for group in groups],
        responses=[[rows[n].response for n in group.rows] for group in groups],
        gold=[np.array([rows[n].gold for n in group.rows]) for group in groups],
    )


def judge(session: Session, mine: Sequence[Group], rows: Sequence[Row], step: int) -> Judged:
    """Route, ask and record; every process calls it with the groups that are its own.

    Where all arms rest and there is no fallback, nobody is asked and all groups have failed.
    """
    batch = batch_of(mine, rows, step)
    try:
        session.fill(batch)
        session.route(batch)
    except AllArmsResting:  # raised on all processes alike
        return Judged(session.gather([_nobody(group) for group in mine]))
    session.ask(batch)
    calls = session.record(batch)
    answers = []
    for judgement in session.judgements(batch):
        answer = Answer(
            tuple(mine[judgement.row].rows),
            judgement.calibrated,
            judgement.arm,
            judgement.decision_id,
            failed=not np.isfinite(judgement.scores).any(),
        )
        answers.append(answer)
    return Judged(session.gather(answers), calls, batch)


def evaluate(session: Session, mine: Sequence[Group], rows: Sequence[Row], step: int) -> Judged:
    """The same by the frozen router, greedily, with nothing recorded and nothing learned."""
    batch = batch_of(mine, rows, EVALUATION + step)
    if session.mode.by is not By.ROUTER:
        return _evaluate_together(session, mine, batch)
    arms = _frozen_arms(session, batch)
    answers = []
    for arm in session.pool.order(set(arms)):
        asked = [i for i, name in enumerate(arms) if name == arm]
        prompts = [batch.prompts[i] for i in asked]
        result = session.pool.score(arm, prompts, [list(batch.responses[i]) for i in asked])
        for i, score_N in zip(asked, result.scores_BN, strict=True):
            score_N = np.asarray(score_N[: len(batch.responses[i])], np.float64)
            calibrated_N = session.scale.calibrated(arm, score_N)
            nobody = not np.isfinite(score_N).any()
            answers.append(Answer(tuple(mine[i].rows), calibrated_N, arm, failed=nobody))
    return Judged(session.gather(answers))


def _frozen_arms(session: Session, batch: Batch) -> list[str]:
    """Per prompt, the arm that the router expects most of among those that do not rest."""
    dispatcher = session.dispatcher
    names = dispatcher.arms
    if not batch.prompts:
        return []
    if session.contexts is None:
        raise InputError("session: it has no contexts; give it an encoder of prompts")
    resting = session.resting()
    awake_1K = np.array([[name not in resting for name in names]])
    context_BD = np.asarray(session.contexts(batch.prompts))
    probs_BK = masked(Greedy(dispatcher.router).probs(context_BD), awake_1K)
    draws = [keyed.uniform(dispatcher.seed, "arm", batch.step, name) for name in batch.ids]
    arm_B, _ = choose(probs_BK, np.array(draws))
    return [names[k] for k in arm_B.tolist()]


def _evaluate_together(session: Session, mine: Sequence[Group], batch: Batch) -> Judged:
    """By an ensemble: nobody is drawn, so there is nothing to freeze."""
    session.fill(batch)
    nothing_K = np.zeros(len(session.dispatcher.arms))
    for name in batch.ids:
        decision = Decision(name, name, batch.step, -1, "", 1.0, nothing_K, by=session.mode.by)
        batch.decisions.append(decision)
    session.ask(batch)
    answers = []
    for judgement in session.judgements(batch):
        nobody = not np.isfinite(judgement.scores).any()
        rows = tuple(mine[judgement.row].rows)
        answers.append(Answer(rows, judgement.calibrated, failed=nobody))
    return Judged(session.gather(answers))


def _nobody(group: Group) -> Answer:
    return Answer(tuple(group.rows), np.full(len(group.rows), math.nan), failed=True)
