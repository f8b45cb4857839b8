"""The stopping rule against brute force, temperatures against a search."""

import numpy as np
from scipy.optimize import minimize_scalar

from reward_router.committee.stop import PRICE_GRID, at_price, boundaries, sigmoid, temperatures


def going_on(log_odds: np.ndarray, stage: int, steps: list[np.ndarray], price: float) -> np.ndarray:
    """Exact value of asking arm ``stage`` at each log-odds.

    It is a recursion over all its quantiles, without a grid.
    """
    p = sigmoid(log_odds)[..., None]
    up, down = log_odds[..., None] + steps[stage], log_odds[..., None] - steps[stage]
    return (
        p * best_value(up, stage + 1, steps, price)
        + (1 - p) * best_value(down, stage + 1, steps, price)
    ).mean(-1) - price


def best_value(
    log_odds: np.ndarray, stage: int, steps: list[np.ndarray], price: float
) -> np.ndarray:
    now = np.maximum(sigmoid(log_odds), sigmoid(-log_odds))
    return now if stage == len(steps) else np.maximum(now, going_on(log_odds, stage, steps, price))


def test_bounds_agree_with_exact_recursion():
    rows = np.random.default_rng(4).normal(0.5, 1.0, (400, 3))
    steps = [np.quantile(rows[:, t], (np.arange(41) + 0.5) / 41) for t in (1, 2)]
    for price in (0.005, 0.02, 0.05):
        bound = boundaries(rows, np.ones(3), np.array([price]))[:, 0]
        for stage in (0, 1):
            around = np.array([bound[stage] - 0.08, bound[stage] + 0.08])
            inside, outside = going_on(around, stage, steps, price) > np.maximum(
                sigmoid(around), sigmoid(-around)
            )
            assert inside
            assert not outside
        assert bound[2] == 0


def test_a_higher_price_never_asks_more():
    rng = np.random.default_rng(0)
    bound = boundaries(rng.normal(0.4, 1.0, (500, 6)), np.ones(6))
    assert (np.diff(bound, axis=1) <= 1e-12).all()
    assert (bound[:, -1] == 0).all()


def test_a_dearer_arm_is_asked_less():
    rows = np.random.default_rng(0).normal(0.4, 1.0, (500, 3))
    cheap, dear = (
        boundaries(rows, np.array([1.0, 1.0, 1.0]), np.array([0.01])),
        boundaries(rows, np.array([1.0, 4.0, 1.0]), np.array([0.01])),
    )
    assert dear[0, 0] < cheap[0, 0]


def test_silent_arms_are_not_asked():
    assert (boundaries(np.zeros((50, 4)), np.ones(4), np.array([0.001])) == 0).all()


def test_prices_between_the_grid_are_interpolated():
    bound = boundaries(np.random.default_rng(0).normal(0.4, 1.0, (300, 3)), np.ones(3))
    assert np.allclose(at_price(bound, float(PRICE_GRID[20])), bound[:, 20])
    assert (at_price(bound, 0.0) == bound[:, 0]).all()
    assert (at_price(bound, 50.0) == bound[:, -1]).all()


def test_temperature_minimises_log_loss():
    rng = np.random.default_rng(0)
    sign = np.where(rng.random(2000) < 0.5, 1.0, -1.0)
    truth = rng.normal(0.8, 1.0, 2000) * sign
    for scale in (0.9, 3.0):
        path = np.repeat((truth * 1.6 * scale)[:, None], 3, axis=1)
        best = minimize_scalar(
            lambda t, p=path: np.logaddexp(0, -t * p[:, 0] * sign).mean(),
            bounds=(0.02, 1.5),
            method="bounded",
        ).x
        assert np.allclose(temperatures(path, sign), best, atol=2e-3)
