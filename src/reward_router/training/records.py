"""What goes into a trainer and what comes out of it. No torch.

A loop, and a test, can be read without one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from reward_router.data import Prompt
from reward_router.types import Float


@dataclass(frozen=True, slots=True)
class Pair:
    """One preference: the trainer sees texts, never which arm preferred. ``weight``.

    How much of a pair it counts in the step.
    """

    prompt: Prompt
    chosen: str
    rejected: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one or more optimiser steps on P pairs reported.

    Args:
        loss_P: each pair's loss before the first step, nats.
        skipped: whether a loss was not finite, so that its step was not taken.
        grad_norm: of the last step.
        lr_S: the learning rate of each of the S optimiser steps that were taken.
        moved_P2: what the policy gives the chosen and the rejected response of each pair beyond
            its reference, before the first step, nats a response; no rows where the loss has no
            reference.
    """

    loss_P: Float
    skipped: bool
    grad_norm: float
    lr_S: tuple[float, ...] = ()
    moved_P2: Float = field(default_factory=lambda: np.zeros((0, 2)))


class PairTrainer(Protocol):
    """Whatever trains on preference pairs."""

    def step(self, pairs: Sequence[Pair], batch: int = 0) -> StepResult:
        """Train on the pairs of batch number ``batch``."""
        ...

    def losses(self, pairs: Sequence[Pair], batch: Sequence[Pair] | None = None) -> Float:
        """(P,) each pair's loss now, nats, without a step."""
        ...
