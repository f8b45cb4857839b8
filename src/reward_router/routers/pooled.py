"""Overall strengths of many arms from few payoffs.

Each arm borrows from the others by as much as arms turn out to be alike.

Payoffs in [0, 1] of arm k have mean p_k and variance phi p_k (1 - p_k): phi is 1 where payoffs are
0 or 1 and less where they are graded. The p_k come from one Beta law, whose mean and spread are
learned from all arms together by the marginal likelihood (empirical Bayes, beta-binomial with
counts n / phi). O(K) numbers are kept, and nothing of it reads contexts.
"""

from dataclasses import dataclass, replace

import numpy as np

from reward_router.types import Float

MEANS = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.88, 0.94])
# sd of the arms' means that are weighed against each other
SPREADS = np.array([0.02, 0.05, 0.08, 0.12, 0.17, 0.25])
LOOK_AHEAD = 10.0  # pulls of an arm that are weighed as one experiment
# phi starts at 1, with the weight of this many payoffs
LEAST_DISPERSION = 0.02
DISPERSION_ROWS = 8.0


def _grid() -> tuple[Float, Float]:
    """(G,) parameters alpha and beta of every law weighed."""
    mean_GG, sd_GG = np.meshgrid(MEANS, SPREADS, indexing="ij")
    mean_G = mean_GG.ravel()
    sd_G = sd_GG.ravel()

    # a Beta law cannot spread wider than mean (1 - mean)
    widest_G = mean_G * (1 - mean_G)
    var_G = np.minimum(sd_G**2, 0.5 * mean_G * (1 - mean_G))
    # alpha + beta of the Beta law with this mean and this variance
    size_G = widest_G / var_G - 1
    alpha_G = mean_G * size_G
    beta_G = (1 - mean_G) * size_G
    return alpha_G, beta_G


ALPHA_G, BETA_G = _grid()
MEAN_G = ALPHA_G / (ALPHA_G + BETA_G)
VAR_G = MEAN_G * (1 - MEAN_G) / (ALPHA_G + BETA_G + 1)


@dataclass(frozen=True)
class Population:
    """The law that arms come from: its mean, its variance, and the dispersion phi of payoffs."""

    mean: float
    variance: float
    dispersion: float

    @property
    def size(self) -> float:
        """Payoffs that the law is worth to an arm, in counts of 0 or 1."""
        return self.mean * (1 - self.mean) / self.variance - 1

    def arms(self, totals_K3: Float) -> tuple[Float, Float]:
        """Posterior means and sds (K,) of p_k; axes before these stay.

        ``totals_K3``: number of payoffs, their sum and their sum of squares.
        """
        # A graded payoff tells more than a coin's: it counts as 1 / phi of them.
        count_K = totals_K3[..., 0] / self.dispersion
        right_K = totals_K3[..., 1] / self.dispersion

        # mean of Beta(alpha + right, beta + wrong)
        all_K = self.size + count_K
        mean_K = (self.size * self.mean + right_K) / all_K
        var_K = mean_K * (1 - mean_K) / (all_K + 1)
        return mean_K, np.sqrt(var_K)

    def noise(self, mean_K: Float) -> Float:
        """Variance of one payoff of arms with these means."""
        return self.dispersion * mean_K * (1 - mean_K)


def start() -> Population:
    """Before the first payoff: every law of the grid alike, payoffs 0 or 1."""
    return learned(np.zeros((1, 3)))


def learned(totals_K3: Float) -> Population:
    """The posterior mean of the law given all arms' payoffs. O(K) times the 60 laws of the grid."""
    from scipy.special import betaln

    dispersion = _dispersion(totals_K3)
    right_K1 = totals_K3[:, 1:2] / dispersion
    # rounding may leave a little less than nothing
    wrong_K1 = np.maximum(totals_K3[:, 0:1] / dispersion - right_K1, 0.0)
    # beta-binomial log likelihood of every arm under every law of the grid
    log_KG = betaln(right_K1 + ALPHA_G, wrong_K1 + BETA_G) - betaln(ALPHA_G, BETA_G)
    log_G = log_KG.sum(axis=0)
    # the largest is 1, so that nothing overflows
    weight_G = np.exp(log_G - log_G.max())
    weight_G /= weight_G.sum()

    return Population(float(weight_G @ MEAN_G), float(weight_G @ VAR_G), dispersion)


def _dispersion(totals_K3: Float) -> float:
    """phi: squares about the arms' own means over what payoffs of 0 and 1 would have."""
    count_K, sum_K, square_K = totals_K3.T
    mean_K = sum_K / np.maximum(count_K, 1e-12)
    binary_K = count_K * mean_K * (1 - mean_K)
    within_K = np.maximum(square_K - sum_K * mean_K, 0.0)

    # a payoff of 0 or 1 has variance at most 1/4
    start_rows = DISPERSION_ROWS * 0.25
    within = float(within_K.sum()) + start_rows
    binary = float(binary_K.sum()) + start_rows
    return float(np.clip(within / binary, LEAST_DISPERSION, 1.0))


def worth_of_trying(mean_K: Float, sd_K: Float, noise_K: Float, rows_left: float) -> Float:
    """(K,) what is learned by pulling an arm, in payoff a pull; axes before these stay.

    It is the knowledge gradient of ten pulls for the rows that are left. Ten pulls move the
    posterior mean by N(0, s^2), s = sd^2 / sqrt(sd^2 + noise / 10); the best mean of all arms rises
    by s (z Phi(z) + phi(z)), z = -|mean - best other| / s, on every row left (Ryzhov, Powell and
    Frazier 2012).
    """
    from scipy.special import ndtr

    n_arms = mean_K.shape[-1]
    if n_arms == 1:
        return np.zeros_like(mean_K)

    # the best other arm is the best, except for the best arm itself
    # O(K), where a sort of many arms would be O(K log K).
    largest_K = np.partition(mean_K, n_arms - 2)
    second = largest_K[..., -2:-1]
    best = largest_K[..., -1:]
    other_K = np.where(mean_K >= best, second, best)

    # s, z and the expected rise of the best mean, as above
    wide_K = np.sqrt(sd_K**2 + noise_K / LOOK_AHEAD)
    move_K = np.maximum(sd_K**2 / wide_K, 1e-12)
    z_K = -np.abs(mean_K - other_K) / move_K
    density_K = np.exp(-0.5 * z_K**2) / np.sqrt(2 * np.pi)
    rise_K = move_K * (z_K * ndtr(z_K) + density_K)
    gain_K = np.maximum(rise_K, 0.0)

    return np.asarray(rows_left / LOOK_AHEAD * gain_K)


def as_array(population: Population) -> Float:
    """For a state."""
    return np.array([population.mean, population.variance, population.dispersion])


def from_array(value_3: Float) -> Population:
    """Back from a state."""
    mean, variance, dispersion = value_3.tolist()
    return replace(start(), mean=mean, variance=variance, dispersion=dispersion)
