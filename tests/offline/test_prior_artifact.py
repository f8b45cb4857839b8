"""The artifact: what is saved is what is loaded.

What does not belong is refused by name, and the router starts where it says.
"""

import hashlib
import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from reward_router.errors import InputError
from reward_router.features import unit_rows
from reward_router.offline.calibrate import Calibration
from reward_router.offline.encoder import EncoderId, PairEncoder, TextEncoder
from reward_router.offline.prior import Prior, load_prior, save_prior
from reward_router.offline.strengths import fit_strengths

ARMS = ("alpha", "beta", "gamma")
WORDS = ("red", "green", "blue", "seven", "nine", "to", "and", "of")


def texts(n: int, seed: int = 0) -> tuple[list[str], list[str], list[str]]:
    draw = np.random.default_rng(seed)
    prompts, first, second = (
        [" ".join(draw.choice(WORDS, size=draw.integers(3, 9))) for _ in range(n)] for _ in range(3)
    )
    return prompts, first, second


@pytest.fixture(scope="module")
def made() -> Prior:
    encoder = TextEncoder("tiny", max_tokens=64)
    features = encoder.features(*texts(60))
    right = np.random.default_rng(0).integers(2, size=(60, 3)).astype(float)
    strengths = fit_strengths(features, right, np.arange(60), dim=6, epochs=2)
    calibration = Calibration(
        0.7, 40.0, 0.4, np.array([-0.1, 0.0, 0.1]), 25.0, 10.0, 0.01, 180, (0.6, 0.1)
    )
    return Prior(
        ARMS,
        strengths,
        calibration,
        encoder.id,
        "abc",
        {"dev": 0.7},
        {"seed": 0},
        {"numpy": np.__version__},
        fingerprints={"alpha": "metric-1"},
    )


def test_what_is_saved_is_what_is_loaded(made: Prior, tmp_path: Path) -> None:
    saved = save_prior(made, tmp_path / "prior")
    again = load_prior(tmp_path / "prior")
    assert saved.folder == again.folder
    for name, value in saved.strengths.arrays().items():
        np.testing.assert_array_equal(value, again.strengths.arrays()[name])
        assert value.dtype == again.strengths.arrays()[name].dtype == np.float64
        np.testing.assert_allclose(value, made.strengths.arrays()[name], rtol=1e-6, atol=1e-9)
    assert again.arms == ARMS
    assert again.encoder_id == made.encoder_id
    assert (again.data_hash, again.metrics, again.config) == ("abc", {"dev": 0.7}, {"seed": 0})
    assert again.fingerprints == made.fingerprints != {}
    names = [f.name for f in fields(Calibration) if f.name != "offset_K"]
    assert [getattr(again.calibration, n) for n in names] == [
        getattr(made.calibration, n) for n in names
    ]
    np.testing.assert_array_equal(again.calibration.offset_K, saved.calibration.offset_K)
    np.testing.assert_allclose(again.calibration.offset_K, made.calibration.offset_K, rtol=1e-6)


def test_a_shipped_size_is_tens_of_kilobytes(tmp_path: Path) -> None:
    """MiniLM's features of a pair with its prompt, and 16 dimensions.

    The packaged prior has these.
    """
    draw, right_PK = np.random.default_rng(0), np.tile(np.eye(7), (9, 1))
    features_PF = draw.normal(size=(63, 3 * 384))
    strengths = fit_strengths(features_PF, right_PK, np.arange(63), dim=16, epochs=1, dev=0.5)
    calibration = Calibration(0.7, 40.0, 0.4, np.zeros(7), 25.0, 10.0, 0.01, 180, (0.6, 0.1))
    encoder = EncoderId("all-minilm-l6-v2", "w", "mean", 256)
    save_prior(Prior(tuple("abcdefg"), strengths, calibration, encoder), tmp_path)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 100_000
    assert {value.dtype for value in load_file(tmp_path / "prior.safetensors").values()} == {
        np.dtype(np.float32)
    }


def test_an_artifact_as_it_was_before_loads(made: Prior, tmp_path: Path) -> None:
    """Float64 arrays, no fingerprints."""
    save_prior(made, tmp_path)
    tensors = tmp_path / "prior.safetensors"
    save_file(
        {name: value.astype(np.float64) for name, value in load_file(tensors).items()}, tensors
    )
    about = json.loads((tmp_path / "prior.json").read_text())
    del about["fingerprints"]
    about["tensors"] = hashlib.blake2b(tensors.read_bytes(), digest_size=16).hexdigest()
    (tmp_path / "prior.json").write_text(json.dumps(about))
    prior = load_prior(tmp_path)
    assert prior.fingerprints == {}
    assert prior.router().n_arms == 3


def test_a_name_that_is_neither_a_folder_nor_packaged_is_one_clear_line() -> None:
    with pytest.raises(
        InputError,
        match="prior='nowhere' is neither a folder that fit-prior wrote nor a packaged one",
    ):
        load_prior("nowhere")


def test_an_artifact_without_a_level_is_loaded(made: Prior, tmp_path: Path) -> None:
    """As they were written before the level was kept."""
    save_prior(made, tmp_path)
    about = json.loads((tmp_path / "prior.json").read_text())
    del about["calibration"]["level"]
    (tmp_path / "prior.json").write_text(json.dumps(about))
    prior = load_prior(tmp_path)
    assert prior.calibration.level is None
    h = unit_rows(np.random.default_rng(1).normal(size=(5, 6)))
    np.testing.assert_allclose(
        prior.router().probs(h), made.router().probs(h)
    )  # nothing was paid: no level to compare


def test_the_encoder_of_an_artifact_gives_unit_rows_that_do_not_know_the_order(
    made: Prior, tmp_path: Path
) -> None:
    save_prior(made, tmp_path)
    encoder = PairEncoder.load(tmp_path)
    prompts, first, second = texts(9, seed=3)
    h = encoder.pairs(prompts, first, second)
    assert h.dtype == np.float64
    assert h.shape == (9, 6)
    np.testing.assert_allclose(np.linalg.norm(h, axis=1), 1.0)
    np.testing.assert_array_equal(h, encoder.pairs(prompts, second, first))
    alone = np.vstack(
        [encoder.pairs(prompts[i : i + 1], first[i : i + 1], second[i : i + 1]) for i in range(9)]
    )
    np.testing.assert_allclose(h, alone, atol=1e-5)
    assert encoder.pairs([], [], []).shape == (0, 6)


def test_the_router_starts_at_the_prior_in_payoff_units(made: Prior) -> None:
    h = unit_rows(np.random.default_rng(1).normal(size=(5, 6)))
    router = made.router(trust=1)
    mean, sd = router.posterior(h)
    c = made.calibration
    centred = made.strengths.bt_KD - made.strengths.bt_KD.mean(axis=0)
    np.testing.assert_allclose(mean, c.scale * h @ centred.T + c.offset_K, atol=1e-12)
    np.testing.assert_allclose(sd, np.sqrt(1 / c.precision + 1 / c.offset_precision))
    assert made.router().trust == pytest.approx(0.95)
    assert made.router(noise_sd=1.0).informed.router.model.noise_var == 1.0


def test_arms_are_found_by_name_and_new_ones_start_in_the_middle(made: Prior) -> None:
    h = unit_rows(np.random.default_rng(1).normal(size=(5, 6)))
    own, _ = made.router(trust=1).posterior(h)
    turned, _ = made.router(ARMS[::-1], trust=1).posterior(h)
    np.testing.assert_allclose(own, turned[:, ::-1])
    with pytest.warns(UserWarning, match="no strengths of delta"):
        router = made.router([*ARMS, "delta"], trust=1)
    more, _ = router.posterior(h)
    np.testing.assert_allclose(more[:, :3], own)
    np.testing.assert_allclose(more[:, 3], 0.0, atol=1e-12)
    np.testing.assert_allclose(own.mean(axis=1), 0.0, atol=1e-12)


def test_another_encoder_or_other_arms_are_refused_by_name(made: Prior, tmp_path: Path) -> None:
    save_prior(made, tmp_path)
    assert load_prior(tmp_path, arms=ARMS, encoder="tiny").arms == ARMS
    with pytest.raises(InputError, match="'tiny', not with 'all-minilm-l6-v2'"):
        load_prior(tmp_path, encoder="all-minilm-l6-v2")
    with pytest.raises(InputError, match=r"weights '.*' against 'other', max_tokens 64 against 32"):
        load_prior(tmp_path, encoder=EncoderId("tiny", "other", "last", 32))
    with pytest.raises(InputError, match="alpha, beta, gamma, and of none of x, y"):
        load_prior(tmp_path, arms=["x", "y"])
    with pytest.warns(UserWarning, match="no strengths of delta"):
        load_prior(tmp_path, arms=["alpha", "delta"])
    about = json.loads((tmp_path / "prior.json").read_text())
    about["encoder"]["weights"] = "retrained"
    (tmp_path / "prior.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match="belong to another encoder: weights 'retrained' against"):
        PairEncoder.load(tmp_path)


@pytest.mark.parametrize("harm", ["missing", "torn", "swapped", "format"])
def test_a_broken_artifact_is_one_clear_line(made: Prior, tmp_path: Path, harm: str) -> None:
    save_prior(made, tmp_path)
    tensors, about = tmp_path / "prior.safetensors", tmp_path / "prior.json"
    if harm == "missing":
        tensors.unlink()
    elif harm == "torn":
        about.write_text(about.read_text()[:100])
    elif harm == "swapped":
        arrays = load_file(tensors)
        save_file({name: value + 1 for name, value in arrays.items()}, tensors)
    else:
        about.write_text(about.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(InputError, match=str(tmp_path)) as caught:
        load_prior(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_head_of_another_width_does_not_fit(made: Prior) -> None:
    small = fit_strengths(np.eye(6, 10), np.eye(6, 3), np.arange(6), dim=4, epochs=1, dev=0.5)
    with pytest.raises(InputError, match="128, the strengths were learned on 10"):
        PairEncoder(TextEncoder("tiny", max_tokens=64), small)
