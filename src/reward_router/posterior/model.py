"""The linear payoff model that LinUCB and LinearThompson share.

It is every arm's Gaussian posterior, fed in the order of events.

Holds what both need beside the posteriors: the intercept (one more feature, scaled so that it has a
prior precision of its own), the running mean that ``center`` subtracts from payoffs, Huber weights,
the clock of forgetting, promotion of float32, and the two components (informative, zero) of a prior
that has to earn its trust.

With ``center`` each arm regresses the payoffs and a column of ones together: theta = theta_payoff -
mean theta_ones is exact for whatever the mean is by then, so shifting all payoffs shifts nothing
else.
"""

import warnings
from itertools import chain
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router import checks
from reward_router.errors import InputError
from reward_router.posterior.blas import one_thread
from reward_router.posterior.fading import FadingPosterior
from reward_router.posterior.gaussian import ArmPosterior
from reward_router.posterior.options import ModelOptions
from reward_router.posterior.stack import Stack
from reward_router.types import AnyFloat, Float, Int

FLOAT32_LIMIT = 1e4
FLOAT64_LIMIT = 1e12
Rows = tuple[NDArray[Any], Int, Float]
Component = ArmPosterior | FadingPosterior


class LinearModel:
    """K arms' posteriors.

    ``noise_var`` enters the precision, ``payoff_sd`` scales the evidence for a mixture.
    """

    def __init__(
        self,
        prior_mean_KD: Float,
        precision: float,
        noise_var: float,
        payoff_sd: float,
        dtype: np.dtype[Any],
        options: ModelOptions,
    ) -> None:
        """Arms start at ``prior_mean_KD`` with covariance I / precision.

        The intercept's mean, where there is one, is the last column.
        """
        self.n_arms: int = len(prior_mean_KD)
        self.width: int = prior_mean_KD.shape[1]
        self.dim: int = self.width - (options.intercept is not None)
        self.noise_var = noise_var
        self.payoff_sd = payoff_sd
        self.dtype = dtype
        self.options = options
        self.precisions = [precision]
        self.prior_K = list(prior_mean_KD)
        if options.trust is not None:
            self.precisions.append(options.trust_precision or precision)

        # beyond it 1 + |x|^2 / (precision noise) loses the 1
        self._limit = FLOAT64_LIMIT * min(self.precisions) * noise_var
        self.arms = [self._fresh(prior_D) for prior_D in self.prior_K]
        self._stacks: list[Stack] = []
        self.pulls_K = np.zeros(self.n_arms, np.int64)
        self.evidence_K2 = np.zeros((self.n_arms, 2))
        self.clock = 0
        self.payoff_sum = 0.0
        self.payoff_weight = 0.0

    def _fresh(self, prior_D: Float) -> list[Component]:
        """One arm's components: the informative one, and with ``trust`` one of mean zero."""
        informative = self._component(prior_D, self.precisions[0])
        zero = [self._component(np.zeros(self.width), p) for p in self.precisions[1:]]
        return [informative, *zero]

    def _component(self, prior_D: Float, precision: float) -> Component:
        options = self.options
        # With ``center`` a second column, the regression of a payoff of 1 on every row.
        theta_CD = np.zeros((1 + options.center, self.width))
        theta_CD[0] = prior_D
        if options.intercept is not None:
            theta_CD[0, -1] /= self._constant

        if options.fading:
            return FadingPosterior(
                theta_CD, precision, self.noise_var, options.discount, options.window
            )

        decay = None if options.trust is None else options.trust_discount
        return ArmPosterior(theta_CD, precision, self.noise_var, self.dtype, decay)

    @property
    def _constant(self) -> float:
        """The intercept's feature: its variance constant^2 / precision is then 1 / intercept."""
        return float(np.sqrt(self.precisions[0] / (self.options.intercept or 1.0)))

    # -- reading -----------------------------------------------------------------------------------

    def contexts(self, context_BD: object) -> NDArray[Any]:
        """Checked rows in the state's dtype, with the intercept's column.

        A row that is too long is an InputError, which states the limit.
        """
        x_BD = checks.contexts(context_BD, self.dim, look=False)
        if self.options.intercept is not None:
            column = np.full((len(x_BD), 1), self._constant, x_BD.dtype)
            x_BD = np.concatenate([x_BD, column], axis=1)

        worst = _longest(x_BD)
        # the comparison is negated so that NaN is caught, too
        if not worst <= self._limit:
            checks.finite(x_BD)
            raise InputError(
                f"a context of norm {worst**0.5:.3g} is too long: "
                f"|x|^2 / (prior precision x noise variance) may be at most {FLOAT64_LIMIT:g}, "
                "beyond it the posterior is rounding error; "
                "normalise contexts or raise the precision"
            )

        return np.ascontiguousarray(x_BD, self.dtype)

    @property
    def payoff_mean(self) -> float:
        """What ``center`` subtracts: the mean payoff so far, 0 before the first.

        The mean is discounted like the evidence.
        """
        if not self.options.center or not self.payoff_weight:
            return 0.0
        return self.payoff_sum / self.payoff_weight

    def _component_moments(
        self, component: Component, x_BD: NDArray[Any], rounds: int = 1
    ) -> tuple[Float, Float]:
        if isinstance(component, FadingPosterior):
            # What fades depends on the clock, also where nothing was learned since.
            mean_BC, var_B = component.moments(x_BD, self.clock)
        else:
            mean_BC, var_B = component.moments(x_BD)
        return self._centred(mean_BC, rounds), np.sqrt(var_B)

    def _centred(self, mean_BC: Float, rounds: int = 1) -> Float:
        """The payoffs expected: theta = theta_payoff - mean theta_ones, plus the mean again."""
        mean_B = mean_BC[..., 0]
        if not self.options.center:
            return mean_B
        return mean_B + self.payoff_mean * (rounds - mean_BC[..., 1])

    def components(self, x_BD: NDArray[Any]) -> tuple[Float, Float, Float]:
        """Means, sds and weights (B, K, C) of every arm's components at checked rows."""
        shape = (len(x_BD), self.n_arms, len(self.precisions))
        if not len(x_BD):
            return np.empty(shape), np.empty(shape), np.empty(shape)

        with one_thread():
            if stacks := self._stacked():
                mean_BKC, sd_BKC = self._from_stacks(stacks, x_BD, shape)
            elif len(x_BD) == 1 and not self.options.fading:
                mean_BKC, sd_BKC = self._one_row(x_BD[0], shape)
            else:
                mean_BKC = np.empty(shape)
                sd_BKC = np.empty(shape)
                for k, arm in enumerate(self.arms):
                    for c, component in enumerate(arm):
                        mean_B, sd_B = self._component_moments(component, x_BD)
                        mean_BKC[:, k, c] = mean_B
                        sd_BKC[:, k, c] = sd_B

            weight_BKC = np.ones(shape)
            if self.options.trust is not None:
                weight_BKC[:] = self.trust_KC()

        return mean_BKC, sd_BKC, weight_BKC

    def _stacked(self) -> list[Stack]:
        """The arms side by side, a stack a component.

        There is none while an arm is in its dual form, and where evidence fades.
        """
        # built once: arms never go back to the dual form
        if not self._stacks and all(map(_stackable, chain.from_iterable(self.arms))):
            self._stacks = [_stack(column) for column in zip(*self.arms, strict=True)]
        return self._stacks

    def _from_stacks(
        self, stacks: list[Stack], x_BD: NDArray[Any], shape: tuple[int, int, int]
    ) -> tuple[Float, Float]:
        mean_BKC = np.empty(shape)
        sd_BKC = np.empty(shape)
        for c, stack in enumerate(stacks):
            if len(x_BD) == 1:
                mean_KC, var_K = stack.one(x_BD[0])
                mean_BKC[0, :, c] = self._centred(mean_KC)
                sd_BKC[0, :, c] = np.sqrt(var_K)
            else:
                mean_BKR, var_BK = stack.rows(x_BD)
                mean_BKC[:, :, c] = self._centred(mean_BKR)
                sd_BKC[:, :, c] = np.sqrt(var_BK)

        return mean_BKC, sd_BKC

    def _one_row(self, x_D: NDArray[Any], shape: tuple[int, int, int]) -> tuple[Float, Float]:
        """``components`` of one row.

        No array operation is made for each arm that one can make for all of them.
        """
        key = x_D.tobytes()
        components = chain.from_iterable(self.arms)
        rows = [c.one(x_D, key) for c in components if isinstance(c, ArmPosterior)]
        moments = np.array(rows)
        mean_BKC = self._centred(moments[:, :-1]).reshape(shape)

        return mean_BKC, np.sqrt(moments[:, -1]).reshape(shape)

    def moments(self, x_BD: NDArray[Any]) -> tuple[Float, Float]:
        """Means and sds (B, K) over all components; the variance between them is in the sd."""
        return self._collapsed(*self.components(x_BD))

    def bounds(self, x_BD: NDArray[Any]) -> tuple[Float, Float, Float] | None:
        """Means, lower and upper bounds of the sds (B, K), cheaper than ``moments``.

        None where they would not be cheaper. An upper bound may be NaN: not known. See ``Screen``;
        ``alone`` gives the numbers themselves.
        """
        # float32 of many features was chosen for its size: no second copy is made of it
        large = self.dtype == np.float32 and self.width >= 2048
        if large or len(self.precisions) > 1:
            return None

        stacks = self._stacked()
        if not stacks or not stacks[0].screens(len(x_BD)):
            return None

        with one_thread():
            mean_BKC, low_BK, high_BK = stacks[0].bounds(x_BD)

        return self._centred(mean_BKC), np.sqrt(low_BK), np.sqrt(np.maximum(high_BK, 0.0))

    def alone(self, arm: int, x_BD: NDArray[Any]) -> tuple[Float, Float]:
        """Mean and sd (B,) of one arm without a mixture at checked rows."""
        with one_thread():
            return self._component_moments(self.arms[arm][0], x_BD)

    def _collapsed(self, mean_BKC: Float, sd_BKC: Float, weight_BKC: Float) -> tuple[Float, Float]:
        if mean_BKC.shape[-1] == 1:
            return mean_BKC[..., 0], sd_BKC[..., 0]

        # Var = E[Var | component] + Var(E | component)
        mean_BK = (weight_BKC * mean_BKC).sum(axis=-1)
        between_BKC = ((mean_BKC - mean_BK[..., None]) / self.payoff_sd) ** 2
        var_BK = (weight_BKC * (sd_BKC**2 + between_BKC)).sum(axis=-1)
        return mean_BK, np.sqrt(var_BK)

    def trust_KC(self) -> Float:
        """(K, 2) posterior weights of the informative and the zero prior.

        They come from each arm's own evidence.
        """
        # without a mixture the informative prior has all the weight
        trust = self.options.trust if self.options.trust is not None else 1.0
        log_KC = np.array([self._log_evidences(k) for k in range(self.n_arms)])
        log_KC = log_KC + np.log([trust, 1 - trust])

        # about the largest, so that nothing overflows
        largest_K1 = log_KC.max(axis=1, keepdims=True)
        weight_KC = np.exp(log_KC - largest_K1)
        return np.asarray(weight_KC / weight_KC.sum(axis=1, keepdims=True))

    def _log_evidences(self, k: int) -> list[float]:
        return [self._log_evidence(k, c) for c in range(2)]

    def _log_evidence(self, k: int, c: int) -> float:
        component = self.arms[k][c]
        if isinstance(component, FadingPosterior):
            return float(self.evidence_K2[k, c])
        quad_CC, logdet = component.evidence()
        # payoff - mean x ones, as whitened surprises
        response_C = np.array([1.0, -self.payoff_mean])[: len(quad_CC)]
        return float(-0.5 * response_C @ quad_CC @ response_C / self.payoff_sd**2 - logdet)

    def total(self, arm: int, sum_D: Float, rounds: int) -> tuple[float, float]:
        """Mean and sd of the payoff that one arm would bring in total.

        The total is over ``rounds`` rows that sum to ``sum_D``.
        """
        row_1D = np.ascontiguousarray(sum_D[None], self.dtype)
        with one_thread():
            moments_C = [
                self._component_moments(component, row_1D, rounds) for component in self.arms[arm]
            ]

        weight_KC = np.ones((self.n_arms, 1)) if self.options.trust is None else self.trust_KC()
        mean_11C = np.array([[[mean_1[0] for mean_1, _ in moments_C]]])
        sd_11C = np.array([[[sd_1[0] for _, sd_1 in moments_C]]])
        mean_11, sd_11 = self._collapsed(mean_11C, sd_11C, weight_KC[arm][None, None])

        return float(mean_11[0, 0]), float(sd_11[0, 0])

    def foresight(self, x_1D: NDArray[Any], arm: int, payoff: float) -> float:
        """How well one arm without a mixture foresaw a payoff at a checked row: `log_density`.

        The product with the covariance that this takes is kept for the update with the same row.
        """
        component = self.arms[arm][0]
        with one_thread():
            if isinstance(component, ArmPosterior):
                *mean_C, var = component.one(x_1D[0], x_1D[0].tobytes())
                mean = float(self._centred(np.array(mean_C)))
                return log_density(mean, var, self.noise_var, payoff)
            mean_1, sd_1 = self._component_moments(component, x_1D)

        return log_density(float(mean_1[0]), float(sd_1[0]) ** 2, self.noise_var, payoff)

    # -- writing -----------------------------------------------------------------------------------

    def update(
        self, context_BD: AnyFloat, arm_B: Int, payoff_B: Float, propensity_B: Float | None
    ) -> Rows:
        """Check everything, then learn the rows in order; returns them checked."""
        x_BD = self.contexts(context_BD)
        index_B = checks.arms(arm_B, len(x_BD), self.n_arms)
        y_B = checks.payoffs(payoff_B, len(x_BD))
        if propensity_B is not None:
            checks.propensities(propensity_B, len(x_BD))

        if not len(x_BD):
            return x_BD, index_B, y_B

        x_BD = self._promoted(x_BD)
        # these two look at the posterior before each row
        mixed_and_fading = self.options.fading and self.options.trust is not None
        one_by_one = self.options.huber is not None or mixed_and_fading
        step = 1 if one_by_one else len(x_BD)

        with one_thread():
            for start in range(0, len(x_BD), step):
                part = slice(start, start + step)
                self._learn(x_BD[part], index_B[part], y_B[part])

        return x_BD, index_B, y_B

    def _promoted(self, x_BD: NDArray[Any]) -> NDArray[Any]:
        """Go over to float64 for good at the first row on which float32 would err by about 1 %."""
        if self.dtype == np.float64 or self.options.fading:
            return x_BD

        square = float(np.einsum("bd,bd->b", x_BD, x_BD).max())
        worst = square / (min(self.precisions) * self.noise_var)
        if worst <= FLOAT32_LIMIT:
            return x_BD

        warnings.warn(
            "float32 state promoted to float64: "
            f"|x|^2 / (prior precision x noise variance) = {worst:.3g} is over {FLOAT32_LIMIT:g}, "
            "where float32 errs by more than 1 %; normalise contexts to keep float32",
            RuntimeWarning,
            stacklevel=4,
        )
        self.dtype = np.dtype(np.float64)
        # stacks hold views of arrays that are about to be replaced
        self._stacks = []
        for component in chain.from_iterable(self.arms):
            if isinstance(component, ArmPosterior):
                component.promote()

        return x_BD.astype(np.float64)

    def _learn(self, x_BD: NDArray[Any], index_B: Int, y_B: Float) -> None:
        # a column of ones beside the payoffs: what theta would be if every payoff were 1
        y_BC = np.stack([y_B, np.ones_like(y_B)], axis=1) if self.options.center else y_B[:, None]
        if self.options.huber is None:
            weight_B = np.ones(len(y_B))
        else:
            weight_B = self._huber(x_BD, int(index_B[0]), float(y_B[0]))

        if self.options.fading and self.options.trust is not None:
            self._fading_evidence(x_BD, int(index_B[0]), float(y_B[0]), float(weight_B[0]))

        # the clock counts payoffs of all arms
        stamp_B = self.clock + 1 + np.arange(len(y_B))
        count_K = np.bincount(index_B, minlength=self.n_arms)
        arm_U = np.flatnonzero(count_K)
        if len(arm_U) > 1:  # each arm's rows together, in order
            order_B = np.argsort(index_B, kind="stable")
            x_BD = x_BD[order_B]
            y_BC = y_BC[order_B]
            weight_B = weight_B[order_B]
            stamp_B = stamp_B[order_B]

        start = 0
        for k, count in zip(arm_U.tolist(), count_K[arm_U].tolist(), strict=True):
            mine = slice(start, start + count)
            start += count
            for component in self.arms[k]:
                if isinstance(component, FadingPosterior):
                    component.add(x_BD[mine], y_BC[mine], weight_B[mine], stamp_B[mine])
                else:
                    component.add(x_BD[mine], y_BC[mine], weight_B[mine])

        self.pulls_K += count_K
        self.clock += len(y_B)
        for y in y_B.tolist():
            self.payoff_sum = self.options.discount * self.payoff_sum + y
            self.payoff_weight = self.options.discount * self.payoff_weight + 1.0

    def _huber(self, x_1D: NDArray[Any], arm: int, payoff: float) -> Float:
        """Huber's weight min(1, delta / |residual|), delta widened by the arm's own sd at x."""
        if self._unanchored():
            return np.ones(1)

        mean_1, sd_1 = self._component_moments(self.arms[arm][-1], x_1D)
        widened = np.sqrt(1.0 + sd_1[0] ** 2 / self.noise_var)
        delta = float(self.options.huber or 0.0) * widened

        # a payoff as expected must not divide by 0
        residual = max(abs(payoff - mean_1[0]), 1e-300)
        return np.array([min(1.0, delta / residual)])

    def _unanchored(self) -> bool:
        """Whether this payoff is the first one.

        Under ``center`` it is the mean, and says nothing about any arm.
        """
        return self.options.center and self.payoff_weight == 0

    def _fading_evidence(self, x_1D: NDArray[Any], arm: int, payoff: float, weight: float) -> None:
        """Add the one-step-ahead log density of this payoff under both components."""
        if self._unanchored():
            return

        decay = self.options.trust_discount
        for c, component in enumerate(self.arms[arm]):
            mean_1, sd_1 = self._component_moments(component, x_1D)
            var = sd_1[0] ** 2 + self.noise_var / weight
            residual = payoff - mean_1[0]
            gain = -0.5 * residual**2 / (var * self.payoff_sd**2) - 0.5 * np.log(var)
            self.evidence_K2[arm, c] = decay * self.evidence_K2[arm, c] + gain

    def add_arm(self, prior_D: Float) -> int:
        """A new arm at its prior; the others are untouched. Returns its index."""
        self.prior_K.append(prior_D)
        self.arms.append(self._fresh(self.prior_K[-1]))
        self._stacks = []
        self.pulls_K = np.append(self.pulls_K, 0)
        self.evidence_K2 = np.append(self.evidence_K2, [[0.0, 0.0]], axis=0)
        self.n_arms += 1

        return self.n_arms - 1

    def remove_arm(self, index: int) -> None:
        """Drop an arm with all it learned; the others are untouched bit for bit."""
        checks.removable(index, self.n_arms)

        del self.arms[index], self.prior_K[index]
        self._stacks = []
        self.pulls_K = np.delete(self.pulls_K, index)
        self.evidence_K2 = np.delete(self.evidence_K2, index, axis=0)
        self.n_arms -= 1


def _stackable(component: Component) -> bool:
    return isinstance(component, ArmPosterior) and component.stackable


def _stack(column: tuple[Component, ...]) -> Stack:
    """One component of every arm, side by side."""
    return Stack([component for component in column if isinstance(component, ArmPosterior)])


def _longest(x_BD: NDArray[Any]) -> float:
    """The largest |x|^2; not finite where an entry is not, or where it overflows."""
    if len(x_BD) == 1:
        return float(np.vdot(x_BD, x_BD))
    with np.errstate(over="ignore"):
        return float(np.einsum("bd,bd->b", x_BD, x_BD, dtype=np.float64).max(initial=0.0))


def log_density(mean: float, variance: float, noise_var: float, payoff: float) -> float:
    """How well a payoff was foreseen: log N(payoff; mean, variance + noise variance).

    An additive constant is left out.
    """
    total = variance + noise_var
    return -0.5 * (log(total) + (payoff - mean) ** 2 / total)
