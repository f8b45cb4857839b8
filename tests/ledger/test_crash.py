"""kill -9 at random points of a writer at full speed.

Nothing acknowledged is lost, nothing is half there, no repair is needed. The writer is killed over
and over, each time taking up where its ledger ends by making its last calls again. What it leaves
in the end is bit for bit what a writer left in peace leaves.
"""

import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

from reward_router.dispatch import Dispatcher
from reward_router.ledger import Ledger
from reward_router.routers import LinUCB

B, D, K = 6, 12, 3
UNITS = [f"p{i}" for i in range(B)]


def opened(path, durability) -> Dispatcher:
    ledger = Ledger(path, durability=durability)
    ledger.query("PRAGMA wal_autocheckpoint=30")  # checkpoints are among the points to be killed at
    return Dispatcher(LinUCB(K, D), list("abc"), ledger=ledger, snapshot_every=60)


def write(path, stop: int, durability: str, acknowledge=lambda line: None) -> None:
    d = opened(path, durability)
    last = d.ledger.query("SELECT max(step) FROM decisions")[0][0] or 0
    for step in range(max(0, last - 1), stop):
        rng = np.random.default_rng(step)
        decisions = d.route(rng.normal(size=(B, D)) / 4, UNITS, step)
        acknowledge(f"route {step}")
        pairs = [(q.id, float(v)) for q, v in zip(decisions, rng.random(B), strict=True)]
        if step % 3:
            d.feedback_many(pairs)
        else:
            d.feedback_raw_many(pairs, source="neg_loss")
        acknowledge(f"pay {step}")
    d.ledger.close()


def killed_once(path, stop: int, durability: str, delay: float) -> list[str]:
    """The calls that were acknowledged before the writer was killed.

    It was killed ``delay`` seconds after its first call.
    """
    read, told = os.pipe()
    writer = multiprocessing.get_context("fork").Process(
        target=write,
        args=(path, stop, durability, lambda line: os.write(told, f"{line}\n".encode())),
    )
    writer.start()
    os.close(told)
    heard = os.read(read, 10)
    time.sleep(delay)
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    while more := os.read(read, 1 << 16):
        heard += more
    os.close(read)
    return heard.decode().splitlines()


def verify(path, heard: list[str]) -> None:
    with Ledger(path, readonly=True) as ledger:
        routed = dict(ledger.query("SELECT step, count(*) FROM decisions GROUP BY step"))
        paid = dict(
            ledger.query(
                "SELECT d.step, count(*) FROM payoffs p JOIN decisions d ON d.seq=p.decision "
                "GROUP BY d.step"
            )
        )
    assert set(routed.values()) | set(paid.values()) <= {B}  # all of a call, or none
    for line in heard:
        kind, step = line.split()
        assert int(step) in (routed if kind == "route" else paid)


def frozen(path) -> dict[str, bytes]:
    d = opened(path, "normal")
    try:
        return {k: v.tobytes() for k, v in d.state_dict().items()}
    finally:
        d.ledger.close()


@pytest.mark.parametrize(
    ("kills", "durability"),
    [
        (8, "normal"),
        (4, "full"),
        pytest.param(200, "normal", marks=pytest.mark.slow),
        pytest.param(40, "full", marks=pytest.mark.slow),
    ],
)
def test_a_writer_killed_at_random_points(kills, durability, tmp_path):
    random, path = np.random.default_rng(kills), tmp_path / "killed"
    for _ in range(kills):
        verify(path, killed_once(path, 10**6, durability, float(random.uniform(0, 0.05))))
    with Ledger(path, readonly=True) as ledger:
        stop = ledger.query("SELECT max(step) FROM decisions")[0][0] + 40
    write(path, stop, durability)
    with Ledger(path, readonly=True) as ledger:
        assert ledger.check().ok
    write(tmp_path / "calm", stop, durability)
    assert frozen(path) == frozen(tmp_path / "calm")
    with Ledger(path, readonly=True) as one, Ledger(tmp_path / "calm", readonly=True) as two:
        assert list(one.events()) == list(two.events())


def test_a_retry_after_a_lost_reply_is_recognised(tmp_path):
    d = opened(tmp_path / "l", "full")
    x = np.ones((B, D)) / 4
    first = d.route(x, UNITS, 0)
    d.feedback(first[0].id, 0.25)
    d.ledger.close()  # the caller died before it saw either reply
    again = opened(tmp_path / "l", "full")
    assert [q.id for q in again.route(x, UNITS, 0)] == [q.id for q in first]
    assert again.feedback(first[0].id, 0.25) is False
    assert again.ledger.query(
        "SELECT (SELECT count(*) FROM decisions), (SELECT count(*) FROM payoffs)"
    ) == [(B, 1)]
