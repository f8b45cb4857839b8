"""Do no harm: which adapter is kept, and on what it is looked at.

A run with looks resumes bit for bit.
"""

import json
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from reward_router.config import Config
from reward_router.errors import InputError
from reward_router.evaluate import GoldMeasured
from reward_router.examples import Example
from reward_router.rundir import RunDir

run = pytest.importorskip("reward_router.run", reason="needs the packages of the extra `train`")
looks = pytest.importorskip("reward_router.looks")

LOOKS = ("eval.keep=best", "eval.look_every=1", "eval.look=6", "eval.limit=2", "eval.samples=0")
shares = st.sampled_from([0.0, 0.5, 1.0])
histories = st.integers(1, 5).flatmap(
    lambda n: st.lists(st.lists(shares, min_size=n, max_size=n), min_size=1, max_size=6)
)


def history(rows: Sequence[Sequence[float]]) -> list[Any]:
    return [looks.Look(2 * i, list(right), 1.0) for i, right in enumerate(rows)]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories)
def test_what_is_kept(rows: list[list[float]]) -> None:
    seen = history(rows)
    kept, best, last = looks.kept(seen), looks.best(seen), seen[-1]
    golds = [look.gold for look in seen]
    assert best.gold == max(golds)
    assert all(g < best.gold for g in golds[: seen.index(best)])  # ties go to the earlier
    assert kept in (seen[0], best, last)
    assert (kept is seen[0]) == (not clearly_above(best, seen[0]))
    if kept is not seen[0]:
        assert clearly_above(kept, seen[0])
        assert (kept is last) == (
            last is best or (clearly_above(last, seen[0]) and not clearly_above(best, last))
        )


def clearly_above(look: Any, other: Any) -> bool:
    """By more than a standard error of the paired difference.

    It is written out with Python's own numbers.
    """
    gains = [x - y for x, y in zip(look.right, other.right, strict=True)]
    error = statistics.stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else 0.0
    return statistics.fmean(gains) > error + 1e-12


def test_one_prompt_alone_is_never_enough() -> None:
    for prompts in range(2, 60):
        alone = [0.5] + [0.0] * (prompts - 1)
        assert looks.kept(history([[0.0] * prompts, alone])).step == 0


def test_labels_that_say_nothing_seldom_change_the_model() -> None:
    """Of adapters worse by .05, seen in two looks at 40 prompts, few are kept.

    They are far fewer than a choice of the best look keeps.
    """
    rng = np.random.default_rng(0)
    base, later = rng.binomial(2, 0.4, (400, 40)) / 2, rng.binomial(2, 0.35, (2, 400, 40)) / 2
    runs = [
        history([base[i].tolist(), later[0, i].tolist(), later[1, i].tolist()]) for i in range(400)
    ]
    trained = np.mean([looks.kept(run).step > 0 for run in runs])
    luckiest = np.mean([looks.best(run).step > 0 for run in runs])
    assert trained < 0.2
    assert trained < 0.6 * luckiest


def example(name: str, category: str = "", gold: bool = True) -> Example:
    return Example(name, f"prompt {name}", category, (lambda _: True) if gold else None)


def test_looks_are_at_labelled_prompts_that_are_not_held_out() -> None:
    train = [example(f"{c}{i}", c, gold=i < 8) for c in "ab" for i in range(10)]
    routed, held_out = {f"a{i}" for i in range(6)}, ["prompt b0", "prompt a7"]
    chosen = looks.look_prompts(train, routed, held_out, 6)
    assert [e.category for e in chosen].count("a") == 3
    assert all(e.verify and e.prompt not in held_out for e in chosen)
    assert {e.id for e in chosen if e.category == "b"} <= {f"b{i}" for i in range(1, 8)}
    assert "a6" in {
        e.id for e in chosen
    }  # the only prompt of its category that is neither routed nor held out
    with pytest.raises(InputError, match=r"eval\.keep: best looks at labelled train prompts"):
        looks.look_prompts([example("x", gold=False)], set(), [], 3)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[float]], None]:
    """Looks see these golds, in order."""

    def go(golds: Sequence[float]) -> None:
        left = list(golds)

        def measure(policy: Any, examples: Sequence[Example], *rest: Any) -> GoldMeasured:
            ids = [e.id for e in examples]
            return GoldMeasured(ids, [""] * len(ids), [left.pop(0)] * len(ids), [1.0] * len(ids))

        monkeypatch.setattr(looks, "measure_gold", measure)

    return go


def adapter(out: Path) -> bytes:
    return (out / "policy" / "adapter_model.safetensors").read_bytes()


def said(console: Console) -> str:
    return " ".join(console.export_text().split())


def test_the_best_look_s_adapter_is_kept(
    tiny: Callable[..., Config], scripted: Callable[[Sequence[float]], None], tmp_path: Path
) -> None:
    scripted([0.2, 0.4, 0.8, 0.5, 0.5])
    console = Console(record=True, width=200, file=(tmp_path / "said").open("w"))
    summary = run.train(tiny(*LOOKS), tmp_path / "best", console=console)
    assert summary["kept"]["step"] == 2
    assert summary["kept"]["last_step"] == summary["steps"] == 4
    assert "kept the adapter of step 2" in said(console)
    run.train(tiny("eval.limit=1", "train.iterations=1"), tmp_path / "two")  # two steps and no more
    assert adapter(tmp_path / "best") == adapter(tmp_path / "two")
    lines = RunDir(tmp_path / "best").read_log()
    assert [line["look"]["gold"] for line in lines] == pytest.approx([0.4, 0.8, 0.5, 0.5])
    assert [line["look"]["base"] for line in lines] == pytest.approx([0.2] * 4)


def test_nothing_gained_keeps_the_base_model_and_says_so(
    tiny: Callable[..., Config], scripted: Callable[[Sequence[float]], None], tmp_path: Path
) -> None:
    scripted([0.5, 0.5, 0.4, 0.3, 0.5])
    console = Console(record=True, width=200, file=(tmp_path / "said").open("w"))
    summary = run.train(tiny(*LOOKS), tmp_path / "run", console=console)
    assert "nothing was gained: the adapter of step 0, the base model, was kept" in said(console)
    assert summary["kept"]["step"] == 0
    assert summary["gold"]["all"]["diff"] == 0.0
    from safetensors.numpy import load_file

    tensors = load_file(tmp_path / "run" / "policy" / "adapter_model.safetensors")
    assert not any(value.any() for name, value in tensors.items() if "lora_B" in name)


def test_patience_ends_a_run(
    tiny: Callable[..., Config], scripted: Callable[[Sequence[float]], None], tmp_path: Path
) -> None:
    scripted([0.2, 0.6, 0.1, 0.1])
    summary = run.train(tiny(*LOOKS, "eval.patience=2"), tmp_path / "run")
    assert (summary["steps"], summary["planned_steps"]) == (3, 4)
    assert summary["kept"]["stopped_early"]
    assert summary["kept"]["step"] == 1
    assert len(RunDir(tmp_path / "run").read_log()) == 3


def test_a_stopped_run_goes_on_bit_for_bit_with_everything_on(
    tiny: Callable[..., Config],
    stopped_run: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        Example, "gold", lambda self, texts: np.array([float(sum(map(ord, t)) % 2) for t in texts])
    )
    config = tiny(
        *LOOKS, "eval.samples=2", "eval.patience=9", "train.warmup=0.3", "train.schedule=cosine",
        "train.steps_per_batch=2", "train.mini_batch=2", "train.lr=0.05", "eval.look_samples=4",
        "train.iterations=3", "checkpoint_every=2", "train.batches_per_iteration=2",
    )  # fmt: skip
    whole = run.train(config, tmp_path / "whole")
    for last in (0, 4):  # before the first step, and with looks and steps behind it
        out = tmp_path / f"broken-{last}"
        stopped_run(config, out, last)
        again = run.train(config, out, resume=True)
        for key in ("kept", "gold", "gold_sampled", "gold_rows", "counts", "calls", "steps"):
            assert json.dumps(again[key]) == json.dumps(whole[key]), (last, key)
        assert adapter(out) == adapter(tmp_path / "whole")
        mine, other = (
            [
                {k: line[k] for k in ("lr", "look", "loss", "truncated")}
                for line in RunDir(p).read_log()
            ]
            for p in (out, tmp_path / "whole")
        )
        assert mine == other
    assert len(whole["kept"]["looks"]) == 7
    assert len({look["gold"] for look in whole["kept"]["looks"]}) > 1
