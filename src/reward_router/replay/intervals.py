"""95 % intervals by resampling prompts, paired across methods.

One set of bootstrap weights serves every method, so differences are paired; between-run variance is
added by resampling runs too. The best single arm in hindsight is chosen again inside each
replicate: its luck is part of the comparison. Intervals of online runs are conditional on what the
runs saw.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from reward_router.keyed import rng
from reward_router.types import Float, Int

REPLICATES = 2000
MAX_BLOCKS = 4000


@dataclass(frozen=True)
class Bootstrap:
    """(R, G) multinomial weights over prompts, and each prompt's number of rows."""

    weight_RG: Float
    rows_G: Float
    group_P: Int

    @property
    def total_R(self) -> Float:
        """Rows in each replicate."""
        return self.weight_RG @ self.rows_G

    def replicate(self, accuracy_SP: Sequence[Float], keep_P: Float | None = None) -> Float:
        """(R,) mean accuracy in each replicate. O(R G S).

        With several runs the runs are resampled as well.

        Args:
            accuracy_SP: accuracies of the rows, one array a run.
            keep_P: 0 or 1, restricts numerator and denominator to some rows.
        """
        n_groups = len(self.rows_G)
        if keep_P is None:
            keep_P = np.ones(len(self.group_P))
            total_R = self.total_R
        else:
            total_R = self.weight_RG @ np.bincount(self.group_P, keep_P, n_groups)
        # Sums by prompt first: a replicate is then a product of (R, G) and (G, S), not of (R, P).
        sums = [np.bincount(self.group_P, a * keep_P, n_groups) for a in accuracy_SP]
        sums_GS = np.stack(sums, axis=1)
        # A replicate may hold none of the kept rows.
        mean_RS = (self.weight_RG @ sums_GS) / np.maximum(total_R, 1e-12)[:, None]
        runs = mean_RS.shape[1]
        if runs == 1:
            return mean_RS[:, 0]
        # Each replicate draws its own runs, so the spread between runs widens the interval too.
        drawn_RS = rng(0, "bootstrap", 1, "runs").integers(runs, size=mean_RS.shape)
        return np.asarray(np.take_along_axis(mean_RS, drawn_RS, axis=1).mean(axis=1))


def bootstrap(group_P: Int, replicates: int = REPLICATES, seed: int = 0) -> Bootstrap:
    """Weights of ``replicates`` resamples of the prompts with replacement. O(R G).

    More than MAX_BLOCKS prompts are dealt at random into that many blocks, which are resampled
    instead: the same variance.
    """
    # Prompts and not rows are drawn: rows of one prompt are not independent.
    n_groups = int(group_P.max()) + 1
    if n_groups > MAX_BLOCKS:
        block_G = rng(seed, "bootstrap", 2, "blocks").permutation(n_groups) % MAX_BLOCKS
        group_P = block_G[group_P]
        n_groups = MAX_BLOCKS
    draw = rng(seed, "bootstrap", 0, "prompts")
    # How often each prompt is drawn in n draws with replacement is multinomial.
    even_G = np.full(n_groups, 1 / n_groups)
    weight_RG = draw.multinomial(n_groups, even_G, size=replicates).astype(np.float64)
    rows_G = np.bincount(group_P, minlength=n_groups).astype(np.float64)
    return Bootstrap(weight_RG, rows_G, group_P)


def percentile_interval(values_R: Float, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval."""
    low, high = np.quantile(values_R, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def best_single_arm(arm_replicates: Mapping[str, Float]) -> Float:
    """(R,) accuracy of the arm that is best inside each replicate."""
    return np.asarray(np.max(np.stack(list(arm_replicates.values())), axis=0))


def lower_bounds(
    gain_RM: Float, point_M: Float, tests_M: Float, prompts: int, level: float = 0.95
) -> Float:
    """(M,) one-sided lower bounds of M gains, each corrected for several comparisons (Bonferroni).

    A bound is made of its own method's replicates alone: which others were compared enters through
    ``tests_M`` only. Where the replicates lie below the point estimate (the hindsight best gains
    from luck in each of them) the bound is moved down by that as well.

    Args:
        gain_RM: gains in each replicate.
        point_M: gains on the file itself.
        tests_M: number of comparisons that each gain is corrected for.
        prompts: Student's t has ``prompts`` - 1 degrees of freedom.
        level: of all bounds together.
    """
    scale_M, shift_M = _spread(gain_RM, point_M)
    # Bonferroni: each of m tests gets 1/m of the error that is allowed.
    width_M = -stdtrit(max(prompts - 1, 1), (1 - level) / tests_M)
    return np.asarray(point_M + shift_M - width_M * scale_M)


def confidences(gain_RM: Float, point_M: Float, tests_M: Float, prompts: int) -> Float:
    """(M,) largest level at which the bound of :func:`lower_bounds` stays above 0.

    0 where it does at none.
    """
    scale_M, shift_M = _spread(gain_RM, point_M)
    # The one-sided p value of "no gain", times the number of tests.
    tail_M = stdtr(max(prompts - 1, 1), -(point_M + shift_M) / scale_M)
    return np.asarray(np.maximum(1 - tests_M * tail_M, 0.0))


def _spread(gain_RM: Float, point_M: Float) -> tuple[Float, Float]:
    """(M,) standard errors, and how far the replicates lie below the point estimate."""
    centre_M = gain_RM.mean(axis=0)
    # Never 0: a method that equals the best arm in every replicate has no spread at all.
    scale_M = np.maximum(gain_RM.std(axis=0), 1e-12)
    shift_M = np.minimum(centre_M - point_M, 0.0)
    return scale_M, shift_M
