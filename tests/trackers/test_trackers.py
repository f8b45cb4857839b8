"""What a tracker is told is what metrics.jsonl holds, once a step, resumed or not."""

import json
import os
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from reward_router import reporting
from reward_router.config import Config
from reward_router.errors import InputError
from reward_router.rundir import RunDir
from reward_router.trackers.figures import TRL_NAMES, step_figures

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
        if name.startswith("router/seconds/"):
            continue  # a step that is done again takes another time
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


@pytest.fixture(scope="module")
def trackio_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trackio reads its variable once, when it is imported."""
    return tmp_path_factory.mktemp("trackio")


@pytest.fixture(params=READERS)
def tracker(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    trackio_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """Each tracker whose package is here, kept on this machine."""
    name = str(request.param)
    try:
        reporting.check_trackers([name])
    except InputError as error:
        pytest.skip(str(error))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(trackio_folder))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'mlruns'}")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # mlflow-skinny has no database
    return name


def test_a_tracker_holds_what_the_log_holds_though_the_run_was_interrupted(
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

    warned: list[str] = []
    monkeypatch.setattr(run._Run, "_warn", lambda self, what: warned.append(what))
    config = tiny(f"report_to={tracker}", "checkpoint_every=2")
    monkeypatch.setattr(reporting.Reporter, "step", interrupted_once)
    with pytest.raises(KeyboardInterrupt):
        run.train(config, out)
    begun = json.loads((out / "trackers.json").read_text(encoding="utf-8"))[tracker]
    run.train(config, out, resume=True)
    assert told[3:] == [0, 1, 2, 3], "the log up to the checkpoint, then the steps after it"
    ended = json.loads((out / "trackers.json").read_text(encoding="utf-8"))[tracker]
    assert ended["run_id"] == begun["run_id"]
    assert not [line for line in warned if "report_to" in line]
    agree(read(out), expected(out, prefix))


class Listener:
    """A tracker of a user's own module, which keeps what it is told in a file."""

    def __init__(self, run: Any) -> None:
        self.file = run.folder / "heard.jsonl"
        self.run_id = run.run_id or "mine"
        self._write(["begun", run.first, run.config["policy"]["model"]])

    def _write(self, what: Any) -> None:
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(what) + "\n")

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self._write([step, dict(figures)])

    def close(self, finished: bool) -> None:
        self._write(["closed", finished])


class Fails(Listener):
    """Takes the first step and fails ever after, with a secret in its words."""

    def log(self, figures: Mapping[str, float], step: int) -> None:
        if step > 1:
            key = os.environ["MY_TRACKER_API_KEY"]
            raise ConnectionError(f"no network\nfor key {key} at https://me:pass@host/api")
        super().log(figures, step)


class NeverStarts:
    def __init__(self, run: Any) -> None:
        raise SystemExit("bad key")


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of a user, with the classes above."""
    (tmp_path / "my_trackers.py").write_text(Path(__file__).read_text(encoding="utf-8"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_trackers", raising=False)
    return "my_trackers"


def heard(out: Path) -> list[Any]:
    return [json.loads(line) for line in (out / "heard.jsonl").read_text().splitlines()]


def points_of(told: list[Any]) -> Points:
    points: Points = {}
    for step, figures in told:
        for name, value in figures.items():
            points.setdefault(name, []).append((step, value))
    return points


def test_a_tracker_of_ones_own(
    own_module: str, tiny: Callable[..., Config], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    run.train(tiny(f"report_to={own_module}:Listener"), out)
    begun, *told, closed = heard(out)
    assert (begun, closed) == (["begun", 0, "tiny"], ["closed", True])
    points = points_of(told)
    agree(points, expected(out, ""))
    first = points["loss"][0][1], points["router/calls"][0][1]
    record = RunDir(out).read_log()[0]
    assert first == (record["loss"], record["calls"])
    assert sum(value for _, value in points["router/calls"]) == _calls_in_ledger(out)


def test_a_tracker_that_is_named_later_is_told_what_it_missed(
    own_module: str,
    tiny: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "run"
    logged = RunDir.log

    def interrupted(self: RunDir, record: dict[str, Any]) -> None:
        logged(self, record)
        if record["step"] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunDir, "log", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.train(tiny(), out)
    monkeypatch.setattr(RunDir, "log", logged)
    run.train(tiny(f"report_to={own_module}:Listener"), out, resume=True)
    assert heard(out)[0] == ["begun", 3, "tiny"]
    agree(points_of(heard(out)[1:-1]), expected(out, ""))


def _calls_in_ledger(out: Path) -> int:
    made: int = json.loads((out / "summary.json").read_text())["calls"]["made"]
    return made


def test_a_tracker_that_fails_is_said_once_and_the_run_goes_on(
    own_module: str,
    tiny: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_TRACKER_API_KEY", "s3cr3t-value")
    out = tmp_path / "run"
    names = f"[{own_module}:Fails, {own_module}:NeverStarts]"
    with monkeypatch.context() as heard_warnings:
        said: list[str] = []
        heard_warnings.setattr(run._Run, "_warn", lambda self, what: said.append(what))
        summary = run.train(tiny(f"report_to={names}"), out)
    assert summary["steps"] == 4
    assert len(RunDir(out).read_log()) == 4
    never, fails = [line for line in said if "report_to" in line]
    assert "NeverStarts failed (start): RuntimeError: SystemExit bad key" in never
    assert "Fails failed (step 2): ConnectionError: no network for key *** at https://***@" in fails
    assert "\n" not in fails
    for file in out.rglob("*"):
        if file.is_file():
            assert b"s3cr3t-value" not in file.read_bytes(), file


def test_a_package_that_is_absent_is_refused_before_anything_is_made(
    tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A folder of the tracker's name, as wandb makes it where it runs, is no package.
    (tmp_path / "wandb").mkdir()
    hidden_path = [path for path in sys.path if not (Path(path) / "wandb" / "__init__.py").exists()]
    monkeypatch.setattr(sys, "path", [str(tmp_path), *hidden_path])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(InputError, match="wandb is not installed; pip install wandb"):
        run.train(tiny("report_to=wandb"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("tensorbord", "did you mean tensorboard"),
        ("[tensorboard, tensorboard]", "listed twice"),
        ("no_such_module:Mine", "cannot be imported"),
        ("3", "report_to"),
    ],
)
def test_what_is_no_tracker_is_refused(
    tiny: Callable[..., Config], given: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        tiny(f"report_to={given}")


def test_one_name_a_list_and_none(tiny: Callable[..., Config]) -> None:
    assert tiny("report_to=none").report_to == tiny().report_to == []
    assert tiny("report_to=null").report_to == []
    assert tiny("report_to=mlflow").report_to == tiny("report_to=[mlflow]").report_to == ["mlflow"]


def test_trl_spells_its_figures_so() -> None:
    """Every name that is said to be TRL's stands in the sources of TRL or transformers."""
    trl = pytest.importorskip("trl", reason="needs the package trl")
    transformers = pytest.importorskip("transformers")
    folder = Path(trl.__file__).parent
    files = [
        folder / "trainer" / "dpo_trainer.py",
        folder / "trainer" / "grpo_trainer.py",
        folder / "experimental" / "online_dpo" / "online_dpo_trainer.py",
        Path(transformers.__file__).parent / "trainer.py",
    ]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    keys = dict.fromkeys(TRL_NAMES, 0.5)
    record = {**keys, "lr": [0.1], "finished": 0.5}
    names = [name for name in step_figures(record) if not name.startswith("router/")]
    assert len(names) == len(TRL_NAMES) + 2
    for name in names:
        assert f'["{name}"]' in text, name
