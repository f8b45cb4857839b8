"""Two processes are one run: both choose the same arms, one writes, neither waits for ever."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reward_router.config import Config
from reward_router.ledger import Ledger

pytest.importorskip("accelerate", reason="needs the packages of the extra `train`")

DEAD = (
    "arms=[{name: dead, kind: python, path: 'misbehaving:Arm', how: raise}, "
    "{name: short, kind: metric, metric: length, direction: short}, "
    "{name: long, kind: metric, metric: length, direction: long}]"
)
# `accelerate launch --cpu --num_processes 2` starts one process on one machine without a GPU.
LAUNCH = "torch.distributed.run --standalone --nproc_per_node 2"


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["router.unit=batch", "train.loss=kto"],
        ["router.unit=pair", "train.batch_prompts=1"],
        [DEAD, "train.batch_prompts=6", "router.unit=prompt"],
        ["router={name: bayesian, unit: pair}", "payoff.name=full_advantage", "pairs.tie=0.4"],
        [
            "judge={mode: committee, gate: mean, labels: {fraction: 1.0, extra_calls: 40}}",
            "train.batch_prompts=16",
        ],
    ],
)
def test_two_processes_train(
    tiny: Callable[..., Config], tiny_yaml: Path, tmp_path: Path, settings: list[str]
) -> None:
    tiny()
    options = [part for s in settings for part in ("--set", s)]
    command = [
        sys.executable,
        "-m",
        *LAUNCH.split(),
        "-m",
        "reward_router.cli",
        "train",
        str(tiny_yaml),
        "--out",
        "run",
        *options,
    ]
    path = [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ
        | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, path))},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2, 3]
    with Ledger(tmp_path / "run" / "ledger.sqlite", readonly=True) as ledger:
        decisions, counts = ledger.decisions(), ledger.counts()
        assert ledger.check().ok
        n_failures = counts["failures"]
    # what is logged of a step is of all processes
    for record in map(json.loads, lines):
        logged = [record["probs"].get(name, 0.0) for name in decisions.arms]
        np.testing.assert_allclose(
            logged, decisions.probs_BK[decisions.step == record["step"]].mean(axis=0), atol=1e-12
        )
    assert sum(json.loads(line)["failures"] for line in lines) == n_failures
    assert len(set(zip(decisions.unit, decisions.step.tolist(), strict=True))) == len(
        decisions.unit
    )
    assert (
        sum(n for status, n in counts["calls"].items() if status != "shared")
        == summary["calls"]["made"]
    )
    if DEAD in settings:
        assert 0 < summary["arms"]["dead"]["failed"] == n_failures < 10
        assert summary["arms"]["dead"]["rested"] > 10
        return
    if summary["committee"]:
        assert summary["committee"]["refits"]
        assert summary["committee"]["counts"]["units"] == len(decisions.unit) == 64
        assert 0 < summary["calls"]["label"] <= 40
    elif not any(
        "pair" in s for s in settings
    ):  # two arms may be asked about a response that two pairs share
        assert summary["calls"]["made"] == summary["counts"]["responses"]
    if not settings:
        assert len(decisions.unit) == 12
        assert summary["calls"]["made"] == 36
