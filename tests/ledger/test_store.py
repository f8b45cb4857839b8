"""The SQLite file: one writer, many readers, full disks, altered snapshots.

What every store keeps to is in ``test_laws``.
"""

import multiprocessing
import os
import re
import sqlite3
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

import reward_router
from reward_router.dispatch import Dispatcher
from reward_router.errors import InputError, LedgerError
from reward_router.ledger import Call, Ledger
from reward_router.ledger.rows import Decided, Labelled
from reward_router.routers import Exp3, LinUCB

X = np.random.default_rng(0).normal(size=(400, 4))


def label(seq: int) -> Labelled:
    return Labelled(seq, f"u{seq}", 0, 1.0, "test")


def fill(ledger: Ledger, steps: int = 20, router=None) -> Dispatcher:
    d = Dispatcher(router or Exp3(2), ["a", "b"], ledger=ledger, snapshot_every=10)
    for step in range(steps):
        decisions = d.route(X[step : step + 2], ["x", "y"], step)
        d.record_calls(
            [Call(q.id, "r", q.arm, float("nan") if q.arm else 0.5, seconds=0.1) for q in decisions]
        )
        d.feedback(decisions[step % 2].id, step / 100)
    return d


def test_a_second_writer_is_refused_here_and_in_another_process(tmp_path):
    path = tmp_path / "l"
    with Ledger(path):
        with pytest.raises(LedgerError, match="one writer"):
            Ledger(path)
        code = f"from reward_router.ledger import Ledger; Ledger({str(path)!r})"
        other = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert "one writer" in other.stderr
    Ledger(path).close()


def test_readers_in_other_processes_see_whole_transactions_while_one_writes(tmp_path):
    path = tmp_path / "l"
    code = f"""
from reward_router.ledger import Ledger
seen = -1
while seen < 160:
    with Ledger({str(path)!r}, readonly=True) as ledger:
        decisions, payoffs = ledger.decisions(), ledger.payoffs()
        assert len(decisions.seq) % 4 == 0, len(decisions.seq)
        assert len(payoffs.seq) <= len(decisions.seq) and len(decisions.seq) >= seen
        seen = len(decisions.seq)
"""
    with Ledger(path) as ledger:
        d = Dispatcher(Exp3(2), ["a", "b"], ledger=ledger)
        readers = [
            subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        for step in range(40):
            decisions = d.route(X[step * 4 : step * 4 + 4], list("wxyz"), step)
            d.feedback_many([(q.id, 0.5) for q in decisions])
        for reader in readers:
            assert (reader.communicate(timeout=60)[1], reader.returncode) == ("", 0)


def test_a_reader_never_writes(tmp_path):
    with pytest.raises(LedgerError, match="no such ledger"):
        Ledger(tmp_path / "none", readonly=True)
    assert list(tmp_path.iterdir()) == []
    with Ledger(tmp_path / "l") as ledger:
        fill(ledger)
        with Ledger(tmp_path / "l", readonly=True) as reader:
            last = reader.last_seq
            with pytest.raises(LedgerError, match="reading only"):
                reader.append([label(last + 1)])
            with pytest.raises(LedgerError, match="reading only"):
                reader.rewind(0, "no")
            ledger.append([label(last + 1)])
            assert reader.last_seq == last + 1


def test_a_forked_child_is_told_to_open_its_own(tmp_path):
    with Ledger(tmp_path / "l") as ledger:
        answers = multiprocessing.get_context("fork").SimpleQueue()

        def child() -> None:
            try:
                ledger.append([label(1)])
            except LedgerError as error:
                answers.put(str(error))

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join()
        assert "fork" in answers.get()


@pytest.mark.parametrize("grouped", [False, True])
def test_a_full_disk_refuses_the_event_and_goes_on_when_there_is_room(tmp_path, grouped):
    with Ledger(tmp_path / "l") as ledger:
        d = Dispatcher(LinUCB(2, 400), ["a", "b"], ledger=ledger, snapshot_every=8)
        wide = np.random.default_rng(1).normal(size=(50, 400)) / 20
        pages = ledger.query("PRAGMA page_count")[0][0]
        ledger.query(f"PRAGMA max_page_count={pages + 24}")
        kept, refused = [], []
        for step in range(20):
            state, seq = {k: v.tobytes() for k, v in d.state_dict().items()}, ledger.last_seq
            try:
                with ledger.together() if grouped else nullcontext():
                    routed = d.route(wide[step : step + 2], ["x", "y"], step)
                    if grouped:
                        d.record_label("x", step, 1.0, "test")
                kept += routed
            except LedgerError as error:
                refused.append(str(error))
                assert ({k: v.tobytes() for k, v in d.state_dict().items()}, ledger.last_seq) == (
                    state,
                    seq,
                )
        assert kept
        assert refused
        assert all("no room" in message for message in refused)
        ledger.query("PRAGMA max_page_count=1000000")
        assert len(d.route(wide[:2], ["x", "y"], 99)) == 2
        assert d.feedback_many([(q.id, 0.5) for q in kept]) == [True] * len(kept)
        live = {k: v.tobytes() for k, v in d.state_dict().items()}
    with Ledger(tmp_path / "l") as ledger:
        again = Dispatcher(LinUCB(2, 400), ["a", "b"], ledger=ledger)
        assert {k: v.tobytes() for k, v in again.state_dict().items()} == live
        assert ledger.check().ok


def test_a_snapshot_that_was_altered_is_passed_over(tmp_path):
    with Ledger(tmp_path / "l") as ledger:
        live = {k: v.tobytes() for k, v in fill(ledger).state_dict().items()}
    db = sqlite3.connect(tmp_path / "l")
    newest = db.execute("SELECT max(seq) FROM snapshots").fetchone()[0]
    db.execute(
        "UPDATE snapshot_parts SET data=zeroblob(length(data)) WHERE seq=? AND part=0", (newest,)
    )
    db.commit()
    db.close()
    with Ledger(tmp_path / "l") as ledger:
        assert ledger.last_snapshot()[0] < newest
        again = Dispatcher(Exp3(2), ["a", "b"], ledger=ledger)
        assert {k: v.tobytes() for k, v in again.state_dict().items()} == live
        assert not ledger.check().ok


def test_an_event_that_was_altered_is_not_folded(tmp_path):
    with Ledger(tmp_path / "l") as ledger:
        fill(ledger)
    db = sqlite3.connect(tmp_path / "l")
    db.execute("DELETE FROM snapshots WHERE seq>0")
    db.execute("UPDATE payoffs SET scaled=0.9 WHERE seq=(SELECT min(seq) FROM payoffs)")
    db.commit()
    db.close()
    with Ledger(tmp_path / "l") as ledger, pytest.raises(LedgerError, match="altered"):
        Dispatcher(Exp3(2), ["a", "b"], ledger=ledger)


def test_only_the_first_and_the_newest_snapshots_are_kept(tmp_path):
    with Ledger(tmp_path / "l") as ledger:
        fill(ledger, steps=60)
        kept = [seq for (seq,) in ledger.query("SELECT seq FROM snapshots ORDER BY seq")]
        assert len(kept) == 4
        assert kept[0] == 0
        assert kept[-1] > ledger.last_seq - 20
        assert ledger.query("SELECT count(DISTINCT seq) FROM snapshot_parts") == [(4,)]


def test_a_snapshot_larger_than_a_part_round_trips(monkeypatch):
    monkeypatch.setattr("reward_router.ledger.sqlite.snapshots.PART", 100)
    ledger = Ledger(":memory:")
    state = {
        "a": np.arange(60.0).reshape(3, 20),
        "b": np.array("Exp3"),
        "c": np.array(True),
        "d": np.empty((0, 3)),
    }
    ledger.snapshot(state, {"names": ["é"]})
    seq, head, back = ledger.last_snapshot()
    assert (seq, head) == (0, {"names": ["é"]})
    assert {k: (v.dtype, v.shape, v.tobytes()) for k, v in back.items()} == {
        k: (v.dtype, v.shape, v.tobytes()) for k, v in state.items()
    }


@pytest.mark.parametrize("arguments", [{"durability": "fast"}, {"contexts": "f16"}])
def test_settings_out_of_range_are_refused(arguments, tmp_path):
    with pytest.raises(InputError, match="allowed"):
        Ledger(tmp_path / "l", **arguments)


def test_durability_is_what_the_file_is_opened_with(tmp_path):
    for name, level in (("normal", 1), ("full", 2)):
        with Ledger(tmp_path / name, durability=name) as ledger:
            assert ledger.query("PRAGMA synchronous") == [(level,)]
            assert ledger.query("PRAGMA journal_mode") == [("wal",)]


def test_normal_brings_commits_to_the_disk_within_milliseconds(tmp_path, monkeypatch):
    synced, real = threading.Event(), os.fsync
    monkeypatch.setattr("os.fsync", lambda fd: (real(fd), synced.set()))
    with Ledger(tmp_path / "l") as ledger:
        synced.clear()
        ledger.append([label(1)])
        assert synced.wait(10)


def test_a_disk_that_fails_to_sync_stops_the_next_event(tmp_path, monkeypatch):
    with Ledger(tmp_path / "l") as ledger:
        tried = threading.Event()

        def broken(fd: int) -> None:
            tried.set()
            raise OSError(5, "Input/output error")

        monkeypatch.setattr("os.fsync", broken)
        ledger.append([label(1)])
        assert tried.wait(10)
        ledger._syncer._stop.wait(0.05)
        with pytest.raises(LedgerError, match="disk failed"):
            ledger.append([label(2)])
        monkeypatch.undo()


def test_a_file_that_is_no_ledger_or_too_new_is_refused(tmp_path):
    with pytest.raises(LedgerError):
        Ledger(tmp_path / "no" / "such" / "folder")
    (tmp_path / "text").write_text("not a database, but longer than a hundred bytes of text " * 20)
    with pytest.raises(LedgerError, match="not a database"):
        Ledger(tmp_path / "text")
    db = sqlite3.connect(tmp_path / "other")
    db.execute("CREATE TABLE t(x)")
    db.close()
    with pytest.raises(LedgerError, match="not a ledger"):
        Ledger(tmp_path / "other")
    Ledger(tmp_path / "l").close()
    db = sqlite3.connect(tmp_path / "l")
    db.execute("PRAGMA user_version=99")
    db.close()
    for readonly in (False, True):
        with pytest.raises(LedgerError, match="schema 99"):
            Ledger(tmp_path / "l", readonly=readonly)


def test_decisions_are_found_alike_at_hand_and_in_the_file(tmp_path, monkeypatch):
    """With room for 8 of 40 decisions.

    New, old, paid and unpaid ones, before and after events are taken back.
    """
    monkeypatch.setattr("reward_router.ledger.recent.KEEP", 8)
    with Ledger(tmp_path / "l") as ledger, Ledger(tmp_path / "l", readonly=True) as reader:
        d = fill(ledger)
        ids = [event.id for event in ledger.events(types=[Decided])]
        assert len(ledger._recent.find(ids)) == 8
        assert ledger.find(ids) == reader.find(ids)
        late = ids[0].hex() if ledger.find(ids[:1])[ids[0]][1] is None else ids[1].hex()
        assert d.feedback(late, 0.5)
        assert not d.feedback(late, 0.5)
        assert ledger.find(ids) == reader.find(ids)
        ledger.rewind(ledger.last_seq - 9, "test")
        assert ledger.find(ids) == reader.find(ids)
        assert len(ledger.find(ids)) < len(ids)


def test_sql_is_written_in_one_folder_only():
    """The ledger's; the cache of what endpoints answered is a file of its own, with two columns."""
    package = Path(reward_router.__file__).parent
    words = re.compile(
        r"\bsqlite3\b|\.query\(|\.execute(?:many)?\(|\b(?:SELECT|INSERT INTO|DELETE FROM|UPDATE)\b"
    )
    found = {
        path.relative_to(package).parts[:2]
        for path in package.rglob("*.py")
        if words.search(path.read_text()) and path != package / "rewards" / "remote" / "memory.py"
    }
    assert found == {("ledger", "sqlite")}
