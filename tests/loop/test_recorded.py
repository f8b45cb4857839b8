"""Runs of today beside runs that were recorded.

The same decisions, payoffs and adapter, to the last bit. What a run comes to depends on the
processor and on the versions of torch, numpy and transformers. Where they are not those of the
recording, only the arms are compared, which no rounding should change. ``python
tests/loop/recorded.py`` records anew.
"""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from reward_router.config import Config

run = pytest.importorskip("reward_router.run", reason="needs the packages of the extra `train`")


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("recorded", Path(__file__).parent / "recorded.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


recorded = _load()


@pytest.mark.parametrize("name", recorded.RUNS)
def test_a_run_is_what_was_recorded(tiny: Callable[..., Config], tmp_path: Path, name: str) -> None:
    run.train(tiny(*recorded.RUNS[name]), tmp_path / "run")
    now = recorded.digests(tmp_path / "run")
    then = json.loads(recorded.DIGESTS.read_text(encoding="utf-8"))
    wanted = then["runs"][name]
    if recorded.machine() != then["machine"]:
        assert now["arms"] == wanted["arms"]
        return
    assert now == wanted
