"""``compute_score`` for verl, where another reward manager is kept:

    reward.custom_reward_function.path=pkg://reward_router.integrations.verl.score
    reward.custom_reward_function.name=compute_score

verl's managers pass no prompt and no group here. The prompt must stand in the data's
``extra_info["prompt"]``; equal prompts are one group. A plain ``async def``: verl would take an
object with an async ``__call__`` for a function that returns at once, and its coroutine for the
score.
"""

import asyncio
from functools import cache
from typing import Any

from reward_router.errors import InputError
from reward_router.integrations.client import RouterClient


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: dict[str, Any] | None = None,
    url: str | None = None,
    **_: Any,
) -> dict[str, Any]:
    """``score``, the calibrated reward, with the arm and the decision.

    Args:
        data_source: of the row; not used.
        solution_str: the response.
        ground_truth: the right answer; a text or a number is sent as the label.
        extra_info: with the key ``prompt``, a text or messages.
        url: of the server; None: ``REWARD_ROUTER_URL``.

    InputError where ``extra_info`` holds no prompt.
    """
    prompt = (extra_info or {}).get("prompt")
    if prompt is None:
        raise InputError(
            "extra_info: it has no key 'prompt', and verl passes no prompt to compute_score; put "
            "it there in the data, or use RoutedRewardManager"
        )
    messages = prompt if isinstance(prompt, str) else [dict(message) for message in prompt]
    sample: dict[str, Any] = {"prompt": messages, "response": solution_str}
    if isinstance(ground_truth, str | int | float):
        sample["label"] = ground_truth
    given = await asyncio.to_thread(_client(url).reward, sample)
    return {
        "score": given.reward,
        "acc": given.share,
        "router_arm": given.arm,
        "router_decision": given.decision_id,
    }


@cache
def _client(url: str | None) -> RouterClient:
    """One client a server and process."""
    return RouterClient(url)
