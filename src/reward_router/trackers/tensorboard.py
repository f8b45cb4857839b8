"""TensorBoard: event files in the run's own directory; nothing leaves the machine."""

import json
from collections.abc import Mapping

from reward_router.kinds import TrackerKind
from reward_router.trackers import TrackedRun


class TensorBoard:
    """Writes event files into ``tensorboard`` of the run's directory.

    What an earlier process told of steps after the checkpoint is marked as void, so that
    TensorBoard shows every step once.
    """

    run_id: str | None = None

    def __init__(self, run: TrackedRun) -> None:
        """Opens a new event file beside those of earlier processes."""
        from torch.utils.tensorboard import SummaryWriter

        folder = run.folder / "tensorboard"
        self.where = f"tensorboard --logdir {folder}"
        goes_on = folder.is_dir()
        self.writer = SummaryWriter(folder, purge_step=run.first if goes_on else None)
        if not goes_on:
            self.writer.add_text("config", f"```json\n{json.dumps(run.config, indent=2)}\n```")

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """One point a figure. Written at once: a step takes longer than a flush."""
        for name, value in figures.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self, finished: bool) -> None:
        """Close the file."""
        self.writer.close()


KIND = TrackerKind(
    "tensorboard",
    TensorBoard,
    "event files in `tensorboard/` of the run's directory, for `tensorboard --logdir`",
    package="tensorboard",
    install="tensorboard",
    prefix="train/",
    replaces=True,
)
