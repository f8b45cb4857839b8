"""Killed anywhere, a run that is resumed ends as one that was never interrupted.

Compared are decisions, payoffs, router and adapter.
"""

import errno
import functools
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reward_router.cli import main
from reward_router.config import Config
from reward_router.errors import RunError
from reward_router.ledger import Ledger
from reward_router.rundir import RunDir

run = pytest.importorskip("reward_router.run", reason="needs the packages of the extra `train`")
LIMIT_S = 500


def evidence(out: Path) -> dict[str, Any]:
    """What must come out bit for bit."""
    with Ledger(out / "ledger.sqlite", readonly=True) as ledger:
        d, calls = ledger.decisions(), ledger.calls()
    router = np.load(out / "router.npz")
    return {
        "decisions": list(
            zip(d.unit, d.step.tolist(), d.arm.tolist(), d.propensity.tolist(), strict=True)
        ),
        "payoffs": d.payoff.tobytes(),
        "calls": list(
            zip(calls.response, calls.arm.tolist(), calls.score.tolist(), calls.status, strict=True)
        ),
        "committee": json.loads((out / "summary.json").read_text())["committee"],
        "router": {name: router[name].tobytes() for name in router.files},
        "adapter": (out / "policy" / "adapter_model.safetensors").read_bytes(),
    }


def words(config: Path, out: Path, settings: Sequence[str] = ()) -> list[str]:
    """The command that begins a run, or goes on with it."""
    more = [*(["--resume"] if (out / "config.yaml").is_file() else [])]
    for setting in settings:
        more += ["--set", setting]
    return ["train", str(config), "--out", str(out), *more]


def start(config: Path, out: Path, settings: Sequence[str] = ()) -> subprocess.Popen[str]:
    """The command in an interpreter of its own, which loads torch for several seconds."""
    command = [sys.executable, "-m", "reward_router.cli", *words(config, out, settings)]
    # a suite that a shell started in the background ignores SIGINT, and its children inherit that
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ.copy(),
        preexec_fn=heed,
    )


def here(config: Path, out: Path, settings: Sequence[str] = ()) -> None:
    """The command in this process, to its end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["reward-router", *words(config, out, settings)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 0


def until(running: Callable[[], bool], out: Path, lines: int) -> None:
    """Wait for so many steps in the log, or the end."""
    deadline = time.monotonic() + LIMIT_S
    while running() and len(RunDir(out).read_log()) < lines and time.monotonic() < deadline:
        time.sleep(0.01)


def _runs(process: subprocess.Popen[str]) -> bool:
    return process.poll() is None


COMMITTEE = (
    "judge={mode: committee, gate: mean, labels: {fraction: 1.0}}",
    "train.batch_prompts=16",
    "train.micro_batch=16",
)
PAIRS = (
    "router={name: bayesian, unit: pair}",
    "payoff.name=full_advantage",
    "pairs={per_prompt: 3, tie: 0.4}",
)


@pytest.fixture(scope="module")
def whole(
    tiny_anywhere: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Sequence[str]], dict[str, Any]]:
    """``whole(settings)``: the evidence of a run that nothing interrupted, made once."""

    @functools.cache
    def go(settings: tuple[str, ...]) -> dict[str, Any]:
        out = tmp_path_factory.mktemp("whole") / "run"
        run.train(tiny_anywhere(*settings), out)
        return evidence(out)

    return lambda settings: go(tuple(settings))


Whole = Callable[[Sequence[str]], dict[str, Any]]


@pytest.mark.parametrize(
    "settings",
    [
        (),
        pytest.param(PAIRS, marks=pytest.mark.slow),
        pytest.param(COMMITTEE, marks=pytest.mark.slow),
    ],
    ids=["prompts", "pairs", "committee"],
)
def test_killed_and_interrupted_runs_end_alike(
    tiny: Callable[..., Config], tiny_yaml: Path, tmp_path: Path, settings: Sequence[str]
) -> None:
    # Of the three processes of the broken run, the one that a person interrupts is the command
    # itself: it has to say something, and to give an exit code. The killed one is a fork of this.
    here(tiny_yaml, tmp_path / "whole", settings)
    out = tmp_path / "broken"
    fork = multiprocessing.get_context("fork")
    first = fork.Process(target=here, args=(tiny_yaml, out, settings))
    first.start()
    until(first.is_alive, out, 1)
    first.kill()
    first.join()
    assert first.exitcode == -signal.SIGKILL
    assert not (out / "summary.json").exists()
    second = start(tiny_yaml, out, settings)
    until(partial(_runs, second), out, 2)
    second.send_signal(signal.SIGINT)
    _, said = second.communicate(timeout=LIMIT_S)
    assert second.returncode == 130, said
    assert said.count("\n") == 1
    assert "--resume" in said
    here(tiny_yaml, out, settings)
    assert evidence(out) == evidence(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("settings", [(), PAIRS], ids=["prompts", "pairs"])
def test_a_storm_of_kills(tiny_yaml: Path, tmp_path: Path, settings: Sequence[str]) -> None:
    here(tiny_yaml, tmp_path / "whole", settings)
    draw, kills = random.Random(0), 0
    for attempt in range(100):
        out = tmp_path / f"broken-{attempt}"
        while not (out / "summary.json").is_file():
            process = start(tiny_yaml, out, settings)
            if kills < 30:
                until(partial(_runs, process), out, draw.randint(0, 3))
                time.sleep(draw.random() * 0.5)
                process.kill()
                kills += 1
            process.communicate(timeout=LIMIT_S)
        assert evidence(out) == evidence(tmp_path / "whole")
        if kills >= 30:
            return


def test_a_full_disk_keeps_the_previous_checkpoint(
    tiny: Callable[..., Config], whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.torch

    config, out, real = tiny(), tmp_path / "run", safetensors.torch.save_file
    wanted = whole(())

    def full(tensors: Any, path: Path) -> None:
        if "000002" in str(path) and path.name.startswith("reference"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(tensors, path)

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", full)
        with pytest.raises(RunError, match=r"No space left on device.*--resume"):
            run.train(config, out)
    assert [p.name for p in sorted((out / "checkpoints").iterdir())] == ["000000", "000001"]
    run.train(config, out, resume=True)
    assert evidence(out) == wanted


@pytest.mark.parametrize("settings", [(), PAIRS], ids=["prompts", "pairs"])
def test_a_broken_checkpoint_is_passed_over(
    tiny: Callable[..., Config],
    stopped_run: Callable[..., None],
    whole: Whole,
    tmp_path: Path,
    settings: Sequence[str],
) -> None:
    config, out = tiny(*settings), tmp_path / "run"
    stopped_run(config, out, 2)
    victim = out / "checkpoints" / "000002" / "policy.safetensors"
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    run.train(config, out, resume=True)
    assert evidence(out) == whole(settings)
