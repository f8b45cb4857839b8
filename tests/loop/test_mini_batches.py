"""Mini-batches of several processes: one plan, every pair once."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from reward_router.config import PolicyConfig, TrainConfig

pytest.importorskip("reward_router.policy", reason="needs the packages of the extra `train`")

from reward_router.distributed import Ranks
from reward_router.policy import Policy
from reward_router.training import step
from reward_router.training.step import Trainer


def test_processes_share_the_mini_batches(
    two_processes: Callable[[Callable[[int, Any], Any]], dict[int, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each pair is in one mini-batch of a pass, on the process that has it.

    Both processes see the same sizes.
    """
    config = TrainConfig(steps_per_batch=2, mini_batch=3)
    policy = Policy(PolicyConfig(model="tiny", device="cpu"), config, 0)
    accelerator = Ranks("cpu").accelerator
    mine = {0: 5, 1: 2}

    class Rank:
        def __init__(self, rank: int, gather: Any) -> None:
            self.process_index, self.gather = rank, gather

    def work(me: int, gather: Any) -> Any:
        trainer = Trainer(policy, config, accelerator)
        trainer.accelerator = Rank(me, gather)
        return trainer._plan(mine[me], 7, 0)

    local = threading.local()
    monkeypatch.setattr(step, "gather_object", lambda items: local.gather(items))

    def with_gather(me: int, gather: Any) -> Any:
        local.gather = gather
        return work(me, gather)

    plans = two_processes(with_gather)
    assert [p.pairs for p in plans[0]] == [p.pairs for p in plans[1]] == [3, 2, 2] * 2
    for me, count in mine.items():
        for epoch in (plans[me][:3], plans[me][3:]):
            assert sorted(i for part in epoch for i in part.rows) == list(range(count))
    assert [len(a.rows) + len(b.rows) for a, b in zip(plans[0], plans[1], strict=True)] == [
        3,
        2,
        2,
    ] * 2
