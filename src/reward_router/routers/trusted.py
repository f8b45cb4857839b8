"""A prior that is believed or not as a whole: two Thompson posteriors and one weight, by Bayes' rule on the payoffs.

``LinearThompson(trust=...)`` has a weight an arm, so an arm never pulled keeps its whole zero prior: with many arms and a short
stream the largest of many wide draws wins, whatever the prior says. A prior artifact is good or stale for all arms together
(another data set, another judge), so here the mixture is joint: every payoff of any arm speaks for or against the prior.
:func:`trusted` is what `train`, `replay` and a loaded prior use (docs/adr/0006).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router.errors import InputError
from reward_router.routers import checks
from reward_router.routers.anchored import Anchored, log_density
from reward_router.routers.thompson import LinearThompson
from reward_router.types import AnyFloat, Float, Int, State

TRUST = 0.95
"""Weight of a prior before the first payoff: keeps .96 of a good one's gain, a stale one costs 1.04 times no prior (docs/bayesian-router.md)."""
NO_PRIOR: dict[str, Any] = {"prior_precision": 20.0, "noise_sd": 0.4, "center": True, "intercept": 5.0}
"""`LinearThompson` without a prior, payoffs in [0, 1]: arms differ by about .2 in a context's direction, .45 in their means."""


def trusted(
    prior_KC: Float,
    precision: float,
    noise_sd: float,
    intercept: float,
    *,
    trust: float = TRUST,
    zero_precision: float = NO_PRIOR["prior_precision"],
    center: bool = True,
    warmup: int = 0,
    discount: float = 1.0,
    window: int | None = None,
) -> "TrustedThompson | Anchored":
    """Thompson sampling from a prior that has to earn its trust, or is believed outright where ``trust`` is 1.

    ``prior_KC`` (K, D + 1): prior means in payoff units about the mean arm, the intercept's last, known to within ``precision``
    and ``intercept`` (precisions of one weight and of the intercept). The alternative is a zero prior of ``zero_precision``,
    with a wide intercept. The other options are `LinearThompson`'s. InputError for anything out of range.
    """
    shared: dict[str, Any] = {
        "noise_sd": noise_sd, "center": center, "warmup": warmup, "discount": discount, "window": window,
    }  # fmt: skip
    (n_arms, width), wide = prior_KC.shape, NO_PRIOR["intercept"]
    near = LinearThompson(n_arms, width - 1, None, precision, intercept=intercept, **shared)
    informed = Anchored(near, prior_KC[:, :-1], prior_KC[:, -1])
    if trust == 1:
        return informed
    plain = LinearThompson(n_arms, width - 1, None, zero_precision, intercept=wide, **shared)
    return TrustedThompson(informed, plain, trust)


class TrustedThompson:
    """P(arm wins) = t P(wins | informed) + (1 - t) P(wins | plain), t the posterior probability that the prior is good.

    ``informed`` knows the prior, ``plain`` does not; both are fed every payoff; ``trust`` in (0, 1) is t before the
    first. log t / (1 - t) grows by the log ratio of their one-step-ahead predictive densities N(mean, posterior
    variance + noise variance). Cost: both routers' reads, and one arm's read of both an update.

    >>> informed = Anchored(LinearThompson(2, 1, None, 100.0, 0.5, center=True), np.array([[0.2], [-0.2]]))
    >>> router = TrustedThompson(informed, LinearThompson(2, 1, None, 16.0, 0.5, center=True))
    >>> bool(router.probs(np.ones((1, 1)))[0, 0] > 0.5)
    True
    """

    def __init__(self, informed: Anchored, plain: LinearThompson, trust: float = TRUST) -> None:
        """InputError where the two differ in shape or warm-up, or trust is out of range."""
        if (informed.n_arms, informed.dim) != (plain.n_arms, plain.dim):
            raise InputError(
                f"informed has {informed.n_arms} arms and {informed.dim} features, plain {plain.n_arms} and {plain.dim}"
            )
        if informed.warmup != plain.warmup:
            raise InputError(
                f"informed has {informed.warmup} forced pulls an arm, plain {plain.warmup}: give both the same"
            )
        if not 0 < checks.real("trust", trust, 0.0, 1.0) < 1:
            raise InputError(f"trust is a prior probability strictly between 0 and 1, got {trust}")
        self.informed, self.plain = informed, plain
        self.log_odds = float(np.log(trust / (1 - trust)))
        self.seen = 0

    @property
    def n_arms(self) -> int:
        """Number of arms."""
        return self.informed.n_arms

    @property
    def dim(self) -> int:
        """D, the features of a context."""
        return self.informed.dim

    @property
    def warmup(self) -> int:
        """Forced pulls an arm."""
        return self.plain.warmup

    @property
    def trust(self) -> float:
        """Posterior probability that the prior is good."""
        return float(1 / (1 + np.exp(-np.clip(self.log_odds, -700, 700))))

    def probs(self, context_BD: AnyFloat, penalty_K: Float | None = None, *, forced: bool = True) -> Float:
        """(B, K) exact probabilities of the mixture. ``penalty_K`` and ``forced`` as for `LinearThompson`."""
        trust = self.trust
        if trust > 1 - 1e-9:
            return self.informed.probs(context_BD, penalty_K, forced=forced)
        plain_BK = self.plain.probs(context_BD, penalty_K, forced=forced)
        if trust < 1e-9:
            return plain_BK
        return trust * self.informed.probs(context_BD, penalty_K, forced=forced) + (1 - trust) * plain_BK

    def posterior(self, context_BD: AnyFloat) -> tuple[Float, Float]:
        """Means and sds (B, K) of the mixture; the variance between the two is part of the sd."""
        (near_BK, near_sd_BK), (wide_BK, wide_sd_BK) = (r.posterior(context_BD) for r in (self.informed, self.plain))
        t = self.trust
        var_BK = t * near_sd_BK**2 + (1 - t) * wide_sd_BK**2 + t * (1 - t) * (near_BK - wide_BK) ** 2
        return t * near_BK + (1 - t) * wide_BK, np.sqrt(var_BK)

    def update(self, context_BD: AnyFloat, arm_B: Int, payoff_B: Float, propensity_B: Float | None = None) -> None:
        """One context and arm after the other: weigh the two by how well they foresaw the mean payoff, then let both learn.

        Rows are not independent given the posterior before the batch, least of all under a wide prior; and rows that share
        context and arm (pairs of one prompt) share what is peculiar to it, so they are one witness, not several.
        """
        x_BD = self.plain.model.contexts(context_BD)
        self.informed.router.model.contexts(context_BD)
        given_BD = np.asarray(context_BD, np.float64)
        index_B, y_B = checks.arms(arm_B, len(x_BD), self.n_arms), checks.payoffs(payoff_B, len(x_BD))
        if propensity_B is not None:
            checks.propensities(propensity_B, len(x_BD))  # everything is checked before anything is learned
        alike: dict[tuple[int, bytes], list[int]] = {}
        for row, arm in enumerate(index_B.tolist()):
            alike.setdefault((arm, x_BD[row].tobytes()), []).append(row)
        for rows in alike.values():
            self._learn(given_BD[rows], index_B[rows], y_B[rows])

    def _learn(self, x_BD: AnyFloat, arm_B: Int, payoff_B: Float) -> None:
        arm, payoff, model = int(arm_B[0]), float(payoff_B.mean()), self.plain.model
        gain = self.informed.foresight(x_BD[:1], arm, payoff)
        gain -= log_density(*model.total(arm, model.contexts(x_BD[:1])[0], 1), model.noise_var, payoff)
        self.informed.update(x_BD, arm_B, payoff_B)
        self.plain.update(x_BD, arm_B, payoff_B)
        if self.seen or not model.options.center:  # the first payoff is the mean: it says nothing
            self.log_odds += gain
        self.seen += len(payoff_B)

    def add_arm(self, prior_mean_D: AnyFloat | None = None) -> int:
        """A new arm, at the mean arm or at given means; returns its index."""
        self.informed.add_arm(prior_mean_D)
        return self.plain.add_arm()

    def remove_arm(self, index: int) -> None:
        """Drop an arm; the others and the trust keep what they learned bit for bit."""
        self.informed.remove_arm(index)
        self.plain.remove_arm(index)

    def state_dict(self) -> State:
        """Both routers' states and the weight, arrays only."""
        parts = {"informed": self.informed.state_dict(), "plain": self.plain.state_dict()}
        state = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.items()}
        return {"kind": np.array("TrustedThompson"), "weight": np.array([self.log_odds, self.seen]), **state}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore; InputError (and no change) where the state does not fit."""
        checks.same_kind(state, "TrustedThompson")
        weight = checks.stored(state, "", "weight", np.float64, (2,))
        near, wide = (
            {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}
            for name in ("informed", "plain")
        )
        arms = len(checks.stored(near, "", "pulls_K", np.int64, (None,)))
        checks.stored(wide, "", "pulls_K", np.int64, (arms,))
        before = self.informed.state_dict()
        self.informed.load_state_dict(near)
        try:
            self.plain.load_state_dict(wide)
        except InputError:
            self.informed.load_state_dict(before)
            raise
        self.log_odds, self.seen = float(weight[0]), int(weight[1])
