"""From the ``arms:`` of a configuration to a pool. Every command builds its arms here."""

from collections.abc import Iterable, Sequence

from reward_router.config import ArmConfig, PoolConfig
from reward_router.examples import Example
from reward_router.rewards.defaults import default_arms
from reward_router.rewards.pool import RewardPool
from reward_router.rewards.spec import ArmSpec


def configured_arms(arms: Sequence[ArmConfig]) -> list[ArmSpec]:
    """The arms that may judge, in the order of the configuration; the embedded ones without any."""
    listed = [spec_of(arm) for arm in arms if not arm.eval_only]
    return listed if arms else default_arms()


def eval_specs(arms: Sequence[ArmConfig]) -> list[ArmSpec]:
    """The arms that are only looked at (``eval_only: true``)."""
    return [spec_of(arm) for arm in arms if arm.eval_only]


def spec_of(arm: ArmConfig) -> ArmSpec:
    """What an entry of ``arms:`` asks for."""
    return ArmSpec(arm.name, arm.kind, arm.model, arm.options, arm.cost)


def arm_pool(
    specs: Iterable[ArmSpec],
    config: PoolConfig,
    device: str = "auto",
    examples: Iterable[Example] = (),
) -> RewardPool:
    """The arms; nothing is loaded yet.

    Args:
        specs: the arms.
        config: the section ``pool``.
        device: where models run if ``pool.device`` is auto.
        examples: the prompts that arms of kind gold can judge.
    """
    pool = RewardPool(
        {spec.name: spec for spec in specs},
        resident=config.resident,
        device=device if config.device == "auto" else config.device,
        dtype=config.dtype,
        timeout=config.timeout,
    )
    pool.know(examples)
    return pool
