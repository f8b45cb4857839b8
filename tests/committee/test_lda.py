"""The discriminant against independent references."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from reward_router.committee.lda import (
    category_means,
    family_target,
    greedy_order,
    moments,
    prefix_log_odds,
    prefix_solve,
    prefix_weights,
    shrink_correlation,
)


def correlation(rng: np.random.Generator, k: int) -> np.ndarray:
    root = rng.normal(size=(k, k + 2))
    cov = root @ root.T
    return cov / np.sqrt(np.outer(np.diag(cov), np.diag(cov)))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_prefix_solve_is_the_constrained_minimum(seed, k):
    rng = np.random.default_rng(seed)
    corr, z = correlation(rng, k), rng.normal(size=k)
    w = prefix_solve(corr, z)
    best = minimize(
        lambda v: v @ corr @ v / 2 - z @ v,
        np.ones(k),
        jac=lambda v: corr @ v - z,
        bounds=[(0, None)] * k,
        method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-10},
    )
    assert (w >= 0).all()
    assert w @ corr @ w / 2 - z @ w <= best.fun + 1e-5


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 7))
def test_greedy_order_equals_conditioning_from_scratch(seed, k):
    rng = np.random.default_rng(seed)
    corr, z, cost = correlation(rng, k), rng.normal(size=k) + 0.3, rng.uniform(0.5, 2, k)
    order = greedy_order(z[None], corr[None], cost, k)[0]
    chosen: list[int] = []
    for arm in order:
        gains = np.zeros(k)
        for j in set(range(k)) - set(chosen):
            inside = (
                np.linalg.solve(
                    corr[np.ix_(chosen, chosen)], np.column_stack([z[chosen], corr[chosen, j]])
                )
                if chosen
                else np.zeros((0, 2))
            )
            left, var = z[j] - corr[j, chosen] @ inside[:, 0], 1 - corr[j, chosen] @ inside[:, 1]
            gains[j] = left**2 / var / cost[j] if left > 0 and var > 2e-3 else 0.0
        if arm < 0:
            assert gains.max() < 1e-9
            break
        assert gains[arm] >= gains.max() - 1e-7
        chosen.append(int(arm))


def test_independent_arms_add_their_log_odds():
    """With R = I the weights are 2 z / sd: naive Bayes."""
    z, sd = np.array([0.8, 0.5]), np.array([2.0, 3.0])
    weight = prefix_weights(z[None], np.eye(2)[None], np.array([[0, 1]]), sd)
    assert np.allclose(weight[0], [[0.8, 0], [0.8, 1 / 3]], rtol=1e-5)
    assert np.allclose(
        prefix_log_odds(np.array([[1.0, -2.0]]), np.array([0, 1]), weight[0]),
        [[0.8, 0.8 - 2 / 3]],
        rtol=1e-5,
    )


def test_gaussian_verdicts_recover_the_true_log_odds():
    rng = np.random.default_rng(0)
    mu, cov = np.array([0.7, 0.4]), np.array([[1.0, 0.3], [0.3, 1.0]])
    v = rng.multivariate_normal(mu, cov, 200_000)
    moment = moments(v)
    weight = prefix_weights(
        moment.z_K[None], shrink_correlation(moment, 0.0)[None], np.array([[0, 1]]), moment.sd_K
    )[0, 1]
    assert np.allclose(weight, 2 * np.linalg.solve(cov, mu), atol=0.02)


def test_duplicates_form_a_family_and_are_asked_once():
    rng = np.random.default_rng(1)
    v = rng.normal([0.8, 0.5, 0.4], 1.0, (400, 3))
    moment = moments(np.column_stack([v, v[:, 0]]))
    assert moment.target_KK[0, 3] > 0.999
    for intensity in (0.3, 1.0):
        order = greedy_order(
            moment.z_K[None], shrink_correlation(moment, intensity)[None], np.ones(4), 4
        )[0]
        assert len({0, 3} & set(order.tolist())) == 1


def test_family_target_is_block_constant_and_positive_semidefinite():
    corr = np.array(
        [[1, 0.95, 0.92, 0.1], [0.95, 1, 0.91, 0.2], [0.92, 0.91, 1, 0.0], [0.1, 0.2, 0.0, 1]]
    )
    target = family_target(corr)
    assert np.allclose(target[0, 1], (0.95 + 0.92 + 0.91) / 3)
    assert target[0, 3] == 0
    assert np.linalg.eigvalsh(target).min() > -1e-12


def test_categories_without_a_difference_stay_global():
    rng = np.random.default_rng(2)
    v, code = rng.normal(size=(3000, 2)) + 0.5, rng.integers(0, 5, 3000)
    moment = moments(v)
    assert np.abs(category_means(v, code, 6, moment)[:5] - moment.z_K).max() < 0.1
    assert (category_means(v, code, 6, moment)[5] == moment.z_K).all()
    v[code == 3] -= 1.0
    moved = category_means(v, code, 6, moments(v))
    assert (moved[3] < moved[0] - 0.7).all()


def test_weights_of_rows_are_counts():
    rng = np.random.default_rng(3)
    v = rng.normal(size=(50, 3))
    twice, weighted = (
        moments(np.vstack([v, v[:10]])),
        moments(v, np.where(np.arange(50) < 10, 2.0, 1.0)),
    )
    assert np.allclose(twice.corr_KK, weighted.corr_KK)
    assert np.allclose(twice.sd_K, weighted.sd_K)
