"""samples.jsonl: the held-out responses of a run, as they were measured, before and after."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reward_router.config import Config
from reward_router.examples import Example
from reward_router.rundir import RunDir

run = pytest.importorskip("reward_router.run", reason="needs the packages of the extra `train`")

ON = ("eval.samples=2", "eval.limit=6", "eval.best_of=true")


@pytest.fixture(autouse=True, scope="module")
def _gold_varies() -> Iterator[None]:
    """The tiny model's answers are never right: here every second one is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Example, "gold", lambda self, texts: np.array([float(len(t) % 2) for t in texts])
        )
        yield


@pytest.fixture(scope="module")
def whole(
    tiny_anywhere: Callable[..., Config],
    tmp_path_factory: pytest.TempPathFactory,
    _gold_varies: None,
) -> tuple[dict[str, Any], Path]:
    """One run to its end, which the tests read: its summary and its directory."""
    out = tmp_path_factory.mktemp("samples") / "whole"
    return run.train(tiny_anywhere(*ON), out), out


def test_the_rows_are_what_gold_was_measured_on(whole: tuple[dict[str, Any], Path]) -> None:
    summary, out = whole
    rows = RunDir(out).read_samples()
    for kind, samples in (("gold_sampled", 2), ("gold", 1)):
        for when in ("before", "after"):
            mine = [row for row in rows if row["kind"] == kind and row["when"] == when]
            assert len(mine) == 6 * samples
            assert np.mean([row["gold"] for row in mine]) == pytest.approx(
                summary[kind]["all"][when]
            )
            assert np.mean([row["finished"] for row in mine]) == pytest.approx(
                summary[kind]["all"][f"finished_{when}"]
            )
    judged = [row for row in rows if row["kind"] == "gold_sampled"]
    assert all(
        row["arm"] in ("short", "long", "likely") and row["score"] is not None for row in judged
    )


def test_a_resumed_run_keeps_the_rows_from_before(
    tiny: Callable[..., Config], tmp_path: Path, whole: tuple[dict[str, Any], Path]
) -> None:
    config = tiny(*ON)

    def stop(self: object, t: int) -> None:
        if t == 2:
            raise KeyboardInterrupt
        original(self, t)

    original = run._Run._step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run._Run, "_step", stop)
        with pytest.raises(KeyboardInterrupt):
            run.train(config, tmp_path / "cut")
    run.train(config, tmp_path / "cut", resume=True)
    assert RunDir(tmp_path / "cut").read_samples() == RunDir(whole[1]).read_samples()
