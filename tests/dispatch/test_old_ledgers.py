"""Ledgers in which a committee decided under the name of an arm of its own.

They go on, and their callers see no such arm.
"""

from pathlib import Path

import numpy as np
import pytest

from reward_router import Dispatcher, Fixed, Ledger, Uniform
from reward_router.dispatch.old import NamedDecider, names_its_decider
from reward_router.errors import InputError
from reward_router.types import By

ARMS = ["a", "b"]
X = np.random.default_rng(0).normal(size=(3, 4))
UNITS = ["p0", "p1", "p2"]


@pytest.mark.parametrize("by", [By.ENSEMBLE, By.COMMITTEE])
def test_it_goes_on_as_it_began(tmp_path: Path, by: By) -> None:
    names = [*ARMS, str(by)]
    old = Dispatcher(Fixed(3, 2), names, ledger=Ledger(tmp_path / "l.sqlite"), seed=4)
    first = old.route(X, UNITS, 0)
    old.feedback_raw_many([(first[0].id, -1.5)], source="neg_loss")
    old.close()

    ledger = Ledger(tmp_path / "l.sqlite")
    assert names_its_decider(ledger, ARMS, by)
    now = NamedDecider(Fixed(3, 2), names, ledger=ledger, seed=4)
    again = now.route(X, UNITS, 0, by=by)
    assert [d.id for d in again] == [d.id for d in first]
    assert now.arms == ARMS
    later = now.route(X, UNITS, 1, by=by)
    for decision in (*again, *later):
        assert (decision.arm, decision.name, decision.by, decision.propensity) == (-1, "", by, 1.0)
        assert decision.probs_K.tolist() == [0.0, 0.0]
    assert now.feedback(later[1].id, 0.5)
    assert now.pending == [first[1].id, first[2].id, later[0].id, later[2].id]
    assert set(ledger.decisions().by) == {by}
    assert ledger.decisions().arms == ARMS
    now.close()


def test_a_ledger_of_today_is_none(tmp_path: Path) -> None:
    today = Dispatcher(Uniform(2), ARMS, ledger=Ledger(tmp_path / "l.sqlite"))
    today.route(X, UNITS, 0, by=By.COMMITTEE)
    assert not names_its_decider(today.ledger, ARMS, By.COMMITTEE)
    today.close()
    with pytest.raises(InputError, match="arms is"):
        NamedDecider(Fixed(3, 2), [*ARMS, "committee"], ledger=Ledger(tmp_path / "l.sqlite"))
