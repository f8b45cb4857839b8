"""Damaged files give a clear error on opening, and everything readable is saved.

Each event that is saved is one that was written.
"""

import json
import sqlite3

import numpy as np
import pytest

from reward_router.dispatch import Dispatcher
from reward_router.errors import InputError, LedgerError
from reward_router.ledger import Call, Ledger, check_ledger, export_ledger
from reward_router.ledger.salvage import record
from reward_router.routers import Exp3

STEPS = 120


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "ledger.sqlite"
    ledger = Ledger(path)
    d = Dispatcher(Exp3(2), ["a", "bé"], ledger=ledger, snapshot_every=300)
    x = np.random.default_rng(0).normal(size=(STEPS, 2, 40))
    for step in range(STEPS):
        decisions = d.route(x[step], ["u", "☃"], step)
        d.record_calls([Call(q.id, "r0", q.arm, float("nan") if q.arm else 1.0) for q in decisions])
        d.feedback(decisions[0].id, step / STEPS) if step % 2 else d.feedback_raw(
            decisions[1].id, step, source="raw"
        )
    d.record_label("u", 1, 1.0, "verifier")
    d.record_failure(None, "a", "timeout")
    d.add_arm("c")
    big = d.route(np.ones((1, 40)), ["last"], 10**6)
    d.feedback(big[0].id, 1.0)
    ledger.close()
    export_ledger(path, path.with_suffix(".jsonl"))
    return path, path.read_bytes(), path.with_suffix(".jsonl").read_text().splitlines()


def test_a_whole_ledger_is_whole_and_exported_in_order(whole):
    path, _, lines = whole
    report = check_ledger(path)
    assert report.ok, str(report)
    events = [json.loads(line) for line in lines]
    assert [e["seq"] for e in events] == list(range(1, report.last_seq + 1))
    with Ledger(path, readonly=True) as ledger:
        decisions = ledger.decisions()
        saved = [e for e in events if e["type"] == "decisions"]
        assert [e["context"] for e in saved] == decisions.context_BD.tolist()
        assert [e["propensity"] for e in saved] == decisions.propensity.tolist()
        assert [e["name"] for e in saved] == [decisions.arms[a] for a in decisions.arm]
        paid = [e for e in events if e["type"] == "payoffs"]
        assert [e["raw"] for e in paid if e["kind"] == "raw"] == [
            v for v in ledger.payoffs().raw if not np.isnan(v)
        ]


def test_parquet_holds_what_jsonl_holds(whole, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    path, _, lines = whole
    assert export_ledger(path, tmp_path / "l.parquet").ok
    table = parquet.read_table(tmp_path / "l.parquet").to_pylist()
    slim = [{k: v for k, v in row.items() if v is not None} for row in table]
    assert slim == [{k: v for k, v in json.loads(line).items() if v is not None} for line in lines]


def plain(lines: list[str]) -> set[str]:
    """Events without their arms' names, which lie elsewhere in the file."""
    return {
        json.dumps({k: v for k, v in json.loads(line).items() if k != "name"}) for line in lines
    }


def salvaged(data: bytes, lines: list[str], folder) -> int:
    """Opening is clear, every event saved is one of the originals; returns how many are."""
    path = folder / "damaged.sqlite"
    path.write_bytes(data)
    try:
        with Ledger(path) as ledger:
            Dispatcher(Exp3(2), ["a", "bé"], ledger=ledger)
            assert plain(
                [json.dumps(record(e, ["a", "bé", "c"])) for e in ledger.events()]
            ) <= plain(lines)
        message = str(path)
    except LedgerError as error:
        message = str(error)
    assert str(path) in message
    path.write_bytes(data)
    report = export_ledger(path, folder / "out.jsonl")
    saved = (folder / "out.jsonl").read_text().splitlines()
    assert plain(saved) <= plain(lines)
    assert report.ok == (len(saved) == len(lines) and not report.problems)
    return len(saved)


@pytest.mark.parametrize("part", [0.02, 0.1, 0.33, 0.5, 0.77, 0.9, 0.999])
def test_a_file_cut_short(part, whole, tmp_path):
    _, raw, lines = whole
    saved = salvaged(raw[: int(part * len(raw))], lines, tmp_path)
    assert saved > (part - 0.5) * len(lines)


@pytest.mark.parametrize("seed", range(16))
def test_a_torn_page(seed, whole, tmp_path):
    _, raw, lines = whole
    random = np.random.default_rng(seed)
    size = int(random.choice([1, 100, 4096, 8192]))
    page = int(random.integers(1, len(raw) // 8192))
    offset = page * 8192 + int(random.integers(0, 8192 - size + 1))
    torn = raw[:offset] + random.bytes(1) * size + raw[offset + size :]
    assert salvaged(torn, lines, tmp_path) > 0.5 * len(lines)


def test_a_file_without_its_head_is_read_page_by_page(whole, tmp_path):
    _, raw, lines = whole
    path = tmp_path / "headless"
    path.write_bytes(b"\x00" * 8192 + raw[8192:])
    with pytest.raises(LedgerError, match="ledger export"):
        Ledger(path)
    report = export_ledger(path, tmp_path / "out.jsonl")
    assert not report.ok
    assert "the file's head is unreadable" in str(report)
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == len(lines)


def test_events_still_in_the_log_are_saved_when_the_file_is_gone(tmp_path):
    path = tmp_path / "l"
    with Ledger(path) as ledger:
        d = Dispatcher(Exp3(2), ["a", "b"], ledger=ledger)
        d.route(np.ones((3, 200)), list("xyz"), 0)
        crashed = (tmp_path / "l-wal").read_bytes()
    (tmp_path / "gone").write_bytes(b"\x00" * 100)
    (tmp_path / "gone-wal").write_bytes(crashed)
    export_ledger(tmp_path / "gone", tmp_path / "out.jsonl")
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 3


def test_what_cannot_be_exported_is_refused(whole, tmp_path):
    path, _, _ = whole
    with pytest.raises(InputError, match=r"\.jsonl or \.parquet"):
        export_ledger(path, tmp_path / "out.csv")
    with pytest.raises(InputError, match="no such file"):
        check_ledger(tmp_path / "none")
    db = sqlite3.connect(tmp_path / "other")
    db.execute("CREATE TABLE t(x)")
    db.close()
    with pytest.raises(LedgerError, match="not a ledger"):
        check_ledger(tmp_path / "other")
