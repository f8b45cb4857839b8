"""MLflow: a server, a database or a folder, whatever ``MLFLOW_TRACKING_URI`` names.

The experiment is ``MLFLOW_EXPERIMENT_NAME``. ``mlflow-skinny`` is enough for a server.
"""

import os
import re
import time
from collections.abc import Mapping

from reward_router.kinds import TrackerKind
from reward_router.trackers import PROJECT, TrackedRun, flat

LONGEST_VALUE = 500
"""Characters of a parameter that every server of MLflow takes."""
AT_ONCE = 100
"""Parameters that MLflow takes in one request."""
_NOT_IN_NAMES = re.compile(r"[^0-9A-Za-z_\-. :/]")
"""What MLflow refuses in the name of a figure; an arm's name may be any text."""


class MLflow:
    """One run of MLflow.

    A process that goes on continues the run of the same id. Points cannot be taken back there, so
    what was told is not told again.
    """

    def __init__(self, run: TrackedRun) -> None:
        """Begins the run in its experiment, or opens it again."""
        # A server that is away is asked again for half a minute, not for the usual four.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        from mlflow import MlflowClient

        self.client = MlflowClient()
        if run.run_id is not None:
            self.run_id = run.run_id
            self.client.update_run(self.run_id, status="RUNNING")
            return
        made = self.client.create_run(self._experiment(), run_name=run.folder.resolve().name)
        self.run_id = made.info.run_id
        self._parameters(run.config)

    @property
    def where(self) -> str:
        """The experiment and the run."""
        return f"experiment {_experiment_name()!r}, run {self.run_id}"

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """One request for all figures of a step."""
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        metrics = []
        for name, value in figures.items():
            metrics.append(Metric(_NOT_IN_NAMES.sub("_", name), value, now, step))
        self.client.log_batch(self.run_id, metrics=metrics)

    def close(self, finished: bool) -> None:
        """Say how the run ended."""
        self.client.set_terminated(self.run_id, "FINISHED" if finished else "KILLED")

    def _experiment(self) -> str:
        name = _experiment_name()
        known = self.client.get_experiment_by_name(name)
        found: str = known.experiment_id if known else self.client.create_experiment(name)
        return found

    def _parameters(self, config: Mapping[str, object]) -> None:
        from mlflow.entities import Param

        params = []
        for key, value in flat(config).items():
            params.append(Param(_NOT_IN_NAMES.sub("_", key), str(value)[:LONGEST_VALUE]))
        for start in range(0, len(params), AT_ONCE):
            self.client.log_batch(self.run_id, params=params[start : start + AT_ONCE])


def _experiment_name() -> str:
    return os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)


KIND = TrackerKind(
    "mlflow",
    MLflow,
    "MLflow, at `MLFLOW_TRACKING_URI`",
    package="mlflow",
    install="mlflow",
)
