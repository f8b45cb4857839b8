"""Every arm on a labelled sample before a run: does it judge, on what scale, how right, how fast, at what price?

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

    ``accuracy`` in [0, 1] with its interval, NaN without judged pairs; ``by_category`` accuracy per
    category; ``ties`` and ``abstained`` are shares of all pairs; ``quantiles`` of the scores at 5,
    25, 50, 75, 95 %; ``seconds_per_call`` wall time after loading; ``price`` of the whole sample
    (cost times calls); ``longer`` the share of untied judgements that favour the longer response
    (0.5: no taste for length); ``drift`` the shift of the median since the baseline, in baseline
    interquartile ranges (None without baseline); ``failed`` pairs that the arm could not answer
    though it answered others, ``error`` why (the first of them, or of all), ``refused`` whether it
    cannot be had as it is configured; ``remarks`` what the arm measured of itself (a judge's
    position bias) and what should be known of what is served; ``template`` the first pair as the
    model reads it ('' where it reads text).
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


def check_arms(
    pool: RewardPool,
    rows: Sequence[Mapping[str, Any]],
    *,
    arms: Sequence[str] | None = None,
    costs: Mapping[str, float] | None = None,
    baseline: Mapping[str, Sequence[float]] | None = None,
) -> list[ArmCheck]:
    """Score both responses of every pair with every arm (all of the pool's where ``arms`` is None): 2 calls a pair and arm.

    ``costs`` is the price of one call by arm (default 1); ``baseline`` the ``quantiles`` of an
    earlier check by arm. An arm that fails has its ``error`` and NaN figures; the others are
    checked all the same. InputError for no rows, or a row without prompt, chosen and rejected.

    >>> from reward_router.rewards.spec import ArmSpec
    >>> pool = RewardPool({"short": ArmSpec("short", "metric", options={"metric": "length"})})
    >>> check_arms(pool, [{"prompt": "2 + 2?", "chosen": "4", "rejected": "It may be 5."}])[0].accuracy
    1.0
    """
    if not rows:
        raise InputError("arms check: the sample has no rows")
    for number, row in enumerate(rows, start=1):
        for name in ("prompt", "chosen", "rejected"):
            if not row.get(name) and not isinstance(row.get(name), str):
                raise InputError(
                    f"arms check: row {number} has no {name}; a pair is prompt, chosen, rejected, category (optional)"
                )
    prices, before = costs or {}, baseline or {}
    return [
        _check(pool, arm, rows, prices.get(arm, 1.0), before.get(arm)) for arm in arms or pool.names
    ]


def wilson(hits: float, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share; (NaN, NaN) for n = 0.

    >>> [round(v, 3) for v in wilson(8, 10)]
    [0.49, 0.943]
    """
    if n == 0:
        return math.nan, math.nan
    share, z2 = hits / n, _Z95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return middle - half, middle + half


def _check(
    pool: RewardPool,
    arm: str,
    rows: Sequence[Mapping[str, Any]],
    cost: float,
    before: Sequence[float] | None,
) -> ArmCheck:
    result = pool.score(
        arm, [r["prompt"] for r in rows], [[_text(r["chosen"]), _text(r["rejected"])] for r in rows]
    )
    gap_P = result.scores_BN[:, 0] - result.scores_BN[:, 1]
    judged_P = np.isfinite(gap_P)
    hit_P = np.where(gap_P > 0, 1.0, np.where(gap_P == 0, 0.5, 0.0))
    hits, judged = float(hit_P[judged_P].sum()), int(judged_P.sum())
    low, high = wilson(hits, judged)
    finite = result.scores_BN[np.isfinite(result.scores_BN)]
    quantiles = (
        tuple(float(q) for q in np.quantile(finite, QUANTILES))
        if finite.size
        else (math.nan,) * len(QUANTILES)
    )
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
    measured_BN = np.where(np.isnan(result.price_BN), cost, result.price_BN)
    return float(measured_BN[result.mask_BN].sum())


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
    names = np.array([str(row.get("category") or "") for row in rows])
    return {
        str(name): float(hit_P[judged_P & (names == name)].mean())
        for name in sorted(set(names[judged_P]))
        if name
    }


def _longer(rows: Sequence[Mapping[str, Any]], gap_P: Float) -> float:
    more_P = np.array([len(str(r["chosen"])) - len(str(r["rejected"])) for r in rows])
    told_P = np.isfinite(gap_P) & (gap_P != 0) & (more_P != 0)
    return float(((gap_P > 0) == (more_P > 0))[told_P].mean()) if told_P.any() else math.nan


def _drift(now: Sequence[float], before: Sequence[float] | None) -> float | None:
    if before is None:
        return None
    spread = before[3] - before[1]
    return (now[2] - before[2]) / spread if spread else (0.0 if now[2] == before[2] else math.inf)


def _template(pool: RewardPool, arm: str, row: Mapping[str, Any]) -> str:
    model: RewardModel = pool.load(arm)
    render = getattr(getattr(model, "model", None), "render", None) or getattr(
        model, "render", None
    )
    return str(render(row["prompt"], _text(row["chosen"]))) if callable(render) else ""
