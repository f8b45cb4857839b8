"""``RoutedJudge`` for verifiers 0.4 and prime-rl, a judge that is plugged in by its id.

The id names a module at the top level, such as a file ``reward_router_judge.py``, that exports the
class in ``__all__``: ``judges = [{id = "reward-router-judge"}]``. ``REWARD_ROUTER_URL`` names the
server (``REWARD_ROUTER_TOKEN`` its token). Beside verifiers' own ``decision`` judge it sends again
what brought no answer, and sends a token. A judge that raises fails its trace; nothing is scored in
its place.
"""

import asyncio
from typing import Any

from verifiers.v1.judge import Judge

from reward_router.integrations.client import sample, shared_client

__all__ = ["RoutedJudge"]


class RoutedJudge(Judge[float]):  # type: ignore[misc]  # verifiers is not installed where we check
    """The reward in [0, 1] that the router's arm gives the last reply."""

    async def score(self, task: Any, trace: Any) -> float:
        """The share of a normal population below the calibrated reward.

        Args:
            task: its ``prompt_text`` is the prompt; ``answer`` is sent where it has one.
            trace: its ``last_reply`` is the response.

        InputError where the server refuses; RunError where it gives no answer in two minutes.
        """
        told = sample(task.prompt_text, trace.last_reply, getattr(task, "answer", None))
        given = await asyncio.to_thread(shared_client().reward, told)
        return given.share
