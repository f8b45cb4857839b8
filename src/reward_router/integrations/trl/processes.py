"""The processes of a TRL run, as the library's other parts know them."""

from collections.abc import Callable
from typing import Any, TypeVar

from reward_router.distributed import Ranks
from reward_router.errors import InputError

T = TypeVar("T")


class Processes(Ranks):
    """The processes that TRL has started; none is started and no device is chosen here."""

    def __init__(self) -> None:
        """Ask accelerate's state, which TRL's training arguments have set."""
        try:
            from accelerate import PartialState
        except ImportError:  # a session without torch: one process
            self.rank, self.world, self.main = 0, 1, True
            return
        self._state = PartialState()
        self.rank = self._state.process_index
        self.world = self._state.num_processes
        self.main = self.rank == 0

    def wait(self) -> None:
        """Until every process is here."""
        if self.world > 1:
            self._state.wait_for_everyone()

    def together(self, work: Callable[[], list[T]]) -> list[list[T]]:
        """What every process makes of its own part, by rank.

        Bad input on one process is everybody's error, so that none waits for ever.
        """
        try:
            mine: list[T] | InputError = work()
        except InputError as error:
            mine = error
        parts: list[Any] = self.gather([mine])
        for part in parts:
            if isinstance(part, InputError):
                raise part
        return parts
