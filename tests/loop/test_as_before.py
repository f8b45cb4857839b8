"""With every later addition switched off a run is what it was before there was any.

These figures were recorded then. The prompts are those of that time, when the split ``train`` held
what is now ``train`` and ``fit``. Arms and counts are exact. Losses are compared to 1e-4, because
another processor's matrix products round otherwise.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from reward_router.config import Config
from reward_router.ledger import Ledger
from reward_router.rundir import RunDir
from reward_router.tasks import generator

run = pytest.importorskip("reward_router.run", reason="needs the packages of the extra `train`")

OFF = (
    "pairs.truncated=keep",
    "train.warmup=0",
    "train.schedule=constant",
    "eval.keep=last",
    "eval.samples=0",
)
PAIRS = ("router={name: bayesian, unit: pair}", "payoff.name=full_advantage", "pairs.tie=0.4")
COMMITTEE = (
    "judge={mode: committee, gate: mean, weights: safe, price: 0.01, labels: {fraction: 1.0}}",
    "train.batch_prompts=6",
)
TWO_STEPS = ("train.steps_per_batch=2", "train.loss=dpo", "payoff.name=improvement")


@pytest.fixture
def _splits_of_that_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    now = generator.split_of
    # Tasks of a split are kept in memory: neither those of now nor those of then may be left there.
    generator._pool.cache_clear()
    monkeypatch.setattr(
        generator, "split_of", lambda item: "train" if now(item) == "fit" else now(item)
    )
    yield
    generator._pool.cache_clear()


@pytest.mark.usefixtures("_splits_of_that_time")
@pytest.mark.parametrize(
    ("settings", "arms", "calls", "pairs", "losses"),
    [
        ((), "010222212112", 36, 22, [6.3023380, 6.2697624, 6.1726171, 6.1523574]),
        (PAIRS, "102020222202022221200222", 104, 14, [6.3014217, 6.2424238, 6.2025499, 6.1228991]),
        (COMMITTEE, "-1" * 24, 216, 48, [6.2855060, 6.2451168, 6.1974636, 6.1625603]),
        (TWO_STEPS, "010222010001", 36, 22, [0.6931472, 0.7421932, 0.6931472, 0.6831469]),
    ],
    ids=["prompts", "pairs", "committee", "two steps"],
)
def test_a_run_is_what_it_was(
    tiny: Callable[..., Config],
    tmp_path: Path,
    settings: Sequence[str],
    arms: str,
    calls: int,
    pairs: int,
    losses: list[float],
) -> None:
    summary = run.train(tiny(*settings, *OFF), tmp_path / "run")
    with Ledger(tmp_path / "run" / "ledger.sqlite", readonly=True) as ledger:
        assert "".join(map(str, ledger.decisions().arm.tolist())) == arms
        assert len(ledger.calls().arm) == calls
    assert summary["counts"]["pairs"] == pairs
    assert [line["loss"] for line in RunDir(tmp_path / "run").read_log()] == pytest.approx(
        losses, rel=1e-4
    )
