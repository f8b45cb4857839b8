"""Log-probabilities of response tokens without the logits of the prompt.

The output layer runs on response positions only: its input is cut down by a hook, so the call goes
through whatever wraps the model (PEFT, DDP, autocast, gradient checkpointing) and soft-capped
logits stay soft-capped. One copy of the logits is kept for the backward pass, where autograd's own
path holds three. Left out: encoder-decoder models, prompt learning.
"""

from typing import Any

import torch
from torch import Tensor, nn

_ROWS = 64  # rows of logits turned into float32 at a time


def response_logps(
    model: nn.Module, input_ids: Tensor, attention_mask: Tensor, response_mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Log-probability of each response token under a causal LM, with gradient.

    Args:
        model: a Hugging Face causal LM, possibly wrapped.
        input_ids: (B, T) token ids. Pad on the right unless the model's positions are relative.
        attention_mask: (B, T), 0 on padding.
        response_mask: (B, T), True on the tokens whose log-probability is wanted: those of the
            response, EOS included.

    Returns:
        ``token_logps_BT``, float32 in nats, token t in column t, 0 outside the mask; and
        ``mask_BT``, bool, whose first column is always False, as nothing predicts the first token.

    Cost: one forward over B T tokens, plus (response tokens) x vocabulary for the output layer.
    """
    mask_BT = response_mask.bool().clone()
    # A copy, so that the caller's mask stays; nothing predicts the first token.
    mask_BT[:, 0] = False
    logps_BT = torch.zeros(mask_BT.shape, dtype=torch.float32, device=input_ids.device)
    if not mask_BT.any():
        return logps_BT, mask_BT
    logits_RV = _response_logits(model, input_ids, attention_mask, mask_BT)
    logps_R = token_logps(logits_RV, input_ids[mask_BT])
    return logps_BT.masked_scatter(mask_BT, logps_R), mask_BT


def token_logps(logits_RV: Tensor, token_R: Tensor) -> Tensor:
    """(R,) float32 log-probability of each row's token, with gradient.

    The backward pass keeps one copy of the logits.
    """
    logps_R: Tensor = _TokenLogp.apply(logits_RV, token_R)  # type: ignore[no-untyped-call]
    return logps_R


def _response_logits(
    model: nn.Module, input_ids: Tensor, attention_mask: Tensor, mask_BT: Tensor
) -> Tensor:
    """(R, V) logits at the positions that predict the R masked tokens, in row-major order."""
    # Position t - 1 predicts token t. Column 0 is never masked, so nothing wraps round.
    predicts_BT = mask_BT.roll(-1, dims=1)

    def cut(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        # The layer's input loses its batch and time axes here: R rows of states are left.
        return (args[0][predicts_BT], *args[1:])

    handle = output_layer(model).register_forward_pre_hook(cut)
    try:
        # The hook comes off whatever happens: a model left with it would answer wrongly.
        output = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
    finally:
        handle.remove()
    logits_RV: Tensor = output.logits
    return logits_RV


def output_layer(model: nn.Module) -> nn.Module:
    """The layer that turns states into logits, inside whatever wraps the model."""
    inner: Any = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    layer: nn.Module = inner.get_output_embeddings()
    return layer


class _TokenLogp(torch.autograd.Function):
    """logits[token] - logsumexp(logits), in float32.

    The gradient is one_hot - softmax, written into one new tensor.
    """

    @staticmethod
    def forward(ctx: Any, logits_RV: Tensor, token_R: Tensor) -> Tensor:
        # A few rows at a time: the float32 copy of all logits would be twice their size.
        blocks = torch.split(logits_RV, _ROWS)
        lse_R = torch.cat([block.float().logsumexp(-1) for block in blocks])
        ctx.save_for_backward(logits_RV, token_R, lse_R)
        token_logit_R = logits_RV.gather(1, token_R[:, None])[:, 0]
        # log softmax = logit - logsumexp
        return token_logit_R.float() - lse_R

    @staticmethod
    def backward(ctx: Any, grad_R: Tensor) -> tuple[Tensor, None]:
        logits_RV, token_R, lse_R = ctx.saved_tensors
        grad_RV = torch.empty_like(logits_RV)
        for start in range(0, len(token_R), _ROWS):
            rows = slice(start, start + _ROWS)
            token_r1 = token_R[rows, None]
            grad_r1 = grad_R[rows, None]
            # In place from here on: a second float32 block would double the peak of memory.
            softmax_rV = (logits_RV[rows].float() - lse_R[rows, None]).exp_()
            # grad (one_hot - softmax): the softmax part first, then the token's own place
            slope_rV = softmax_rV.mul_(-grad_r1)
            grad_RV[rows] = slope_rV.scatter_add_(1, token_r1, grad_r1)
        return grad_RV, None
