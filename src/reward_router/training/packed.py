"""Log-probabilities of several responses to one prompt in one row: the prompt is computed once.

A row is the prompt followed by its responses. The attention mask lets each response see the prompt and itself, and its
positions go on from the prompt's end, so every number is what a row of its own would give, up to rounding. With two pairs of
short responses a prompt this is about half of the tokens. Left out: models with sliding windows or with an attention that
takes no mask of its own (flash attention); they are given one row a response (:func:`can_pack` says which).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from reward_router.training.logps import output_layer, token_logps

MASKED_ATTENTION = ("sdpa", "eager")


@dataclass(frozen=True, slots=True)
class Packed:
    """Rows as tensors. Q rows (distinct prompts) of S tokens, R response tokens in all, in the order of the texts given.

    ``predictor_R`` is the place (row * S + column) whose output predicts the token, ``token_R`` the token itself,
    ``lengths`` how many tokens each distinct text has, ``text_B`` which distinct text each asked-for text is.
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
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    windowed = getattr(config, "sliding_window", None) is not None and getattr(
        config, "use_sliding_window", True
    )
    full = layers == {"full_attention"} and not (
        windowed and getattr(config, "layer_types", None) is None
    )
    return full and getattr(config, "_attn_implementation", None) in MASKED_ATTENTION


def pack(
    texts: Sequence[tuple[Sequence[int], Sequence[int]]], pad: int, dtype: torch.dtype
) -> Packed:
    """Rows for (prompt ids, response ids) texts; equal prompts share a row, equal texts are computed once.

    ``pad`` fills rows up to the longest; ``dtype`` is the model's (the mask is added to its attention scores).
    """
    rows: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for prompt, response in texts:
        mine = rows.setdefault(tuple(prompt), [])
        if tuple(response) not in mine:
            mine.append(tuple(response))
    width = max(len(prompt) + sum(map(len, responses)) for prompt, responses in rows.items())
    ids_QS = torch.full((len(rows), width), pad)
    position_QS = torch.zeros(len(rows), width, dtype=torch.long)
    part_QS = torch.full((len(rows), width), -1)  # 0 the prompt, 1 and up its responses, -1 padding
    predictors: list[int] = []
    tokens: list[int] = []
    lengths: list[int] = []
    number: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
    for q, (prompt, responses) in enumerate(rows.items()):
        end = len(prompt)
        ids_QS[q, :end] = torch.tensor(prompt)
        position_QS[q, :end] = torch.arange(end)
        part_QS[q, :end] = 0
        start = end
        for n, response in enumerate(responses, start=1):
            stop = start + len(response)
            ids_QS[q, start:stop] = torch.tensor(response)
            position_QS[q, start:stop] = torch.arange(end, end + len(response))
            part_QS[q, start:stop] = n
            # The prompt's last token predicts the first token of every response.
            predictors += [q * width + end - 1, *range(q * width + start, q * width + stop - 1)]
            tokens += response
            number[prompt, response] = len(lengths)
            lengths.append(len(response))
            start = stop
    return Packed(
        ids_QS,
        _mask(part_QS, dtype),
        position_QS,
        torch.tensor(predictors, dtype=torch.long),
        torch.tensor(tokens, dtype=torch.long),
        lengths,
        [number[tuple(prompt), tuple(response)] for prompt, response in texts],
    )


def _mask(part_QS: Tensor, dtype: torch.dtype) -> Tensor:
    """(Q, 1, S, S) numbers added to attention scores: 0 where a token may look, the smallest number elsewhere."""
    width = part_QS.shape[1]
    earlier_SS = torch.ones(width, width, dtype=torch.bool).tril()
    looks_at = part_QS[:, None, :]
    looks_from = part_QS[:, :, None]
    allowed_QSS = earlier_SS & ((looks_at == 0) | (looks_at == looks_from))
    return torch.zeros(allowed_QSS.shape, dtype=dtype).masked_fill_(
        ~allowed_QSS, torch.finfo(dtype).min
    )[:, None]


def packed_logps(model: nn.Module, packed: Packed) -> tuple[Tensor, Tensor]:
    """(B, T) log-probabilities of the texts' response tokens with gradient, and their mask, T the longest response.

    Token t of a response stands in column t. Cost: one forward over the Q S tokens, plus R x vocabulary for the output layer.
    """

    def cut(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden_QSD = args[0]
        return (hidden_QSD.reshape(-1, hidden_QSD.shape[-1])[packed.predictor_R][None], *args[1:])

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
