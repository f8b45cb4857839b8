"""What goes into a trainer and what comes out of it.

Importing this needs no torch, so a loop, and a test with a fake trainer, can do without it.
"""

from dataclasses import dataclass, field

import numpy as np

from reward_router.chat import Prompt
from reward_router.types import Float


@dataclass(frozen=True, slots=True)
class Pair:
    """One preference. The trainer sees texts and never which arm preferred.

    Args:
        prompt: the text or messages that both responses answer.
        chosen: the response that is to become more likely.
        rejected: the response that is to become less likely.
        weight: how many pairs this one counts for in the mean loss of a step.
    """

    prompt: Prompt
    chosen: str
    rejected: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one or more optimiser steps on P pairs reported.

    Args:
        loss_P: each pair's loss before the first step, in nats.
        skipped: whether a loss was not finite, so that its step was not taken.
        grad_norm: the norm of the gradient in the last step, before clipping.
        lr_S: the learning rate of each of the S optimiser steps that were taken.
        moved_P2: the log-probability under the policy less that under the reference, of the chosen
            and the rejected response of each pair, before the first step, in nats a response. It
            has no rows where the loss has no reference.
    """

    loss_P: Float
    skipped: bool
    grad_norm: float
    lr_S: tuple[float, ...] = ()
    moved_P2: Float = field(default_factory=lambda: np.zeros((0, 2)))
