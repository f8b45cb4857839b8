"""Whatever comes from outside is accepted or refused clearly.

A refusal is a ValueError or LedgerError that leaves the state and the ledger unchanged.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reward_router.dispatch import Dispatcher
from reward_router.errors import InputError, LedgerError
from reward_router.ledger import Call, Ledger
from reward_router.payoffs import QuantileScaler
from reward_router.routers import Exp3, LinearThompson, LinUCB, Uniform
from reward_router.routers.cost import Priced

D = 3
DTYPES = st.one_of(
    hnp.floating_dtypes(),
    hnp.integer_dtypes(),
    hnp.complex_number_dtypes(),
    hnp.boolean_dtypes(),
    st.just(np.dtype(object)),
)
CONTEXTS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
TEXT = st.text(st.characters(), max_size=8)
ANY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    TEXT,
    st.binary(max_size=4),
    st.lists(st.integers(), max_size=2),
)


def frozen(d: Dispatcher):
    return {k: v.tobytes() for k, v in d.state_dict().items()}, d.ledger.last_seq, d.pending


def check(d: Dispatcher, call) -> None:
    """Either it is taken, or it is refused with a message and nothing is different."""
    before = frozen(d)
    try:
        call()
        message = "taken, nothing to explain"
    except (InputError, LedgerError) as error:
        message = str(error)
        assert frozen(d) == before
    assert len(message) > 15


@pytest.fixture(params=["full", "f32", "none"])
def d(request):
    dispatcher = Dispatcher(
        LinUCB(2, D), ["a", "b"], ledger=Ledger(":memory:", contexts=request.param)
    )
    dispatcher.route(np.eye(D), list("xyz"), 0)
    return dispatcher


FUZZ = settings(deadline=None, max_examples=40)


@given(
    CONTEXTS, st.lists(TEXT, max_size=4), st.one_of(st.integers(), ANY), st.one_of(st.just(1), ANY)
)
@FUZZ
def test_routing_anything(d_values, ids, step, n_units):
    d = Dispatcher(LinUCB(2, D), ["a", "b"])
    check(d, lambda: d.route(d_values, ids, step, n_units=n_units))


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(0, 5), st.just(D)), elements=st.floats(-1e3, 1e3)),
    st.data(),
)
@FUZZ
def test_routing_what_is_allowed(x, data):
    ids = data.draw(
        st.lists(
            st.text(st.characters(exclude_categories=["Cs"])),
            min_size=len(x),
            max_size=len(x),
            unique=True,
        )
    )
    step = data.draw(st.integers(0, 2**47 - 1))
    d = Dispatcher(LinUCB(2, D), ["a", "b"])
    decisions = d.route(x, ids, step, n_units=7)
    assert [q.unit for q in decisions] == ids
    assert all(len(q.id) == 32 and q.step == step and q.n_units == 7 for q in decisions)
    assert [row.unit for row in d.ledger.events()] == ids
    assert [q.id for q in d.route(x, ids, step, n_units=7)] == [q.id for q in decisions]
    assert d.feedback_many([(q.id, 0.5) for q in decisions]) == [True] * len(ids)


@given(st.one_of(ANY, TEXT), ANY, st.one_of(TEXT, ANY), st.booleans())
@settings(deadline=None, max_examples=60)
def test_paying_anything(decision_id, payoff, source, raw):
    d = Dispatcher(LinUCB(2, D), ["a", "b"])
    known = d.route(np.eye(D), list("xyz"), 0)[0].id
    for each in (decision_id, known):
        check(
            d,
            lambda each=each: (d.feedback_raw if raw else d.feedback)(each, payoff, source=source),
        )


@given(ANY, ANY, ANY, ANY, ANY, ANY)
@settings(deadline=None, max_examples=60)
def test_recording_anything(a, b, c, e, f, g):
    d = Dispatcher(Exp3(2), ["a", "b"])
    check(d, lambda: d.record_calls([Call(a, b, c, e, f, g)]))
    check(d, lambda: d.record_label(a, b, c, e))
    check(d, lambda: d.record_failure(a, b, c))
    check(d, lambda: d.add_arm(a))
    check(d, lambda: d.remove_arm(a))


@pytest.mark.parametrize(
    "bad",
    [
        np.full((1, D), np.nan),
        np.full((1, D), np.inf),
        np.ones((1, D + 1)),
        np.ones(D),
        np.ones((1, 0)),
        np.array([["a"] * D]),
        np.array([[None] * D]),
        np.ones((1, D)) * 1j,
        [[1.0], [1.0, 2.0]],
        np.full((1, D), 1e30),
    ],
)
def test_contexts_that_are_refused(bad, d):
    before = frozen(d)
    with pytest.raises(InputError):
        d.route(bad, ["new"], 1)
    assert frozen(d) == before


@pytest.mark.parametrize(
    ("ids", "step", "n_units"),
    [
        (["a"], 0, 1), (["a", "a"], 0, 1), (["a", "\ud800"], 0, 1), (["a", 3], 0, 1), ("ab", 0, 1),
        (["a", "b"], -1, 1), (["a", "b"], 2**47, 1), (["a", "b"], 1.5, 1), (["a", "b"], True, 1),
        (["a", "b"], 0, 0), (["a", "b"], 0, [1]), (["a", "b"], 0, 1.5), (["a", "b"], 0, [1, -2]),
    ],
)  # fmt: skip
def test_units_that_are_refused(ids, step, n_units, d):
    before = frozen(d)
    with pytest.raises(InputError):
        d.route(np.ones((2, D)), ids, step, n_units=n_units)
    assert frozen(d) == before


def test_payoffs_are_all_or_none(d):
    known = d.pending
    before = frozen(d)
    for bad in (
        [(known[0], 0.5), (known[1], 1.5)],
        [(known[0], 0.5), ("00" * 16, 0.5)],
        [(known[0], 0.5), (known[0], 0.6)],
    ):
        with pytest.raises((InputError, LedgerError)):
            d.feedback_many(bad)
        assert frozen(d) == before
    assert d.feedback_many([(known[0], 0.5), (known[0], 0.5), (known[1], -0.0)]) == [
        True,
        False,
        True,
    ]
    assert d.feedback_many([(known[0], 0.5), (known[2], 1)]) == [False, True]
    assert d.feedback_many([]) == []


def test_empty_calls_write_nothing(d):
    last = d.ledger.last_seq
    assert d.route(np.ones((0, D)), [], 5) == []
    d.record_calls([])
    assert d.ledger.last_seq == last


def test_a_thousand_arms():
    d = Dispatcher(Uniform(1000), [f"arm {i}" for i in range(1000)])
    decisions = d.route(np.ones((50, D)), [str(i) for i in range(50)], 0)
    assert len({q.arm for q in decisions}) > 40
    assert d.ledger.decisions().probs_BK.shape == (50, 1000)


@pytest.mark.parametrize(
    "arms", [["a"], ["a", "a"], ["a", "b", "c"], "ab", ["a", 1], ["a", "\udc00"]]
)
def test_arm_names_that_are_refused(arms):
    with pytest.raises(InputError, match=r"allowed"):
        Dispatcher(Uniform(2), arms)


@pytest.mark.parametrize("settings", [{"snapshot_every": 0}, {"hold_back": -1}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(InputError, match="allowed"):
        Dispatcher(Uniform(2), ["a", "b"], **settings)


def test_without_contexts_late_payoffs_after_a_crash_are_refused_and_the_rest_goes_on(tmp_path):
    with Ledger(tmp_path / "l", contexts="none") as ledger:
        d = Dispatcher(LinUCB(2, D), ["a", "b"], ledger=ledger)
        first = d.route(np.eye(D), list("xyz"), 0)
        d.feedback(first[0].id, 1.0)
        d.snapshot()  # a clean end: what is pending is in the snapshot
        live = frozen(d)
    with Ledger(tmp_path / "l", contexts="none") as ledger:
        d = Dispatcher(LinUCB(2, D), ["a", "b"], ledger=ledger)
        assert frozen(d) == live
        assert d.feedback(first[1].id, 1.0)
        assert [q.id for q in d.route(np.eye(D), list("xyz"), 0)] == [q.id for q in first]
        with pytest.raises(LedgerError, match="another context"):
            d.route(2 * np.eye(D), list("xyz"), 0)
        assert ledger.decisions().context_BD is None
        [late] = d.route(
            np.ones((1, D)), ["late"], 1
        )  # no snapshot after this one: lost with the process
    with Ledger(tmp_path / "l", contexts="none") as ledger:
        d = Dispatcher(LinUCB(2, D), ["a", "b"], ledger=ledger)
        with pytest.raises(LedgerError, match="was not kept"):
            d.feedback(late.id, 1.0)
        [paid] = d.route(np.ones((1, D)), ["paid"], 2)
        assert d.feedback(paid.id, 1.0)
    with (
        Ledger(tmp_path / "l", contexts="none") as ledger,
        pytest.raises(LedgerError, match="contexts were not kept"),
    ):
        Dispatcher(LinUCB(2, D), ["a", "b"], ledger=ledger)


def test_a_router_that_reads_no_context_folds_without_them(tmp_path):
    states = []
    for _ in range(2):
        with Ledger(tmp_path / "l", contexts="none") as ledger:
            d = Dispatcher(Exp3(2), ["a", "b"], ledger=ledger)
            for q in d.route(np.eye(D), list("xyz"), 0):
                d.feedback(q.id, 0.5)
            states.append(frozen(d))
    assert states[0] == states[1]


def test_raw_payoffs_are_held_back_scaled_together_then_one_by_one():
    d = Dispatcher(LinUCB(2, D), ["a", "b"], scaler=QuantileScaler(warmup=2))
    raws = [3.0, -1.0, 7.0, 5.0, 0.0, 2.0, 9.0]
    ids = [d.route(np.ones((1, D)) / 2, [str(i)], i)[0].id for i in range(len(raws))]
    for i in range(4):
        d.feedback_raw(ids[i], raws[i], source="neg_loss")
        assert int(d.state_dict()["version"]) == 0
        assert math.isnan(d.ledger.payoffs().scaled[i])
    d.feedback_raw_many(list(zip(ids[4:], raws[4:], strict=True)), source="neg_loss")
    lo, hi = np.quantile(raws[:5], [0.2, 0.8])
    expected = np.clip((np.array(raws[:5]) - lo) / (hi - lo), 0, 1)
    scaler = QuantileScaler(warmup=2)
    for raw in raws[:5]:
        scaler.push(raw)
    assert d.ledger.payoffs().scaled == pytest.approx(
        [*expected, scaler.scale(2.0), scaler.scale(9.0)]
    )
    assert d.feedback_raw(ids[0], 3.0, source="neg_loss") is False
    with pytest.raises(LedgerError, match="raw 3"):
        d.feedback_raw(ids[0], 4.0, source="neg_loss")
    with pytest.raises(LedgerError, match="raw 3"):
        d.feedback(ids[0], 1.0)


def test_a_removed_arms_late_payoff_is_recorded_not_learned(d):
    decisions = d.route(np.eye(D), list("uvw"), 3)
    gone = decisions[0]
    stays = "b" if gone.name == "a" else "a"
    d.add_arm("c")
    d.remove_arm(gone.name)
    kept = {k: v.tobytes() for k, v in d.state_dict().items() if k.startswith("router/")}
    assert d.feedback(gone.id, 1.0)
    assert {k: v.tobytes() for k, v in d.state_dict().items() if k.startswith("router/")} == kept
    assert d.arms == [stays, "c"]
    assert d.ledger.decisions().arms == ["a", "b", "c"]
    with pytest.raises(InputError, match="at least one"):
        d.remove_arm(gone.name)


def test_a_change_the_router_refuses_leaves_nothing_behind(tmp_path):
    with Ledger(tmp_path / "l") as ledger:
        d = Dispatcher(LinearThompson(2, D, safe=0, margin=1.0), ["a", "b"], ledger=ledger)
        d.feedback(d.route(np.eye(D), list("xyz"), 0)[0].id, 1.0)
        before = frozen(d)
        with pytest.raises(InputError, match="safe arm"):
            d.remove_arm("a")
        assert frozen(d) == before
        assert "refused by the router" in ledger.query("SELECT reason FROM abandoned")[0][0]
    with Ledger(tmp_path / "l") as ledger:
        assert (
            frozen(Dispatcher(LinearThompson(2, D, safe=0, margin=1.0), ["a", "b"], ledger=ledger))
            == before
        )


def test_a_call_without_a_price_has_its_arms():
    router = Priced(LinUCB(2, D), np.array([1.0, 4.0]))
    d = Dispatcher(router, ["a", "b"], costs=[1.0, 4.0])
    with pytest.raises(InputError, match="needs its cost"):
        d.add_arm("c")
    d.add_arm("c", cost=9.0)
    d.record_calls(
        [Call(None, "r", arm, 0.5) for arm in ("a", "b", "c")]
        + [Call(None, "r", 0, 0.5, price=0.5)]
    )
    assert d.ledger.calls().price.tolist() == [1.0, 4.0, 9.0, 0.5]
    for bad in ([1.0], [1.0, -1.0], [1.0, np.nan]):
        with pytest.raises(InputError):
            Dispatcher(Uniform(2), ["a", "b"], costs=bad)
