"""What an arm is, as one short hash: kept scores go by it, and a prior names the arms it was learned with.

It says the same on every machine: what lies in a folder counts by its content, not by its place. An arm's name and cost do not
count.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from reward_router.rewards.identity import arm_identity
from reward_router.rewards.spec import ArmSpec, source_of


def fingerprint(spec: ArmSpec) -> str:
    """A hash of what an arm is: kind, options, its model's weights, and the code that makes its scores."""
    source = source_of(spec)
    model = _placeless(source.model) if source else ""
    options = {name: _placeless(value) for name, value in spec.options.items()}
    if spec.kind == "head":
        options.pop("weights", None)  # they are among what `arm_identity` reads, wherever they lie
    what = json.dumps([spec.kind, model, options, arm_identity(spec)], sort_keys=True, default=str)
    return f"{spec.kind}-{hashlib.blake2b(what.encode(), digest_size=12).hexdigest()}"


def _placeless(value: Any) -> Any:
    """'' for a text that is the path of something that is there, any other value as it is."""
    try:
        return "" if isinstance(value, str) and value.strip() and Path(value).exists() else value
    except (OSError, ValueError):  # no path: too long, or with a null in it
        return value
