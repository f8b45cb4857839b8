"""Endpoints in a run.

What they took and cost is in the ledger, one that goes bad rests, and the others go on.
"""

import re

import numpy as np
import pytest

from reward_router import Dispatcher, Uniform
from reward_router.config import validate
from reward_router.dispatch import BreakerRule
from reward_router.errors import InputError, RunError
from reward_router.ledger.rows import Failed
from reward_router.rewards.check import check_on_sample
from reward_router.rewards.configured import configured_arms, eval_specs
from reward_router.rewards.pool import RewardPool
from reward_router.rewards.spec import ArmSpec
from reward_router.session import Batch, Session
from reward_router.testing import FakeArm
from reward_router.verdicts.eval_only import EvalOnly

LOCAL = ArmSpec("local", "metric", options={"metric": "length"})


def session_of(url, **calls):
    options = {
        "url": url,
        "price": {"input": 1e6},
        "calls": {"timeout": 20, "patience": 0.1, "retries": 0, **calls},
    }
    pool = RewardPool({"served": ArmSpec("served", "http", "rm", options), "local": LOCAL})
    dispatcher = Dispatcher(Uniform(2), ["served", "local"], breaker=BreakerRule())
    return Session(dispatcher, pool, payoff="probe")


def batch_at(t, width=8):
    prompts = [f"prompt {t}-{i}" for i in range(width)]
    responses = [[f"a{t}{i}", f"a longer one {t}{i}"] for i in range(width)]
    return Batch(
        t,
        prompts,
        [f"u{i}" for i in range(width)],
        responses,
        gold=[[0.0, 1.0]] * width,
        contexts=np.ones((width, 1)),
    )


def test_seconds_and_prices_of_calls_are_those_that_were_measured(server):
    session = session_of(server[1])
    session.judge(batch_at(0))
    calls = session.dispatcher.ledger.calls()
    served = [k for k, arm in enumerate(calls.arms) if arm == "served"]
    mine = np.isin(calls.arm, served) & (np.array(calls.status) == "ok")
    assert mine.any()
    assert (calls.seconds[mine] > 0).all()
    assert calls.price[mine].min() == 7  # tokens of one response, a unit each
    assert calls.price[mine].max() == 7 * (1 + 6)  # the first one carries the canaries
    assert (calls.price[~mine] == 1).all()


@pytest.mark.parametrize("mode", ["html", "nothing", "nan", "count", "hang", "unauthorized"])
def test_an_endpoint_that_goes_bad_rests_and_the_run_goes_on(mode, server):
    state, url = server
    session = session_of(url, canaries=0, timeout=0.5 if mode == "hang" else 20)
    session.judge(batch_at(0))
    state.mode = mode
    for t in range(1, 6):
        batch = session.judge(batch_at(t))
        session.learn(batch)
        assert all(
            np.isfinite(score_N).all() for cells in batch.verdicts.scores for score_N in cells
        )
    assert "served" in session.dispatcher.resting
    reasons = {event.reason for event in session.dispatcher.ledger.events(types=[Failed])}
    assert reasons
    assert all(f"{url}/classify" in reason for reason in reasons)


def test_a_judge_that_answers_nonsense_is_paid_and_believed_nothing(server):
    state, url = server
    state.mode = "html"
    session = session_of(url, canaries=0)
    session.judge(batch_at(0))
    calls = session.dispatcher.ledger.calls()
    failed = np.array([status == "failed" for status in calls.status])
    assert failed.any()
    assert np.isnan(calls.score[failed]).all()
    assert (calls.price[failed] > 0).all()


def test_on_drift_stop_ends_the_run_with_the_reason(server):
    state, url = server
    session = session_of(url, canaries=1, on_drift="stop")
    session.judge(batch_at(0))
    state.mode = "sigmoid"
    batches = [batch_at(t) for t in range(1, 6)]
    with pytest.raises(RunError, match="arm 'served': what is served has changed"):
        list(map(session.judge, batches))


def test_what_is_told_names_the_arm(server):
    state, url = server
    state.mode = "sigmoid"
    session, told = session_of(url), []
    session.mode.asker.warn = told.append
    for t in range(3):
        session.judge(batch_at(t))
    assert len(told) == 1
    assert (
        told[0].startswith(f"warning: arm 'served': {url}/classify: all canary scores")
        or "within [0, 1]" in told[0]
    )


def test_arms_check_says_what_it_cost_and_how_the_judge_is_biased(server):
    spec = ArmSpec(
        "j", "judge", "m", {"url": f"{server[1]}/v1", "mode": "pairwise", "price": {"call": 0.5}}
    )
    rows = [
        {"prompt": "p", "chosen": "a much longer answer", "rejected": f"no{n}"} for n in range(4)
    ]
    [check] = check_on_sample(RewardPool({"j": spec}), rows)
    assert check.accuracy == 1
    assert check.price == 0.5 * 2 * (4 + 3)  # the canaries are three pairs
    assert "position bias over 4 pairs" in check.remarks[0]


def test_arms_that_are_only_looked_at_do_not_judge():
    tree = {
        "arms": [
            {"name": n, "kind": "metric", "metric": "length", "eval_only": n == "c"} for n in "abc"
        ]
    }
    config = validate(tree, "f")
    assert [spec.name for spec in configured_arms(config.arms)] == ["a", "b"]
    assert [spec.name for spec in eval_specs(config.arms)] == ["c"]
    with pytest.raises(InputError, match="none is left to judge"):
        validate({"arms": [{**arm, "eval_only": True} for arm in tree["arms"]]}, "f")
    with pytest.raises(InputError, match="none of the arms a, b"):
        validate({**tree, "pool": {"fallback": "c"}}, "f")


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_arms_that_are_only_looked_at_say_how_far_they_agree(share):
    session = Session(
        Dispatcher(Uniform(2), ["long", "longer"]),
        {"long": FakeArm(len), "longer": FakeArm(len)},
        payoff="probe",
    )
    pool = RewardPool(
        {}, models={"alike": FakeArm(len), "against": FakeArm(lambda text: -len(text))}
    )
    lookers = EvalOnly(pool, {"alike": share, "against": share}, {"alike": 2.0}, seed=0)
    batch = session.judge(batch_at(0, width=200))
    before = len(session.dispatcher.ledger.calls().arm)
    found = lookers.look(batch)
    assert (found["alike"]["agreement"], found["against"]["agreement"]) == (1.0, 0.0)
    assert abs(found["alike"]["prompts"] - 200 * share) < 25
    assert (
        found["alike"]["price"] == 2.0 * found["alike"]["calls"] == 4.0 * found["alike"]["prompts"]
    )
    assert len(session.dispatcher.ledger.calls().arm) == before


@pytest.mark.parametrize(
    "secret",
    [
        {"api_key": "abcdefgh"},
        {"headers": {"Authorization": "Basic YWJjZGVm"}},
        {"url": "https://me:hunter2hunter2@host"},
        {"url": "https://host/classify?api_key=hunter2hunter2"},
        {"key_env": "sk-hunter2hunter2"},
        {"request": {"token": "hunter2hunter2hunter2"}},
        {"note": "Bearer hunter2hunter2"},
    ],
)
def test_a_secret_in_a_configuration_is_refused_and_not_repeated(secret):
    arm = {"name": "a", "kind": "http", "url": "http://h", **secret}
    with pytest.raises(InputError) as caught:
        validate({"arms": [arm, {"name": "b", "kind": "metric", "metric": "length"}]}, "run.yaml")
    assert "arm 'a'" in str(caught.value)
    assert not re.search("hunter2|abcdefgh|YWJj", str(caught.value))


def test_what_only_looks_like_a_key_is_no_secret():
    arm = {"name": "a", "kind": "metric", "metric": "json", "keys": ["answer", "token"]}
    judge = {
        "name": "b",
        "kind": "judge",
        "url": "http://h/v1",
        "model": "m",
        "key_env": "MY_KEY",
        "rubric": "Is the key of it told?",
    }
    assert validate({"arms": [arm, judge]}, "run.yaml").arms[1].options["key_env"] == "MY_KEY"
