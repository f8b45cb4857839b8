"""Laws of the calibration that the product uses, on drawn payoffs."""

import numpy as np
import pytest

from reward_router.features import unit_rows
from reward_router.offline.apart import LearnedRows, calibrate_apart
from reward_router.offline.calibrate import LEVEL_SD


def drawn(n_arms=20, n=240, seed=0):
    """Rows, strengths and payoffs of 0 and 1 of arms that differ by .1 (sd) in all contexts."""
    draw = np.random.default_rng(seed)
    h = unit_rows(draw.normal(size=(n, 12)))
    bt = unit_rows(draw.normal(size=(n_arms, 12)))
    share = np.clip(0.6 + draw.normal(0, 0.1, n_arms), 0.05, 0.95)
    payoff = (draw.random((n, n_arms)) < share).astype(float)
    return h, bt, payoff, np.arange(n) % 5 == 0


def calibrated(h, bt, payoff, dev, most_worth=None, **changed):
    given = {"unit_R": np.arange(len(h)), "dev_R": dev} | changed
    return calibrate_apart(LearnedRows(h, payoff, **given), bt, most_worth or float(len(h)))


def forecast(found, h, bt):
    return found.scale * h @ (bt - bt.mean(axis=0)).T + found.offset_K


def test_the_mean_forecast_is_an_arms_shrunk_mean_over_all_rows():
    h, bt, payoff, dev = drawn()
    found = calibrated(h, bt, payoff, dev)
    overall = payoff.mean(axis=0) - payoff.mean()
    foretold = forecast(found, h, bt).mean(axis=0)
    share = foretold @ overall / (overall @ overall)
    assert 0.5 < share < 1
    np.testing.assert_allclose(foretold, share * overall, atol=1e-12)
    # James and Stein: the part of the spread that is no noise of the means
    noise = np.mean((payoff - payoff.mean(axis=1, keepdims=True)).var(axis=0)) / len(h)
    assert share == pytest.approx(1 - noise / (overall @ overall / 19), rel=1e-9)


def test_luck_on_the_dev_rows_does_not_name_the_best_arm():
    """The arm that is best on 240 rows, not the one that is best on 48 of them."""
    named = 0
    for seed in range(10):
        h, bt, payoff, dev = drawn(seed=seed)
        of_dev = payoff[dev].mean(axis=0).argmax()
        best = payoff.mean(axis=0).argmax()
        named += best == of_dev
        mean = forecast(calibrated(h, bt, payoff, dev), h, bt).mean(axis=0)
        assert mean.argmax() == best
    assert named < 10  # the dev rows alone would have named others


def test_strengths_that_foretell_contexts_keep_their_scale():
    draw = np.random.default_rng(1)
    h, bt, _, _ = drawn(4, 1500)
    dev = np.arange(1500) % 3 == 0
    share = np.clip(0.5 + 0.5 * h @ (bt - bt.mean(axis=0)).T + [0.2, 0.0, 0.0, -0.2], 0, 1)
    payoff = (draw.random(share.shape) < share).astype(float)
    found = calibrated(h, bt, payoff, dev)
    assert 0.3 < found.scale < 0.5  # a lower bound of .5
    np.testing.assert_allclose(found.offset_K, [0.2, 0, 0, -0.2], atol=0.06)


def test_contexts_that_strengths_cannot_tell_from_noise_are_left_out():
    """Payoffs that know nothing of contexts: nine in ten draws give no scale."""
    scales = []
    for seed in range(40):
        h, bt, payoff, dev = drawn(seed=seed)
        scales.append(calibrated(h, bt, payoff, dev).scale)
    assert np.mean(np.array(scales) == 0) > 0.85
    assert max(scales) < 0.15


def test_arms_that_err_together_are_one_witness_for_contexts():
    """Ten copies of every arm tell no more than one."""
    h, bt, _, _ = drawn(4, 300)
    dev = np.arange(300) % 3 == 0
    draw = np.random.default_rng(2)
    share = np.clip(0.5 + 0.4 * h @ (bt - bt.mean(axis=0)).T, 0, 1)
    payoff = (draw.random(share.shape) < share).astype(float)
    one = calibrated(h, bt, payoff, dev)
    ten = calibrated(h, np.tile(bt, (10, 1)), np.tile(payoff, (1, 10)), dev)
    assert 0 < one.scale < 0.4
    assert ten.scale == pytest.approx(one.scale, abs=0.03)


def test_rows_of_one_context_are_one_and_a_silent_arm_is_the_mean_arm():
    h, bt, payoff, dev = drawn(6, 60)
    once = calibrated(h, bt, payoff, dev)
    twice = calibrated(
        np.repeat(h, 2, axis=0),
        bt,
        np.repeat(payoff, 2, axis=0),
        np.repeat(dev, 2),
        unit_R=np.repeat(np.arange(60), 2),
        most_worth=60.0,
    )
    np.testing.assert_allclose(twice.offset_K, once.offset_K, atol=1e-9)
    payoff[:, 3] = np.nan
    assert calibrated(h, bt, payoff, dev).offset_K[3] == 0


def test_sources_that_disagree_loosen_the_intercepts():
    h, bt, payoff, dev = drawn(4, 500)
    source = np.arange(500) // 5 % 5
    moved = payoff + np.random.default_rng(0).normal(0, 0.3, size=(5, 4))[source]
    near = calibrated(h, bt, moved, dev)
    far = calibrated(h, bt, moved, dev, sources=source)
    assert far.offset_precision < near.offset_precision / 4


def test_the_level_is_known_to_its_sampling_error_on_the_same_source_and_less_well_elsewhere():
    h, bt, payoff, dev = drawn(5, 400)
    mean, sd = calibrated(h, bt, payoff, dev).level
    assert mean == pytest.approx(payoff.mean())
    assert sd == pytest.approx(payoff.mean(axis=1).std() / 20, rel=1e-9)
    elsewhere = calibrated(h, bt, payoff, dev, sources=np.zeros(400)).level
    assert elsewhere[1] > LEVEL_SD
