"""Files as rows: formats agree, errors name file and line."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from reward_router.errors import InputError
from reward_router.reading import Broken, RowTally, kind_of, read_rows

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
    with pytest.raises(
        InputError, match=r"no row of split 'dev'; there are: test \(1 rows\), train \(1 rows\)"
    ):
        list(read_rows(source, "dev"))


def test_slices_count_the_rows_of_their_split(tmp_path: Path) -> None:
    rows = [{"n": i, "split": ("train", "test")[i % 2]} for i in range(10)]
    source = write(tmp_path / "a.jsonl", rows)
    found = {
        split: [row["n"] for _, row in read_rows(source, split)]
        for split in ("train[1:3]", "test[3:]+train[:1]")
    }
    assert found == {"train[1:3]": [2, 4], "test[3:]+train[:1]": [0, 7, 9]}
    for split in ("train[:10%]", "train[a:b]", "train+", ""):
        with pytest.raises(InputError, match="is a name, or a slice"):
            list(read_rows(source, split))


def test_places_count_lines_and_blank_lines_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"x": 1}\n\n  \r\n{"x": 2}\r\n')
    assert [(place.split()[-1], row["x"]) for place, row in read_rows(str(path))] == [
        ("1", 1),
        ("4", 2),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"x": 1', "not JSON (Expecting ',' delimiter at column 8): {\"x\": 1"),
        (b"[1, 2]", "a JSON object is expected, found list"),
        (b"null", "a JSON object is expected, found null"),
        (b'{"x": "\xff"}', "not UTF-8 text"),
        (b"[" * 100_000, "not JSON"),
        (b'{"x": ' + b"9" * 5000 + b"}", "thousands of digits"),
        (b'{"x": "cut \\ud83d"}', "'x' holds half a surrogate pair"),
        (b'{"x": {"y": ["cut \\uDE00"]}}', "'x' holds half a surrogate pair"),
        (b'{"cut \\ud83d": 1}', "a column's name holds half a surrogate pair"),
        (b'{"x": 1, "x": 2}', "key 'x' stands twice"),
        (b'{"x": 1} {"x": 2}', "Extra data"),
    ],
)
def test_broken_line_is_named_and_the_others_are_read(
    tmp_path: Path, line: bytes, message: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"x": 0}\n' + line + b'\n{"x": 3}\n')
    (_, first), (place, broken), (_, last) = read_rows(str(path))
    assert (first, last) == ({"x": 0}, {"x": 3})
    assert place.endswith("line 2")
    assert isinstance(broken, Broken)
    assert message in broken


def test_a_key_twice_with_one_value_and_whole_surrogate_pairs_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"x": 1, "x": 1}\n{"x": "\\ud83d\\ude00"}\n')
    assert [row for _, row in read_rows(str(path))] == [{"x": 1}, {"x": "\U0001f600"}]


def test_cut_archive_and_false_parquet_are_input_errors(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"x": 1}\n' * 5000)
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "false.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "text.parquet").write_bytes(b"not a Parquet file")
    for name in ("cut.jsonl.gz", "false.parquet", "text.parquet"):
        with pytest.raises(InputError, match=name):
            list(read_rows(str(tmp_path / name)))


def test_sources_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_text("x\n1\n")
    (tmp_path / "dir.jsonl").mkdir()
    for source, message in [
        (str(tmp_path / "no.jsonl"), "no such file"),
        (str(tmp_path / "dir.jsonl"), "a directory"),
        (str(tmp_path / "a.bin"), r"unknown kind of file, allowed: \.jsonl, \.json, \.csv"),
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
    assert rows == [
        ("cais/mmlu test[:1] row 0", {"question": "q", "choices": ["x", "y"], "answer": 1})
    ]


@pytest.mark.parametrize(
    "error", [ConnectionError("Couldn't reach\n the Hub"), ValueError("Unknown split")]
)
def test_hub_failures_are_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    datasets = pytest.importorskip("datasets")

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(InputError, match=r"data openai/gsm8k \(main\), split 'train'") as caught:
        list(read_rows("openai/gsm8k", "train", "main"))
    assert "\n" not in str(caught.value)


DOCUMENTS = {
    "array": lambda rows: json.dumps(rows),
    "array over lines": lambda rows: json.dumps(rows, indent=4),
    "objects over lines": lambda rows: "\n".join(json.dumps(row, indent=2) for row in rows),
    "columns": lambda rows: json.dumps({name: [row[name] for row in rows] for name in rows[0]}),
    "columns over lines": lambda rows: json.dumps(
        {name: [row[name] for row in rows] for name in rows[0]}, indent=1
    ),
    "pandas": lambda rows: json.dumps(
        {name: {str(i): row[name] for i, row in enumerate(rows)} for name in rows[0]}
    ),
    "data": lambda rows: json.dumps({"version": 1, "data": rows}),
    "the Hub's viewer": lambda rows: json.dumps(
        {"rows": [{"row_idx": i, "row": row} for i, row in enumerate(rows)]}
    ),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_hold_the_same_rows(tmp_path: Path, name: str, encoding: str) -> None:
    rows = [{"id": i, "prompt": f"q {i} \u00fc \U0001f600"} for i in range(5)]
    path = tmp_path / "data.txt"
    path.write_bytes(DOCUMENTS[name](rows).encode(encoding))
    assert [row for _, row in read_rows(str(path))] == rows
    packed = tmp_path / "no-ending"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert [row for _, row in read_rows(str(packed))] == rows


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_cells_are_texts_of_any_length_and_empty_ones_null(
    tmp_path: Path, separator: str, encoding: str
) -> None:
    path = tmp_path / "a"
    long = "word " * 60_000
    text = (
        separator.join(("", "id", "prompt", "note"))
        + f'\r\n0{separator}7{separator}"two\nlines"{separator}\r\n'
    )
    path.write_bytes((text + f"1{separator}8{separator}{long}{separator}x\r\n").encode(encoding))
    (first, one), (second, two) = read_rows(str(path))
    assert one == {"id": "7", "prompt": "two\nlines", "note": None}
    assert two == {"id": "8", "prompt": long, "note": "x"}
    assert (first.split()[-1], second.split()[-1]) == ("2", "4")


def test_csv_lines_of_another_width_are_broken_and_a_column_twice_is_refused(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,prompt\n1,a\n2\n3,b,c\n\n4,d\n")
    rows = list(read_rows(str(path)))
    assert [isinstance(row, Broken) for _, row in rows] == [False, True, True, False]
    assert rows[1][1] == "1 cells, the header has 2"
    path.write_text("id,prompt,id\n1,a,2\n")
    with pytest.raises(InputError, match="column 'id' stands twice"):
        list(read_rows(str(path)))


def test_parquet_columns_of_every_kind(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    turns = [[{"role": "user", "content": "hi"}], [{"role": "user", "content": "ho"}]]
    columns = {
        "id": pa.array([1, 2], pa.int64()),
        "long": pa.array(["a", "b"], pa.large_string()),
        "coded": pa.array(["x", "x"]).dictionary_encode(),
        "scores": pa.array(
            [[("m", [1.0, 2.0])], [("m", [3.0, 4.0])]], pa.map_(pa.string(), pa.list_(pa.float64()))
        ),
        "turns": pa.array(turns),
        "inner": pa.array(
            [{"map": [("k", 1)]}, {"map": []}],
            pa.struct([("map", pa.map_(pa.string(), pa.int32()))]),
        ),
    }
    path = tmp_path / "a"
    pq.write_table(pa.table(columns), path)
    (_, first), (_, second) = read_rows(str(path))
    assert first == {
        "id": 1,
        "long": "a",
        "coded": "x",
        "scores": {"m": [1.0, 2.0]},
        "turns": turns[0],
        "inner": {"map": {"k": 1}},
    }
    assert second["inner"] == {"map": {}}


def test_the_message_names_the_likely_cause(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "train.parquet").write_bytes(b"x")
    contents = {
        "a.zip": (b"PK\x03\x04rest", "ZIP archive"),
        "a.bz2": (b"BZh9", "bzip2"),
        "a.arrow": (b"ARROW1\x00\x00", "Arrow file"),
        "a.pkl": (b"\x80\x04\x95\x00", "pickle"),
        "a.jsonl": ('{"x": 1}'.encode("utf-16-le"), "UTF-16 without a byte order mark"),
        "lfs.parquet": (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            "Git LFS pointer",
        ),
        "page.jsonl": (b"<!DOCTYPE html>\n<html></html>", "a web page"),
        "twice.jsonl.gz": (gzip.compress(gzip.compress(b'{"x": 1}')), "gzip inside gzip"),
        "cut.json": (b'[{"x": 1}, {"x": 2}', "the array does not end"),
        "wrong.json": (
            b'[{"x": 1},\n{"x": oops}, {"x": 3}' + b" " * 100 + b"]",
            "line 2: not JSON",
        ),
        "latin.csv": ("x,y\n1,caf\u00e9\n".encode("latin-1"), "not utf-8"),
    }
    for name, (content, says) in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=says) as caught:
            list(read_rows(str(tmp_path / name)))
        assert name in str(caught.value)
    with pytest.raises(InputError, match=r"a directory, not a file; in it: train\.parquet"):
        list(read_rows(str(tmp_path / "folder")))
    (tmp_path / "empty").write_bytes(b"")
    assert list(read_rows(str(tmp_path / "empty"))) == []
    (tmp_path / "db").write_bytes(b"SQLite format 3\x00" + bytes(100))
    assert kind_of(tmp_path / "db") == "sqlite"


def test_an_array_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    rows = [
        {"id": i, "prompt": 'word, "]}[{ ' * (i % 997), "more": [[i], {"x": None}]}
        for i in range(3000)
    ]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows, indent=1))
    found = list(read_rows(str(path)))
    assert [row for _, row in found] == rows
    assert [place.rpartition(" ")[2] for place, _ in found] == [str(i) for i in range(1, 3001)]
    rows[2000]["x"] = 3
    path.write_text(json.dumps(rows, indent=1).replace('"x": 3', "oops"))
    line = 1 + path.read_text().partition("oops")[0].count("\n")
    with pytest.raises(InputError, match=f"line {line}: not JSON"):
        list(read_rows(str(path)))


def test_more_than_half_lost_is_an_error_and_less_is_told() -> None:
    tally = RowTally("x")
    tally.read = 4
    for why in ("line 2: bad", "line 3: bad"):
        tally.broken(why)
    tally.check()
    assert tally.told() == "2 of 4 rows cannot be read and are left out, first: line 2: bad"
    tally.broken("line 4: bad")
    with pytest.raises(
        InputError, match="data x: 3 of 4 rows cannot be read, more than half; first: line 2: bad"
    ):
        tally.check()
