"""What holds of every choice.

These are the bounds, one arm alone, a fixed router, the split, the same again, and no second
scoring.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reward_router import config
from reward_router.bestofn.rows import divide, read_responses
from reward_router.bestofn.run import Files, bestofn
from reward_router.bestofn.table import mean_scores, scales
from reward_router.bestofn.ways import gold_of_choices, pick
from reward_router.config import Config
from reward_router.ledger import Ledger

Write, Settled = Callable[..., str], Callable[..., Config]
Made = Callable[..., list[dict[str, Any]]]
EPS = 1e-12


def chosen(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def learned(
    tmp_path_factory: pytest.TempPathFactory, made: Made, arms_yaml: str
) -> tuple[dict[str, Any], Path]:
    """One run with everything, shared by the laws below."""
    folder = tmp_path_factory.mktemp("bestofn")
    (folder / "arms.yaml").write_text(arms_yaml, encoding="utf-8")
    (folder / "rows.jsonl").write_text(
        "".join(json.dumps(r) + "\n" for r in made()), encoding="utf-8"
    )
    result = bestofn(
        config.load(folder / "arms.yaml"), folder / "best.jsonl",
        files=Files(str(folder / "rows.jsonl")), seeds=2, json_out=folder / "result.json",
    )  # fmt: skip
    return result, folder


def test_no_method_passes_its_bounds(learned: tuple[dict[str, Any], Path]) -> None:
    methods = learned[0]["methods"]
    gold = {name: row["gold"] for name, row in methods.items()}
    arms = [gold[name] for name in ("short", "long", "seven")]
    assert all(value <= gold["oracle"] + EPS for value in gold.values())
    assert all(value <= gold["perfect router"] + EPS for value in [gold["routed"], *arms])
    assert min(arms) - EPS <= gold["random"] <= max(arms) + EPS
    assert gold["random"] == pytest.approx(np.mean(arms))
    assert all(
        row["ci95"][0] - EPS <= row["gold"] <= row["ci95"][1] + EPS for row in methods.values()
    )


def test_routing_learns_what_each_arm_is_good_at(learned: tuple[dict[str, Any], Path]) -> None:
    result, _ = learned
    routed = result["methods"]["routed"]
    assert routed["vs_best_single_ci95"][0] > 0.1
    assert result["arms"]["short"]["short"] > 0.8
    assert result["arms"]["long"]["long"] > 0.8
    assert (
        result["categories"]["short"]["gold"]["short"]
        > result["categories"]["short"]["gold"]["long"]
    )


def test_calls_are_counted(learned: tuple[dict[str, Any], Path], made: Made) -> None:
    result, folder = learned
    methods, calls = result["methods"], result["calls"]
    rows = {row["id"]: len(row["responses"]) for row in made()}
    best = {row["id"] for row in chosen(folder / "best.jsonl")}
    assert methods["routed"]["calls_per_response"] == 1.0
    assert methods["mean"]["calls_per_response"] == 3.0
    assert calls["choosing"] == sum(n for name, n in rows.items() if name in best)
    assert calls["choosing"] + calls["learning"] == sum(rows.values())
    assert calls["comparison"] == 2 * sum(rows.values())
    with Ledger(folder / "best.kept" / "test.sqlite", readonly=True) as ledger:
        assert len(ledger.calls().arm) == calls["choosing"]
        assert set(ledger.decisions().unit) == best
        assert set(ledger.decisions().propensity.tolist()) <= {
            1.0,
            0.5,
            1 / 3,
        }  # greedy: one arm, or an even tie
    assert json.loads((folder / "result.json").read_text())["methods"].keys() == methods.keys()


def test_nothing_chosen_for_was_learned_from(learned: tuple[dict[str, Any], Path]) -> None:
    result, folder = learned
    best = {row["id"] for row in chosen(folder / "best.jsonl")}
    with Ledger(folder / "best.kept" / "train.sqlite", readonly=True) as ledger:
        seen = set(ledger.decisions().unit)
        assert len(ledger.payoffs().decision) == result["learned"][0]["payoffs"]
    assert not best & seen
    assert len(best | seen) == 120


def test_a_row_of_best_is_what_its_arm_says(
    learned: tuple[dict[str, Any], Path], made: Made
) -> None:
    by_id = {row["id"]: row for row in made()}
    for row in chosen(learned[1] / "best.jsonl"):
        texts = by_id[row["id"]]["responses"]
        assert texts[row["index"]] == row["response"]
        assert row["asked"] == [row["arm"]]
        sizes = [len(text.split()) for text in texts]
        if row["arm"] != "seven":
            assert row["score"] == (max(sizes) if row["arm"] == "long" else -min(sizes))


def test_the_same_seed_gives_the_same_file(
    write: Write, settled: Settled, tmp_path: Path, made: Made
) -> None:
    file = write(made(60))
    texts = set()
    # Twice in one folder: the second time with scores that were kept. In the other folder the arms
    # are not all asked for the table.
    for name, compared in (("one", True), ("one", True), ("two", False)):
        target = tmp_path / name / "best.jsonl"
        bestofn(settled(), target, files=Files(file), compared=compared)
        texts.add(target.read_text())
    assert len(texts) == 1


def test_a_router_fixed_on_an_arm_is_that_arm(
    write: Write, settled: Settled, tmp_path: Path, made: Made
) -> None:
    conf = settled("router={name: fixed, arm: seven}")
    result = bestofn(conf, tmp_path / "best.jsonl", files=Files(write(made(60))))
    assert result["methods"]["routed"]["gold"] == result["methods"]["seven"]["gold"]
    assert {row["arm"] for row in chosen(tmp_path / "best.jsonl")} == {"seven"}


def test_one_arm_alone(write: Write, settled: Settled, tmp_path: Path, made: Made) -> None:
    conf = settled(
        "arms=[{name: only, kind: metric, metric: length}]", "router={name: fixed, arm: only}"
    )
    methods = bestofn(conf, tmp_path / "best.jsonl", files=Files(write(made(40))))["methods"]
    same = [
        methods[name]["gold"] for name in ("routed", "random", "only", "mean", "perfect router")
    ]
    assert len(set(same)) == 1
    assert "committee" not in methods


def test_the_order_of_responses_does_not_count(
    write: Write, settled: Settled, tmp_path: Path, made: Made
) -> None:
    rows = made(60)
    turned = [{**r, "responses": r["responses"][::-1], "golds": r["golds"][::-1]} for r in rows]
    a = bestofn(settled(), tmp_path / "a.jsonl", files=Files(write(rows, "r.jsonl")))
    b = bestofn(settled(), tmp_path / "b.jsonl", files=Files(write(turned, "t.jsonl")))
    for name in ("short", "mean", "routed", "oracle", "no judge"):
        assert a["methods"][name]["gold"] == pytest.approx(b["methods"][name]["gold"]), name


def test_scores_are_made_once(write: Write, settled: Settled, tmp_path: Path, made: Made) -> None:
    file, out = write(made(40)), tmp_path / "best.jsonl"
    first = bestofn(settled(), out, files=Files(file))
    second = bestofn(settled(), out, files=Files(file))
    assert sum(first["calls"]["made_now"].values()) > 0
    assert sum(second["calls"]["made_now"].values()) == 0
    [torn, *_] = sorted((tmp_path / "best.kept" / "scores").iterdir())
    text = torn.read_text()
    torn.write_text(text[: len(text) // 2])  # killed in the middle of a line
    third = bestofn(settled(), out, files=Files(file))
    assert 0 < sum(third["calls"]["made_now"].values()) < sum(first["calls"]["made_now"].values())
    assert third["methods"] == first["methods"]


def test_an_arm_with_other_options_is_scored_again(
    write: Write, settled: Settled, tmp_path: Path, made: Made
) -> None:
    file, out = write(made(40)), tmp_path / "best.jsonl"
    bestofn(settled(), out, files=Files(file))
    again = bestofn(settled("arms.short.direction=long"), out, files=Files(file))
    assert again["methods"]["short"]["gold"] == again["methods"]["long"]["gold"]


def test_without_gold_there_is_a_choice_and_no_table(
    write: Write, settled: Settled, tmp_path: Path, made: Made
) -> None:
    rows = [{k: v for k, v in row.items() if k != "golds"} for row in made(30)]
    result = bestofn(settled(), tmp_path / "best.jsonl", files=Files(write(rows)))
    assert result["methods"] == {}
    assert result["prompts"] == {"train": 0, "test": 30, "measured": 0}
    assert {row["id"] for row in chosen(tmp_path / "best.jsonl")} == {row["id"] for row in rows}


def test_rows_may_say_their_side(write: Write, settled: Settled, made: Made) -> None:
    rows = [{**row, "split": "train" if i < 10 else "test"} for i, row in enumerate(made(30))]
    sides = divide(read_responses(write(rows), settled()), settled())
    assert [item.id for item in sides.train] == [row["id"] for row in rows[:10]]
    assert len(sides.test) == 20


def test_a_prompt_is_on_one_side(write: Write, settled: Settled, made: Made) -> None:
    rows = [{**row, "id": f"{row['id']}-{turn}"} for row in made(40) for turn in (0, 1)]
    sides = divide(read_responses(write(rows), settled()), settled("split={train: 0.3}"))
    assert not {item.prompt for item in sides.train} & {item.prompt for item in sides.test}
    assert 0 < len(sides.train) < len(sides.test)


def test_two_files(write: Write, settled: Settled, tmp_path: Path, made: Made) -> None:
    train, test = write(made(40), "train.jsonl"), write(made(20, first=500), "test.jsonl")
    result = bestofn(settled(), tmp_path / "best.jsonl", files=Files(train=train, test=test))
    assert result["prompts"] == {"train": 40, "test": 20, "measured": 20}


def test_graded_gold_teaches(write: Write, settled: Settled, tmp_path: Path, made: Made) -> None:
    """F1 with the answer.

    The answer is the longest response in one category, the shortest in the other.
    """
    rows = made(80)
    for row in rows:
        texts = sorted(row["responses"], key=lambda text: len(text.split()))
        row["answer"] = [texts[-1 if row["category"] == "long" else 0]]
        del row["golds"]
    conf = settled("measure=f1", "payoff.name=verifier")
    methods = bestofn(conf, tmp_path / "best.jsonl", files=Files(write(rows)))["methods"]
    assert methods["oracle"]["gold"] == 1.0
    assert methods["routed"]["gold"] > max(
        methods[name]["gold"] for name in ("short", "long", "seven")
    )
    assert 0 < methods["no judge"]["gold"] < 1


def test_an_answer_rule_is_gold(write: Write, settled: Settled) -> None:
    rows = [
        {"prompt": f"{i} + 1?", "responses": [f"It is {i + 1}.", f"It is {i}."], "answer": i + 1}
        for i in range(5)
    ]
    items = read_responses(write(rows), settled("data.answer_kind=number"))
    assert all(item.gold_N.tolist() == [1.0, 0.0] for item in items)


def test_embedded_prompts_bring_their_rules(write: Write, settled: Settled) -> None:
    from reward_router.tasks import generate

    task = next(t for t in generate("dev") if t.category == "sums")
    [item] = read_responses(
        write([{"prompt": task.prompt, "responses": ["no idea", "none"]}]), settled()
    )
    assert item.gold_N.tolist() == [0.0, 0.0]


def test_the_committee_chooses(write: Write, settled: Settled, tmp_path: Path, made: Made) -> None:
    conf = settled("judge={mode: committee, max_calls: 2, gate: off, labels: {fraction: 1.0}}")
    result = bestofn(conf, tmp_path / "best.jsonl", files=Files(write(made(100))))
    assert 1.0 <= result["methods"]["committee"]["calls_per_response"] <= 2.0
    assert result["calls"]["choosing"] <= 2 * sum(len(r["responses"]) for r in made(100))
    assert all(1 <= len(row["asked"]) <= 2 for row in chosen(tmp_path / "best.jsonl"))
    assert result["methods"]["routed"]["calls_per_response"] == 1.0
    assert result["calls"]["labels"] > 0


def test_a_committee_has_the_gold_that_payoffs_read_unless_a_share_is_named(
    write: Write, settled: Settled, tmp_path: Path, made: Made
) -> None:
    def labels(judge: str, *more: str) -> int:
        files = Files(write(made(60)))
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
        result = bestofn(settled(f"judge={judge}", *more), out, files=files, compared=False)
        return int(result["calls"]["labels"])

    all_of_them = labels("{mode: committee, labels: {fraction: 1.0}}")
    assert labels("{mode: committee}") == all_of_them
    assert labels("{mode: committee, labels: {fraction: 0.1}}") < all_of_them / 2
    assert labels("{mode: committee}", "payoff.fraction=0.2") < all_of_them / 2


def test_a_router_may_name_the_committees_first_arm(
    write: Write, settled: Settled, tmp_path: Path, made: Made
) -> None:
    conf = settled(
        "judge={mode: committee, first: router, max_calls: 1, gate: off, labels: {fraction: 1.0}}"
    )
    result = bestofn(conf, tmp_path / "best.jsonl", files=Files(write(made(60))), compared=False)
    assert result["calls"]["per_response"] == 1.0
    assert all(row["asked"] == [row["arm"]] for row in chosen(tmp_path / "best.jsonl"))


def test_the_choice_needs_no_torch(
    write: Write, settled: Settled, tmp_path: Path, made: Made
) -> None:
    settled()
    code = f"""
import sys
for name in ("torch", "transformers", "peft", "accelerate", "sentence_transformers"):
    sys.modules[name] = None
from reward_router import config
from reward_router.bestofn.run import Files, bestofn
from pathlib import Path
settled = config.load({str(tmp_path / "arms.yaml")!r})
bestofn(settled, Path({str(tmp_path / "best.jsonl")!r}), files=Files({write(made(30))!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert chosen(tmp_path / "best.jsonl")


def test_ties_count_their_mean_and_silence_any() -> None:
    from reward_router.bestofn.rows import Item

    item = Item("a", "p", "", None, responses=("x", "y", "z"), gold_N=np.array([1.0, 0.0, 0.0]))
    assert gold_of_choices([np.array([2.0, 2.0, 1.0])], [item]).tolist() == [0.5]
    assert gold_of_choices([np.full(3, np.nan)], [item]).tolist() == pytest.approx([1 / 3])
    picks = [pick(np.array([2.0, 2.0, 1.0]), replace(item, id=f"u{i}"), 0) for i in range(200)]
    assert 60 < picks.count(0) < 140
    assert picks.count(2) == 0


def test_a_cut_response_is_not_chosen() -> None:
    from reward_router.bestofn.rows import Item
    from reward_router.responses import Response

    cut = partial(Response, finished=False)

    item = Item(
        "a",
        "p",
        "",
        None,
        responses=(cut("x"), "y", "z"),
        gold_N=np.array([1.0, 0.0, 0.5]),
        cut="lose",
    )
    scores = np.array([9.0, 1.0, 2.0])
    assert pick(scores, item, 0) == 2
    assert gold_of_choices([scores], [item]).tolist() == [0.5]
    assert gold_of_choices([np.array([9.0, np.nan, np.nan])], [item]).tolist() == [0.25]
    assert pick(scores, replace(item, cut="keep"), 0) == 0
    assert (
        pick(scores, replace(item, responses=(cut("x"), cut("y"), cut("z"))), 0) == 0
    )  # there is no other


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("raise RuntimeError('away')", "failed: "),
        ("return [[float('nan')] * len(row) for row in responses]", "no score for any response"),
    ],
)
def test_an_arm_that_never_answered_is_not_chosen(
    body: str, why: str, write: Write, settled: Settled, tmp_path: Path, made: Made
) -> None:
    """Nor is it the best single arm: what it puts first is any response."""
    (tmp_path / "dead_arm.py").write_text(
        f"class Dead:\n    def score(self, prompts, responses):\n        {body}\n",
        encoding="utf-8",
    )
    arms = "{name: %s, kind: metric, metric: length, direction: %s}"
    listed = [
        arms % ("short", "short"),
        arms % ("long", "long"),
        "{name: away, kind: python, path: 'dead_arm:Dead'}",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        patch.delitem(sys.modules, "dead_arm", raising=False)
        conf = settled(f"arms=[{', '.join(listed)}]")
        rows = made(60)
        for row in rows:  # the shortest and the longest are wrong: a guess is better than either
            sizes = [len(text) for text in row["responses"]]
            row["golds"] = [float(min(sizes) < size < max(sizes)) for size in sizes]
        result = bestofn(conf, tmp_path / "best.jsonl", files=Files(write(rows)))
    assert result["failed"]["away"].startswith(why)
    assert {result["best_single"]["train"], result["best_single"]["test"]} <= {"short", "long"}
    assert {row["arm"] for row in chosen(tmp_path / "best.jsonl")} <= {"short", "long"}
    assert result["methods"]["routed"]["calls_per_response"] == 1.0


def test_a_row_that_an_arm_cannot_answer_is_no_score(
    write: Write, settled: Settled, tmp_path: Path, made: Made
) -> None:
    (tmp_path / "picky_arm.py").write_text(
        "class Picky:\n"
        "    def score(self, prompts, responses):\n"
        "        if any('number 7' in p for p in prompts):\n"
        "            raise RuntimeError('not this one')\n"
        "        return [[len(r) for r in row] for row in responses]\n",
        encoding="utf-8",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        arms = (
            "{name: short, kind: metric, metric: length}, "
            "{name: picky, kind: python, path: 'picky_arm:Picky'}"
        )
        conf, file = settled(f"arms=[{arms}]"), Files(write(made(40)))
        first, second = (bestofn(conf, tmp_path / "best.jsonl", files=file) for _ in range(2))
    rows = made(40)
    assert first["failed"] == {}
    assert first["failed_prompts"] == {"picky": 1}
    assert first["calls"]["made_now"]["picky"] == sum(
        len(set(row["responses"])) for row in rows if "number 7" not in row["prompt"]
    )
    assert second["calls"]["made_now"] == {"short": 0, "picky": 0}
    assert first["methods"] == second["methods"]
    [kept] = (tmp_path / "best.kept" / "scores").glob("python-*.jsonl")
    assert "null" not in kept.read_text(
        encoding="utf-8"
    )  # what failed is not kept as an abstention


def test_the_mean_is_blind_to_each_arms_scale() -> None:
    draw = np.random.default_rng(0)
    raw = {arm: [draw.normal(size=4) for _ in range(20)] for arm in ("a", "b")}
    stretched = {"a": raw["a"], "b": [1000 * row + 7 for row in raw["b"]]}
    for one, other in zip(
        mean_scores(raw, scales(raw)), mean_scores(stretched, scales(stretched)), strict=True
    ):
        assert np.allclose(one, other)
