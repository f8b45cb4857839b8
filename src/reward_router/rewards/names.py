"""Names that users write, checked against what exists: the nearest name is offered."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from reward_router.errors import InputError
from reward_router.kinds import nearest

__all__ = ["check_options", "nearest"]


def check_options(
    what: str, function: Callable[..., Any], options: Mapping[str, Any], hidden: Iterable[str] = ()
) -> None:
    """InputError unless ``function`` takes these options and needs no other ones.

    A function that takes any keyword accepts any option; ``hidden`` parameters are no options.
    """
    every = {n: p for n, p in inspect.signature(function).parameters.items() if n not in hidden}
    parameters = {n: p for n, p in every.items() if p.kind is not p.VAR_KEYWORD}
    for name in options:
        if name not in parameters and len(parameters) == len(every):
            raise InputError(f"{what} has no option {name!r}{nearest(name, parameters)}")
    missing = [n for n, p in parameters.items() if p.default is p.empty and n not in options]
    if missing:
        raise InputError(
            f"{what} needs the option {missing[0]!r}; it takes: {', '.join(parameters)}"
        )
