"""The laws of a store, run over the table of stores in ``conftest``.

They are order, all or nothing, snapshots, and what columns hold.
"""

import numpy as np
import pytest

from reward_router.dispatch import Dispatcher
from reward_router.errors import LedgerError
from reward_router.ledger import Call, EventKind, Status, Store
from reward_router.ledger.reading import tally
from reward_router.ledger.rows import Called, Decided, Failed, Labelled, LedgerRow, Paid
from reward_router.routers import Exp3

from .conftest import Place

X = np.random.default_rng(0).normal(size=(400, 4))


def label(seq: int) -> Labelled:
    return Labelled(seq, f"u{seq}", 0, 1.0, "test")


def fill(store: Store, steps: int = 20) -> Dispatcher:
    d = Dispatcher(Exp3(2), ["a", "b"], ledger=store, snapshot_every=10)
    for step in range(steps):
        decisions = d.route(X[step : step + 2], ["x", "y"], step)
        d.record_calls(
            [Call(q.id, "r", q.arm, float("nan") if q.arm else 0.5, seconds=0.1) for q in decisions]
        )
        d.feedback(decisions[step % 2].id, step / 100)
    return d


def test_events_are_numbered_without_gaps_and_read_in_order(store: Store) -> None:
    fill(store)
    seqs = [event.seq for event in store.events()]
    assert seqs == list(range(1, store.last_seq + 1)) == [e.seq for e in store.events(after=0)]
    assert [e.seq for e in store.events(after=50)] == seqs[50:]
    assert {type(e) for e in store.events(types=[Paid, Decided])} == {Paid, Decided}


@pytest.mark.parametrize("rows", [[label(2)], [label(1), label(3)], [label(1), label(1)]])
def test_events_that_do_not_continue_are_refused_whole(store: Store, rows: list[LedgerRow]) -> None:
    with pytest.raises(LedgerError, match="do not continue"):
        store.append(rows)
    assert list(store.events()) == []
    assert store.last_seq == 0


@pytest.mark.parametrize("seq", [-1, 10**6])
def test_a_rewind_beyond_the_ends_is_refused(store: Store, seq: int) -> None:
    fill(store, 3)
    with pytest.raises(LedgerError, match="cannot rewind"):
        store.rewind(seq, "no")


def test_a_rewind_gives_late_payoffs_their_decisions_back(store: Store) -> None:
    d = fill(store, 5)
    pending, counts, seq = d.pending, d.counts(), store.last_seq
    d.feedback(pending[0], 0.25)
    assert store.rewind(seq, "test") == 1
    assert (d.pending, d.counts()) == (pending, counts)
    assert d.feedback(pending[0], 0.75)
    assert d.counts()["payoffs"] == counts["payoffs"] + 1


def test_columns_hold_what_happened(store: Store) -> None:
    d = fill(store)
    d.record_label("x", 3, 1.0, "verifier")
    decisions, payoffs, calls, labels = (
        store.decisions(),
        store.payoffs(),
        store.calls(),
        store.labels(),
    )
    assert (decisions.probs_BK[np.arange(40), decisions.arm] == decisions.propensity).all()
    assert (decisions.context_BD[::2] == X[:20]).all()
    assert decisions.unit == ["x", "y"] * 20
    paid = ~np.isnan(decisions.payoff)
    assert paid.sum() == len(payoffs.seq) == 20
    assert sorted(decisions.payoff[paid]) == sorted(payoffs.scaled) == [s / 100 for s in range(20)]
    assert (np.isnan(calls.score) == (calls.arm == 1)).all()
    assert np.isnan(calls.price).all()
    assert (labels.unit, labels.value.tolist()) == (["x"], [1.0])
    assert store.decisions(contexts=False).context_BD is None
    assert d.counts() == {
        "decisions": 40, "payoffs": 20, "failures": 0, "labels": 1, "calls": {"ok": 40},
        "saturated": 0.0,
    }  # fmt: skip


def test_counts_are_kept_up_to_date(store: Store) -> None:
    d = fill(store, 3)
    first = d.counts()
    d.feedback_raw_many([(i, float(n)) for n, i in enumerate(d.pending)], source="raw")
    for q in d.route(X[100:110], [str(i) for i in range(10)], 50):
        d.feedback_raw(q.id, 99.0, source="raw")
    d.record_failure(None, "a", "timeout")
    running = d.counts()
    counted = tally(store.events())
    assert running != first
    assert [running[kind] for kind in ("decisions", "payoffs", "failures", "labels")] == [
        counted[kind]
        for kind in (EventKind.DECISION, EventKind.PAYOFF, EventKind.FAILURE, EventKind.LABEL)
    ]
    assert running["saturated"] == counted["saturated"] / counted["scaled"]
    assert 0 < running["saturated"] < 1


def test_the_state_is_the_fold_of_what_the_store_holds(place: Place) -> None:
    with_store = place.opened()
    live = {k: v.tobytes() for k, v in fill(with_store).state_dict().items()}
    if place.durable:
        with_store.close()
        with_store = place.opened()
    again = Dispatcher(Exp3(2), ["a", "b"], ledger=with_store)
    assert {k: v.tobytes() for k, v in again.state_dict().items()} == live
    with_store.close()
    with_store.close()  # twice does no harm


def test_narrow_reads_are_the_events_own_fields(store: Store) -> None:
    d = fill(store)
    d.record_failure(None, "a", "timeout")
    for kind, names in (
        (Decided, ("arm", "context")),
        (Called, ("status", "score")),
        (Failed, ("reason",)),
    ):
        whole = [(e.seq, *(getattr(e, name) for name in names)) for e in store.events(types=[kind])]
        assert list(store.fields(kind, names)) == whole != []
        assert list(zip(*store.table(kind, names), strict=True)) == whole
        assert list(store.fields(kind, names, after=50)) == [
            record for record in whole if record[0] > 50
        ]
    decisions = {e.seq: e for e in store.events(types=[Decided]) if isinstance(e, Decided)}
    pairs = [(e, decisions[e.decision]) for e in store.events(types=[Paid]) if isinstance(e, Paid)]
    assert list(store.payments()) == pairs
    assert store.payments_at([pairs[5][0].seq, pairs[2][0].seq]) == [pairs[2], pairs[5]]
    assert store.payments_at([]) == []
    assert store.table(Labelled, ("value",)) == [(), ()]
    assert store.find([both[1].id for both in pairs]) == {both[1].id: both[::-1] for both in pairs}
    assert store.width() == 4


def test_words_are_kept_as_plain_text(store: Store) -> None:
    """An enumeration's member and its text are one event.

    They agree down to the checksum that is read back.
    """
    d = Dispatcher(Exp3(2), ["a", "b"], ledger=store)
    for status in Status:
        d.record_calls([Call(None, "r", "a", 0.5, status), Call(None, "r", "a", 0.5, status.value)])
    assert store.calls().status == [
        word for status in Status for word in (status.value, status.value)
    ]
    assert [e.status for e in store.events() if isinstance(e, Called)] == store.calls().status
    store.append([Called(store.last_seq + 1, None, "r", 0, 0.5, Status.OK, None, None)])
    assert [e.status for e in store.events() if isinstance(e, Called)][-1] == "ok"


def test_the_newest_whole_snapshot_is_given_back_and_a_rewind_drops_later_ones(
    store: Store,
) -> None:
    state = {
        "a": np.arange(60.0).reshape(3, 20),
        "b": np.array("Exp3"),
        "c": np.array(True),
        "d": np.empty((0, 3)),
    }
    assert store.last_snapshot() is None
    store.snapshot(state, {"names": ["é"]})
    store.append([label(1)])
    store.snapshot({"a": np.zeros(2)}, {})
    generation = store.generation
    assert store.rewind(0, "test") == 1
    assert store.generation > generation
    found = store.last_snapshot()
    assert found is not None
    assert found[:2] == (0, {"names": ["é"]})
    assert {k: (v.dtype, v.shape, v.tobytes()) for k, v in found[2].items()} == {
        k: (v.dtype, v.shape, v.tobytes()) for k, v in state.items()
    }


def test_values_are_kept_by_name(store: Store) -> None:
    assert store.meta("note") is None
    store.remember("note", {"a": [1, None]})
    store.remember("note", [2.5])
    assert store.meta("note") == [2.5]
