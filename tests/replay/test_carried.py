"""Train here, judge there.

No label of the judged rows is read, shared prompts teach nothing, and sources are left out in turn.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from reward_router.cli import app
from reward_router.errors import InputError
from reward_router.replay import baselines, methods
from reward_router.replay.carried import Carry, by_source, train_test
from reward_router.replay.columns import collect
from reward_router.replay.embed import build
from reward_router.replay.evaluate import ReplaySettings
from reward_router.replay.feedback import Feedback
from reward_router.replay.joined import joined, parts_of
from reward_router.replay.lengths import lengths
from reward_router.replay.protocols import Split, _first_seen, online_on_parts, passage
from reward_router.replay.records import Records
from reward_router.replay.run import replay
from reward_router.types import HasPosterior

Rows = list[dict[str, Any]]
Make = Callable[..., Rows]
QUIET = Console(quiet=True)
METHODS = ["linucb:warmup=0", "best_train", "by", "weighted_vote", "committee"]
SETTINGS = ReplaySettings(routers=METHODS, features="category", seeds=2)


def recorded(rows: Rows, name: str) -> Records:
    return collect(name, ((f"row {i}", row) for i, row in enumerate(rows)))


def elsewhere(make_rows: Make, seed: int, n_prompts: int = 40) -> Rows:
    """Rows of the same arms with other prompts, and one arm more."""
    rows = make_rows(n_prompts, seed=seed)
    for row in rows:
        row["prompt"] += f" of {seed}"
        row["scores"]["stranger"] = [0.0, 1.0]
    return rows


def both(make_rows: Make, test: Rows) -> dict[str, Any]:
    found = train_test(
        [recorded(make_rows(), "here")], [recorded(test, "there")], lambda r: r, SETTINGS, Carry()
    )
    return found["files"][0]


def test_arms_are_those_that_both_sides_have(make_rows: Make) -> None:
    result = both(make_rows, elsewhere(make_rows, 1))
    assert result["arms"] == ["mathy", "chatty", "poor", "constant"]
    assert (result["name"], result["trained_on"], result["rows"]) == ("there", ["here"], 120)
    for entry in result["routers"].values():
        assert sum(entry["share"].values()) == pytest.approx(1, abs=1e-5)


def test_no_label_of_the_judged_rows_is_read(make_rows: Make) -> None:
    """With all labels turned round, who is asked stays as it was and every accuracy is mirrored."""
    test = elsewhere(make_rows, 1)
    turned = [{**row, "label": "b" if row["label"] == "a" else "a"} for row in test]
    one, two = both(make_rows, test), both(make_rows, turned)
    for name in METHODS:
        first, second = one["routers"][name], two["routers"][name]
        assert first["share"] == pytest.approx(second["share"], abs=1e-7), name
        assert first["accuracy"] == pytest.approx(1 - second["accuracy"], abs=1e-6), name
        assert first["calls_per_row"] == second["calls_per_row"]


def test_online_routers_go_on_learning_only_where_they_are_paid(make_rows: Make) -> None:
    test = recorded(elsewhere(make_rows, 1), "there")
    hostile = replace(test, first_PK=-test.first_PK, second_PK=-test.second_PK)
    train = [recorded(make_rows(), "here")]
    frozen = train_test(train, [hostile], lambda r: r, SETTINGS, Carry())["files"][0]
    paid = train_test(train, [hostile], lambda r: r, SETTINGS, Carry(goes_on=True))["files"][0]
    name = METHODS[0]
    assert paid["routers"][name]["accuracy"] > frozen["routers"][name]["accuracy"] + 0.05


@pytest.mark.parametrize("name", ["adaptive", "linucb", "thompson", "laser:batch=4", "exp3"])
def test_a_frozen_router_takes_the_arm_it_thinks_best(make_rows: Make, name: str) -> None:
    """Where nothing is paid, trying earns nothing: each row is a single arm's, or an even tie's.

    It is the arm of the highest posterior mean among those that are there.
    """
    there = elsewhere(make_rows, 1)
    for row in there[::4]:
        del row["scores"]["mathy"]
    together, part_P = joined([recorded(make_rows(), "here"), recorded(there, "there")])
    parts = parts_of(together, part_P == 1, "there")
    contexts = build(together, "category")
    options = {"warmup": 60} if name == "linucb" else {}
    batch = 4 if "batch" in name else 0
    router = methods.router_of(name.split(":")[0], together.arms, contexts.width, options, 0)
    rows = passage(together, Feedback("correct"), 0, parts)
    run = online_on_parts(together, contexts, router, rows, parts, batch)
    sure = set(np.unique(run.accuracy_P * 2))
    assert sure <= {0.0, 1.0, 2.0}  # right, a tie, or wrong: no mean over several arms

    if not isinstance(router, HasPosterior) or batch:
        return
    context_UD = contexts.online(_first_seen(contexts.unit_P[np.concatenate(rows.blocks)]))
    mean_TK, _ = router.posterior(context_UD[contexts.unit_P[parts.test_P]])
    assert together.present_PK is not None
    mean_TK = np.where(together.present_PK[parts.test_P], mean_TK, -np.inf)
    right_T = parts.judged.correct_PK[np.arange(len(mean_TK)), mean_TK.argmax(axis=1)]
    np.testing.assert_allclose(run.accuracy_P, right_T)


def test_bayesian_is_frozen_on_judged_rows_like_the_others(make_rows: Make) -> None:
    """Labels of judged rows do not move its choice, and no further arm is asked for a payoff."""
    pytest.importorskip("torch")
    test = elsewhere(make_rows, 1, n_prompts=10)
    turned = [{**row, "label": "b" if row["label"] == "a" else "a"} for row in test]

    def judged(rows: Rows, feedback: Feedback) -> dict[str, Any]:
        settings = replace(SETTINGS, routers=["bayesian:dim=8"], seeds=1, feedback=feedback)
        train, tested = [recorded(make_rows(30), "here")], [recorded(rows, "there")]
        found = train_test(train, tested, lambda r: r, settings, Carry())
        return found["files"][0]["routers"]["bayesian:dim=8"]

    correct = Feedback("correct")
    assert judged(test, correct)["share"] == judged(turned, correct)["share"]
    assert judged(test, Feedback("agreement", others=2))["calls_per_row"] == 1.0


def test_a_prompt_that_is_judged_teaches_nothing(make_rows: Make) -> None:
    together, part_P = joined(
        [recorded(make_rows(), "here"), recorded(make_rows(30, seed=3), "there")]
    )
    parts = parts_of(together, part_P == 1, "there")
    assert parts.shared == 90
    assert not set(together.group_P[parts.train_P]) & set(together.group_P[parts.test_P])
    assert len(parts_of(together, part_P == 1, "there", keep_shared=True).train_P) == 180
    with pytest.raises(InputError, match="no row is left to learn from"):
        parts_of(together, part_P == 0, "here")


@pytest.mark.parametrize("per_prompt", [1, 3, 30])
def test_a_committee_that_learned_on_next_to_nothing_asks_one_arm(
    make_rows: Make, per_prompt: int
) -> None:
    few = [recorded(make_rows(1, per_prompt), "here")]
    settings = replace(SETTINGS, routers=["committee"])
    test = [recorded(elsewhere(make_rows, 1), "there")]
    found = train_test(few, test, lambda r: r, settings, Carry())["files"][0]
    assert found["routers"]["committee"]["calls_per_row"] == 1
    assert "promise_curve" not in found


def test_ids_of_two_files_are_not_one_prompt(make_rows: Make) -> None:
    rows = [{key: value for key, value in row.items() if key != "prompt"} for row in make_rows()]
    together, _ = joined([recorded(rows, "one"), recorded(rows, "two")])
    assert together.n_groups == 120


def test_each_source_is_left_out_once(make_rows: Make) -> None:
    rows = [
        {**row, "source": "abc"[g % 3]}
        for g, row in enumerate(elsewhere(make_rows, 1) + elsewhere(make_rows, 2))
    ]
    for number, row in enumerate(rows):
        row["prompt"] = f"{row['prompt']} {number // 9}"
        row["source"] = "abc"[(number // 9) % 3]
    found = by_source([recorded(rows, "file")], lambda r: r, SETTINGS, Carry())
    assert [result["name"] for result in found["files"]] == ["a", "b", "c"]
    assert sum(result["rows"] for result in found["files"]) == len(rows)
    assert found["files"][0]["trained_on"] == ["b", "c"]
    gains = [
        r["routers"]["by"]["accuracy"] - r["routers"]["best_train"]["accuracy"]
        for r in found["files"]
    ]
    entry = found["by_source"]["by"]
    assert entry["mean"] == pytest.approx(np.mean(gains))
    assert entry["worst"] == pytest.approx(min(gains))

    # The yardstick is the same where nobody listed it: the arm that the other sources name.
    alone = by_source(
        [recorded(rows, "file")], lambda r: r, replace(SETTINGS, routers=["by"]), Carry()
    )
    assert alone["by_source"]["by"]["mean"] == pytest.approx(np.mean(gains))
    assert [result["best_of_training"] for result in alone["files"]] == [
        max(result["routers"]["best_train"]["share"].items(), key=lambda arm: arm[1])[0]
        for result in found["files"]
    ]
    with pytest.raises(InputError, match="one source"):
        by_source([recorded(elsewhere(make_rows, 1), "alone")], lambda r: r, SETTINGS, Carry())


def test_a_table_by_column_without_pseudo_rows_is_the_categorys_best(records: Records) -> None:
    split = Split(records, build(records, "none"), np.arange(0, 120), np.arange(120, 180))
    table, known = baselines.by_column(prior=0.0)(split), baselines.category_best(split)
    assert all((one == other).all() for one, other in zip(table, known, strict=True))
    overall = baselines.by_column(prior=1e9)(split), baselines.best_train(split)
    assert all((one == other).all() for one, other in zip(*overall, strict=True))


def test_a_table_by_any_column(write_rows: Callable[..., Path], make_rows: Make) -> None:
    rows = [{**row, "level": row["category"] * 2, "category": "all"} for row in make_rows()]
    routers = ["by:column=level", "by:column=source", "best_train"]
    result = replay([str(write_rows(rows))], routers, features="none", seeds=1, console=QUIET)[
        "files"
    ][0]["routers"]
    assert result["by:column=level"]["accuracy"] > result["best_train"]["accuracy"] + 0.05
    assert result["by:column=source"]["accuracy"] == result["best_train"]["accuracy"]
    with pytest.raises(InputError, match=r"'nowhere', allowed here: category, source$"):
        replay(
            [str(write_rows(rows))], ["by:column=nowhere"], features="none", seeds=1, console=QUIET
        )


def test_arms_that_only_read_lengths_are_told(make_rows: Make) -> None:
    draw, rows = np.random.default_rng(0), []
    for row in make_rows(n_prompts=80, per_prompt=1):
        long, short = "word " * int(draw.integers(20, 60)), "word " * int(draw.integers(1, 20))
        short_is_a = (row["label"] == "a") == (draw.random() < 0.8)
        texts = (short, long) if short_is_a else (long, short)
        words = [len(text.split()) for text in texts]
        scores = row["scores"] | {
            "terse": [-w for w in words],
            "about thirty": [-abs(w - 30) for w in words],
        }
        rows.append({**row, "response_a": texts[0], "response_b": texts[1], "scores": scores})
    found = lengths(recorded(rows, "biased"))
    assert found is not None
    assert found["winner"] == "shorter"
    assert found["shorter"] == pytest.approx(0.8, abs=0.1)
    assert set(found["arms"]) == {"terse", "about thirty"}
    assert found["arms"]["terse"]["prefers"] == "shorter"
    assert "can be won by length" in found["text"]
    assert (
        lengths(
            recorded(
                [{k: v for k, v in row.items() if k[:8] != "response"} for row in rows], "bare"
            )
        )
        is None
    )


def test_a_file_without_a_length_bias_says_nothing(rows: Rows) -> None:
    fair = [
        {**row, "response_a": "x" * (3 + i % 7), "response_b": "x" * (9 - i % 7)}
        for i, row in enumerate(rows)
    ]
    found = lengths(recorded(fair, "fair"))
    assert found is not None
    assert (found["winner"], found["text"]) == (None, "")


def test_options_take_several_files_and_bad_ones_are_one_line(
    write_rows: Callable[..., Path], tmp_path: Path, make_rows: Make
) -> None:
    one, two, three = (
        str(write_rows(elsewhere(make_rows, s, 12), f"{s}.jsonl")) for s in (1, 2, 3)
    )
    runner, out = CliRunner(), tmp_path / "out.json"
    fast = ["--router", "by", "--seeds", "1", "--features", "none"]
    done = runner.invoke(
        app, ["replay", "--train", one, two, "--test", three, *fast, "--json", str(out)]
    )
    assert done.exit_code == 0, done.output
    result = json.loads(out.read_text())
    assert result["files"][0]["trained_on"] == ["1", "2"]
    assert result["files"][0]["name"] == "3"
    for words, says in (
        (["--train", one], "--train needs --test"),
        ([one, "--train", one, "--test", two], "give either files"),
        ([one, "--test-feedback"], "--test-feedback needs"),
        (["--by-source"], "no file given"),
        ([one, "--by-source"], "one source"),
        ([], "no file given"),
    ):
        with pytest.raises(InputError, match=says):
            runner.invoke(app, ["replay", *words, *fast], catch_exceptions=False)


def test_where_nothing_can_be_learned_the_file_is_named_and_the_others_go_on(
    write_rows: Callable[..., Path], make_rows: Make
) -> None:
    pytest.importorskip("torch")
    good, poor = (
        write_rows(make_rows(30)),
        write_rows(make_rows(2, per_prompt=2, seed=4), "poor.jsonl"),
    )
    asked = {
        "routers": ["bayesian:dim=4"],
        "features": "category",
        "seeds": 1,
        "folds": 2,
        "console": QUIET,
    }
    result = replay([str(poor), str(good)], **asked)
    assert [found["name"] for found in result["files"]] == ["made"]
    assert len(result["refused"]) == 1
    assert result["refused"][0].startswith("poor: no strengths can be learned")
    with pytest.raises(InputError, match="poor"):
        replay([str(poor)], **asked)


WORKERS = """
import sys
from reward_router.replay.run import replay
if __name__ == "__main__":
    print("begin", flush=True)
    replay([sys.argv[1]], ["linucb", "exp3"], features="none", seeds=5000, workers=2)
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads the process table of Linux")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_leaves_no_worker_behind(
    write_rows: Callable[..., Path], tmp_path: Path, how: int, make_rows: Make
) -> None:
    script, data = tmp_path / "job.py", write_rows(make_rows(20))
    script.write_text(WORKERS)
    job = subprocess.Popen(
        [sys.executable, str(script), str(data)], stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while len(workers := children(job.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert len(workers) >= 2
    os.kill(job.pid, how)
    job.wait(60)
    while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any(alive(pid) for pid in workers)


def children(pid: int) -> list[int]:
    """Processes that ``pid`` started to work for it."""
    text = (
        Path(f"/proc/{pid}/task/{pid}/children").read_text()
        if Path(f"/proc/{pid}").exists()
        else ""
    )
    return [int(child) for child in text.split() if "spawn_main" in command(int(child))]


def command(pid: int) -> str:
    path = Path(f"/proc/{pid}/cmdline")
    return path.read_text() if path.exists() else ""


def alive(pid: int) -> bool:
    path = Path(f"/proc/{pid}/stat")
    return path.exists() and path.read_text().rsplit(")", 1)[1].split()[0] != "Z"
