"""Other people's files: RewardBench 1 outputs, RewardBench 2 scores with the official metric, our own ledger."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reward_router.dispatch import Dispatcher
from reward_router.errors import InputError
from reward_router.ledger import Call, Ledger
from reward_router.replay import importers, rewardbench2
from reward_router.replay.records import Records
from reward_router.routers import Uniform


def outputs(path: Path, scores: list[tuple[Any, Any]], ids: bool = True) -> str:
    """As ``rewardbench`` writes them with its default columns: one JSON object a line."""
    lines = []
    for i, (chosen, rejected) in enumerate(scores):
        row = {
            "prompt": f"prompt {i // 2}",
            "results": int(chosen > rejected),
            "scores_chosen": chosen,
            "scores_rejected": rejected,
        }
        row |= {
            "text_chosen": f"<|user|>prompt {i // 2}<|assistant|>good {i}",
            "text_rejected": f"<|user|>prompt {i // 2}<|assistant|>bad {i}",
        }
        lines.append(json.dumps(row | ({"subset": "alpacaeval-easy", "id": i} if ids else {})))
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def by_arm(records: Records) -> dict[str, list[float]]:
    return {arm: records.correct_PK[:, k].tolist() for k, arm in enumerate(records.arms)}


@pytest.mark.parametrize("ids", [True, False])
def test_rewardbench1_outputs_merge_by_item(tmp_path: Path, ids: bool) -> None:
    one = outputs(tmp_path / "model-one_outputs.jsonl", [(2.0, 1.0), (0.5, 0.9), (1.0, 1.0), (3.0, 0.1)], ids)
    two = outputs(tmp_path / "model-two_outputs.jsonl", [(-2.0, -1.0), (0.5, 0.1), (9.0, 8.0)], ids)
    (found,) = importers.load([one, two])
    assert by_arm(found) == {"model-one": [1.0, 0.0, 0.5, 1.0], "model-two": [0.0, 1.0, 1.0, 0.5]}
    assert found.n_groups == 2
    assert found.categories == (("alpacaeval-easy",) if ids else ("all",))
    assert sorted(found.responses[0]) == ["<|user|>prompt 0<|assistant|>bad 0", "<|user|>prompt 0<|assistant|>good 0"]
    better = [pair[0] if label > 0 else pair[1] for pair, label in zip(found.responses, found.label_P, strict=True)]
    assert all("good" in text for text in better)


def test_the_better_side_is_a_coin() -> None:
    sides = [importers.side(f"item {i}") for i in range(2000)]
    assert abs(sides.count("a") / 2000 - 0.5) < 4 * 0.5 / np.sqrt(2000)


def test_scores_in_lists_of_one_are_taken(tmp_path: Path) -> None:
    one = outputs(tmp_path / "one_outputs.jsonl", [([2.0], [1.0]), ([0.0], [1.0])])
    two = outputs(tmp_path / "two_outputs.jsonl", [([2.0], [3.0]), ([4.0], [1.0])])
    (found,) = importers.load([one, two])
    assert by_arm(found) == {"one": [1.0, 0.0], "two": [0.0, 1.0]}


def score_file(path: Path, seed: int) -> str:
    """As ``run_v2.py`` uploads them: one JSON of columns, ties last."""
    draw = np.random.default_rng(seed)
    table: dict[str, Any] = {"id": [], "subset": [], "num_correct": [], "scores": [], "results": [], "text": []}
    for i in range(6):
        scores = draw.normal(size=4).round(1)
        scores[0] += 0.5
        _add(table, str(i), "Factuality" if i % 2 else "Math", 1, scores)
    for i in range(3):
        _add(table, f"ref:{i}", "Ties", 1, np.array([3.0, *draw.normal(size=3)]))
        _add(table, f"tied:{i}", "Ties", 2, np.array([3.0, 3.0 + draw.random(), *draw.normal(size=3)]))
    path.write_text(
        json.dumps({**table, "model": path.stem, "model_type": "Seq. Classifier", "chat_template": "tokenizer"})
    )
    return str(path)


def _add(table: dict[str, Any], name: str, subset: str, correct: int, scores: Any) -> None:
    row = {
        "id": name,
        "subset": subset,
        "num_correct": correct,
        "scores": [[float(s)] for s in scores],
        "results": None,
        "text": "",
    }
    for key, value in row.items():
        table[key].append(value)


def ties_by_the_book(items: list[rewardbench2.Item]) -> float:
    """The published function, step by step and without arrays."""
    stats: dict[str, dict[str, tuple[bool, float, float]]] = {"ref": {}, "tied": {}}
    for item in items:
        kind, prompt = item.id.split(":")
        good, bad = list(item.scores_N[: item.num_correct]), list(item.scores_N[item.num_correct :])
        stats[kind][prompt] = (min(good) - max(bad) > 0, max(good) - min(good), min(good) - max(bad))
    prompts = [p for p in stats["tied"] if p in stats["ref"]]
    tied, ref = stats["tied"], stats["ref"]
    preferred = [tied[p][2] > tied[p][1] for p in prompts]
    hard = [min(ref[p][2], tied[p][2]) > tied[p][1] for p in prompts]
    margin = [np.tanh(min(ref[p][2], tied[p][2]) / tied[p][1] - 1) if tied[p][1] else 0.0 for p in prompts]
    accuracy = [sum(s[0] for s in stats[k].values()) / len(stats[k]) for k in ("tied", "ref")]
    n = len(prompts)
    return (
        0.3 * accuracy[0] + 0.3 * accuracy[1] + 0.2 * sum(preferred) / n + 0.2 * sum(hard) / n + 0.01 * sum(margin) / n
    )


def test_rewardbench2_scores_become_pairs_and_keep_the_official_metric(tmp_path: Path) -> None:
    files = [score_file(tmp_path / f"arm{i}.json", i) for i in range(2)]
    (found,) = importers.load(files)
    assert found.arms == ("arm0", "arm1")
    assert len(found) == 6 * 3 + 3 * 3 + 3 * 6
    assert found.n_groups == 12
    assert set(found.categories) == {"rb2/Math", "rb2/Factuality", "rb2/Ties"}
    items = rewardbench2.items(json.loads(Path(files[0]).read_text()), "arm0")
    ties = [item for item in items if item.subset == "Ties"]
    assert found.official["arm0"]["Ties"] == pytest.approx(ties_by_the_book(ties), abs=1e-12)
    assert set(found.official["arm1"]) == {"Math", "Factuality", "Ties", "overall"}


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
    assert rewardbench2.best_of_n(rewardbench2.Item("1", "Math", 1, np.array(scores))) == pytest.approx(credit)


def test_a_constant_reward_model_scores_nothing_in_ties_but_does_not_crash() -> None:
    items = [rewardbench2.Item(f"{k}:1", "Ties", n, np.ones(5)) for k, n in (("ref", 1), ("tied", 2))]
    assert rewardbench2.ties_score(items) == 0.0


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ([1], "has the columns"),
        ({"id": ["1"], "subset": ["Math"]}, "has the columns"),
        ({"id": ["1"], "subset": ["Math"], "scores": [[1, 2]], "num_correct": [2]}, "at least one wrong"),
        ({"id": ["1"], "subset": ["Math"], "scores": [["x", 2]], "num_correct": [1]}, "not numbers"),
        ({"id": ["1", "2"], "subset": ["Math"], "scores": [[1, 2]], "num_correct": [1]}, "different lengths"),
    ],
)
def test_bad_score_files_are_refused(table: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        rewardbench2.items(table, "scores.json")


def test_our_ledger_with_audits_becomes_rows(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        dispatcher = Dispatcher(Uniform(2), ["x", "y"], ledger=ledger)
        first, second, third = dispatcher.route(np.ones((3, 1)), ["p1", "p2", "p3"], step=0)
        calls = [
            Call(first.id, f"p1/0/{n}", arm, s, "ok" if arm == "x" else "audit")
            for arm, sign in (("x", 1), ("y", -1))
            for n, s in enumerate((sign * 1.0, 0.0, sign * 2.0))
        ]
        calls += [Call(second.id, f"p2/1/{n}", arm, s) for arm in "xy" for n, s in enumerate((0.3, 0.1))]
        calls += [Call(third.id, f"p3/2/{n}", "x", s) for n, s in enumerate((0.3, 0.1))]
        dispatcher.record_calls(calls)
        for unit, value in (("p1/0/0", 1.0), ("p1/0/1", 0.0), ("p1/0/2", 1.0), ("p2", 0.0), ("p3/2/0", 1.0)):
            dispatcher.record_label(unit, 0, value, "verifier")
    (found,) = importers.load([str(tmp_path / "ledger.sqlite")])
    assert found.arms == ("x", "y")
    assert by_arm(found) == {"x": [1.0, 1.0], "y": [0.0, 0.0]}
    assert found.n_groups == 1


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_text("not a database, only text that goes on for a while")
    with pytest.raises(InputError, match="ledger"):
        list(importers.load([str(path)]))
