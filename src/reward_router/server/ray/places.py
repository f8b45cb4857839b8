"""Which arm runs where: arms on one model, in one place, are a group and share its weights.

This file knows configurations only; Ray need not be installed for it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from reward_router.assemble import arm_specs
from reward_router.config import ArmRayConfig, Config
from reward_router.kinds import ARMS, is_import_path
from reward_router.rewards.spec import ArmSpec, ModelSource, source_of

LARGE = ("causal", "classifier")
"""Loaders of language models: what they load gets a deployment of its own."""


@dataclass(frozen=True)
class Group:
    """Arms on one model.

    Args:
        name: for Ray: letters, digits and hyphens, no other group's.
        specs: the arms.
        own: whether it has a deployment of its own; else it is one of the shared deployment.
        replicas: copies of a deployment of its own.
        cpus: of each copy.
        gpus: of each copy; None: one where Ray has any.
    """

    name: str
    specs: tuple[ArmSpec, ...]
    own: bool
    replicas: int = 1
    cpus: float = 1.0
    gpus: float | None = None


def place_of(spec: ArmSpec, asked: ArmRayConfig) -> str:
    """``own``, ``shared`` or ``router``."""
    if asked.place != "auto":
        return asked.place
    kind = ARMS[spec.kind]
    if kind.loader in LARGE:
        return "own"
    # Whoever asks a service waits for it, and needs no process of its own for that.
    is_service = kind.remote and kind.names_model and not is_import_path(spec.kind)
    return "router" if is_service else "shared"


def groups_of(config: Config) -> list[Group]:
    """The groups that run outside of the router's process, in the order of their first arms."""
    asked_of = {arm.name: arm.ray for arm in config.arms}
    members: dict[tuple[str, ModelSource | str], list[ArmSpec]] = {}
    for spec in arm_specs(config):
        place = place_of(spec, asked_of.get(spec.name, ArmRayConfig()))
        if place != "router":
            members.setdefault((place, source_of(spec) or spec.name), []).append(spec)
    groups = []
    for number, ((place, _), specs) in enumerate(members.items()):
        asked = [asked_of.get(spec.name, ArmRayConfig()) for spec in specs]
        gpus = [each.gpus for each in asked if each.gpus is not None]
        group = Group(
            name=f"{number}-{_plain(specs[0].name)}",
            specs=tuple(specs),
            own=place == "own",
            replicas=max(each.replicas for each in asked),
            cpus=max(each.cpus for each in asked),
            gpus=max(gpus) if gpus else None,
        )
        groups.append(group)
    return groups


def here(config: Config, groups: Sequence[Group]) -> list[ArmSpec]:
    """The arms of the router's own process."""
    elsewhere = {spec.name for group in groups for spec in group.specs}
    return [spec for spec in arm_specs(config) if spec.name not in elsewhere]


def _plain(name: str) -> str:
    """A name of letters, digits and hyphens."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "arm"
