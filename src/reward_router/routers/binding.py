"""What a router must be and what it can do beyond that, checked once where it is bound to a run."""

from collections.abc import Callable
from functools import partial

from reward_router.errors import InputError
from reward_router.types import AnyFloat, Float, Forced, Resizable, Router

NEEDED = {
    "n_arms": "the number of arms",
    "dim": "features of a context; None where contexts of any width will do",
    "warmup": "decisions for every arm before probs are believed; 0 for none",
    "probs": "probs(context_BD) -> (B, K)",
    "update": "update(context_BD, arm_B, payoff_B, propensity_B=None)",
    "state_dict": "state_dict() -> arrays by name",
    "load_state_dict": "load_state_dict(state)",
}


def bound(router: object) -> Router:
    """The same router; InputError names the first member that it lacks, and what it is for."""
    if isinstance(router, Router):
        return router
    lacking = next(name for name in NEEDED if getattr(router, name, NEEDED) is NEEDED)
    raise InputError(
        f"{type(router).__name__} is no router: it has no {lacking} ({NEEDED[lacking]})"
    )


def resizable(router: Router) -> Resizable:
    """The router as one whose arms may come and go; InputError where they may not."""
    if not isinstance(router, Resizable):
        raise InputError(
            f"{type(router).__name__} cannot take on or drop arms at run time: "
            "it has no add_arm and remove_arm"
        )
    return router


def without_forced_pulls(router: Router) -> Callable[[AnyFloat], Float]:
    """``probs`` without the pulls that a router forces when it is used alone.

    A dispatcher counts those itself.
    """
    return partial(router.probs, forced=False) if isinstance(router, Forced) else router.probs
