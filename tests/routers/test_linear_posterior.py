"""The linear routers' posterior against independent references.

These are SciPy's direct solve, the prior, and published hazards.
"""

import numpy as np
import pytest
from scipy.linalg import cho_factor, cho_solve

from reward_router.errors import InputError
from reward_router.posterior.gaussian import dual_limit, tail_rows
from reward_router.routers import LinearThompson, LinUCB


def stream(rows, dim, arms, seed=0, length=1.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, dim)) + 2 * rng.normal(size=dim)
    x *= length / np.linalg.norm(x, axis=1, keepdims=True)
    return x, rng.integers(0, arms, rows), rng.random(rows)


def direct(x, y, weights, q, precision, noise_var, prior):
    """Mean and sd of q'theta by one Cholesky solve."""
    lam = precision * np.eye(x.shape[1]) + (x * (weights / noise_var)[:, None]).T @ x
    factor = cho_factor(lam)
    theta = prior + cho_solve(factor, (x * (weights / noise_var)[:, None]).T @ (y - x @ prior))
    return q @ theta, np.sqrt(np.einsum("qd,dq->q", q, cho_solve(factor, q.T)))


@pytest.mark.parametrize("dim", [8, 48, 96])
@pytest.mark.parametrize("precision", [1e-3, 1.0])
@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_posterior_equals_the_direct_solve_after_ten_thousand_updates(dim, precision, noise):
    x, a, y = stream(10_000, dim, 3)
    prior = np.random.default_rng(1).normal(size=(3, dim)) * 0.1
    router = LinearThompson(3, dim, prior, precision, noise)
    router.update(x, a, y)
    q = stream(20, dim, 3, 7)[0]
    mean, sd = router.posterior(q)
    for k in range(3):
        want_mean, want_sd = direct(x, y, (a == k).astype(float), q, precision, noise**2, prior[k])
        np.testing.assert_allclose(mean[:, k], want_mean, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(sd[:, k], want_sd, rtol=1e-9)


@pytest.mark.parametrize("dim", [96, 200])
def test_posterior_is_exact_on_both_sides_of_every_form_switch(dim):
    x, _, y = stream(dual_limit(dim) + 3 * tail_rows(dim), dim, 1)
    router, q = LinUCB(1, dim, ridge=0.1), stream(5, dim, 1, 3)[0]
    edges = {
        1,
        tail_rows(dim) - 1,
        tail_rows(dim),
        tail_rows(dim) + 1,
        dual_limit(dim) - 1,
        dual_limit(dim),
        dual_limit(dim) + 1,
    }
    for i in range(len(x)):
        router.update(x[i : i + 1], np.array([0]), y[i : i + 1])
        if i + 1 in edges:
            mean, sd = router.posterior(q)
            want_mean, want_sd = direct(
                x[: i + 1], y[: i + 1], np.ones(i + 1), q, 0.1, 1.0, np.zeros(dim)
            )
            np.testing.assert_allclose(mean[:, 0], want_mean, atol=1e-10)
            np.testing.assert_allclose(sd[:, 0], want_sd, rtol=1e-10)
            one_mean, one_sd = router.posterior(q[:1])
            np.testing.assert_allclose(one_mean[0], mean[0], atol=1e-12)
            np.testing.assert_allclose(one_sd[0], sd[0], rtol=1e-9)


def test_sd_is_within_one_percent_for_raw_hidden_states():
    x, _, y = stream(3_000, 128, 1, length=60.0)
    router = LinUCB(1, 128, ridge=1e-4)
    router.update(x, np.zeros(len(x), int), y)
    q = stream(20, 128, 1, 5, length=60.0)[0]
    want_mean, want_sd = direct(x, y, np.ones(len(x)), q, 1e-4, 1.0, np.zeros(128))
    mean, sd = router.posterior(q)
    np.testing.assert_allclose(sd[:, 0], want_sd, rtol=1e-2)
    np.testing.assert_allclose(mean[:, 0], want_mean, atol=1e-4)


def test_float32_promotes_itself_where_it_would_err():
    x, a, y = stream(1_000, 128, 2, length=60.0)
    router = LinUCB(2, 128, ridge=1e-4, dtype=np.float32)
    with pytest.warns(RuntimeWarning, match="promoted to float64"):
        router.update(x, a, y)
    assert router.model.dtype == np.float64
    q = stream(20, 128, 1, 5, length=60.0)[0]
    for k in range(2):
        want_sd = direct(x, y, (a == k).astype(float), q, 1e-4, 1.0, np.zeros(128))[1]
        np.testing.assert_allclose(router.posterior(q)[1][:, k], want_sd, rtol=1e-2)
    restored = LinUCB(2, 128, ridge=1e-4, dtype=np.float32)
    restored.load_state_dict(router.state_dict())
    assert (restored.posterior(q)[1] == router.posterior(q)[1]).all()


def test_float32_holds_unit_contexts_to_a_thousandth():
    x, a, y = stream(5_000, 64, 2)
    router = LinUCB(2, 64, ridge=1e-3, dtype=np.float32)
    router.update(x, a, y)
    q = stream(20, 64, 2, 5)[0]
    assert router.model.dtype == np.float32
    want_sd = direct(x, y, (a == 0).astype(float), q, 1e-3, 1.0, np.zeros(64))[1]
    np.testing.assert_allclose(router.posterior(q)[1][:, 0], want_sd, rtol=1e-3)


@pytest.mark.parametrize("noise", [0.3, 1.0])
@pytest.mark.parametrize("precision", [0.1, 1.0, 10.0])
def test_cold_width_is_the_priors(precision, noise):
    x = stream(5, 7, 1)[0] * 3
    length = np.linalg.norm(x, axis=1)
    for router in (LinUCB(2, 7, ridge=precision), LinearThompson(2, 7, None, precision, noise)):
        mean, sd = router.posterior(x)
        np.testing.assert_allclose(
            sd, np.repeat(length[:, None], 2, 1) / np.sqrt(precision), rtol=1e-12
        )
        assert (mean == 0).all()


@pytest.mark.parametrize(
    "make",
    [LinUCB, lambda k, d: LinearThompson(k, d, noise_sd=0.3), lambda k, d: LinUCB(k, d, window=20)],
)
def test_variance_along_a_context_shrinks_with_data_along_it(make):
    router, x = make(2, 5), np.eye(5)[:1]
    last = router.posterior(x)[1][0, 0]
    for _ in range(15):
        router.update(x, np.array([0]), np.array([0.5]))
        mean, sd = router.posterior(x)
        assert sd[0, 0] < last
        last = sd[0, 0]
    assert (mean[0, 1], sd[0, 1]) == tuple(
        float(m[0, 1]) for m in make(2, 5).posterior(x)
    )  # the other arm is at its prior


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"discount": 0.97},
        {"window": 50},
        {"huber": 0.4},
        {"trust": 0.5},
        {"trust": 0.5, "window": 50},
    ],
)
@pytest.mark.parametrize("shift", [-3.0, 100.0])
def test_payoff_shifts_change_nothing_where_centring_is_on(keywords, shift):
    x, a, y = stream(200, 6, 3)
    prior = np.random.default_rng(2).normal(size=(3, 6)) * 0.3
    plain, shifted = (
        LinearThompson(3, 6, prior, noise_sd=0.3, center=True, intercept=1.0, **keywords)
        for _ in range(2)
    )
    plain.update(x[:1], a[:1], y[:1])
    shifted.update(x[:1], a[:1], y[:1] + shift)
    for i in range(1, 200, 20):
        plain.update(x[i : i + 20], a[i : i + 20], y[i : i + 20])
        shifted.update(x[i : i + 20], a[i : i + 20], y[i : i + 20] + shift)
    np.testing.assert_allclose(shifted.probs(x), plain.probs(x), atol=1e-8)
    np.testing.assert_allclose(shifted.posterior(x)[0] - shift, plain.posterior(x)[0], atol=1e-8)


@pytest.mark.parametrize(
    "keywords", [{"discount": 0.9}, {"window": 60}, {"discount": 0.95, "window": 100}]
)
@pytest.mark.parametrize("dim", [4, 80])
def test_without_new_data_forgetting_returns_an_arm_to_its_prior(keywords, dim):
    x, _, y = stream(300, dim, 1)
    prior = np.random.default_rng(2).normal(size=(2, dim)) * 0.3
    router, cold = (
        LinearThompson(2, dim, prior, 0.7, 0.3, **keywords),
        LinearThompson(2, dim, prior, 0.7, 0.3),
    )
    router.update(x[:100], np.zeros(100, int), y[:100])
    away = abs(router.posterior(x[:5])[1][:, 0] - cold.posterior(x[:5])[1][:, 0]).min()
    assert away > 0.05
    for _ in range(8):
        router.update(x[100:], np.ones(200, int), y[100:])
    for got, want in zip(router.posterior(x[:5]), cold.posterior(x[:5]), strict=True):
        np.testing.assert_allclose(got[:, 0], want[:, 0], atol=1e-9)


@pytest.mark.parametrize(
    "keywords", [{"discount": 0.97}, {"window": 70}, {"discount": 0.98, "window": 150}]
)
@pytest.mark.parametrize("dim", [5, 40, 90])
def test_forgetting_equals_the_direct_solve_on_weighted_rows(keywords, dim):
    x, a, y = stream(400, dim, 2)
    prior = np.random.default_rng(1).normal(size=(2, dim)) * 0.1
    router = LinearThompson(2, dim, prior, 0.5, 0.3, **keywords)
    router.update(x, a, y)
    age = np.arange(399, -1, -1)
    fade = keywords.get("discount", 1.0) ** age * (age < keywords.get("window", np.inf))
    mean, sd = router.posterior(x[:9])
    for k in range(2):
        want_mean, want_sd = direct(x, y, fade * (a == k), x[:9], 0.5, 0.09, prior[k])
        np.testing.assert_allclose(mean[:, k], want_mean, atol=1e-9)
        np.testing.assert_allclose(sd[:, k], want_sd, rtol=1e-9)


def test_an_intercept_has_its_own_precision():
    x, a, y = stream(80, 6, 1)
    router = LinearThompson(1, 6, None, 2.0, 0.5, intercept=0.1)
    router.update(x, a, y)
    wide = np.concatenate([x, np.ones((80, 1))], axis=1)
    lam = np.diag([2.0] * 6 + [0.1]) + wide.T @ wide / 0.25
    theta = np.linalg.solve(lam, wide.T @ y / 0.25)
    np.testing.assert_allclose(router.posterior(x)[0][:, 0], wide @ theta, atol=1e-11)
    want_sd = np.sqrt(np.einsum("bd,bd->b", wide, np.linalg.solve(lam, wide.T).T))
    np.testing.assert_allclose(router.posterior(x)[1][:, 0], want_sd, rtol=1e-11)


def test_the_mixture_weighs_components_by_evidence_and_adds_the_variance_between_them():
    x, _, y = stream(60, 4, 1)
    prior = np.array([[0.6, -0.2, 0.1, 0.3]])
    router = LinearThompson(
        1, 4, prior, 2.0, 0.4, trust=0.3, trust_precision=0.5, trust_discount=1.0
    )
    router.update(x, np.zeros(60, int), y)
    log, means, sds = [], [], []
    for mu, precision in ((prior[0], 2.0), (np.zeros(4), 0.5)):
        cov = x @ x.T / precision + 0.16 * np.eye(60)
        r = y - x @ mu
        log.append(-0.5 * r @ np.linalg.solve(cov, r) - 0.5 * np.linalg.slogdet(cov)[1])
        mean, sd = direct(x, y, np.ones(60), x[:3], precision, 0.16, mu)
        means.append(mean)
        sds.append(sd)
    w = np.array([0.3, 0.7]) * np.exp(np.array(log) - max(log))
    w /= w.sum()
    np.testing.assert_allclose(router.trust()[0], w[0], rtol=1e-9)
    want_mean = w @ means
    want_var = w @ (np.square(sds) + np.square(means - want_mean))
    mean, sd = router.posterior(x[:3])
    np.testing.assert_allclose(mean[:, 0], want_mean, atol=1e-10)
    np.testing.assert_allclose(sd[:, 0] ** 2, want_var, rtol=1e-9)


def test_the_limits_are_named():
    with pytest.raises(InputError, match="normalise contexts"):
        LinUCB(2, 2, ridge=1e-6).probs(np.full((1, 2), 1e5))
    with pytest.raises(InputError, match="n_arms must lie in"):
        LinUCB(0, 2)
    with pytest.raises(InputError, match="prior_mean must have one row an arm"):
        LinearThompson(2, 3, np.zeros((3, 3)))
    with pytest.raises(InputError, match="float32 or float64"):
        LinUCB(2, 3, dtype=np.int32)
    with pytest.raises(InputError, match="learned under other options"):
        LinUCB(2, 3, ridge=2.0).load_state_dict(LinUCB(2, 3).state_dict())
