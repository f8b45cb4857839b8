"""Training runs of experiments: a configuration is trained once, whichever experiment asks first.

Several experiments compare the same variants, and a run takes minutes. With ``--runs DIR`` a run
lies in a folder that is named after its resolved configuration, its seed and this version, so that
the next experiment with the same DIR finds it. Without, each experiment keeps its own.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reward_router import __version__
from reward_router import config as configuration
from reward_router.changes import differences, first_change
from reward_router.config import Config
from reward_router.errors import RunError
from reward_router.examples import load_examples
from reward_router.experiments.claims import claimed
from reward_router.experiments.kind import Place
from reward_router.jobs.study import train_and_share
from reward_router.manifest import manifest
from reward_router.progress import say
from reward_router.rundir import make_folder
from reward_router.strict_json import dumps


def run_folder(config: Config, place: Place) -> Path:
    """Where the run of this configuration lies: among the shared ones, or in the job's folder."""
    if place.runs is None:
        return place.folder / "run"
    return place.runs / _digest(f"{__version__}\n{configuration.dump(config)}")


def run_once(config: Config, place: Place) -> tuple[Path, dict[str, Any]]:
    """Train, go on where a run was interrupted, or read what was trained before.

    Returns the run's folder and its summary. Another process that trains the same configuration is
    waited for. RunError where a finished run was made of other prompts, weights or code.
    """
    folder = run_folder(config, place)
    make_folder(folder.parent)
    with claimed(folder.with_name(f"{folder.name}.lock"), wait=True):
        summary = _finished(folder)
        if summary is not None:
            _check_the_same(config, folder, summary)
            say(place.console, f"trained before: {folder}", "dim", wrap=False)
            return folder, summary
        return folder, train_and_share(config, folder, _before(config, place), place.console)


def _before(config: Config, place: Place) -> Path:
    """Where gold before training is kept for all runs that measure the same."""
    measured = config.model_dump(mode="json", include={"policy", "eval", "data"})
    if config.eval.data is not None:
        # The held-out prompts are named; those that are trained on say nothing of them.
        del measured["data"]
    shared = place.runs or place.shared
    return shared / f"before-{_digest(dumps(measured))}.json"


def _finished(folder: Path) -> dict[str, Any] | None:
    path = folder / "summary.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _check_the_same(config: Config, folder: Path, summary: Mapping[str, Any]) -> None:
    """RunError unless the run was made of what this configuration names now."""
    now = manifest(config, load_examples(config.data))
    changes = differences(summary["manifest"], now)
    if changes:
        raise RunError(f"{folder}: {first_change(changes)}; put it back, or give another --runs")


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()
