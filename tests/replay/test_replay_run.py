"""The whole of a replay.

Tested are intervals, verdicts, the JSON schema, the report, refusals, and real files where they are
at hand.
"""

import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from reward_router.errors import InputError
from reward_router.replay.agreement import kappa_f1
from reward_router.replay.evaluate import ReplaySettings, evaluate_methods
from reward_router.replay.intervals import bootstrap, confidences, lower_bounds, percentile_interval
from reward_router.replay.methods import DEFAULT, comparisons
from reward_router.replay.records import Records
from reward_router.replay.run import Selection, measure, replay
from reward_router.replay.table import show_file
from reward_router.report import replay as report

Rows = list[dict[str, Any]]
Writer = Callable[..., Path]
QUIET = Console(quiet=True)
FEW = [
    "linucb",
    "exp3",
    "uniform",
    "category_best",
    "logistic",
    "majority",
    "weighted_vote",
    "stacking",
    "mean",
    "uwo:penalty=0.5",
    "oracle",
]
ENTRY = {
    "kind", "accuracy", "ci95", "accuracy_some_right", "calls_per_row", "cost_per_row", "regret",
    "regret_vs_category_best", "vs_best_single", "vs_uniform", "share", "runs", "sd_between_runs",
}  # fmt: skip


@pytest.fixture
def result(records: Records) -> dict[str, Any]:
    return evaluate_methods(records, ReplaySettings(routers=FEW, features="category", seeds=3))


def test_schema(result: dict[str, Any], records: Records) -> None:
    assert list(result["routers"]) == [*records.arms, *FEW]
    for label, entry in result["routers"].items():
        assert set(entry) >= ENTRY, label
        assert entry["ci95"][0] <= entry["accuracy"] <= entry["ci95"][1]
        assert set(entry["share"]) == set(records.arms)
        assert sum(entry["share"].values()) == pytest.approx(1.0, abs=1e-5)
        assert {"diff", "ci95", "inside"} == set(entry["vs_best_single"])
    json.dumps(result, allow_nan=False)
    assert result["routers"]["majority"]["calls_per_row"] == 4.0
    assert result["routers"]["linucb"]["calls_per_row"] == 1.0
    assert len(result["routers"]["linucb"]["share_over_time"]) == len(result["curve_rows"])


def test_table_is_consistent(result: dict[str, Any], records: Records) -> None:
    routers = result["routers"]
    best = max(routers[arm]["accuracy"] for arm in records.arms)
    assert routers[result["best_single"]]["accuracy"] == best
    assert routers["oracle"]["accuracy"] == records.correct_PK.max(axis=1).mean()
    assert routers["uniform"]["accuracy"] == pytest.approx(records.correct_PK.mean())
    assert routers["constant"]["accuracy"] == 0.5
    for entry in routers.values():
        assert entry["vs_best_single"]["diff"] == pytest.approx(entry["accuracy"] - best)
        assert entry["regret"] == pytest.approx(
            -entry["vs_best_single"]["diff"] * len(records), abs=1e-6
        )
        assert entry["accuracy"] <= routers["oracle"]["accuracy"] + 1e-9


def test_planted_categories_make_the_verdict_route(result: dict[str, Any]) -> None:
    """Two arms that each know one category.

    Category-best is far above the best single arm, and the verdict says so.
    """
    verdict = result["verdict"]
    assert result["routers"]["category_best"]["vs_best_single"]["diff"] > 0.1
    assert verdict["action"] in ("route", "committee")
    assert verdict["lower_bound"] > 0
    assert verdict["method"] in verdict["text"]
    assert "At most" in verdict["text"]


def test_identical_arms_make_the_verdict_stay(records: Records) -> None:
    """Nothing to gain: one strong arm among coins must never be called worth routing."""
    draw = np.random.default_rng(5)
    first_PK = draw.normal(size=records.first_PK.shape)
    first_PK[:, 0] = records.label_P * np.where(draw.random(len(records)) < 0.85, 1.0, -1.0)
    made = replace(records, first_PK=first_PK, second_PK=np.zeros_like(first_PK), name="coins")
    verdict = evaluate_methods(made, ReplaySettings(routers=FEW, features="category", seeds=3))[
        "verdict"
    ]
    assert verdict["action"] == "arm"
    assert verdict["method"] == made.arms[0]
    assert verdict["text"].startswith(f"Use {made.arms[0]} alone")


def test_arms_that_always_tie_leave_nothing_to_gain(records: Records) -> None:
    """Probabilities in single precision sum to a little more than 1: that is no gain."""
    alike = replace(records, second_PK=records.first_PK)
    methods = ["linucb", "adaptive", "laser", "majority"]
    result = evaluate_methods(alike, ReplaySettings(methods, features="category", seeds=2))
    assert result["verdict"]["action"] == "arm"
    for method in methods:
        entry = result["routers"][method]
        assert entry["accuracy"] == pytest.approx(0.5, abs=1e-12)
        assert entry["vs_best_single"]["diff"] == 0
        assert entry["vs_best_single"]["inside"]


def test_an_arm_with_the_name_of_a_method_is_no_bound(records: Records) -> None:
    names = ("oracle", "majority", *records.arms[2:])
    settings = ReplaySettings(["linucb", "majority"], features="none", seeds=1)
    verdict = evaluate_methods(replace(records, arms=names), settings)["verdict"]
    assert "oracle, majority: an arm has the name of a method" in verdict["text"]
    headroom = f"{100 * verdict['headroom']:+.1f} pp"
    assert f"always picking an arm that is right would gain {headroom}" in verdict["text"]


def test_labels_that_name_the_worse_response_are_suspected(records: Records) -> None:
    """Arms that are right by their scores are wrong by such labels, and a caution asks why."""
    settings = ReplaySettings(routers=["majority"], features="none", seeds=1)

    def cautions(named: Records) -> str:
        without_constant = named.select(drop="constant")
        verdict: dict[str, Any] = evaluate_methods(without_constant, settings)["verdict"]
        return " ".join(verdict["cautions"])

    turned = replace(records, label_P=-records.label_P)
    assert "wrong more often than right" in cautions(turned)
    assert "wrong more often" not in cautions(records)


def test_worker_processes_change_nothing(records: Records, result: dict[str, Any]) -> None:
    many = evaluate_methods(
        records, ReplaySettings(routers=FEW, features="category", seeds=6, workers=2)
    )
    one = evaluate_methods(
        records, ReplaySettings(routers=FEW, features="category", seeds=6, workers=1)
    )
    assert many == one


def test_bootstrap_agrees_with_the_textbook_standard_error() -> None:
    """Prompts of one row.

    The bootstrap's spread of a mean is sd / sqrt(n), within Monte-Carlo error.
    """
    draw = np.random.default_rng(0)
    accuracy_P = (draw.random(400) < 0.7).astype(float)
    replicates_R = bootstrap(np.arange(400)).replicate([accuracy_P])
    assert replicates_R.std() == pytest.approx(accuracy_P.std() / 20, rel=4 / math.sqrt(2 * 2000))
    assert replicates_R.mean() == pytest.approx(
        accuracy_P.mean(), abs=4 * accuracy_P.std() / 20 / math.sqrt(2000)
    )


def test_many_prompts_are_resampled_in_blocks() -> None:
    draw = np.random.default_rng(0)
    accuracy_P = (draw.random(9000) < 0.7).astype(float)
    boot = bootstrap(np.arange(9000), replicates=1000)
    assert boot.weight_RG.shape == (1000, 4000)
    assert boot.replicate([accuracy_P]).std() == pytest.approx(
        accuracy_P.std() / math.sqrt(9000), rel=0.12
    )


def test_prompts_move_together_and_runs_add_variance() -> None:
    draw = np.random.default_rng(0)
    per_prompt = (draw.random(50) < 0.6).astype(float)
    group_P = np.repeat(np.arange(50), 8)
    boot = bootstrap(group_P)
    clustered = boot.replicate([per_prompt[group_P]]).std()
    assert clustered == pytest.approx(per_prompt.std() / math.sqrt(50), rel=0.08)
    runs = [np.clip(per_prompt[group_P] + shift, 0, 1) for shift in draw.normal(0, 0.3, 5)]
    assert boot.replicate(runs).std() > boot.replicate([np.mean(runs, axis=0)]).std()


def test_simultaneous_bounds_hold_for_the_winner() -> None:
    """20 methods without any gain.

    The best one's bound is above 0 in about 5 % of draws, though its own interval is far more
    often.
    """
    wins, own = 0, 0
    for seed in range(200):
        draw = np.random.default_rng(seed)
        gain_PM = draw.normal(size=(150, 20))
        weight_RP = draw.multinomial(150, np.full(150, 1 / 150), size=300) / 150
        gain_RM, point_M = weight_RP @ gain_PM, gain_PM.mean(axis=0)
        lower_M = lower_bounds(gain_RM, point_M, np.full(20, 20.0), 150)
        wins += bool(lower_M.max() > 0)
        own += percentile_interval(gain_RM[:, point_M.argmax()])[0] > 0
        sure_M = confidences(gain_RM, point_M, np.full(20, 20.0), 150)
        assert ((sure_M > 0.95) == (lower_M > 0)).all()
    assert wins / 200 < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 200)
    assert own > 2 * wins


def test_what_is_said_of_a_method_does_not_change_with_the_others() -> None:
    """Shares of the error sum to at most one whatever is listed, and a name's share is its own."""
    for labels in (
        list(DEFAULT),
        ["linucb"],
        ["linucb", "exp3"],
        ["linucb", "linucb:alpha=2", "mean"],
    ):
        routing = [m for m in labels if m not in ("uniform", "round_robin", "best_train", "oracle")]
        assert sum(1 / n for n in comparisons(routing)) <= 1 + 1e-12
    alone, beside = (
        comparisons(["linucb"])[0],
        comparisons(["exp3", "linucb", "mean:scores=raw"])[1],
    )
    assert alone == beside
    assert comparisons(["linucb", "linucb:alpha=2"]) == [2 * alone, 2 * alone]


def test_one_more_router_leaves_the_verdict_as_it_was(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A method that is no better adds a row to the table and not a word to the verdict.

    Who was named is said: nobody, where the table is the one that nobody asked for.
    """
    few = evaluate_methods(
        records, ReplaySettings(routers=["category_best"], features="category", seeds=2)
    )["verdict"]
    more = evaluate_methods(
        records,
        ReplaySettings(routers=["category_best", "best_train"], features="category", seeds=2),
    )["verdict"]
    third = evaluate_methods(
        records, ReplaySettings(routers=["exp3", "category_best"], features="category", seeds=2)
    )["verdict"]
    assert few["text"] == more["text"] == third["text"]
    assert few["confidence"] == third["confidence"]
    assert "Bonferroni" in few["text"]
    assert "category_best, named beforehand" in few["text"]
    assert third["named"] == ["exp3", "category_best"]
    # Two methods of that table are enough to see it; the whole of it takes ten seconds.
    monkeypatch.setattr("reward_router.replay.methods.DEFAULT", ("category_best", "exp3"))
    unasked = evaluate_methods(records, ReplaySettings(routers=None, features="category", seeds=2))
    assert unasked["verdict"]["named"] == []


def test_kappa_and_f1_by_hand() -> None:
    sign_PK = np.array([[1, 1], [1, 1], [1, -1], [-1, -1], [0, -1], [np.nan, 1]])
    kappa_KK, f1_KK = kappa_f1(sign_PK)
    observed, expected = 3 / 5, (1 * 3 + 3 * 2) / 25
    assert kappa_KK[0, 1] == pytest.approx((observed - expected) / (1 - expected))
    assert f1_KK[0, 1] == pytest.approx(2 * 2 / (3 + 2))
    assert np.allclose(np.diag(kappa_KK), 1)


def test_report_is_one_self_contained_page(result: dict[str, Any]) -> None:
    page = report.render(
        {
            "files": [result, result],
            "ledgers": [],
            "settings": {"payoff": {"kind": "correct"}, "seeds": 3, "folds": 5},
        }
    )
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<script") == 1, "the page's own"
    assert "nan" not in page.lower().replace("finance", "")
    for text in (
        "Accuracy against calls",
        "Agreement of the arms",
        "Regret of the online routers",
        "by category",
        "At most",
    ):
        assert text in page
    for tag in ("table", "svg", "details", "div", "h3", "p", "text", "title"):
        assert page.count(f"<{tag}>") + page.count(f"<{tag} ") == page.count(f"</{tag}>"), tag


def test_names_from_files_are_escaped_in_the_report(records: Records) -> None:
    arms = ("<b>x</b>", 'a"b', "c&d", "plain")
    made = evaluate_methods(
        replace(records, arms=arms, name="<i>file</i>"),
        ReplaySettings(routers=["uniform", "exp3"], features="none", seeds=1),
    )
    page = report.render(
        {
            "files": [made],
            "ledgers": [],
            "settings": {"payoff": {"kind": "correct"}, "seeds": 1, "folds": 5},
        }
    )
    assert "<b>x</b>" not in page
    assert "<i>file" not in page
    assert "&lt;b&gt;x" in page


def test_replay_writes_json_and_prints(rows: Rows, write_rows: Writer, tmp_path: Path) -> None:
    console = Console(record=True, width=180)
    out = tmp_path / "out.json"
    made = replay(
        [str(write_rows(rows))],
        FEW,
        features="category",
        seeds=2,
        by="category",
        json_out=out,
        console=console,
    )
    assert json.loads(out.read_text()) == json.loads(json.dumps(made))
    text = console.export_text()
    assert "Verdict:" in text
    assert "by category" in text
    assert made["schema"] == 1


@pytest.mark.parametrize("width", [80, 100, 140])
def test_a_narrow_terminal_cuts_names_and_never_numbers(records: Records, width: int) -> None:
    arms = tuple(
        f"[judge{k}]:some-organisation/some-very-long-model-name-{k}|rubric" for k in range(4)
    )
    made = evaluate_methods(
        replace(records, arms=arms),
        ReplaySettings(routers=["uniform", "majority"], features="category", seeds=1),
    )
    console = Console(record=True, width=width)
    show_file(made, console, by_category=True)
    lines = console.export_text().splitlines()
    for label, entry in made["routers"].items():
        low, high = entry["vs_best_single"]["ci95"]
        shown = (
            f"{100 * entry['vs_best_single']['diff']:+5.1f} [{100 * low:+.1f} {100 * high:+.1f}]"
        )
        (line,) = [
            x
            for x in lines
            if x.startswith(label[:6]) and x.rstrip().removesuffix(" inside").find(shown) > 0
        ]
        assert f"{100 * entry['accuracy']:.1f}" in line
        assert f"{entry['calls_per_row']:.2f}" in line
    assert sum("best arm here" in line for line in lines) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"routers": ["linuct"]}, "did you mean linucb"),
        ({"routers": ["linucb:alpa=2"]}, "unknown key 'alpa'; did you mean alpha"),
        ({"routers": ["linucb:alpha=two"]}, "no float"),
        ({"routers": ["linucb:alpha=-1"]}, "alpha"),
        ({"routers": ["mean:scores=odd"]}, "allowed"),
        ({"routers": ["exp3", "exp3"]}, "given twice"),
        ({"features": "prmpt"}, "allowed"),
        ({"payoff": "corect"}, "allowed"),
        ({"arms": "nothing*"}, "at least 2 arms"),
        ({"by": "length"}, "allowed"),
        ({"seeds": 0}, "allowed"),
        ({"folds": 1}, "allowed"),
        ({"files": []}, "no file given"),
        ({"json_out": Path("no/such/folder/out.json")}, "does not exist"),
        ({"files": ["gone.jsonl"]}, "no such"),
    ],
)
def test_bad_input_is_one_clear_line(
    rows: Rows, write_rows: Writer, change: dict[str, Any], says: str
) -> None:
    wanted: dict[str, Any] = {
        "files": [str(write_rows(rows))],
        "routers": ["uniform"],
        "seeds": 1,
        "console": QUIET,
        **change,
    }
    with pytest.raises(InputError, match=says) as caught:
        replay(**wanted)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_options_reach_the_router(records: Records) -> None:
    made = evaluate_methods(
        records,
        ReplaySettings(
            routers=["linucb", "linucb:alpha=0,warmup=0", "thompson:noise_sd=0.3"],
            features="category",
            seeds=1,
        ),
    )
    shares = [made["routers"][r]["share"] for r in ("linucb", "linucb:alpha=0,warmup=0")]
    assert shares[0] != shares[1]


def test_a_ledger_without_audits_still_gets_values(tmp_path: Path) -> None:
    from reward_router.dispatch import Dispatcher
    from reward_router.ledger import Ledger
    from reward_router.routers import Exp3

    path = tmp_path / "run.sqlite"
    with Ledger(path) as ledger:
        dispatcher = Dispatcher(Exp3(2), ["good", "poor"], ledger=ledger)
        for step in range(80):
            for d in dispatcher.route(np.ones((2, 1)), [f"{step}a", f"{step}b"], step=step):
                dispatcher.feedback(d.id, float(d.name == "good"), source="verifier")
    console = Console(record=True, width=180)
    made = measure([str(path)], Selection(), ReplaySettings(), console)
    (found,) = made["ledgers"]
    assert made["files"] == []
    assert found["targets"]["good"]["dr"]["ci95"][1] == 1.0
    assert found["targets"]["poor"]["snips"]["value"] == 0.0
    assert "ESS" in console.export_text()
    assert "what other routers would have earned" in report.render(made)


DATA = os.environ.get("REWARD_ROUTER_DATA")


@pytest.mark.skipif(
    not DATA, reason="REWARD_ROUTER_DATA is not set: accuracies of the real files are not checked"
)
@pytest.mark.parametrize(
    ("file", "arms", "best", "weighted"),
    [
        ("do_not_answer_harm", None, 0.869, 0.915),
        ("judgebench_gpt4o", None, 0.763, 0.735),
        ("rewardbench_math_prm", None, 0.974, 0.983),
        ("rewardmath", "judge*", 0.766, 0.749),
        ("llmbar_casestudy", None, 0.836, 0.764),
    ],
)
def test_real_files_agree_with_an_independent_study(
    file: str, arms: str | None, best: float, weighted: float
) -> None:
    """Best single arm and weighted vote as another program found them.

    That program was written apart from this one; its folds are others, so +-1 pp is allowed.
    """
    path = Path(str(DATA)) / "replay" / f"{file}.jsonl.gz"
    made = measure(
        [str(path)],
        Selection(None, arms),
        ReplaySettings(routers=["weighted_vote"], features="none", seeds=3),
    )
    (found,) = made["files"]
    assert found["routers"][found["best_single"]]["accuracy"] == pytest.approx(best, abs=5.1e-4)
    assert found["routers"]["weighted_vote"]["accuracy"] == pytest.approx(weighted, abs=0.011)


def test_categories_have_both_denominators_and_they_add_up(records: Records) -> None:
    found = evaluate_methods(
        records,
        ReplaySettings(
            ["uniform", "oracle", "majority"], "category", seeds=1, folds=2, by="category"
        ),
    )
    parts = found["by"].values()
    for name, entry in found["routers"].items():
        for part, over in (("accuracy", "rows"), ("accuracy_some_right", "some_right_rows")):
            total = sum(p[over] * p[part][name] for p in parts) / sum(p[over] for p in parts)
            assert total == pytest.approx(entry[part])
    assert all(p["accuracy_some_right"]["oracle"] == 1.0 for p in parts)
