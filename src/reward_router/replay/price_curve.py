"""What the committee gives for every price: accuracy against calls.

One cross-fitted fit a fold serves all prices. The gate is off here: the curve shows the committee
itself, also where a gate would leave the best single arm playing.
"""

from typing import Any

import numpy as np

from reward_router.replay.baselines import fitted_committee, judged_at
from reward_router.replay.embed import RowContexts
from reward_router.replay.joined import Parts
from reward_router.replay.protocols import splits
from reward_router.replay.records import Records

CURVE_PRICES = (1.0, 0.1, 0.06, 0.04, 0.025, 0.015, 0.01, 0.006, 0.003, 0.001, 0.0)
"""Accuracy that one call of mean cost must buy, the cheapest judging first.

At 1 there is never a second opinion.
"""


def price_curve(
    records: Records,
    contexts: RowContexts,
    n_folds: int,
    max_calls: int = 16,
    parts: Parts | None = None,
) -> dict[str, Any]:
    """{"price", "calls", "cost", "accuracy"}, one value a price, means over all judged rows.

    Every row is judged by what was learned on other prompts (the first folding of the cross-fitted
    methods). O(folds) fits.
    """
    # Prices are for a call of mean cost; the committee's are in the file's own unit.
    unit = float(records.price_PK.mean()) or 1.0
    options = {"max_calls": max_calls, "gate": "off", "weights": "safe"}
    total = np.zeros((len(CURVE_PRICES), 3))
    judged_rows = 0
    for split in splits(records, contexts, n_folds, 0, parts):
        judged_rows += len(split.test_P)
        judge = fitted_committee(split, CURVE_PRICES[0] / unit, options)
        for i, price in enumerate(CURVE_PRICES):
            accuracy_T, calls_TK = judged_at(judge, split, price / unit)
            spent = (calls_TK * records.price_PK[split.test_P]).sum()
            total[i] += accuracy_T.sum(), calls_TK.sum(), spent
    accuracy, calls, cost = (total / judged_rows).T.tolist()
    return {
        "price": [price / unit for price in CURVE_PRICES],
        "calls": calls,
        "cost": cost,
        "accuracy": accuracy,
    }
