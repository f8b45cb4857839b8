"""Forced warm-up: every arm in every run.

It is bounded, its propensities are true, and it is the same on every shard.
"""

import numpy as np
import pytest

from reward_router.dispatch import Dispatcher
from reward_router.dispatch.warmup import force
from reward_router.routers import LinearThompson, LinUCB, Uniform

D = 4


def contexts(n: int, seed: int = 0):
    return np.random.default_rng(seed).normal(size=(n, D)) / 3


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("paid", [True, False])
def test_one_decision_a_step_pulls_every_arm_n0_times_in_rounds(seed, paid):
    k, n0 = 5, 2
    d = Dispatcher(LinUCB(k, D, warmup=n0), list("abcde"), seed=seed)
    arms = []
    for step, x in enumerate(contexts(k * n0 + 3)):
        [decision] = d.route([x], ["batch"], step)
        assert decision.forced == (step < k * n0)
        assert decision.propensity == (
            1 / (k - step % k) if decision.forced else decision.probs_K[decision.arm]
        )
        arms.append(decision.arm)
        if paid:
            d.feedback(decision.id, 0.5)
    for start in range(0, k * n0, k):
        assert sorted(arms[start : start + k]) == list(range(k))
    assert d.router.warmup == n0  # the caller's router is as it was


def test_rounds_are_in_different_orders():
    orders = set()
    for seed in range(20):
        d = Dispatcher(LinUCB(3, D, warmup=1), list("abc"), seed=seed)
        orders.add(tuple(d.route([x], ["u"], step)[0].arm for step, x in enumerate(contexts(3))))
    assert len(orders) == 6


def test_an_arm_that_never_answers_is_not_forced_for_ever():
    d = Dispatcher(LinUCB(3, D), list("abc"), hold_back=0)
    silent = [0, 0]
    for step, x in enumerate(contexts(60)):
        [decision] = d.route([x], ["u"], step)
        if decision.name == "a":
            d.record_failure(decision.id, "a", "timeout")
            silent[decision.forced] += 1
        else:
            d.feedback(decision.id, 1.0)
    assert silent[1] == 2


def test_forced_decisions_are_drawn_as_recorded():
    counts = np.zeros(4)
    pulls = np.array([2, 0, 1, 0])
    even = np.full((1, 4), 0.25)
    for step in range(400):
        p, forced = force(even, pulls, 2, seed=1, step=step, units=["u"])
        assert forced.all()
        assert p.tolist() == [[0, 0.5, 0, 0.5]]
        counts += p[0]
    assert even.tolist() == [[0.25] * 4]


def test_no_more_rows_of_a_call_are_forced_than_decisions_are_lacking():
    d = Dispatcher(LinUCB(3, D, warmup=2), list("abc"), seed=2)
    decisions = d.route(contexts(40), [str(i) for i in range(40)], 0)
    assert sum(q.forced for q in decisions) == 6
    d.feedback_many([(q.id, 0.5) for q in decisions])
    d.add_arm("new")
    decisions = d.route(contexts(40), [str(i) for i in range(40)], 1)
    forced = [q for q in decisions if q.forced]
    assert [q.name for q in forced] == ["new", "new"]
    assert {q.propensity for q in forced} == {1.0}


@pytest.mark.parametrize(
    "make", [lambda: LinUCB(4, D), lambda: LinearThompson(4, D, warmup=2), lambda: Uniform(4)]
)
def test_a_cold_unit_gets_the_same_arm_on_every_shard_and_in_every_order(make):
    x, ids = contexts(50), [f"p{i}" for i in range(50)]
    whole = {q.unit: q.arm for q in Dispatcher(make(), list("abcd"), seed=9).route(x, ids, 0)}
    random = np.random.default_rng(0)
    for _ in range(5):
        part = random.permutation(50)[:12]
        shard = Dispatcher(make(), list("abcd"), seed=9).route(x[part], [ids[i] for i in part], 0)
        assert {q.unit: q.arm for q in shard} == {ids[i]: whole[ids[i]] for i in part}
