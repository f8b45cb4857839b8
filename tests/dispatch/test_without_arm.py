"""Decisions without an arm: an ensemble or a committee decides, and the ledger says which."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from reward_router import Dispatcher, Fixed, Ledger, LinUCB
from reward_router.errors import InputError, LedgerError
from reward_router.ledger import Call
from reward_router.types import By, State

ARMS = ["a", "b", "c"]
X = np.eye(4)
UNITS = ["p1", "p2", "p3", "p4"]
Contexts = Literal["full", "f32", "none"]


def dispatcher(ledger: Ledger) -> Dispatcher:
    return Dispatcher(LinUCB(3, 4), ARMS, ledger=ledger, hold_back=0)


def equal(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("contexts", ["full", "f32", "none"])
@pytest.mark.parametrize("by", [By.ENSEMBLE, By.COMMITTEE])
def test_it_has_no_arm_and_teaches_no_router(tmp_path: Path, by: By, contexts: Contexts) -> None:
    with Ledger(tmp_path / "l.sqlite", contexts=contexts) as ledger:
        d = dispatcher(ledger)
        before = d.router.state_dict()
        decisions = d.route(X, UNITS, 0, by=by)
        assert {(one.by, one.arm, one.name, one.propensity) for one in decisions} == {
            (by, -1, "", 1.0)
        }
        assert not any(one.probs_K.any() for one in decisions)
        again = d.route(X, UNITS, 0, by=str(by))
        assert [one.id for one in again] == [one.id for one in decisions]
        d.record_calls([Call(one.id, "r", "b", 0.5) for one in decisions])
        assert d.feedback_many([(one.id, 0.25) for one in decisions]) == [True] * 4
        assert equal(d.router.state_dict(), before)
        assert d.state_dict()["pulls"].tolist() == [0, 0, 0]
        routed = d.route(X, UNITS, 1)
        d.feedback_many([(one.id, 0.5) for one in routed])
        assert not equal(d.router.state_dict(), before)
        after = d.state_dict()
        if contexts == "none":
            d.close()
    with Ledger(tmp_path / "l.sqlite", contexts=contexts) as ledger:
        assert equal(dispatcher(ledger).state_dict(), after)
        table = ledger.decisions()
        assert table.by == [by] * 4 + [By.ROUTER] * 4
        assert table.arm[:4].tolist() == [-1] * 4
        assert table.arm[4:].min() >= 0
        assert table.arms == ARMS
        assert table.payoff.tolist() == [0.25] * 4 + [0.5] * 4
        assert ledger.payoffs().arm[:4].tolist() == [-1] * 4
        assert table.deciders()[by].tolist() == [True] * 4 + [False] * 4
        assert ledger.check().ok
        ledger.export(tmp_path / "l.jsonl")
    events = [json.loads(line) for line in (tmp_path / "l.jsonl").read_text().splitlines()]
    assert next((e["by"], e["arm"], e["name"]) for e in events if e["type"] == "decisions") == (
        by,
        None,
        None,
    )


def test_a_unit_is_decided_once_by_one() -> None:
    d = dispatcher(Ledger(":memory:"))
    d.route(X, UNITS, 0, by="committee")
    with pytest.raises(LedgerError, match="decided by the committee"):
        d.route(X, UNITS, 0)
    with pytest.raises(InputError, match="allowed router, ensemble, committee"):
        d.route(X, UNITS, 1, by="nobody")
    assert len(d.pending) == 4


def test_arms_that_rest_are_counted_and_nobody_is_stopped() -> None:
    d = dispatcher(Ledger(":memory:"))
    for step in range(2):
        for one in d.route(X[:1], ["p1"], step, by="ensemble"):
            for arm in ARMS:
                d.record_failure(one.id, arm, "timeout")
    assert set(d.resting) == set(ARMS)
    d.route(X, UNITS, 2, by="ensemble")  # a router would raise AllArmsResting
    assert d.rested == {"a": 4, "b": 4, "c": 4}
    one = d.route(X[:1], ["p1"], 3, by="ensemble")[0]
    d.record_calls([Call(one.id, "r", "b", 0.5)])
    assert set(d.resting) == {"a", "c"}


@pytest.mark.parametrize("name", ["ensemble", "committee"])
def test_ledgers_with_an_arm_of_that_name_read_the_same(name: str) -> None:
    ledger = Ledger(":memory:")
    d = Dispatcher(Fixed(4, 3), [*ARMS, name], ledger=ledger)
    decisions = d.route(X, UNITS, 0)
    d.record_calls([Call(decisions[0].id, "r", "b", 0.5)])
    d.feedback(decisions[0].id, 0.5)
    table = ledger.decisions()
    assert table.by == [By(name)] * 4
    assert table.arm.tolist() == [-1] * 4
    assert ledger.payoffs().arm.tolist() == [-1]
    assert table.arms == ledger.calls().arms == ARMS
    assert table.probs_BK.tolist() == np.zeros((4, 3)).tolist()
    d.record_calls(
        [Call(decisions[0].id, "r", name, 0.5)]
    )  # it was asked, so it is an arm of the user's
    assert ledger.decisions().arms == [*ARMS, name]
    assert ledger.decisions().arm.tolist() == [3] * 4
