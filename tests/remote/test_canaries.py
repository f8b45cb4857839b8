"""What is served is known by its canaries.

A change is seen, told with its difference, and acted on as configured.
"""

import numpy as np
import pytest

from reward_router.rewards.kinds.http import Http
from reward_router.rewards.metered import ArmFailed, ArmStops
from reward_router.rewards.pool import RewardPool
from reward_router.rewards.remote.canary import CANARIES, CanaryWatch
from reward_router.rewards.spec import ArmSpec
from reward_router.testing.transport import FakeTransport


def pool_of(url, **calls):
    return RewardPool({"arm": ArmSpec("arm", "http", "rm", {"url": url, "calls": calls})})


def test_a_sigmoid_is_seen_at_load(server):
    state, url = server
    state.mode = "sigmoid"
    [notice] = pool_of(url).score("arm", ["p"], [["r"]]).notices
    assert "within [0, 1]" in notice
    assert url in notice


def test_a_change_is_told_with_the_difference_and_becomes_what_is_served(server):
    state, url = server
    pool = pool_of(url, canaries=2)
    assert pool.score("arm", ["p"], [["r", "rr"]]).notices == ()
    before = pool.load("arm").served()
    state.mode, state.pages["/version"] = "sigmoid", {"version": "0.34.0"}
    [notice] = pool.score("arm", ["p"], [["s", "ss"]]).notices
    assert "version 0.33.0 -> 0.34.0" in notice
    assert "canary 'The sea lay calm" in notice
    assert "applies a sigmoid" in notice
    assert pool.load("arm").served() != before
    assert pool.score("arm", ["p"], [["t", "tt"]]).notices == ()


def test_a_change_between_two_runs_is_seen(server):
    state, url = server
    first = pool_of(url)
    first.score("arm", ["p"], [["r"]])
    state.pages["/version"] = {"version": "0.34.0"}
    result = pool_of(url).score("arm", ["p"], [["r"]])
    assert result.ok
    assert result.notices == (f"{url}/classify: version 0.33.0 -> 0.34.0",)


@pytest.mark.parametrize(("on_drift", "error"), [("rest", ArmFailed), ("stop", ArmStops)])
def test_an_arm_that_changed_does_not_judge_where_it_must_not(on_drift, error, server):
    state, url = server
    pool = pool_of(url, canaries=1, on_drift=on_drift)
    assert pool.score("arm", ["p"], [["r"]]).ok
    state.mode = "sigmoid"
    result = pool.score("arm", ["p"], [["s"]])
    assert result.status == "failed"
    assert "has changed" in result.error
    assert result.stops == (error is ArmStops)
    state.mode = "well"
    assert pool.score("arm", ["p"], [["t"]]).ok


def test_an_endpoint_that_is_noisy_has_not_changed():
    noise = np.random.default_rng(0)

    def respond(body):
        return {"data": [{"probs": [len(body["messages"][-1]["content"]) + noise.normal(0, 1.0)]}]}

    arm = Http("http://rm", calls={"canaries": 1}, transport=FakeTransport(respond))
    told = [notice for n in range(30) for notice in arm.score_with_bill(["p"], [[f"r{n}"]]).notices]
    assert len(told) <= 1


def test_a_change_as_small_as_a_dtype_is_seen_where_the_endpoint_is_exact():
    scale = [1.0]

    def respond(body):
        return {"data": [{"probs": [scale[0] * len(body["messages"][-1]["content"])]}]}

    arm = Http("http://rm", calls={"canaries": 1}, transport=FakeTransport(respond))
    assert arm.score_with_bill(["p"], [["r"]]).notices == ()
    scale[0] = 1.1
    assert "scored" in arm.score_with_bill(["p"], [["s"]]).notices[0]


def test_the_canaries_are_on_the_bill():
    respond = lambda body: {"data": [{"probs": [-5.0 - len(str(body))]}]}  # noqa: E731
    arm = Http("http://rm", price={"call": 1}, transport=FakeTransport(respond))
    np.testing.assert_array_equal(
        arm.score_with_bill(["p"], [["r", "s"]]).price_BN, [[1 + 2 * len(CANARIES), 1]]
    )


def test_scores_that_are_all_equal_are_doubted():
    assert "tells no response" in CanaryWatch("place", raw=True).doubts(np.full((3, 2), 0.5))[0]
    assert (
        "is lower better"
        in CanaryWatch("place", raw=False).doubts(np.array([[0.0, 1], [2, 3], [4, 5]]))[0]
    )


def test_a_damaged_baseline_is_no_baseline(tmp_path, monkeypatch, server):
    monkeypatch.setenv("REWARD_ROUTER_CACHE", str(tmp_path))
    _, url = server
    pool_of(url).score("arm", ["p"], [["r"]])
    [kept] = (tmp_path / "served").iterdir()
    kept.write_text("{", encoding="utf-8")
    assert pool_of(url).score("arm", ["p"], [["r"]]).ok
