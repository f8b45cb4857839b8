"""Our losses against TRL's own trainers on the same tokens, and the laws they obey."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reward_router.training.logps import response_logps
from reward_router.training.losses import dpo, kto, kto_kl, nll

os.environ.setdefault("HF_HUB_OFFLINE", "1")

PAIRS = [
    {"prompt": "w5 w6 w7", "chosen": " w8 w9 w10", "rejected": " w11"},
    {"prompt": "w12 w13", "chosen": " w14", "rejected": " w15 w16 w17 w18"},
    {"prompt": "w19 w20 w21 w22", "chosen": " w23 w24 w25", "rejected": " w26 w27"},
    {"prompt": "w28", "chosen": " w29 w30 w31 w32 w33", "rejected": " w34 w35 w36"},
]


def tiny_llama(seed: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    shape = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    config = LlamaConfig(
        vocab_size=64,
        initializer_range=0.3,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        **shape,
    )
    return LlamaForCausalLM(config).eval()


def tiny_tokenizer() -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    vocab = {"<pad>": 0, "<s>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, 64)}
    core = Tokenizer(WordLevel(vocab, unk_token="<pad>"))
    core.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def trainer_args(out: Path, **more: Any) -> dict[str, Any]:
    base = {
        "output_dir": str(out),
        "per_device_train_batch_size": 4,
        "use_cpu": True,
        "bf16": False,
    }
    return (
        base
        | {"report_to": "none", "gradient_checkpointing": False, "disable_dropout": False}
        | more
    )


def one_batch(trainer: Any) -> tuple[float, dict[str, Any]]:
    batch = next(iter(trainer.get_train_dataloader()))
    return trainer.compute_loss(trainer.model, dict(batch)).item(), batch


@pytest.fixture(scope="module")
def models() -> tuple[Any, Any]:
    return tiny_llama(1), tiny_llama(2)


@pytest.fixture(scope="module")
def trl_dpo(
    models: tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[float, Any]]:
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    def run(loss_type: list[str], beta: float) -> tuple[float, Any]:
        args = trl.DPOConfig(
            **trainer_args(tmp_path_factory.mktemp("dpo"), loss_type=loss_type, beta=beta)
        )
        data, tokenizer = Dataset.from_list(PAIRS), tiny_tokenizer()
        trainer = trl.DPOTrainer(
            models[0], models[1], args, train_dataset=data, processing_class=tokenizer
        )
        return one_batch(trainer)

    return run


def ours(model: Any, batch: dict[str, Any], prefix: str = "") -> tuple[torch.Tensor, torch.Tensor]:
    names = ("input_ids", "attention_mask", "completion_mask")
    return response_logps(model, *(batch[prefix + name] for name in names))


def our_dpo(models: tuple[Any, Any], batch: dict[str, Any], beta: float) -> torch.Tensor:
    policy_P, ref_P = (ours(model, batch)[0].sum(-1) for model in models)
    return dpo(*policy_P.chunk(2), *ref_P.chunk(2), beta=beta)


def our_sft(models: tuple[Any, Any], batch: dict[str, Any]) -> torch.Tensor:
    logps_BT, mask_BT = ours(models[0], batch)
    return nll(logps_BT.chunk(2)[0], mask_BT.chunk(2)[0], "token")


@pytest.mark.parametrize("beta", [0.1, 0.7])
def test_dpo_equals_trl(models: Any, trl_dpo: Any, beta: float) -> None:
    theirs, batch = trl_dpo(["sigmoid"], beta)
    mine = our_dpo(models, batch, beta).mean()
    assert mine.item() == pytest.approx(theirs, abs=1e-5)
    assert (
        abs(theirs - math.log(2)) > 0.01
    )  # policy and reference differ, so the comparison says something


def test_token_nll_equals_trl_sft(models: Any, trl_dpo: Any) -> None:
    theirs, batch = trl_dpo(["sft"], 0.1)
    assert our_sft(models, batch).mean().item() == pytest.approx(theirs, abs=1e-5)


def test_dpo_plus_nll_equals_trl(models: Any, trl_dpo: Any) -> None:
    theirs, batch = trl_dpo(["sigmoid", "sft"], 0.1)
    mine = (our_dpo(models, batch, 0.1) + our_sft(models, batch)).mean()
    assert mine.item() == pytest.approx(theirs, abs=1e-5)


def test_dpo_gradient_equals_trl(models: Any, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    args = trl.DPOConfig(**trainer_args(tmp_path, loss_type=["sigmoid", "sft"]))
    policy = tiny_llama(1)
    data = Dataset.from_list(PAIRS)
    trainer = trl.DPOTrainer(
        policy, models[1], args, train_dataset=data, processing_class=tiny_tokenizer()
    )
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.compute_loss(policy, dict(batch)).backward()
    theirs = {name: p.grad.clone() for name, p in policy.named_parameters()}
    policy.zero_grad()
    (
        our_dpo((policy, models[1]), batch, 0.1) + our_sft((policy, models[1]), batch)
    ).mean().backward()
    for name, parameter in policy.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name], atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize(("up", "down"), [(1.0, 1.0), (1.5, 0.6)])
def test_kto_equals_trl(models: Any, tmp_path: Path, up: float, down: float) -> None:
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    kinds = ["chosen", "rejected", "chosen", "chosen"]
    rows = [
        {"prompt": p["prompt"], "completion": p[kind], "label": kind == "chosen"}
        for p, kind in zip(PAIRS, kinds, strict=True)
    ]
    args = trl.KTOConfig(
        **trainer_args(tmp_path, desirable_weight=up, undesirable_weight=down, beta=0.3)
    )
    tokenizer = tiny_tokenizer()
    trainer = trl.KTOTrainer(
        models[0],
        models[1],
        args,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    theirs, batch = one_batch(trainer)
    (policy_B, ref_B), (policy_kl_B, ref_kl_B) = (
        [ours(model, batch, prefix)[0].sum(-1) for model in models] for prefix in ("", "KL_")
    )
    kl = kto_kl(policy_kl_B, ref_kl_B)
    assert kl > 0.1  # not clamped, so the KL term is compared too
    mine = kto(policy_B, ref_B, batch["label"], kl, 0.3, up, down).mean()
    assert mine.item() == pytest.approx(theirs, abs=1e-5)


logp = st.floats(-60, 0, width=32)


@given(st.lists(st.tuples(logp, logp, logp, logp), min_size=1, max_size=6), st.floats(0.01, 2))
def test_dpo_laws(rows: list[tuple[float, ...]], beta: float) -> None:
    chosen, rejected, ref_chosen, ref_rejected = torch.tensor(rows, dtype=torch.float64).T
    loss = dpo(chosen, rejected, ref_chosen, ref_rejected, beta)
    assert loss.shape == chosen.shape
    assert (loss >= 0).all()
    swapped = dpo(rejected, chosen, ref_rejected, ref_chosen, beta)
    margin = beta * (chosen - ref_chosen - rejected + ref_rejected)
    torch.testing.assert_close(swapped - loss, margin)  # -log s(-m) + log s(m) = m
    torch.testing.assert_close(
        dpo(chosen, rejected, chosen, rejected), torch.full_like(chosen, math.log(2))
    )


@given(st.lists(st.lists(logp, min_size=1, max_size=7), min_size=1, max_size=5))
def test_nll_reductions_are_the_means_they_claim(rows: list[list[float]]) -> None:
    width = max(len(row) for row in rows)
    padded_PT = torch.tensor(
        [row + [math.inf] * (width - len(row)) for row in rows], dtype=torch.float64
    )
    mask_PT = torch.isfinite(padded_PT)
    per_response = nll(padded_PT, mask_PT)
    torch.testing.assert_close(
        per_response, torch.tensor([-sum(r) / len(r) for r in rows], dtype=torch.float64)
    )
    pooled = -padded_PT[mask_PT].mean()
    torch.testing.assert_close(nll(padded_PT, mask_PT, "token").mean(), pooled)
    mean_tokens = mask_PT.sum().item() / len(rows)
    cut = [
        nll(padded_PT[i : i + 1], mask_PT[i : i + 1], "token", mean_tokens)
        for i in range(len(rows))
    ]
    torch.testing.assert_close(
        torch.cat(cut).mean(), pooled
    )  # micro-batches of one add up to the batch


def test_a_response_without_tokens_costs_nothing_and_gives_no_nan() -> None:
    logps = torch.zeros(2, 3, requires_grad=True)
    mask = torch.zeros(2, 3, dtype=torch.bool)
    for reduction in ("response", "token"):
        loss = nll(logps, mask, reduction)
        loss.sum().backward()
        assert loss.tolist() == [0.0, 0.0]
        assert logps.grad is not None
        assert torch.isfinite(logps.grad).all()


def test_masked_positions_get_no_gradient() -> None:
    logps = torch.randn(3, 5, requires_grad=True)
    mask = torch.rand(3, 5) < 0.5
    nll(logps, mask).sum().backward()
    assert logps.grad is not None
    assert (logps.grad[~mask] == 0).all()


def test_kto_pushes_up_the_desirable_and_down_the_undesirable() -> None:
    policy = torch.tensor([0.3, -0.2], requires_grad=True)
    kto(policy, torch.zeros(2), torch.tensor([True, False]), torch.tensor(0.1)).sum().backward()
    assert policy.grad is not None
    assert policy.grad[0] < 0 < policy.grad[1]


def test_kto_reference_point_is_never_negative_and_carries_no_gradient() -> None:
    policy = torch.tensor([-3.0, -2.0], requires_grad=True)
    assert kto_kl(policy, torch.zeros(2)).item() == 0.0
    assert not kto_kl(policy, torch.full((2,), -5.0)).requires_grad
    assert kto_kl(torch.zeros(0), torch.zeros(0)).item() == 0.0
