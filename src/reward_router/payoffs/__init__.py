"""From what was measured (losses, gold) to the payoff in [0, 1] a router learns from.

One file a family: ``losses`` (the papers'), ``gold`` (anchored in truth), ``own`` (a user's
function); ``scaler`` brings raw payoffs to [0, 1]. Each file declares its names in ``KINDS``, which
``reward_router.kinds.PAYOFFS`` lists.
"""

from reward_router.payoffs.gold import gold_of_best, gold_of_choice, order_accuracy
from reward_router.payoffs.losses import (
    full_advantage,
    improvement,
    label_losses,
    light_advantage,
    neg_loss,
    pair_agreement,
)
from reward_router.payoffs.scaler import MIN_SPREAD, QuantileScaler, finite_payoff

__all__ = [
    "MIN_SPREAD",
    "QuantileScaler",
    "finite_payoff",
    "full_advantage",
    "gold_of_best",
    "gold_of_choice",
    "improvement",
    "label_losses",
    "light_advantage",
    "neg_loss",
    "order_accuracy",
    "pair_agreement",
]
