"""A payoff of the user's own: a function of what came of one decision, by its import path."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from reward_router.errors import InputError
from reward_router.kinds import PayoffKind, import_path
from reward_router.limits import within


def own_payoff(path: str) -> Callable[[Any], float | None]:
    """The payoff function at ``module:name``.

    InputError where it raises, or returns neither None nor a number in [0, 1]. RunError where one
    call takes longer than `limits.SECONDS`.
    """
    function = function_at(path)

    def payoff(outcome: Any) -> float | None:
        try:
            value = within(lambda: function(outcome), f"payoff.path={path!r}")
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            raise InputError(
                f"payoff.path={path!r} raised {type(error).__name__}: {error}"
            ) from error

        # no payoff for this decision
        if value is None:
            return None
        if not isinstance(value, int | float | np.number) or not 0 <= value <= 1:
            raise InputError(
                f"payoff.path={path!r} returned {value!r} for unit {outcome.unit!r}; "
                "allowed a number in [0, 1], or None for no payoff"
            )

        return float(value)

    return payoff


def function_at(path: str) -> Callable[..., Any]:
    """The function of one argument at ``module:name``; InputError says which part is missing."""
    if ":" not in path:
        raise InputError(f"payoff.path={path!r}: write it as module:function")
    function = import_path(path, "payoff.path")
    if inspect.isfunction(function) and not inspect.signature(function).parameters:
        raise InputError(f"payoff.path={path!r} is not a function of one argument")
    return function


KIND = PayoffKind(
    "python",
    own_payoff,
    "your own function of what came of a decision, by its import path in `path`",
    sampled=True,
    needs_path=True,
)
