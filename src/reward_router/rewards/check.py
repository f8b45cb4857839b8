"""Every arm on a labelled sample before a run: its scale, accuracy, speed and price.

A row is a preference pair {prompt, chosen, rejected, category?}. Accuracy counts a tie as half a
hit and leaves out rows on which the arm abstained; its interval is Wilson's at 95 %. Leaves out
calibration and agreement between arms.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router.errors import InputError
from reward_router.rewards.metered import Remarking
from reward_router.rewards.pool import RewardPool
from reward_router.rewards.request import ScoreResult
from reward_router.types import Float, RewardModel

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_Z95 = 1.959963984540054


@dataclass(frozen=True)
class ArmCheck:
    """One arm's line of the table.

    Args:
        arm: its name.
        pairs: how many pairs the sample has.
        accuracy: the share of judged pairs that it orders rightly, in [0, 1]; NaN without any.
        low: the lower end of the interval of ``accuracy``.
        high: its upper end.
        by_category: the accuracy in each category.
        ties: the share of all pairs that it ties.
        abstained: the share of all pairs on which it abstained.
        longer: the share of untied judgements that favour the longer response; 0.5 shows no taste
            for length.
        quantiles: those of the scores at 5, 25, 50, 75 and 95 %.
        seconds_per_call: wall time, after loading.
        load_seconds: wall time of loading.
        price: that of the whole sample, cost times calls.
        drift: the shift of the median since the baseline, in interquartile ranges of the baseline;
            None without a baseline.
        template: the first pair as the model reads it; '' where it reads text.
        error: why pairs failed, the first of them or all.
        failed: the pairs that the arm could not answer though it answered others.
        refused: whether it cannot be had as it is configured.
        remarks: what the arm measured of itself, such as a judge's position bias, and what should
            be known of what is served.
    """

    arm: str
    pairs: int
    accuracy: float
    low: float
    high: float
    by_category: dict[str, float]
    ties: float
    abstained: float
    longer: float
    quantiles: tuple[float, ...]
    seconds_per_call: float
    load_seconds: float
    price: float
    drift: float | None
    template: str
    error: str | None
    failed: int = 0
    refused: bool = False
    remarks: tuple[str, ...] = ()


def check_on_sample(
    pool: RewardPool,
    rows: Sequence[Mapping[str, Any]],
    *,
    arms: Sequence[str] | None = None,
    costs: Mapping[str, float] | None = None,
    baseline: Mapping[str, Sequence[float]] | None = None,
) -> list[ArmCheck]:
    """Score both responses of every pair with every arm, 2 calls a pair and arm.

    An arm that fails has its ``error`` and NaN figures; the others are checked all the same.
    InputError for no rows, or a row without prompt, chosen and rejected.

    Args:
        pool: the arms.
        rows: the pairs.
        arms: which arms are checked; None: all of the pool's.
        costs: by arm, the price of one call; 1 where an arm is not named.
        baseline: by arm, the ``quantiles`` of an earlier check.

    >>> from reward_router.rewards.spec import ArmSpec
    >>> pool = RewardPool({"short": ArmSpec("short", "metric", options={"metric": "length"})})
    >>> pair = {"prompt": "2 + 2?", "chosen": "4", "rejected": "It may be 5."}
    >>> check_on_sample(pool, [pair])[0].accuracy
    1.0
    """
    if not rows:
        raise InputError("arms check: the sample has no rows")
    for number, row in enumerate(rows, start=1):
        for name in ("prompt", "chosen", "rejected"):
            if not row.get(name) and not isinstance(row.get(name), str):
                raise InputError(
                    f"arms check: row {number} has no {name}; "
                    "a pair is prompt, chosen, rejected, category (optional)"
                )
    cost_by_arm = costs or {}
    before_by_arm = baseline or {}
    checks = []
    for arm in arms or pool.names:
        cost = cost_by_arm.get(arm, 1.0)
        checks.append(_check(pool, arm, rows, cost, before_by_arm.get(arm)))
    return checks


def wilson(hits: float, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share; (NaN, NaN) for n = 0. Source: Wilson 1927.

    >>> [round(v, 3) for v in wilson(8, 10)]
    [0.49, 0.943]
    """
    if n == 0:
        return math.nan, math.nan
    share = hits / n
    z2 = _Z95**2

    # Wilson: (share + z^2 / 2n +- z sqrt(share (1 - share) / n + z^2 / 4n^2)) / (1 + z^2 / n)
    shrink = 1 + z2 / n
    middle = (share + z2 / (2 * n)) / shrink
    variance = share * (1 - share) / n + z2 / (4 * n * n)
    half = _Z95 * math.sqrt(variance) / shrink
    return middle - half, middle + half


def _check(
    pool: RewardPool,
    arm: str,
    rows: Sequence[Mapping[str, Any]],
    cost: float,
    before: Sequence[float] | None,
) -> ArmCheck:
    prompts = [row["prompt"] for row in rows]
    responses = [[_text(row["chosen"]), _text(row["rejected"])] for row in rows]
    result = pool.score(arm, prompts, responses)
    gap_P = result.scores_BN[:, 0] - result.scores_BN[:, 1]
    judged_P = np.isfinite(gap_P)
    hit_P = np.where(gap_P > 0, 1.0, np.where(gap_P == 0, 0.5, 0.0))
    hits = float(hit_P[judged_P].sum())
    judged = int(judged_P.sum())
    low, high = wilson(hits, judged)
    scores = result.scores_BN[np.isfinite(result.scores_BN)]
    quantiles = (math.nan,) * len(QUANTILES)
    if scores.size:
        quantiles = tuple(float(value) for value in np.quantile(scores, QUANTILES))
    return ArmCheck(
        arm=arm,
        pairs=len(rows),
        accuracy=hits / judged if judged else math.nan,
        low=low,
        high=high,
        by_category=_by_category(rows, hit_P, judged_P),
        ties=float((gap_P == 0).mean()),
        abstained=_abstained(result, judged_P),
        longer=_longer(rows, gap_P),
        quantiles=quantiles,
        seconds_per_call=result.seconds / max(result.n_calls, 1),
        load_seconds=result.load_seconds,
        price=_price(result, cost),
        drift=_drift(quantiles, before),
        template=_template(pool, arm, rows[0]) if result.ok else "",
        error=result.error or next(iter(result.row_errors.values()), None),
        failed=len(result.row_errors) if result.ok else len(rows),
        refused=result.refused,
        remarks=(*result.notices, *_remarks(pool, arm)),
    )


def _price(result: ScoreResult, cost: float) -> float:
    """What the sample cost: as the arm measured it, ``cost`` a call where it did not."""
    if result.price_BN is None:
        return cost * result.n_calls
    # A single call may be without a measured price, too.
    unknown_BN = np.isnan(result.price_BN)
    price_BN = np.where(unknown_BN, cost, result.price_BN)
    asked_BN = result.mask_BN
    return float(price_BN[asked_BN].sum())


def _remarks(pool: RewardPool, arm: str) -> list[str]:
    try:
        model = pool.load(arm)
    except InputError:
        return []
    return model.remarks() if isinstance(model, Remarking) else []


def _abstained(result: ScoreResult, judged_P: NDArray[np.bool_]) -> float:
    """The share of pairs without a verdict; a row that failed is no abstention."""
    silent_P = ~judged_P
    silent_P[list(result.row_errors)] = False
    return float(silent_P.mean())


def _text(response: Any) -> str:
    """A response as text, the very object where it is one: a `chat.Reply` keeps its tool calls."""
    return response if isinstance(response, str) else str(response)


def _by_category(
    rows: Sequence[Mapping[str, Any]], hit_P: Float, judged_P: Any
) -> dict[str, float]:
    category_P = np.array([str(row.get("category") or "") for row in rows])
    names = sorted(set(category_P[judged_P]) - {""})
    accuracy: dict[str, float] = {}
    for name in names:
        counts_P = judged_P & (category_P == name)
        accuracy[str(name)] = float(hit_P[counts_P].mean())
    return accuracy


def _longer(rows: Sequence[Mapping[str, Any]], gap_P: Float) -> float:
    """The share of judgements that favour the longer response; ties and equal lengths left out."""
    longer_by = []
    for row in rows:
        chosen_length = len(str(row["chosen"]))
        rejected_length = len(str(row["rejected"]))
        longer_by.append(chosen_length - rejected_length)
    longer_by_P = np.array(longer_by)

    counts_P = np.isfinite(gap_P) & (gap_P != 0) & (longer_by_P != 0)
    if not counts_P.any():
        return math.nan
    favours_longer_P = (gap_P > 0) == (longer_by_P > 0)
    return float(favours_longer_P[counts_P].mean())


def _drift(now: Sequence[float], before: Sequence[float] | None) -> float | None:
    if before is None:
        return None
    # The places of `QUANTILES`: the quartiles are 1 and 3, the median is 2.
    spread = before[3] - before[1]
    shift = now[2] - before[2]
    if spread:
        return shift / spread
    return 0.0 if shift == 0 else math.inf


def _template(pool: RewardPool, arm: str, row: Mapping[str, Any]) -> str:
    model: RewardModel = pool.load(arm)
    # A noisy arm holds the arm that renders.
    inner = getattr(model, "model", None)
    render = getattr(inner, "render", None) or getattr(model, "render", None)
    return str(render(row["prompt"], _text(row["chosen"]))) if callable(render) else ""
