"""Training of the head and the strengths in torch.

The losses of BayesianRouter section 3, and one small loop.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, linear, logsigmoid, normalize

from reward_router.errors import InputError
from reward_router.features import unit_rows
from reward_router.keyed import key, rng
from reward_router.offline.balance import balanced, tuples
from reward_router.offline.strengths import EPSILON, LearnSettings, Strengths
from reward_router.types import Float, Int

# Of the unit length of a row of E_bt, at most so much says at the start how strong the arm is.
STRONGEST = 0.9


class LearnedHead(nn.Module):
    """Pair features -> h of unit norm, and the strengths.

    E_bt is used with unit rows, E_cls with a bias an arm.
    """

    def __init__(self, n_features: int, dim: int, n_arms: int) -> None:
        """Linear and rows of both E start as Kaiming uniform, as the authors' do."""
        super().__init__()
        self.linear = nn.Linear(n_features, dim)
        self.norm = nn.LayerNorm(dim, eps=EPSILON)

        # The order of these lines is the order of the draws: another order is another start.
        self.bt_KD = nn.Parameter(_kaiming_rows(n_arms, dim))
        self.cls_KD = nn.Parameter(_kaiming_rows(n_arms, dim))
        # The one part without a draw.
        self.cls_bias_K = nn.Parameter(torch.zeros(n_arms))

    def forward(self, features_PF: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines (P, K) of the BT head and logits (P, K) of the CLS head."""
        hidden_PD = self.linear(features_PF).relu()
        h_PD = normalize(self.norm(hidden_PD), dim=-1)

        # Both sides of unit norm: the product is a cosine, in [-1, 1].
        unit_bt_KD = normalize(self.bt_KD, dim=-1)
        cosine_PK = linear(h_PD, unit_bt_KD)

        logit_PK = linear(h_PD, self.cls_KD, self.cls_bias_K)
        return cosine_PK, logit_PK


def _kaiming_rows(n_arms: int, dim: int) -> Tensor:
    """Rows as `nn.Linear` starts its own: Kaiming uniform with a = sqrt 5."""
    return nn.init.kaiming_uniform_(torch.empty(n_arms, dim), a=5**0.5)


def bt_loss(s_PK: Tensor, won_PKK: Tensor, scale: float) -> Tensor:
    """- sum over tuples of log sigmoid(s_n - s_n') / scale (L_bt).

    With ``scale`` = number of tuples it is their mean.
    """
    # s_n - s_n' of every ordered pair of arms; the tuples pick the pairs that say anything.
    lead_PKK = s_PK[:, :, None] - s_PK[:, None, :]
    return -(logsigmoid(lead_PKK) * won_PKK).sum() / scale


def cls_loss(logit_PK: Tensor, right_PK: Tensor, scale: float) -> Tensor:
    """Binary cross-entropy of <h, E_cls[n]> + b_n on delta_n (L_cls).

    It is summed over what is not NaN, over ``scale``.
    """
    known_PK = ~right_PK.isnan()
    # NaN times 0 is NaN: unknown marks become 0 before the mask takes them out.
    each_PK = binary_cross_entropy_with_logits(logit_PK, right_PK.nan_to_num(), reduction="none")
    return (each_PK * known_PK).sum() / scale


@dataclass(frozen=True)
class Targets:
    """What pairs teach: tuples of right and wrong arms, and each arm's own mark.

    Both losses are means over their terms.
    """

    won_PKK: Tensor
    right_PK: Tensor

    def loss(self, outputs: tuple[Tensor, Tensor], rows: Tensor, lambda_cls: float) -> Tensor:
        """L_bt + lambda L_cls of ``rows``.

        It is scaled so that the batches of one pass have the whole set's loss as their mean.
        """
        share = len(rows) / len(self.right_PK)
        cosine_PK, logit_PK = outputs

        # Divided by the batch's expected number of terms and not by its own: batches with few
        # tuples would otherwise count as much as batches with many.
        n_tuples = float(self.won_PKK.sum())
        expected_tuples = max(n_tuples * share, 1.0)
        total = bt_loss(cosine_PK, self.won_PKK[rows], expected_tuples)
        if lambda_cls:
            n_marks = float((~self.right_PK.isnan()).sum())
            expected_marks = max(n_marks * share, 1.0)
            own_marks = cls_loss(logit_PK, self.right_PK[rows], expected_marks)
            total = total + lambda_cls * own_marks  # L_bt + lambda L_cls
        return total


def targets(right_PK: Float, balance: bool, seed: int, what: str = "training") -> Targets:
    """Targets of some rows; InputError where no pair has a right and a wrong arm."""
    won_PKK = balanced(right_PK, seed) if balance else tuples(right_PK)
    if not won_PKK.any():
        kept = " after balancing wins and losses" if balance else ""
        raise InputError(
            f"no {what} pair has one arm right and another wrong{kept}: there is nothing to learn"
        )
    return Targets(torch.from_numpy(won_PKK), torch.from_numpy(right_PK).float())


def batches(n_rows: int, size: int, seed: int, epoch: int) -> Iterator[Tensor]:
    """Row numbers of one pass, shuffled by (seed, epoch)."""
    order_P: Int = rng(seed, "order", epoch, "strengths").permutation(n_rows)
    for start in range(0, n_rows, size):
        yield torch.from_numpy(order_P[start : start + size])


def seeded_head(
    n_features: int, dim: int, right_PK: Float, seed: int, level: bool = False
) -> LearnedHead:
    """A head that starts from ``seed`` and the arms' log-odds of being right.

    Torch's global generator is left as it was. LayerNorm's output is orthogonal to the vector of
    ones, its shift starts as that vector: h has the constant component 1 / sqrt 2 there, and E_bt
    starts with the arms' overall strengths along it.

    Args:
        n_features: F.
        dim: D.
        right_PK: who was right on which pair.
        seed: of the start.
        level: start without overall strengths, for balanced tuples.
    """
    n_arms = right_PK.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(seed, "init", 0, "strengths") % 2**63)
        head = LearnedHead(n_features, dim, n_arms)

    hits_K = np.nansum(right_PK, axis=0)
    known_K = (~np.isnan(right_PK)).sum(axis=0)
    misses_K = known_K - hits_K
    # One pseudo-count on each side, so that an arm that is always right has finite log-odds.
    odds_K = np.log((hits_K + 1) / (misses_K + 1))
    about_K = odds_K - odds_K.mean()

    # Scaled down together, never up: no arm starts with more than STRONGEST along the ones.
    longest = max(np.abs(about_K).max() / STRONGEST, 1.0)
    start_K = 0.0 * about_K if level else about_K / longest
    along_K = torch.from_numpy(start_K)

    with torch.no_grad():
        head.cls_bias_K[:] = torch.from_numpy(odds_K)
        head.norm.bias.fill_(1.0)
        # A unit row is its part along the vector of ones and a random part across it.
        mean_K1 = head.bt_KD.mean(dim=1, keepdim=True)
        across_KD = normalize(head.bt_KD - mean_K1, dim=-1)
        share_across_K = (1 - along_K**2).sqrt()
        along_KD = along_K[:, None] / dim**0.5
        head.bt_KD[:] = share_across_K[:, None] * across_KD + along_KD
    return head


def learn(
    x_PF: Float, right_PK: Float, dev_P: NDArray[np.bool_], settings: LearnSettings
) -> Strengths:
    """Train on the rows that are not ``dev_P``; the epoch of the lowest dev loss is kept.

    See `fit_strengths`.
    """
    train_P = ~dev_P
    train_right_RK = right_PK[train_P]
    # From the training rows alone: the dev loss must not know the dev rows' own mean.
    centre_F = x_PF[train_P].mean(axis=0)
    spread_F = x_PF[train_P].std(axis=0) + 1e-8
    # A feature that hardly varies would be blown up on the first text where it does.
    scale_F = np.maximum(spread_F, 1e-3 * spread_F.max())

    x = torch.from_numpy((x_PF - centre_F) / scale_F).float()
    train_x = x[torch.from_numpy(train_P)]
    dev_x = x[torch.from_numpy(dev_P)]
    train = targets(train_right_RK, settings.balance, settings.seed)
    dev = targets(right_PK[dev_P], settings.balance, settings.seed, "dev")

    n_features = x.shape[1]
    head = seeded_head(n_features, settings.dim, train_right_RK, settings.seed, settings.balance)
    optimiser = torch.optim.AdamW(
        head.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
    )

    best: dict[str, Any] = {}
    best_loss = np.inf
    best_epoch = 0
    every_row = torch.arange(len(dev_x))
    for epoch in range(settings.epochs + 1):
        # Epoch 0 trains nothing: the start itself may be the best.
        trained = batches(len(train_x), settings.batch, settings.seed, epoch) if epoch else ()
        for rows in trained:
            optimiser.zero_grad()
            loss = train.loss(head(train_x[rows]), rows, settings.lambda_cls)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()

        with torch.no_grad():
            dev_loss = float(dev.loss(head(dev_x), every_row, settings.lambda_cls))
        # NaN is never less: a run that diverges keeps its best epoch.
        if dev_loss < best_loss:
            best_loss = dev_loss
            best_epoch = epoch
            # A clone: the state dict holds views that the next step writes into.
            best = {name: value.clone() for name, value in head.state_dict().items()}
        if epoch - best_epoch >= settings.patience:
            break

    if not best:
        raise InputError(f"the dev loss was never finite with lr={settings.lr}: use a smaller one")
    return as_strengths(best, centre_F, scale_F, best_loss, best_epoch)


def as_strengths(
    state: dict[str, Any], centre_F: Float, scale_F: Float, dev_loss: float, epoch: int
) -> Strengths:
    """A head's state as numpy float64."""
    names = {
        "linear.weight": "weight_DF",
        "linear.bias": "bias_D",
        "norm.weight": "gain_D",
        "norm.bias": "shift_D",
        "bt_KD": "bt_KD",
        "cls_KD": "cls_KD",
        "cls_bias_K": "cls_bias_K",
    }
    arrays = {}
    for torch_name, name in names.items():
        arrays[name] = state[torch_name].detach().cpu().double().numpy()
    arrays["bt_KD"] = unit_rows(arrays["bt_KD"])
    return Strengths.of({"centre_F": centre_F, "scale_F": scale_F, **arrays}, dev_loss, epoch)
