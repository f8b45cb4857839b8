"""The learning rate of every optimiser step of a run: warm-up, then constant or in decay.

The rate depends on where in the run a step is and on nothing else, so a resumed run has the rates
of one that was never interrupted, without any state. Batches differ in how many pairs they give,
and so in optimiser steps. A place in the run is therefore counted in *planned* steps, those of
batches that all give as many pairs as they can. Left out: restarts, a lowest rate.
"""

import math
from dataclasses import dataclass
from typing import Literal

ScheduleKind = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Rates for ``batches`` batches of ``per_batch`` planned optimiser steps each.

    Args:
        lr: the highest rate.
        warmup: planned optimiser steps of warm-up; a number below 1 is a share of all of them.
        kind: how the rate goes on after the warm-up.
        batches: the batches of the whole run.
        per_batch: the planned optimiser steps of a batch.

    >>> [round(Schedule(1.0, 2, "linear", 4, 1).rate(t), 2) for t in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """

    lr: float
    warmup: float = 0.0
    kind: ScheduleKind = "constant"
    batches: int = 1
    per_batch: int = 1

    @property
    def steps(self) -> int:
        """Planned optimiser steps of the whole run."""
        return self.batches * self.per_batch

    @property
    def warm_steps(self) -> int:
        """Planned steps before the highest rate is reached; a share is rounded up."""
        return math.ceil(self.warmup * self.steps) if self.warmup < 1 else int(self.warmup)

    def rate(self, batch: int, done: float = 0.0) -> float:
        """The rate of one step, never below 0; the first step is never at 0.

        With n planned steps before it, W of warm-up and U in all, it is lr (n + 1) / W while n < W.
        From then on it is lr, times (U - n) / (U - W) for ``linear`` and times
        (1 + cos(pi (n - W) / (U - W))) / 2 for ``cosine``.

        Args:
            batch: the batches before this one.
            done: the share of this batch's own steps that were taken before this step.
        """
        steps_before = (batch + done) * self.per_batch
        warm_steps = self.warm_steps
        if steps_before < warm_steps:
            # n + 1 and not n: the first step already learns.
            return self.lr * min(1.0, (steps_before + 1) / warm_steps)
        if self.kind == "constant":
            return self.lr

        # (U - n) / (U - W); never below 0, where a batch gave more steps than planned.
        decay_steps = max(self.steps - warm_steps, 1)
        share_left = max(0.0, (self.steps - steps_before) / decay_steps)
        if self.kind == "linear":
            return self.lr * share_left
        angle = math.pi * (1 - share_left)
        return self.lr * (1 + math.cos(angle)) / 2
