"""``RoutedRewardManager`` for verl 0.9.1, by its public hook ``reward.reward_manager``:

    reward.reward_manager.source=importlib
    reward.reward_manager.module.path=pkg://reward_router.integrations.verl.manager
    reward.reward_manager.name=RoutedRewardManager

``REWARD_ROUTER_URL`` names the server (``REWARD_ROUTER_TOKEN`` its token). verl computes rewards in
its agent loop, one trajectory a call, on one of several worker processes; ``uid`` is the same for
all rollouts of a prompt, so the server collects them into one group with one arm.
"""

import asyncio
from typing import Any

from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from reward_router.integrations.client import RouterClient


class RoutedRewardManager(RewardManagerBase):  # type: ignore[misc]
    """A reward manager whose reward models the router chooses, one arm a prompt group."""

    def __init__(
        self,
        config: Any,
        tokenizer: Any,
        compute_score: Any = None,
        reward_router_address: str | None = None,
        reward_model_tokenizer: Any = None,
    ) -> None:
        """verl passes these. ``compute_score`` and the last two, verl's own reward model, are not
        used. InputError without a server's address.
        """
        super().__init__(config, tokenizer, compute_score)
        self.client = RouterClient()
        self.size = _rollouts(config)

    async def run_single(self, data: Any) -> dict[str, Any]:
        """The reward of one trajectory: its last output, as verl's own managers take it."""
        item = data[-1:][0]
        sample = self._sample(item)
        given = await asyncio.to_thread(self.client.reward, sample)
        # verl wants the same keys of every sample.
        extra = {
            "acc": given.share,
            "router_arm": given.arm,
            "router_decision": given.decision_id,
            "router_propensity": given.propensity,
        }
        return {"reward_score": given.reward, "reward_extra_info": extra}

    def _sample(self, item: Any) -> dict[str, Any]:
        """What the server is told of one trajectory."""
        columns = item.non_tensor_batch
        response_ids = item.batch["responses"]
        length = response_ids.shape[-1]
        valid_length = int(item.batch["attention_mask"][-length:].sum())
        text = self.tokenizer.decode(response_ids[:valid_length], skip_special_tokens=True)
        sample: dict[str, Any] = {"prompt": _messages(columns["raw_prompt"]), "response": text}
        if "uid" in columns:
            sample["group"] = str(columns["uid"])
        if self.size is not None:
            sample["size"] = self.size
        step = columns.get("global_steps")
        if step is not None and int(step) >= 0:
            sample["step"] = int(step)
        truth = (columns.get("reward_model") or {}).get("ground_truth")
        if isinstance(truth, str | int | float):
            sample["label"] = truth
        return sample


def _rollouts(config: Any) -> int | None:
    """``actor_rollout_ref.rollout.n``, the rollouts of a prompt; None where it is not told."""
    from omegaconf import OmegaConf

    if config is None:
        return None
    n = OmegaConf.select(OmegaConf.create(config), "actor_rollout_ref.rollout.n")
    return None if n is None else int(n)


def _messages(prompt: Any) -> Any:
    """A prompt as JSON has it: a text, or messages, which come as an array of objects."""
    if isinstance(prompt, str):
        return prompt
    return [dict(message) for message in prompt]
