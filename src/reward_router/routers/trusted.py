"""A prior that is believed or not as a whole, and payoffs centred on what it leaves unexplained.

:class:`Anchored`. A centred prior says how arms differ, not how high payoffs are, so payoffs are centred. Centred on their plain
running mean they are not what the prior speaks of: the better it is, the better the arms it picks, the higher that mean, and every
picked arm disappoints while the others keep their promise. So the mean is taken of payoff - prior(x, arm).

:class:`TrustedThompson`. Two Thompson posteriors and one weight, by Bayes' rule on the payoffs.

``LinearThompson(trust=...)`` has a weight an arm, so an arm never pulled keeps its whole zero prior: with many arms and a short
stream the largest of many wide draws wins, whatever the prior says. A prior artifact is good or stale for all arms together
(another data set, another judge), so here the mixture is joint: every payoff of any arm speaks for or against the prior.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router.errors import InputError
from reward_router.routers import checks
from reward_router.routers.options import checked_prior
from reward_router.routers.thompson import LinearThompson
from reward_router.routers.win_probability import win_probability
from reward_router.types import AnyFloat, Float, Int, State


class Anchored:
    """Thompson sampling about a prior mean: ``router`` (zero prior) learns payoff - prior(x, arm), prior = x'prior_k + offset_k.

    Without ``center`` this is ``LinearThompson(prior_mean=prior_KD)``; with it the running mean is that of the differences, so a
    constant added to all payoffs changes nothing and a prior that is right is never contradicted. Costs B K D more a read.
    """

    def __init__(self, router: LinearThompson, prior_KD: Float, offset_K: Float | None = None) -> None:
        """``prior_KD`` (K, D), ``offset_K`` (K,) or None for 0; payoff units. InputError for another shape."""
        self.router = router
        self.prior_KD = checked_prior(prior_KD, router.n_arms, router.dim)
        self.offset_K = np.zeros(router.n_arms) if offset_K is None else np.asarray(offset_K, dtype=np.float64)
        if self.offset_K.shape != (router.n_arms,):
            raise InputError(f"offset must be one number an arm: ({router.n_arms},), got {self.offset_K.shape}")

    @property
    def n_arms(self) -> int:
        """Number of arms."""
        return self.router.n_arms

    @property
    def dim(self) -> int:
        """D, the features of a context."""
        return self.router.dim

    def prior(self, context_BD: AnyFloat) -> Float:
        """(B, K) prior means of the payoffs."""
        return np.asarray(np.asarray(context_BD, np.float64) @ self.prior_KD.T + self.offset_K)

    def posterior(self, context_BD: AnyFloat) -> tuple[Float, Float]:
        """Means and sds (B, K) of the expected payoffs."""
        mean_BK, sd_BK = self.router.posterior(context_BD)
        return mean_BK + self.prior(context_BD), sd_BK

    def probs(self, context_BD: AnyFloat) -> Float:
        """(B, K) exact P(arm wins)."""
        return win_probability(*self.posterior(context_BD))

    def update(self, context_BD: AnyFloat, arm_B: Int, payoff_B: Float, propensity_B: Float | None = None) -> None:
        """Learn what the prior left unexplained."""
        expected_B = self.prior(context_BD)[np.arange(len(arm_B)), arm_B]
        self.router.update(context_BD, arm_B, payoff_B - expected_B, propensity_B)

    def state_dict(self) -> State:
        """The learning router's state and the prior, arrays only."""
        return {**self.router.state_dict(), "anchor_KD": self.prior_KD.copy(), "offset_K": self.offset_K.copy()}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore; InputError where the state does not fit."""
        prior_KD = checked_prior(state["anchor_KD"], self.n_arms, self.dim)
        self.router.load_state_dict({k: v for k, v in state.items() if k not in ("anchor_KD", "offset_K")})
        self.prior_KD, self.offset_K = prior_KD, np.array(state["offset_K"], dtype=np.float64)


class TrustedThompson:
    """P(arm wins) = t P(wins | informed) + (1 - t) P(wins | plain), t the posterior probability that the prior is good.

    ``informed`` knows the prior, ``plain`` does not; both are fed every payoff; ``trust`` in (0, 1) is t before the
    first. log t / (1 - t) grows by the log ratio of their one-step-ahead predictive densities N(mean, posterior
    variance + noise variance). Cost: both routers' reads, and one read more an update.

    >>> informed = Anchored(LinearThompson(2, 1, None, 100.0, 0.5, center=True), np.array([[0.2], [-0.2]]))
    >>> router = TrustedThompson(informed, LinearThompson(2, 1, None, 16.0, 0.5, center=True))
    >>> bool(router.probs(np.ones((1, 1)))[0, 0] > 0.5)
    True
    """

    def __init__(self, informed: Anchored, plain: LinearThompson, trust: float = 0.5) -> None:
        """InputError where the two differ in shape or trust is out of range."""
        if (informed.n_arms, informed.dim) != (plain.n_arms, plain.dim):
            raise InputError(
                f"informed has {informed.n_arms} arms and {informed.dim} features, plain {plain.n_arms} and {plain.dim}"
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
    def trust(self) -> float:
        """Posterior probability that the prior is good."""
        return float(1 / (1 + np.exp(-np.clip(self.log_odds, -700, 700))))

    def probs(self, context_BD: AnyFloat) -> Float:
        """(B, K) exact probabilities of the mixture."""
        trust = self.trust
        if trust > 1 - 1e-9:
            return self.informed.probs(context_BD)
        if trust < 1e-9:
            return self.plain.probs(context_BD)
        return trust * self.informed.probs(context_BD) + (1 - trust) * self.plain.probs(context_BD)

    def update(self, context_BD: AnyFloat, arm_B: Int, payoff_B: Float, propensity_B: Float | None = None) -> None:
        """One context and arm after the other: weigh the two by how well they foresaw the mean payoff, then let both learn.

        Rows are not independent given the posterior before the batch, least of all under a wide prior; and rows that share
        context and arm (pairs of one prompt) share what is peculiar to it, so they are one witness, not several.
        """
        x_BD = self.plain.model.contexts(context_BD)
        arm_B = checks.arms(arm_B, len(x_BD), self.n_arms)
        checks.payoffs(payoff_B, len(arm_B))  # everything is checked before anything is learned
        if propensity_B is not None:
            checks.propensities(propensity_B, len(arm_B))
        alike: dict[tuple[int, bytes], list[int]] = {}
        for row, arm in enumerate(arm_B.tolist()):
            alike.setdefault((arm, x_BD[row].tobytes()), []).append(row)
        for rows in alike.values():
            self._learn(context_BD[rows], arm_B[rows], payoff_B[rows])

    def _learn(self, x_BD: AnyFloat, arm_B: Int, payoff_B: Float) -> None:
        noise = self.informed.router.model.noise_var, self.plain.model.noise_var
        arm, payoff = int(arm_B[0]), float(payoff_B.mean())
        gain = _log_density(*self.informed.posterior(x_BD[:1]), noise[0], arm, payoff)
        gain -= _log_density(*self.plain.posterior(x_BD[:1]), noise[1], arm, payoff)
        self.informed.update(x_BD, arm_B, payoff_B)
        self.plain.update(x_BD, arm_B, payoff_B)
        if self.seen or not self.plain.model.options.center:  # the first payoff is the mean: it says nothing
            self.log_odds += gain
        self.seen += len(payoff_B)

    def state_dict(self) -> State:
        """Both routers' states and the weight, arrays only."""
        parts = {"informed": self.informed.state_dict(), "plain": self.plain.state_dict()}
        state = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.items()}
        return {"kind": np.array("TrustedThompson"), "weight": np.array([self.log_odds, self.seen]), **state}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore; InputError where the state does not fit."""
        checks.same_kind(state, "TrustedThompson")
        for name, router in (("informed", self.informed), ("plain", self.plain)):
            router.load_state_dict(
                {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}
            )
        self.log_odds, self.seen = float(state["weight"][0]), int(state["weight"][1])


def _log_density(mean_1K: Float, sd_1K: Float, noise_var: float, arm: int, payoff: float) -> float:
    """log N(payoff; mean, posterior variance + noise variance) of one arm, up to a constant."""
    var = float(sd_1K[0, arm]) ** 2 + noise_var
    return -0.5 * (math.log(var) + (payoff - float(mean_1K[0, arm])) ** 2 / var)
