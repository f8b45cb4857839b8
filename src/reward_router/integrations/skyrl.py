"""``RoutedEnv`` for SkyRL 0.4: an environment of one turn whose reward the router's arm gives.

    skyrl_gym.register(id="router", entry_point="reward_router.integrations.skyrl:RoutedEnv")

The rows of the data set then have ``env_class: router``. ``REWARD_ROUTER_URL`` names the server
(``REWARD_ROUTER_TOKEN`` its token). SkyRL makes an environment a trajectory and says no group, so
equal prompts are one, and the server has to be told their number (``--group-size``).
"""

from collections.abc import Mapping
from typing import Any

from skyrl_gym.envs.base_text_env import BaseTextEnv, BaseTextEnvStepOutput

from reward_router.errors import InputError
from reward_router.integrations.client import sample, shared_client


class RoutedEnv(BaseTextEnv):  # type: ignore[misc]  # skyrl_gym has no types here
    """One prompt, one response, one calibrated reward.

    Args:
        env_config: SkyRL's section of the environment; not read.
        extras: the row of the data set; ``reward_spec.ground_truth`` is sent where it is there.
    """

    def __init__(self, env_config: Any = None, extras: Mapping[str, Any] | None = None) -> None:
        """Nothing is asked yet."""
        super().__init__()
        spec = (extras or {}).get("reward_spec") or {}
        self.label = spec.get("ground_truth")
        self.prompt: Any = None

    def init(self, prompt: Any) -> tuple[Any, dict[str, Any]]:
        """Keep the prompt, a list of messages, and pass it on."""
        self.prompt = prompt
        return prompt, {}

    def step(self, action: str) -> BaseTextEnvStepOutput:
        """The reward of the response ``action``; SkyRL calls it in a thread of its pool.

        InputError before `init`, or where the server refuses; RunError where it gives no answer
        within two minutes.
        """
        if self.prompt is None:
            raise InputError(
                "init: it was not called, so there is no prompt to judge a response to"
            )
        given = shared_client().reward(sample(self.prompt, action, self.label))
        told = {"router_arm": given.arm, "router_decision": given.decision_id}
        return BaseTextEnvStepOutput(observations=[], reward=given.reward, done=True, metadata=told)
