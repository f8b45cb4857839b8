"""One training step: what is trained, what the shortcut leaves out, and what changes nothing."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the packages of the extra `train`")

from reward_router.config import PolicyConfig, TrainConfig  # noqa: E402
from reward_router.distributed import Ranks  # noqa: E402
from reward_router.policy import Policy  # noqa: E402
from reward_router.responses import Response  # noqa: E402
from reward_router.training.step import Pair, Trainer, mismatched  # noqa: E402

PAIRS = [
    Pair("Say hi.", "Hello there!", "no"),
    Pair("Say hi.", "Hi", "Go away, please."),
    Pair("2 + 2?", "4", "It may be 5."),
    Pair("Name a fruit.", Response("A fig, an apple, a pe", finished=False), "A stone."),
    Pair("2 + 2?", "four", "22"),
]


@pytest.fixture(scope="module")
def ranks() -> Ranks:
    return Ranks("cpu")


@pytest.fixture
def trainer(ranks: Ranks) -> Callable[..., Trainer]:
    def make(**settings: Any) -> Trainer:
        config = TrainConfig(lr=1e-3, **settings)
        return Trainer(
            Policy(PolicyConfig(model="tiny", device="cpu"), config, 0), config, ranks.accelerator
        )

    return make


def gradient(t: Trainer) -> Any:
    return torch.cat([p.grad.flatten() for p in t.parameters])


def moved(t: Trainer) -> Trainer:
    """Policy and reference apart: one step on other pairs after the snapshot."""
    t.policy.snapshot_reference()
    t.step([Pair("Count.", "one two", "three")])
    return t


@pytest.mark.parametrize("loss", ["dpo", "nll", "dpo+nll"])
def test_the_shortcut_at_the_reference_changes_nothing(
    trainer: Callable[..., Trainer], loss: str
) -> None:
    results = []
    for at_reference in (True, False):
        t = trainer(loss=loss)
        t.policy.snapshot_reference()
        t.policy.at_reference = at_reference
        results.append((t.step(PAIRS).loss_P, gradient(t)))
    assert np.allclose(results[0][0], results[1][0], atol=1e-6)
    assert torch.allclose(results[0][1], results[1][1], atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "reduction"), [("dpo+nll", "response"), ("nll", "token"), ("kto", "response")]
)
def test_micro_batches_do_not_change_the_gradient(
    trainer: Callable[..., Trainer], loss: str, reduction: str
) -> None:
    results = []
    for size in (1, 2, 5):
        t = moved(trainer(loss=loss, nll_reduction=reduction, micro_batch=size))
        results.append((t.step(PAIRS).loss_P, gradient(t)))
    for loss_P, grad in results[1:]:
        assert np.allclose(loss_P, results[0][0], atol=1e-5)
        assert torch.allclose(grad, results[0][1], atol=1e-5)


def test_prompt_is_masked_and_the_end_is_trained_where_there_is_one(
    trainer: Callable[..., Trainer],
) -> None:
    t = trainer()
    batch = t._encode([PAIRS[0], PAIRS[3]], "both")
    eos = t.policy.eos
    texts = [(PAIRS[0].prompt, PAIRS[0].chosen), (PAIRS[3].prompt, PAIRS[3].chosen)]
    for row, (prompt, response) in enumerate(texts):
        prompt_ids, trained = (
            t.policy.prompt_ids(prompt),
            batch.input_ids[row][batch.response_mask[row]].tolist(),
        )
        whole = batch.input_ids[row][batch.attention_mask[row].bool()].tolist()
        assert whole == prompt_ids + trained
        own = t.policy.tokenizer(str(response), add_special_tokens=False)["input_ids"]
        assert trained == (
            own if row == 1 else [*own, eos]
        )  # the second was cut by the limit: not taught to stop there


def test_dpo_at_the_reference_is_log_two(trainer: Callable[..., Trainer]) -> None:
    t = trainer(loss="dpo")
    t.policy.snapshot_reference()
    assert np.allclose(t.step(PAIRS).loss_P, math.log(2), atol=1e-6)


def test_losses_are_those_of_the_next_step(trainer: Callable[..., Trainer]) -> None:
    t = moved(trainer(loss="dpo+nll"))
    before = t.losses(PAIRS)
    assert np.allclose(t.step(PAIRS).loss_P, before, atol=1e-6)
    assert t.losses(PAIRS).mean() < before.mean()


def test_no_pairs_move_nothing(trainer: Callable[..., Trainer]) -> None:
    t = moved(trainer())
    before = t.policy.adapter_state()
    result = t.step([])
    assert len(result.loss_P) == 0
    assert not result.skipped
    assert all(
        torch.equal(before[k], v) for k, v in t.policy.adapter_state().items()
    )  # not even by momentum


def test_optimizer_state_round_trips(trainer: Callable[..., Trainer]) -> None:
    first = moved(trainer())
    second = trainer()
    for adapter in ("policy", "reference"):
        second.policy.load_adapter(first.policy.adapter_state(adapter), adapter)
    second.load_state_dict(first.state_dict())
    first.step(PAIRS)
    second.step(PAIRS)
    mine, other = first.policy.adapter_state(), second.policy.adapter_state()
    assert all(torch.equal(mine[k], other[k]) for k in mine)


def test_mismatched_pairs_have_another_prompt() -> None:
    shifted = mismatched(PAIRS)
    assert [p.prompt for p in shifted] == [p.prompt for p in PAIRS]
    assert [p.chosen for p in shifted] == [PAIRS[i].chosen for i in (2, 2, 3, 4, 0)]
    assert mismatched(PAIRS[:2]) == []


def test_kto_of_one_prompt_has_no_reference_point(trainer: Callable[..., Trainer]) -> None:
    t = moved(trainer(loss="kto"))
    assert float(t._kl(PAIRS[:2])) == 0.0
    assert math.isfinite(t.step([replace(p) for p in PAIRS[:2]]).grad_norm)
