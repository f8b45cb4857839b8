"""State = fold(apply, events), bit for bit.

This holds for every router, from a snapshot or from the first event, through crashes.
"""

import numpy as np
import pytest

from reward_router.dispatch import Dispatcher
from reward_router.errors import InputError
from reward_router.ledger import Ledger
from reward_router.payoffs import QuantileScaler
from reward_router.routers import (
    Adaptive,
    DiscountedLinUCB,
    Exp3,
    Fixed,
    LinearThompson,
    LinUCB,
    RoundRobin,
    Uniform,
)
from reward_router.routers.cost import Priced

K, D = 3, 6
ROUTERS = {
    "uniform": lambda: Uniform(K),
    "round_robin": lambda: RoundRobin(K),
    "fixed": lambda: Fixed(K, 0),
    "exp3": lambda: Exp3(K),
    "linucb": lambda: LinUCB(K, D),
    "linucb_f32": lambda: LinUCB(K, D, dtype=np.float32),
    "linucb_window": lambda: LinUCB(K, D, window=20),
    "linucb_huber": lambda: LinUCB(K, D, huber=0.3, center=True),
    "discounted": lambda: DiscountedLinUCB(K, D),
    "thompson": lambda: LinearThompson(K, D, noise_sd=0.3),
    "thompson_trust": lambda: LinearThompson(
        K, D, prior_mean=np.full((K, D), 0.1), trust=0.5, intercept=1.0
    ),
    "priced": lambda: Priced(LinUCB(K, D), np.array([1.0, 2.0, 3.0]), cost_weight=0.1, budget=1.5),
    "thompson_safe": lambda: LinearThompson(K, D, safe=0, margin=5.0),
    "thompson_decision_margin": lambda: LinearThompson(K, D, safe=0, decision_margin=0.02),
    "adaptive": lambda: Adaptive(K, D, decision_margin=0.02),
}
pytestmark = pytest.mark.parametrize("name", list(ROUTERS))


def dispatcher(name: str, path, contexts="full", **more) -> Dispatcher:
    scaler = QuantileScaler(window=12)
    return Dispatcher(
        ROUTERS[name](),
        list("abc"),
        ledger=Ledger(path, contexts=contexts),
        seed=5,
        scaler=scaler,
        snapshot_every=64,
        **more,
    )


def go(d: Dispatcher, steps, seed: int = 0, arms: bool = True) -> None:
    """Route, and pay late and out of order, with data that depend on the step only."""
    for step in steps:
        rng = np.random.default_rng([seed, step])
        x = rng.normal(size=(3, D))
        d.route(x / np.linalg.norm(x, axis=1, keepdims=True), [f"u{i}" for i in range(3)], step)
        waiting = d.pending
        picked = [waiting[i] for i in rng.permutation(len(waiting))[: rng.integers(0, 6)]]
        payoffs = [(i, float(v)) for i, v in zip(picked, rng.random(len(picked)), strict=True)]
        if step % 3:
            d.feedback_many(payoffs)
        else:
            d.feedback_raw_many([(i, 5 * v - 9) for i, v in payoffs], source="neg_loss")
        if arms and step == 12:
            d.add_arm("late", cost=2.0)
        if arms and step == 20:
            d.remove_arm("b")
        if step == 25:
            d.reset_scaler()


def frozen(d: Dispatcher) -> dict[str, tuple[str, bytes]]:
    return {k: (str(v.dtype), v.tobytes()) for k, v in d.state_dict().items()}


def test_reopened_state_is_the_live_state(name, tmp_path):
    d = dispatcher(name, tmp_path / "l")
    go(d, range(35))
    live, arms = frozen(d), d.arms
    d.ledger.close()
    for from_the_first_event in (False, True):
        ledger = Ledger(tmp_path / "l")
        if from_the_first_event:
            with ledger.transaction() as db:
                db.execute("DELETE FROM snapshots WHERE seq>0")
        ledger.close()
        again = dispatcher(name, tmp_path / "l")
        assert frozen(again) == live
        assert again.arms == arms
        again.ledger.close()


def test_a_run_in_pieces_is_the_run_in_one(name, tmp_path):
    whole = dispatcher(name, tmp_path / "whole")
    go(whole, range(30))
    for part in (range(7), range(7, 13), range(13, 30)):
        d = dispatcher(name, tmp_path / "parts")
        go(d, part)
        parts = frozen(d)
        d.ledger.close()
    assert parts == frozen(whole)


def test_a_rewound_run_is_the_run_never_interrupted(name, tmp_path):
    straight = dispatcher(name, tmp_path / "straight")
    go(straight, range(30))
    d = dispatcher(name, tmp_path / "rewound")
    go(d, range(15))
    checkpoint = d.ledger.last_seq
    go(d, range(15, 24), seed=9)
    moved = d.ledger.last_seq - checkpoint
    assert d.ledger.rewind(checkpoint, "resume from step 15") == moved
    assert d.ledger.query("SELECT count(*) FROM abandoned") == [(moved,)]
    go(d, range(15, 30))
    assert frozen(d) == frozen(straight)
    assert list(d.ledger.events()) == list(straight.ledger.events())


@pytest.mark.parametrize(
    "where", ["before the write", "after the write", "in the update", "after the update"]
)
def test_an_interrupt_anywhere_in_a_flush_is_survived(name, where, tmp_path, monkeypatch):
    calm = dispatcher(name, tmp_path / "calm")
    go(calm, range(12), arms=False)
    d = dispatcher(name, tmp_path / "shaken")
    go(d, range(6), arms=False)

    def shaken(function, after):
        def call(*args, **kwargs):
            monkeypatch.undo()
            if after:
                function(*args, **kwargs)
            raise KeyboardInterrupt

        return call

    target, method = (d.router, "update") if "update" in where else (d.ledger, "append")
    monkeypatch.setattr(target, method, shaken(getattr(target, method), where.startswith("after")))
    with pytest.raises(KeyboardInterrupt):
        go(d, range(6, 12), arms=False)
    live = frozen(d)
    d.ledger.close()
    d = dispatcher(name, tmp_path / "shaken")
    assert frozen(d) == live
    go_again(d, range(6, 12))
    assert frozen(d) == frozen(calm)


def go_again(d: Dispatcher, steps) -> None:
    """What a caller does after a lost reply.

    It makes the same calls again, from the first that may not have arrived.
    """
    ledger = d.ledger
    first = ledger.query("SELECT min(seq) FROM decisions WHERE step>=?", (steps[0],))[0][0]
    if first is not None:
        ledger.rewind(first - 1, "interrupted")
    go(d, steps, arms=False)


def test_contexts_as_float32_fold_alike(name, tmp_path):
    d = dispatcher(name, tmp_path / "l", contexts="f32")
    go(d, range(20))
    live = frozen(d)
    d.ledger.close()
    again = dispatcher(name, tmp_path / "l", contexts="f32")
    assert frozen(again) == live
    assert again.ledger.decisions().context_BD.dtype == np.float32


def test_another_router_or_setting_is_refused(name, tmp_path):
    d = dispatcher(name, tmp_path / "l")
    go(d, range(3))
    d.ledger.close()
    with Ledger(tmp_path / "l") as ledger:
        other = {"arms": list("abd")}, {"seed": 6}, {"hold_back": 1}
        for change in other:
            settings = {
                "arms": list("abc"),
                "seed": 5,
                "scaler": QuantileScaler(window=12),
                **change,
            }
            arms = settings.pop("arms")
            with pytest.raises(InputError, match=next(iter(change))):
                Dispatcher(ROUTERS[name](), arms, ledger=ledger, **settings)
        another = Uniform(K) if name != "uniform" else Exp3(K)
        with pytest.raises(InputError, match="router"):
            Dispatcher(
                another, list("abc"), ledger=ledger, seed=5, scaler=QuantileScaler(window=12)
            )
