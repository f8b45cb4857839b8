"""Files as rows: formats agree, errors name file and line."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from reward_router.errors import InputError
from reward_router.rows import read_rows

ROWS = [{"prompt": "a", "n": 1, "split": "train"}, {"prompt": "ü\n", "n": 2, "split": "test"}]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if path.suffix == ".parquet":
        pa = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "parquet"])
def test_formats_hold_the_same_rows(tmp_path: Path, ending: str) -> None:
    source = write(tmp_path / f"data.{ending}", ROWS)
    assert [row for _, row in read_rows(source, "train+test")] == ROWS
    assert [row for _, row in read_rows(source)] == ROWS[:1]
    assert [row for _, row in read_rows(source, "test")] == ROWS[1:]
    with pytest.raises(InputError, match=r"no row of split 'dev'; there are: test \(1 rows\), train \(1 rows\)"):
        list(read_rows(source, "dev"))


def test_slices_count_the_rows_of_their_split(tmp_path: Path) -> None:
    rows = [{"n": i, "split": ("train", "test")[i % 2]} for i in range(10)]
    source = write(tmp_path / "a.jsonl", rows)
    found = {split: [row["n"] for _, row in read_rows(source, split)] for split in ("train[1:3]", "test[3:]+train[:1]")}
    assert found == {"train[1:3]": [2, 4], "test[3:]+train[:1]": [0, 7, 9]}
    for split in ("train[:10%]", "train[a:b]", "train+", ""):
        with pytest.raises(InputError, match="is a name, or a slice"):
            list(read_rows(source, split))


def test_places_count_lines_and_blank_lines_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"x": 1}\n\n  \r\n{"x": 2}\r\n')
    assert [(place.split()[-1], row["x"]) for place, row in read_rows(str(path))] == [("1", 1), ("4", 2)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"x": 1', r"line 2: not JSON .*: \{\"x\": 1$"),
        (b"[1, 2]", "line 2: a JSON object is expected, found list"),
        (b'{"x": "\xff"}', "line 2: not UTF-8 text"),
        (b"[" * 100_000, "line 2: not JSON"),
    ],
)
def test_broken_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"x": 0}\n' + line + b"\n")
    with pytest.raises(InputError, match=message):
        list(read_rows(str(path)))


def test_cut_archive_and_false_parquet_are_input_errors(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"x": 1}\n' * 5000)
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "plain.jsonl.gz").write_bytes(b'{"x": 1}\n')
    (tmp_path / "false.parquet").write_bytes(b'{"x": 1}\n')
    for name in ("cut.jsonl.gz", "plain.jsonl.gz", "false.parquet"):
        with pytest.raises(InputError, match=name):
            list(read_rows(str(tmp_path / name)))


def test_sources_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    (tmp_path / "dir.jsonl").mkdir()
    for source, message in [
        (str(tmp_path / "no.jsonl"), "no such file"),
        (str(tmp_path / "dir.jsonl"), "a directory"),
        (str(tmp_path / "a.csv"), r"\.jsonl, \.jsonl\.gz, \.parquet"),
        ("not a name", "owner/name"),
    ]:
        with pytest.raises(InputError, match=message):
            list(read_rows(source))
    source = write(tmp_path / "ok.jsonl", ROWS)
    with pytest.raises(InputError, match="name='main'"):
        list(read_rows(source, config_name="main"))


def test_hub_names_are_loaded_by_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked: list[Any] = []

    def load(name: str, config: str | None, split: str) -> Any:
        asked.append((name, config, split))
        return datasets.Dataset.from_list([{"question": "q", "choices": ["x", "y"], "answer": 1}])

    monkeypatch.setattr(datasets, "load_dataset", load)
    rows = list(read_rows("cais/mmlu", "test[:1]", "all"))
    assert asked == [("cais/mmlu", "all", "test[:1]")]
    assert rows == [("cais/mmlu test[:1] row 0", {"question": "q", "choices": ["x", "y"], "answer": 1})]


@pytest.mark.parametrize("error", [ConnectionError("Couldn't reach\n the Hub"), ValueError("Unknown split")])
def test_hub_failures_are_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    datasets = pytest.importorskip("datasets")

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(InputError, match=r"data openai/gsm8k \(main\), split 'train'") as caught:
        list(read_rows("openai/gsm8k", "train", "main"))
    assert "\n" not in str(caught.value)
