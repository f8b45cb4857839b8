"""Laws of the calibration.

The evidence is the Gaussian's own, what was planted is found, useless strengths get scale 0.
"""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from reward_router.errors import InputError
from reward_router.features import unit_rows
from reward_router.offline.calibrate import LEVEL_SD, _arm, _profile, calibrate, level_of


def drawn(
    scale: float,
    precision: float,
    noise: float,
    seed: int = 0,
    n: int = 1500,
    k: int = 4,
    d: int = 12,
):
    draw = np.random.default_rng(seed)
    h, bt = unit_rows(draw.normal(size=(n, d))), unit_rows(draw.normal(size=(k, d)))
    weights = scale * (bt - bt.mean(0)) + draw.normal(size=(k, d)) / np.sqrt(precision)
    offset = np.linspace(-0.2, 0.2, k)
    return h, bt, h @ weights.T + offset + 0.6 + noise * draw.normal(size=(n, k))


def test_what_was_planted_is_found() -> None:
    found = [calibrate(*drawn(0.8, 50.0, 0.2, seed)) for seed in range(6)]
    assert np.mean([c.scale for c in found]) == pytest.approx(0.8, abs=0.12)
    assert np.mean([c.noise_sd for c in found]) == pytest.approx(0.2, rel=0.03)
    assert np.exp(np.mean([np.log(c.precision) for c in found])) == pytest.approx(50.0, rel=0.25)
    np.testing.assert_allclose(
        np.mean([c.offset_K for c in found], axis=0), np.linspace(-0.2, 0.2, 4), atol=0.03
    )
    assert all(c.gain > 0 for c in found)
    assert all(c.zero_precision < c.precision for c in found)


def test_the_evidence_is_the_density_of_the_payoffs() -> None:
    h, bt, y = drawn(0.5, 20.0, 0.3, n=40, k=2, d=5)
    f = h @ (bt - bt.mean(0)).T
    arms = [_arm(h, y[:, k], f[:, k]) for k in range(2)]
    values, densities = [], []
    for r in (0.01, 0.1, 1.0):
        scale, offset, variance, evidence = _profile(arms, r, True)
        cov = variance * (np.eye(40) + r * h @ h.T)
        densities.append(
            sum(
                multivariate_normal.logpdf(y[:, k], scale * f[:, k] + offset[k], cov)
                for k in range(2)
            )
        )
        values.append(evidence)
        for step in (-1e-3, 1e-3):
            worse = sum(
                multivariate_normal.logpdf(y[:, k], (scale + step) * f[:, k] + offset[k], cov)
                for k in range(2)
            )
            assert worse < densities[-1]
    np.testing.assert_allclose(np.diff(values), np.diff(densities), atol=1e-8)


def test_strengths_that_say_nothing_or_the_opposite_are_not_believed() -> None:
    h, bt, y = drawn(-0.8, 50.0, 0.2)
    wrong = calibrate(h, bt, y)
    assert wrong.scale == 0.0
    assert wrong.gain == pytest.approx(0.0, abs=1e-4)
    noise = calibrate(h, bt, np.random.default_rng(1).integers(2, size=y.shape).astype(float))
    assert noise.scale < 0.1
    assert noise.noise_sd == pytest.approx(0.5, abs=0.01)


def test_the_prior_is_worth_between_one_pair_and_those_it_was_learned_on() -> None:
    sure = calibrate(*drawn(0.8, 1e9, 0.2), most_worth=300.0)
    loose = calibrate(*drawn(0.8, 0.05, 0.2), most_worth=300.0)
    assert sure.worth == pytest.approx(300.0, rel=0.01)
    assert loose.worth == pytest.approx(1.0, rel=0.01)


def test_missing_payoffs_and_silent_arms_change_nothing_for_the_others() -> None:
    h, bt, y = drawn(0.8, 50.0, 0.2)
    rows = calibrate(h[:700], bt, y[:700])
    holes = y.copy()
    holes[700:] = np.nan
    assert calibrate(h, bt, holes).scale == pytest.approx(rows.scale, rel=1e-6)
    silent = calibrate(
        h, np.vstack([bt, bt.mean(0)]), np.column_stack([y, np.full(len(y), np.nan)])
    )
    assert silent.scale == pytest.approx(calibrate(h, bt, y).scale, rel=0.01)


def test_sources_that_disagree_loosen_the_intercepts() -> None:
    h, bt, y = drawn(0.8, 50.0, 0.2)
    source = np.arange(len(y)) % 5
    same = calibrate(h, bt, y, source)
    moved = y + np.random.default_rng(0).normal(0, 0.3, size=(5, 4))[source]
    loose = calibrate(h, bt, moved, source)
    assert loose.offset_precision < 40 < same.offset_precision


def test_intercepts_that_are_noise_are_shrunk_away() -> None:
    draw = np.random.default_rng(0)
    h, bt = unit_rows(draw.normal(size=(60, 12))), unit_rows(draw.normal(size=(5, 12)))
    size = [
        np.abs(calibrate(h, bt, draw.integers(2, size=(60, 5)).astype(float)).offset_K).max()
        for _ in range(40)
    ]
    assert np.mean(size) < 0.03
    h, bt, y = drawn(0.8, 50.0, 0.2)
    np.testing.assert_allclose(calibrate(h, bt, y).offset_K, np.linspace(-0.2, 0.2, 4), atol=0.08)


def test_bad_input_is_one_clear_line() -> None:
    h, bt, y = drawn(0.8, 50.0, 0.2, n=20)
    with pytest.raises(InputError, match=r"payoff \(P, K\)"):
        calibrate(h, bt, y[:-1])
    with pytest.raises(InputError, match="larger dev share"):
        calibrate(h, bt, np.full_like(y, np.nan))


def test_the_level_is_the_mean_arms_and_its_sd_knows_sources_and_rows() -> None:
    draw = np.random.default_rng(0)
    payoff = draw.normal(0.6, 0.2, size=(4000, 3))
    mean, sd = level_of(payoff)
    assert mean == pytest.approx(payoff.mean())
    assert sd == pytest.approx(LEVEL_SD, rel=0.01)  # one source says nothing about others
    source = np.arange(4000) % 40
    moved = payoff + draw.normal(0, 0.3, size=(40, 1))[source]
    assert level_of(moved, source)[1] == pytest.approx(0.3, rel=0.25)
    assert level_of(payoff, source)[1] == pytest.approx(
        LEVEL_SD * np.sqrt(2 / 41), rel=0.25
    )  # forty sources agree
    assert level_of(payoff[:4])[1] > level_of(payoff[:400])[1] > LEVEL_SD
    holes = payoff.copy()
    holes[:2000, 0], holes[3000:] = np.nan, np.nan
    assert level_of(holes)[0] == pytest.approx(np.nanmean(holes, axis=1)[:3000].mean())
    with pytest.raises(InputError, match="every row is NaN"):
        level_of(np.full((3, 2), np.nan))
