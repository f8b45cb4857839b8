"""Training curves: what a step says of the training, from numbers its forward pass made anyway."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_router.config import Config
from reward_router.rundir import RunDir

pytest.importorskip("torch", reason="needs the packages of the extra `train`")
from reward_router import run
from reward_router.training.curves import training_curves

NATS = st.floats(-50, 50)


@given(st.lists(st.tuples(NATS, NATS), min_size=1, max_size=8), st.floats(0.01, 1))
def test_turning_every_pair_round_turns_margin_and_accuracy_and_leaves_kl(
    moved: list[tuple[float, float]], beta: float
) -> None:
    found = training_curves(moved, beta, [])
    turned = training_curves([(rejected, chosen) for chosen, rejected in moved], beta, [])
    assert found["margin"] == pytest.approx(-(turned["margin"] or 0.0), abs=1e-9)
    assert found["pair_accuracy"] == pytest.approx(1 - (turned["pair_accuracy"] or 0.0))
    assert found["kl"] == pytest.approx(turned["kl"])


def test_nothing_is_said_of_pairs_that_have_no_reference() -> None:
    assert training_curves([], 0.1, []) == {
        "margin": None,
        "reward_chosen": None,
        "reward_rejected": None,
        "pair_accuracy": None,
        "kl": None,
        "finished": None,
    }


@pytest.mark.parametrize(
    "settings", [(), ("train.mini_batch=2", "train.steps_per_batch=2"), ("train.loss=kto",)]
)
def test_the_policy_starts_at_its_reference_and_leaves_it(
    tiny: Callable[..., Config], tmp_path: Path, settings: tuple[str, ...]
) -> None:
    run.train(tiny("train.iterations=1", "train.lr=1e-2", *settings), tmp_path / "run")
    first, *later = RunDir(tmp_path / "run").read_log()
    assert (first["margin"], first["pair_accuracy"], first["kl"]) == pytest.approx(
        (0, 0.5, 0), abs=1e-5
    )
    assert any(abs(line["kl"]) > 1e-4 for line in later)
    assert all(0 <= line["pair_accuracy"] <= 1 for line in later)


def test_a_loss_without_a_reference_says_nothing(
    tiny: Callable[..., Config], tmp_path: Path
) -> None:
    run.train(tiny("train.loss=nll"), tmp_path / "run")
    assert all(line["margin"] is None for line in RunDir(tmp_path / "run").read_log())


def test_the_margin_is_that_of_the_loss(tiny: Callable[..., Config], tmp_path: Path) -> None:
    """With one pair a step, DPO's loss is -log sigmoid of the margin that is logged."""
    config = tiny(
        "train.loss=dpo",
        "train.iterations=1",
        "train.batch_prompts=1",
        "pairs.per_prompt=1",
        "train.lr=1e-2",
    )
    run.train(config, tmp_path / "run")
    lines = [line for line in RunDir(tmp_path / "run").read_log() if line["pairs"] == 1]
    assert lines
    for line in lines:
        assert line["loss"] == pytest.approx(np.logaddexp(0, -line["margin"]), abs=1e-5)
