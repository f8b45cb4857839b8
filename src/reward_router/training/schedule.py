"""The learning rate of every optimiser step of a run: linear warm-up, then constant, linear or cosine decay.

The rate depends on where in the run a step is and on nothing else, so a resumed run has the rates of one that was never
interrupted, without any state. Batches differ in how many pairs they give, hence in optimiser steps; a place in the run is
therefore counted in *planned* steps, those of batches that all give as many pairs as they can. Left out: restarts, a floor.
"""

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Rates for ``batches`` batches of ``per_batch`` planned optimiser steps each.

    ``lr``: the highest rate. ``warmup``: planned optimiser steps of warm-up where 1 or more, a share of all of them below 1.

    >>> [round(Schedule(1.0, 2, "linear", 4, 1).rate(t), 2) for t in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """

    lr: float
    warmup: float = 0.0
    kind: Kind = "constant"
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
        """The rate of the step before which ``batch`` whole batches and a share ``done`` of this batch's steps were taken.

        With n planned steps before it, W of warm-up and U in all: lr (n + 1) / W while n < W, then lr (linear: times
        (U - n) / (U - W), cosine: times (1 + cos(pi (n - W) / (U - W))) / 2). Never below 0, and the first step is never at 0.
        """
        before = (batch + done) * self.per_batch
        warm = self.warm_steps
        if before < warm:
            return self.lr * min(1.0, (before + 1) / warm)
        if self.kind == "constant":
            return self.lr
        left = max(0.0, (self.steps - before) / max(self.steps - warm, 1))
        if self.kind == "linear":
            return self.lr * left
        return self.lr * (1 + math.cos(math.pi * (1 - left))) / 2
