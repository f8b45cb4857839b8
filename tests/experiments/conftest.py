"""Recorded rows that are made here, and experiments of a test's own."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reward_router.experiments.kind import EXPERIMENTS, ExperimentKind, Plan, Request


@pytest.fixture(autouse=True)
def no_data_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are those of the test, whatever the environment names."""
    monkeypatch.delenv("REWARD_ROUTER_DATA", raising=False)


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    """40 prompts of one to three rows each, four arms; every third row of one arm is missing."""
    draw = np.random.default_rng(5)
    rows = []
    for g in range(40):
        for i in range(1 + g % 3):
            right = "a" if draw.random() < 0.5 else "b"
            sign = 1.0 if right == "a" else -1.0
            arms = {}
            for arm, skill in {"good": 1.2, "fair": 0.6, "poor": 0.1, "gappy": 0.8}.items():
                if arm != "gappy" or (g + i) % 3:
                    arms[arm] = [float(sign * skill + draw.normal()), 0.0]
            rows.append(
                {
                    "id": f"r{g}-{i}",
                    "prompt": f"prompt {g}",
                    "category": ("math", "chat")[g % 2],
                    "source": ("one", "two")[g % 2],
                    "label": right,
                    "scores": arms,
                }
            )
    path = tmp_path / "scores.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``declared(name, make)``: an experiment of this name for the test."""

    def declare(name: str, make: Callable[[Request], Plan]) -> None:
        kind = ExperimentKind(name, make, "made for a test", paper="none")
        monkeypatch.setitem(EXPERIMENTS.rows, name, kind)

    return declare
