"""Several processes as one run.

Every process holds the same router state, samples its own shard, and learns from all.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from reward_router.errors import RewardRouterError

T = TypeVar("T")


class Ranks:
    """A thin face of ``accelerate.Accelerator``; alone, everything passes through."""

    def __init__(self, device: str) -> None:
        """``device``: cpu keeps accelerate off the GPU; ``accelerate launch`` sets the rest."""
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs

        # Buffers are never trained; sending them would make processes with different numbers of
        # forwards wait for ever.
        ddp = DistributedDataParallelKwargs(broadcast_buffers=False)
        self.accelerator: Any = Accelerator(cpu=device == "cpu", kwargs_handlers=[ddp])
        self.rank: int = self.accelerator.process_index
        self.world: int = self.accelerator.num_processes
        self.main = self.rank == 0

    def shard(self, items: Sequence[T]) -> list[T]:
        """Every world-th item, starting at this process's rank."""
        return list(items[self.rank :: self.world])

    def gather(self, items: Sequence[T]) -> list[T]:
        """The items of all processes, in the order of their ranks, on every process."""
        if self.world == 1:
            return list(items)
        from accelerate.utils import gather_object

        gathered: list[T] = gather_object(list(items))
        return gathered

    def once(self, work: Callable[[], T]) -> T:
        """Do something on the first process only; its result, or its error, is everybody's."""
        done: list[T | RewardRouterError] = []
        if self.main:
            try:
                done = [work()]
            except RewardRouterError as error:
                done = [error]
        [result] = self.gather(done)
        if isinstance(result, RewardRouterError):
            raise result
        return result

    def wait(self) -> None:
        """Until every process is here."""
        self.accelerator.wait_for_everyone()
