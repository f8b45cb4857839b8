"""TRL: a routed reward for its online trainers, and judged data sets for its offline ones.

``RoutedReward`` goes where TRL takes a reward function (GRPO, RLOO, AsyncGRPO, OnlineDPO) and
``RouterCallback`` where it takes a callback. ``relabel``, ``label`` and ``score`` make data sets
for DPO, KTO and reward models. ``RoutedDPOTrainer`` tells the router what each pair's loss was.
``from_env`` is a ``RoutedReward`` for TRL's command line. Nothing of TRL is imported before it is
needed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reward_router.integrations.trl.asynchronous import AsyncRoutedReward
    from reward_router.integrations.trl.callback import RouterCallback
    from reward_router.integrations.trl.datasets import label, relabel, score
    from reward_router.integrations.trl.dpo import RoutedDPOTrainer
    from reward_router.integrations.trl.reward import RoutedReward

    from_env: RoutedReward

_HOME = {
    "AsyncRoutedReward": "asynchronous",
    "RoutedDPOTrainer": "dpo",
    "RoutedReward": "reward",
    "RouterCallback": "callback",
    "from_env": "environment",
    "label": "datasets",
    "relabel": "datasets",
    "score": "datasets",
}

__all__ = [
    "AsyncRoutedReward",
    "RoutedDPOTrainer",
    "RoutedReward",
    "RouterCallback",
    "from_env",
    "label",
    "relabel",
    "score",
]


def __getattr__(name: str) -> Any:
    """Load a public name (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'reward_router.integrations.trl' has no attribute {name!r}")
    value = getattr(import_module(f"reward_router.integrations.trl.{_HOME[name]}"), name)
    globals()[name] = value
    return value
