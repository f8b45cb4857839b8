"""How good the strengths are, in the shape of the paper's Table 2: in distribution and out, per category, both denominators.

Accuracy: right 1, a tie or an abstention 1/2, wrong 0. The paper leaves out rows on which every arm is wrong; both are given.
Intervals resample prompts, all methods on the same resamples, so differences are paired.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router.progress import Table
from reward_router.replay.intervals import bootstrap, interval
from reward_router.replay.records import Records
from reward_router.types import Float, Int

Json = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Methods:
    """(P,) accuracy of every method by name on the rows of a set, and their categories; ``calls`` a pair by name."""

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
    """Single arms, the arm best on the training rows, majority, random, and the arm each router chose on each of ``rows``."""
    right_TK = records.correct_PK[rows]
    votes_T = np.sign(np.nan_to_num(records.margins_PK[rows])).sum(axis=1) * records.label_P[rows]
    accuracy = {
        **{arm: right_TK[:, k] for k, arm in enumerate(records.arms)},
        "best single (training)": right_TK[:, best_single],
        "majority": 0.5 + 0.5 * np.sign(votes_T),
        "random": right_TK.mean(axis=1),
        **{name: right_TK[np.arange(len(rows)), arm_T] for name, arm_T in chosen.items()},
        "oracle": right_TK.max(axis=1),
    }
    calls = dict.fromkeys(accuracy, 1.0) | {
        "majority": float(len(records.arms)),
        "oracle": float(len(records.arms)),
    }
    group_T = np.unique(records.group_P[rows], return_inverse=True)[1]
    return Methods(accuracy, calls, right_TK.max(axis=1) > 0.5, group_T, category_P[rows])


def measured(found: Methods, against: str = "best single (training)") -> Json:
    """Every method's accuracy, its 95 % interval, both denominators, its paired difference to ``against``, and categories."""
    draws = bootstrap(found.group_P)
    keep_P = found.some_right_P.astype(np.float64)
    base_R = draws.replicate([found.accuracy[against]])
    out: Json = {
        "rows": len(keep_P),
        "prompts": int(found.group_P.max()) + 1,
        "some_right": int(keep_P.sum()),
        "methods": {},
    }
    for name, right_P in found.accuracy.items():
        own_R = draws.replicate([right_P])
        out["methods"][name] = {
            "calls": found.calls[name],
            "accuracy": float(right_P.mean()),
            "ci95": interval(own_R),
            "some_right": float(right_P[found.some_right_P].mean())
            if found.some_right_P.any()
            else None,
            "some_right_ci95": interval(draws.replicate([right_P], keep_P)),
            "minus_best_single": float((right_P - found.accuracy[against]).mean()),
            "minus_best_single_ci95": interval(own_R - base_R),
            "by_category": {
                c: float(right_P[found.category_P == c].mean())
                for c in np.unique(found.category_P).tolist()
            },
        }
    out["categories"] = {
        c: int((found.category_P == c).sum()) for c in np.unique(found.category_P).tolist()
    }
    return out


def main_table(result: Json, title: str) -> Table:
    """Methods in rows: accuracy over all rows and over those some arm has right, with intervals and the paired difference."""
    table = Table(f"{title}: {result['rows']} pairs, {result['prompts']} prompts", box=None)
    for column in (
        "",
        "calls",
        "all rows [95 %]",
        f"some arm right ({result['some_right']})",
        "- best single [95 %]",
    ):
        table.column(column, justify="left" if not column else "right", no_wrap=True)
    for name, m in result["methods"].items():
        low, high = m["ci95"]
        table.row(
            name, f"{m['calls']:g}", f"{100 * m['accuracy']:.1f} [{100 * low:.1f}, {100 * high:.1f}]",
            "-" if m["some_right"] is None else f"{100 * m['some_right']:.1f}",
            "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * x for x in (m["minus_best_single"], *m["minus_best_single_ci95"]))),
        )  # fmt: skip
    return table


def category_table(result: Json, title: str, most: int = 12) -> Table:
    """Accuracy in per cent by category, the ``most`` largest categories."""
    shown = sorted(result["categories"], key=lambda c: -result["categories"][c])[:most]
    table = Table(f"{title}, by category", box=None)
    for column in ("category", "pairs", *result["methods"]):
        table.column(column, justify="left" if column == "category" else "right")
    for category in shown:
        cells = [f"{100 * m['by_category'][category]:.0f}" for m in result["methods"].values()]
        table.row(category, str(result["categories"][category]), *cells)
    return table
