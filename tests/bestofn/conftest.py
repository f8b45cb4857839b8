"""A small choice problem without a model.

Short texts are right for one category, long ones for the other.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reward_router import config
from reward_router.config import Config

ARMS = """
arms:
  - {name: short, kind: metric, metric: length, direction: short}
  - {name: long, kind: metric, metric: length, direction: long}
  - {name: seven, kind: metric, metric: regex, pattern: "7"}
router: {name: linucb, alpha: 0.1, ridge: 0.1, center: true, intercept: 1.0}
context: {kind: hashing, dim: 64}
payoff: {name: probe}
"""

Row = dict[str, Any]


def made_rows(n: int = 120, first: int = 0) -> list[Row]:
    """Rows of 2 to 5 responses.

    Gold says whether a text is as short, or as long, as the prompt asks.
    """
    rows = []
    for i in range(first, first + n):
        draw = np.random.default_rng(i)
        wants = ("short", "long")[i % 2]
        sizes = draw.integers(1, 12, size=int(draw.integers(2, 6))).tolist()
        texts = [" ".join(f"w{w}" for w in draw.integers(0, 50, size=size)) for size in sizes]
        golds = [float((size <= 5) == (wants == "short")) for size in sizes]
        prompt = f"a {wants} text please, number {i}"
        rows.append(
            {"id": f"p{i}", "prompt": prompt, "category": wants, "responses": texts, "golds": golds}
        )
    return rows


@pytest.fixture(scope="session")
def made() -> Callable[..., list[Row]]:
    """``made(n, first)``: n made rows."""
    return made_rows


@pytest.fixture(scope="session")
def arms_yaml() -> str:
    """Three arms, a router, hashed contexts."""
    return ARMS


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """``write(rows, name)``: a JSONL file of them."""

    def go(rows: Sequence[Row], name: str = "rows.jsonl") -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    return go


@pytest.fixture
def settled(tmp_path: Path) -> Callable[..., Config]:
    """``settled("a.b=v", ...)``: the small configuration with settings."""
    path = tmp_path / "arms.yaml"
    path.write_text(ARMS, encoding="utf-8")
    return lambda *settings: config.load(path, None, settings)
