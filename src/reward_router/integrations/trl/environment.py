"""``trl grpo --reward_funcs reward_router.integrations.trl.from_env``: a routed reward named by
environment variables.

``REWARD_ROUTER_CONFIG``: the configuration file. ``REWARD_ROUTER_LEDGER``: the ledger file (none:
memory). ``REWARD_ROUTER_GOLD``: the column with the right answers. ``REWARD_ROUTER_PAYOFF``: a name
that `Payoffs` takes. ``REWARD_ROUTER_NUM_GENERATIONS``: the trainer's.
"""

import os

from reward_router.errors import InputError
from reward_router.integrations.trl.reward import RoutedReward


def configured() -> RoutedReward:
    """What the environment asks for; InputError where it names no configuration."""
    config = os.environ.get("REWARD_ROUTER_CONFIG")
    if not config:
        raise InputError(
            "REWARD_ROUTER_CONFIG is not set; allowed: the file of a configuration, as "
            "`reward-router train` takes it"
        )
    size = os.environ.get("REWARD_ROUTER_NUM_GENERATIONS")
    if size is not None and not size.isdigit():
        raise InputError(f"REWARD_ROUTER_NUM_GENERATIONS={size!r}; allowed a whole number")
    return RoutedReward(
        config,
        int(size) if size else None,
        gold=os.environ.get("REWARD_ROUTER_GOLD"),
        payoff=os.environ.get("REWARD_ROUTER_PAYOFF"),
        ledger=os.environ.get("REWARD_ROUTER_LEDGER"),
    )


from_env = configured()
