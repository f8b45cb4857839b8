"""BayesianRouter's online stage: a router starts at what the offline stage learned.

The paper's ablations are options of it. A prior that does not hold costs little: it is weighed
against none by how well either foresaw the payoffs (``trust``). Without a prior all arms start at
zero, on the plain pair features of the run's own encoder.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from reward_router.config import RouterConfig
from reward_router.errors import InputError
from reward_router.kinds import PAYOFFS
from reward_router.rewards.fingerprint import fingerprint
from reward_router.rewards.spec import ArmSpec
from reward_router.routers.trusted import TrustedThompson
from reward_router.types import Router

if TYPE_CHECKING:
    from reward_router.offline.prior import Prior


def online_prior(config: RouterConfig, payoff: str) -> "Prior | None":
    """The artifact that ``router.prior`` names, None where it names none.

    Args:
        config: names the prior.
        payoff: the name of the run's payoff. Where it is not what the artifact was calibrated for
            (right or wrong), the artifact's level of payoffs is left out.

    InputError where the folder holds no whole prior, or where ``without: cls`` is asked of a prior
    that was fitted with CLS.
    """
    if config.prior is None:
        return None
    from reward_router.offline.prior import load_prior

    prior = load_prior(config.prior)
    weight = float(prior.config.get("lambda_cls", 0.0))
    if config.without == "cls" and prior.config.get("without") != "cls" and weight > 0:
        raise InputError(
            f"router.without: cls needs a prior that was fitted without CLS, and {config.prior} "
            f"has lambda_cls={weight}; fit one with fit-prior --set without=cls"
        )
    # A payoff made of gold has the level of ``payoff: correct`` in ``fit-prior``.
    right_or_wrong = PAYOFFS[payoff].needs_gold
    if right_or_wrong and prior.config.get("payoff", "correct") == "correct":
        return prior
    # What a pair is worth stays; what payoffs are on average is left to be learned.
    return replace(prior, calibration=replace(prior.calibration, level=None))


def same_arms(prior: "Prior", specs: Sequence[ArmSpec], given: str) -> str:
    """Check that the arms of a run are those that its prior was learned with.

    Args:
        prior: the artifact.
        specs: the arms of the run. An arm whose name the prior does not have is none of its arms.
        given: how the user named the prior.

    Returns a warning where the prior does not say what its arms were, else ''. InputError where an
    arm is not the one of that name that the prior was learned with.
    """
    if not prior.fingerprints:
        return (
            f"{given} does not say which arms it was learned with; "
            "they are taken to be those of the same names"
        )
    for spec in specs:
        learned = prior.fingerprints.get(spec.name) if spec.name in prior.arms else None
        if learned is not None and learned != fingerprint(spec):
            raise InputError(
                f"router.prior={given!r} was learned with another arm {spec.name!r} than this "
                "run's (its model, options or code differ); learn it again (make prior for the "
                "packaged one, or reward-router fit-prior), or use router.prior: none"
            )
    return ""


def prior_trust(router: Router) -> float | None:
    """Posterior weight of the informative prior, in [0, 1].

    None where the router has no prior that must earn its trust.
    """
    return router.trust if isinstance(router, TrustedThompson) else None
