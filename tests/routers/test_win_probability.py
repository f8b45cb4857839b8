"""P(arm wins) against adaptive quadrature and Monte Carlo; drawing from it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad_vec
from scipy.special import ndtr

from reward_router.errors import InputError
from reward_router.posterior.win_probability import (
    _by_even_points,
    _by_panels,
    mixture_win_probability,
)
from reward_router.routers import LinearThompson, choose, win_probability


def adaptive(mean, sd, weight):
    """SciPy's adaptive quadrature with break points at every component's scale.

    Returns (K,) for (K, C) mixtures.
    """
    marks = np.unique(
        np.concatenate(
            [(mean + c * sd).ravel() for c in (-8, -6, -4.5, -3, -2, -1, 0, 1, 2, 3, 4.5, 6, 8)]
        )
    )
    marks = marks[marks >= (mean - 8 * sd).min(axis=1).max()]

    own = np.eye(len(mean), dtype=bool)

    def shares(t):
        """(K,) density of arm k at t times P(all others are below t)."""
        z = (t - mean) / sd
        below = (weight * ndtr(z)).sum(axis=1)
        density = (weight * np.exp(-0.5 * z**2) / sd).sum(axis=1) / np.sqrt(2 * np.pi)
        return density * np.where(own, 1.0, below).prod(axis=1)

    # All arms at once: they share the integrand's factors, so one adaptive rule serves them.
    return quad_vec(shares, marks[0], marks[-1], epsabs=1e-10, norm="max", points=marks[1:-1])[0]


@pytest.mark.parametrize("ratio", [1.0, 10.0, 1e2, 1e4])
@pytest.mark.parametrize("arms", [2, 3, 7])
def test_win_probability_agrees_with_adaptive_quadrature(arms, ratio):
    rng = np.random.default_rng(arms + int(ratio))
    mean, sd = rng.normal(size=(2, arms)) * 0.5, ratio ** rng.uniform(-1, 0, (2, arms))
    sd[:, 0], sd[:, 1] = 1.0, 1 / ratio
    mean[1] = 0.0
    for m, s, p in zip(mean, sd, win_probability(mean, sd), strict=True):
        np.testing.assert_allclose(
            p, adaptive(m[:, None], s[:, None], np.ones((arms, 1))), atol=1e-6
        )


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [1.0, 1e2, 1e4])
@pytest.mark.parametrize("spread", [0.0, 0.3, 3.0])
def test_win_probability_agrees_with_adaptive_quadrature_for_64_arms(ratio, spread):
    rng = np.random.default_rng(int(ratio))
    mean, sd = rng.normal(size=(1, 64)) * spread, ratio ** rng.uniform(-1, 0, (1, 64))
    want = adaptive(mean[0][:, None], sd[0][:, None], np.ones((64, 1)))
    np.testing.assert_allclose(win_probability(mean, sd)[0], want, atol=1e-6)


@pytest.mark.parametrize("arms", [2, 5])
def test_mixtures_agree_with_adaptive_quadrature(arms):
    rng = np.random.default_rng(arms)
    mean, sd = rng.normal(size=(3, arms, 2)), 10 ** rng.uniform(-2.5, 0, (3, arms, 2))
    share = rng.random((3, arms, 1))
    share[0, 0] = 1.0
    weight = np.concatenate([share, 1 - share], axis=2)
    for m, s, w, p in zip(mean, sd, weight, mixture_win_probability(mean, sd, weight), strict=True):
        np.testing.assert_allclose(p, adaptive(m, s, w), atol=1e-6)


@pytest.mark.parametrize("arms", [2, 4, 16])
def test_even_points_and_panels_agree_with_each_other_and_with_adaptive_quadrature(arms):
    """Sd ratios on both sides of where even points stop.

    Among them are arms that are hopeless, far apart, or without spread.
    """
    rng = np.random.default_rng(arms)
    mean, sd = (
        rng.normal(size=(60, arms)) * 2,
        10 ** (rng.uniform(-1, 0, (60, arms)) * np.linspace(0, 4, 60)[:, None]),
    )
    mean[::7, 0], sd[3::9, -1] = 50.0, 0.0
    p, found = win_probability(mean, sd), _by_even_points(mean, sd)[1]
    assert 0 < found.sum() < 60
    panels = _by_panels(mean[..., None], sd[..., None], np.ones((60, arms, 1)))
    np.testing.assert_allclose(p, panels, atol=1e-7)
    np.testing.assert_allclose(win_probability(1e6 + mean * 1e3, sd * 1e3), p, atol=1e-7)
    alone = [win_probability(m[None], s[None])[0] for m, s in zip(mean, sd, strict=True)]
    np.testing.assert_allclose(alone, p, atol=1e-14)
    for i in (1, 2, 8, 20):
        want = adaptive(mean[i][:, None], np.maximum(sd[i], 1e-9)[:, None], np.ones((arms, 1)))
        np.testing.assert_allclose(p[i], want, atol=1e-6)


@pytest.mark.parametrize("arms", [2, 3, 5, 8, 16, 32, 64])
def test_even_points_are_close_enough_however_many_arms_are_nearly_equal(arms):
    rng = np.random.default_rng(arms)
    mean = rng.normal(size=(40, arms)) * np.repeat([0.0, 0.01, 0.1, 0.3], 10)[:, None]
    sd = 3 ** rng.uniform(-1, 1, (40, arms)) ** np.tile([9, 1], 20)[:, None]
    p, found = _by_even_points(mean, sd)
    assert found.all()
    np.testing.assert_allclose(
        p, _by_panels(mean[..., None], sd[..., None], np.ones((40, arms, 1))), atol=2e-8
    )


def test_sixty_four_equal_arms_share_exactly():
    np.testing.assert_allclose(
        win_probability(np.zeros((2, 64)), np.ones((2, 64))), 1 / 64, atol=1e-12
    )
    np.testing.assert_allclose(
        win_probability(np.zeros((1, 3)), np.zeros((1, 3))), 1 / 3, atol=1e-12
    )


def test_two_arms_have_a_closed_form():
    rng = np.random.default_rng(0)
    mean, sd = rng.normal(size=(300, 2)) * 2, 10 ** rng.uniform(-4, 1, (300, 2))
    want = ndtr((mean[:, 0] - mean[:, 1]) / np.hypot(sd[:, 0], sd[:, 1]))
    np.testing.assert_allclose(win_probability(mean, sd)[:, 0], want, atol=1e-7)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0, 1e6)), min_size=1, max_size=9),
    st.floats(-1e3, 1e3),
    st.floats(1e-3, 1e3),
)
def test_win_probability_is_a_distribution_and_ignores_location_and_scale(arms, shift, scale):
    mean, sd = np.array(arms).T[:, None]
    p = win_probability(mean, sd)
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(), 1.0, atol=1e-12)
    if sd.min() > 1e-3 * max(sd.max(), np.ptp(mean)):
        np.testing.assert_allclose(
            win_probability(mean * scale + shift * sd.max(), sd * scale), p, atol=1e-6
        )


def test_thompson_probabilities_are_the_law_of_drawing_weights():
    """5 standard errors of 200,000 draws of every arm's weight vector: P(argmax_k x'w_k)."""
    rng, arms, dim = np.random.default_rng(3), 4, 5
    router = LinearThompson(arms, dim, rng.normal(size=(arms, dim)) * 0.3, 2.0, 0.3)
    x = rng.normal(size=(40, dim))
    router.update(x, rng.integers(0, arms, 40), rng.random(40))
    q, draws = x[:3], 200_000
    p, utilities = router.probs(q), np.empty((3, arms, draws))
    for k in range(arms):
        cov = np.linalg.inv(_precision(router, k, dim))
        weights = rng.multivariate_normal(router.posterior(np.eye(dim))[0][:, k], cov, draws)
        utilities[:, k] = q @ weights.T
    share = np.stack([(utilities.argmax(axis=1) == k).mean(axis=1) for k in range(arms)], axis=1)
    assert (abs(share - p) <= 5 * np.sqrt(p * (1 - p) / draws) + 1e-9).all()


def _precision(router, k, dim):
    """The precision matrix read back through the public posterior: x'L^-1 x on a basis."""
    eye = np.eye(dim)
    pairs = np.array([eye[i] + eye[j] for i in range(dim) for j in range(dim)])
    joint = router.posterior(pairs)[1][:, k].reshape(dim, dim) ** 2
    single = router.posterior(eye)[1][:, k] ** 2
    return np.linalg.inv((joint - single[:, None] - single[None, :]) / 2)


def test_choose_inverts_the_cumulative_probabilities():
    p = np.tile([[0.2, 0.0, 0.5, 0.3, 0.0]], (100_000, 1))
    arm, propensity = choose(p, np.random.default_rng(0).random(100_000))
    share = np.bincount(arm, minlength=5) / 100_000
    assert (abs(share - p[0]) <= 5 * np.sqrt(p[0] * (1 - p[0]) / 100_000)).all()
    assert (propensity == p[0][arm]).all()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(0, 1e-3) | st.just(0.0), min_size=1, max_size=8),
    st.floats(0, 1, exclude_max=True),
)
def test_choose_never_draws_an_arm_of_probability_zero(p, u):
    row = np.array([p])
    if row.sum() == 0:
        with pytest.raises(InputError):
            choose(row, np.array([u]))
    else:
        arm, propensity = choose(row, np.array([u]))
        assert propensity[0] == row[0, arm[0]] > 0


@pytest.mark.parametrize(
    ("p", "u"),
    [
        (np.ones(3), np.zeros(3)),
        (np.ones((2, 3)), np.zeros(3)),
        (np.array([[np.nan, 1.0]]), np.zeros(1)),
        (np.array([[-0.1, 1.1]]), np.zeros(1)),
        (np.ones((1, 2)), np.ones(1)),
        (np.ones((1, 2)), np.array([np.nan])),
    ],
)
def test_choose_refuses_what_is_no_distribution(p, u):
    with pytest.raises(InputError):
        choose(p, u)
