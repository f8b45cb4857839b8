"""Small recorded files that are made here.

They hold two good arms that know different categories, a poor one, and a constant one.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reward_router.replay.columns import collect
from reward_router.replay.records import Records


def made_rows(n_prompts: int = 60, per_prompt: int = 3, seed: int = 0) -> list[dict[str, Any]]:
    draw = np.random.default_rng(seed)
    rows = []
    for g in range(n_prompts):
        category = "math" if g % 2 else "chat"
        for i in range(per_prompt):
            right = "a" if draw.random() < 0.5 else "b"
            sign = 1.0 if right == "a" else -1.0
            skill = {
                "mathy": 1.6 if category == "math" else 0.1,
                "chatty": 0.1 if category == "math" else 1.6,
                "poor": 0.2,
            }
            scores = {arm: [float(sign * s + draw.normal()), 0.0] for arm, s in skill.items()}
            scores["constant"] = [1.0, 1.0]
            row = {
                "id": f"made-{g}-{i}",
                "prompt": f"{category} prompt number {g}",
                "category": category,
                "label": right,
                "scores": scores,
            }
            rows.append(
                {**row, "response_a": f"answer {i} of {g}", "response_b": f"other {i} of {g}" * 2}
            )
    return rows


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return made_rows()


@pytest.fixture
def records(rows: list[dict[str, Any]]) -> Records:
    return collect("made", ((f"row {i}", row) for i, row in enumerate(rows)))


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    def write(rows: list[dict[str, Any]], name: str = "made.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture
def make_rows() -> Callable[..., list[dict[str, Any]]]:
    return made_rows
