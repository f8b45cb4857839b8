"""``routed_reward`` for AReaL 1.0, by its hook ``reward_fn``:

    RLVRWorkflow(reward_fn="reward_router.integrations.areal.routed_reward", ...)

``REWARD_ROUTER_URL`` names the server (``REWARD_ROUTER_TOKEN`` its token). AReaL gives a reward
function 15 s, asks four times, and then takes 0. A call that it gave up goes on in its process, so
the same response would be judged twice. This function therefore answers within 10 s by itself, and
says in the log where it had no verdict. Nothing of AReaL is imported.
"""

import logging
from typing import Any

from reward_router.errors import RunError
from reward_router.integrations.client import sample, shared_client, without_end

SECONDS = 10.0
"""Below AReaL's 15, with time left for its own queue."""
NOTHING_KNOWN = 0.0
"""The mean of any arm's calibrated rewards: neither good nor bad."""
log = logging.getLogger(__name__)


def routed_reward(
    prompt: Any,
    completions: str,
    prompt_ids: Any = None,
    completion_ids: Any = None,
    **row: Any,
) -> float:
    """The calibrated reward of one response; a top-level function, so that it can be pickled.

    Args:
        prompt: the rendered prompt.
        completions: the response, one text in spite of the name; its last token is taken off.
        prompt_ids: its tokens; not read, like ``completion_ids``.
        completion_ids: the response's tokens.
        row: the data set's row; ``answer`` is sent as the label, and ``messages`` stand for the
            prompt where they are there.

    InputError where the server refuses. Where it gives no answer within 10 s: 0.
    """
    asked = row.get("messages") or prompt
    told = sample(asked, without_end(completions), row.get("answer"))
    try:
        return shared_client(seconds=SECONDS).reward(told).reward
    except RunError as error:
        log.warning("no verdict, 0 in its place: %s", error)
        return NOTHING_KNOWN
