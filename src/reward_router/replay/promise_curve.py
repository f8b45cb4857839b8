"""What the committee keeps when it is asked for a promise.

The promise is that of the answered pairs at most max_error are wrong; the others are abstained on.
One cross-fitted fit a fold serves all promises: 3 of 5 training prompts fit, the other 2 certify
(`committee.promise`). There is no gate, and there are no weights of either sign: what is shown is
what could be promised of the committee itself.
"""

from typing import Any

import numpy as np

from reward_router.committee.plan import CommitteePlan, walk
from reward_router.committee.promise import CONFIDENCE, Promise, promised, set_aside
from reward_router.replay.baselines import fitting_rows, planned
from reward_router.replay.embed import RowContexts
from reward_router.replay.joined import Parts
from reward_router.replay.protocols import Split, splits
from reward_router.replay.records import Records
from reward_router.types import Float

MAX_ERRORS = (0.01, 0.02, 0.05, 0.1, 0.2)
FEWEST_ROWS = 40
FEWEST_PROMPTS = 10
"""Of a file: folds and what certifies are whole prompts, and some must be left to fit on."""


def promise_curve(
    records: Records, contexts: RowContexts, n_folds: int, parts: Parts | None = None
) -> dict[str, Any]:
    """What becomes of each promise in MAX_ERRORS, over all judged rows. O(folds) fits.

    Lists with one value a promise: "max_error"; "kept", the share of the folds in which it could be
    given at all (elsewhere nothing is answered); "coverage", the share of rows that are answered;
    "risk", the share of wrong answers among those given, None where none was; "bound", what was
    certified, the mean over folds; "calls" a row. And one number, "confidence".
    """
    total = np.zeros((len(MAX_ERRORS), 5))
    judged_rows = 0
    n_splits = 0
    for split in splits(records, contexts, n_folds, 0, parts):
        judged_rows += len(split.test_P)
        n_splits += 1
        fitted, held = set_aside(fitting_rows(split), 0)
        plan = planned(fitted)
        for i, max_error in enumerate(MAX_ERRORS):
            total[i] += _judged(*promised(plan, held, max_error), split)
    answered, wrong, calls, kept, bound = total.T
    return {
        "max_error": list(MAX_ERRORS),
        "confidence": CONFIDENCE,
        "kept": (kept / n_splits).tolist(),
        "coverage": (answered / judged_rows).tolist(),
        "risk": _ratios(wrong, answered),
        "bound": _ratios(bound, kept),
        "calls": (calls / judged_rows).tolist(),
    }


def _ratios(parts: Float, wholes: Float) -> list[float | None]:
    """Each part of its whole; None where the whole is 0."""
    both = zip(parts.tolist(), wholes.tolist(), strict=True)
    return [part / whole if whole else None for part, whole in both]


def _judged(plan: CommitteePlan, promise: Promise, split: Split) -> list[float]:
    """Answered, wrong, calls over the judged rows; whether it was promised, and the bound."""
    records = split.records
    test_P = split.test_P
    margins_TK = records.margins_PK[test_P]
    log_odds_T, called_TK = walk(plan, margins_TK, records.category_P[test_P], 0.0)

    # Answered where it is sure enough; a tie is no answer, however low the threshold.
    sure_T = np.abs(log_odds_T) >= promise.threshold
    answered_T = sure_T & (log_odds_T != 0)
    is_wrong_T = np.sign(log_odds_T) != records.label_P[test_P]
    wrong_T = answered_T & is_wrong_T
    bound = promise.bound if promise.kept else 0.0
    return [
        float(answered_T.sum()),
        float(wrong_T.sum()),
        float(called_TK.sum()),
        float(promise.kept),
        bound,
    ]
