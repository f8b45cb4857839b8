"""Linear Thompson sampling by its exact probabilities: P(arm wins), never a frequency of draws.

BayesianRouter's online stage draws w_k ~ N(mu_k, Sigma_k) and takes argmax_k x'w_k. x'w_k is
N(x'mu_k, x'Sigma_k x), so the law of the choice is the probability that one of K independent scalar
Gaussians is the largest: O(D^2) an arm and a 1-D integral.
"""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from reward_router import checks
from reward_router.kinds import RouterKind
from reward_router.posterior.options import ModelOptions
from reward_router.posterior.win_probability import mixture_win_probability
from reward_router.routers.linear import LinearRouter, guard_of, linear_model
from reward_router.types import AnyFloat, Float


class LinearThompson(LinearRouter):
    """Draws each arm with the exact probability that it is the best one.

    The model is payoff = w_k'x + N(0, noise_sd^2) with w_k ~ N(prior_mean_k, I / prior_precision).
    Contexts are (B, D) of about unit norm; payoffs are finite and usually lie in [0, 1].

    ``probs`` costs O(B K D min(rows, D)) and the integral, which is O(B K panels); ``update`` costs
    O(D) a row plus O(D^2) amortised.

    Args:
        n_arms: K, the number of arms.
        dim: D, the number of features of a context.
        prior_mean: (K, D) prior means of the weights; None: zeros. With ``intercept`` it may be
            (K, D + 1): the last column holds the means of the intercepts, in payoff units.
        prior_precision: prior precision of every weight, above 0.
        noise_sd: standard deviation of a payoff about its expectation, above 0.
        discount: what a payoff counts for after each further one, in (0, 1]; 1 never forgets.
        dtype: of the arms' state, float64 or float32.
        window: number of the latest payoffs that count; None: all of them.
        huber: payoffs farther than this from their prediction count for less; None: never.
        center: whether payoffs are learned about their running mean.
        intercept: prior precision of an added constant feature; None: no such feature.
        trust: probability, strictly between 0 and 1, that an arm's ``prior_mean`` is good. It has
            to earn its weight against a zero prior. None: ``prior_mean`` is believed.
        trust_precision: precision of that zero prior; None: ``prior_precision``.
        trust_discount: what earlier evidence on the trust counts for after each further payoff.
        safe: index of the arm that the guard falls back on (see `Guard`); None: no guard.
        margin: summed payoff that the guard may lose against the safe arm.
        decision_margin: expected payoff, by the posterior, that one decision may give up against
            the safe arm, or where None is named against the arm of the best mean; None: any. With
            ``margin`` 0 it takes the place of the guard's sum.
        explore: share of the uniform distribution that is mixed in, in [0, 1].
        warmup: payoffs that an arm needs before its posterior counts; until then it is pulled.
        width: share of each standard deviation that is sampled. 1 is Thompson's rule; a smaller
            number explores less.

    >>> LinearThompson(2, 3).probs(np.ones((1, 3)))
    array([[0.5, 0.5]])
    """

    kind = "LinearThompson"

    def __init__(  # noqa: PLR0913 - the signature is public
        self,
        n_arms: int,
        dim: int,
        prior_mean: AnyFloat | None = None,
        prior_precision: float = 1.0,
        noise_sd: float = 1.0,
        discount: float = 1.0,
        dtype: DTypeLike = np.float64,
        *,
        window: int | None = None,
        huber: float | None = None,
        center: bool = False,
        intercept: float | None = None,
        trust: float | None = None,
        trust_precision: float | None = None,
        trust_discount: float = 0.99,
        safe: int | None = None,
        margin: float = 0.0,
        decision_margin: float | None = None,
        explore: float = 0.0,
        warmup: int = 0,
        width: float = 1.0,
    ) -> None:
        """InputError names the argument that is out of range."""
        precision = checks.real("prior_precision", prior_precision, 0.0, 1e12, above=True)
        payoff_sd = checks.real("noise_sd", noise_sd, 0.0, 1e6, above=True)
        # L = prior_precision I + noise_sd^-2 sum xx': here the noise enters the precision.
        noise = (payoff_sd**2, 1.0)

        options = ModelOptions(
            discount,
            window,
            huber,
            center,
            intercept,
            trust,
            trust_precision,
            trust_discount,
        )
        model = linear_model((n_arms, dim), prior_mean, precision, noise, dtype, options)
        guard = guard_of(model, safe, margin, decision_margin)
        super().__init__(model, explore, warmup, guard, decision_margin)
        self.width = checks.real("width", width, 0.0, 1e3)

    def _decided(self, x_BD: NDArray[Any], penalty_K: Float) -> Float:
        """P(arm k's utility is the largest)."""
        mean_BKC, sd_BKC, weight_BKC = self.model.components(x_BD)
        # a penalty moves an arm's utility and not its uncertainty
        utility_BKC = mean_BKC - penalty_K[:, None]
        return mixture_win_probability(utility_BKC, self.width * sd_BKC, weight_BKC)

    def trust(self) -> Float:
        """(K,) posterior weight of each arm's informative prior; ones without ``trust``."""
        if self.model.options.trust is None:
            return np.ones(self.n_arms)
        return self.model.trust_KC()[:, 0]


KIND = RouterKind(
    "thompson", LinearThompson, "draws each arm with the exact probability that it is the best one"
)
