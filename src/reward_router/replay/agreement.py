"""How much arms say the same: Cohen's kappa and F1 for every pair of arms."""

from typing import Any

import numpy as np

from reward_router.replay.records import Records
from reward_router.types import Float


def kappa_f1(sign_PK: Float) -> tuple[Float, Float]:
    """(K, K) Cohen's kappa and F1 of the verdicts -1, 0, 1; a row counts for a pair of arms only where neither is NaN.

    F1 is that of "a is better", one arm taken as the truth of the other (LASER, figure on agreement); it is symmetric.
    NaN where two arms share no row or nothing is predicted. O(P K^2).
    """
    known = (~np.isnan(sign_PK)).astype(np.float64)
    one_hot = [((sign_PK == value) & (known > 0)).astype(np.float64) for value in (-1.0, 0.0, 1.0)]
    with np.errstate(divide="ignore", invalid="ignore"):
        shared_KK = known.T @ known
        observed_KK = sum((hot.T @ hot for hot in one_hot), np.zeros_like(shared_KK)) / shared_KK
        expected_KK = (
            sum(((hot.T @ known) * (known.T @ hot) for hot in one_hot), np.zeros_like(shared_KK)) / shared_KK**2
        )
        kappa_KK = (observed_KK - expected_KK) / (1 - expected_KK)
        says_a = one_hot[2]
        f1_KK = 2 * (says_a.T @ says_a) / (says_a.T @ known + known.T @ says_a)
    return kappa_KK, f1_KK


def agreement(records: Records) -> dict[str, Any]:
    """kappa and F1 matrices as nested lists in the order of ``records.arms``; None where undefined."""
    kappa_KK, f1_KK = kappa_f1(np.sign(records.margins_PK))
    return {"kappa": _listed(kappa_KK), "f1": _listed(f1_KK)}


def _listed(matrix_KK: Float) -> list[list[float | None]]:
    return [[None if np.isnan(x) else round(float(x), 4) for x in row] for row in matrix_KK]
