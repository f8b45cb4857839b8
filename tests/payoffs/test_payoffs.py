"""The quantile scaler against numpy on the same history, and the payoff formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_router.errors import InputError
from reward_router.payoffs import (
    QuantileScaler,
    full_advantage,
    improvement,
    light_advantage,
    neg_loss,
)

VALUES = st.lists(st.floats(-1e6, 1e6).map(lambda v: round(v, 3)), max_size=60)


def reference(
    history: list[float], value: float, low: float, high: float, warmup: int, window: int | None
) -> float:
    kept = history if window is None else history[-window:]
    if len(kept) < warmup:
        return 0.5
    lo, hi = np.quantile(kept, low), np.quantile(kept, high)
    return 0.5 if hi - lo < 1e-12 else float(np.clip((value - lo) / (hi - lo), 0, 1))


@given(
    VALUES, st.sampled_from([None, 5, 9]), st.sampled_from([(0.2, 0.8), (0.0, 1.0), (0.1, 0.45)])
)
@settings(deadline=None)
def test_scale_is_the_quantile_law_of_the_history_before(values, window, quantiles):
    scaler = QuantileScaler(*quantiles, warmup=3, window=window)
    history: list[float] = []
    for value in values:
        assert scaler.scale(value) == pytest.approx(
            reference(history, value, *quantiles, 3, window), abs=1e-6
        )
        history.append(value)


@given(VALUES, VALUES, st.sampled_from([None, 5, 9]))
@settings(deadline=None)
def test_preview_is_scale_and_changes_nothing(before, values, window):
    a, b = QuantileScaler(warmup=3, window=window), QuantileScaler(warmup=3, window=window)
    for value in before:
        a.scale(value)
        b.push(value + 0.0)
    frozen = b.state_dict()["history"].tobytes()
    previewed = b.preview(values)
    assert b.state_dict()["history"].tobytes() == frozen
    assert previewed == [a.scale(v) for v in values]


@given(VALUES.filter(lambda v: len(v) > 1), st.randoms())
def test_scaled_together_does_not_depend_on_the_order(values, random):
    together = dict(zip(values, QuantileScaler().scale_together(values), strict=True))
    random.shuffle(values)
    assert QuantileScaler().scale_together(values) == [together[v] for v in values]


@given(VALUES, VALUES, st.sampled_from([None, 7]))
@settings(deadline=None)
def test_state_round_trip_is_bitwise_and_goes_on_alike(before, after, window):
    a = QuantileScaler(window=window)
    for value in before:
        a.scale(value)
    b = QuantileScaler(window=window)
    b.load_state_dict(a.state_dict())
    assert [a.scale(v) for v in after] == [b.scale(v) for v in after]
    assert a.state_dict()["history"].tobytes() == b.state_dict()["history"].tobytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, "x", None])
def test_what_is_not_finite_is_refused_and_not_remembered(bad):
    scaler = QuantileScaler()
    with pytest.raises(InputError):
        scaler.scale(bad)
    assert len(scaler) == 0


@pytest.mark.parametrize(
    "arguments",
    [{"low": 0.8, "high": 0.2}, {"low": -0.1}, {"high": 1.1}, {"warmup": 0}, {"window": 3}],
)
def test_settings_out_of_range_are_refused(arguments):
    with pytest.raises(InputError):
        QuantileScaler(**arguments)


@pytest.mark.parametrize(
    "state",
    [{}, {"history": np.zeros((2, 2))}, {"history": np.array([np.nan])}, {"history": np.zeros(9)}],
)
def test_a_wrong_state_is_refused(state):
    scaler = QuantileScaler(window=7)
    scaler.scale(1.0)
    with pytest.raises(InputError):
        scaler.load_state_dict(state)
    assert len(scaler) == 1


def test_a_constant_history_gives_one_half():
    scaler = QuantileScaler()
    assert [scaler.scale(3.0) for _ in range(9)] == [0.5] * 9


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=20))
def test_the_lower_loss_has_the_higher_payoff(losses):
    loss = np.array(losses)
    for payoff in (neg_loss(loss), light_advantage(loss), improvement(np.zeros(len(loss)), loss)):
        assert (payoff[np.argsort(loss)] == np.sort(payoff)[::-1]).all()
    assert light_advantage(loss).sum() == pytest.approx(0, abs=1e-9)


@given(st.integers(-5, 5), st.lists(st.integers(-5, 5), min_size=1, max_size=5))
def test_full_advantage_is_the_sign_of_the_mean_minus_own(own, arms):
    sign = float(full_advantage([own], [arms])[0])
    gap = sum(arms) - own * len(arms)
    assert np.isnan(sign) if gap == 0 else sign == float(gap > 0)


def test_full_advantage_of_a_tie_is_no_update():
    assert np.isnan(full_advantage([1.0], [[1.0, 1.0]])).all()


@pytest.mark.parametrize("bad", [[[1.0]], [np.nan], [np.inf]])
def test_losses_that_are_not_finite_vectors_are_refused(bad):
    for formula in (
        neg_loss,
        light_advantage,
        lambda x: improvement(x, x),
        lambda x: full_advantage(x, [[0.0]]),
    ):
        with pytest.raises(InputError):
            formula(bad)
