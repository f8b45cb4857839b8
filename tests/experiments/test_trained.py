"""Experiments that train, with the tiny model: shares from the ledger, win rates, best of n."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_router.errors import InputError
from reward_router.experiments.command import experiment
from reward_router.experiments.instructions import length_controlled
from reward_router.experiments.kind import EXPERIMENTS, Request
from reward_router.experiments.pair_training import PAYOFFS
from reward_router.experiments.trained import BEFORE

pytest.importorskip("torch", reason="needs the packages of the extra `train`")


def test_utilisation_reads_the_shares_of_the_ledger(tiny_yaml: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    request = Request(config=str(tiny_yaml), seeds=1)
    result = experiment("utilisation", request, out)
    assert not result["failed"]
    [summary] = out.glob("runs/LASER/seed-0/run/summary.json")
    arms = json.loads(summary.read_text())["arms"]
    for arm, entry in arms.items():
        figures = result["rows"][arm]["figures"]
        assert figures["all"]["mean"] == pytest.approx(entry["share"])
        for category, share in entry["share_by_category"].items():
            if category in figures:
                assert figures[category]["mean"] == pytest.approx(share)
    # A run that finished before its cell was written is read, not run again.
    before = summary.stat().st_mtime_ns
    (summary.parents[1] / "cell.json").unlink()
    assert experiment("utilisation", request, out, resume=True) == result
    assert summary.stat().st_mtime_ns == before


@pytest.mark.slow
def test_reasoning_has_a_row_for_every_way_of_judging(tiny_yaml: Path, tmp_path: Path) -> None:
    request = Request(config=str(tiny_yaml), seeds=1, settings=("eval.samples=2",))
    result = experiment("reasoning", request, tmp_path / "out")
    assert not result["failed"]
    single = {"only short", "only long", "only likely"}
    named = "best single, named beforehand (short)"
    rows = {"SFT", "LASER", "random", "sequential", "offline ensemble", BEFORE, named}
    assert result["rows"].keys() == rows | single | {"average of the single ones"}
    # The ensemble asks three arms, everybody else one.
    assert result["rows"]["offline ensemble"]["calls"] == 3 * result["rows"]["LASER"]["calls"]
    [column] = result["columns"]
    means = {name: row["figures"][column]["mean"] for name, row in result["rows"].items()}
    assert means[named] == means["only short"]
    average = np.mean([means[name] for name in single])
    assert means["average of the single ones"] == pytest.approx(average)


@pytest.mark.slow
def test_pairs_in_training_have_every_row_of_the_table(tiny_yaml: Path, tmp_path: Path) -> None:
    steps = ("train.iterations=1", "train.batches_per_iteration=1", "eval.samples=2")
    settings = ("router={name: bayesian, unit: pair}", "pairs.tie=0.1", *steps)
    result = experiment(
        "pairs", Request(config=str(tiny_yaml), seeds=1, settings=settings), tmp_path / "out"
    )
    assert not result["failed"]
    calls = {name: row["calls"] for name, row in result["rows"].items()}
    together = {"majority vote", "UWO", "offline ensemble"}
    payoffs = {f"BayesianRouter, {name}" for name in PAYOFFS}
    single = {"only short", "only long", "only likely"}
    others = {BEFORE, "SFT", "random", "w/o offline", "LASER"}
    assert calls.keys() == {*others, *together, *payoffs, *single}
    # In the first batch the pairs are the same. Three arms are asked about each of their responses
    # in place of one; where arms differ from pair to pair, a response may be asked about twice.
    for name in together:
        assert calls[name] == 3 * calls["only long"]
    assert calls["only long"] <= calls["random"]


@pytest.mark.slow
def test_instructions_compare_what_policies_answered(tiny_yaml: Path, tmp_path: Path) -> None:
    text = tiny_yaml.read_text()
    judge = "arms:\n  - {name: judge, kind: metric, metric: length, direction: long}"
    tiny_yaml.write_text(text.replace("arms:", judge, 1))
    settings = ("eval.arm=judge", "eval.samples=2", "train.lr=0.05")
    request = Request(config=str(tiny_yaml), seeds=1, settings=settings)
    out = tmp_path / "out"
    result = experiment("instructions", request, out)
    assert not result["failed"]
    answers = {}
    for name in ("LASER", "random"):
        path = out / "runs" / name / "seed-0" / "run" / "samples.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        last = {row["when"] for row in rows if row["kind"] == "gold_sampled"}
        when = "after" if "after" in last else "before"
        answers[name] = {
            (row["id"], row["sample"]): row["response"]
            for row in rows
            if row["kind"] == "gold_sampled" and row["when"] == when
        }
    wins = {}
    for (prompt, sample), mine in answers["LASER"].items():
        gap = len(mine.split()) - len(answers["random"][prompt, sample].split())
        wins.setdefault(prompt, []).append(0.5 + 0.5 * np.sign(gap))
    expected = np.mean([np.mean(each) for each in wins.values()])
    figures = result["rows"]["LASER against random"]["figures"]
    assert figures["win rate"]["mean"] == pytest.approx(expected)


def test_instructions_need_a_judge_that_takes_no_part(tiny_yaml: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a judge"):
        experiment("instructions", Request(config=str(tiny_yaml)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_long_context_is_the_table_of_best_of_n(tmp_path: Path) -> None:
    rows = []
    for i in range(40):
        wish = ("short", "long")[i % 2]
        texts = ["Yes.", "Yes, it is so.", "Yes, and there is much more to be said of it here."]
        golds = [1, 0.5, 0] if wish == "short" else [0, 0.5, 1]
        row = {"prompt": f"a {wish} answer: {i}?", "responses": texts, "golds": golds}
        rows.append({**row, "id": str(i)})
    responses = tmp_path / "rows.jsonl"
    responses.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = tmp_path / "arms.yaml"
    config.write_text(
        "arms:\n"
        "  - {name: short, kind: metric, metric: length, direction: short}\n"
        "  - {name: long, kind: metric, metric: length, direction: long}\n"
        "router: {name: linucb, alpha: 0.1, ridge: 0.1, center: true, intercept: 1.0}\n"
        "context: {kind: hashing}\n"
        "payoff: {name: probe}\n"
    )
    request = Request(responses=str(responses), config=str(config), seeds=2)
    result = experiment("long-context", request, tmp_path / "out")
    [column] = result["columns"]
    gold = {name: row["figures"][column]["mean"] for name, row in result["rows"].items()}
    # By hand: each arm alone is right for one half, and a random arm for half of either.
    assert gold["random"] == pytest.approx(0.5 * (gold["only short"] + gold["only long"]))
    assert gold["bound: oracle"] == 1.0
    assert gold["LASER (frozen, greedy)"] > max(gold["only short"], gold["only long"])
    assert gold["best single, named beforehand"] in (gold["only short"], gold["only long"])
    assert result["rows"]["random"]["seeds"] == 2

    # Other responses in the same file are another experiment.
    assert experiment("long-context", request, tmp_path / "out", resume=True) == result
    responses.write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]))
    with pytest.raises(InputError, match="file of responses is not what the experiment began"):
        experiment("long-context", request, tmp_path / "out", resume=True)


def test_long_context_samples_for_every_task_and_averages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The packaged tasks with prompts that are short enough for the tiny policy."""
    from reward_router.experiments.long_context import TASKS

    rows = []
    for _, sets in TASKS.values():
        for name in sets:
            for i in range(6):
                row = {"id": f"{name}-{i}", "prompt": f"{name} {i}?", "answer": ["a b", f"c {i}"]}
                rows.append({**row, "category": f"longcontext/{name}"})
    (tmp_path / "prompts").mkdir()
    with gzip.open(tmp_path / "prompts" / "longbench_mini.jsonl.gz", "wt") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("REWARD_ROUTER_DATA", str(tmp_path))
    arms = "[{name: short, kind: metric, metric: length, direction: short}, "
    arms += "{name: long, kind: metric, metric: length, direction: long}]"
    settings = (
        "policy.model=tiny",
        "policy.device=cpu",
        "policy.sample_dtype=float32",
        "policy.n_responses=2",
        "policy.max_new_tokens=6",
        f"arms={arms}",
        "pool.unready=warn",
    )
    result = experiment("long-context", Request(settings=settings, seeds=1), tmp_path / "out")
    assert not result["failed"]
    assert result["columns"] == [*TASKS, "average"]
    for row in ("LASER (frozen, greedy)", "only short", "bound: oracle"):
        figures = result["rows"][row]["figures"]
        means = [figures[task]["mean"] for task in TASKS]
        assert figures["average"]["mean"] == pytest.approx(np.mean(means))
    assert "Who was asked" in (tmp_path / "out" / "table.md").read_text()


# Length control


@given(st.integers(0, 50))
def test_at_equal_lengths_the_controlled_win_rate_is_the_plain_one(seed: int) -> None:
    wins_R = (np.random.default_rng(seed).random(60) < 0.6).astype(float)
    controlled_R = length_controlled(wins_R, np.zeros(60))
    assert controlled_R.mean() == pytest.approx(wins_R.mean(), abs=0.002)
    # The spread of the numbers is that of the wins: one parameter, the mean.
    assert controlled_R.std() == pytest.approx(wins_R.std(), rel=0.02)


def test_a_judge_that_likes_length_alone_gives_one_half() -> None:
    draw = np.random.default_rng(0)
    gap_R = draw.normal(40, 60, size=4000)  # ours are longer
    p_R = 1 / (1 + np.exp(-2 * np.tanh(gap_R / gap_R.std())))
    wins_R = (draw.random(4000) < p_R).astype(float)
    assert wins_R.mean() > 0.6
    controlled_R = length_controlled(wins_R, gap_R)
    error = controlled_R.std() / np.sqrt(4000)
    assert abs(controlled_R.mean() - 0.5) < 4 * error
    # The standard error is that of refitting on resamples, to a tenth or two.
    refitted = []
    for _ in range(200):
        rows = draw.integers(0, 4000, 4000)
        refitted.append(length_controlled(wins_R[rows], gap_R[rows]).mean())
    assert np.std(refitted) == pytest.approx(error, rel=0.25)


@pytest.mark.parametrize("name", EXPERIMENTS.names())
def test_the_gpu_plan_of_every_trained_experiment_is_a_valid_configuration(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every variant's configuration is read before anything runs; those on records say so."""
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    (prompts / "longbench_mini.jsonl.gz").write_bytes(b"")
    (prompts / "commonsenseqa.jsonl.gz").write_bytes(b"")
    monkeypatch.setenv("REWARD_ROUTER_DATA", str(tmp_path))
    kind = EXPERIMENTS[name]
    if name in ("agreement", "arms", "pairs"):
        with pytest.raises(ValueError, match="reads recorded scores"):
            kind.make(Request(profile="gpu"))
        return
    plan = kind.make(Request(profile="gpu"))
    if name == "routing":  # its encoders are larger, and it reads recorded scores all the same
        assert "recorded pairs" in plan.subject
    else:
        assert "Meta-Llama-3-8B" in plan.subject
    assert plan.deviations or kind.deviations
