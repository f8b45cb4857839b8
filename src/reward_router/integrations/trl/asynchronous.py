"""The asynchronous form of `RoutedReward`."""

import asyncio
from collections.abc import Sequence
from typing import Any

from reward_router.integrations.trl.reward import RoutedReward


class AsyncRoutedReward(RoutedReward):
    """The same for TRL's asynchronous rewards: other reward functions run while the arms are asked.

    GRPOTrainer and RLOOTrainer only; OnlineDPOTrainer takes synchronous ones. One of them a
    trainer, where several processes train: they wait for each other inside it.
    """

    async def __call__(  # type: ignore[override]
        self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> list[float | None]:
        """One reward a completion; TRL awaits it."""
        return await asyncio.to_thread(self.judge, prompts, completions, columns)
