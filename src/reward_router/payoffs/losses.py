"""Payoffs from training losses: what the papers use.

They reward agreement with the policy, not truth.

Every formula returns a raw payoff, higher is better; do not negate twice. The kinds at the end say
which payoff a name means: each takes what came of one decision, and gives its payoff or None.
"""

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from reward_router.errors import InputError
from reward_router.kinds import PayoffKind
from reward_router.types import Float, Int


def neg_loss(loss_B: ArrayLike) -> Float:
    """-loss, one raw payoff a unit, (B,) -> (B,) (LASER section 3.2; BayesianRouter's default).

    >>> neg_loss([0.5, 2.0]).tolist()
    [-0.5, -2.0]
    """
    return -_losses(loss_B)


def improvement(before_B: ArrayLike, after_B: ArrayLike) -> Float:
    """Loss before the step minus loss after it on the same pairs (LASER section 3.3's reading).

    (B,), (B,) -> (B,).
    """
    before = _losses(before_B)
    after = _losses(after_B)
    if before.shape != after.shape:
        raise InputError(
            f"improvement: {before.shape[0]} losses before, {after.shape[0]} after; "
            "allowed equal numbers"
        )

    return before - after


def light_advantage(loss_B: ArrayLike) -> Float:
    """Mean loss of the batch minus the unit's own (BayesianRouter). (B,) -> (B,), sums to 0.

    >>> light_advantage([1.0, 3.0]).tolist()
    [1.0, -1.0]
    """
    loss = _losses(loss_B)
    # the mean of nothing is NaN and a warning
    return loss.mean() - loss if loss.size else loss


def full_advantage(own_B: ArrayLike, loss_BK: ArrayLike) -> Float:
    """1 where the unit's loss is below the mean over all K arms' labels, 0 where above.

    BayesianRouter's full advantage, (B,), (B, K) -> (B,); it costs K calls a unit, which the caller
    records. NaN (no update) where the two are equal. NaN in ``loss_BK`` is an arm that gave no
    label (it tied or abstained): the mean is over the others, and with none of them there is no
    update.

    >>> full_advantage([0.0, 2.0], [[0.0, 2.0], [0.0, 2.0]]).tolist()
    [1.0, 0.0]
    """
    own = _losses(own_B)
    loss = np.asarray(loss_BK, dtype=np.float64)
    if loss.ndim != 2 or loss.shape[0] != own.shape[0] or loss.shape[1] < 1 or np.isinf(loss).any():
        raise InputError(
            f"full_advantage: losses of shape {loss.shape}; "
            f"allowed ({own.shape[0]}, K) finite, or NaN for no label"
        )

    # differences first: equal losses cancel to 0 exactly
    gap = np.nansum(loss - own[:, None], axis=1)
    # NaN is no payoff: the two are equal, and nothing is said about the arm
    if_not_below = np.where(gap < 0, 0.0, np.nan)
    return np.where(gap > 0, 1.0, if_not_below)


def pair_agreement(gap_PK: ArrayLike, margin_K: ArrayLike, own_P: ArrayLike) -> Int:
    """How every arm orders each pair against the arm that judged it: 1 alike, -1 not, 0 a tie.

    Where the judging arm ties, its whole row is 0.

    Args:
        gap_PK: each arm's score of the one response less that of the other.
        margin_K: a gap up to it is a tie, and so is NaN.
        own_P: the arm that judged the pair.

    >>> pair_agreement([[2.0, -9.0, 0.1]], [0.0, 1.0, 0.5], [0]).tolist()
    [[1, -1, 0]]
    """
    gap = np.asarray(gap_PK, np.float64)
    margin = np.asarray(margin_K, np.float64)
    own = np.asarray(own_P, np.int64)

    decided_PK = np.abs(gap) > margin
    sign_PK = np.where(decided_PK, np.sign(gap), 0.0)
    # each pair's order by the arm that judged it
    own_sign_P = sign_PK[np.arange(len(own)), own]

    # Equal signs give 1, opposite ones -1, and a tie on either side 0.
    return np.asarray(sign_PK * own_sign_P[:, None], np.int64)


def label_losses(label_PK: Int, own_P: ArrayLike, flipped_P: ArrayLike) -> Float:
    """(P, K) a pair's loss under every arm's label.

    It is the pair's own loss, that of the order turned round, or NaN where there is no label.

    >>> label_losses(np.array([[1, -1, 0]]), [0.5], [2.0]).tolist()
    [[0.5, 2.0, nan]]
    """
    own_P1 = np.asarray(own_P, np.float64)[:, None]
    flipped_P1 = np.asarray(flipped_P, np.float64)[:, None]
    # An arm that would have ordered the pair the other way is charged with the other loss.
    where_not_alike = np.where(label_PK < 0, flipped_P1, np.nan)
    return np.where(label_PK > 0, own_P1, where_not_alike)


def _losses(loss_B: ArrayLike) -> Float:
    loss = np.asarray(loss_B, dtype=np.float64)
    if loss.ndim != 1 or not np.isfinite(loss).all():
        infinite = np.count_nonzero(~np.isfinite(loss))
        raise InputError(
            f"losses of shape {loss.shape}, {infinite} not finite; allowed finite (B,)"
        )
    return loss


class Losses(Protocol):
    """What came of one decision, as far as losses tell it.

    There is one loss for each of its P pairs before the step and after it, and one under each arm's
    label.
    """

    loss_P: list[float]
    after_P: list[float]
    loss_PK: list[list[float]]


def _minus_loss(outcome: Losses) -> float | None:
    """-loss, a mean over the decision's pairs; None without pairs."""
    return -float(np.mean(outcome.loss_P)) if outcome.loss_P else None


def _fall(outcome: Losses) -> float | None:
    """How much the step lowered the mean loss of the decision's pairs; None without pairs."""
    if not outcome.loss_P:
        return None
    return float(np.mean(outcome.loss_P)) - float(np.mean(outcome.after_P))


def _below_the_mean(outcome: Losses) -> float | None:
    """1 or 0; None where the judge of the pair had no order to give.

    NaN where no arm disagreed with it.
    """
    if not outcome.loss_P:
        return None
    # a decision of pair routing has one pair
    [sign] = full_advantage(outcome.loss_P, outcome.loss_PK)
    return float(sign)


def _against_the_mean(payoffs: list[float]) -> list[float]:
    """Of the -losses of a batch, each one's advantage over their mean."""
    losses = [-payoff for payoff in payoffs]
    return [float(advantage) for advantage in light_advantage(losses)]


KINDS = (
    PayoffKind(
        "neg_loss",
        _minus_loss,
        "minus the training loss on the arm's pairs, as in the paper; "
        "it rewards agreement with the policy, not truth",
        raw=True,
        needs_loss=True,
    ),
    PayoffKind(
        "improvement",
        _fall,
        "how much one step lowered the loss on the arm's pairs",
        raw=True,
        needs_loss=True,
        needs_after=True,
        needs_step=True,
    ),
    PayoffKind(
        "light_advantage",
        _minus_loss,
        "the batch's mean training loss less the pair's own; "
        "like minus the loss, it rewards agreement with the policy",
        raw=True,
        needs_loss=True,
        needs_step=True,
        compares_pairs=True,
        together=_against_the_mean,
    ),
    PayoffKind(
        "full_advantage",
        _below_the_mean,
        "1 where the arm's label has a lower training loss than the mean over all arms' labels, "
        "else 0; it rewards agreement with the policy",
        needs_loss=True,
        needs_step=True,
        compares_pairs=True,
        asks_all_arms=True,
    ),
)
