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
from reward_router.routers.linear import LinearRouter, linear_model
from reward_router.types import AnyFloat, Float


class LinearThompson(LinearRouter):
    """payoff = w_k'x + N(0, noise_sd^2), w_k ~ N(prior_mean_k, I / prior_precision); probs are the exact P(arm k wins).

    Contexts (B, D) of about unit norm; payoffs finite, usually in [0, 1]. ``prior_mean`` (K, D),
    None: zeros; (K, D + 1) with ``intercept``: the means of the intercepts last, in payoff units;
    ``prior_precision``, ``noise_sd`` > 0. The extensions are LinUCB's (``discount``, ``window``,
    ``huber``, ``center``, ``intercept``, ``trust`` and its precision and discount, ``safe``,
    ``margin``, ``explore``, ``warmup``). ``width``: share of each sd that is sampled; 1 is
    Thompson's rule, less of it explores less.

    ``probs`` O(B K D min(rows, D)) plus the integral, O(B K panels); ``update`` O(D) a row plus
    O(D^2) amortised.

    >>> LinearThompson(2, 3).probs(np.ones((1, 3)))
    array([[0.5, 0.5]])
    """

    kind = "LinearThompson"

    def __init__(
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
        explore: float = 0.0,
        warmup: int = 0,
        width: float = 1.0,
    ) -> None:
        """InputError names the argument that is out of range."""
        precision = checks.real("prior_precision", prior_precision, 0.0, 1e12, above=True)
        noise_var = checks.real("noise_sd", noise_sd, 0.0, 1e6, above=True) ** 2
        options = ModelOptions(
            discount, window, huber, center, intercept, trust, trust_precision, trust_discount
        )
        model = linear_model((n_arms, dim), prior_mean, precision, (noise_var, 1.0), dtype, options)
        super().__init__(model, explore, warmup, safe, margin)
        self.width = checks.real("width", width, 0.0, 1e3)

    def _decided(self, x_BD: NDArray[Any], penalty_K: Float) -> Float:
        """P(arm k's utility is the largest)."""
        mean_BKC, sd_BKC, weight_BKC = self.model.components(x_BD)
        return mixture_win_probability(
            mean_BKC - penalty_K[:, None], self.width * sd_BKC, weight_BKC
        )

    def trust(self) -> Float:
        """(K,) posterior weight of each arm's informative prior; ones without ``trust``."""
        return (
            np.ones(self.n_arms)
            if self.model.options.trust is None
            else self.model.trust_KC()[:, 0]
        )


KIND = RouterKind(
    "thompson", LinearThompson, "draws each arm with the exact probability that it is the best one"
)
