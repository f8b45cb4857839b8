"""Thompson sampling about a prior mean, payoffs centred on what that prior leaves unexplained.

A centred prior says how arms differ, not how high payoffs are, so payoffs are centred. Centred on
their plain running mean they are not what the prior speaks of: the better it is, the better the
arms it picks, the higher that mean, and every picked arm disappoints while the others keep their
promise. So the mean is taken of payoff - prior(x, arm).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router import checks
from reward_router.errors import InputError
from reward_router.posterior.options import checked_prior
from reward_router.posterior.win_probability import win_probability
from reward_router.routers.decide import forced_K
from reward_router.routers.guard import checked_decision_margin, within_margin
from reward_router.routers.thompson import LinearThompson
from reward_router.types import AnyFloat, Float, Int, State


class Anchored:
    """Thompson sampling about a prior mean.

    The prior expects x'prior_k + offset_k, and ``router`` (zero prior) learns what the payoff
    differs from that by. Without ``center`` this is ``LinearThompson(prior_mean=prior_KD)``; with
    it the running mean is that of the differences, so a constant added to all payoffs changes
    nothing and a prior that is right is never contradicted. Costs B K D more a read.
    """

    takes_penalty = True
    takes_forced = True

    def __init__(
        self,
        router: LinearThompson,
        prior_KD: Float,
        offset_K: Float | None = None,
        decision_margin: float | None = None,
    ) -> None:
        """InputError for another shape, or a margin below 0.

        Args:
            router: learns what the prior leaves unexplained.
            prior_KD: (K, D) the prior's weights, payoff units.
            offset_K: (K,) the prior's means at a context of 0; None: 0.
            decision_margin: expected payoff that one decision may give up against the arm of the
                best mean; None: any.
        """
        self.router = router
        self.decision_margin = checked_decision_margin(decision_margin)
        self.prior_KD = checked_prior(prior_KD, router.n_arms, router.dim)
        if offset_K is None:
            self.offset_K = np.zeros(router.n_arms)
        else:
            self.offset_K = np.array(offset_K, dtype=np.float64)

        if self.offset_K.shape != (router.n_arms,):
            raise InputError(
                f"offset must be one number an arm: ({router.n_arms},), got {self.offset_K.shape}"
            )

    @property
    def n_arms(self) -> int:
        """Number of arms."""
        return self.router.n_arms

    @property
    def dim(self) -> int:
        """D, the features of a context."""
        return self.router.dim

    @property
    def warmup(self) -> int:
        """Forced pulls an arm."""
        return self.router.warmup

    def prior(self, context_BD: AnyFloat) -> Float:
        """(B, K) prior means of the payoffs.

        An arm's column does not depend on which others there are, bit for bit.
        """
        x_BD = np.asarray(context_BD, np.float64)
        # one sum an arm: a product of matrices may round an arm's column by its neighbours
        columns = [
            (x_BD * row_D).sum(axis=1) + offset
            for row_D, offset in zip(self.prior_KD, self.offset_K, strict=True)
        ]

        return np.stack(columns, axis=1)

    def posterior(self, context_BD: AnyFloat) -> tuple[Float, Float]:
        """Means and sds (B, K) of the expected payoffs."""
        mean_BK, sd_BK = self.router.posterior(context_BD)
        return mean_BK + self.prior(context_BD), sd_BK

    def probs(
        self, context_BD: AnyFloat, penalty_K: Float | None = None, *, forced: bool = True
    ) -> Float:
        """(B, K) exact P(arm wins). ``penalty_K`` and ``forced`` as for `LinearThompson`."""
        mean_BK, sd_BK = self.posterior(context_BD)
        pulls_K = self.router.model.pulls_K
        first_K = None
        if forced and self.warmup:
            first_K = forced_K(pulls_K, self.warmup)

        # A price is taken off the mean: it is known, so it does not widen the draw.
        utility_BK = mean_BK if penalty_K is None else mean_BK - penalty_K
        if first_K is not None:
            p_BK = np.tile(first_K, (len(mean_BK), 1))
        else:
            p_BK = win_probability(utility_BK, self.router.width * sd_BK)

        return within_margin(p_BK, utility_BK, self.decision_margin)

    def update(
        self, context_BD: AnyFloat, arm_B: Int, payoff_B: Float, propensity_B: Float | None = None
    ) -> None:
        """Learn what the prior left unexplained."""
        rows = len(self.router.model.contexts(context_BD))
        index_B = checks.arms(arm_B, rows, self.n_arms)
        y_B = checks.payoffs(payoff_B, rows)

        # the router inside sees only what the prior did not expect
        prior_BK = self.prior(context_BD)
        expected_B = prior_BK[np.arange(rows), index_B]
        unexplained_B = y_B - expected_B
        self.router.update(context_BD, index_B, unexplained_B, propensity_B)

    def foresight(self, x_1D: AnyFloat, arm: int, payoff: float) -> float:
        """How well one arm foresaw a payoff at one context. O(D^2).

        It is log N(payoff; mean, posterior variance + noise variance) up to a constant.
        """
        x_D = np.asarray(x_1D[0], np.float64)
        # The router inside has learned what the anchor leaves unexplained, and foresees that.
        anchor = (x_D * self.prior_KD[arm]).sum() + self.offset_K[arm]
        unexplained = payoff - float(anchor)

        model = self.router.model
        return model.foresight(model.contexts(x_1D), arm, unexplained)

    def add_arm(self, prior_mean_D: AnyFloat | None = None) -> int:
        """A new arm, at the mean arm or at given means; returns its index."""
        given = None if prior_mean_D is None else [prior_mean_D]
        row_1D = checked_prior(given, 1, self.dim)
        self.prior_KD = np.concatenate([self.prior_KD, row_1D])
        self.offset_K = np.append(self.offset_K, 0.0)
        return self.router.add_arm()

    def remove_arm(self, index: int) -> None:
        """Drop an arm; the others keep what they learned bit for bit."""
        self.router.remove_arm(index)
        self.prior_KD = np.delete(self.prior_KD, index, axis=0)
        self.offset_K = np.delete(self.offset_K, index)

    def state_dict(self) -> State:
        """The learning router's state and the prior, arrays only."""
        return {
            **self.router.state_dict(),
            "anchor_KD": self.prior_KD.copy(),
            "offset_K": self.offset_K.copy(),
        }

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore; InputError (and no change) where the state does not fit."""
        # Everything is checked before anything is set: a state that does not fit changes nothing.
        prior_KD = checks.stored(state, "", "anchor_KD", np.float64, (None, self.dim))
        n_arms = len(prior_KD)
        offset_K = checks.stored(state, "", "offset_K", np.float64, (n_arms,))

        own = ("anchor_KD", "offset_K")
        inner = {name: array for name, array in state.items() if name not in own}
        # the router's own arms must be as many as the prior's
        checks.stored(inner, "", "pulls_K", np.int64, (n_arms,))
        self.router.load_state_dict(inner)
        self.prior_KD = prior_KD
        self.offset_K = offset_K
