"""Laws of the calibrator and of the aggregates that need it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from reward_router.committee import Calibrator, mean, median, uwo, wco
from reward_router.committee.calibrate import fit_curves, rank_knots
from reward_router.errors import InputError

numbers = st.floats(-50, 50, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(numbers, st.booleans()), min_size=1, max_size=60),
    st.lists(numbers, min_size=2, max_size=8),
)
def test_monotone_odd_and_silent_on_ties(rows, queries):
    margins, labels = np.array([[m] for m, _ in rows]), np.array([y for _, y in rows])
    calibrator = Calibrator(1).fit(margins, labels)
    x = calibrator.log_odds(np.array(sorted(queries))[:, None])[:, 0]
    assert (np.diff(x) >= -1e-12).all()
    assert np.allclose(calibrator.log_odds(-np.array(sorted(queries))[:, None])[:, 0], -x)
    assert (calibrator.log_odds([[0.0], [np.nan]]) == 0).all()


def test_map_agrees_with_a_general_optimiser():
    rng = np.random.default_rng(0)
    rank, right, used = (
        rng.random((80, 3)),
        (rng.random((80, 3)) < 0.7) * 1.0,
        (rng.random((80, 3)) < 0.9) * 1.0,
    )
    right[:, 2] = rank[:, 2] < 0.5
    a, b = fit_curves(rank, right, used, 4.0, 2.0)
    for k in range(3):

        def loss(w, k=k):
            logit = w[0] + w[1] * (rank[:, k] - 0.5)
            data = used[:, k] * (np.logaddexp(0, logit) - right[:, k] * logit)
            return data.sum() + 2 * np.logaddexp(0, w[0]) + 2 * np.logaddexp(0, -w[0]) + w[1] ** 2

        best = minimize(
            loss,
            [0.0, 0.1],
            bounds=[(None, None), (0, None)],
            method="L-BFGS-B",
            options={"ftol": 1e-15, "gtol": 1e-10},
        )
        assert np.allclose([a[k], b[k]], best.x, atol=1e-4)
    assert b[2] == 0


def test_few_labels_stay_near_a_coin():
    one = Calibrator(1).fit([[3.0]], [True]).log_odds([[3.0]])[0, 0]
    many = Calibrator(1).fit(np.full((200, 1), 3.0), np.ones(200, bool)).log_odds([[3.0]])[0, 0]
    assert 0 < one < 0.5 < 2 < many


def test_rescaling_an_arm_changes_nothing(made):
    margins, label = made(200, [1.0, 0.3])
    plain = Calibrator(2).fit(margins, label).log_odds(margins)
    scaled = Calibrator(2).fit(margins * [1000.0, 0.001], label).log_odds(margins * [1000.0, 0.001])
    assert np.allclose(plain, scaled)


def test_probabilities_are_calibrated_on_fresh_rows(made):
    margins, label = made(4000, [0.7])
    x = Calibrator(1).fit(margins[:2000], label[:2000]).log_odds(margins[2000:])[:, 0]
    p, y = 1 / (1 + np.exp(-x)), label[2000:]
    for low, high in ((0.1, 0.3), (0.3, 0.5), (0.5, 0.7), (0.7, 0.9)):
        inside = (p > low) & (p <= high)
        assert abs(p[inside].mean() - y[inside].mean()) < 4 * 0.5 / np.sqrt(inside.sum())


def test_knots_are_capped_and_midranks_are_exact():
    values, rank = rank_knots(np.array([0.0, 1.0, 1.0, 2.0]))
    assert values.tolist() == [1.0, 2.0]
    assert np.allclose(rank, [1 / 3, 5 / 6])
    assert len(rank_knots(np.arange(1.0, 5000.0))[0]) == 256


def test_state_is_restored_bit_for_bit(made):
    margins, label = made(100, [1.0, 0.2, 0.5])
    margins[:, 1] = np.sign(margins[:, 1])
    first, second = Calibrator(3).fit(margins, label), Calibrator(3)
    second.load_state_dict(first.state_dict())
    assert (first.log_odds(margins) == second.log_odds(margins)).all()
    with pytest.raises(InputError, match="3 arms"):
        Calibrator(2).load_state_dict(first.state_dict())


@pytest.mark.parametrize(
    ("margins", "labels", "words"),
    [
        ([1.0, 2.0], [True, False], "shape"),
        ([[1.0], [np.inf]], [True, False], "infinite"),
        ([[1.0], [2.0]], [True], "one a row"),
        ([[1.0], [2.0]], [2, 0], "true"),
        ([[1.0, 2.0]], [True], "columns"),
    ],
)
def test_bad_input_is_named(margins, labels, words):
    with pytest.raises(InputError, match=words):
        Calibrator(1).fit(margins, labels)


@pytest.mark.parametrize("aggregate", [mean, median, wco, uwo])
def test_aggregates_refuse_uncalibrated_arms(aggregate, made):
    margins, label = made(60, [1.0, 1.0])
    margins[5:, 1] = np.nan
    with pytest.raises(InputError, match="share no scale"):
        aggregate([[1.0, 2.0]], None)
    calibrator = Calibrator(2).fit(margins, label)
    with pytest.raises(InputError, match=r"1 \(5 labels\)"):
        aggregate([[1.0, 2.0], [0.0, 1.0]], calibrator)
    assert np.isfinite(aggregate([[1.0, np.nan], [0.0, np.nan]], calibrator)).all()


def test_aggregates_are_what_their_names_say(made):
    margins, label = made(200, [1.0, 0.8, 0.6])
    calibrator = Calibrator(3).fit(margins, label)
    scores = np.array([[2.0, 1.0, np.nan], [0.0, 3.0, np.nan], [1.0, 0.0, np.nan], [np.nan] * 3])
    values = np.stack([calibrator.response_values(scores[:, k], k) for k in range(2)], axis=1)
    assert np.allclose(mean(scores, calibrator)[:3], values[:3].mean(1))
    assert np.allclose(median(scores, calibrator)[:3], np.median(values[:3], axis=1))
    assert np.allclose(wco(scores, calibrator)[:3], values[:3].min(1))
    assert np.allclose(uwo(scores, calibrator, 2.0)[:3], values[:3].mean(1) - 2 * values[:3].var(1))
    assert np.isnan(mean(scores, calibrator)[3])
    assert np.allclose(np.nansum(values, axis=0), 0)
