"""A ledger as an off-policy log, and the values that can be read from it.

They are those of every arm alone, of uniform choice and of the logger itself.
"""

from pathlib import Path
from typing import Any

import numpy as np

from reward_router.errors import InputError, LedgerError
from reward_router.ledger import Ledger
from reward_router.ledger.rows import Failed
from reward_router.replay.ope import METHODS, Log, estimate_value, log_past_model
from reward_router.types import Float

FALLBACKS = ("action", "missing")


def ledger_log(path: Path, fallback: str = "action") -> Log:
    """Decisions with payoffs as a :class:`Log`.

    A batch-routed step is one decision with its mean payoff.
    ``InputError`` where there is no ledger, where it holds no decisions, or mixed payoffs.

    Args:
        path: the ledger's file.
        fallback: what happens to a row whose drawn arm failed. ``"action"`` values what then
            happened as part of drawing that arm (the payoff belongs to the pair of arm and
            fallback); ``"missing"`` leaves the row out.
    """
    if fallback not in FALLBACKS:
        raise InputError(f"fallback {fallback!r}, allowed: {', '.join(FALLBACKS)}")
    if not path.is_file():
        raise InputError(f"{path}: no such ledger")
    try:
        with Ledger(path, readonly=True) as ledger:
            table = ledger.decisions()
            failed = {decision for _, decision in ledger.fields(Failed, ("decision",))}
    except LedgerError as error:
        raise InputError(f"{path.name}: {error}") from error
    sources = sorted(set(filter(None, table.source)))
    if len(sources) != 1:
        raise InputError(
            f"{path.name}: payoffs of {', '.join(sources) or 'no'} sources; "
            "needed: exactly one kind of payoff"
        )
    if len(table.arm) and (table.arm < 0).all():
        raise InputError(
            f"{path.name}: its decisions are the {table.by[0]}'s, and no router drew an arm"
        )
    left_out = np.zeros(len(table.seq), dtype=bool)
    if fallback == "missing":
        left_out = np.array([int(seq) in failed for seq in table.seq], dtype=bool)
    left_out |= table.arm < 0  # nothing was drawn, so there is nothing to weigh
    if table.context_BD is None:
        context_TD = np.zeros((len(table.seq), 0))
    else:
        context_TD = np.asarray(table.context_BD, np.float64)
    return Log(
        context_TD=context_TD,
        probs_TK=table.probs_BK,
        arm_T=table.arm,
        payoff_T=np.where(left_out, np.nan, table.payoff),
        forced_T=table.forced,
        arms=tuple(table.arms),
        source=sources[0],
    )


def values(path: Path, fallback: str = "action") -> dict[str, Any]:
    """JSON-ready off-policy values of a ledger by every method, cut to [0, 1].

    They are those of each arm alone, of uniform choice and of the logger itself; or it is said why
    there are none.
    """
    try:
        log = ledger_log(path, fallback)
        n_arms = len(log.arms)
        targets = {}
        # A single arm as a target: probability 1 on every row.
        for arm, one_hot_K in zip(log.arms, np.eye(n_arms), strict=True):
            targets[arm] = np.tile(one_hot_K, (len(log), 1))
        targets["uniform"] = np.full(log.probs_TK.shape, 1 / n_arms)
        targets["the logger itself"] = log.probs_TK

        # One model of the payoffs for all targets: it depends on the log alone.
        model_TK = log_past_model(log.usable())
        entries = {name: _methods(log, target_TK, model_TK) for name, target_TK in targets.items()}
    except InputError as error:
        return {"name": path.name, "refused": str(error)}
    return {"name": path.name, "decisions": len(log), "payoff": log.source, "targets": entries}


def _methods(log: Log, target_TK: Float, model_TK: Float) -> dict[str, Any]:
    """One target by every method, with what its estimates rest on."""
    estimates = {m: estimate_value(log, target_TK, m, model_TK=model_TK) for m in METHODS}
    entry: dict[str, Any] = {
        "ess": estimates["dr"].ess,
        "rows": estimates["dr"].rows,
        "left_out": estimates["dr"].left_out,
    }
    for method, e in estimates.items():
        entry[method] = {"value": min(max(e.value, 0.0), 1.0), "ci95": (e.low, e.high)}
    return entry
