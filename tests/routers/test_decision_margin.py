"""A margin for each decision: what a router may give up by its own posterior, and nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reward_router.errors import InputError
from reward_router.routers import Adaptive, LinearThompson, LinUCB, choose
from reward_router.routers.cost import Priced
from reward_router.routers.guard import within_margin
from reward_router.routers.trusted import trusted

K = 4
D = 3
PRIOR = np.linspace(-0.2, 0.3, K * (D + 1)).reshape(K, D + 1)
ROUTERS = {
    "LinUCB": lambda m: LinUCB(K, D, warmup=0, alpha=2.0, decision_margin=m),
    "LinUCB floor": lambda m: LinUCB(K, D, warmup=3, explore=0.3, decision_margin=m),
    "Thompson": lambda m: LinearThompson(K, D, prior_precision=0.5, decision_margin=m),
    "Thompson prior": lambda m: LinearThompson(
        K, D, prior_mean=PRIOR[:, :D], trust=0.5, decision_margin=m
    ),
    "adaptive": lambda m: Adaptive(K, D, explore=0.1, decision_margin=m),
    "trusted": lambda m: trusted(PRIOR, 4.0, 0.4, 4.0, decision_margin=m),
    "trusted narrow": lambda m: trusted(PRIOR, 4.0, 0.4, 4.0, width=0.3, decision_margin=m),
    "believed": lambda m: trusted(PRIOR, 4.0, 0.4, 4.0, trust=1.0, decision_margin=m),
}
SAFE = {
    "LinUCB": lambda m: LinUCB(K, D, warmup=0, safe=1, decision_margin=m),
    "Thompson": lambda m: LinearThompson(K, D, safe=1, decision_margin=m),
    "Thompson both": lambda m: LinearThompson(K, D, safe=1, margin=2.0, decision_margin=m),
}


def rows(seed, count):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(count, D))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x, draw.integers(0, K, count), draw.random(count)


def expected_loss(router, x, reference=None, penalty_K=None):
    """What each decision gives up by the posterior, against the best arm or the reference."""
    p_BK = router.probs(x) if penalty_K is None else router.probs(x, penalty_K)
    utility_BK = router.posterior(x)[0] - (0 if penalty_K is None else penalty_K)
    best_B = utility_BK.max(axis=1) if reference is None else utility_BK[:, reference]
    return best_B - (p_BK * utility_BK).sum(axis=1)


@pytest.mark.parametrize("name", ROUTERS)
@pytest.mark.parametrize("margin", [0.0, 0.004, 0.05])
def test_no_decision_gives_up_more_than_the_margin_by_the_posterior(name, margin):
    router = ROUTERS[name](margin)
    for seed in range(12):  # the law holds whatever was learned
        x = rows(100 + seed, 20)[0]
        assert expected_loss(router, x).max() <= margin + 1e-12
        penalty_K = np.array([0.3, 0.0, 0.1, 0.0])
        assert expected_loss(router, x, None, penalty_K).max() <= margin + 1e-12
        router.update(*rows(seed, 8))


@pytest.mark.parametrize("name", SAFE)
def test_no_decision_is_expected_below_the_safe_arm_less_the_margin(name):
    router = SAFE[name](0.01)
    for seed in range(12):
        assert expected_loss(router, rows(100 + seed, 20)[0], 1).max() <= 0.01 + 1e-12
        router.update(*rows(seed, 8))


@pytest.mark.parametrize("name", ROUTERS)
def test_a_margin_that_nothing_reaches_changes_no_bit(name):
    free = ROUTERS[name](None)
    wide = ROUTERS[name](1e6)
    for seed in range(3):
        x = rows(50 + seed, 9)[0]
        assert free.probs(x).tobytes() == wide.probs(x).tobytes()
        free.update(*rows(seed, 30))
        wide.update(*rows(seed, 30))


@pytest.mark.parametrize("name", ROUTERS)
def test_the_margin_is_spent_where_exploring_costs_more(name):
    """At a margin under what the free router gives up, exactly the margin is given up."""
    free = ROUTERS[name](None)
    free.update(*rows(1, 40))
    x = rows(2, 30)[0]
    loss_B = expected_loss(free, x)
    margin = float(np.median(loss_B[loss_B > 1e-6])) if (loss_B > 1e-6).any() else 0.0
    held = ROUTERS[name](margin)
    held.update(*rows(1, 40))
    np.testing.assert_allclose(expected_loss(held, x), np.minimum(loss_B, margin), atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float64, (3, 5), elements=st.floats(0.01, 1.0)),
    # utilities are equal or clearly apart: what counts as a tie is `even_argmax`'s law
    hnp.arrays(np.float64, (3, 5), elements=st.integers(-64, 64).map(lambda n: n / 32)),
    st.floats(0.0, 3.0),
    st.sampled_from([None, 0, 4]),
)
def test_what_is_left_is_a_distribution_between_the_old_one_and_the_reference(raw, u, margin, safe):
    p = raw / raw.sum(axis=1, keepdims=True)
    q = within_margin(p, u, margin, safe)
    np.testing.assert_allclose(q.sum(axis=1), 1.0, atol=1e-12)
    assert (q >= 0).all()
    reference = u.max(axis=1) if safe is None else u[:, safe]
    assert (reference - (q * u).sum(axis=1) <= margin + 1e-9).all()
    # every arm that is not the reference keeps the same share of what it had
    others = u < u.max(axis=1, keepdims=True) if safe is None else np.arange(5) != safe
    kept = np.where(others, q / p, np.nan)
    for ratio_K in kept[~np.isnan(kept).all(axis=1)]:
        assert np.nanmax(ratio_K) - np.nanmin(ratio_K) < 1e-9


def test_arms_out_of_sight_are_no_reference():
    """A resting arm's utility is far below all others: it neither attracts nor holds back."""
    router = LinearThompson(K, D, prior_mean=PRIOR[:, :D], safe=3, decision_margin=0.01)
    router.update(*rows(0, 40))
    x = rows(1, 5)[0]
    hidden_K = np.array([0.0, 0.0, 0.0, 1e9])  # the safe arm itself
    free = LinearThompson(K, D, prior_mean=PRIOR[:, :D])
    free.update(*rows(0, 40))
    np.testing.assert_allclose(router.probs(x, hidden_K), free.probs(x, hidden_K), atol=1e-12)


def test_the_safe_arm_is_followed_when_arms_go_and_states_are_restored():
    router = LinearThompson(K, D, safe=2, decision_margin=0.0)
    router.update(*rows(0, 40))
    router.remove_arm(0)
    other = LinearThompson(K, D, safe=2, decision_margin=0.0)
    other.load_state_dict(router.state_dict())
    x = rows(3, 6)[0]
    assert expected_loss(other, x, 1).max() <= 1e-12
    assert other.probs(x).tobytes() == router.probs(x).tobytes()
    with pytest.raises(InputError, match="safe arm"):
        router.remove_arm(1)


def test_prices_count_in_what_is_given_up():
    costs_K = np.array([1.0, 0.0, 2.0, 0.5])
    router = Priced(Adaptive(K, D, decision_margin=0.0), costs_K, cost_weight=0.2)
    router.update(*rows(0, 40))
    x = rows(1, 4)[0]
    utility_BK = router.router.posterior(x)[0] - 0.2 * costs_K
    assert (router.probs(x).argmax(axis=1) == utility_BK.argmax(axis=1)).all()


def test_a_good_prior_is_explored_away_no_faster_than_the_margin_allows():
    """Two arms that pay .8 and .5 by a coin, and a prior that says so; ten streams of 80 rounds.

    The margin bounds what is expected to be lost. What is lost may be more where bad luck has
    closed the gap between the arms: twice the margin is allowed here, and three errors.
    """
    prior_KC = np.array([[0.0, 0.15], [0.0, -0.15]])
    lost = {}
    for margin in (None, 0.002):
        total = []
        for seed in range(10):
            draw = np.random.default_rng(seed)
            router = trusted(prior_KC, 1.0, 0.45, 8.0, decision_margin=margin)
            loss = 0.0
            for _ in range(80):
                x = np.zeros((1, 1))
                p_BK = router.probs(x)
                arm, _ = choose(p_BK, draw.random(1))
                router.update(x, arm, (draw.random(1) < (0.8, 0.5)[int(arm[0])]).astype(float))
                loss += 0.3 * float(p_BK[0, 1])
            total.append(loss / 80)
        lost[margin] = np.array(total)
    error = lost[0.002].std() / np.sqrt(10)
    assert lost[0.002].mean() <= 2 * 0.002 + 3 * error
    assert lost[None].mean() > 3 * lost[0.002].mean()


@pytest.mark.parametrize("margin", [-0.1, float("nan"), float("inf"), "much", True])
def test_a_margin_out_of_range_is_one_line(margin):
    for make in (*ROUTERS.values(), *SAFE.values()):
        with pytest.raises(InputError, match="decision_margin"):
            make(margin)
