"""LinUCB (LASER eq. 2 and 3).

Forgetting, robust updates and the other extensions are keywords that are off by default.

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
from reward_router.routers.linear import LinearRouter, guard_of, linear_model
from reward_router.types import AnyFloat, Float

SLACK = 1e-9  # more than the rounding of float64, and more than what counts as a tie


class LinUCB(LinearRouter):
    """Takes the arm of the highest upper confidence bound (LASER eq. 2 and 3).

    The choice is argmax_k x'theta_k + alpha sqrt(x'A_k^-1 x) with theta_k = A_k^-1 b_k,
    A_k = ridge I + sum x x' and b_k = sum payoff x. Ties are split evenly. Contexts are (B, D) of
    about unit norm; payoffs are finite and usually lie in [0, 1].

    ``probs`` costs O(B K D min(rows, D)), ``update`` O(D) a row plus O(D^2) amortised.

    Args:
        n_arms: K, the number of arms.
        dim: D, the number of features of a context.
        alpha: weight of the confidence width, at least 0.
        ridge: prior precision of every weight, above 0.
        warmup: payoffs that an arm needs before its bound counts; until then it is pulled.
        discount: what a payoff counts for after each further one, in (0, 1]; 1 never forgets.
        explore: share of the uniform distribution that is mixed in, in [0, 1].
        dtype: of the arms' state, float64 or float32.
        window: number of the latest payoffs that count; None: all of them.
        huber: payoffs farther than this from their prediction count for less; None: never.
        center: whether payoffs are learned about their running mean.
        intercept: prior precision of an added constant feature; None: no such feature.
        prior_mean: (K, D) prior means of the weights; None: zeros.
        trust: probability, strictly between 0 and 1, that ``prior_mean`` is good. It has to earn
            its weight against a zero prior. None: ``prior_mean`` is believed.
        trust_precision: precision of that zero prior; None: ``ridge``.
        trust_discount: what earlier evidence on the trust counts for after each further payoff.
        noise_sd: standard deviation of a payoff; only the evidence and the guard use it.
        safe: index of the arm that the guard falls back on (see `Guard`); None: no guard.
        margin: summed payoff that the guard may lose against the safe arm.
        decision_margin: expected payoff, by the posterior, that one decision may give up against
            the safe arm, or where None is named against the arm of the best mean; None: any. With
            ``margin`` 0 it takes the place of the guard's sum.

    >>> router = LinUCB(2, 1, warmup=0)
    >>> router.update(np.ones((1, 1)), np.array([1]), np.array([1.0]))
    >>> router.probs(np.ones((1, 1)))
    array([[0., 1.]])
    """

    kind = "LinUCB"

    def __init__(  # noqa: PLR0913 - the signature is public
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
        decision_margin: float | None = None,
    ) -> None:
        """InputError names the argument that is out of range."""
        self.alpha = checks.real("alpha", alpha, 0.0, 1e6)
        precision = checks.real("ridge", ridge, 0.0, 1e12, above=True)
        payoff_sd = checks.real("noise_sd", noise_sd, 0.0, 1e6, above=True)
        # LinUCB has no noise in its precision: A = ridge I + sum xx'.
        noise = (1.0, payoff_sd)

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

        # upper bound = x'theta + alpha sd (LASER eq. 2), with the sd between two float32 bounds
        level_BK = bounds[0] - penalty_K
        low_BK = bounds[1]
        high_BK = bounds[2]
        # What the best arm reaches at least; an arm below it at most cannot be best.
        reach_B = (level_BK + self.alpha * low_BK).max(axis=1)
        reach_B -= SLACK * (1.0 + np.abs(reach_B))
        # the comparison is negated so that NaN, an unknown bound, leaves an arm in
        open_BK = ~(level_BK + self.alpha * high_BK < reach_B[:, None])
        score_BK = np.where(open_BK, level_BK, -np.inf)

        # Rows where a single arm is left are decided without its bonus.
        several_B = open_BK.sum(axis=1) > 1
        close_BK = open_BK & several_B[:, None]
        # where many arms are about as good, reading all of them at once is cheaper
        if np.count_nonzero(close_BK) > close_BK.size // 4:
            return self._bonus(*self.model.moments(x_BD)) - penalty_K

        for k in np.flatnonzero(close_BK.any(axis=0)).tolist():
            row_R = np.flatnonzero(close_BK[:, k])
            bound_R = self._bonus(*self.model.alone(k, x_BD[row_R]))
            score_BK[row_R, k] = bound_R - penalty_K[k]

        return score_BK

    def _bonus(self, mean_BK: Float, sd_BK: Float) -> Float:
        return mean_BK + self.alpha * sd_BK  # LASER eq. 2


class DiscountedLinUCB(LinUCB):
    """LinUCB that forgets by default (arXiv:1909.09146).

    ``discount`` is 0.99 a payoff. The prior is put in again, so that it never fades. The arguments
    are those of `LinUCB`.

    >>> DiscountedLinUCB(2, 3).model.options.discount
    0.99
    """

    def __init__(  # noqa: PLR0913 - LinUCB's public signature with another default
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
    """LinUCB as a configuration names it.

    ``init: random`` starts from b_0 ~ N(0, I) and theta_0 = b_0 / ridge, which is the paper's text
    (LASER, Algorithm 1).
    """
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
        # a memory of about 200 payoffs: recorded files have hundreds to thousands of rows
        in_replay={"discount": 0.995},
        note=NOTE,
    ),
)
