"""BayesianRouter's online stage: the router that starts at what the offline stage learned, and the paper's ablations of it.

A prior that does not hold costs little: every arm weighs it against none by how well each foresaw its payoffs (``trust``).
Without a prior all arms start at zero, on the plain pair features of the run's own encoder.
"""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reward_router.config import RouterConfig
from reward_router.errors import InputError
from reward_router.routers import LinearThompson
from reward_router.routers.strongest import Strongest
from reward_router.types import Router

if TYPE_CHECKING:
    from reward_router.offline.prior import Prior

OPTIONS = ("prior_precision", "noise_sd", "center", "intercept", "warmup", "discount", "window")
NO_PRIOR = {"prior_precision": 20.0, "noise_sd": 0.4, "center": True, "intercept": 5.0}
"""Where no prior says otherwise, for payoffs in [0, 1]: arms differ by about .2 in a context's direction, .45 in their means."""
TRUST = 0.9
"""Weight of a prior before the first payoff: at .5 the router spends what a good prior would have saved on doubting it."""


def online_prior(config: RouterConfig) -> "Prior | None":
    """The artifact that ``router.prior`` names, None where it names none.

    InputError where the folder holds no whole prior, or where ``without: cls`` is asked of one that was fitted with CLS.
    """
    if config.prior is None:
        return None
    from reward_router.offline.prior import load_prior

    prior = load_prior(config.prior)
    weight = float(prior.config.get("lambda_cls", 0.0))
    if config.without == "cls" and prior.config.get("without") != "cls" and weight > 0:
        raise InputError(
            f"router.without: cls needs a prior that was fitted without CLS, and {config.prior} has lambda_cls={weight}; "
            "fit one with fit-prior --set without=cls"
        )
    return prior


def online_router(config: RouterConfig, arms: Sequence[str], dim: int, prior: "Prior | None") -> Router:
    """The router of ``name: bayesian``; arms without strengths start at the mean arm."""
    given = config.model_dump(include=set(OPTIONS), exclude_none=True)
    if prior is None:
        return LinearThompson(len(arms), dim, **{**NO_PRIOR, **given})
    if config.without == "online":
        rows = dict(zip(prior.arms, prior.strengths.bt_KD, strict=True))
        return Strongest([rows.get(name) for name in arms])
    if config.without == "offline":
        zero: dict[str, Any] = {
            "prior_mean": None, "prior_precision": prior.calibration.zero_precision, "trust": None, "trust_precision": None,
        }  # fmt: skip
        return _made(prior, arms, zero | given)
    trust = TRUST if config.trust is None else config.trust
    return _made(prior, arms, {"trust": trust if trust < 1 else None, **given})


def _made(prior: "Prior", arms: Sequence[str], options: dict[str, Any]) -> LinearThompson:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # arms without strengths: the run says so in its own words
        return prior.router(arms, **options)
