"""What `Adaptive` promises beyond the laws of every router.

Strengths come first, contexts by their evidence, there is no pile-up, and it forgets.
"""

import numpy as np
import pytest

from reward_router.errors import InputError
from reward_router.routers import Adaptive, LinUCB, choose
from reward_router.routers.context_belief import _Design
from reward_router.routers.pooled import Population, learned
from reward_router.routers.trusted import trusted


def stream(router, right_of, rows, dim, arms, seed=0, batch=1):
    """A router on random unit contexts.

    Returns the accuracy over the last third, and the share of the most drawn arm in each batch.
    """
    rng = np.random.default_rng(seed)
    got, most = [], []
    for _ in range(rows // batch):
        x = rng.normal(size=(batch, dim))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        arm, propensity = choose(router.probs(x), rng.random(batch))
        p_BK = right_of(x)
        chosen = p_BK[np.arange(batch), arm]
        router.update(x, arm, (rng.random(batch) < chosen).astype(float), propensity)
        got += chosen.tolist()
        most.append(np.bincount(arm, minlength=arms).max() / batch)
    return np.mean(got[-(len(got) // 3) :]), most


def by_sign(x):
    """Two arms, each right where the first feature has its sign."""
    first = 0.5 + 0.45 * np.sign(x[:, 0])
    return np.stack([first, 1 - first], axis=1)


def same_everywhere(x):
    return np.tile([0.55, 0.8, 0.5, 0.6, 0.45], (len(x), 1))


def difficulty(x):
    """Every arm is better where the first feature is positive.

    The second arm is the best everywhere.
    """
    return np.array([0.35, 0.6, 0.35])[None] + 0.3 * (x[:, :1] > 0)


def test_contexts_that_tell_arms_apart_are_believed() -> None:
    router = Adaptive(2, 4)
    late, _ = stream(router, by_sign, 600, 4, 2, batch=2)
    assert router.context_weight > 0.95
    assert late > 0.85  # the best single arm has .5


def test_few_payoffs_do_where_contexts_tell_all() -> None:
    """Two kinds of prompt, each with its own right arm: two dozen payoffs, in the mean of ten."""
    x_BD = np.eye(2)
    right = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        router = Adaptive(2, 2)
        for row in range(24):
            context_BD = x_BD[row % 2 :][:1]
            arm_B, propensity_B = choose(router.probs(context_BD), rng.random(1))
            payoff_B = (arm_B == row % 2).astype(float)
            router.update(context_BD, arm_B, payoff_B, propensity_B)
        right.append(np.diag(router.probs(x_BD)).mean())
    assert np.mean(right) > 0.9


def test_pairs_of_one_prompt_are_one_witness() -> None:
    """What is peculiar to a prompt is no effect of contexts, however many pairs it has.

    200 prompts of six pairs; which of two arms is right is drawn once a prompt. Six pairs that say
    the same would outweigh the truth: taken one by one they are believed.
    """
    weights = {}
    for apart in (False, True):
        router = Adaptive(2, 8)
        rng = np.random.default_rng(0)
        for _ in range(200):
            x = rng.normal(size=(1, 8)) / np.sqrt(8)
            right_K = rng.random(2) < 0.5
            arm = rng.integers(0, 2, 6)
            # the same pairs with contexts that differ in the last digits are taken for prompts
            noise = 1e-9 * rng.normal(size=(6, 8)) if apart else np.zeros((6, 8))
            router.update(x + noise, arm, right_K[arm].astype(float))
        weights[apart] = router.context_weight
    assert weights[False] < 0.25  # less than before the first payoff: not asked
    assert weights[True] > 0.9


@pytest.mark.parametrize("right_of", [same_everywhere, difficulty])
def test_contexts_that_tell_nothing_of_the_arms_are_not_believed(right_of) -> None:
    arms = right_of(np.ones((1, 8))).shape[1]
    weights = []
    for seed in range(2):
        router = Adaptive(arms, 8)
        stream(router, right_of, 600, 8, arms, seed, batch=4)
        weights.append(router.context_weight)
    assert np.mean(weights) < 0.3


def test_regret_of_overall_strengths_is_far_below_linucb() -> None:
    def late(make):
        return np.mean([stream(make(), same_everywhere, 300, 16, 5, seed)[0] for seed in range(4)])

    assert late(lambda: Adaptive(5, 16)) > late(lambda: LinUCB(5, 16)) + 0.02


@pytest.mark.parametrize("batch", [16, 64, 256])
def test_the_first_batches_do_not_pile_up_on_one_arm(batch) -> None:
    _, most = stream(
        Adaptive(4, 3), lambda x: np.full((len(x), 4), 0.6), 2 * batch, 3, 4, batch=batch
    )
    assert most[0] < 0.6  # even before the first payoff


def test_the_evidence_is_that_of_the_whole_gaussian() -> None:
    """Rows and sums against the density of N(0, I + Z S^2 Z')."""
    rng = np.random.default_rng(0)
    for rows in (3, 20):
        z_TZ, y_T, scale_Z = (
            rng.normal(size=(rows, 5)),
            rng.normal(size=rows),
            rng.uniform(0.2, 2.0, 5),
        )
        cov_TT = np.eye(rows) + (z_TZ * scale_Z) @ (z_TZ * scale_Z).T
        exact = -0.5 * np.linalg.slogdet(cov_TT)[1] + 0.5 * (
            y_T @ y_T - y_T @ np.linalg.solve(cov_TT, y_T)
        )
        weights = scale_Z**2 * (z_TZ.T @ np.linalg.solve(cov_TT, y_T))
        gram = _Design(None, np.zeros(0), z_TZ.T @ z_TZ, z_TZ.T @ y_T)
        for design in (_Design(z_TZ, y_T, gram.gram_ZZ, gram.sum_Z), gram):
            log, mean_Z = design.fit(scale_Z)
            np.testing.assert_allclose(log, exact, atol=1e-9)
            np.testing.assert_allclose(mean_Z, weights, atol=1e-9)


def test_one_arms_posterior_is_the_beta_law_and_graded_payoffs_count_for_more() -> None:
    totals = np.array([[10.0, 7.0, 7.0]])
    law = Population(0.6, 0.02, 1.0)
    alpha, beta = 0.6 * law.size + 7, 0.4 * law.size + 3
    mean, sd = law.arms(totals)
    np.testing.assert_allclose(mean, alpha / (alpha + beta))
    np.testing.assert_allclose(sd, np.sqrt(alpha * beta / (alpha + beta) ** 2 / (alpha + beta + 1)))
    graded = np.array([[200.0, 100.0, 51.0], [200.0, 120.0, 73.0]])  # variance .005 instead of .25
    assert learned(graded).dispersion < 0.1


def test_spread_of_arms_is_learned_from_all_of_them() -> None:
    alike, apart = np.full((20, 3), 60.0), np.full((20, 3), 60.0)
    alike[:, 1:] = 36.0
    apart[:, 1:] = np.linspace(12.0, 57.0, 20)[:, None]
    assert learned(alike).variance < 0.1 * learned(apart).variance


def test_a_discount_follows_a_change_and_its_absence_does_not() -> None:
    def after_change(discount):
        router = Adaptive(2, 2, discount=discount)
        stream(router, lambda x: np.tile([0.9, 0.4], (len(x), 1)), 1500, 2, 2, batch=10)
        return stream(router, lambda x: np.tile([0.2, 0.8], (len(x), 1)), 300, 2, 2, seed=1)[0]

    assert after_change(0.98) > after_change(1.0) + 0.1


def test_one_seed_of_looks_is_the_clocks_whatever_the_cuts() -> None:
    """The looks come at the same payoffs whether these arrive one by one or in one late batch."""
    rng = np.random.default_rng(2)
    x, arm, y = (
        rng.normal(size=(200, 3)),
        rng.integers(0, 3, 200),
        (rng.random(200) < 0.6).astype(float),
    )
    late, early = Adaptive(3, 3), Adaptive(3, 3)
    late.update(x, arm, y)
    for row in range(200):
        early.update(x[row : row + 1], arm[row : row + 1], y[row : row + 1])
    assert (late.next_look, late.next_pool, late.clock) == (
        early.next_look,
        early.next_pool,
        early.clock,
    )
    assert (late.probs(x) == early.probs(x)).all()


def test_payoffs_outside_0_and_1_are_refused() -> None:
    with pytest.raises(InputError, match=r"outside \[0, 1\]"):
        Adaptive(2, 1).update(np.ones((1, 1)), np.array([0]), np.array([1.5]))


def test_a_narrow_prior_is_kept_and_a_wide_one_is_explored() -> None:
    prior = np.array([[0.0, 0.12], [0.0, 0.0], [0.0, -0.12]])
    narrow, wide = (trusted(prior, 500.0, 0.45, 500.0, width=width) for width in (0.15, 1.0))
    x = np.zeros((1, 1))
    assert narrow.probs(x)[0, 0] > 0.99 > wide.probs(x)[0, 0]
    np.testing.assert_allclose(narrow.probs(x).sum(), 1.0)
