"""Results of benchmarks as people have them.

They give the right figures, and never one item in another's place.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from reward_router.errors import InputError
from reward_router.replay.importers import load_records
from reward_router.replay.records import Records


def saved(path: Path, value: Any) -> str:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return str(path)


def accuracy(found: Records) -> dict[str, float]:
    return {arm: float(found.correct_PK[:, k].mean()) for k, arm in enumerate(found.arms)}


def test_rewardbench2_items_of_one_id_in_two_subsets_stay_two(tmp_path: Path) -> None:
    right, wrong = [3, 0, 0, 0], [0, 3, 3, 3]
    about = {"id": ["7", "7"], "subset": ["Factuality", "Math"], "num_correct": [1, 1]}
    files = [
        saved(tmp_path / name, {**about, "scores": scores})
        for name, scores in (("x.json", [right, wrong]), ("y.json", [wrong, right]))
    ]
    (found,) = load_records(files)
    assert accuracy(found) == {"x": 0.5, "y": 0.5}
    assert found.n_groups == 2


def test_rewardbench2_an_item_twice_is_refused_and_other_completions_are_not_joined(
    tmp_path: Path,
) -> None:
    twice = {
        "id": ["7", 7],
        "subset": ["Math", "Math"],
        "num_correct": [1, 1],
        "scores": [[1, 0], [0, 1]],
    }
    with pytest.raises(InputError, match=r"x\.json: id '7' of Math stands twice, at items 1 and 2"):
        list(load_records([saved(tmp_path / "x.json", twice)]))
    ids = [str(i) for i in range(4)]
    tables = {"a": [[1, 0, 0]] * 4, "b": [[1, 0, 0]] * 3 + [[1, 0]]}
    rest = {"id": ids, "subset": ["Math"] * 4, "num_correct": [1] * 4}
    (found,) = load_records(
        [
            saved(tmp_path / f"{name}.json", {**rest, "scores": scores})
            for name, scores in tables.items()
        ]
    )
    assert found.n_broken == 1
    assert "1 correct of 2 completions; in a it has 1 of 3" in found.problems[0]


def test_rewardbench2_results_of_judges_are_verdicts_of_items(tmp_path: Path) -> None:
    judge: dict[str, Any] = {"id": [], "subset": [], "num_correct": [], "scores": [], "results": []}
    for i, result in enumerate([1, False, True, 0.25]):
        for name, value in (
            ("id", str(i)),
            ("subset", "Math"),
            ("num_correct", 1),
            ("scores", None),
            ("results", result),
        ):
            judge[name].append(value)
    model = {
        **judge,
        "scores": [[2, 1, 0, 0], [2, 1, 0, 0], [1, 2, 0, 0], [2, 2, 1, 0]],
        "results": [1, 1, 0, 0.5],
    }
    (found,) = load_records(
        [saved(tmp_path / "judge.json", judge), saved(tmp_path / "model.json", model)]
    )
    assert (len(found), found.n_broken) == (4, 0)
    assert accuracy(found) == {"judge": (1 + 0 + 1 + 0.5) / 4, "model": (1 + 1 + 0 + 0.5) / 4}
    assert found.official["judge"]["Math"] == pytest.approx((1 + 0 + 1 + 0.5) / 4)


@pytest.mark.parametrize("layout", ["columns", "columns over lines", "lines"])
def test_rewardbench1_scores_and_results_in_every_layout(tmp_path: Path, layout: str) -> None:
    scores = {"rm": [(2, 1), (0, 1), (1, 1)], "judge": [1, 0, 0.5]}
    files = []
    for model, values in scores.items():
        rows = [
            {
                "id": i,
                "subset": "s",
                "prompt": f"<{model}> {i}",
                "text_chosen": f"good {i}",
                "text_rejected": f"bad {i}",
            }
            | (
                {"results": v}
                if model == "judge"
                else {"scores_chosen": v[0], "scores_rejected": v[1], "results": int(v[0] > v[1])}
            )
            for i, v in enumerate(values)
        ]
        table = {name: [row[name] for row in rows] for name in rows[0]} | {"model": model}
        indent = 4 if layout == "columns over lines" else None
        text = (
            "\n".join(map(json.dumps, rows))
            if layout == "lines"
            else json.dumps(table, indent=indent, sort_keys=True)
        )
        files.append(saved(tmp_path / f"{model}.json", text))
    (found,) = load_records(files)
    assert {arm: found.correct_PK[:, k].tolist() for k, arm in enumerate(found.arms)} == {
        "rm": [1, 0, 0.5],
        "judge": [1, 0, 0.5],
    }


def test_rewardbench1_bare_numbers_and_summaries(tmp_path: Path) -> None:
    files = [
        saved(
            tmp_path / f"{arm}_all.jsonl",
            "\n".join(json.dumps({"chosen": c, "rejected": r}) for c, r in pairs),
        )
        for arm, pairs in (("x", [(1.5, 0.5), (0.1, 0.2)]), ("y", [(0.5, 1.5), (0.2, 0.1)]))
    ]
    (found,) = load_records(files)
    assert {arm: found.correct_PK[:, k].tolist() for k, arm in enumerate(found.arms)} == {
        "x": [1, 0],
        "y": [0, 1],
    }
    summary = saved(
        tmp_path / "m.json",
        {"model": "m", "chat_template": "tulu", "alpacaeval-easy": 0.9, "math-prm": 0.8},
    )
    with pytest.raises(InputError, match=r"summary .*; give the file of scores"):
        list(load_records([summary]))


def test_judgebench_games_in_both_orders(tmp_path: Path) -> None:
    games = {
        "agree": (["A>B", "B>A"], 1.0),
        "contradict": (["A>B", "A>B"], 0.5),
        "one and a tie": (["A=B", "B>A"], 1.0),
        "one and none": ([None, "A>B"], 0.0),
        "ties": (["A=B", "A=B"], 0.5),
    }
    files = []
    for judge in ("o1", "other"):
        lines = [
            {
                "pair_id": name,
                "source": "s",
                "question": name,
                "response_A": "x",
                "response_B": "y",
                "label": "A>B",
            }
            | {
                "judgments": [
                    None if d is None else {"judgment": {}, "decision": d} for d in decisions
                ]
            }
            for name, (decisions, _) in games.items()
        ]
        name = (
            "dataset=judgebench,response_model=gpt-4o-2024-05-13,judge_name=arena_hard,"
            f"judge_model={judge}.jsonl"
        )
        files.append(saved(tmp_path / name, "\n".join(map(json.dumps, lines))))
    (found,) = load_records(files)
    assert found.arms == ("arena_hard:o1", "arena_hard:other")
    assert found.correct_PK[:, 0].tolist() == [credit for _, credit in games.values()]
    assert found.n_broken == 0


def test_rmbench_items_become_nine_rows(tmp_path: Path) -> None:
    item = {
        "id": "chat/1",
        "prompt": "p",
        "chosen": ["a", "b", "c"],
        "rejected": ["d", "e", "f"],
        "domain": "chat",
    }
    scores = {"x": ([3, 2, 1], [0.5, 1.5, 2.5]), "y": ([[1], [1], [1]], [[0], [1], [2]])}
    files = [
        saved(tmp_path / f"{arm}.json", [{**item, "score_chosen": c, "score_rejected": r}])
        for arm, (c, r) in scores.items()
    ]
    (found,) = load_records(files)
    assert (len(found), found.n_groups, found.categories) == (9, 1, ("chat",))
    assert accuracy(found) == {"x": 6 / 9, "y": 0.5}


def test_rmbench_items_of_one_id_in_two_domains_stay_two(tmp_path: Path) -> None:
    def item(domain: str, right: bool) -> dict[str, Any]:
        scores = {"score_chosen": [int(right)], "score_rejected": [int(not right)]}
        return {
            "id": 1,
            "prompt": domain,
            "chosen": ["a"],
            "rejected": ["b"],
            "domain": domain,
            **scores,
        }

    both = saved(tmp_path / "x.json", [item("chat", True), item("math", False)])
    other = saved(tmp_path / "y.json", [item("math", True)])
    (found,) = load_records([both, other])
    assert (len(found), found.n_broken, found.categories) == (2, 0, ("chat", "math"))
    assert found.correct_PK.tolist() == [[1.0, 0.5], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("labels", "right"),
    [
        ([0, 1, 0], [1, 0, 1]),
        ([1, 2, 1], [1, 0, 1]),
        (["A", "b ", "Model A"], [1, 0, 1]),
        (["A>B", "B>>A", "[[A]]"], [1, 0, 1]),
        (["0", "1", "0"], [1, 0, 1]),
        (["a", "tie", "b"], [1, 0]),
        ([0, 0.5, 1], [1, 0]),
    ],
)
def test_labels_of_recorded_rows(tmp_path: Path, labels: list[Any], right: list[float]) -> None:
    rows = [
        {"id": f"q{i}", "label": label, "scores": {"x": [1, 0], "y": [0, 1]}}
        for i, label in enumerate(labels)
    ]
    (found,) = load_records([saved(tmp_path / "x.jsonl", "\n".join(map(json.dumps, rows)))])
    assert found.correct_PK[:, 0].tolist() == right
    assert found.n_ties == len(labels) - len(right)
    assert found.n_broken == 0


@pytest.mark.parametrize("labels", [[0, 1, 2], [-1, 1, -1]])
def test_labels_that_say_two_things_are_refused(tmp_path: Path, labels: list[int]) -> None:
    rows = [
        {"id": f"q{i}", "label": label, "scores": {"x": [1, 0], "y": [0, 1]}}
        for i, label in enumerate(labels)
    ]
    with pytest.raises(InputError, match="which side they mean is open"):
        list(load_records([saved(tmp_path / "x.jsonl", "\n".join(map(json.dumps, rows)))]))


def test_more_than_half_broken_is_refused(tmp_path: Path) -> None:
    good = {"id": "q", "label": "a", "scores": {"x": [1, 0], "y": [0, 1]}}
    rows = [good, {**good, "label": "?"}, {**good, "scores": {"x": [1, 2, 3]}}]
    with pytest.raises(
        InputError,
        match=r"2 of 3 rows cannot be read, more than half; first: x\.jsonl line 2: label '\?'",
    ):
        list(load_records([saved(tmp_path / "x.jsonl", "\n".join(map(json.dumps, rows)))]))
