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
    parameters = {}
    takes_any_keyword = False
    for name, parameter in inspect.signature(function).parameters.items():
        if name in hidden:
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            takes_any_keyword = True
        else:
            parameters[name] = parameter

    for name in options:
        if name not in parameters and not takes_any_keyword:
            raise InputError(f"{what} has no option {name!r}{nearest(name, parameters)}")

    missing = []
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in options:
            missing.append(name)
    if missing:
        raise InputError(
            f"{what} needs the option {missing[0]!r}; it takes: {', '.join(parameters)}"
        )
