"""One table of routers, one list of laws.

A router that is exempt from a law says so in the table.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_router.errors import InputError
from reward_router.routers import (
    Adaptive,
    DiscountedLinUCB,
    EpsilonGreedy,
    Exp3,
    Fixed,
    LinearThompson,
    LinUCB,
    Priced,
    RoundRobin,
    Sequential,
    Uniform,
    choose,
)
from reward_router.routers.trusted import trusted

K, D = 4, 6
PRIOR = np.random.default_rng(5).normal(size=(K, D)) * 0.2
PRIOR_AND_MEAN = np.column_stack([PRIOR, np.linspace(-0.1, 0.1, K)])


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[], object]
    exempt: frozenset[str] = frozenset()


def linear(name, exempt=(), **keywords):
    return Case(name, lambda: LinUCB(K, D, **{"warmup": 0, **keywords}), frozenset(exempt))


def sampled(name, exempt=(), **keywords):
    return Case(
        name, lambda: LinearThompson(K, D, **{"noise_sd": 0.3, **keywords}), frozenset(exempt)
    )


class Own:
    """A router that inherits nothing and checks nothing.

    The laws of choosing and learning hold for it all the same.
    """

    dim = None
    warmup = 0

    def __init__(self, n_arms):
        self.n_arms, self.sums_K = n_arms, np.zeros(n_arms)

    def probs(self, context_BD):
        weight_K = np.exp(0.1 * (self.sums_K - self.sums_K.max()))
        return np.tile(weight_K / weight_K.sum(), (len(context_BD), 1))

    def update(self, context_BD, arm_B, payoff_B, propensity_B=None):
        np.add.at(self.sums_K, arm_B, payoff_B)

    def state_dict(self):
        return {"sums_K": self.sums_K.copy()}

    def load_state_dict(self, state):
        self.sums_K = state["sums_K"].copy()


CHECKS_NOTHING = ("wrong state", "bad input", "fuzz", "remove 2", "add")


def adaptive_in_context(**keywords):
    """Contexts believed whatever the payoffs say, so that the laws see the model of contexts."""
    router = Adaptive(K, D, **keywords)
    router.update(*obvious(96))
    assert router.context_weight > 0.9
    return router


def obvious(rows):
    rng = np.random.default_rng(1)
    x = np.eye(D)[rng.integers(0, D, rows)]
    arm = np.arange(rows) % K
    return x, arm, (x[:, :K].argmax(axis=1) == arm).astype(float), np.full(rows, 0.5)


ONE_ARM = ("permutation", "equal")  # these treat one index differently on purpose
CASES = [
    Case("Uniform", lambda: Uniform(K)),
    Case("RoundRobin", lambda: RoundRobin(K), frozenset(ONE_ARM)),
    Case("Sequential", lambda: Sequential(K), frozenset(ONE_ARM)),
    Case("Fixed", lambda: Fixed(K, 2), frozenset((*ONE_ARM, "remove 2"))),
    Case("EpsilonGreedy", lambda: EpsilonGreedy(K)),
    Case("Adaptive", lambda: Adaptive(K, D)),
    Case("Adaptive explore", lambda: Adaptive(K, D, horizon=500, explore=0.1)),
    Case("Adaptive fading", lambda: Adaptive(K, D, discount=0.95), frozenset({"equal trained"})),
    Case(
        "Adaptive in context", adaptive_in_context, frozenset(ONE_ARM)
    ),  # it has learned already, arm by arm
    Case(
        "Adaptive in context fading", lambda: adaptive_in_context(discount=0.99), frozenset(ONE_ARM)
    ),
    Case("Adaptive decision margin", lambda: Adaptive(K, D, decision_margin=0.01)),
    Case("priced Adaptive", lambda: Priced(Adaptive(K, D), np.arange(K) / K), frozenset(ONE_ARM)),
    Case("Exp3", lambda: Exp3(K)),
    Case("of one's own", lambda: Own(K), frozenset(CHECKS_NOTHING)),
    Case("Exp3 eta=1", lambda: Exp3(K, eta=1.0)),
    linear("LinUCB"),
    linear("LinUCB warm-up", warmup=2),
    linear("LinUCB float32", dtype=np.float32),
    linear("LinUCB explore", explore=0.2),
    linear("LinUCB window", ("equal trained",), window=30),
    linear("LinUCB huber", huber=0.3),
    linear("LinUCB center", center=True, intercept=0.5),
    linear(
        "LinUCB trust", ("permutation", "equal"), prior_mean=PRIOR, trust=0.5
    ),  # prior rows belong to indices
    linear("LinUCB guard", ONE_ARM, safe=1, margin=0.5),
    linear("LinUCB decision margin", decision_margin=0.02),
    linear("LinUCB both margins", ONE_ARM, safe=1, margin=0.5, decision_margin=0.02),
    Case(
        "DiscountedLinUCB",
        lambda: DiscountedLinUCB(K, D, warmup=0, discount=0.95),
        frozenset({"equal trained"}),
    ),
    sampled("Thompson"),
    sampled("Thompson warm-up", warmup=2),
    sampled("Thompson discount", ("equal trained",), discount=0.95),
    sampled("Thompson window", ("equal trained",), window=30),
    sampled("Thompson both", ("equal trained",), discount=0.97, window=40, center=True),
    sampled("Thompson center", center=True, intercept=0.5),
    sampled("Thompson huber", ("equal trained",), huber=0.3, center=True),
    sampled(
        "Thompson trust", ("permutation", "equal"), prior_mean=PRIOR, trust=0.5, trust_precision=2.0
    ),
    sampled(
        "Thompson trust fading",
        ("permutation", "equal"),
        prior_mean=PRIOR,
        trust=0.5,
        discount=0.95,
        center=True,
    ),
    sampled("Thompson guard", ONE_ARM, safe=1, margin=0.5),
    sampled("Thompson safe decision margin", ONE_ARM, safe=1, decision_margin=0.02),
    Case(
        "trusted",
        lambda: trusted(PRIOR_AND_MEAN, 40.0, 0.4, 10.0),
        frozenset(("permutation", "equal")),
    ),
    Case(
        "trusted decision margin",
        lambda: trusted(PRIOR_AND_MEAN, 40.0, 0.4, 10.0, decision_margin=0.02),
        frozenset(("permutation", "equal")),
    ),
    Case(
        "trusted fading",
        lambda: trusted(PRIOR_AND_MEAN, 40.0, 0.4, 10.0, discount=0.95, warmup=2),
        frozenset(("permutation", "equal")),
    ),
    Case(
        "trusted level",
        lambda: trusted(PRIOR_AND_MEAN, 40.0, 0.4, 10.0, level=(0.6, 0.1)),
        frozenset(("permutation", "equal")),
    ),
    Case(
        "anchored",
        lambda: trusted(PRIOR_AND_MEAN, 40.0, 0.4, 10.0, trust=1.0),
        frozenset(("permutation", "equal")),
    ),
    Case(
        "priced trusted",
        lambda: Priced(trusted(PRIOR_AND_MEAN, 40.0, 0.4, 10.0), np.arange(K) / K),
        frozenset(ONE_ARM),
    ),
    Case(
        "priced LinUCB",
        lambda: Priced(LinUCB(K, D), np.arange(K) / K, 0.1, budget=0.4),
        frozenset(ONE_ARM),
    ),
    Case("priced Exp3", lambda: Priced(Exp3(K), np.arange(K) / K, budget=0.4), frozenset(ONE_ARM)),
]


def under(law):
    return pytest.mark.parametrize(
        "case", [c for c in CASES if law not in c.exempt], ids=lambda c: c.name
    )


def events(rows, seed=0, arms=K, dim=D):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, dim)) + rng.normal(size=dim)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x, rng.integers(0, arms, rows), rng.random(rows), rng.uniform(0.1, 1.0, rows)


def trained(case, rows=150, seed=0):
    router = case.make()
    router.update(*events(rows, seed))
    return router


def same_state(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        other = second[name]
        assert value.dtype == other.dtype
        assert value.shape == other.shape
        assert value.tobytes() == other.tobytes(), name


@under("distribution")
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_probs_is_a_distribution_and_a_read_changes_nothing(case, rows):
    router, x = trained(case), events(rows, 9)[0]
    before = router.state_dict()
    p = router.probs(x)
    assert p.shape == (rows, K)
    assert p.dtype == np.float64
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-12)
    assert (router.probs(x) == p).all()
    same_state(before, router.state_dict())


@under("drawn")
def test_a_drawn_arm_has_positive_probability_and_its_own_propensity(case):
    x = events(200, 3)[0]
    p = trained(case).probs(x)
    for u in (
        np.zeros(200),
        np.random.default_rng(0).random(200),
        np.full(200, np.nextafter(1.0, 0)),
    ):
        arm, propensity = choose(p, u)
        assert (propensity > 0).all()
        assert (propensity == p[np.arange(200), arm]).all()


@under("batch")
@settings(max_examples=5, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(0, 99))
def test_a_batch_equals_its_rows_bit_for_bit_however_it_is_cut_and_read(case, cuts, seed):
    x, a, y, p = events(sum(cuts), seed)
    whole, parts, rows = case.make(), case.make(), case.make()
    whole.update(x, a, y, p)
    start = 0
    for cut in cuts:
        part = slice(start, start + cut)
        parts.update(x[part], a[part], y[part], p[part])
        parts.probs(x[:2])
        start += cut
    for i in range(len(x)):
        rows.update(x[i : i + 1], a[i : i + 1], y[i : i + 1], p[i : i + 1])
    same_state(whole.state_dict(), parts.state_dict())
    same_state(whole.state_dict(), rows.state_dict())
    assert (whole.probs(x[:3]) == parts.probs(x[:3])).all()


@under("permutation")
def test_permuting_arms_permutes_results(case):
    order = np.array([2, 0, 3, 1])
    x, a, y, p = events(150)
    plain, moved = case.make(), case.make()
    plain.update(x, a, y, p)
    moved.update(x, order[a], y, p)
    q = events(20, 8)[0]
    np.testing.assert_allclose(moved.probs(q)[:, order], plain.probs(q), atol=1e-9)


@under("equal")
def test_arms_in_equal_state_get_equal_probability(case):
    router, q = case.make(), events(9, 4)[0]
    np.testing.assert_allclose(router.probs(q), 1 / K, atol=1e-12)
    x, _, y, p = events(12)
    for arm in range(K):
        router.update(x, np.full(12, arm), y, p if case.name.startswith("Exp3") else None)
    if (
        "equal trained" not in case.exempt
    ):  # forgetting and a Huber weight about a running mean see the order of events
        np.testing.assert_allclose(router.probs(q), 1 / K, atol=1e-9)


@under("state")
def test_state_round_trip_is_bitwise_and_goes_on_bitwise(case):
    router, copy = trained(case, 170), case.make()
    copy.load_state_dict(router.state_dict())
    same_state(router.state_dict(), copy.state_dict())
    assert all(
        isinstance(value, np.ndarray) and value.dtype != object
        for value in copy.state_dict().values()
    )
    for seed in range(4):
        more = events(23, 20 + seed)
        assert (router.probs(more[0]) == copy.probs(more[0])).all()
        router.update(*more)
        copy.update(*more)
    same_state(router.state_dict(), copy.state_dict())


@under("wrong state")
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_a_wrong_state_is_refused_and_changes_nothing(case, data):
    router = trained(case, 40)
    state, before = router.state_dict(), router.state_dict()
    name = data.draw(st.sampled_from(sorted(state)))
    damage = data.draw(st.sampled_from(["gone", "shape", "dtype", "extra"]))
    if damage == "gone":
        del state[name]
    elif damage == "shape":
        state[name] = np.ones((3, 2, 2, 1))
    elif damage == "dtype":
        state[name] = np.array(["unicode ☃"])
    else:
        state = {"kind": np.array("Another"), **{k: v for k, v in state.items() if k != "kind"}}
    with pytest.raises(InputError):
        router.load_state_dict(state)
    same_state(before, router.state_dict())


BAD = [
    (np.full((1, D), np.nan), [0], [0.5]),
    (np.full((1, D), 1e200), [0], [0.5]),
    (np.zeros(D), [0], [0.5]),
    (np.zeros((1, D)), [K], [0.5]),
    (np.zeros((1, D)), [-1], [0.5]),
    (np.zeros((1, D)), [0.0], [0.5]),
    (np.zeros((1, D)), [0, 1], [0.5]),
    (np.zeros((1, D)), [0], [np.nan]),
    (np.zeros((1, D)), [0], [np.inf]),
    (np.zeros((1, D)), [0], [0.5, 0.5]),
    (np.zeros((1, D), complex), [0], [0.5]),
    (np.full((1, D), "x"), [0], [0.5]),
    (np.zeros((1, D), object), [0], [0.5]),
]


@under("bad input")
@pytest.mark.parametrize("bad", range(len(BAD)))
def test_bad_input_is_refused_and_changes_nothing(case, bad):
    router, (x, a, y) = trained(case, 20), BAD[bad]
    before = router.state_dict()
    if bad == 1 and not hasattr(getattr(router, "router", router), "posterior"):
        return  # these routers do not read contexts: any finite number will do
    with pytest.raises(InputError):
        router.update(x, np.array(a), np.array(y))
    with pytest.raises(InputError):
        router.update(np.zeros((1, D)), np.array([0]), np.array([0.5]), np.array([0.0]))
    same_state(before, router.state_dict())


@under("fuzz")
@settings(max_examples=15, deadline=None)
@given(
    shape=st.lists(st.integers(0, 7), min_size=0, max_size=3),
    dtype=st.sampled_from(["f4", "f8", "i4", "u1", "?", "c8", "U3"]),
    fill=st.sampled_from([0, 1, 3, float("nan"), float("inf"), -1e300]),
)
def test_any_array_gives_probabilities_or_a_clear_error(case, shape, dtype, fill):
    router = trained(case, 20)
    with np.errstate(all="ignore"):
        x = (
            np.full(shape, 0).astype(dtype)
            if dtype in ("U3", "?", "i4", "u1")
            else np.full(shape, fill).astype(dtype)
        )
    before = router.state_dict()
    with contextlib.suppress(InputError):
        assert np.isfinite(router.probs(x)).all()
    same_state(before, router.state_dict())


@under("finite")
def test_everything_stays_finite_after_ten_thousand_updates(case):
    _stays_finite(case, 10_000)


@pytest.mark.slow
@under("finite")
def test_everything_stays_finite_after_a_million_updates(case):
    _stays_finite(case, 1_000_000)


def _stays_finite(case, total):
    """Huber weights and fading evidence look at every row before it is learned.

    There are a twentieth of the updates there.
    """
    router = case.make()
    if any(word in case.name for word in ("huber", "fading", "trusted")):
        total //= 20
    x, a, y, p = events(1000)
    for _ in range(max(total // 1000, 1)):
        router.update(x, a, y, p)
    assert np.isfinite(router.probs(x[:50])).all()
    for value in router.state_dict().values():
        assert value.dtype.kind not in "f" or np.isfinite(value).all()


@under("remove 2")
def test_removing_an_arm_moves_its_mass_and_leaves_the_others_bit_for_bit(case):
    router, x = trained(case), events(5, 7)[0]
    before = router.state_dict()
    kept = [0, 1, 3]
    scores = router.posterior(x) if hasattr(router, "posterior") else None
    router.remove_arm(2)
    assert router.n_arms == K - 1
    p = router.probs(x)
    assert p.shape == (5, K - 1)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-12)
    if scores is not None:
        assert (router.posterior(x)[0] == scores[0][:, kept]).all()
        assert (router.posterior(x)[1] == scores[1][:, kept]).all()
    if "sums_K" in before:
        assert (router.state_dict()["sums_K"] == before["sums_K"][kept]).all()


@under("add")
def test_a_new_arm_starts_at_its_prior_and_the_others_do_not_move(case):
    router, x = trained(case), events(5, 7)[0]
    scores = router.posterior(x) if hasattr(router, "posterior") else None
    index = router.add_arm(0.3) if isinstance(router, Priced) else router.add_arm()
    assert (index, router.n_arms) == (K, K + 1)
    assert router.probs(x).shape == (5, K + 1)
    if scores is not None:
        mean, sd = router.posterior(x)
        assert (mean[:, :K] == scores[0]).all()
        assert (sd[:, :K] == scores[1]).all()
    x, a, y, p = events(60, 1, K + 1)
    router.update(x, a, y, p)
    again = case.make()
    again.load_state_dict(router.state_dict())
    same_state(again.state_dict(), router.state_dict())


@pytest.mark.parametrize("make", [lambda: LinUCB(3, 2), lambda: LinearThompson(3, 2, warmup=2)])
def test_forced_pulls_are_bounded_and_even(make):
    router, x = make(), np.ones((1, 2))
    for pull in range(6):
        p = router.probs(x)[0]
        fewest = (
            np.bincount(np.arange(3).repeat(2)[:0], minlength=3)
            if pull == 0
            else router.model.pulls_K
        )
        np.testing.assert_allclose(p, (fewest == fewest.min()) / (fewest == fewest.min()).sum())
        router.update(x, np.array([p.argmax()]), np.array([0.5]))
    assert (router.model.pulls_K == 2).all()
    index = router.add_arm()
    assert router.probs(x)[0, index] == 1.0
    router.update(np.ones((2, 2)), np.array([index] * 2), np.array([0.0, 0.0]))
    assert router.probs(x)[0, index] < 1.0
