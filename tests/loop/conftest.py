"""What several tests of runs need.

These are a run stopped after a checkpoint, and two processes as two threads.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reward_router.config import Config
from reward_router.errors import RunError
from reward_router.rundir import RunDir


@pytest.fixture(scope="session")
def stopped_run() -> Callable[[Config, Path, int], None]:
    """``stopped_run(config, out, n)`` is a run into ``out`` that is stopped.

    It is stopped once checkpoint ``n`` is written.
    """

    def go(config: Config, out: Path, last: int) -> None:
        from reward_router import run

        real = RunDir.save_checkpoint

        def stop(self: RunDir, number: int, *rest: Any) -> None:
            real(self, number, *rest)
            if number == last:
                raise RunError("stopped")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RunDir, "save_checkpoint", stop)
            with pytest.raises(RunError):
                run.train(config, out)

    return go


Gather = Callable[[list[Any]], list[Any]]


@pytest.fixture
def two_processes() -> Callable[[Callable[[int, Gather], Any]], dict[int, Any]]:
    """``two_processes(work)`` runs ``work(me, gather)`` for me = 0 and 1, in two threads.

    It gives what both returned; ``gather`` joins their lists.
    """

    def go(work: Callable[[int, Gather], Any]) -> dict[int, Any]:
        box: dict[int, list[Any]] = {}
        barrier, found = threading.Barrier(2), dict[int, Any]()

        def gather_for(me: int) -> Gather:
            def gather(items: list[Any]) -> list[Any]:
                box[me] = items
                barrier.wait(30)
                both = box[0] + box[1]
                barrier.wait(30)
                return both

            return gather

        threads = [
            threading.Thread(target=lambda me=me: found.update({me: work(me, gather_for(me))}))
            for me in (0, 1)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return found

    return go
