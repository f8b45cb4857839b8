"""Response log-probabilities against a plain log_softmax of all logits."""

from typing import Any

import pytest
import torch
from torch import nn

from reward_router.training import logps as logps_module
from reward_router.training.logps import response_logps

VOCAB = 97


def tiny_llama(seed: int = 0, **more: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    shape = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=VOCAB, initializer_range=0.2, **shape, **more)
    ).eval()


def batch(
    left: bool = False, rows: int = 5, width: int = 40
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random tokens; row i has i pads, a prompt of 3 to 7 tokens, the rest response."""
    gen = torch.Generator().manual_seed(3)
    ids_BT = torch.randint(3, VOCAB, (rows, width), generator=gen)
    at_T = torch.arange(width)
    pads_B = torch.arange(rows)[:, None]
    seen_BT = (at_T >= pads_B) if left else (at_T < width - pads_B)
    start_B = torch.randint(3, 8, (rows, 1), generator=gen) + (pads_B if left else 0)
    return ids_BT.masked_fill(~seen_BT, 0), seen_BT.long(), (seen_BT & (at_T >= start_B)).long()


def plain(
    model: Any, ids_BT: torch.Tensor, seen_BT: torch.Tensor, mask_BT: torch.Tensor
) -> torch.Tensor:
    logits_BTV = model(input_ids=ids_BT, attention_mask=seen_BT).logits.float()
    all_BT = logits_BTV[:, :-1].log_softmax(-1).gather(2, ids_BT[:, 1:, None])[..., 0]
    return nn.functional.pad(all_BT, (1, 0)) * mask_BT


@pytest.mark.parametrize("left", [False, True])
def test_equals_log_softmax_and_its_gradient(left: bool) -> None:
    model, inputs = tiny_llama(), batch(left)
    assert inputs[2].sum() > 2 * logps_module._ROWS  # several chunks of rows
    logps_BT, mask_BT = response_logps(model, *inputs)
    weight_BT = torch.randn(mask_BT.shape, generator=torch.Generator().manual_seed(1))
    expected_BT = plain(model, *inputs)
    torch.testing.assert_close(logps_BT, expected_BT, atol=1e-5, rtol=1e-5)
    assert mask_BT.equal(inputs[2].bool())
    (logps_BT * weight_BT).sum().backward()
    got = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    (expected_BT * weight_BT).sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(got[name], parameter.grad, atol=2e-5, rtol=1e-4, msg=name)


def test_bfloat16_model_gives_float32_log_probabilities() -> None:
    model = tiny_llama().to(torch.bfloat16)
    logps_BT, mask_BT = response_logps(model, *batch())
    assert logps_BT.dtype == torch.float32
    torch.testing.assert_close(logps_BT, plain(model, *batch()), atol=0.05, rtol=0.02)
    assert (logps_BT[mask_BT] < 0).all()
    logps_BT.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_output_layer_runs_on_response_positions_only() -> None:
    model, inputs = tiny_llama(), batch()
    rows: list[int] = []
    model.lm_head.register_forward_hook(lambda _m, _a, out: rows.append(out.shape[0]))
    response_logps(model, *inputs)
    assert rows == [int(inputs[2].sum())]
    assert model(input_ids=inputs[0]).logits.shape == (5, 40, VOCAB)  # the hook is gone


def test_hook_is_gone_after_a_failed_forward() -> None:
    model, (ids_BT, seen_BT, mask_BT) = tiny_llama(), batch()
    with pytest.raises(IndexError):
        response_logps(model, ids_BT + VOCAB, seen_BT, mask_BT)
    assert not model.lm_head._forward_pre_hooks


def test_first_column_and_empty_masks_have_no_log_probability() -> None:
    ids_BT, seen_BT, mask_BT = batch()
    mask_BT[:, 0] = 1
    logps_BT, got_BT = response_logps(tiny_llama(), ids_BT, seen_BT, mask_BT)
    assert not got_BT[:, 0].any()
    assert (logps_BT[:, 0] == 0).all()
    empty_BT, none_BT = response_logps(tiny_llama(), ids_BT, seen_BT, torch.zeros_like(mask_BT))
    assert not none_BT.any()
    assert (empty_BT == 0).all()


def test_through_peft_with_gradient_checkpointing() -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False
    )
    model = peft.get_peft_model(tiny_llama(), config)
    expected_BT = plain(model, *batch())
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    logps_BT, _ = response_logps(model, *batch())
    torch.testing.assert_close(logps_BT, expected_BT, atol=1e-5, rtol=1e-5)
    logps_BT.sum().backward()
    trained = [p.grad for p in model.parameters() if p.requires_grad]
    assert trained
    assert all(grad is not None and grad.abs().sum() > 0 for grad in trained)


def test_through_distributed_data_parallel() -> None:
    dist = torch.distributed
    if not dist.is_available() or dist.is_initialized():
        pytest.skip("needs a process group of its own")
    model, inputs = tiny_llama(), batch()
    expected_BT = plain(model, *inputs)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(model)
        logps_BT, _ = response_logps(wrapped, *inputs)
        torch.testing.assert_close(logps_BT, expected_BT, atol=1e-5, rtol=1e-5)
        logps_BT.sum().backward()
    finally:
        dist.destroy_process_group()
    assert all(p.grad is not None for p in model.parameters())
