"""Reward-model strengths, learned from who was right on which pair.

h = MLP(pair features) of unit norm, s_n = <h, E_bt[n]>. BayesianRouter, section 3: MLP is Linear ->
ReLU -> LayerNorm, then h / |h|; E_bt has unit rows, so s is a cosine; E_cls has a bias an arm. What
is fitted is held in numpy, so that a router needs no torch to read it.

Deviations from the paper: (1) features are centred and scaled by their training mean and spread
before the MLP, or else its bias drowns features of unit norm; (2) the best epoch is chosen on a dev
split of the training prompts, never on the test set; (3) the start is not blind: E_cls has its
biases at each arm's own log-odds of being right, and h a constant component along which E_bt starts
with the arms' overall strengths (`learn.seeded_head`), so that few pairs do no worse than the best
single arm.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reward_router.errors import InputError
from reward_router.features import unit_rows
from reward_router.keyed import rng
from reward_router.types import AnyFloat, Float, Int

EPSILON = 1e-5  # torch's LayerNorm


@dataclass(frozen=True, eq=False)
class Strengths:
    """A fitted encoder head and the strengths of K arms.

    D features of h, F of a pair.

    Args:
        centre_F: taken off the features.
        scale_F: divides them.
        weight_DF: of the linear layer.
        bias_D: of the linear layer.
        gain_D: of LayerNorm.
        shift_D: of LayerNorm.
        bt_KD: E_bt, with unit rows.
        cls_KD: E_cls.
        cls_bias_K: of E_cls.
        dev_loss: L_bt + lambda L_cls on the dev split at the epoch kept.
        epoch: the one kept; 0 is the start.
    """

    centre_F: Float
    scale_F: Float
    weight_DF: Float
    bias_D: Float
    gain_D: Float
    shift_D: Float
    bt_KD: Float
    cls_KD: Float
    cls_bias_K: Float
    dev_loss: float = np.nan
    epoch: int = 0

    @property
    def dim(self) -> int:
        """D, the features of h."""
        return len(self.bias_D)

    @property
    def n_arms(self) -> int:
        """K."""
        return len(self.bt_KD)

    def encode(self, features_PF: AnyFloat) -> Float:
        """(P, D) float64 rows h of unit norm. InputError where F differs. O(P F D)."""
        x_PF = np.asarray(features_PF, dtype=np.float64)
        n_features = len(self.centre_F)
        if x_PF.ndim != 2 or x_PF.shape[1] != n_features:
            raise InputError(f"pair features must be (P, {n_features}), got {x_PF.shape}")

        # A linear layer with ReLU on standardised features.
        scaled_PF = (x_PF - self.centre_F) / self.scale_F
        z_PD = np.maximum(scaled_PF @ self.weight_DF.T + self.bias_D, 0.0)

        # LayerNorm over the D features, then unit norm.
        mean_P1 = z_PD.mean(axis=1, keepdims=True)
        spread_P1 = np.sqrt(z_PD.var(axis=1, keepdims=True) + EPSILON)
        normal_PD = (z_PD - mean_P1) / spread_P1
        return unit_rows(normal_PD * self.gain_D + self.shift_D)

    def scores(self, h_PD: Float) -> Float:
        """(P, K) cosines s_n = <h, E_bt[n]> in [-1, 1]: which arm to ask.

        They are comparable within a row only (BT).
        """
        return np.asarray(h_PD @ self.bt_KD.T)

    def probability(self, h_PD: Float) -> Float:
        """(P, K) sigmoid(<h, E_cls[n]> + b_n): how likely each arm is right (CLS head)."""
        logit_PK = h_PD @ self.cls_KD.T + self.cls_bias_K
        return np.asarray(1.0 / (1.0 + np.exp(-logit_PK)))

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """Every fitted array by name, for saving."""
        return {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name not in ("dev_loss", "epoch")
        }

    @classmethod
    def of(
        cls, arrays: Mapping[str, AnyFloat], dev_loss: float = np.nan, epoch: int = 0
    ) -> "Strengths":
        """The inverse of `arrays`, bit for bit."""
        wide = {name: np.asarray(value, dtype=np.float64) for name, value in arrays.items()}
        return cls(**wide, dev_loss=dev_loss, epoch=epoch)


def right_of(margins_PK: Float, label_P: ArrayLike) -> Float:
    """(P, K): 1 where the margin has the label's sign, 0 where the other.

    NaN where it is 0 or NaN (a tie, an abstention).

    >>> right_of(np.array([[0.5, -1.0, 0.0, np.nan]]), [1]).tolist()
    [[1.0, 0.0, nan, nan]]
    """
    label_P1 = np.asarray(label_P, dtype=np.float64)[:, None]
    sign_PK = np.sign(margins_PK) * label_P1
    # + where margin and label have one sign, - where they differ.
    is_right_PK = (sign_PK > 0).astype(np.float64)
    says_nothing_PK = np.isnan(sign_PK) | (sign_PK == 0)
    return np.where(says_nothing_PK, np.nan, is_right_PK)


def dev_rows(groups: Int, share: float, seed: int = 0, what: str = "dev") -> NDArray[np.bool_]:
    """(P,) True for the rows of about ``share`` of the groups, at least one on either side. O(P).

    ``what`` keys the draw.
    """
    names, index_P = np.unique(groups, return_inverse=True)
    n_groups = len(names)
    if not 0 < share < 1:
        raise InputError(
            f"dev={share}: a share of the prompts strictly between 0 and 1, "
            "or a (P,) array of truth values"
        )
    if n_groups < 2:
        raise InputError(
            "strengths need at least 2 prompts: one side of the dev split would be empty"
        )

    # Both sides get a prompt, however small the share is.
    n_dev = min(max(round(share * n_groups), 1), n_groups - 1)
    draw = rng(seed, "data", 0, what)
    drawn = draw.permutation(n_groups)[:n_dev]
    chosen_G = np.zeros(n_groups, dtype=bool)
    chosen_G[drawn] = True
    return np.asarray(chosen_G[index_P])


@dataclass(frozen=True)
class LearnSettings:
    """What `fit_strengths` was asked for."""

    dim: int
    lambda_cls: float
    balance: bool
    epochs: int
    lr: float
    batch: int
    weight_decay: float
    patience: int
    seed: int


def fit_strengths(  # noqa: PLR0913 - the learner's options, each with the default of the docs
    features_PF: AnyFloat,
    right_PK: Float,
    groups: ArrayLike,
    *,
    dim: int = 64,
    lambda_cls: float = 0.2,
    balance: bool = False,
    epochs: int = 60,
    lr: float = 1e-3,
    batch: int = 128,
    weight_decay: float = 0.01,
    patience: int = 8,
    seed: int = 0,
    dev: float | NDArray[np.bool_] = 0.1,
) -> Strengths:
    """Learn h, E_bt and E_cls by L = L_bt + lambda_cls L_cls.

    Learning stops where a dev split of the prompts says so. The same seed gives the same strengths
    bit for bit on one machine. Raises InputError for shapes, values or options out of range, or
    where no pair tells two arms apart. Needs torch. O(epochs P (F D + K^2)): 5,000 pairs of 768
    features in seconds.

    Args:
        features_PF: as `features.pair_rows` gives them.
        right_PK: 1 right, 0 wrong, NaN takes no part (see `right_of`).
        groups: (P,) numbers the prompts: no prompt is on both sides of the split.
        dim: D, the features of h.
        lambda_cls: weight of L_cls.
        balance: see `offline.balance`.
        epochs: passes at most.
        lr: learning rate.
        batch: pairs a step.
        weight_decay: of AdamW.
        patience: epochs without a better dev loss before it stops.
        seed: of the start, the split and the order.
        dev: a share of the prompts, or the dev rows themselves.
    """
    x_PF = np.asarray(features_PF, dtype=np.float64)
    group_P = np.asarray(groups)
    settings = LearnSettings(
        dim, lambda_cls, balance, epochs, lr, batch, weight_decay, patience, seed
    )
    _check(x_PF, right_PK, group_P)
    _check_options(settings)
    if isinstance(dev, float | int):
        dev_P = dev_rows(group_P, dev, seed)
    else:
        dev_P = np.asarray(dev, dtype=bool)
    if dev_P.shape != group_P.shape or dev_P.all() or not dev_P.any():
        raise InputError(
            f"dev must mark some rows and not all, as ({len(group_P)},) truth values, "
            f"got {dev_P.shape}"
        )
    from reward_router.offline.learn import learn

    return learn(x_PF, np.asarray(right_PK, dtype=np.float64), dev_P, settings)


def _check_options(settings: LearnSettings) -> None:
    for name, least in (("dim", 2), ("epochs", 1), ("batch", 1), ("patience", 1)):
        value = getattr(settings, name)
        if value < least:
            raise InputError(f"{name}={value}: at least {least}")
    s = settings
    if not (s.lambda_cls >= 0 and s.lr > 0 and s.weight_decay >= 0):
        raise InputError(
            f"lambda_cls={s.lambda_cls}, lr={s.lr}, weight_decay={s.weight_decay}: "
            "lr above 0, the others at least 0"
        )


def _check(x_PF: Float, right_PK: Float, group_P: NDArray[np.generic]) -> None:
    if x_PF.ndim != 2 or np.ndim(right_PK) != 2 or not len(x_PF) == len(right_PK) == len(group_P):
        shapes = f"{x_PF.shape}, {np.shape(right_PK)}, {group_P.shape}"
        raise InputError(
            "strengths need features (P, F), right (P, K) and groups (P,) of one length, "
            f"got {shapes}"
        )
    if np.shape(right_PK)[1] < 2:
        raise InputError(
            f"strengths compare arms: at least 2 are needed, got {np.shape(right_PK)[1]}"
        )
    finite_P = np.isfinite(x_PF).all(axis=1)
    if not finite_P.all():
        raise InputError(f"pair features must be finite; row {int(np.argmin(finite_P))} is not")
    wrong = ~(np.isnan(right_PK) | (right_PK == 0) | (right_PK == 1))
    if wrong.any():
        raise InputError(
            "right must be 0, 1 or NaN (a tie or an abstention), "
            f"found {np.asarray(right_PK)[wrong][0]}"
        )
