"""Off-policy evaluation: what another router would have earned.

It is read from the log of one stochastic router that kept its propensities. Estimand: the mean
payoff of a FROZEN target over the logged contexts, (1/T) sum_t sum_k target_tk r_tk. ``estimators``
holds the estimators and says what their intervals rest on. A target that learns has no frozen
estimand: see ``rejection.rejection_replay``, on i.i.d. contexts only.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from reward_router.errors import InputError
from reward_router.kinds import PAYOFFS
from reward_router.replay import estimators
from reward_router.types import Float, Int

METHODS = tuple(estimators.ESTIMATORS)
# Fewer usable rows give an interval that says nothing.
FEWEST = 20
_ROW_ARRAYS = ("context_TD", "probs_TK", "arm_T", "payoff_T", "forced_T")


@dataclass(frozen=True)
class Log:
    """T decisions of one router in their order.

    Args:
        context_TD: what it saw.
        probs_TK: what each arm was drawn from.
        arm_T: the arm that was drawn.
        payoff_T: what it earned; NaN where no payoff came.
        forced_T: whether the warm-up named the arm, so that none was drawn.
        arms: their names.
        source: the kind of payoff.
    """

    context_TD: Float
    probs_TK: Float
    arm_T: Int
    payoff_T: Float
    forced_T: NDArray[np.bool_]
    arms: tuple[str, ...]
    source: str = "payoff"

    def __len__(self) -> int:
        """Decisions."""
        return len(self.arm_T)

    @property
    def propensity_T(self) -> Float:
        """Probability with which each logged arm was drawn."""
        return self.probs_TK[np.arange(len(self)), self.arm_T]

    def usable(self) -> "Log":
        """Without forced warm-up rows (their arm was not drawn) and rows without a payoff."""
        keep_T = ~self.forced_T & ~np.isnan(self.payoff_T)
        return replace(self, **{name: getattr(self, name)[keep_T] for name in _ROW_ARRAYS})


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval.

    ``ess`` is the effective sample size (``estimators.Terms.ess``); take an estimate with fewer
    than 100 as a hint only.
    """

    method: str
    value: float
    low: float
    high: float
    ess: float
    rows: int
    left_out: int


def estimate_value(
    log: Log,
    target_TK: Float,
    method: str = "dr",
    level: float = 0.95,
    model_TK: Float | None = None,
) -> Estimate:
    """Value of a frozen target. O(T K); see ``past_model`` for ``dr``.

    ``InputError`` for an unknown method; a target without support in the log; payoffs that the
    logged arms' own training produced; a deterministic logger; fewer than 20 usable rows.

    Args:
        log: the decisions.
        target_TK: the target's probabilities on every logged row.
        method: one of METHODS.
        level: of the interval.
        model_TK: what ``past_model`` gave for the usable rows, to value several targets of one log
            at the cost of one.
    """
    if method not in METHODS:
        raise InputError(f"method {method!r}, allowed: {', '.join(METHODS)}")
    keep_T = ~log.forced_T & ~np.isnan(log.payoff_T)
    rows = log.usable()
    target_TK = np.asarray(target_TK, dtype=np.float64)[keep_T]
    check(rows, target_TK)
    model_TK = log_past_model(rows) if model_TK is None else model_TK
    terms = estimators.terms(target_TK, rows.probs_TK, rows.arm_T, rows.payoff_T, model_TK)
    value, low, high = (float(x) for x in estimators.ESTIMATORS[method](terms, level))
    return Estimate(
        method=method,
        value=value,
        # Payoffs lie in [0, 1], and so does their mean.
        low=max(low, 0.0),
        high=min(high, 1.0),
        ess=float(terms.ess),
        rows=len(rows),
        left_out=len(log) - len(rows),
    )


def log_past_model(log: Log) -> Float:
    """(T, K) payoff expected of each arm on each row of a log of usable rows.

    See ``estimators.past_model``.
    """
    return estimators.past_model(log.context_TD, log.arm_T, log.payoff_T, len(log.arms))


def check(log: Log, target_TK: Float) -> None:
    """Refuse what cannot be estimated, saying what to change."""
    if log.source in PAYOFFS and PAYOFFS[log.source].needs_loss:
        raise InputError(
            f"payoff {log.source} is scaled from a loss that the logged arms themselves trained: "
            "another choice would have changed every later payoff. "
            "Log a payoff that does not depend on the run: probe, verifier, label"
        )
    if len(log) < FEWEST:
        raise InputError(
            f"{len(log)} usable decisions, needed: {FEWEST} that were drawn (not forced) and paid"
        )
    if target_TK.shape != log.probs_TK.shape:
        raise InputError(
            f"target has shape {target_TK.shape}, needed {log.probs_TK.shape} (decisions, arms)"
        )
    if (log.propensity_T >= 1.0).all():
        raise InputError(
            "the logger was deterministic (propensity 1 everywhere): "
            "log with explore > 0, or with Thompson sampling"
        )
    bare_TK = (target_TK > 0) & (log.probs_TK <= 0)
    if bare_TK.any():
        arms = [log.arms[k] for k in np.flatnonzero(bare_TK.any(axis=0))]
        share = 100 * bare_TK.any(axis=1).mean()
        raise InputError(
            f"missing support: the target uses {', '.join(arms[:5])} where the logger never would "
            f"({share:.3g} % of the decisions). "
            "Log with explore > 0, or evaluate a target that stays within what was tried"
        )
    if log.payoff_T.min() < 0 or log.payoff_T.max() > 1:
        raise InputError(
            f"payoffs lie in [{log.payoff_T.min():g}, {log.payoff_T.max():g}], allowed: [0, 1]"
        )
