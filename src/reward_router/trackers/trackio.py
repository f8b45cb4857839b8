"""Trackio: a local SQLite file for ``trackio show``, or a Space or server of one's own.

Project, Space and server are environment variables (``TRACKIO_PROJECT``, ``TRACKIO_SPACE_ID``,
``TRACKIO_SERVER_URL``).
"""

import contextlib
import io
import os
import uuid
from collections.abc import Mapping

from reward_router.kinds import TrackerKind
from reward_router.trackers import PROJECT, TrackedRun


class Trackio:
    """One run of Trackio.

    A process that goes on continues the run of the same name. Points cannot be taken back there, so
    what was told is not told again.
    """

    def __init__(self, run: TrackedRun) -> None:
        """Opens the project."""
        import trackio

        # Trackio finds a run again by its name, so that the name has to be unlike all others.
        name = f"{run.folder.resolve().name}-{uuid.uuid4().hex[:6]}"
        self.run_id = run.run_id or name
        project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        self.where = f"trackio show --project {project}"
        # What Trackio prints would fall into the display of the run.
        with contextlib.redirect_stdout(io.StringIO()):
            self.run = trackio.init(
                project=project,
                name=self.run_id,
                resume="allow" if run.run_id else "never",
                config=dict(run.config),
                embed=False,
                auto_log_cpu=False,
            )

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """One row."""
        self.run.log(dict(figures), step=step)

    def close(self, finished: bool) -> None:
        """Wait until everything is stored."""
        # Not trackio.finish(): it knows a run only in the thread that began it.
        with contextlib.redirect_stdout(io.StringIO()):
            self.run.finish()


KIND = TrackerKind(
    "trackio",
    Trackio,
    "Trackio: a local file for `trackio show`, or a Space",
    package="trackio",
    install="trackio",
    prefix="train/",
)
