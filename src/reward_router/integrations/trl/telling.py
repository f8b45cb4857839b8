"""What TRL's log and its table of completions are told of a call; older versions pass no way to
tell them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from reward_router.integrations.trl.judging import Judged
from reward_router.session import Session

UNSUCCESSFUL = ("failed", "timeout")
Reporters = tuple[Callable[[str, float], None] | None, Callable[[str, list[Any]], None] | None]


def tell(
    reporters: Reporters,
    judged: Judged,
    session: Session,
    paid: Mapping[str, float],
    local: range,
) -> None:
    """Figures of all processes by ``log_metric``; the arm and the decision of each local row by
    ``log_extra``.
    """
    log_metric, log_extra = reporters
    if log_metric is not None:
        for name, value in _figures(judged, session, paid).items():
            log_metric(f"router/{name}", value)
    if log_extra is None:
        return
    arms, decisions = [""] * len(local), [""] * len(local)
    for answer in judged.answers:
        for row in answer.rows:
            if row in local:
                arms[row - local.start] = answer.arm
                decisions[row - local.start] = answer.decision_id
    log_extra("router_arm", arms)
    log_extra("router_decision", decisions)


def _figures(judged: Judged, session: Session, paid: Mapping[str, float]) -> dict[str, float]:
    answers = judged.answers
    figures: dict[str, float] = {}
    for arm in session.pool.names:
        chosen = [answer for answer in answers if answer.arm == arm]
        figures[f"share/{arm}"] = len(chosen) / max(1, len(answers))
    figures["calls"] = sum(call.status != "shared" for call in judged.calls)
    figures["failures"] = sum(call.status in UNSUCCESSFUL for call in judged.calls)
    figures["unjudged_groups"] = sum(answer.failed for answer in answers)
    figures["resting_arms"] = len(session.resting())
    if paid:
        figures["payoff"] = float(np.mean(list(paid.values())))
    return figures
