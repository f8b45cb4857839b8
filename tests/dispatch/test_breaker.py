"""An arm that fails rests, is probed, and comes back.

This holds for every router, in calls of any size, under delays, live and folded.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from reward_router import AllArmsResting
from reward_router.dispatch import BreakerRule, Dispatcher
from reward_router.dispatch.eligible import among
from reward_router.errors import InputError, LedgerError, RunError
from reward_router.ledger import Call, Ledger
from reward_router.routers import (
    DiscountedLinUCB,
    Exp3,
    Fixed,
    LinearThompson,
    LinUCB,
    Priced,
    RoundRobin,
    Sequential,
    Uniform,
)
from reward_router.routers.strongest import Strongest
from reward_router.routers.trusted import trusted

K, D, DEAD = 4, 6, 1
NAMES = list("abcd")
PRIOR = np.random.default_rng(5).normal(size=(K, D)) * 0.2
PRIOR_AND_MEAN = np.column_stack([PRIOR, np.linspace(-0.1, 0.1, K)])
ROUTERS: dict[str, Callable[[], Any]] = {
    "uniform": lambda: Uniform(K),
    "round robin": lambda: RoundRobin(K),
    "sequential": lambda: Sequential(K),
    "fixed on the dead arm": lambda: Fixed(K, DEAD),
    "exp3": lambda: Exp3(K),
    "exp3 eta=1": lambda: Exp3(K, eta=1.0),
    "linucb": lambda: LinUCB(K, D),
    "linucb float32": lambda: LinUCB(K, D, dtype=np.float32),
    "linucb explore": lambda: LinUCB(K, D, warmup=0, explore=0.2),
    "linucb warm-up 20": lambda: LinUCB(K, D, warmup=20),
    "linucb guard": lambda: LinUCB(K, D, safe=DEAD, margin=0.5),
    "discounted": lambda: DiscountedLinUCB(K, D),
    "thompson": lambda: LinearThompson(K, D, noise_sd=0.3, warmup=2),
    "trusted": lambda: trusted(PRIOR_AND_MEAN, 40.0, 0.4, 10.0),
    "anchored": lambda: trusted(PRIOR_AND_MEAN, 40.0, 0.4, 10.0, trust=1.0),
    "strongest": lambda: Strongest(np.eye(K, D)),
    "priced": lambda: Priced(LinUCB(K, D), np.arange(K) / K, 0.1, budget=0.4),
    "priced exp3": lambda: Priced(Exp3(K), np.arange(K) / K, budget=0.4),
}
every_router = pytest.mark.parametrize("name", list(ROUTERS))


def contexts(step: int, rows: int) -> np.ndarray:
    x = np.abs(np.random.default_rng([7, step]).normal(size=(rows, D)))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def play(
    d: Dispatcher,
    steps: range,
    rows: int,
    dead: Callable[[int], bool],
    delay: int = 0,
    unit: str = "u",
) -> list[str]:
    """Route, and tell of each decision ``delay`` decisions later; the arms drawn, in order."""
    waiting: deque[Any] = deque()
    drawn: list[str] = []
    for step in steps:
        x = contexts(step, rows)
        if isinstance(d.router, Sequential):
            x[:, 0] = step // 5 + 1  # the iteration: the dead arm is first
        decisions = d.route(x, [f"{unit}{i}" for i in range(rows)], step)
        for decision in decisions:
            assert decision.probs_K.sum() == pytest.approx(1.0, abs=1e-12)
            assert decision.propensity == decision.probs_K[decision.arm] > 0
            failed = decision.arm == DEAD and dead(len(drawn))
            drawn.append(decision.name)
            waiting.append((len(drawn) + delay, decision, failed))
        while waiting and waiting[0][0] <= len(drawn):
            _, decision, failed = waiting.popleft()
            if failed:
                d.record_failure(decision.id, decision.name, "refused")
            else:
                d.feedback(decision.id, 0.2 + 0.2 * decision.arm)
    return drawn


def share(drawn: list[str]) -> float:
    return drawn.count(NAMES[DEAD]) / len(drawn)


@every_router
@pytest.mark.parametrize(("rows", "delay"), [(1, 0), (64, 0), (8, 30)])
def test_a_dead_arm_gets_under_five_per_cent_after_the_first_hundred(
    name: str, rows: int, delay: int
) -> None:
    d = Dispatcher(ROUTERS[name](), NAMES, hold_back=0)
    drawn = play(d, range(1 + 400 // rows), rows, lambda _: True, delay)
    assert share(drawn[100 + delay :]) < 0.05
    assert set(drawn[100:]) - {NAMES[DEAD]}


@every_router
def test_a_dead_arm_gets_under_five_per_cent_of_batches_after_twenty(name: str) -> None:
    d = Dispatcher(ROUTERS[name](), NAMES, hold_back=0)
    drawn = play(d, range(100), 1, lambda _: True, unit="batch")
    assert share(drawn[20:]) < 0.05


@every_router
@pytest.mark.parametrize("rows", [1, 8])
def test_an_arm_that_comes_back_is_asked_within_fifty_and_then_by_its_payoffs(
    name: str, rows: int
) -> None:
    back = 160
    d = Dispatcher(ROUTERS[name](), NAMES, hold_back=0)
    drawn = play(d, range(320 // rows), rows, lambda n: n < back)
    assert NAMES[DEAD] in drawn[back : back + 50 + rows]
    assert d.resting == {}
    if name in ("fixed on the dead arm", "round robin", "uniform"):
        assert share(drawn[-100:]) > 0.1  # as if it had never been away


@every_router
def test_one_probe_a_call_once_the_pause_ends(name: str) -> None:
    d = Dispatcher(ROUTERS[name](), NAMES, hold_back=0)
    play(d, range(2), 64, lambda _: True)
    for step in range(2, 7):
        if NAMES[DEAD] in d.resting:
            drawn = play(d, range(step, step + 1), 64, lambda _: True)
            assert drawn.count(NAMES[DEAD]) <= 1
    assert NAMES[DEAD] in d.resting


def test_pauses_grow_to_forty_decisions_and_no_further() -> None:
    d = Dispatcher(Fixed(K, DEAD), NAMES)
    drawn = play(d, range(300), 1, lambda _: True)
    asked = [i for i, name in enumerate(drawn) if name == NAMES[DEAD]]
    assert asked[:2] == [0, 1]
    assert np.diff(asked[1:]).tolist() == [11] + [41] * (len(asked) - 3)
    d = Dispatcher(
        Fixed(K, DEAD), NAMES, breaker=BreakerRule(failures=3, pause=4, growth=2.0, longest=20)
    )
    drawn = play(d, range(100), 1, lambda _: True)
    asked = [i for i, name in enumerate(drawn) if name == NAMES[DEAD]]
    assert np.diff(asked[2:]).tolist()[:4] == [5, 9, 17, 21]


def test_without_failures_nothing_is_different() -> None:
    for name, make in ROUTERS.items():
        on, off = (
            Dispatcher(make(), NAMES, hold_back=0),
            Dispatcher(make(), NAMES, hold_back=0, breaker=None),
        )
        assert play(on, range(12), 8, lambda _: False) == play(
            off, range(12), 8, lambda _: False
        ), name
        rest = {k: v.tobytes() for k, v in on.state_dict().items() if not k.startswith("breaker/")}
        assert rest == {k: v.tobytes() for k, v in off.state_dict().items()}


def test_switched_off_no_arm_rests() -> None:
    d = Dispatcher(Fixed(K, DEAD), NAMES, breaker=None)
    assert set(play(d, range(30), 1, lambda _: True)) == {NAMES[DEAD]}
    assert d.resting == {}


def test_a_success_resets_and_failures_now_and_then_are_no_reason_to_rest() -> None:
    d = Dispatcher(Fixed(K, DEAD), NAMES)
    assert len(set(play(d, range(60), 1, lambda n: n % 2 > 0))) == 1
    d = Dispatcher(Fixed(K, DEAD), NAMES, breaker=BreakerRule(failures=3))
    drawn = play(
        d, range(12), 1, lambda n: n % 3 > 0
    )  # never three running, but six of its last nine
    assert [name == NAMES[DEAD] for name in drawn] == [True] * 9 + [False] * 3


def test_an_abstention_is_an_answer_and_a_call_that_failed_is_none() -> None:
    d = Dispatcher(Fixed(K, DEAD), NAMES)

    def one(step: int, status: str, failed: bool) -> None:
        [decision] = d.route(contexts(step, 1), ["u"], step)
        d.record_calls([Call(decision.id, "r", decision.name, np.nan, status)])
        if failed:
            d.record_failure(decision.id, decision.name, "down")

    for step in range(10):
        one(step, "abstained" if step % 2 else "failed", step % 2 == 0)
        assert d.resting == {}
    d = Dispatcher(Fixed(K, DEAD), NAMES)
    for step in range(2):
        one(step, "failed", True)
    assert list(d.resting) == [NAMES[DEAD]]


def test_an_arm_that_fails_on_some_responses_of_a_decision_works() -> None:
    d = Dispatcher(Fixed(K, DEAD), NAMES)
    for step in range(12):
        [decision] = d.route(contexts(step, 1), ["u"], step)
        scores = [
            Call(decision.id, "r0", decision.name, 1.0),
            Call(decision.id, "r1", decision.name, np.nan, "failed"),
        ]
        d.record_calls(scores)
        d.record_failure(decision.id, decision.name, "one row")
        assert d.resting == {}


def test_late_payoffs_of_before_do_not_end_a_rest_and_a_fallbacks_payoff_is_no_answer() -> None:
    d = Dispatcher(Fixed(K, DEAD), NAMES)
    early = d.route(contexts(0, 3), ["x", "y", "z"], 0)
    for step in range(1, 4):
        [decision] = d.route(contexts(step, 1), ["u"], step)
        d.record_failure(decision.id, decision.name, "down")
        d.feedback(decision.id, 1.0)  # what a fallback brought
    d.feedback_many([(q.id, 1.0) for q in early])
    assert list(d.resting) == [NAMES[DEAD]]


def test_late_failures_of_before_do_not_prolong_a_rest() -> None:
    d = Dispatcher(Fixed(K, DEAD), NAMES)
    many = d.route(contexts(0, 12), [str(i) for i in range(12)], 0)
    for decision in many[:3]:
        d.record_failure(decision.id, decision.name, "down")
    waits = d.resting[NAMES[DEAD]]
    for decision in many[3:]:
        d.record_failure(decision.id, decision.name, "down")
    assert d.resting == {NAMES[DEAD]: waits == 10 and 10}


def test_a_failure_outside_its_own_decisions_counts_but_calls_for_no_decision() -> None:
    """A fixed router's other arms may be audited; they are never drawn, resting or not."""
    d = Dispatcher(Fixed(K, 0), NAMES)
    for step in range(120):
        [decision] = d.route(contexts(step, 1), ["u"], step)
        assert decision.name == NAMES[0]
        d.record_failure(decision.id, NAMES[DEAD], "down in an audit")
        d.feedback(decision.id, 0.5)
    assert list(d.resting) == [NAMES[DEAD]]


@every_router
def test_the_router_chooses_among_the_rest_as_if_the_arm_were_not_there(name: str) -> None:
    """An arm that is masked takes nothing from the order of the others."""
    router = ROUTERS[name]()
    draw = np.random.default_rng(3)
    x = contexts(0, 200)
    arm_B = draw.integers(0, K, 200)
    router.update(x, arm_B, np.clip(0.2 * arm_B + 0.1 * draw.random(200), 0, 1), np.full(200, 0.25))
    allowed_BK = np.ones((50, K), dtype=bool)
    allowed_BK[10:, DEAD] = False
    allowed_BK[30:, 3] = False
    p_BK = among(router, x[:50], allowed_BK)
    assert (p_BK[~allowed_BK] == 0).all()
    np.testing.assert_allclose(p_BK.sum(axis=1), 1.0, atol=1e-12)
    if name in ("linucb", "thompson", "trusted", "anchored", "exp3 eta=1"):
        assert (p_BK[10:30].argmax(axis=1) == 3).mean() > 0.8  # the best of the others, not any
        assert (p_BK[30:].argmax(axis=1) == 2).mean() > 0.8


def test_linucb_among_the_rest_is_the_linucb_without_the_arm() -> None:
    router, without = LinUCB(K, D, warmup=0), LinUCB(K, D, warmup=0)
    draw, x = np.random.default_rng(3), contexts(1, 120)
    arm_B, payoff_B = draw.integers(0, K, 120), draw.random(120)
    router.update(x, arm_B, payoff_B)
    without.update(x, arm_B, payoff_B)
    without.remove_arm(DEAD)
    kept = [k for k in range(K) if k != DEAD]
    p_BK = among(router, x, np.tile(np.arange(K) != DEAD, (120, 1)))
    np.testing.assert_allclose(p_BK[:, kept], without.probs(x), atol=1e-12)


# the record ---------------------------------------------------------------------------------------


def frozen(d: Dispatcher) -> dict[str, bytes]:
    return {k: v.tobytes() for k, v in d.state_dict().items()}


def flaky(n: int) -> bool:
    return n % 150 < 90


@every_router
def test_the_fold_is_the_live_state_and_a_run_in_pieces_the_run_in_one(
    name: str, tmp_path: Any
) -> None:
    def opened(path: str) -> Dispatcher:
        return Dispatcher(
            ROUTERS[name](), NAMES, ledger=Ledger(tmp_path / path), hold_back=0, snapshot_every=64
        )

    whole = opened("whole")
    drawn = play(whole, range(30), 5, lambda _: True, delay=3)
    live, resting = frozen(whole), whole.resting
    whole.ledger.close()
    again = opened("whole")
    assert frozen(again) == live
    assert again.resting == resting
    with again.ledger.transaction() as db:
        db.execute("DELETE FROM snapshots WHERE seq>0")
    again.ledger.close()
    from_the_start = opened("whole")
    assert frozen(from_the_start) == live
    from_the_start.ledger.close()
    pieces: list[str] = []
    for part in (range(7), range(7, 16), range(16, 30)):
        d = opened("parts")
        pieces += play(d, part, 5, lambda _: True, delay=0)
        last = frozen(d)
        d.ledger.close()
    one = opened("one")
    assert play(one, range(30), 5, lambda _: True) == pieces
    assert frozen(one) == last
    assert len(drawn) == len(pieces)


def test_two_dispatchers_with_the_same_events_agree() -> None:
    one, two = (Dispatcher(LinUCB(K, D), NAMES, hold_back=0, seed=4) for _ in range(2))
    assert play(one, range(40), 8, flaky) == play(two, range(40), 8, flaky)
    assert list(one.ledger.events()) == list(two.ledger.events())
    assert frozen(one) == frozen(two)


def test_a_rewound_run_is_the_run_never_interrupted(tmp_path: Any) -> None:
    d = Dispatcher(LinUCB(K, D), NAMES, ledger=Ledger(tmp_path / "l"), hold_back=0)
    play(d, range(6), 4, lambda _: True)
    checkpoint, before = d.ledger.last_seq, d.resting
    assert before
    play(d, range(6, 12), 4, lambda _: False, unit="other")
    d.ledger.rewind(checkpoint, "resume")
    assert d.resting == before
    straight = Dispatcher(LinUCB(K, D), NAMES, hold_back=0)
    play(straight, range(6), 4, lambda _: True)
    assert frozen(d) == frozen(straight)


def test_a_ledger_from_before_the_breaker_is_read_on(tmp_path: Any) -> None:
    """Its snapshots hold no breaker and it is bound to none.

    What rests is folded from its events.
    """
    d = Dispatcher(LinUCB(K, D), NAMES, ledger=Ledger(tmp_path / "l"), hold_back=0, breaker=None)
    for step in range(20):
        for decision in d.route(contexts(step, 4), [f"u{i}" for i in range(4)], step):
            if decision.arm == DEAD:
                d.record_failure(decision.id, decision.name, "down")
            else:
                d.feedback(decision.id, 0.5)
    d.snapshot()
    binding = d.ledger.meta("binding")
    del binding["breaker"]
    d.ledger.bind(binding)
    d.close()
    again = Dispatcher(LinUCB(K, D), NAMES, ledger=Ledger(tmp_path / "l"), hold_back=0)
    assert list(again.resting) == [NAMES[DEAD]]
    assert again.ledger.meta("binding")["breaker"] == BreakerRule().as_list()
    live = frozen(again)
    again.ledger.close()
    with Ledger(tmp_path / "l") as ledger:
        with pytest.raises(InputError, match="breaker"):
            Dispatcher(LinUCB(K, D), NAMES, ledger=ledger, hold_back=0, breaker=None)
        assert frozen(Dispatcher(LinUCB(K, D), NAMES, ledger=ledger, hold_back=0)) == live


def test_arms_come_and_go_while_another_rests() -> None:
    d = Dispatcher(LinUCB(K, D), NAMES, hold_back=0)
    play(d, range(10), 4, lambda _: True)
    assert list(d.resting) == [NAMES[DEAD]]
    d.add_arm("e")
    d.remove_arm("a")
    [*rest] = d.route(contexts(90, 6), list("uvwxyz"), 90)
    assert all(q.probs_K[d.arms.index(NAMES[DEAD])] in (0.0, 1.0) for q in rest)
    d.remove_arm(NAMES[DEAD])
    assert d.resting == {}
    d.add_arm(NAMES[DEAD])
    assert d.resting == {}
    assert d.ledger.decisions().probs_BK.shape == (46, 5)


# all of them --------------------------------------------------------------------------------------


def test_when_all_rest_the_caller_is_told_and_the_next_call_asks_again(tmp_path: Any) -> None:
    assert issubclass(AllArmsResting, RunError)
    d = Dispatcher(LinUCB(2, D), ["a", "b"], ledger=Ledger(tmp_path / "l"), hold_back=0)
    told, step = 0, 0
    while not told:
        step += 1
        try:
            for decision in d.route(contexts(step, 4), list("wxyz"), step):
                d.record_failure(decision.id, decision.name, "down")
        except AllArmsResting as error:
            told, message = 1, str(error)
        assert step < 60
    assert "failed and rest" in message
    assert set(d.resting) == {"a", "b"}
    live = frozen(d)
    d.ledger.close()
    d = Dispatcher(
        LinUCB(2, D), ["a", "b"], ledger=Ledger(tmp_path / "l"), hold_back=0
    )  # another day
    assert frozen(d) == live
    decisions = d.route(contexts(step, 4), list("wxyz"), step)
    [name] = {q.name for q in decisions}
    for decision in decisions:
        d.record_failure(decision.id, name, "still down")
    with pytest.raises(AllArmsResting):
        d.route(contexts(step + 1, 4), list("wxyz"), step + 1)
    for decision in d.route(contexts(step + 1, 4), list("wxyz"), step + 1):
        d.feedback(decision.id, 0.5)
    assert len(d.resting) == 1
    assert d.ledger.decisions().arms == ["a", "b"]
    d.ledger.close()


def test_while_all_rest_the_fallback_order_judges_and_then_nobody() -> None:
    d = Dispatcher(Uniform(3), list("abc"), hold_back=0, fallback=["c", "a"])
    step = 0
    while len(d.resting) < 3:
        step += 1
        for decision in d.route(contexts(step, 4), list("wxyz"), step):
            d.record_failure(decision.id, decision.name, "down")
    order = []
    for more in (1, 2):
        [decision] = d.route(contexts(step + more, 1), ["u"], step + more)
        assert decision.propensity == 1.0
        order.append(decision.name)
        d.record_failure(decision.id, decision.name, "down")
    assert order == ["c", "a"]
    with pytest.raises(AllArmsResting):
        d.route(contexts(step + 3, 1), ["u"], step + 3)


@pytest.mark.parametrize(
    "bad",
    [
        {"failures": 0},
        {"pause": 0},
        {"longest": 41},
        {"pause": 30, "longest": 20},
        {"growth": 0.5},
        {"recent": 11},
    ],
)
def test_rules_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="allowed"):
        BreakerRule(**bad)


def test_a_fallback_that_is_no_arm_is_refused() -> None:
    for bad in ("a", ["z"], ["a", "a"]):
        with pytest.raises(InputError, match="fallback"):
            Dispatcher(Uniform(2), ["a", "b"], fallback=bad)


def test_a_failure_of_an_unknown_decision_changes_nothing() -> None:
    d = Dispatcher(Uniform(2), ["a", "b"])
    before = frozen(d)
    with pytest.raises(LedgerError):
        d.record_failure("00" * 16, "a", "down")
    assert frozen(d) == before
