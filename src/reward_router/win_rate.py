"""Without gold: how often an arm likes the response after training better.

The arm took no part in training, and compares with the response before it.

The arm (``eval.arm``) is loaded once, at the end of a run, and scores the held-out responses that
samples.jsonl holds: two calls a prompt and sample. It says what that arm likes, not what is right;
routers, trainer and ledger never see it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reward_router.assemble import evaluation_spec
from reward_router.config import Config
from reward_router.errors import RunError
from reward_router.evaluate import bootstrap_interval
from reward_router.headline import MEASURED
from reward_router.rewards.pool import RewardPool
from reward_router.types import Float

WinRateRow = Mapping[str, Any]


def win_rate(config: Config, rows: Sequence[WinRateRow]) -> dict[str, Any] | None:
    """{arm, pairs, ties, all: {n, rate, ci95}, by_category}.

    None where nothing was answered on both sides.

    A win counts 1, a tie or an equal response one half; several samples of a prompt are averaged
    first, and the 95 % interval is over prompts. RunError where the arm cannot score.
    """
    spec = evaluation_spec(config)
    pairs = _pairs(rows)
    if spec is None or not pairs:
        return None
    device = config.policy.device if config.pool.device == "auto" else config.pool.device
    pool = RewardPool(
        {spec.name: spec}, device=device, dtype=config.pool.dtype, timeout=config.pool.timeout
    )
    # Both responses in one request: an arm is asked for scores that it can compare.
    texts = [[before["response"], after["response"]] for before, after in pairs]
    result = pool.score(spec.name, [before["prompt"] for before, _ in pairs], texts)
    if not result.ok:
        raise RunError(
            f"eval.arm {spec.name!r} cannot score the held-out responses: {result.error}"
        )
    wins = wins_of(np.asarray(result.scores_BN, dtype=np.float64))
    by_prompt: dict[str, tuple[str, list[float]]] = {}
    for (before, _), win in zip(pairs, wins.tolist(), strict=True):
        _, wins_of_prompt = by_prompt.setdefault(before["id"], (before["category"], []))
        wins_of_prompt.append(win)
    # Samples of one prompt are not independent: the interval is over prompts.
    mean_B = np.array([np.mean(values) for _, values in by_prompt.values()])
    category_B = np.array([category for category, _ in by_prompt.values()])
    summary: dict[str, Any] = {
        "arm": spec.name,
        "pairs": len(pairs),
        "ties": float((wins == 0.5).mean()),
    }
    summary["all"] = _row(mean_B)
    names = sorted({name for name in category_B.tolist() if name})
    by_category = {}
    for name in names:
        by_category[name] = _row(mean_B[category_B == name])
    return summary | {"by_category": by_category}


def wins_of(score_P2: Float) -> Float:
    """(P,) 1 where the second score is higher, 0 where the first is, else one half.

    One half stands for equal scores, or where one of them is not a number.

    >>> wins_of(np.array([[0.0, 1.0], [2.0, 1.0], [1.0, 1.0], [np.nan, 1.0]])).tolist()
    [1.0, 0.0, 0.5, 0.5]
    """
    gap_P = score_P2[:, 1] - score_P2[:, 0]
    # An arm that abstained on one side prefers neither.
    sign_P = np.where(np.isfinite(gap_P), np.sign(gap_P), 0.0)
    return np.asarray((sign_P + 1) / 2)


def _pairs(rows: Sequence[WinRateRow]) -> list[tuple[WinRateRow, WinRateRow]]:
    for kind in MEASURED:
        before = _by_sample(rows, kind, "before")
        after = _by_sample(rows, kind, "after")
        # The first kind that was measured on both sides; kinds are not mixed.
        if before.keys() & after.keys():
            return [(before[key], after[key]) for key in before if key in after]
    return []


def _by_sample(
    rows: Sequence[WinRateRow], kind: str, when: str
) -> dict[tuple[Any, Any], WinRateRow]:
    """The rows of one measurement by prompt and sample."""
    by_sample = {}
    for row in rows:
        if row["kind"] == kind and row["when"] == when:
            by_sample[row["id"], row["sample"]] = row
    return by_sample


def _row(win_B: Float) -> dict[str, Any]:
    low, high = bootstrap_interval(win_B)
    return {"n": len(win_B), "rate": float(win_B.mean()), "ci95": [low, high]}
