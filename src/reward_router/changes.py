"""What changed between two manifests of a run, and how it is said."""

from collections.abc import Mapping
from typing import Any

COMPARED = {
    "data": "the {} prompts",
    "policy": "the policy's weights",
    "context": "the weights of context.model",
    "arms": "the weights of arm {!r}",
    "code": "the code of arm {!r}",
    "prior": "router.prior",
    "payoff_code": "the code of payoff.path",
    "versions": "the version of {}",
}
"""Parts of a manifest that a resumed run must share with its beginning, and their names."""

Changes = dict[str, list[Any]]
"""What changed: path in the manifest -> [what it was, what it is]."""


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Changes:
    """What of ``COMPARED`` differs between two manifests.

    A part that an older one lacks is not compared.
    """
    changes: Changes = {}
    for part in COMPARED:
        if part in before:
            changes |= _differing(part, before[part], now.get(part))
    changes.pop("versions.python", None)  # Python itself changes no number here
    return changes


def first_change(changes: Changes) -> str:
    """The first change in words, and how many more there are."""
    path, (old, new) = next(iter(changes.items()))
    part, _, name = path.partition(".")
    what = COMPARED[part].format(name)

    more = ""
    if len(changes) > 1:
        # Three more by name are enough for one line.
        named = ", ".join(list(changes)[1:4])
        more = f" (and {len(changes) - 1} more: {named})"
    return f"{what} changed since the run began, from {_shown(old)} to {_shown(new)}{more}"


def _differing(path: str, old: Any, new: Any) -> Changes:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        # Keys in the old order, and those that were added behind them.
        added = [name for name in new if name not in old]
        changes: Changes = {}
        for name in [*old, *added]:
            changes |= _differing(f"{path}.{name}", old.get(name), new.get(name))
        return changes
    if old == new:
        return {}
    return {path: [old, new]}


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)
