"""BayesianRouter's online stage, and the paper's ablations of it.

The online stage is Thompson sampling from what the offline stage learned. A prior that does not
hold costs little: it is weighed against having none by how well either foresaw the payoffs
(``trust``). Without a prior all arms start at zero, on the plain pair features of the run's own
encoder.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from reward_router import checks
from reward_router.errors import InputError
from reward_router.kinds import RouterKind
from reward_router.routers.strongest import Strongest
from reward_router.routers.thompson import LinearThompson
from reward_router.routers.trusted import NARROW, NO_PRIOR, TRUST
from reward_router.types import Float, Router

Ablation = Literal["online", "offline", "cls"]
"""The paper's ablations: a prior that never learns, none at all, one fitted without CLS."""


class LearnedOffline(Protocol):
    """What was learned offline, as far as a router needs it; see `reward_router.offline.prior`."""

    arms: Sequence[str]
    strengths: "ArmStrengths"
    calibration: "Calibrated"

    def router(self, arms: Sequence[str] | None = None, **options: Any) -> Router:
        """A router over these arms that starts at what was learned."""
        ...


class ArmStrengths(Protocol):
    """Strengths of arms: one row an arm."""

    bt_KD: Float


class Calibrated(Protocol):
    """How far strengths are to be believed."""

    zero_precision: float
    noise_sd: float


def bayesian(  # noqa: PLR0913 - its keywords are the options of the configuration
    arms: Sequence[str],
    dim: int,
    artifact: LearnedOffline | None,
    *,
    prior: str | None = None,
    without: Ablation | None = None,
    trust: float | None = None,
    prior_precision: float | None = None,
    noise_sd: float | None = None,
    center: bool | None = None,
    intercept: float | None = None,
    warmup: int | None = None,
    discount: float | None = None,
    window: int | None = None,
    width: float | None = None,
    decision_margin: float | None = None,
) -> Router:
    """The router of ``name: bayesian``; arms without strengths start at the mean arm.

    Args:
        arms: names of the run's arms.
        dim: features of a context.
        artifact: what ``prior`` names, loaded; None: no prior.
        prior: folder that ``fit-prior`` wrote, or a packaged prior's name.
        without: which of the paper's parts is left out.
        trust: weight of the prior before the first payoff, in (0, 1]; 1: believed outright.
        prior_precision: of one weight; the others are those of `LinearThompson`.
        width: share of a posterior sd that is sampled; 1 is Thompson's rule, less explores less.
            None: `NARROW` from a prior, because a run's few hundred decisions cannot earn back
            what exploring against a good prior costs them; 1 without one.
        decision_margin: expected payoff that one decision may give up against the arm that the
            posterior thinks best, at first the prior's; None: any.
    """
    named = {
        "prior_precision": prior_precision,
        "noise_sd": noise_sd,
        "center": center,
        "intercept": intercept,
        "warmup": warmup,
        "discount": discount,
        "window": window,
        "width": width,
        "decision_margin": decision_margin,
    }
    given = {name: value for name, value in named.items() if value is not None}
    if artifact is None:
        return LinearThompson(len(arms), dim, **{**NO_PRIOR, **given})

    if without == "online":
        row_of_arm = dict(zip(artifact.arms, artifact.strengths.bt_KD, strict=True))
        return Strongest([row_of_arm.get(name) for name in arms])

    if without == "offline":
        calibrated = artifact.calibration
        zero = {
            **NO_PRIOR,
            "prior_precision": calibrated.zero_precision,
            "noise_sd": calibrated.noise_sd,
        }
        return LinearThompson(len(arms), dim, **{**zero, **given})

    given.setdefault("width", NARROW)
    if "prior_precision" in given:
        given["precision"] = given.pop("prior_precision")

    # arms without strengths cause a warning, and the run says so in its own words
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return artifact.router(arms, trust=TRUST if trust is None else trust, **given)


def _check(options: Mapping[str, Any]) -> None:
    if (trust := options.get("trust")) is not None:
        checks.real("trust", trust, 0.0, 1.0, above=True)

    without = options.get("without")
    if options.get("prior") is not None:
        return
    if without in ("online", "cls"):
        raise InputError(f"without: {without} is an ablation of a prior, and prior is not given")
    if options.get("trust") is not None:
        raise InputError("trust is the weight of a prior, and prior is not given")


KIND = RouterKind(
    "bayesian",
    bayesian,
    "Thompson sampling from a prior that was learned offline from preference pairs (`fit-prior`)",
    units=("prompt", "pair"),
    check=_check,
)
