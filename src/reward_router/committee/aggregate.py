"""Mean, median, worst case and uncertainty-weighted aggregates of K arms' calibrated scores.

Raw scores of different arms share no scale (an uncertainty penalty on raw JudgeBench scores is
right 47 % of the time, on standardised ones 63 %), so each function takes the calibrator and
refuses arms that have none. One response's calibrated score is its mean log-odds of being better
than the prompt's others; missing scores are left out, a response nobody scored is NaN.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from reward_router.committee.calibrate import Calibrator
from reward_router.errors import InputError
from reward_router.types import Float


def calibrated_scores(scores_NK: ArrayLike, calibrator: Calibrator | None) -> Float:
    """(N, K) raw scores of one prompt's responses on the common scale. O(K N^2).

    Each column sums to 0. InputError where there is no calibrator, or an arm that scored something
    has fewer labels than the calibrator asks for.
    """
    scores = np.asarray(scores_NK, dtype=np.float64)
    if calibrator is None:
        raise InputError(
            "raw scores of different arms share no scale: "
            "fit a Calibrator on labelled margins and pass it"
        )
    if scores.ndim != 2 or scores.shape[1] != calibrator.n_arms:
        raise InputError(
            f"scores must be (responses, {calibrator.n_arms} arms), got shape {scores.shape}"
        )

    raw = np.flatnonzero(~calibrator.calibrated_K & ~np.isnan(scores).all(axis=0))
    if raw.size:
        listed = ", ".join(f"{k} ({calibrator.n_labels_K[k]} labels)" for k in raw[:8])
        raise InputError(
            f"uncalibrated arms cannot be aggregated: {listed}; "
            f"each needs {calibrator.min_labels} labelled margins"
        )

    columns = [calibrator.response_values(scores[:, k], k) for k in range(calibrator.n_arms)]
    return np.stack(columns, axis=1)


def mean(scores_NK: ArrayLike, calibrator: Calibrator | None) -> Float:
    """(N,) mean over arms of the calibrated scores.

    >>> label = np.arange(40) % 2 == 0
    >>> calibrator = Calibrator(2).fit(np.where(label, 1.0, -1.0)[:, None] * [1.0, 90.0], label)
    >>> value = mean([[0.1, 70.0], [0.9, 50.0], [0.5, np.nan]], calibrator)
    >>> bool(value[1] < value[0]), round(float(value[2]), 6)
    (False, 0.0)
    >>> mean([[0.1, 70.0]], None)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    reward_router.errors.InputError: raw scores of different arms share no scale: fit a ...
    """
    return _reduce(np.nanmean, calibrated_scores(scores_NK, calibrator))


def median(scores_NK: ArrayLike, calibrator: Calibrator | None) -> Float:
    """(N,) median over arms of the calibrated scores."""
    return _reduce(np.nanmedian, calibrated_scores(scores_NK, calibrator))


def wco(scores_NK: ArrayLike, calibrator: Calibrator | None) -> Float:
    """(N,) worst case over arms (worst-case optimisation)."""
    return _reduce(np.nanmin, calibrated_scores(scores_NK, calibrator))


def uwo(scores_NK: ArrayLike, calibrator: Calibrator | None, penalty: float = 1.0) -> Float:
    """(N,) mean less ``penalty`` >= 0 times the variance over arms.

    This is uncertainty-weighted optimisation.
    """
    if not penalty >= 0:
        raise InputError(f"penalty must be >= 0, got {penalty}")
    values = calibrated_scores(scores_NK, calibrator)

    # Where the arms disagree, a high mean is less to be believed.
    mean_N = _reduce(np.nanmean, values)
    variance_N = _reduce(np.nanvar, values)
    return mean_N - penalty * variance_N


def _reduce(function: Callable[..., Float], values_NK: Float) -> Float:
    out = np.full(len(values_NK), np.nan)
    # a row that nobody scored would only make NumPy warn
    scored = ~np.isnan(values_NK).all(axis=1)
    if scored.any():
        out[scored] = function(values_NK[scored], axis=1)
    return out
