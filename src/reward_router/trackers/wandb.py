"""Weights & Biases. Online by default; ``WANDB_MODE=offline`` keeps everything on this machine.

Project, entity, mode and key are W&B's own environment variables (``WANDB_PROJECT``,
``WANDB_ENTITY``, ``WANDB_MODE``, ``WANDB_API_KEY``); none of them is part of the configuration.
"""

import os
import uuid
from collections.abc import Mapping

from reward_router.kinds import TrackerKind
from reward_router.trackers import PROJECT, TrackedRun

STEP = "train/global_step"
"""The horizontal axis of every curve, by the name that transformers gives it."""


class WandB:
    """One run of W&B, whose files lie in ``wandb`` of the run's directory.

    A process that goes on continues the run of the same id. Rows cannot be taken back there, so
    what was told is not told again.
    """

    def __init__(self, run: TrackedRun) -> None:
        """Starts W&B's own process. It never asks for a key: without one it raises."""
        import wandb

        # The library's name for a run is its folder; W&B's id has to be unlike all others.
        self.run_id = run.run_id or uuid.uuid4().hex[:12]
        # Without a key W&B would ask for one, and the run would stand still.
        settings = wandb.Settings(silent=True, console="off", login_timeout=1)
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=os.environ.get("WANDB_NAME", run.folder.resolve().name),
            id=self.run_id,
            resume="allow",
            dir=str(run.folder),
            config=dict(run.config),
            settings=settings,
        )
        self.run.define_metric(STEP)
        self.run.define_metric("*", step_metric=STEP)
        self.where = self.run.url or f"wandb sync {self.run.settings.sync_dir}"

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """One row."""
        self.run.log({**figures, STEP: step})

    def close(self, finished: bool) -> None:
        """Send what is left; W&B marks a run that did not end as crashed."""
        self.run.finish(exit_code=0 if finished else 1)


KIND = TrackerKind(
    "wandb",
    WandB,
    "Weights & Biases; `WANDB_MODE=offline` for a machine without a network",
    package="wandb",
    install="wandb",
    prefix="train/",
)
