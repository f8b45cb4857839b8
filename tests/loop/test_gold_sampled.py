"""Gold as the policy is used.

It is sampled alike for every run, averaged over a prompt's samples, and first in every table.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from reward_router.config import Config, PolicyConfig, TrainConfig
from reward_router.errors import InputError
from reward_router.evaluate import GoldMeasured, Measurement, compare_gold, measure_gold
from reward_router.examples import Example
from reward_router.headline import GOLD_FIGURE, GOLD_SAMPLED, gold_tables, headline_gold

run = pytest.importorskip("reward_router.run", reason="needs the packages of the extra `train`")


def test_draws_are_those_of_every_run() -> None:
    from reward_router.policy import Policy

    prompts, ids = ["Say hi.", "Name a fruit."], ["a", "b"]
    settings = PolicyConfig(model="tiny", device="cpu", max_new_tokens=6, sample_dtype="float32")
    first, second = (Policy(settings, TrainConfig(), seed) for seed in (0, 1))
    assert (
        first.trial(prompts, ids, 3)
        == second.trial(prompts, ids, 3)
        == first.trial(prompts, ids, 3)
    )
    assert first.sample(prompts, ids, 3, 0) != second.sample(prompts, ids, 3, 0)
    assert first.trial(prompts, ids, 3) != first.sample(prompts, ids, 3, 0)


def test_gold_is_the_mean_over_a_prompt_s_samples() -> None:
    from reward_router.distributed import Ranks
    from reward_router.policy import Policy

    settings = PolicyConfig(model="tiny", device="cpu", max_new_tokens=4, sample_dtype="float32")
    policy = Policy(settings, TrainConfig(), 0)
    examples = [
        Example(f"e{i}", f"Say {i}.", "odd" if i % 2 else "even", lambda r: len(r) % 2 == 0)
        for i in range(5)
    ]
    gold = measure_gold(policy, examples, Ranks("cpu"), Measurement(samples=3, batch=4))
    assert gold.ids == [e.id for e in examples]
    for e, right, ended in zip(examples, gold.right, gold.finished, strict=True):
        [responses] = policy.trial([e.prompt], [e.id], 3)
        assert right == pytest.approx(np.mean([len(r) % 2 == 0 for r in responses]))
        assert ended == pytest.approx(np.mean([r.finished for r in responses]))


def test_a_run_measures_both_kinds_and_shares_what_is_known(
    tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Example, "gold", lambda self, texts: np.array([float(len(t) % 2) for t in texts])
    )
    settings = ("eval.limit=4", "eval.samples=2", "train.iterations=1", "train.lr=1e-2")
    first = run.train(tiny(*settings), tmp_path / "first")
    assert {"n", "before", "after", "diff", "ci95", "finished_before", "finished_after"} <= first[
        "gold_sampled"
    ]["all"].keys()
    assert set(first["gold_sampled"]) == {"all", "sums", "short", "include"}
    assert headline_gold(first) == first["gold_sampled"]
    assert [title for title, _ in gold_tables(first)] == [
        "gold on held-out prompts, under sampling, 2 a prompt", "gold on held-out prompts, greedy",
    ]  # fmt: skip
    measured = []
    real = run.measure

    def counted(*args: Any) -> GoldMeasured:
        measured.append(args[3].samples)
        return real(*args)

    monkeypatch.setattr(run, "measure_gold", counted)
    before = {kind: GoldMeasured(**rows["before"]) for kind, rows in first["gold_rows"].items()}
    del before[GOLD_FIGURE]
    other = run.train(tiny(*settings, "seed=3"), tmp_path / "other", before=before)
    assert measured == [0, 0, 2]  # greedy before; greedy and sampled after
    assert other["gold_rows"][GOLD_FIGURE]["before"] == first["gold_rows"][GOLD_FIGURE]["before"]
    only = run.train(tiny(*settings, "eval.greedy=false"), tmp_path / "only")
    assert only["gold"] is None
    assert only["gold_rows"] == {GOLD_SAMPLED: first["gold_rows"][GOLD_SAMPLED]}
    with pytest.raises(InputError, match="nothing to measure"):
        tiny("eval.samples=0", "eval.greedy=false")
    again = tmp_path / "printed"
    with again.open("w") as file:
        from reward_router.summary import show_summary

        show_summary(first, Console(file=file, width=120))
    text = again.read_text()
    assert text.index("under sampling") < text.index("greedy")
    assert "ended by themselves" in text


def test_the_study_reads_sampled_gold_where_there_is_some(tmp_path: Path) -> None:
    from reward_router.jobs.study import tabulate_gold

    def gold(right: float) -> GoldMeasured:
        return GoldMeasured(["a", "b"], ["", ""], [right, right], [1.0, 1.0])

    for name, shift in (("linucb", 0.25), ("uniform", 0.0)):
        pairs = {GOLD_FIGURE: (gold(0.0), gold(1.0)), GOLD_SAMPLED: (gold(0.25), gold(0.5 + shift))}
        summary = {
            **{kind: compare_gold(*two) for kind, two in pairs.items()},
            "gold_rows": {k: {"before": b.to_json(), "after": a.to_json()} for k,
                          (b, a) in pairs.items()},
            "calls": {"made": 1}, "seconds": {"step": 1.0}, "payoff": "probe",
            "arms": {"x": {"share": 1.0}},
        }  # fmt: skip
        folder = tmp_path / name / "seed-0"
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text(json.dumps(summary))
        (folder / "variant.json").write_text(json.dumps({"variant": name, "seed": 0}))
    console = Console(record=True, width=160, file=(tmp_path / "said").open("w"))
    rows = tabulate_gold(tmp_path, console)["variants"]
    assert (rows["linucb"]["before"], rows["linucb"]["after"]) == (0.25, 0.75)
    assert rows["linucb"]["vs_uniform"] == pytest.approx(0.25)
    assert "under sampling" in console.export_text()


def test_an_estimate_counts_what_is_measured() -> None:
    from reward_router import config
    from reward_router.jobs import estimate

    greedy, sampled, looked = (
        estimate.evaluated(config.load(settings=["eval.limit=10", *more]), 8)
        for more in (
            ["eval.samples=0", "eval.greedy=true", "eval.keep=last"],
            ["eval.samples=3", "eval.greedy=false", "eval.keep=last"],
            [
                "eval.samples=0",
                "eval.greedy=true",
                "eval.keep=best",
                "eval.look=5",
                "eval.look_samples=2",
                "eval.look_every=3",
            ],
        )
    )
    assert (greedy, sampled, looked) == (20, 60, 20 + 4 * 5 * 2)
