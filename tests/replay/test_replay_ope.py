"""Off-policy estimates.

They are unbiased on a log whose truth is known, intervals cover, and refusals say what to change.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reward_router.errors import InputError
from reward_router.replay import estimators, ope
from reward_router.replay.ope import METHODS, Log, estimate_value
from reward_router.replay.rejection import rejection_replay
from reward_router.routers import Exp3, Fixed, LinUCB
from reward_router.types import Float

ARMS = ("good", "fair", "poor")
MEANS = np.array([0.8, 0.6, 0.3])


def made(seed: int, n: int = 800, adaptive: bool = True) -> tuple[Log, Float]:
    """A log of Exp3 (or of fixed probabilities) and all potential payoffs."""
    draw = np.random.default_rng(seed)
    context_TD = np.eye(2)[draw.integers(2, size=n)]
    credit_TK = (
        draw.random((n, 3))
        < MEANS + np.array([0.1, -0.1])[context_TD.argmax(1)][:, None] * np.array([1, -1, 0])
    ).astype(float)
    router, probs_TK, arm_T = (
        Exp3(3, gamma=0.3, eta=0.05),
        np.empty((n, 3)),
        np.empty(n, dtype=np.int64),
    )
    for t in range(n):
        probs_TK[t] = router.probs(context_TD[t : t + 1])[0] if adaptive else [0.5, 0.3, 0.2]
        arm_T[t] = draw.choice(3, p=probs_TK[t] / probs_TK[t].sum())
        if adaptive:
            router.update(
                context_TD[t : t + 1],
                arm_T[t : t + 1],
                credit_TK[t, arm_T[t : t + 1]],
                probs_TK[t, arm_T[t : t + 1]],
            )
    return Log(
        context_TD, probs_TK, arm_T, credit_TK[np.arange(n), arm_T], np.zeros(n, bool), ARMS
    ), credit_TK


def fixed(log: Log, arm: int) -> Float:
    return np.tile(np.eye(3)[arm], (len(log), 1))


@pytest.fixture(scope="module")
def studied() -> list[tuple[Log, Float, Float]]:
    """80 adaptive logs with their potential payoffs and the fitted model."""
    logs = [made(seed, 250) for seed in range(80)]
    return [(log, credit_TK, ope.log_past_model(log)) for log, credit_TK in logs]


@pytest.mark.parametrize("method", METHODS)
def test_unbiased_and_covering(method: str, studied: list[tuple[Log, Float, Float]]) -> None:
    """The mean error is within 4 standard errors of 0.

    IPS and DR are exactly unbiased. The coverage of 95 % intervals is within 4 standard errors of
    its own.
    """
    errors, covered = [], []
    for log, credit_TK, model_TK in studied:
        for arm in (0, 1):
            e = estimate_value(log, fixed(log, arm), method, model_TK=model_TK)
            errors.append(e.value - credit_TK[:, arm].mean())
            covered.append(e.low <= credit_TK[:, arm].mean() <= e.high)
    slack = 0.005 if method in ("snips", "dr_stabilised") else 0.0
    assert abs(np.mean(errors)) < 4 * np.std(errors) / np.sqrt(len(errors)) + slack
    assert np.mean(covered) > 0.95 - 4 * np.sqrt(0.95 * 0.05 / len(covered))


def test_the_logging_policy_itself_is_the_plain_mean() -> None:
    log, _ = made(1)
    for method in ("ips", "snips"):
        e = estimate_value(log, log.probs_TK, method)
        assert e.value == pytest.approx(log.payoff_T.mean())
        assert e.ess == pytest.approx(len(log))


def test_target_equal_to_one_arm_uses_its_rows_only() -> None:
    log, _ = made(1, adaptive=False)
    e = estimate_value(log, fixed(log, 2), "snips")
    assert e.value == pytest.approx(log.payoff_T[log.arm_T == 2].mean())
    assert e.ess == pytest.approx(min((log.arm_T == 2).sum(), 0.2 * len(log)))


def test_weights_that_were_possible_count_in_the_effective_sample_size_though_none_was_drawn() -> (
    None
):
    """An arm of probability 1/1000 that was never drawn.

    The weights drawn are all equal, but uniform cannot be valued from this log.
    """
    log, _ = made(1, adaptive=False)
    rare = replace(
        log, probs_TK=np.tile([0.4995, 0.4995, 0.001], (800, 1)), arm_T=np.arange(800) % 2
    )
    uniform_TK = np.full((800, 3), 1 / 3)
    for method in ("ips", "snips", "dr"):
        e = estimate_value(rare, uniform_TK, method)
        assert e.ess == pytest.approx(800 / ((2 / 0.4995 + 1 / 0.001) / 9))
        assert e.high - e.low > 0.5


def test_many_logs_at_once_are_each_log_alone() -> None:
    logs = [made(seed, 120)[0] for seed in range(3)]
    stacked = {
        f: np.stack([getattr(log, f) for log in logs])
        for f in ("context_TD", "probs_TK", "arm_T", "payoff_T")
    }
    model = estimators.past_model(stacked["context_TD"], stacked["arm_T"], stacked["payoff_T"], 3)
    target_TK = np.tile([0.2, 0.5, 0.3], (120, 1))
    rows = estimators.terms(
        np.broadcast_to(target_TK, (3, 120, 3)),
        stacked["probs_TK"],
        stacked["arm_T"],
        stacked["payoff_T"],
        model,
    )
    for method, function in estimators.ESTIMATORS.items():
        value, low, high = function(rows, 0.95)
        for i, log in enumerate(logs):
            e = estimate_value(log, target_TK, method)
            assert (e.value, e.ess) == pytest.approx((value[i], rows.ess[i]), abs=1e-12)
            assert (e.low, e.high) == pytest.approx((max(low[i], 0), min(high[i], 1)), abs=1e-12)


def test_the_model_of_dr_is_fitted_on_the_past_only() -> None:
    log, _ = made(2)
    before = ope.log_past_model(log)
    later = log.payoff_T.copy()
    later[400:] = 1 - later[400:]
    after = ope.log_past_model(replace(log, payoff_T=later))
    assert np.array_equal(before[:400], after[:400])
    assert not np.array_equal(before[480:], after[480:])
    assert (before[:40] == 0.5).all()


def test_dr_with_a_given_model_is_the_same_number() -> None:
    log, _ = made(3)
    assert estimate_value(
        log, fixed(log, 0), "dr", model_TK=ope.log_past_model(log)
    ) == estimate_value(log, fixed(log, 0), "dr")


def test_forced_and_unpaid_rows_are_left_out_and_counted() -> None:
    log, _ = made(4)
    forced_T = np.arange(len(log)) < 10
    payoff_T = np.where(np.arange(len(log)) % 4 == 3, np.nan, log.payoff_T)
    e = estimate_value(replace(log, forced_T=forced_T, payoff_T=payoff_T), fixed(log, 0), "dr")
    assert e.left_out == 10 + 198
    assert e.rows == 800 - 208


def test_intervals_lie_in_the_unit_interval_and_hold_the_value() -> None:
    log, _ = made(5, n=60)
    for method in METHODS:
        for payoff in (np.zeros(60), np.ones(60)):
            e = estimate_value(replace(log, payoff_T=payoff), fixed(log, 0), method)
            assert 0 <= e.low <= 1
            assert 0 <= e.high <= 1
            assert e.high - e.low > 0.01


def test_confidence_sequence_is_wider_than_the_clt() -> None:
    log, _ = made(6)
    clt, sequence = (estimate_value(log, fixed(log, 0), m) for m in ("ips", "cs"))
    assert sequence.high - sequence.low > clt.high - clt.low


def test_refusals_say_what_to_change() -> None:
    log, _ = made(7)
    one_hot = np.eye(3)[log.arm_T]
    cases = [
        (replace(log, probs_TK=one_hot), fixed(log, 0), "deterministic"),
        (
            replace(log, probs_TK=np.tile([0.5, 0.5, 0.0], (800, 1)), arm_T=log.arm_T % 2),
            fixed(log, 2),
            "missing support: the target uses poor",
        ),
        (replace(log, source="neg_loss"), fixed(log, 0), "themselves trained"),
        (replace(log, payoff_T=np.full(800, np.nan)), fixed(log, 0), "0 usable decisions"),
        (replace(log, payoff_T=log.payoff_T * 3), fixed(log, 0), r"allowed: \[0, 1\]"),
        (log, fixed(log, 0)[:, :2], "shape"),
    ]
    for bad, target, says in cases:
        with pytest.raises(InputError, match=says):
            estimate_value(bad, target)
    with pytest.raises(InputError, match="allowed: ips"):
        estimate_value(log, fixed(log, 0), "magic")


def test_rejection_replay_values_a_learning_router() -> None:
    """A learner started fresh.

    Its value by rejection agrees with running it on the same kind of stream, within 4 standard
    errors.
    """
    estimates, direct = [], []
    for seed in range(12):
        log, credit_TK = made(seed, 600, adaptive=False)
        e = rejection_replay(log, LinUCB(3, 2, alpha=0.5), iid=True, seed=seed)
        estimates.append(e.value)
        router, total = LinUCB(3, 2, alpha=0.5), 0.0
        for t in range(e.rows):
            arm = np.array([router.probs(log.context_TD[t : t + 1]).argmax()])
            router.update(log.context_TD[t : t + 1], arm, credit_TK[t, arm])
            total += credit_TK[t, arm[0]]
        direct.append(total / e.rows)
    gap = np.array(estimates) - np.array(direct)
    assert abs(gap.mean()) < 4 * gap.std() / np.sqrt(len(gap))


def test_rejection_replay_keeps_a_fixed_target_at_its_own_rows() -> None:
    log, _ = made(8, adaptive=False)
    e = rejection_replay(log, Fixed(3, 2), iid=True)
    assert e.rows == (log.arm_T == 2).sum()
    assert e.value == pytest.approx(log.payoff_T[log.arm_T == 2].mean())


def test_rejection_replay_refuses() -> None:
    log, _ = made(9)
    with pytest.raises(InputError, match=r"i\.i\.d\."):
        rejection_replay(log, Fixed(3, 0), iid=False)
    rare = replace(log, probs_TK=np.tile([0.999, 0.0005, 0.0005], (800, 1)))
    with pytest.raises(InputError, match="explore"):
        rejection_replay(rare, Fixed(3, 0), iid=True)


def test_a_ledger_becomes_a_log(tmp_path: Path) -> None:
    from reward_router.dispatch import Dispatcher
    from reward_router.ledger import Ledger
    from reward_router.replay.ledger_log import ledger_log

    draw = np.random.default_rng(0)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        dispatcher = Dispatcher(LinUCB(3, 2, explore=0.5, warmup=2), list(ARMS), ledger=ledger)
        for step in range(60):
            context_BD = np.eye(2)[draw.integers(2, size=2)]
            for d in dispatcher.route(context_BD, [f"{step}-0", f"{step}-1"], step=step):
                if step == 30:
                    dispatcher.record_failure(d.id, d.arm, "timeout: 3 s")
                if step != 40:
                    dispatcher.feedback(
                        d.id, float(draw.random() < MEANS[d.arm]), source="verifier"
                    )
    log = ledger_log(tmp_path / "ledger.sqlite")
    assert log.arms == ARMS
    assert log.source == "verifier"
    assert log.forced_T.sum() >= 6
    assert np.isnan(log.payoff_T).sum() == 2
    assert np.allclose(log.probs_TK[~log.forced_T].sum(axis=1), 1)
    marked = ledger_log(tmp_path / "ledger.sqlite", fallback="missing")
    assert np.isnan(marked.payoff_T).sum() == 4
    assert 0 < estimate_value(log, fixed(log, 0), "snips").value < 1


def test_a_batch_routed_step_is_one_decision_with_its_mean_payoff(tmp_path: Path) -> None:
    from reward_router.dispatch import Dispatcher
    from reward_router.ledger import Ledger
    from reward_router.replay.ledger_log import ledger_log

    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        dispatcher = Dispatcher(Exp3(3), list(ARMS), ledger=ledger)
        for step in range(30):
            (d,) = dispatcher.route(np.ones((1, 2)), [f"batch-{step}"], step=step, n_units=16)
            dispatcher.feedback(d.id, MEANS[d.arm], source="probe")
    log = ledger_log(tmp_path / "ledger.sqlite")
    assert len(log) == 30
    assert log.payoff_T.tolist() == MEANS[log.arm_T].tolist()
    assert estimate_value(log, fixed(log, 0), "snips").rows == 30


@pytest.mark.parametrize(
    ("sources", "says"),
    [
        (("neg_loss",), "themselves trained"),
        (("probe", "verifier"), "exactly one kind"),
        ((), "exactly one kind"),
    ],
)
def test_ledgers_whose_payoffs_cannot_be_compared_are_refused(
    tmp_path: Path, sources: tuple[str, ...], says: str
) -> None:
    from reward_router.dispatch import Dispatcher
    from reward_router.ledger import Ledger
    from reward_router.replay.ledger_log import values

    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        dispatcher = Dispatcher(Exp3(2), ["x", "y"], ledger=ledger)
        for step in range(40):
            (d,) = dispatcher.route(np.ones((1, 1)), [f"u{step}"], step=step)
            if sources:
                dispatcher.feedback(d.id, 0.5, source=sources[step % len(sources)])
    assert says in values(tmp_path / "ledger.sqlite")["refused"]
