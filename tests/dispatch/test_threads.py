"""Many threads on one dispatcher: every event once, in an order whose fold is the live state."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from reward_router.dispatch import Dispatcher
from reward_router.ledger import Call, Ledger
from reward_router.routers import LinUCB

D, THREADS, STEPS = 5, 8, 15


def test_threads_share_a_dispatcher(tmp_path):
    ledger = Ledger(tmp_path / "l")
    d = Dispatcher(LinUCB(3, D), list("abc"), ledger=ledger, snapshot_every=50)

    def work(thread: int) -> list[bool]:
        random, new = np.random.default_rng(thread), []
        for step in range(STEPS):
            decisions = d.route(
                random.normal(size=(2, D)) / 3, [f"t{thread}a", f"t{thread}b"], step
            )
            d.record_calls([Call(q.id, "r", q.name, 0.5) for q in decisions])
            new += d.feedback_many([(q.id, float(random.random())) for q in decisions])
            new.append(
                not d.feedback(
                    decisions[0].id,
                    ledger.find([bytes.fromhex(decisions[0].id)]).popitem()[1][1].scaled,
                )
            )
            d.counts()
        return new

    with ThreadPoolExecutor(THREADS) as pool:
        assert all(all(new) for new in pool.map(work, range(THREADS)))
    live = {k: v.tobytes() for k, v in d.state_dict().items()}
    assert [e.seq for e in ledger.events()] == list(range(1, ledger.last_seq + 1))
    assert d.counts()["decisions"] == d.counts()["payoffs"] == THREADS * STEPS * 2
    ledger.close()
    again = Dispatcher(LinUCB(3, D), list("abc"), ledger=Ledger(tmp_path / "l"))
    assert {k: v.tobytes() for k, v in again.state_dict().items()} == live


def test_the_same_payoff_from_many_threads_is_learned_once():
    d = Dispatcher(LinUCB(3, D), list("abc"))
    decisions = d.route(np.eye(D), [str(i) for i in range(D)], 0)
    with ThreadPoolExecutor(THREADS) as pool:
        new = list(
            pool.map(lambda _: sum(d.feedback(q.id, 0.5) for q in decisions), range(THREADS))
        )
    assert sum(new) == D
    assert int(d.state_dict()["version"]) == D
