"""``RoutedEnvironment`` for NeMo-RL: a Ray actor that is chosen by a task's ``env_name``.

    from reward_router.integrations import nemo_rl
    nemo_rl.register()  # before NeMo-RL's setup; then env.reward_router and env_name: reward_router

Its ``cfg`` may have ``url``, ``token_env`` and ``group_size`` (the trainer's
``num_generations_per_prompt``). It was written from NeMo-RL's sources and has not been run there.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import ray
import torch
from nemo_rl.environments.interfaces import EnvironmentInterface, EnvironmentReturn

from reward_router.integrations.client import RouterClient, sample

NAME = "reward_router"


class Routed(EnvironmentInterface):  # type: ignore[misc]  # nemo_rl has no types here
    """One turn: the last message is the response, those before it are the prompt."""

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        """InputError without a server's address."""
        token = os.environ.get(str(cfg.get("token_env", "REWARD_ROUTER_TOKEN")))
        self.client = RouterClient(cfg.get("url"), token)
        self.size = cfg.get("group_size")

    def step(
        self, message_log_batch: Sequence[Sequence[Mapping[str, Any]]], metadata: Sequence[Any]
    ) -> Any:
        """A calibrated reward for each conversation.

        Args:
            message_log_batch: B conversations; their tokens are not sent.
            metadata: of each; ``ground_truth`` is sent as the label.

        InputError where the server refuses; RunError where it gives no answer in two minutes.
        """
        told = []
        for conversation, known in zip(message_log_batch, metadata, strict=True):
            label = (known or {}).get("ground_truth")
            response = str(conversation[-1]["content"])
            told.append(sample(conversation[:-1], response, label, size=self.size))
        given = self.client.rewards(told)
        return EnvironmentReturn(
            observations=[
                {"role": "environment", "content": f"Environment: {each.reward:.3f}"}
                for each in given
            ],
            metadata=list(metadata),
            next_stop_strings=[None] * len(given),
            rewards=torch.tensor([each.reward for each in given]),
            terminateds=torch.ones(len(given), dtype=torch.bool),
            answers=[str(conversation[-1]["content"]) for conversation in message_log_batch],
        )

    def global_post_process_and_metrics(self, batch: Any) -> tuple[Any, dict[str, float]]:
        """The batch as it is, and its mean reward."""
        rewards = batch.get("rewards")
        if rewards is None:
            return batch, {}
        return batch, {"router/mean_reward": float(torch.as_tensor(rewards).float().mean())}


RoutedEnvironment = ray.remote(Routed)


def register(name: str = NAME) -> None:
    """Let NeMo-RL find the environment by ``name``; ValueError where the name is taken."""
    from nemo_rl.distributed.ray_actor_environment_registry import ACTOR_ENVIRONMENT_REGISTRY
    from nemo_rl.distributed.virtual_cluster import PY_EXECUTABLES
    from nemo_rl.environments.utils import register_env

    path = f"{__name__}.RoutedEnvironment"
    ACTOR_ENVIRONMENT_REGISTRY[path] = PY_EXECUTABLES.SYSTEM
    register_env(name, path)
