"""A ledger as an off-policy log, and the values of every arm alone and of uniform choice read from it."""

from pathlib import Path
from typing import Any

import numpy as np

from reward_router.errors import InputError, LedgerError
from reward_router.ledger import Ledger
from reward_router.ledger.rows import Failed
from reward_router.replay.ope import METHODS, Log, estimate, past_model
from reward_router.types import Float

FALLBACKS = ("action", "missing")


def ledger_log(path: Path, fallback: str = "action") -> Log:
    """Decisions with payoffs as a :class:`Log`. A batch-routed step is one decision with its mean payoff.

    Where the drawn arm failed, ``fallback="action"`` values what then happened as part of drawing that arm (the payoff belongs to
    the pair of arm and fallback), ``"missing"`` leaves the row out. ``InputError``: no ledger, no decisions, mixed payoffs.
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
            f"{path.name}: payoffs of {', '.join(sources) or 'no'} sources; needed: exactly one kind of payoff"
        )
    if len(table.arm) and (table.arm < 0).all():
        raise InputError(
            f"{path.name}: its decisions are the {table.by[0]}'s, and no router drew an arm"
        )
    gone = np.array([fallback == "missing" and int(seq) in failed for seq in table.seq], dtype=bool)
    gone |= table.arm < 0  # nothing was drawn, so there is nothing to weigh
    context_TD = (
        np.zeros((len(table.seq), 0))
        if table.context_BD is None
        else np.asarray(table.context_BD, np.float64)
    )
    payoff_T = np.where(gone, np.nan, table.payoff)
    return Log(
        context_TD, table.probs_BK, table.arm, payoff_T, table.forced, tuple(table.arms), sources[0]
    )


def values(path: Path, fallback: str = "action") -> dict[str, Any]:
    """JSON-ready values (cut to [0, 1]) of each arm alone, of uniform choice and of the logger itself by every method, or why there are none."""
    try:
        log = ledger_log(path, fallback)
        targets = {
            arm: np.tile(np.eye(len(log.arms))[k], (len(log), 1)) for k, arm in enumerate(log.arms)
        }
        targets["uniform"] = np.full(log.probs_TK.shape, 1 / len(log.arms))
        targets["the logger itself"] = log.probs_TK
        model_TK = past_model(log.usable())
        found = {name: _methods(log, target_TK, model_TK) for name, target_TK in targets.items()}
    except InputError as error:
        return {"name": path.name, "refused": str(error)}
    return {"name": path.name, "decisions": len(log), "payoff": log.source, "targets": found}


def _methods(log: Log, target_TK: Float, model_TK: Float) -> dict[str, Any]:
    done = {m: estimate(log, target_TK, m, model_TK=model_TK) for m in METHODS}
    best = done["dr"]
    return {
        "ess": best.ess,
        "rows": best.rows,
        "left_out": best.left_out,
        **{
            m: {"value": min(max(e.value, 0.0), 1.0), "ci95": (e.low, e.high)}
            for m, e in done.items()
        },
    }
