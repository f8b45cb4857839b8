"""``/v1/score``: scores of an arm that the caller names, or of the arms of decisions.

Nothing is routed. The calls are recorded: those of decisions as theirs, the others as audits.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from reward_router.server.answers import Answer
from reward_router.server.asked import Asked
from reward_router.server.desk import Desk
from reward_router.server.refusal import Refused, told
from reward_router.strict_json import finite
from reward_router.types import Decision
from reward_router.verdicts.batch import Batch, Unit, Verdicts


def score(desk: Desk, asked: Asked, arm: str | None, decision_ids: Sequence[str] | None) -> Answer:
    """One entry a prompt; ``arm`` or ``decision_ids`` says who scores."""

    def work() -> Answer:
        batch = asked.batch()
        for row, name in enumerate(batch.ids):
            every_response = tuple(range(len(asked.responses[row])))
            batch.units.append(Unit(name, ((row, every_response),)))
        if decision_ids is None:
            scores = _by_name(desk, batch, arm or "")
        else:
            scores = _by_decisions(desk, batch, decision_ids)
        return {"request_id": asked.request_id, "scores": scores}

    return desk.answers.once("score", asked.request_id, asked.body, work)


def _by_name(desk: Desk, batch: Batch, arm: str) -> list[Any]:
    arms = desk.session.dispatcher.arms
    if arm not in arms:
        raise Refused(422, f"arm: {arm!r} is none of the arms {', '.join(arms)}", "arm")
    batch.decisions = [_named("") for _ in batch.units]
    every_row = list(range(len(batch.units)))
    return _ask(desk, batch, {arm: every_row}, "audit")


def _by_decisions(desk: Desk, batch: Batch, decision_ids: Sequence[str]) -> list[Any]:
    recorded = desk.recorded(decision_ids, "decision_ids.{}")
    arms: list[str] = desk.ledger.meta("binding")["arms"]
    rows_by_arm: dict[str, list[int]] = {}
    for row, decided in enumerate(recorded):
        rows_by_arm.setdefault(arms[decided.arm], []).append(row)
    batch.decisions = [_named(decided.id.hex()) for decided in recorded]
    return _ask(desk, batch, rows_by_arm, "ok")


def _ask(desk: Desk, batch: Batch, rows_by_arm: dict[str, list[int]], status: str) -> list[Any]:
    """One request an arm; calls and failures are recorded."""
    batch.verdicts = Verdicts.silent(batch.units)
    scored: list[dict[str, Any]] = [{} for _ in batch.units]
    for arm in desk.asker.pool.order(rows_by_arm):
        rows = rows_by_arm[arm]
        with told():
            reply = desk.asker.ask(batch, arm, [batch.units[row].cells[0] for row in rows])
        for row in rows:
            unit = batch.units[row]
            batch.verdicts.calls += reply.calls(batch.decisions[row], unit, status)
            scores = [reply.score[row, n] for n in unit.cells[0][1]]
            scored[row] = {"arm": arm, "scores": finite(scores)}
        if not reply.ok:
            first = batch.decisions[rows[0]].id or None
            with told():
                desk.session.dispatcher.record_failure(first, arm, reply.reason)

    with desk.ledger.lock, told():
        desk.session.record(batch)
        for entry in scored:
            score_N = np.array(entry["scores"], np.float64)
            entry["calibrated"] = finite(desk.session.scale.calibrated(entry["arm"], score_N))
    return scored


def _named(decision_id: str) -> Decision:
    """A stand-in for a decision of which only the id matters, '' where there is none."""
    return Decision(decision_id, "", 0, -1, "", 1.0, np.zeros(0))
