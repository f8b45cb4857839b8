"""Linear Thompson sampling by its exact probabilities: P(arm wins), never a frequency of draws.

BayesianRouter's online stage draws w_k ~ N(mu_k, Sigma_k) and takes argmax_k x'w_k. x'w_k is N(x'mu_k, x'Sigma_k x), so the law of
the choice is the probability that one of K independent scalar Gaussians is the largest: O(D^2) an arm and a 1-D integral.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from reward_router.routers import checks
from reward_router.routers.decide import forced_K, with_floor
from reward_router.routers.guard import Guard
from reward_router.routers.model import LinearModel
from reward_router.routers.model_state import loaded, state_of
from reward_router.routers.options import ModelOptions, checked_dtype, checked_prior
from reward_router.routers.win_probability import mixture_win_probability
from reward_router.types import AnyFloat, Float, Int, State


class LinearThompson:
    """payoff = w_k'x + N(0, noise_sd^2), w_k ~ N(prior_mean_k, I / prior_precision); probs are the exact P(arm k wins).

    Contexts (B, D) of about unit norm; payoffs finite, usually in [0, 1]. ``prior_mean`` (K, D), None: zeros; (K, D + 1) with
    ``intercept``: the means of the intercepts last, in payoff units;
    ``prior_precision``, ``noise_sd`` > 0. The extensions are LinUCB's (``discount``, ``window``, ``huber``, ``center``,
    ``intercept``, ``trust`` and its precision and discount, ``safe``, ``margin``, ``explore``, ``warmup``).

    ``probs`` O(B K D min(rows, D)) plus the integral, O(B K panels); ``update`` O(D) a row plus O(D^2) amortised.

    >>> LinearThompson(2, 3).probs(np.ones((1, 3)))
    array([[0.5, 0.5]])
    """

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
    ) -> None:
        """InputError names the argument that is out of range."""
        arms = checks.whole("n_arms", n_arms, 1, checks.MAX_ARMS)
        features = checks.whole("dim", dim, 1, checks.MAX_DIM)
        self.explore = checks.real("explore", explore, 0.0, 1.0)
        self.warmup = checks.whole("warmup", warmup, 0, 10**6)
        self.model = LinearModel(
            checked_prior(prior_mean, arms, features, intercept),
            checks.real("prior_precision", prior_precision, 0.0, 1e12, above=True),
            checks.real("noise_sd", noise_sd, 0.0, 1e6, above=True) ** 2,
            1.0,
            checked_dtype(dtype),
            ModelOptions(discount, window, huber, center, intercept, trust, trust_precision, trust_discount),
        )
        self.guard = None if safe is None else Guard(safe, margin, arms, self.model.width)

    @property
    def n_arms(self) -> int:
        """Number of arms now."""
        return self.model.n_arms

    @property
    def dim(self) -> int:
        """D, the features of a context."""
        return self.model.dim

    def probs(self, context_BD: AnyFloat, penalty_K: Float | None = None, *, forced: bool = True) -> Float:
        """(B, K): P(arm k's utility is the largest). ``penalty_K`` (payoff units) is subtracted from the utilities.

        ``forced=False`` leaves the forced pulls to the caller (a ``Dispatcher`` counts them by decisions).
        """
        x_BD = self.model.contexts(context_BD)
        first_K = forced_K(self.model.pulls_K, self.warmup) if forced and self.warmup else None
        if first_K is not None:
            p_BK = np.tile(first_K, (len(x_BD), 1))
        else:
            mean_BKC, sd_BKC, weight_BKC = self.model.components(x_BD)
            if penalty_K is not None:
                mean_BKC = mean_BKC - penalty_K[:, None]
            p_BK = mixture_win_probability(mean_BKC, sd_BKC, weight_BKC)
        p_BK = with_floor(p_BK, self.explore)
        return p_BK if self.guard is None else self.guard.restrict(p_BK, x_BD, self.model)

    def posterior(self, context_BD: AnyFloat) -> tuple[Float, Float]:
        """Means and sds (B, K) of x'w_k: sd = sqrt(x'L^-1 x), L = prior_precision I + sum x x' / noise_sd^2."""
        return self.model.moments(self.model.contexts(context_BD))

    def trust(self) -> Float:
        """(K,) posterior weight of each arm's informative prior; ones without ``trust``."""
        return np.ones(self.n_arms) if self.model.options.trust is None else self.model.trust_KC()[:, 0]

    def update(self, context_BD: AnyFloat, arm_B: Int, payoff_B: Float, propensity_B: Float | None = None) -> None:
        """Learn B rows in order; propensities are checked and not needed. Nothing is learned where anything is wrong."""
        rows = self.model.update(context_BD, arm_B, payoff_B, propensity_B)
        if self.guard is not None:
            self.guard.note(*rows)

    def add_arm(self, prior_mean_D: AnyFloat | None = None) -> int:
        """A new arm at its prior (zero by default), pulled ``warmup`` times first; returns its index."""
        given = None if prior_mean_D is None else [prior_mean_D]
        return self.model.add_arm(checked_prior(given, 1, self.model.dim, self.model.options.intercept)[0])

    def remove_arm(self, index: int) -> None:
        """Drop an arm; those behind it move down by one and keep what they learned bit for bit."""
        if self.guard is not None:
            self.guard.check_removal(index)
        self.model.remove_arm(index)
        if self.guard is not None:
            self.guard.removed(index)

    def state_dict(self) -> State:
        """Everything learned, arrays only; goes on bit for bit when restored."""
        guard = {} if self.guard is None else self.guard.state()
        return {"kind": np.array("LinearThompson"), **state_of(self.model), **guard}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore; InputError (and no change) where the state is of another kind, size, dtype or set of options."""
        checks.same_kind(state, "LinearThompson")
        model = loaded(self.model, state)
        if self.guard is not None:
            self.guard = self.guard.loaded(state, model.n_arms)
        self.model = model
