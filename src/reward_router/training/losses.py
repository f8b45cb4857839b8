"""The losses of LASER section 3.1 and appendix C as pure functions of log-probabilities.

Each returns one loss for each item (pair or response) and leaves the mean to the caller, so that a
payoff can be given pair by pair and micro-batches can be summed. The means equal those of TRL 1.16:

- `dpo`: ``DPOTrainer`` with ``loss_type=["sigmoid"]``;
- `nll` with ``reduction="token"``: ``DPOTrainer`` with ``loss_type=["sft"]``; both may be added;
- `kto`: ``KTOTrainer``.

Left out: label smoothing, divergences other than the reverse KL, the auxiliary loss of mixtures of
experts. A line that computes an equation of a paper names it; the others are bookkeeping.
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
    """Direct preference optimisation, one loss a pair.

    Args:
        policy_chosen_P: (P,) log-probability of each chosen response under the policy, summed over
            its tokens (EOS included), in nats.
        policy_rejected_P: (P,) the same of each rejected response.
        ref_chosen_P: (P,) log-probability of each chosen response under the reference.
        ref_rejected_P: (P,) the same of each rejected response.
        beta: how strongly the policy is held to the reference.

    Returns (P,) losses in (0, inf), log 2 where policy and reference agree. O(P).
    Source: LASER eq. 1, left; Rafailov et al. 2023, eq. 7.

    >>> zero = torch.zeros(1)
    >>> round(dpo(zero, zero, zero, zero).item(), 4)
    0.6931
    """
    # The difference of the two implicit rewards, over beta (DPO eq. 5).
    margin_P = (policy_chosen_P - ref_chosen_P) - (policy_rejected_P - ref_rejected_P)
    return -F.logsigmoid(beta * margin_P)  # LASER eq. 1, L_DPO; DPO eq. 7


def nll(
    token_logps_PT: Tensor,
    mask_PT: Tensor,
    reduction: Literal["response", "token"] = "response",
    mean_tokens: float | None = None,
) -> Tensor:
    """Negative log-likelihood of the preferred responses, one loss a pair.

    Args:
        token_logps_PT: (P, T) log-probability of each token, in nats.
        mask_PT: (P, T) bool, True on the tokens of the response; the others are ignored.
        reduction: ``response`` divides by the response's own length (LASER eq. 1). ``token``
            divides every response by the mean length, so that the mean over pairs is the mean over
            tokens (TRL's ``sft``).
        mean_tokens: the mean length for ``token``. None measures it on this mask; give that of the
            whole batch where the batch is cut into micro-batches.

    Returns (P,) losses of at least 0, and 0 for a response of no tokens. O(P T).
    Source: LASER eq. 1, right.

    >>> token_logps_PT = torch.tensor([[-1.0, -3.0], [-4.0, 9.0]])
    >>> mask_PT = torch.tensor([[True, True], [True, False]])
    >>> nll(token_logps_PT, mask_PT).tolist()
    [2.0, 4.0]
    """
    mask_PT = mask_PT.bool()
    # Filled and not multiplied: a masked token may be infinite, and 0 times infinity is NaN.
    logp_P = token_logps_PT.masked_fill(~mask_PT, 0.0).sum(-1)
    if reduction == "response":
        length_P = mask_PT.sum(-1).clamp_min(1)
        return -logp_P / length_P  # LASER eq. 1, L_NLL
    if mean_tokens is None:
        mean_length = mask_PT.sum() / max(len(mask_PT), 1)
    else:
        mean_length = torch.tensor(mean_tokens)
    return -logp_P / mean_length.to(logp_P).clamp_min(1e-9)


def kto(  # noqa: PLR0913 (the quantities of the formula)
    policy_B: Tensor,
    ref_B: Tensor,
    desirable_B: Tensor,
    kl: Tensor,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    """Kahneman-Tversky optimisation, one loss a response (not a pair).

    Args:
        policy_B: (B,) log-probability of each response under the policy, summed over its tokens,
            in nats.
        ref_B: (B,) the same under the reference.
        desirable_B: (B,) bool, True for the preferred response of a pair, False for the other.
        kl: the reference point z_0, a scalar from `kto_kl`.
        beta: how strongly the policy is held to the reference.
        desirable_weight: lambda_D of the paper.
        undesirable_weight: lambda_U of the paper.

    Returns (B,) losses in the order of the input, each between 0 and its weight. O(B).
    Source: Ethayarajh et al. 2024, eq. 7.

    >>> logp_B = torch.tensor([0.0, 0.0])
    >>> kto(logp_B, torch.zeros(2), torch.tensor([True, False]), torch.tensor(0.0)).tolist()
    [0.5, 0.5]
    """
    margin_B = (policy_B - ref_B) - kl  # KTO eq. 7: r_theta - z_0
    # KTO eq. 7: lambda_D - v(x, y) of a desirable response, lambda_U - v(x, y) of another.
    desirable_value_B = torch.sigmoid(beta * margin_B)
    undesirable_value_B = torch.sigmoid(-beta * margin_B)
    desirable_loss_B = desirable_weight * (1 - desirable_value_B)
    undesirable_loss_B = undesirable_weight * (1 - undesirable_value_B)
    return torch.where(desirable_B.bool(), desirable_loss_B, undesirable_loss_B)


def kto_kl(policy_mismatched_B: Tensor, ref_mismatched_B: Tensor) -> Tensor:
    """The reference point z_0 of `kto`: how far the policy has moved from the reference.

    It is estimated on mismatched responses, each prompt's with another prompt's response.

    Args:
        policy_mismatched_B: (B,) their log-probabilities under the policy, summed over tokens.
        ref_mismatched_B: (B,) the same under the reference.

    Returns a scalar of at least 0 through which no gradient flows; 0 where B = 0. O(B).
    Source: Ethayarajh et al. 2024, section 4.1.

    >>> kto_kl(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.5])).item()
    1.0
    """
    if policy_mismatched_B.numel() == 0:
        return policy_mismatched_B.new_zeros(())
    mean_log_ratio = (policy_mismatched_B - ref_mismatched_B).mean()
    return mean_log_ratio.detach().clamp_min(0.0)  # KTO section 4.1: z_0 = max(0, mean)
