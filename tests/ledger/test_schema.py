"""A ledger written by the first layout is read, brought up, and goes on.

That layout is schema 0; the ledger is kept as it was dumped.
"""

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from reward_router.dispatch import Dispatcher
from reward_router.errors import LedgerError
from reward_router.ledger import Ledger, check_ledger
from reward_router.ledger.sqlite import schema
from reward_router.routers import Exp3

HERE = Path(__file__).parent
STATE = json.loads((HERE / "schema0_state.json").read_text())


@pytest.fixture
def old(tmp_path):
    db = sqlite3.connect(tmp_path / "old.sqlite")
    db.executescript((HERE / "schema0.sql").read_text())
    db.close()
    return tmp_path / "old.sqlite"


def dispatcher(ledger: Ledger) -> Dispatcher:
    return Dispatcher(Exp3(3), list("abc"), ledger=ledger, seed=1, snapshot_every=40)


def test_an_old_ledger_gives_the_state_it_was_left_in_and_goes_on(old):
    with Ledger(old) as ledger:
        d = dispatcher(ledger)
        state = d.state_dict()
        for name, value in STATE.items():
            assert np.asarray(state[name]).tolist() == value, name
        assert d.arms == ["a", "c", "z"]
        [decision] = d.route(np.ones((1, 3)), ["new"], 100)
        assert d.feedback(decision.id, 1.0)
        assert ledger.query("PRAGMA user_version") == [(schema.VERSION,)]
    assert check_ledger(old).ok


def test_a_reader_reads_an_old_ledger_and_leaves_it_as_it_is(old):
    before = old.read_bytes()
    with Ledger(old, readonly=True) as ledger:
        assert len(ledger.decisions().seq) == 26
        assert ledger.last_seq == len(list(ledger.events()))
    assert check_ledger(old).ok
    assert old.read_bytes() == before


def test_a_migration_that_is_interrupted_leaves_the_old_layout(old, monkeypatch):
    real, calls = schema.seal, iter(range(20))

    def interrupted(row):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return real(row)

    monkeypatch.setattr(schema, "seal", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Ledger(old)
    monkeypatch.undo()
    db = sqlite3.connect(old)
    assert db.execute("PRAGMA user_version").fetchone() == (0,)
    db.close()
    with Ledger(old) as ledger:
        assert dispatcher(ledger).state_dict()["version"] == STATE["version"]


def test_a_ledger_of_a_later_program_is_refused(old):
    db = sqlite3.connect(old)
    db.execute(f"PRAGMA user_version={schema.VERSION + 1}")
    db.close()
    with pytest.raises(LedgerError, match="use a newer one"):
        Ledger(old)
