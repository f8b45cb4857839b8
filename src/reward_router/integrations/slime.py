"""``routed_rm`` for slime, by its hook ``--custom-rm-path``:

    --custom-rm-path reward_router.integrations.slime.routed_rm

Unlike ``--rm-url`` it knows the prompt's group: slime counts groups, so ``sample.group_index`` is
the same for the samples of one visit of a prompt and for no others. ``REWARD_ROUTER_URL`` names the
server (``REWARD_ROUTER_TOKEN`` its token). Nothing of slime is imported.
"""

import asyncio
from typing import Any

from reward_router.integrations.client import sample, shared_client


async def routed_rm(args: Any, samples: Any, **_: Any) -> Any:
    """The calibrated reward of a sample, or of each one of a list (slime's batch mode).

    Args:
        args: slime's; ``n_samples_per_prompt`` is read, the size of a group.
        samples: a ``slime.utils.types.Sample``, or a list of them. Where slime evaluates, samples
            have no ``group_index``; equal prompts are a group then.

    InputError where the server refuses; RunError where it gives no answer within two minutes.
    """
    size = getattr(args, "n_samples_per_prompt", None)
    if not isinstance(samples, list):
        given = await asyncio.to_thread(shared_client().reward, _told(samples, size))
        return given.reward
    told = [_told(each, size) for each in samples]
    several = await asyncio.to_thread(shared_client().rewards, told)
    return [each.reward for each in several]


def _told(one: Any, size: int | None) -> dict[str, Any]:
    """What the server is told of one sample of slime."""
    group = None if one.group_index is None else f"slime/{one.group_index}"
    known = {"group": group, "size": size if group is not None else None}
    return sample(one.prompt, one.response, one.label, **known)
