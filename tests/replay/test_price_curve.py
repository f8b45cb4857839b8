"""The committee's price curve.

What one fit gives at every price is compared with the same committee asked one price at a time.
"""

import re

import numpy as np
import pytest

from reward_router.replay.embed import build
from reward_router.replay.evaluate import ReplaySettings, evaluate_methods
from reward_router.replay.price_curve import CURVE_PRICES, price_curve
from reward_router.replay.records import Records
from reward_router.report import charts
from reward_router.report import replay as report


def test_calls_rise_as_the_price_falls(records: Records) -> None:
    curve = price_curve(records, build(records, "none"), 5)
    assert curve["calls"] == sorted(curve["calls"])
    assert curve["calls"][0] == 1.0  # at a price of 1 nobody is worth a second call
    assert curve["calls"][-1] <= len(records.arms)
    assert np.allclose(curve["cost"], curve["calls"])  # every call of these rows costs 1
    assert all(0 <= a <= 1 for a in curve["accuracy"])


def test_a_price_of_the_curve_is_the_committee_at_that_price(records: Records) -> None:
    curve = price_curve(records, build(records, "none"), 5)
    for price in (0.1, 0.01):
        found = evaluate_methods(
            records,
            ReplaySettings([f"committee:gate=off,weights=safe,price={price}"], "none", seeds=1),
        )
        [entry] = [e for e in found["routers"].values() if e["kind"] == "committee"]
        at = CURVE_PRICES.index(price)
        assert entry["accuracy"] == pytest.approx(curve["accuracy"][at])
        assert entry["calls_per_row"] == pytest.approx(curve["calls"][at])


def test_the_report_draws_it_where_a_committee_was_asked_for(records: Records) -> None:
    with_one, without = (
        evaluate_methods(records, ReplaySettings([name], "none", seeds=1))
        for name in ("committee:gate=off,weights=safe", "majority")
    )
    settings = {"payoff": {"kind": "correct"}, "seeds": 1, "folds": 5}
    pages = [
        report.render({"files": [f], "ledgers": [], "settings": settings})
        for f in (with_one, without)
    ]
    assert ["over all prices" in text for text in pages] == [True, False]
    assert "price_curve" not in without


def test_no_curve_runs_through_a_name() -> None:
    x, y = [1.0, 2.0, 3.0, 4.0], [0.6, 0.8, 0.79, 0.78]
    for at in range(4):
        drawn = charts.scatter(
            [charts.Point(x[at], y[at], 0.5, 0.9, "committee", "c", True)],
            "x",
            "y",
            curves={"c": (x, y)},
        )
        [(left, baseline)] = re.findall(
            r'<text x="([\d.]+)" y="([\d.]+)" class="small">committee<', drawn
        )
        [path] = re.findall(r'<path d="M([^"]*)"', drawn)
        corner = np.array([pair.split() for pair in path.split("L")], dtype=float)
        over = np.linspace(float(left), float(left) + 55, 50)
        over = over[over <= corner[-1, 0]]
        height = np.interp(over, corner[:, 0], corner[:, 1])
        assert not ((height > float(baseline) - 10) & (height < float(baseline) + 2)).any()
