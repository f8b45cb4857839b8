"""What a tracker is told is what metrics.jsonl holds, once a step, resumed or not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reward_router.config import Config
from reward_router.rundir import RunDir
from reward_router.trackers.figures import step_figures

run = pytest.importorskip("reward_router.run", reason="needs the packages of the extra `train`")

Points = dict[str, list[tuple[int, float]]]
"""Name of a figure -> its points (step, value) in order, as a tracker's own reader gives them."""


def expected(out: Path, prefix: str) -> Points:
    """What metrics.jsonl and summary.json say, by the names of a tracker."""
    points: Points = {}
    for record in RunDir(out).read_log():
        for name, value in step_figures(record, prefix).items():
            points.setdefault(name, []).append((record["step"] + 1, value))
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    gold = summary["gold"]["all"]
    points["router/gold/held_out/before"] = [(0, gold["before"])]
    points["router/gold/held_out/after"] = [(summary["steps"], gold["after"])]
    return points


def agree(found: Points, wanted: Points) -> None:
    assert found.keys() == wanted.keys()
    for name, points in wanted.items():
        assert [step for step, _ in found[name]] == [step for step, _ in points], name
        values = [value for _, value in points]
        # Event files of TensorBoard hold 32 bits of a number.
        assert [value for _, value in found[name]] == pytest.approx(values, rel=1e-6), name


def in_tensorboard(out: Path) -> Points:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    points: Points = {}
    for name in events.Tags()["scalars"]:
        points[name] = [(event.step, event.value) for event in events.Scalars(name)]
    return points


@pytest.fixture
def interrupted(tiny: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs that stop after a step in the middle, beyond their last checkpoint, and go on."""

    def twice(out: Path, tracker: str) -> None:
        config = tiny(f"report_to={tracker}", "checkpoint_every=2")
        told: list[int] = []
        step = run.Reporter.step

        def listens(self: Any, record: dict[str, Any]) -> None:
            told.append(record["step"])
            step(self, record)
            if record["step"] == 2 and told.count(2) == 1:
                raise KeyboardInterrupt

        monkeypatch.setattr(run.Reporter, "step", listens)
        with pytest.raises(KeyboardInterrupt):
            run.train(config, out)
        run.train(config, out, resume=True)
        assert told == [0, 1, 2, 2, 3], "step 3 comes after the last checkpoint and is told again"

    return twice


def test_tensorboard_holds_what_the_log_holds(tiny: Callable[..., Config], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the package tensorboard")
    run.train(tiny("report_to=tensorboard"), tmp_path / "run")
    agree(in_tensorboard(tmp_path / "run"), expected(tmp_path / "run", "train/"))


def test_tensorboard_goes_on_where_the_run_does(interrupted: Any, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the package tensorboard")
    interrupted(tmp_path / "run", "tensorboard")
    agree(in_tensorboard(tmp_path / "run"), expected(tmp_path / "run", "train/"))
