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
INIT_S = 45
"""Seconds that W&B may take to find its server; its own 90 hold up a run without a network."""


class WandB:
    """One run of W&B, whose files lie in ``wandb`` of the run's directory.

    A process that goes on continues the run of the same id. Rows cannot be taken back there, so
    what was told is not told again.
    """

    def __init__(self, run: TrackedRun) -> None:
        """Starts W&B's own process. It never asks for a key: without one it raises."""
        import wandb

        # Without a key W&B would ask for one, and the run would stand still.
        online = os.environ.get("WANDB_MODE", "online") == "online"
        if online and not wandb.login(prompt=False):
            raise ConnectionError("no key: set WANDB_API_KEY, or WANDB_MODE=offline")
        # The run is named after its folder; W&B's id has to be unlike all others.
        self.run_id = run.run_id or uuid.uuid4().hex[:12]
        settings = wandb.Settings(silent=True, console="off", init_timeout=INIT_S)
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
