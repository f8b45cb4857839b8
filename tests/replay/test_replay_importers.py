"""Other people's files.

These are RewardBench 1 outputs, RewardBench 2 scores with the official metric, and our own ledger.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reward_router.dispatch import Dispatcher
from reward_router.errors import InputError
from reward_router.ledger import Call, Ledger
from reward_router.replay import fields, importers, reading, rewardbench2
from reward_router.replay.records import Records
from reward_router.routers import Uniform

KEYS = ("id", "bare", "line")


def outputs(
    path: Path,
    scores: Sequence[tuple[Any, Any]],
    key: str = "id",
    template: str = "<|user|>{}<|assistant|>",
) -> str:
    """Rows as ``rewardbench --model M`` writes them.

    Prompt and texts stand in the model's own template, the data set's columns behind.
    """
    lines = []
    for i, (chosen, rejected) in enumerate(scores):
        prompt = template.format(f"prompt {i // 2}")
        row: dict[str, Any] = {
            "prompt": prompt,
            "results": 0,
            "scores_chosen": chosen,
            "scores_rejected": rejected,
        }
        row |= {"text_chosen": f"{prompt}good {i}", "text_rejected": f"{prompt}bad {i}"}
        if key != "line":
            row |= {
                "chosen": f"good {i}",
                "chosen_model": "human",
                "rejected": f"bad {i}",
                "rejected_model": "gpt4",
            }
        if key == "id":
            row |= {"subset": "alpacaeval-easy", "id": i}
        lines.append(json.dumps(row))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def by_arm(records: Records) -> dict[str, list[float]]:
    return {arm: records.correct_PK[:, k].tolist() for k, arm in enumerate(records.arms)}


ONE, TWO = (
    [(2.0, 1.0), (0.5, 0.9), (1.0, 1.0), (3.0, 0.1)],
    [(-2.0, -1.0), (0.5, 0.1), (9.0, 8.0), (1.0, 1.0)],
)


@pytest.mark.parametrize("key", KEYS)
def test_rewardbench1_outputs_are_joined_though_each_model_has_its_own_chat_template(
    tmp_path: Path, key: str
) -> None:
    one = outputs(tmp_path / "model-one_outputs.jsonl", ONE, key)
    two = outputs(tmp_path / "model-two_outputs.jsonl", TWO, key, template="[INST]{}[/INST]")
    (found,) = importers.load_records([one, two])
    assert by_arm(found) == {"model-one": [1.0, 0.0, 0.5, 1.0], "model-two": [0.0, 1.0, 1.0, 0.5]}
    assert found.n_groups == 2
    assert found.categories == (("alpacaeval-easy",) if key == "id" else ("all",))
    better = [
        pair[0] if label > 0 else pair[1]
        for pair, label in zip(found.responses, found.label_P, strict=True)
    ]
    assert [text.split("assistant|>")[-1] for text in better] == [f"good {i}" for i in range(4)]


@pytest.mark.parametrize("key", ["id", "bare"])
def test_rewardbench1_files_may_hold_different_items(tmp_path: Path, key: str) -> None:
    one = outputs(tmp_path / "one_outputs.jsonl", ONE, key)
    two = outputs(tmp_path / "two_outputs.jsonl", TWO[:3], key, template="[INST]{}[/INST]")
    (found,) = importers.load_records([one, two])
    assert by_arm(found) == {"one": [1.0, 0.0, 0.5, 1.0], "two": [0.0, 1.0, 1.0, 0.5]}
    assert np.isnan(
        found.margins_PK[3, 1]
    )  # missing, and so 1/2: the file's line 4 is a tie, this is not it


def test_rewardbench1_lines_without_any_key_need_files_of_one_length(tmp_path: Path) -> None:
    one = outputs(tmp_path / "one_outputs.jsonl", ONE, "line")
    two = outputs(tmp_path / "two_outputs.jsonl", TWO[:3], "line")
    with pytest.raises(InputError, match="one_outputs has 4 lines, two_outputs has 3 lines"):
        list(importers.load_records([one, two]))


def test_the_same_item_twice_in_a_file_stays_two_items(tmp_path: Path) -> None:
    files = []
    for name, scores in (("one", ONE[:2]), ("two", TWO[:2])):
        path = tmp_path / f"{name}_outputs.jsonl"
        rows = [
            {"id": 7, "subset": "s", "prompt": "p", "scores_chosen": c, "scores_rejected": r}
            for c, r in scores
        ]
        path.write_text("\n".join(map(json.dumps, rows)))
        files.append(str(path))
    (found,) = importers.load_records(files)
    assert by_arm(found) == {"one": [1.0, 0.0], "two": [0.0, 1.0]}


def test_a_broken_first_of_two_rows_does_not_move_the_second(tmp_path: Path) -> None:
    files = []
    for name, scores in (("one", [("high", 1.0), *ONE[1:2]]), ("two", TWO[:2])):
        path = tmp_path / f"{name}_outputs.jsonl"
        rows = [
            {"id": 7, "subset": "s", "prompt": "p", "scores_chosen": c, "scores_rejected": r}
            for c, r in scores
        ]
        path.write_text("\n".join(map(json.dumps, rows)))
        files.append(str(path))
    (found,) = importers.load_records(files)
    assert found.n_broken == 1
    assert sorted(map(tuple, found.correct_PK.tolist())) == [(0.0, 1.0), (0.5, 0.0)]


def test_broken_rewardbench1_lines_are_named_and_leave_the_other_models_alone(
    tmp_path: Path,
) -> None:
    one = outputs(tmp_path / "one_outputs.jsonl", [*ONE[:2], ("high", 1.0), ONE[3]])
    two = Path(outputs(tmp_path / "two_outputs.jsonl", TWO))
    lines = two.read_text().splitlines()
    two.write_text(
        "\n".join([lines[0][:30], lines[1], lines[2], json.dumps({"id": 3, "scores_chosen": 1.0})])
    )
    (found,) = importers.load_records([one, str(two)])
    assert found.n_broken == 3
    assert [p.split(": ")[0] for p in found.problems] == [
        "one_outputs.jsonl line 3",
        "two_outputs.jsonl line 1",
        "two_outputs.jsonl line 4",
    ]
    assert by_arm(found)["one"][:2] == [1.0, 0.0]
    assert found.margins_PK.shape == (4, 2)
    assert np.isnan(found.margins_PK).sum() == 3


def test_models_of_one_name_are_told_apart_by_their_folder_or_refused(tmp_path: Path) -> None:
    files = [
        outputs(tmp_path / org / "rm_outputs.jsonl", scores)
        for org, scores in (("left", ONE), ("right", TWO))
    ]
    (found,) = importers.load_records(files)
    assert found.arms == ("left/rm", "right/rm")
    with pytest.raises(InputError, match="one arm, left/rm; rename one"):
        list(importers.load_records([files[0], files[0]]))


def test_one_model_alone_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give the files of several models together"):
        list(importers.load_records([outputs(tmp_path / "one_outputs.jsonl", ONE)]))


def test_the_better_side_is_a_coin() -> None:
    sides = [fields.side(f"item {i}") for i in range(2000)]
    assert abs(sides.count("a") / 2000 - 0.5) < 4 * 0.5 / np.sqrt(2000)


def test_scores_in_lists_of_one_are_taken(tmp_path: Path) -> None:
    one = outputs(tmp_path / "one_outputs.jsonl", [([2.0], [1.0]), ([0.0], [1.0])])
    two = outputs(tmp_path / "two_outputs.jsonl", [([2.0], [3.0]), ([4.0], [1.0])])
    (found,) = importers.load_records([one, two])
    assert by_arm(found) == {"one": [1.0, 0.0], "two": [0.0, 1.0]}


def score_file(path: Path, seed: int, n: int = 6) -> str:
    """Rows as ``run_v2.py`` uploads them.

    It is one JSON of columns; the scores are whole, so that ties are many; Ties come last.
    """
    draw = np.random.default_rng(seed)
    table: dict[str, Any] = {
        "id": [],
        "subset": [],
        "num_correct": [],
        "scores": [],
        "results": [],
        "text": [],
    }
    for i in range(n):
        _add(
            table,
            str(i),
            "Factuality" if i % 2 else "Math",
            1,
            draw.integers(0, 3, 4) + np.array([1, 0, 0, 0]),
        )
    for i in range(n):
        _add(table, f"ref:{i}", "Ties", 1, np.array([2 + draw.random(), *draw.normal(size=3)]))
        _add(
            table,
            f"tied:{i}",
            "Ties",
            2,
            np.array([3.0, 3.0 + draw.integers(0, 3), *draw.normal(size=3)]),
        )
    about = {"model": path.stem, "model_type": "Seq. Classifier", "chat_template": "tokenizer"}
    path.write_text(json.dumps({**table, **about}, indent=4, sort_keys=True))
    return str(path)


def _add(table: dict[str, Any], name: str, subset: str, correct: int, scores: Any) -> None:
    row = {
        "id": name,
        "subset": subset,
        "num_correct": correct,
        "results": None,
        "text": ["" for _ in scores],
    }
    for key, value in {**row, "scores": [[float(s)] for s in scores]}.items():
        table[key].append(value)


def ties_by_the_book(table: dict[str, Any]) -> float:
    """The published definition of the Ties score, prompt by prompt and without arrays."""
    stats: dict[str, dict[str, tuple[bool, float, float]]] = {"ref": {}, "tied": {}}
    for name, correct, scores in zip(
        table["id"], table["num_correct"], table["scores"], strict=True
    ):
        if ":" in name:
            kind, prompt = name.split(":")
            good, bad = [s[0] for s in scores[:correct]], [s[0] for s in scores[correct:]]
            stats[kind][prompt] = (
                min(good) > max(bad),
                max(good) - min(good),
                min(good) - max(bad),
            )
    ref, tied = stats["ref"], stats["tied"]
    n = len(tied)
    preferred = sum(tied[p][2] > tied[p][1] for p in tied) / n
    hard = sum(min(ref[p][2], tied[p][2]) > tied[p][1] for p in tied) / n
    margin = 0.0
    for p in tied:
        gap, spread = min(ref[p][2], tied[p][2]), tied[p][1]
        margin += (np.sign(gap) if spread == 0 else np.tanh(gap / spread - 1)) / n
    accuracy = [sum(s[0] for s in stats[kind].values()) / n for kind in ("tied", "ref")]
    return float(
        0.3 * accuracy[0] + 0.3 * accuracy[1] + 0.2 * preferred + 0.2 * hard + 0.01 * margin
    )


def best_of_four_by_the_book(table: dict[str, Any], subset: str) -> float:
    """Share of items won, a win shared by m equal best scores counting 1/m."""
    total, n = 0.0, 0
    for name, scores in zip(table["subset"], table["scores"], strict=True):
        if name == subset:
            first, *rest = [s[0] for s in scores]
            total += 0.0 if max(rest) > first else 1 / (1 + rest.count(first))
            n += 1
    return total / n


@pytest.mark.parametrize("seed", range(4))
def test_rewardbench2_official_metric_is_the_published_one(tmp_path: Path, seed: int) -> None:
    path = score_file(tmp_path / "arm.json", seed, 40)
    table = json.loads(Path(path).read_text())
    items, problems = rewardbench2.items(reading.rows(path), "arm")
    found = rewardbench2.official_scores(items)
    assert problems == []
    expected = {s: best_of_four_by_the_book(table, s) for s in ("Math", "Factuality")} | {
        "Ties": ties_by_the_book(table)
    }
    assert found == pytest.approx({**expected, "overall": sum(expected.values()) / 3}, abs=1e-12)
    assert 0.2 < found["Math"] < 0.95


def test_rewardbench2_scores_become_pairs_grouped_by_item(tmp_path: Path) -> None:
    files = [score_file(tmp_path / f"arm{i}.json", i) for i in range(2)]
    (found,) = importers.load_records(files)
    assert found.arms == ("arm0", "arm1")
    assert len(found) == 6 * 3 + 6 * 3 + 6 * 2 * 3
    assert found.n_groups == 18
    assert set(found.categories) == {"rb2/Math", "rb2/Factuality", "rb2/Ties"}
    assert set(found.official["arm1"]) == {"Math", "Factuality", "Ties", "overall"}
    table = json.loads(Path(files[0]).read_text())
    pairs = [
        (c, w)
        for n, row in zip(table["num_correct"], table["scores"], strict=True)
        for (c,) in row[:n]
        for (w,) in row[n:]
    ]
    assert found.correct_PK[:, 0].tolist() == [
        1.0 if c > w else 0.5 if c == w else 0.0 for c, w in pairs
    ]
    assert 0.3 < (found.label_P > 0).mean() < 0.7


@pytest.mark.parametrize(
    ("scores", "credit"),
    [
        ([3.0, 1.0, 2.0, 0.0], 1.0),
        ([3.0, 3.0, 2.0, 3.0], 1 / 3),
        ([1.0, 3.0, 2.0, 3.0], 0.0),
        ([2.0, 2.0, 2.0, 2.0], 0.25),
    ],
)
def test_best_of_four_splits_ties(scores: list[float], credit: float) -> None:
    assert rewardbench2.best_of_n(
        rewardbench2.ScoredItem("1", "Math", 1, np.array(scores))
    ) == pytest.approx(credit)


def test_a_constant_reward_model_scores_nothing_in_ties_but_does_not_crash() -> None:
    items = [
        rewardbench2.ScoredItem(f"{k}:1", "Ties", n, np.ones(5))
        for k, n in (("ref", 1), ("tied", 2))
    ]
    assert rewardbench2.ties_score(items) == 0.0


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ([1], "has the columns"),
        ({"id": ["1"], "subset": ["Math"]}, "has the columns"),
        (
            {"id": ["1", "2"], "subset": ["Math"], "scores": [[1, 2]], "num_correct": [1]},
            "different lengths: id 2, subset 1",
        ),
    ],
)
def test_bad_score_files_are_refused(tmp_path: Path, table: Any, says: str) -> None:
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(table))
    with pytest.raises(InputError, match=says):
        rewardbench2.items(reading.rows(str(path)), "scores.json")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"scores": [1, 2, 3, 4], "num_correct": 4}, "at least one of each"),
        ({"scores": [1], "num_correct": 1}, "at least one of each"),
        ({"scores": ["x", 2, 1, 1]}, "not numbers"),
        ({"scores": None}, "not numbers"),
        ({"scores": [1, None, 1, 1]}, "not numbers|NaN"),
        ({"scores": [1, float("nan"), 1, 1]}, "NaN"),
        ({"subset": "Ties", "id": "7"}, "ref:N and tied:N"),
    ],
)
def test_broken_items_are_named_and_counted(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    files = [score_file(tmp_path / f"arm{i}.json", i) for i in range(2)]
    table = json.loads(Path(files[0]).read_text())
    for column, value in change.items():
        table[column][4] = value
    Path(files[0]).write_text(json.dumps(table))
    (found,) = importers.load_records(files)
    assert found.n_broken == 1
    assert found.problems[0].startswith("arm0.json item 5: ")
    assert any(part in found.problems[0] for part in says.split("|"))
    assert np.isnan(found.margins_PK[:, 0]).sum() == 3


def test_our_ledger_with_audits_becomes_rows(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        dispatcher = Dispatcher(Uniform(2), ["x", "y"], ledger=ledger)
        first, second, third = dispatcher.route(np.ones((3, 1)), ["p1", "p2", "p3"], step=0)
        calls = [
            Call(first.id, f"p1/0/{n}", arm, s, "ok" if arm == "x" else "audit")
            for arm, sign in (("x", 1), ("y", -1))
            for n, s in enumerate((sign * 1.0, 0.0, sign * 2.0))
        ]
        calls += [
            Call(second.id, f"p2/1/{n}", arm, s) for arm in "xy" for n, s in enumerate((0.3, 0.1))
        ]
        calls += [Call(third.id, f"p3/2/{n}", "x", s) for n, s in enumerate((0.3, 0.1))]
        dispatcher.record_calls(calls)
        for unit, value in (
            ("p1/0/0", 1.0),
            ("p1/0/1", 0.0),
            ("p1/0/2", 1.0),
            ("p2", 0.0),
            ("p3/2/0", 1.0),
        ):
            dispatcher.record_label(unit, 0, value, "verifier")
    (found,) = importers.load_records([str(tmp_path / "ledger.sqlite")])
    assert found.arms == ("x", "y")
    assert by_arm(found) == {"x": [1.0, 1.0], "y": [0.0, 0.0]}
    assert found.n_groups == 1


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_text("not a database, only text that goes on for a while")
    with pytest.raises(InputError, match="ledger"):
        list(importers.load_records([str(path)]))
