"""The command: resumed, shared by processes, failures counted, bad input in one line."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reward_router import cli
from reward_router.errors import InputError
from reward_router.experiments import command
from reward_router.experiments.command import experiment
from reward_router.experiments.kind import EXPERIMENTS, Job, Place, Plan, Request
from reward_router.experiments.results import Cell

DOCS = Path(__file__).parents[2] / "docs" / "experiments.md"
WRITTEN = ("result.json", "table.md", "report.html")


def written(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in WRITTEN]


def made_plan(work: Callable[[str, Place], Cell], seeds: int = 2) -> Plan:
    jobs = [Job(name, name, lambda place, name=name: work(name, place)) for name in ("one", "two")]
    return Plan(jobs=jobs, seeds=seeds, subject="here", metric="made.", reference="one")


def measured(name: str, place: Place) -> Cell:
    values = [1.0, 0.0, float(place.seed)] if name == "one" else [1.0, 1.0, 1.0]
    return Cell(values={name: {"right": values}})


def test_the_docs_list_every_experiment_with_its_command() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for name in EXPERIMENTS.names():
        assert f"experiment {name}" in text, name
        assert f"## {name}" in text, name


def test_a_killed_experiment_goes_on_to_the_same_bytes(scores: Path, tmp_path: Path) -> None:
    request = Request(scores=(str(scores),), seeds=3)
    experiment("noise", request, tmp_path / "whole")
    out = tmp_path / "killed"
    arguments = ["experiment", "noise", "--scores", str(scores), "--seeds", "3", "--out", str(out)]
    program = (
        f"import sys; sys.argv[1:] = {arguments!r}\nfrom reward_router.cli import main\nmain()"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)
    while process.poll() is None and len(list(out.glob("runs/*/*/cell.json"))) < 2:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (out / "table.md").unlink(missing_ok=True)
    experiment("noise", request, out, resume=True)
    assert written(out) == written(tmp_path / "whole")


def test_finished_cells_are_not_run_again_and_seeds_are_added(
    declared: Callable[..., None], tmp_path: Path
) -> None:
    ran: list[tuple[str, int]] = []

    def work(name: str, place: Place) -> Cell:
        ran.append((name, place.seed))
        return measured(name, place)

    declared("made", lambda request: made_plan(work, request.seeds or 2))
    experiment("made", Request(), tmp_path / "out")
    assert ran == [("one", 0), ("two", 0), ("one", 1), ("two", 1)]
    ran.clear()
    result = experiment("made", Request(seeds=3), tmp_path / "out", resume=True)
    assert ran == [("one", 2), ("two", 2)]
    assert result["rows"]["one"]["seeds"] == 3


def test_a_failed_variant_is_counted_and_named_and_the_rest_goes_on(
    declared: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = True

    def work(name: str, place: Place) -> Cell:
        if broken and name == "one" and place.seed == 0:
            raise ZeroDivisionError("no\nway")
        return measured(name, place)

    declared("made", lambda request: made_plan(work))
    monkeypatch.setattr(
        sys, "argv", ["reward-router", "experiment", "made", "--out", str(tmp_path / "out")]
    )
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    assert "1 run failed" in capsys.readouterr().out
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["failed"] == [{"variant": "one", "seed": 0, "why": "ZeroDivisionError: no way"}]
    assert result["rows"]["one"]["seeds"] == 1
    assert result["rows"]["two"]["seeds"] == 2
    for name in ("table.md", "report.html"):
        assert "one, seed 0: ZeroDivisionError: no way" in (tmp_path / "out" / name).read_text()
    broken = False
    again = experiment("made", Request(), tmp_path / "out", resume=True)
    assert not again["failed"]
    assert again["rows"]["one"]["seeds"] == 2
    assert "failed" not in (tmp_path / "out" / "table.md").read_text()


def test_work_that_another_process_holds_is_left_to_it(
    declared: Callable[..., None], tmp_path: Path
) -> None:
    fcntl = pytest.importorskip("fcntl")
    declared("made", lambda request: made_plan(measured))
    held = command._folder(tmp_path / "out", "two", 1)

    def work(name: str, place: Place) -> Cell:
        if name == "one" and place.seed == 0:
            held.mkdir(parents=True)
            file = (held / "lock").open("w")
            fcntl.flock(file, fcntl.LOCK_EX)
            files.append(file)
        return measured(name, place)

    files: list[Any] = []
    declared("made", lambda request: made_plan(work))
    result = experiment("made", Request(), tmp_path / "out")
    assert result["missing"] == [{"variant": "two", "seed": 1}]
    assert "1 run is not done yet (two)" in (tmp_path / "out" / "table.md").read_text()
    files[0].close()  # as the end of a process does
    assert not experiment("made", Request(), tmp_path / "out", resume=True)["missing"]


def test_a_job_waits_for_those_that_it_needs(declared: Callable[..., None], tmp_path: Path) -> None:
    def make(request: Request) -> Plan:
        def fails(place: Place) -> Cell:
            raise InputError("not today")

        later = Job("later", "", lambda place: measured("later", place), needs=("first",))
        return Plan([Job("first", "", fails), later], 1, "here", "made.")

    declared("made", make)
    result = experiment("made", Request(), tmp_path / "out")
    assert [entry["variant"] for entry in result["failed"]] == ["first"]
    assert result["failed"][0]["why"] == "not today"
    assert [entry["variant"] for entry in result["missing"]] == ["later"]


# Bad input


def refused(message: str, name: str, request: Request, out: Path, resume: bool = False) -> None:
    before = sorted(out.rglob("*")) if out.exists() else None
    with pytest.raises(InputError) as error:
        experiment(name, request, out, resume=resume)
    said = str(error.value)
    assert message in said
    assert "\n" not in said
    assert (sorted(out.rglob("*")) if out.exists() else None) == before


def test_bad_input_is_one_line_and_nothing_is_written(scores: Path, tmp_path: Path) -> None:
    mine = Request(scores=(str(scores),))
    new = tmp_path / "new"
    refused("did you mean noise?", "noize", mine, new)
    refused("did you mean laptop?", "noise", Request(profile="labtop"), new)
    refused("--set has no meaning", "noise", Request(settings=("a=b",)), new)
    refused("--scores has no meaning", "long-context", mine, new)
    refused("leave --profile out", "pairs", Request(profile="gpu"), new)
    refused("needs prompts", "long-context", Request(), new)
    refused("nowhere.jsonl", "noise", Request(scores=("nowhere.jsonl",)), new)
    file = Request(scores=(str(scores),), runs=str(scores))
    refused("is a file; give a directory", "noise", file, new)
    assert not new.exists()


def test_a_directory_of_something_else_is_refused(scores: Path, tmp_path: Path) -> None:
    mine = Request(scores=(str(scores),))
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("my life's work")
    refused("something else", "agreement", mine, other, resume=True)

    out = tmp_path / "out"
    experiment("agreement", mine, out)
    refused("--resume goes on", "agreement", mine, out)
    refused("holds experiment 'agreement'", "noise", mine, out, resume=True)
    demo = Request(scores=("demo",))
    refused("holds scores", "agreement", demo, out, resume=True)
    # The same file with other numbers in it.
    rows = scores.read_text().splitlines()
    scores.write_text("\n".join(rows[:-1]) + "\n")
    refused("is not what the experiment began with", "agreement", mine, out, resume=True)
    scores.write_text("\n".join(rows) + "\n")
    # Another version.
    marker = out / command.MARKER
    held = json.loads(marker.read_text())
    marker.write_text(json.dumps({**held, "version": "0.0.1"}))
    refused("holds version '0.0.1'", "agreement", mine, out, resume=True)
    marker.write_text("{")
    refused("cannot be read", "agreement", mine, out, resume=True)


def test_the_page_needs_nothing_from_elsewhere(scores: Path, tmp_path: Path) -> None:
    experiment("agreement", Request(scores=(str(scores),)), tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<svg" in page
    assert "Published, pairs of Llama-3-8B on MMLU" in page
    assert "Deviations from the paper" in page
    for word in ("http://", "https://", "src="):
        assert word not in page


WITHOUT_TORCH = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "peft", "sentence_transformers"):
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Block())
from reward_router.experiments.command import experiment, listed
from reward_router.experiments.kind import Request
from reward_router.progress import plain_console
from pathlib import Path

listed(plain_console())
assert not experiment("agreement", Request(scores=(sys.argv[1],)), Path(sys.argv[2]))["failed"]
"""


def test_recorded_scores_need_no_torch(scores: Path, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", WITHOUT_TORCH, str(scores), str(tmp_path / "out")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_it_lists_the_experiments(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["reward-router", "experiment", "list"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code in (None, 0)
    shown = capsys.readouterr().out
    assert all(name in shown for name in EXPERIMENTS.names())
    assert not os.listdir(tmp_path)
