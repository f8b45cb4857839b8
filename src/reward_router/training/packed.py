"""Log-probabilities of several responses to one prompt in one row: the prompt is computed once.

A row is the prompt followed by its responses. The attention mask lets each response see the prompt
and itself, and its positions go on from the prompt's end, so every number is what a row of its own
would give, up to rounding. With two pairs of short responses a prompt this is about half of the
tokens. Left out: models with sliding windows, or with an attention that takes no mask of its own
(flash attention). They get one row a response; :func:`can_pack` says which models these are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from reward_router.training.logps import output_layer, token_logps

MASKED_ATTENTION = ("sdpa", "eager")

_Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Packed:
    """Q rows (distinct prompts) of S tokens as tensors, with R response tokens in all.

    Args:
        input_ids: (Q, S) token ids.
        attention_mask: (Q, 1, S, S) numbers that are added to attention scores.
        position_ids: (Q, S) positions; those of every response go on from its prompt's end.
        predictor_R: the place, row * S + column, whose output predicts each response token.
        token_R: the response tokens themselves, one distinct text after the other.
        lengths: how many response tokens each distinct text has.
        text_B: which distinct text each of the B texts is that were to be packed.
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    predictor_R: Tensor
    token_R: Tensor
    lengths: list[int]
    text_B: list[int]

    def to(self, device: Any) -> "Packed":
        """The same with its tensors on a device."""
        names = ("input_ids", "attention_mask", "position_ids", "predictor_R", "token_R")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def can_pack(model: nn.Module) -> bool:
    """Whether a model's attention takes a mask of any shape and every layer sees the whole row."""
    config: Any = getattr(model, "config", None)
    if getattr(config, "_attn_implementation", None) not in MASKED_ATTENTION:
        return False
    layer_types = getattr(config, "layer_types", None)
    if layer_types:
        return set(layer_types) == {"full_attention"}
    # An older configuration names no layers: a window that is set counts for all of them.
    has_window = getattr(config, "sliding_window", None) is not None
    uses_window = has_window and getattr(config, "use_sliding_window", True)
    return not (uses_window and layer_types is None)


def pack_texts(
    texts: Sequence[tuple[Sequence[int], Sequence[int]]], pad: int, dtype: torch.dtype
) -> Packed:
    """Rows for texts; equal prompts share a row, and equal texts are computed once.

    Args:
        texts: the prompt's and the response's token ids of each text.
        pad: the token that fills rows up to the longest.
        dtype: the model's, as the mask is added to its attention scores.
    """
    rows = _responses_by_prompt(texts)
    row_lengths = [len(prompt) + sum(map(len, rows[prompt])) for prompt in rows]
    width = max(row_lengths)
    ids_QS = torch.full((len(rows), width), pad)
    position_QS = torch.zeros(len(rows), width, dtype=torch.long)
    part_QS = torch.full((len(rows), width), -1)  # 0 the prompt, 1 and up its responses, -1 padding
    predictors: list[int] = []
    tokens: list[int] = []
    lengths: list[int] = []
    text_number: dict[tuple[_Ids, _Ids], int] = {}
    for row, (prompt, responses) in enumerate(rows.items()):
        row_start = row * width
        prompt_end = len(prompt)
        ids_QS[row, :prompt_end] = torch.tensor(prompt)
        position_QS[row, :prompt_end] = torch.arange(prompt_end)
        part_QS[row, :prompt_end] = 0

        start = prompt_end
        for part, response in enumerate(responses, start=1):
            stop = start + len(response)
            ids_QS[row, start:stop] = torch.tensor(response)
            position_QS[row, start:stop] = torch.arange(prompt_end, prompt_end + len(response))
            part_QS[row, start:stop] = part

            # The prompt's last token predicts the first token of every response.
            predictors.append(row_start + prompt_end - 1)
            predictors += range(row_start + start, row_start + stop - 1)
            tokens += response
            text_number[prompt, response] = len(lengths)
            lengths.append(len(response))
            start = stop
    return Packed(
        input_ids=ids_QS,
        attention_mask=_mask(part_QS, dtype),
        position_ids=position_QS,
        predictor_R=torch.tensor(predictors, dtype=torch.long),
        token_R=torch.tensor(tokens, dtype=torch.long),
        lengths=lengths,
        text_B=[text_number[tuple(prompt), tuple(response)] for prompt, response in texts],
    )


def _responses_by_prompt(
    texts: Sequence[tuple[Sequence[int], Sequence[int]]],
) -> dict[_Ids, list[_Ids]]:
    """The distinct responses of each distinct prompt, both in the order of their first text."""
    rows: dict[_Ids, list[_Ids]] = {}
    for prompt, response in texts:
        responses = rows.setdefault(tuple(prompt), [])
        if tuple(response) not in responses:
            responses.append(tuple(response))
    return rows


def _mask(part_QS: Tensor, dtype: torch.dtype) -> Tensor:
    """(Q, 1, S, S) numbers added to attention scores: 0 where a token may look, else the smallest.

    A token may look at earlier tokens, at those of the prompt (part 0) and of its own response.
    """
    width = part_QS.shape[1]
    earlier_SS = torch.ones(width, width, dtype=torch.bool).tril()
    looks_at = part_QS[:, None, :]
    looks_from = part_QS[:, :, None]
    allowed_QSS = earlier_SS & ((looks_at == 0) | (looks_at == looks_from))
    mask_QSS = torch.zeros(allowed_QSS.shape, dtype=dtype)
    mask_QSS.masked_fill_(~allowed_QSS, torch.finfo(dtype).min)
    return mask_QSS[:, None]


def packed_logps(model: nn.Module, packed: Packed) -> tuple[Tensor, Tensor]:
    """(B, T) log-probabilities of the texts' response tokens, with gradient, and their mask.

    T is the length of the longest response; token t of a response stands in column t. Cost: one
    forward over the Q S tokens, plus R x vocabulary for the output layer.
    """

    def cut(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden_QSD = args[0]
        hidden_XD = hidden_QSD.reshape(-1, hidden_QSD.shape[-1])
        predictor_RD = hidden_XD[packed.predictor_R]
        return (predictor_RD[None], *args[1:])

    handle = output_layer(model).register_forward_pre_hook(cut)
    try:
        output = model(
            input_ids=packed.input_ids,
            attention_mask=packed.attention_mask,
            position_ids=packed.position_ids,
            use_cache=False,
        )
    finally:
        handle.remove()
    logps_R = token_logps(output.logits[0], packed.token_R)
    parts = torch.split(logps_R, packed.lengths)
    padded_XT = nn.utils.rnn.pad_sequence(list(parts), batch_first=True)
    length_X = torch.tensor(packed.lengths, device=logps_R.device)
    mask_XT = torch.arange(padded_XT.shape[1], device=logps_R.device) < length_X[:, None]
    text_B = torch.tensor(packed.text_B, device=logps_R.device)
    return padded_XT[text_B], mask_XT[text_B]
