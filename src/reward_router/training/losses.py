"""The losses of LASER section 3.1 and appendix C as pure functions of log-probabilities.

Each returns one loss per item (pair or response) and leaves the mean to the caller, so that a payoff can be given pair by
pair and micro-batches can be summed. Left out: label smoothing, divergences other than the reverse KL, the MoE auxiliary loss.
The means equal TRL 1.16: ``DPOTrainer`` with ``loss_type`` ``["sigmoid"]`` (`dpo`), ``["sft"]`` (`nll`, ``reduction="token"``),
both added, and ``KTOTrainer`` (`kto`). Lines that carry no citation are bookkeeping.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def dpo(
    policy_chosen_P: Tensor,
    policy_rejected_P: Tensor,
    ref_chosen_P: Tensor,
    ref_rejected_P: Tensor,
    beta: float = 0.1,
) -> Tensor:
    """Direct preference optimisation, one loss per pair.

    All four arguments: (P,) summed log-probabilities of the response tokens (EOS included), in nats. Returns (P,), each in
    (0, inf), log 2 where policy and reference agree. O(P). Source: LASER eq. 1, left; Rafailov et al. 2023, eq. 7.

    >>> zero = torch.zeros(1)
    >>> round(dpo(zero, zero, zero, zero).item(), 4)
    0.6931
    """
    margin_P = (policy_chosen_P - ref_chosen_P) - (policy_rejected_P - ref_rejected_P)
    return -F.logsigmoid(beta * margin_P)  # LASER eq. 1, L_DPO


def nll(
    token_logps_PT: Tensor,
    mask_PT: Tensor,
    reduction: Literal["response", "token"] = "response",
    mean_tokens: float | None = None,
) -> Tensor:
    """Negative log-likelihood of the preferred responses, one loss per pair.

    ``token_logps_PT``: (P, T) log-probability of each token, ignored where ``mask_PT`` (bool, same shape) is False.
    ``reduction="response"`` divides by the response's own length (LASER eq. 1). ``"token"`` pools all tokens: every response is
    divided by the mean length ``mean_tokens``, so that the mean over pairs is the mean over tokens (TRL's ``sft``).
    ``mean_tokens`` is measured on this mask where None; give the whole batch's where the batch is cut into micro-batches.
    Returns (P,), each >= 0, 0 for a response of no tokens. O(P T). Source: LASER eq. 1, right.

    >>> nll(torch.tensor([[-1.0, -3.0], [-4.0, 9.0]]), torch.tensor([[True, True], [True, False]])).tolist()
    [2.0, 4.0]
    """
    mask_PT = mask_PT.bool()
    total_P = token_logps_PT.masked_fill(~mask_PT, 0.0).sum(-1)
    if reduction == "response":
        return -total_P / mask_PT.sum(-1).clamp_min(1)  # LASER eq. 1, L_NLL
    tokens = (
        mask_PT.sum() / max(len(mask_PT), 1) if mean_tokens is None else torch.tensor(mean_tokens)
    )
    return -total_P / tokens.to(total_P).clamp_min(1e-9)


def kto(
    policy_B: Tensor,
    ref_B: Tensor,
    desirable_B: Tensor,
    kl: Tensor,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    """Kahneman-Tversky optimisation, one loss per response (not per pair).

    ``policy_B``, ``ref_B``: (B,) summed log-probabilities, nats. ``desirable_B``: (B,) bool, True for the preferred response of
    a pair and False for the other. ``kl``: the scalar of `kto_kl`. Returns (B,), each in (0, weight); the order of the input is
    kept. O(B). Source: Ethayarajh et al. 2024, eq. 7.

    >>> loss = kto(torch.tensor([0.0, 0.0]), torch.zeros(2), torch.tensor([True, False]), torch.tensor(0.0))
    >>> loss.tolist()
    [0.5, 0.5]
    """
    margin_B = (policy_B - ref_B) - kl  # KTO eq. 7: r_theta - z_0
    gain_B = desirable_weight * (1 - torch.sigmoid(beta * margin_B))
    pain_B = undesirable_weight * (1 - torch.sigmoid(-beta * margin_B))
    return torch.where(desirable_B.bool(), gain_B, pain_B)


def kto_kl(policy_mismatched_B: Tensor, ref_mismatched_B: Tensor) -> Tensor:
    """Reference point z_0 of `kto`: how far the policy has moved from the reference, estimated on mismatched responses.

    Both: (B,) summed log-probabilities of each prompt with another prompt's response. Returns a scalar >= 0 through which no
    gradient flows; 0 where B = 0. O(B). Source: Ethayarajh et al. 2024, section 4.1.

    >>> kto_kl(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.5])).item()
    1.0
    """
    if policy_mismatched_B.numel() == 0:
        return policy_mismatched_B.new_zeros(())
    return (policy_mismatched_B - ref_mismatched_B).mean().detach().clamp_min(0.0)
