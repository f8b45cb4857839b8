"""What an arm is, as one short hash: kept scores and priors go by it.

It says the same on every machine: what lies in a folder counts by its content, not by its place. An
arm's name and cost do not count.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from reward_router.kinds import ARMS
from reward_router.rewards.identity import arm_identity
from reward_router.rewards.metered import ArmFailed, Served
from reward_router.rewards.spec import ArmSpec, build_arm, source_of


def fingerprint(spec: ArmSpec) -> str:
    """A hash of what an arm is: its kind, its options, its weights and the code of its scores."""
    source = source_of(spec)
    model = _placeless(source.model) if source else ""
    options = {name: _placeless(value) for name, value in spec.options.items()}
    # `arm_identity` reads what lies at these places, wherever that is.
    for place in ARMS[spec.kind].places:
        options.pop(place, None)
    identity = arm_identity(spec) | _served(spec)

    parts = [spec.kind, model, options, identity]
    content = json.dumps(parts, sort_keys=True, default=str)
    digest = hashlib.blake2b(content.encode(), digest_size=12).hexdigest()
    # A fingerprint becomes part of a file's name, which an import path cannot.
    word = "own" if ":" in spec.kind else spec.kind
    return f"{word}-{digest}"


def _served(spec: ArmSpec) -> dict[str, str]:
    """What is served behind an endpoint now, by its canaries: half a dozen requests.

    '' where nobody answers there.
    """
    if not ARMS[spec.kind].names_model:
        return {}
    model = build_arm(ArmSpec(spec.name, spec.kind, spec.model, spec.options))
    if not isinstance(model, Served):
        return {"model": str(spec.model)}
    try:
        return {"model": str(spec.model), "served": model.served()}
    except ArmFailed:
        return {"model": str(spec.model), "served": ""}


def _placeless(value: Any) -> Any:
    """'' for a text that is the path of something that is there, any other value as it is."""
    try:
        return "" if isinstance(value, str) and value.strip() and Path(value).exists() else value
    except (OSError, ValueError):  # no path: too long, or with a null in it
        return value
