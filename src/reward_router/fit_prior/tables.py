"""How good the strengths are, in the shape of the paper's Table 2.

In distribution and out, per category, with both denominators. Accuracy: right 1, a tie or an
abstention 1/2, wrong 0. The paper leaves out rows on which every arm is wrong; both are given.
Intervals resample prompts, all methods on the same resamples, so differences are paired.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router.progress import LiteralTable
from reward_router.replay.intervals import bootstrap, percentile_interval
from reward_router.replay.records import Records
from reward_router.types import Float, Int

Json = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Methods:
    """(P,) accuracy of every method by name on the rows of a set, and their categories.

    ``calls``: of a pair by name.
    """

    accuracy: Mapping[str, Float]
    calls: Mapping[str, float]
    some_right_P: NDArray[np.bool_]
    group_P: Int
    category_P: NDArray[np.str_]


def methods(
    records: Records,
    rows: Int,
    category_P: NDArray[np.str_],
    chosen: Mapping[str, Int],
    best_single: int,
) -> Methods:
    """Accuracies of the methods that a table compares.

    Single arms, the arm best on the training rows, majority, random, and the arm that each router
    chose on each of ``rows``.
    """
    right_TK = records.correct_PK[rows]
    side_TK = np.sign(np.nan_to_num(records.margins_PK[rows]))
    # + where most arms name the better response, 0 where they are evenly split.
    votes_T = side_TK.sum(axis=1) * records.label_P[rows]
    best_T = right_TK.max(axis=1)
    every_row = np.arange(len(rows))

    accuracy = {arm: right_TK[:, k] for k, arm in enumerate(records.arms)}
    accuracy["best single (training)"] = right_TK[:, best_single]
    accuracy["majority"] = 0.5 + 0.5 * np.sign(votes_T)
    accuracy["random"] = right_TK.mean(axis=1)
    for name, arm_T in chosen.items():
        accuracy[name] = right_TK[every_row, arm_T]
    accuracy["oracle"] = best_T

    # All others call one arm a row.
    calls = dict.fromkeys(accuracy, 1.0)
    calls["majority"] = float(len(records.arms))
    calls["oracle"] = float(len(records.arms))
    _, group_T = np.unique(records.group_P[rows], return_inverse=True)
    return Methods(accuracy, calls, best_T > 0.5, group_T, category_P[rows])


def method_figures(ways: Methods, against: str = "best single (training)") -> Json:
    """Every method's figures.

    Accuracy with its 95 % interval, with both denominators, its paired difference to ``against``,
    and its categories.
    """
    draws = bootstrap(ways.group_P)
    keep_P = ways.some_right_P.astype(np.float64)
    base_P = ways.accuracy[against]
    base_R = draws.replicate([base_P])
    categories = np.unique(ways.category_P).tolist()
    in_category = {c: ways.category_P == c for c in categories}
    table: Json = {
        "rows": len(keep_P),
        "prompts": int(ways.group_P.max()) + 1,
        "some_right": int(keep_P.sum()),
        "methods": {},
    }
    any_right = bool(ways.some_right_P.any())
    for name, right_P in ways.accuracy.items():
        own_R = draws.replicate([right_P])
        some_right = float(right_P[ways.some_right_P].mean()) if any_right else None
        table["methods"][name] = {
            "calls": ways.calls[name],
            "accuracy": float(right_P.mean()),
            "ci95": percentile_interval(own_R),
            "some_right": some_right,
            "some_right_ci95": percentile_interval(draws.replicate([right_P], keep_P)),
            "minus_best_single": float((right_P - base_P).mean()),
            "minus_best_single_ci95": percentile_interval(own_R - base_R),
            "by_category": _means(right_P, in_category),
        }
    table["categories"] = {c: int(rows_P.sum()) for c, rows_P in in_category.items()}
    return table


def _means(right_P: Float, in_category: Mapping[str, NDArray[np.bool_]]) -> dict[str, float]:
    return {c: float(right_P[rows_P].mean()) for c, rows_P in in_category.items()}


def main_table(result: Json, title: str) -> LiteralTable:
    """Methods in rows: accuracy with intervals and the paired difference.

    Over all rows, and over those that some arm has right.
    """
    table = LiteralTable(f"{title}: {result['rows']} pairs, {result['prompts']} prompts", box=None)
    for column in (
        "",
        "calls",
        "all rows [95 %]",
        f"some arm right ({result['some_right']})",
        "- best single [95 %]",
    ):
        table.column(column, justify="left" if not column else "right", no_wrap=True)
    for name, m in result["methods"].items():
        low, high = (100 * end for end in m["ci95"])
        gain_low, gain_high = (100 * end for end in m["minus_best_single_ci95"])
        table.row(
            name,
            f"{m['calls']:g}",
            f"{100 * m['accuracy']:.1f} [{low:.1f}, {high:.1f}]",
            "-" if m["some_right"] is None else f"{100 * m['some_right']:.1f}",
            f"{100 * m['minus_best_single']:+.1f} [{gain_low:+.1f}, {gain_high:+.1f}]",
        )
    return table


def category_table(result: Json, title: str, most: int = 12) -> LiteralTable:
    """Accuracy in per cent by category, the ``most`` largest categories."""
    shown = sorted(result["categories"], key=lambda c: -result["categories"][c])[:most]
    table = LiteralTable(f"{title}, by category", box=None)
    for column in ("category", "pairs", *result["methods"]):
        table.column(column, justify="left" if column == "category" else "right")
    methods = result["methods"].values()
    for category in shown:
        cells = [f"{100 * method['by_category'][category]:.0f}" for method in methods]
        table.row(category, str(result["categories"][category]), *cells)
    return table
