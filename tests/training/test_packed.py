"""Responses that share a prompt's row against one row a response.

The numbers and the gradients are the same, the tokens fewer.
"""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_router.training.logps import response_logps
from reward_router.training.packed import can_pack, pack_texts, packed_logps

VOCAB, PAD = 61, 0
IDS = st.lists(st.integers(1, VOCAB - 1), min_size=1, max_size=6)


def model_of(**more: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=VOCAB, initializer_range=0.2, **shape, **more)
    ).eval()


def one_row_each(model: Any, texts: list[tuple[list[int], list[int]]]) -> torch.Tensor:
    """(B,) sums of the responses' log-probabilities, each text in a row of its own."""
    width = max(len(x) + len(y) for x, y in texts)
    ids_BT = torch.tensor([[*x, *y] + [PAD] * (width - len(x) - len(y)) for x, y in texts])
    length_B1 = torch.tensor([[len(x) + len(y)] for x, y in texts])
    start_B1 = torch.tensor([[len(x)] for x, _ in texts])
    column_T = torch.arange(width)
    seen_BT = column_T < length_B1
    token_BT, mask_BT = response_logps(
        model, ids_BT, seen_BT.long(), seen_BT & (column_T >= start_B1)
    )
    return (token_BT * mask_BT).sum(1)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@settings(max_examples=15, deadline=None)
@given(
    st.lists(IDS, min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 2), IDS), min_size=1, max_size=7),
)
def test_equals_a_row_for_every_response(
    attention: str, prompts: list[list[int]], answers: list[tuple[int, list[int]]]
) -> None:
    model = model_of(attn_implementation=attention)
    texts = [(prompts[i % len(prompts)], answer) for i, answer in answers]
    packed = pack_texts(texts, PAD, torch.float32)
    token_BT, mask_BT = packed_logps(model, packed)
    got_B, wanted_B = (token_BT * mask_BT).sum(1), one_row_each(model, texts)
    torch.testing.assert_close(got_B, wanted_B, atol=2e-5, rtol=1e-5)
    assert mask_BT.sum(1).tolist() == [len(y) for _, y in texts]

    weight_B = torch.arange(1.0, len(texts) + 1)
    wanted = torch.autograd.grad((weight_B * wanted_B).sum(), list(model.parameters()))
    got = torch.autograd.grad((weight_B * got_B).sum(), list(model.parameters()))
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=5e-5, rtol=1e-3)


def test_a_prompt_is_computed_once_and_equal_texts_too() -> None:
    prompt, first, second = [1, 2, 3, 4], [5, 6], [7, 8, 9]
    packed = pack_texts([(prompt, first), (prompt, second), (prompt, first)], PAD, torch.float32)
    assert packed.input_ids.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8, 9]]
    assert packed.position_ids.tolist() == [[0, 1, 2, 3, 4, 5, 4, 5, 6]]
    assert packed.text_B == [0, 1, 0]


def test_models_whose_attention_takes_no_mask_of_its_own_are_left_alone() -> None:
    assert can_pack(model_of(attn_implementation="sdpa"))
    windowed = model_of(attn_implementation="sdpa")
    windowed.config.sliding_window = 4
    assert not can_pack(windowed)
    flash = model_of(attn_implementation="sdpa")
    flash.config._attn_implementation = "flash_attention_2"
    assert not can_pack(flash)
    assert not can_pack(torch.nn.Linear(2, 2))
