"""How much arms say the same: Cohen's kappa and F1 for every pair of arms."""

from typing import Any

import numpy as np

from reward_router.replay.records import Records
from reward_router.types import Float

_CHUNK = 65_536


def kappa_f1(sign_PK: Float) -> tuple[Float, Float]:
    """Cohen's kappa and F1 of every pair of arms, as two (K, K) matrices.

    F1 is that of "a is better" with one arm taken as the truth of the other (LASER, figure on
    agreement); it is symmetric. Entries are NaN where two arms share no row, or where neither
    predicts anything. O(P K^2).

    Args:
        sign_PK: the verdicts -1, 0 and 1; NaN where an arm gave none. A row counts for a pair of
            arms only where neither is NaN.
    """
    n_arms = sign_PK.shape[1]
    shared_KK, observed_KK, both_a_KK = (np.zeros((n_arms, n_arms)) for _ in range(3))
    # says_VKK[v, i, j]: rows on which arm i says verdict v, among those that it shares with arm j.
    says_VKK = np.zeros((3, n_arms, n_arms))
    # In chunks, because the indicator matrices would double the memory of a long file.
    for start in range(0, len(sign_PK), _CHUNK):
        chunk_PK = sign_PK[start : start + _CHUNK]
        present = (~np.isnan(chunk_PK)).astype(np.float64)
        shared_KK += present.T @ present
        for v, value in enumerate((-1.0, 0.0, 1.0)):
            hot = (chunk_PK == value).astype(np.float64)
            same_KK = hot.T @ hot
            observed_KK += same_KK
            says_VKK[v] += hot.T @ present
            if value > 0:
                both_a_KK += same_KK
    one_a_KK = says_VKK[2] + says_VKK[2].T
    # Pairs without a shared row divide 0 by 0; the NaN is the answer.
    with np.errstate(divide="ignore", invalid="ignore"):
        expected_KK = (says_VKK * says_VKK.transpose(0, 2, 1)).sum(axis=0) / shared_KK**2
        kappa_KK = (observed_KK / shared_KK - expected_KK) / (1 - expected_KK)
        f1_KK = 2 * both_a_KK / one_a_KK
    return kappa_KK, f1_KK


def arm_agreement(records: Records) -> dict[str, Any]:
    """Kappa and F1 as nested lists in the order of ``records.arms``; None where undefined."""
    kappa_KK, f1_KK = kappa_f1(np.sign(records.margins_PK))
    return {"kappa": _listed(kappa_KK), "f1": _listed(f1_KK)}


def _listed(matrix_KK: Float) -> list[list[float | None]]:
    return [_rounded(row_K) for row_K in matrix_KK.tolist()]


def _rounded(values: list[float]) -> list[float | None]:
    return [None if np.isnan(value) else round(value, 4) for value in values]
