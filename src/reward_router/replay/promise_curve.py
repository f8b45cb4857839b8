"""What the committee keeps when it is asked for a promise: of the answered pairs at most max_error wrong, the others abstained on.

One cross-fitted fit a fold serves all promises: 3 of 5 training prompts fit, the other 2 certify (`committee.promise`). No gate, no weights of
either sign: what is shown is what could be promised of the committee itself.
"""

from typing import Any

import numpy as np

from reward_router.committee.plan import Plan, walk
from reward_router.committee.promise import CONFIDENCE, Promise, promised, set_aside
from reward_router.replay.baselines import fitting_rows, planned
from reward_router.replay.embed import Contexts
from reward_router.replay.joined import Parts
from reward_router.replay.protocols import Split, splits
from reward_router.replay.records import Records

MAX_ERRORS = (0.01, 0.02, 0.05, 0.1, 0.2)
FEWEST_ROWS = 40


def promise_curve(
    records: Records, contexts: Contexts, n_folds: int, parts: Parts | None = None
) -> dict[str, Any]:
    """{"max_error", "kept", "coverage", "risk", "bound", "calls"}, one value a promise, over all judged rows; "confidence".

    ``kept``: share of the folds in which it could be given at all (elsewhere nothing is answered). ``risk``: share of wrong answers
    among those given, None where none was. ``bound``: what was certified, the mean over folds. O(folds) fits.
    """
    total = np.zeros((len(MAX_ERRORS), 5))
    judged_rows, n_splits = 0, 0
    for split in splits(records, contexts, n_folds, 0, parts):
        judged_rows, n_splits = judged_rows + len(split.test_P), n_splits + 1
        fitted, held = set_aside(fitting_rows(split), 0)
        plan = planned(fitted)
        for i, max_error in enumerate(MAX_ERRORS):
            total[i] += _judged(*promised(plan, held, max_error), split)
    answered = total[:, 0]
    risk = [
        wrong / n if n else None
        for wrong, n in zip(total[:, 1].tolist(), answered.tolist(), strict=True)
    ]
    kept = total[:, 3]
    bound = [b / k if k else None for b, k in zip(total[:, 4].tolist(), kept.tolist(), strict=True)]
    return {
        "max_error": list(MAX_ERRORS),
        "confidence": CONFIDENCE,
        "kept": (kept / n_splits).tolist(),
        "coverage": (answered / judged_rows).tolist(),
        "risk": risk,
        "bound": bound,
        "calls": (total[:, 2] / judged_rows).tolist(),
    }


def _judged(plan: Plan, promise: Promise, split: Split) -> list[float]:
    """Answered, wrong, calls over the judged rows; whether it was promised, and the bound."""
    records, test_P = split.records, split.test_P
    log_odds_T, asked_TK = walk(plan, records.margins_PK[test_P], records.category_P[test_P], 0.0)
    answered_T = (np.abs(log_odds_T) >= promise.threshold) & (log_odds_T != 0)
    wrong_T = answered_T & (np.sign(log_odds_T) != records.label_P[test_P])
    bound = promise.bound if promise.kept else 0.0
    return [
        float(answered_T.sum()),
        float(wrong_T.sum()),
        float(asked_TK.sum()),
        float(promise.kept),
        bound,
    ]
