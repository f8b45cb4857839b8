"""What a tracker is told is what metrics.jsonl holds, once a step, resumed or not."""

import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from reward_router import reporting
from reward_router.config import Config
from reward_router.errors import InputError
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


def in_wandb(out: Path) -> Points:
    """From the files of W&B's offline runs, which hold records of its protocol."""
    from wandb.proto import wandb_internal_pb2

    points: Points = {}
    for file in sorted(out.glob("wandb/offline-run-*/*.wandb")):
        for data in leveldb_records(file.read_bytes()[7:]):
            record = wandb_internal_pb2.Record.FromString(data)
            if record.WhichOneof("record_type") != "history":
                continue
            items = record.history.item
            row = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}
            step = row.pop("train/global_step")
            for name, value in row.items():
                if not name.startswith("_"):
                    points.setdefault(name, []).append((step, value))
    return points


def leveldb_records(data: bytes) -> Iterator[bytes]:
    """Records of a LevelDB log: blocks of 32 KiB with a header (checksum, length, type) a piece."""
    header = 7
    block = 32768
    position = header  # the file's own header, which was cut off, belongs to the first block
    whole = b""
    while position - header < len(data):
        if block - position % block < header:
            position += block - position % block
            continue
        start = position - header
        _, length, kind = struct.unpack("<IHB", data[start : start + header])
        if kind == 0:
            return
        whole += data[start + header : start + header + length]
        position += header + length
        if kind in (1, 4):  # the only piece of a record, or its last
            yield whole
            whole = b""


def in_trackio(out: Path) -> Points:
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    name = json.loads((out / "trackers.json").read_text(encoding="utf-8"))["trackio"]["run_id"]
    [run_of_it] = [run for run in trackio.Api().runs("reward-router") if run.name == name]
    points: Points = {}
    rows = SQLiteStorage.get_logs("reward-router", run_of_it.name, run_id=run_of_it.id)
    for row in sorted(rows, key=lambda row: row["step"]):
        for key, value in row.items():
            if key not in ("step", "timestamp"):
                points.setdefault(key, []).append((row["step"], value))
    return points


def in_mlflow(out: Path) -> Points:
    from mlflow import MlflowClient

    run_id = json.loads((out / "trackers.json").read_text(encoding="utf-8"))["mlflow"]["run_id"]
    client = MlflowClient()
    found = client.get_run(run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params["policy.model"] == "tiny"
    points: Points = {}
    for name in found.data.metrics:
        history = client.get_metric_history(run_id, name)
        points[name] = [(metric.step, metric.value) for metric in history]
    return points


READERS: dict[str, tuple[Callable[[Path], Points], str]] = {
    "tensorboard": (in_tensorboard, "train/"),
    "wandb": (in_wandb, "train/"),
    "trackio": (in_trackio, "train/"),
    "mlflow": (in_mlflow, ""),
}
"""Tracker -> what reads it back, and what stands before TRL's names there."""


@pytest.fixture(params=READERS)
def tracker(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each tracker whose package is here, kept on this machine."""
    name = str(request.param)
    try:
        reporting.check_trackers([name])
    except InputError as error:
        pytest.skip(str(error))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'mlruns'}")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # mlflow-skinny has no database
    return name


def test_a_tracker_holds_what_the_log_holds(
    tracker: str, tiny: Callable[..., Config], tmp_path: Path
) -> None:
    read, prefix = READERS[tracker]
    out = tmp_path / "run"
    run.train(tiny(f"report_to={tracker}"), out)
    agree(read(out), expected(out, prefix))


def test_a_resumed_run_goes_on_in_the_same_run_of_the_tracker(
    tracker: str, tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, prefix = READERS[tracker]
    out = tmp_path / "run"
    told: list[int] = []
    step = reporting.Reporter.step

    def interrupted_once(self: reporting.Reporter, record: Mapping[str, Any]) -> None:
        step(self, record)
        told.append(record["step"])
        if told == [0, 1, 2]:
            raise KeyboardInterrupt

    config = tiny(f"report_to={tracker}", "checkpoint_every=2")
    monkeypatch.setattr(reporting.Reporter, "step", interrupted_once)
    with pytest.raises(KeyboardInterrupt):
        run.train(config, out)
    begun = json.loads((out / "trackers.json").read_text(encoding="utf-8"))[tracker]
    run.train(config, out, resume=True)
    assert told[3:] == [0, 1, 2, 3], "the log up to the checkpoint, then the steps after it"
    ended = json.loads((out / "trackers.json").read_text(encoding="utf-8"))[tracker]
    assert ended["run_id"] == begun["run_id"]
    agree(read(out), expected(out, prefix))
