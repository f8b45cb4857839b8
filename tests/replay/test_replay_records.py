"""Reading: every format gives the same records.

A broken row is named and counted, and bad files are refused in one line.
"""

import csv
import gzip
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from reward_router.errors import InputError
from reward_router.replay import reading
from reward_router.replay.columns import collect, group_key
from reward_router.replay.evaluate import ReplaySettings
from reward_router.replay.importers import load_records
from reward_router.replay.records import Records, credit
from reward_router.replay.run import Selection, measure

Rows = list[dict[str, Any]]
Writer = Callable[..., Path]


def same(one: Records, other: Records) -> bool:
    fields = ("first_PK", "second_PK", "label_P", "group_P", "category_P")
    return one.arms == other.arms and all(
        np.array_equal(getattr(one, f), getattr(other, f), equal_nan=True) for f in fields
    )


def only(path: Path | str) -> Records:
    return next(load_records([str(path)]))


def test_jsonl_gz_parquet_and_csv_agree(
    rows: Rows, records: Records, write_rows: Writer, tmp_path: Path
) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    plain = write_rows(rows)
    packed = tmp_path / "made.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    columns = tmp_path / "made.parquet"
    pq.write_table(pa.Table.from_pylist(rows), columns)
    table = tmp_path / "made.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["id", "prompt", "category", "label", *(f"{a}:{s}" for a in records.arms for s in "ab")]
        )
        for row in rows:
            scores = [row["scores"][a][s] for a in records.arms for s in (0, 1)]
            writer.writerow([row["id"], row["prompt"], row["category"], row["label"], *scores])
    for path in (plain, packed, columns, table):
        assert same(only(path), records), path
        assert only(path).prompts == records.prompts


def test_accuracy_convention() -> None:
    got = credit(np.array([2.0, -2.0, 0.0, math.nan, 3.0]), np.array([1, 1, 1, -1, -1]))
    assert got.tolist() == [1.0, 0.0, 0.5, 0.5, 0.0]


def test_verdicts_ties_and_missing_arms() -> None:
    made = [
        {"id": "q1-a", "label": "b", "verdicts": {"x": "b", "y": "tie"}},
        {"id": "q1-b", "label": "a", "verdicts": {"x": "b"}, "scores": {"z": [1, 0]}},
        {"id": "q2-a", "label": "a", "scores": {"z": [None, 1.0], "y": [2, 1]}},
    ]
    found = collect("made", [(str(i), r) for i, r in enumerate(made)])
    assert found.arms == ("x", "y", "z")
    assert found.correct_PK.tolist() == [[1.0, 0.5, 0.5], [0.0, 0.5, 1.0], [0.5, 1.0, 0.5]]
    assert found.group_P.tolist() == [0, 0, 1]
    assert found.prompts == ()


def test_verdicts_of_chosen_and_rejected_follow_them_to_their_sides() -> None:
    made = [
        {
            "id": f"q{i}", "prompt": f"p{i}", "chosen": f"good {i}", "rejected": f"bad {i}",
            "verdicts": {"right": "a", "wrong": "model_b" if i % 2 else "B>A", "named": "chosen",
                         "open": "tie", "other": "Rejected"},
            "scores": {"listed": [1, 0], "lettered": {"a": 1, "b": 0},
                       "by role": {"chosen": 1, "rejected": 0}},
        }
        for i in range(12)
    ]  # fmt: skip
    found = collect("made", [(str(i), r) for i, r in enumerate(made)])
    assert len(set(found.label_P.tolist())) == 2  # the better response stands on either side
    shares = dict(zip(found.arms, found.correct_PK.mean(axis=0).tolist(), strict=True))
    assert shares == {
        "right": 1.0,
        "wrong": 0.0,
        "named": 1.0,
        "open": 0.5,
        "other": 0.0,
        "listed": 1.0,
        "lettered": 1.0,
        "by role": 1.0,
    }


def test_a_missing_prompt_is_none_and_joins_no_others() -> None:
    nan = float("nan")
    made = [
        {
            "id": i,
            "prompt": nan,
            "category": nan,
            "label": "a",
            "scores": {"x": [1, 0], "y": [0, 1]},
        }
        for i in range(3)
    ]
    found = collect("made", [(str(i), r) for i, r in enumerate(made)])
    assert (found.n_groups, found.categories, found.prompts) == (3, ("all",), ())


def test_a_verdict_chosen_needs_a_side() -> None:
    made = [
        {"id": str(i), "label": "b", "verdicts": {"x": "chosen", "y": "rejected"}} for i in range(3)
    ]
    found = collect("made", [(str(i), r) for i, r in enumerate(made)])
    assert found.correct_PK.tolist() == [[1.0, 0.0]] * 3


def test_group_is_the_prompt_else_the_id_without_its_last_part() -> None:
    assert group_key("hello", "x-1", "w") == group_key("hello", "y-2", "v")
    assert group_key(None, "file:10-2", "w") == group_key(None, "file:10-0", "v")
    assert group_key(None, None, "line 1") != group_key(None, None, "line 2")


def test_broken_rows_are_named_with_their_line_and_counted(rows: Rows, write_rows: Writer) -> None:
    path = write_rows(rows)
    lines = path.read_text().splitlines()
    lines[3] = lines[3][:40]
    lines[5] = json.dumps({**rows[5], "label": "d"})
    lines[7] = json.dumps({**rows[7], "scores": {}})
    lines[9] = json.dumps({**rows[9], "scores": {"poor": ["much", "little"]}})
    lines[11] = "[1, 2]"
    path.write_text("\n".join(lines))
    found = only(path)
    assert found.n_broken == 5
    assert len(found) == len(rows) - 5
    assert [p.split(": ")[0] for p in found.problems] == [
        f"made.jsonl line {n}" for n in (4, 6, 8, 10, 12)
    ]


def test_pairs_of_identical_responses_are_left_out_and_counted(
    rows: Rows, write_rows: Writer
) -> None:
    for row in rows[:4]:
        row["response_b"] = row["response_a"]
    path, console = (
        write_rows(rows),
        Console(record=True, width=300, quiet=False, file=io.StringIO()),
    )
    found = only(path)
    assert (found.n_identical, found.n_broken, len(found)) == (4, 0, len(rows) - 4)
    told = measure(
        [str(path)], Selection(), ReplaySettings(["uniform"], "category", seeds=1, folds=2), console
    )
    assert told["files"][0]["identical_rows"] == 4
    assert "4 rows of identical responses left out" in console.export_text()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"label": None}, "no usable row"),
        ({"scores": {"one": [1, 2]}}, "only one arm"),
        ({"scores": {"one": [1, 2, 3], "two": [1, 2]}}, "scores of one are"),
        ({"scores": {"one": 1.0, "two": [1, 2]}}, "scores of one are"),
    ],
)
def test_bad_files_are_refused(
    rows: Rows, write_rows: Writer, change: dict[str, Any], says: str
) -> None:
    path = write_rows([{**row, **change} for row in rows])
    with pytest.raises(InputError, match=says) as caught:
        only(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "missing.jsonl",
        "missing.parquet",
        "missing.csv",
        "table.xls",
        "missing.sqlite",
        "scores.json",
    ],
)
def test_missing_or_unknown_files_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"no such|unknown kind"):
        only(tmp_path / name)


def test_truncated_gzip_is_refused(rows: Rows, write_rows: Writer, tmp_path: Path) -> None:
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress(write_rows(rows).read_bytes())[:-200])
    with pytest.raises(InputError, match="cannot be read"):
        only(cut)


def test_arms_are_selected_by_glob(records: Records) -> None:
    assert records.select("*y").arms == ("mathy", "chatty")
    assert records.select(None, "const*,poor").arms == ("mathy", "chatty")
    with pytest.raises(InputError, match="at least 2 arms"):
        records.select("mathy")


def test_prompts_are_let_go_beyond_the_limit(rows: Rows) -> None:
    placed = [(str(i), row) for i, row in enumerate(rows)]
    assert len(collect("made", placed, keep_prompts=60).prompts) == 60
    assert collect("made", placed, keep_prompts=59).prompts == ()
    assert collect("made", placed, keep_prompts=0, keep_responses=False).responses == ()


def test_cost_by_arm_and_by_row() -> None:
    made = [
        {
            "id": "1",
            "label": "a",
            "scores": {"x": [1, 0], "y": [1, 0]},
            "cost": {"x": 2.0, "y": 0.5},
        },
        {"id": "2", "label": "a", "scores": {"x": [1, 0], "y": [1, 0]}, "cost": 3},
        {"id": "3", "label": "a", "scores": {"x": [1, 0], "y": [1, 0]}},
    ]
    found = collect("made", [(str(i), r) for i, r in enumerate(made)])
    assert found.price_PK.tolist() == [[2.0, 0.5], [3.0, 3.0], [1.0, 1.0]]


def test_infinite_scores_are_ordered_not_lost() -> None:
    made = [
        {"id": str(i), "label": "a", "scores": {"x": [0.0, -math.inf], "y": [-math.inf, -math.inf]}}
        for i in range(2)
    ]
    found = collect("made", [(str(i), r) for i, r in enumerate(made)])
    assert np.isfinite(found.margins_PK).all()
    assert found.correct_PK.tolist() == [[1.0, 0.5]] * 2


def test_short_name() -> None:
    assert reading.short_name("folder/rewardmath.jsonl.gz") == "rewardmath"


def test_broken_parquet_and_missing_hub_sets_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "broken.parquet"
    path.write_bytes(b"not a parquet file")
    with pytest.raises(InputError, match="not readable as Parquet"):
        only(path)
    monkeypatch.setattr(
        reading, "read_rows", lambda name, split: iter([(f"{name} {split} row 1", {"label": "a"})])
    )
    assert list(reading.rows("owner/scores:test")) == [("owner/scores test row 1", {"label": "a"})]
    assert list(reading.rows("owner/scores")) == [("owner/scores train row 1", {"label": "a"})]


@pytest.mark.parametrize(
    "junk", [b"\xff\xfe\x00", b"[" * 5000, b'{"id": 1e999}', b"null", b"", b"\x1f\x8b broken"]
)
def test_junk_never_raises_anything_but_an_input_error(tmp_path: Path, junk: bytes) -> None:
    for name in ("junk.jsonl", "junk.jsonl.gz", "junk.csv", "junk.json", "junk.parquet"):
        path = tmp_path / name
        path.write_bytes(junk)
        with pytest.raises(InputError):
            only(path)
