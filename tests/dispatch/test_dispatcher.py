"""The dispatcher's promises to its caller.

These are keyed draws, exactly once, clear refusals, and a state that refusals leave unchanged.
"""

import numpy as np
import pytest

from reward_router.dispatch import Dispatcher
from reward_router.errors import InputError, LedgerError
from reward_router.ledger import Call, Ledger
from reward_router.routers.exp3 import Exp3
from reward_router.routers.simple import Uniform

X = np.random.default_rng(0).normal(size=(6, 4))
IDS = [f"p{i}" for i in range(6)]


def test_the_same_payoff_again_is_acknowledged_and_another_refused():
    d = Dispatcher(Exp3(2), ["a", "b"])
    [decision] = d.route(X[:1], IDS[:1], 0)
    assert d.feedback(decision.id, 0.25) is True
    before = {k: v.tobytes() for k, v in d.state_dict().items()}
    assert d.feedback(decision.id, 0.25) is False
    with pytest.raises(LedgerError, match=r"0\.25"):
        d.feedback(decision.id, 0.5)
    with pytest.raises(LedgerError, match="not in the ledger"):
        d.feedback("00" * 16, 0.5)
    for bad in (1.5, -0.1, np.nan, np.inf):
        with pytest.raises(InputError):
            d.feedback(decision.id, bad)
    assert before == {k: v.tobytes() for k, v in d.state_dict().items()}


def test_two_ranks_with_other_shards_choose_the_same_arm_for_the_same_unit():
    one, two = (Dispatcher(Uniform(5), list("abcde"), seed=3) for _ in range(2))
    first = {q.unit: q.arm for q in one.route(X[:4], IDS[:4], 7)}
    second = {q.unit: q.arm for q in two.route(X[2:], IDS[2:], 7)}
    assert {u: first[u] for u in IDS[2:4]} == {u: second[u] for u in IDS[2:4]}


def test_a_retry_gets_the_recorded_decision_and_a_different_one_is_refused(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        d = Dispatcher(Exp3(3), list("abc"), ledger=ledger)
        first = d.route(X, IDS, 0)
        d.record_calls([Call(first[0].id, "r0", "a", float("nan"), "abstained")])
        d.feedback(first[0].id, 1.0)
    with Ledger(tmp_path / "l.sqlite") as ledger:
        again = Dispatcher(Exp3(3), list("abc"), ledger=ledger)
        for a, b in zip(first, again.route(X, IDS, 0), strict=True):
            assert (a.id, a.arm, a.propensity, a.probs_K.tolist()) == (
                b.id,
                b.arm,
                b.propensity,
                b.probs_K.tolist(),
            )
        with pytest.raises(LedgerError, match="another context"):
            again.route(X + 1, IDS, 0)
        assert again.feedback(first[0].id, 1.0) is False
