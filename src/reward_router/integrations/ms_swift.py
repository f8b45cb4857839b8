"""``RoutedORM`` for ms-swift 4.6, by its hook ``--external_plugins``. The plugin file is two lines:

    from reward_router.integrations import ms_swift
    ms_swift.register()  # then: --reward_funcs reward_router

``REWARD_ROUTER_URL`` names the server (``REWARD_ROUTER_TOKEN`` its token). ms-swift tells every
reward function which completions belong to one prompt (``prompt_id``). It begins its count anew
with every generation, so it names a group only together with the step.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from reward_router.errors import InputError
from reward_router.integrations.client import RouterClient, sample

NAME = "reward_router"
LABELS = ("solution", "answer", "label")
"""Columns of the data set that may hold the right answer; the first that is there is sent."""


class RoutedORM:
    """An asynchronous reward function of ms-swift whose reward models the router chooses.

    It is no subclass of ms-swift's ``AsyncORM``, so that this module needs no ms-swift; ms-swift
    looks at whether ``__call__`` is a coroutine function and at nothing else.

    Args:
        args: ms-swift's; ``num_generations`` is the size of a group.
    """

    def __init__(self, args: Any = None, **_: Any) -> None:
        """InputError without a server's address."""
        self.client = RouterClient()
        self.size: int | None = getattr(args, "num_generations", None)

    async def __call__(
        self,
        completions: Sequence[str],
        messages: Sequence[Sequence[dict[str, Any]]] | None = None,
        prompt_id: Sequence[str] | None = None,
        trainer_state: Any = None,
        **columns: Any,
    ) -> list[float]:
        """One calibrated reward a completion.

        Args:
            completions: what the policy wrote.
            messages: of each row, the completion last.
            prompt_id: which completions of this generation have one prompt, on all processes.
            trainer_state: transformers' ``TrainerState``.
            columns: the data set's; the first of ``solution``, ``answer`` and ``label`` is sent.

        InputError where there are no messages, or where the server refuses; RunError where it gives
        no answer within two minutes.
        """
        if messages is None:
            raise InputError("messages: ms-swift passed none, and the router needs the prompts")
        step = int(getattr(trainer_state, "global_step", 0) or 0)
        labels = next((columns[name] for name in LABELS if name in columns), None)
        told = []
        for i, completion in enumerate(completions):
            group = None if prompt_id is None else f"swift/{step}/{prompt_id[i]}"
            label = None if labels is None else labels[i]
            known = {"group": group, "size": self.size, "step": step}
            told.append(sample(messages[i][:-1], completion, label, **known))
        given = await asyncio.to_thread(self.client.rewards, told)
        return [each.reward for each in given]


def register(name: str = NAME) -> None:
    """Give ms-swift the class under the name that ``--reward_funcs`` takes."""
    from swift.rewards import orms

    orms[name] = RoutedORM
