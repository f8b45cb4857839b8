"""LinUCB (LASER eq. 2 and 3); forgetting, robust updates and the other extensions are keywords that are off by default.

Deviations from the paper's text: ties are split evenly (argmax takes the first), b starts at zero
with forced warm-up pulls instead of at random.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from reward_router import checks, keyed
from reward_router.kinds import RouterKind
from reward_router.posterior.options import ModelOptions
from reward_router.routers.decide import even_argmax
from reward_router.routers.linear import LinearRouter, linear_model
from reward_router.types import AnyFloat, Float

SLACK = 1e-9  # more than the rounding of float64 and than what counts as a tie


class LinUCB(LinearRouter):
    """argmax_k x'theta_k + alpha sqrt(x'A_k^-1 x), theta_k = A_k^-1 b_k, A_k = ridge I + sum x x' (LASER eq. 2, 3).

    Contexts (B, D) of about unit norm; payoffs finite, usually in [0, 1]. ``alpha`` >= 0; ``ridge``
    > 0; ``warmup``: payoffs an arm needs before scores count; ``explore`` in [0, 1]: share of
    uniform mixed in; ``dtype``: float64 or float32.

    Extensions: ``discount`` in (0, 1] and ``window`` forget (see ``fading``); ``huber`` > 0
    down-weights payoffs farther than that from the prediction; ``center`` learns payoffs about
    their running mean; ``intercept`` > 0 adds a constant feature with this prior precision;
    ``prior_mean`` (K, D) and ``trust`` in (0, 1): a prior that must earn its weight against a zero
    prior of precision ``trust_precision``; ``noise_sd``: payoff noise, used by the evidence and the
    guard only; ``safe`` and ``margin``: see ``Guard``.

    ``probs`` O(B K D min(rows, D)), ``update`` O(D) a row plus O(D^2) amortised.

    >>> router = LinUCB(2, 1, warmup=0)
    >>> router.update(np.ones((1, 1)), np.array([1]), np.array([1.0]))
    >>> router.probs(np.ones((1, 1)))
    array([[0., 1.]])
    """

    kind = "LinUCB"

    def __init__(
        self,
        n_arms: int,
        dim: int,
        alpha: float = 1.0,
        ridge: float = 1.0,
        warmup: int = 2,
        discount: float = 1.0,
        explore: float = 0.0,
        dtype: DTypeLike = np.float64,
        *,
        window: int | None = None,
        huber: float | None = None,
        center: bool = False,
        intercept: float | None = None,
        prior_mean: AnyFloat | None = None,
        trust: float | None = None,
        trust_precision: float | None = None,
        trust_discount: float = 0.99,
        noise_sd: float = 0.5,
        safe: int | None = None,
        margin: float = 0.0,
    ) -> None:
        """InputError names the argument that is out of range."""
        self.alpha = checks.real("alpha", alpha, 0.0, 1e6)
        precision = checks.real("ridge", ridge, 0.0, 1e12, above=True)
        payoff_sd = checks.real("noise_sd", noise_sd, 0.0, 1e6, above=True)
        options = ModelOptions(
            discount, window, huber, center, intercept, trust, trust_precision, trust_discount
        )
        model = linear_model((n_arms, dim), prior_mean, precision, (1.0, payoff_sd), dtype, options)
        super().__init__(model, explore, warmup, safe, margin)

    def _decided(self, x_BD: NDArray[Any], penalty_K: Float) -> Float:
        """The best score, ties split."""
        return even_argmax(self._scores(x_BD, penalty_K))

    def _scores(self, x_BD: NDArray[Any], penalty_K: Float) -> Float:
        """(B, K) upper bounds less the penalty.

        Where float32 bounds tell: -inf for an arm that cannot be best, no bonus for one that is.
        """
        bounds = self.model.bounds(x_BD)
        if bounds is None:
            return self._bonus(*self.model.moments(x_BD)) - penalty_K
        level_BK, low_BK, high_BK = bounds[0] - penalty_K, bounds[1], bounds[2]
        reach_B = (level_BK + self.alpha * low_BK).max(axis=1)
        reach_B -= SLACK * (1.0 + np.abs(reach_B))
        open_BK = ~(
            level_BK + self.alpha * high_BK < reach_B[:, None]
        )  # NaN, an unknown bound, leaves an arm in
        score_BK = np.where(open_BK, level_BK, -np.inf)
        close_BK = open_BK & (open_BK.sum(axis=1) > 1)[:, None]
        if (
            np.count_nonzero(close_BK) > close_BK.size // 4
        ):  # arms as good as equal: all at once is cheaper
            return self._bonus(*self.model.moments(x_BD)) - penalty_K
        for k in np.flatnonzero(close_BK.any(axis=0)).tolist():
            row_R = np.flatnonzero(close_BK[:, k])
            score_BK[row_R, k] = self._bonus(*self.model.alone(k, x_BD[row_R])) - penalty_K[k]
        return score_BK

    def _bonus(self, mean_BK: Float, sd_BK: Float) -> Float:
        return mean_BK + self.alpha * sd_BK


class DiscountedLinUCB(LinUCB):
    """LinUCB that forgets by default: ``discount`` 0.99 a payoff with the prior re-injected (arXiv:1909.09146).

    >>> DiscountedLinUCB(2, 3).model.options.discount
    0.99
    """

    def __init__(
        self,
        n_arms: int,
        dim: int,
        alpha: float = 1.0,
        ridge: float = 1.0,
        warmup: int = 2,
        discount: float = 0.99,
        explore: float = 0.0,
        dtype: DTypeLike = np.float64,
    ) -> None:
        """As LinUCB; for its other keywords use LinUCB with ``discount``."""
        super().__init__(n_arms, dim, alpha, ridge, warmup, discount, explore, dtype)


def linucb(
    n_arms: int,
    dim: int,
    seed: int,
    init: Literal["zeros", "random"] = "zeros",
    ridge: float = 1.0,
    **options: Any,
) -> LinUCB:
    """LinUCB; ``init: random`` starts from b_0 ~ N(0, 1), theta_0 = b_0 / ridge: the paper's text (LASER, Algorithm 1)."""
    prior_mean = None
    if init == "random":
        prior_mean = keyed.rng(seed, "init", 0, "b").normal(size=(n_arms, dim)) / ridge
    return LinUCB(n_arms, dim, ridge=ridge, prior_mean=prior_mean, **options)


NOTE = "LinUCB puts everything on one arm per decision, so its bands only show how often."
KINDS = (
    RouterKind(
        "linucb",
        linucb,
        "takes the arm of the highest upper confidence bound (LASER)",
        of=LinUCB,
        note=NOTE,
    ),
    RouterKind(
        "discounted",
        DiscountedLinUCB,
        "LinUCB that forgets old payoffs",
        in_replay={
            "discount": 0.995
        },  # a memory of about 200 payoffs: recorded files are hundreds to thousands of rows
        note=NOTE,
    ),
)
