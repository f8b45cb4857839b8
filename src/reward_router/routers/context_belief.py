"""How far contexts are believed: a linear model of payoffs whose variances the payoffs choose.

The variances are those of the highest marginal likelihood, and the model is the posterior at them.
payoff = m + a_k + f + noise with a_k ~ N(0, variance of the arms' means). Three explanations of f
compete by their evidence, x about its mean: nothing (f = 0); *difficulty*, x'w with one w for all
arms, which says nothing about which arm is best; and the arms' own x'w_k. w ~ N(0, v I), v on a
grid. The posterior probability of the third is the *weight* of contexts. What the payoffs do not
support pays by its log determinant. Where one arm has nearly all pulls the last two foresee alike
and share the weight, so that the others are tried where it fails.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from reward_router.posterior.blas import one_thread, packed
from reward_router.posterior.model import LinearModel
from reward_router.posterior.options import ModelOptions
from reward_router.routers.context_rows import ArmRows
from reward_router.routers.pooled import Population
from reward_router.types import AnyFloat, Float

# sd of x'w over contexts of mean length, in payoffs
SPREADS = np.array([0.05, 0.1, 0.2, 0.4, 0.8])
# prior probabilities of the three explanations
NOTHING = 0.5
DIFFICULTY = 0.25
OWN = 0.25
NEGLIGIBLE = 0.01  # an opinion of less weight is not evaluated
LEAST_NOISE = 1e-4
# From this many features on, where there are sums to factorise, only the spreads beside the last
# one are weighed.
WIDE = 128


@dataclass(frozen=True)
class Belief:
    """What the payoffs said at the last look.

    Args:
        weight: posterior probability that arms have weights of their own.
        spread: the most probable place in SPREADS.
        level: mean payoff of the mean arm.
        noise_var: variance of a payoff about its expectation, in payoff units squared.
        arm_var: variance of the arms' means, likewise.
        weight_var: variance of one weight, likewise.
        mean_D: the mean context.
    """

    weight: float
    spread: int
    level: float
    noise_var: float
    arm_var: float
    weight_var: float
    mean_D: Float

    @property
    def believed(self) -> bool:
        """Whether contexts have a say: they are likelier now than before the first payoff.

        With less weight than that they hardly change a choice, and their model is most of the cost.
        """
        return self.weight > OWN

    def scaled(self, x_BD: AnyFloat) -> Float:
        """(B, D + 1) rows for a model of unit prior precision and unit noise."""
        arm_scale = np.sqrt(self.arm_var / self.noise_var)
        weight_scale = np.sqrt(self.weight_var / self.noise_var)

        z_BZ = np.empty((len(x_BD), x_BD.shape[1] + 1))
        z_BZ[:, 0] = arm_scale
        z_BZ[:, 1:] = (x_BD - self.mean_D) * weight_scale
        return z_BZ

    def target(self, payoff_B: Float) -> Float:
        """(B,) payoffs in the model's units."""
        return np.asarray((payoff_B - self.level) / np.sqrt(self.noise_var))


def unbelieving(dim: int) -> Belief:
    """Before the first look at contexts."""
    return Belief(0.0, len(SPREADS) // 2, 0.5, 0.25, 0.01, 1.0, np.zeros(dim))


@dataclass(frozen=True)
class _Design:
    """A least-squares problem in units of the noise: rows and responses, or their sums."""

    z_TZ: Float | None
    y_T: Float
    gram_ZZ: Float
    sum_Z: Float

    @cached_property
    def few(self) -> bool:
        """Whether there are fewer rows than features, and the rows are at hand."""
        return self.z_TZ is not None and len(self.z_TZ) < self.z_TZ.shape[1]

    def fit(self, scale_Z: Float) -> tuple[float, Float]:
        """Log evidence against weights of 0, and posterior mean weights. O(min(T, Z)^3).

        The prior of the weights is N(0, scale^2).
        """
        from scipy.linalg import solve_triangular

        if self.few and self.z_TZ is not None:
            # By rows, where they are fewer than features: N(0, I + Z Z') is the law of the payoffs.
            z_TZ = self.z_TZ * scale_Z
            covariance_TT = np.eye(len(z_TZ)) + z_TZ @ z_TZ.T
            root_TT = np.linalg.cholesky(covariance_TT)
            white_T = solve_triangular(root_TT, self.y_T, lower=True, check_finite=False)
            inverse_T = solve_triangular(root_TT, white_T, lower=True, trans=1, check_finite=False)

            # Against weights of 0, under which the payoffs are N(0, I).
            gain = self.y_T @ self.y_T - white_T @ white_T
            half_log_det = np.log(np.diagonal(root_TT)).sum()
            log_evidence = -half_log_det + 0.5 * gain
            mean_Z = scale_Z * (z_TZ.T @ inverse_T)
            return float(log_evidence), mean_Z

        # Scales on both sides: the prior becomes N(0, I), and the precision well conditioned.
        precision_ZZ = np.eye(len(scale_Z)) + self.gram_ZZ * scale_Z[:, None] * scale_Z
        root_ZZ = np.linalg.cholesky(precision_ZZ)
        white_Z = solve_triangular(root_ZZ, scale_Z * self.sum_Z, lower=True, check_finite=False)
        scaled_mean_Z = solve_triangular(root_ZZ, white_Z, lower=True, trans=1, check_finite=False)

        half_log_det = np.log(np.diagonal(root_ZZ)).sum()
        log_evidence = -half_log_det + 0.5 * white_Z @ white_Z
        return float(log_evidence), scale_Z * scaled_mean_Z

    def arm_only(self, scale: float) -> float:
        """Log evidence where the first feature alone has a weight."""
        if self.few and self.z_TZ is not None:
            first_T = self.z_TZ[:, 0]
            square = float(first_T @ first_T)
            product = float(first_T @ self.y_T)
        else:
            square = float(self.gram_ZZ[0, 0])
            product = float(self.sum_Z[0])

        # The determinant and the quadratic form of one feature, written out.
        inner = 1 + scale**2 * square
        return float(-0.5 * np.log(inner) + 0.5 * scale**2 * product**2 / inner)


def _from_rows(z_TZ: Float, y_T: Float) -> _Design:
    if len(z_TZ) < z_TZ.shape[1]:
        return _Design(z_TZ, y_T, np.zeros((0, 0)), np.zeros(0))
    return _Design(None, y_T, z_TZ.T @ z_TZ, z_TZ.T @ y_T)


def _design(arm: ArmRows, now: int, level: float, mean_D: Float, noise_sd: float) -> _Design:
    """One arm's rows about the mean context, and payoffs less the level."""
    if not arm.summed:
        z_TZ, y_T = arm.weighed(now)
        root_T = z_TZ[:, 0]
        centred_TZ = z_TZ.copy()
        # z holds the root of the row's weight in its first place, so x - mean is x - root mean
        centred_TZ[:, 1:] -= root_T[:, None] * mean_D
        about_level_T = y_T - level * root_T
        return _from_rows(centred_TZ / noise_sd, about_level_T / noise_sd)

    gram_ZZ, sum_Z = arm.sums(now)
    rest_Z = sum_Z - level * gram_ZZ[0]
    # the same two shifts as above, made on the sums
    rest_Z[1:] -= rest_Z[0] * mean_D
    noise_var = noise_sd**2
    return _Design(None, np.zeros(0), _centred(gram_ZZ, mean_D) / noise_var, rest_Z / noise_var)


def _centred(gram_ZZ: Float, mean_D: Float) -> Float:
    """Sums of products of rows whose contexts are taken about ``mean_D``."""
    # The first feature is the row's root weight, so its square sums to the number of rows.
    rows = float(gram_ZZ[0, 0])
    sum_D = gram_ZZ[0, 1:]
    out_ZZ = gram_ZZ.copy()
    cross_DD = np.outer(sum_D, mean_D)
    out_ZZ[1:, 1:] += rows * np.outer(mean_D, mean_D) - cross_DD - cross_DD.T
    out_ZZ[0, 1:] = out_ZZ[1:, 0] = sum_D - rows * mean_D

    return out_ZZ


def learned(
    arms: Sequence[ArmRows], totals_K3: Float, population: Population, before: Belief, now: int
) -> Belief:
    """The belief that all payoffs so far support.

    O(K D^2 min(rows, D)) times the spreads that are weighed.
    """
    with one_thread():
        # noise is that of the arms as they were pulled
        strength_K, _ = population.arms(totals_K3)
        noise_K = population.noise(strength_K)
        count_K = totals_K3[:, 0]
        # At least LEAST_NOISE: arms that are always right would leave no noise to divide by.
        noise_var = max(float(count_K @ noise_K / max(count_K.sum(), 1e-12)), LEAST_NOISE)
        mean_D, length = _mean_context(arms, now, len(before.mean_D))
        # all contexts are alike: they can explain nothing
        if length == 0:
            return before

        noise_sd = float(np.sqrt(noise_var))
        difficulty_S = _difficulty(arms, now, strength_K, mean_D, noise_sd, length)
        used = [arm for arm in arms if arm.count or arm.summed]
        designs = [_design(arm, now, population.mean, mean_D, noise_sd) for arm in used]
        tried = _tried(before.spread, len(mean_D), any(arm.summed for arm in used))
        weight, spread = _weighed(designs, tried, population.variance, length, difficulty_S)

    weight_var = float(SPREADS[spread] ** 2 / length)
    return Belief(
        weight, spread, population.mean, noise_var, population.variance, weight_var, mean_D
    )


def _tried(last: int, dim: int, summed: bool) -> list[int]:
    """Which spreads are weighed: all, or where that is dear the last best and its neighbours."""
    every = list(range(len(SPREADS)))
    return every[max(last - 1, 0) : last + 2] if summed and dim >= WIDE else every


def _mean_context(arms: Sequence[ArmRows], now: int, dim: int) -> tuple[Float, float]:
    """Mean context, and mean squared distance from it."""
    sum_Z = np.zeros(dim + 1)
    square = 0.0
    for arm in arms:
        z_TZ, _ = arm.weighed(now)
        sum_Z += np.einsum("t,tz->z", z_TZ[:, 0], z_TZ)
        square += float(np.vdot(z_TZ[:, 1:], z_TZ[:, 1:]))
        if arm.summed:
            kept = arm.discount ** (now - arm.folded_at)
            sum_Z += kept * arm.gram_ZZ[0]
            square += kept * float(np.trace(arm.gram_ZZ[1:, 1:]))

    # the first feature is the root of a weight, so this is the sum of weights
    rows = max(float(sum_Z[0]), 1e-300)
    mean_D = sum_Z[1:] / rows
    # A difference of large numbers: what is left below rounding is 0, and contexts are alike.
    length = square / rows - float(mean_D @ mean_D)
    return mean_D, length if length > 1e-9 * square / rows else 0.0


def _difficulty(
    arms: Sequence[ArmRows],
    now: int,
    strength_K: Float,
    mean_D: Float,
    noise_sd: float,
    length: float,
) -> Float:
    """(S,) log evidence against nothing of one w for all arms, at every second spread.

    Payoffs are taken about their arm's mean.
    """
    designs = [
        _design(arm, now, level, mean_D, noise_sd)
        for arm, level in zip(arms, strength_K.tolist(), strict=True)
        if arm.count or arm.summed
    ]

    # few rows: one problem over all of them; else one over the sums
    if all(design.few for design in designs):
        rows = [design.z_TZ[:, 1:] for design in designs if design.z_TZ is not None]
        responses = [design.y_T for design in designs]
        whole = _from_rows(np.concatenate(rows), np.concatenate(responses))
    else:
        gram_DD = np.zeros((len(mean_D), len(mean_D)))
        sum_D = np.zeros(len(mean_D))
        for design in designs:
            z_TZ = design.z_TZ
            if z_TZ is None:
                gram_DD += design.gram_ZZ[1:, 1:]
                sum_D += design.sum_Z[1:]
            else:
                x_TD = z_TZ[:, 1:]
                gram_DD += x_TD.T @ x_TD
                sum_D += x_TD.T @ design.y_T

        whole = _Design(None, np.zeros(0), gram_DD, sum_D)

    # Every second spread: difficulty is only there to be beaten, and needs no fine grid.
    scale_S = [spread / np.sqrt(length) for spread in SPREADS[1::2]]
    return np.array([whole.fit(np.full(len(mean_D), scale))[0] for scale in scale_S])


def _weighed(
    designs: Sequence[_Design],
    tried: Sequence[int],
    arm_var: float,
    length: float,
    difficulty_S: Float,
) -> tuple[float, int]:
    """Posterior probability that arms have their own weights, and the most probable spread."""
    arm_sd = float(np.sqrt(arm_var))
    # evidence of the arms' means alone: what the weights are compared with
    plain = sum(design.arm_only(arm_sd) for design in designs)
    first = designs[0]
    width = len(first.sum_Z) if first.z_TZ is None else first.z_TZ.shape[1]

    own_S = np.empty(len(tried))
    for place, spread in enumerate(tried):
        weight_sd = SPREADS[spread] / np.sqrt(length)
        scale_Z = np.full(width, weight_sd)
        scale_Z[0] = arm_sd
        evidence = sum(design.fit(scale_Z)[0] for design in designs)
        own_S[place] = evidence - plain

    # a uniform prior over the spreads of each explanation
    own_prior = np.log(OWN / len(SPREADS))
    difficulty_prior = np.log(DIFFICULTY / len(difficulty_S))
    own = np.logaddexp.reduce(own_S) + own_prior
    difficulty = np.logaddexp.reduce(difficulty_S) + difficulty_prior
    total = np.logaddexp.reduce([own, difficulty, np.log(NOTHING)])
    best = tried[int(own_S.argmax())]
    return float(np.exp(own - total)), best


def empty_model(n_arms: int, dim: int) -> LinearModel:
    """Arms' weights at their prior, in scaled units."""
    return LinearModel(
        np.zeros((n_arms, dim + 1)), 1.0, 1.0, 1.0, np.dtype(np.float64), ModelOptions()
    )


def model_of(belief: Belief, arms: Sequence[ArmRows], now: int) -> LinearModel:
    """Every arm's posterior under the belief, from its raw rows. O(K D^2 min(rows, D))."""
    model = empty_model(len(arms), len(belief.mean_D))
    noise_sd = float(np.sqrt(belief.noise_var))
    scale_Z = np.full(len(belief.mean_D) + 1, np.sqrt(belief.weight_var))
    scale_Z[0] = np.sqrt(belief.arm_var)

    with one_thread():
        for arm, (posterior,) in zip(arms, model.arms, strict=True):
            if arm.summed:
                design = _design(arm, now, belief.level, belief.mean_D, noise_sd)
                # rows are gone where there are sums: the posterior is made from those
                posterior.load(_primal(design, scale_Z), "")
            elif arm.count:
                z_TZ, y_T = arm.weighed(now)
                root_T = z_TZ[:, :1]
                x_TD = z_TZ[:, 1:] / root_T
                target_T = belief.target(y_T / root_T[:, 0])
                scaled_TZ = belief.scaled(x_TD) * root_T
                target_TC = (target_T * root_T[:, 0])[:, None]
                posterior.add(scaled_TZ, target_TC, np.ones(arm.count))  # type: ignore[call-arg]

    return model


def _primal(design: _Design, scale_Z: Float) -> dict[str, Float]:
    """The state of a posterior whose covariance is (I + S G S)^-1, S the scales."""
    from scipy.linalg import cho_solve
    from scipy.linalg.lapack import dpotrf, dpotri

    width = len(scale_Z)
    precision_ZZ = np.eye(width) + design.gram_ZZ * scale_Z[:, None] * scale_Z
    # From the Cholesky factor: half the work of a general inverse, and symmetric as it is made.
    root_ZZ, _ = dpotrf(precision_ZZ.T, lower=1, overwrite_a=1)
    mean_Z = cho_solve((root_ZZ, True), scale_Z * design.sum_Z, check_finite=False)
    lower_ZZ, _ = dpotri(root_ZZ, lower=1, overwrite_c=1)

    return {
        "theta_CD": mean_Z[None],
        "base_P": packed(lower_ZZ),
        "factor_TD": np.zeros((0, width)),
        "tail_ND": np.zeros((0, width)),
        "tail_NC": np.zeros((0, 1)),
        "tail_N": np.zeros(0),
        "evidence": np.zeros(2),
    }
