"""What the routers learn.

Tested are regret, forgetting, warm-up, corruption, stale priors, budgets and the guard, with
derived thresholds.
"""

import numpy as np
import pytest

from reward_router.errors import InputError
from reward_router.keyed import uniform
from reward_router.routers import Exp3, LinearThompson, LinUCB, Priced, Uniform, choose


class World:
    """Linear payoffs with gap scale .3 and noise .1.

    The contexts have a strong common direction, as embeddings have.
    """

    def __init__(self, seed, dim=32, arms=4, change=None):
        rng = np.random.default_rng(seed)
        self.common, self.rng = 2 * rng.normal(size=dim), rng
        self.theta = rng.normal(size=(2, arms, dim)) * 0.3
        self.change = change

    def step(self, t):
        x = self.rng.normal(size=self.theta.shape[-1]) + self.common
        x /= np.linalg.norm(x)
        late = self.change is not None and t >= self.change
        return x, self.theta[int(late)] @ x + 0.5


def regret(router, seed, steps=3000, corrupt=0.0, **world):
    made, total, pulls = World(seed, **world), 0.0, np.zeros(router.n_arms, int)
    for t in range(steps):
        x, means = made.step(t)
        arm = int(choose(router.probs(x[None]), np.array([uniform(seed, "arm", t)]))[0][0])
        payoff = means[arm] + 0.1 * made.rng.normal()
        if made.rng.random() < corrupt:
            payoff = means[arm] + made.rng.choice([-8.0, 8.0])
        router.update(x[None], np.array([arm]), np.array([payoff]))
        total, pulls[arm] = total + means.max() - means[arm], pulls[arm] + 1
    return total, pulls


class DirectSolve:
    """LinUCB by a fresh solve at every step: the reference learner."""

    def __init__(self, arms, dim, alpha):
        self.n_arms, self.alpha = arms, alpha
        self.a, self.b = np.tile(np.eye(dim), (arms, 1, 1)), np.zeros((arms, dim))
        self.pulls = np.zeros(arms, int)

    def probs(self, x_BD):
        if self.pulls.min() < 2:
            return (self.pulls == self.pulls.min())[None] / (self.pulls == self.pulls.min()).sum()
        inverse_x = np.linalg.solve(self.a, np.tile(x_BD[0], (self.n_arms, 1))[..., None])[..., 0]
        score = (inverse_x * self.b).sum(1) + self.alpha * np.sqrt(inverse_x @ x_BD[0])
        return np.eye(self.n_arms)[[score.argmax()]]

    def update(self, x_BD, arm_B, payoff_B):
        k = arm_B[0]
        self.a[k] += np.outer(x_BD[0], x_BD[0])
        self.b[k] += payoff_B[0] * x_BD[0]
        self.pulls[k] += 1


@pytest.mark.parametrize(
    "seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)]
)
def test_regret_is_within_a_fifth_of_a_direct_solve(seed):
    """The same algorithm.

    Only rounding and ties may differ, so 1.2x leaves room for a rare early fork.
    """
    ours, reference = (
        regret(LinUCB(4, 32, alpha=0.3), seed)[0],
        regret(DirectSolve(4, 32, 0.3), seed)[0],
    )
    assert ours <= 1.2 * reference


def test_learners_beat_chance_by_the_published_factor():
    """Published for such a world.

    Random 1077, LinUCB 38, Thompson 54 (20 seeds): a third of chance is far outside noise.
    """
    chance = regret(Uniform(4), 3, 1500)[0]
    for router in (
        LinUCB(4, 32, alpha=0.3),
        LinearThompson(4, 32, noise_sd=0.1),
        LinUCB(4, 32, alpha=0.3, center=True),
    ):
        assert regret(router, 3, 1500)[0] < chance / 3


@pytest.mark.parametrize("seed", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_forgetting_beats_none_after_an_abrupt_change(seed):
    """The figures that were published: 680 without, 222 to 249 with.

    Here, by seed: 256 and 191 without, 54 and 42 (discount), 68 and 31 (window). Each seed alone is
    far from the half that is asserted.
    """
    world = {"dim": 8, "change": 600, "steps": 1200}
    keywords = {"alpha": 0.1, "center": True, "intercept": 1.0}
    plain = regret(LinUCB(4, 8, **keywords), seed, **world)[0]
    for forgetting in ({"discount": 0.99}, {"window": 200}):
        forgetful = regret(LinUCB(4, 8, **forgetting, **keywords), seed, **world)[0]
        assert 2 * forgetful < plain


def test_warm_up_tries_every_arm_in_every_run():
    for seed in range(20):
        pulls = regret(LinUCB(8, 6, alpha=0.1, warmup=2), seed, 60, dim=6, arms=8)[1]
        assert pulls.min() >= 2


def test_huber_halves_the_harm_of_corrupted_payoffs():
    """Published at 5 % corruption: 301 without, 63 with."""
    keywords = {"alpha": 0.1, "center": True}
    plain = sum(regret(LinUCB(4, 16, **keywords), seed, 800, 0.05, dim=16)[0] for seed in range(3))
    robust = sum(
        regret(LinUCB(4, 16, huber=0.3, **keywords), seed, 800, 0.05, dim=16)[0]
        for seed in range(3)
    )
    assert 2 * robust < plain


def prior_regret(prior, trust, seed):
    """LinUCB with a prior of nearly the true weights (good), of another arm's (stale) or none.

    Payoffs are centred.
    """
    truth, mean = World(seed, dim=16).theta[0], None
    if prior != "none":
        mean = truth + 0.03 * np.random.default_rng(seed).normal(size=truth.shape)
        mean = np.roll(mean, 1, axis=0) if prior == "stale" else mean
    keywords = {
        "warmup": 2 if mean is None else 0,
        "noise_sd": 0.1,
        "center": True,
        "intercept": 1.0,
    }
    return regret(
        LinUCB(4, 16, alpha=0.1, prior_mean=mean, trust=trust, **keywords), seed, 700, dim=16
    )[0]


def test_a_prior_has_to_earn_its_trust():
    """Published: a stale prior costs 147 alone, 68 in the mixture, 69 with none.

    A good one 3.0 against 3.3. The orders are asserted with the slack that four seeds need
    (measured: 113, 44, 53; 7, 13).
    """
    kinds = (("none", None), ("stale", None), ("stale", 0.5), ("good", 0.5))
    total = {kind: sum(prior_regret(*kind, seed) for seed in range(4)) for kind in kinds}
    assert 1.5 * total["stale", 0.5] < total["stale", None]
    assert total["stale", 0.5] < 1.3 * total["none", None]
    assert 2 * total["good", 0.5] < total["none", None]


def test_exp3_increments_are_unbiased_under_delay_with_the_recorded_propensity():
    """E[payoff 1(arm) / p] = payoff, also under delay.

    Allowed are 5 standard errors over 8,000 decisions whose payoffs all arrive 50 decisions late.
    """
    rng, means = np.random.default_rng(0), np.array([0.2, 0.5, 0.8])
    router, waiting, increments = Exp3(3, gamma=0.2), [], []
    for t in range(8_000):
        p = router.probs(np.zeros((1, 1)))
        arm, propensity = choose(p, rng.random(1))
        waiting.append((arm, (rng.random(1) < means[arm]).astype(float), propensity))
        if t >= 50:
            arm, payoff, propensity = waiting.pop(0)
            before = router.sums_K.copy()
            router.update(np.zeros((1, 1)), arm, payoff, propensity)
            increments.append(router.sums_K - before)
    error = np.std(increments, axis=0) / np.sqrt(len(increments))
    assert (abs(np.mean(increments, axis=0) - means) <= 5 * error).all()
    assert router.probs(np.zeros((1, 1))).argmax() == 2


def test_exp3_never_overflows():
    router = Exp3(4, gamma=0.3, eta=1.0)
    for _ in range(200):
        router.update(np.zeros((500, 1)), np.zeros(500, int), np.ones(500), np.full(500, 0.05))
    assert np.isfinite(router.probs(np.zeros((1, 1)))).all()


@pytest.mark.parametrize("kind", ["linucb", "thompson", "exp3"])
def test_the_pacer_holds_an_average_budget(kind):
    """The best arm is the dearest.

    Average cost <= budget + largest cost x limit / (step T), and the budget is used.
    """
    made = {
        "linucb": lambda: LinUCB(3, 8, alpha=0.3, warmup=0),
        "thompson": lambda: LinearThompson(3, 8, noise_sd=0.2),
        "exp3": lambda: Exp3(3, gamma=0.05, eta=0.05),
    }[kind]()
    costs, budget, steps, step = np.array([0.1, 0.4, 1.0]), 0.5, 2000, 0.05
    router, rng = Priced(made, costs, budget=budget, step=step), np.random.default_rng(0)
    for _ in range(steps):
        x = rng.normal(size=(1, 8))
        x /= np.linalg.norm(x)
        arm, propensity = choose(router.probs(x), rng.random(1))
        payoff = np.clip(0.2 + 0.7 * costs[arm] + 0.05 * rng.normal(size=1), 0, 1)
        router.update(x, arm, payoff, propensity)
    assert router.spent / steps <= budget + router.price * costs.max() / (step * steps) + 1e-9
    assert 0.8 * budget < router.spent / steps < 1.1 * budget


def test_a_cost_weight_is_subtracted_before_the_choice():
    x = np.ones((40, 1))
    router = LinUCB(2, 1, alpha=0.0, warmup=0, ridge=1e-3)
    router.update(x, np.arange(40) % 2, np.where(np.arange(40) % 2, 0.8, 0.6))
    assert router.probs(x[:1])[0].tolist() == [0.0, 1.0]
    assert Priced(router, np.array([0.0, 1.0]), 0.19).probs(x[:1])[0].tolist() == [0.0, 1.0]
    assert Priced(router, np.array([0.0, 1.0]), 0.21).probs(x[:1])[0].tolist() == [1.0, 0.0]
    with pytest.raises(InputError, match="does not choose by utility"):
        Priced(Uniform(2), np.zeros(2))
    with pytest.raises(InputError, match="one cost an arm"):
        Priced(LinUCB(2, 1), np.zeros(3))
    with pytest.raises(InputError, match="budget must lie in"):
        Priced(LinUCB(2, 1), np.ones(2), budget=0.5)


def guarded(seed, safe, margin=10.0, steps=400):
    """The lowest lead over always playing arm 0, and its final value.

    The other arms are worse than the safe one.
    """
    rng = np.random.default_rng(seed)
    theta = np.array([[0.7, 0.0], [0.3, 0.3], [0.2, -0.3]])
    router, lead, lowest = (
        LinUCB(3, 2, alpha=2.0, warmup=0, noise_sd=0.1, safe=safe, margin=margin),
        0.0,
        0.0,
    )
    for _ in range(steps):
        x = np.array([[1.0, rng.uniform(-1, 1)]]) / np.sqrt(2)
        arm = int(choose(router.probs(x), rng.random(1))[0][0])
        payoff = theta[arm] @ x[0] + 0.1 * rng.normal()
        router.update(x, np.array([arm]), np.array([payoff]))
        lead += payoff - theta[0] @ x[0]
        lowest = min(lowest, lead)
    return lowest, lead, router


@pytest.mark.slow
def test_the_guard_keeps_the_payoff_above_the_safe_arms_less_the_margin():
    """At 95 % over all rounds together.

    Of 40 runs, 6 failures or more have probability under 1.4 % at a rate of 5 %. The safe arm's own
    noise (0.1 x sqrt(400) = 2.0 summed) is not the guard's doing: the margin is counted net of it.
    """
    failures = sum(guarded(seed, 0)[0] < -10.0 - 3 * 0.1 * np.sqrt(400) for seed in range(40))
    assert failures <= 5


def test_the_guard_spends_its_margin_and_no_more():
    assert guarded(0, 0, margin=0.0, steps=200)[2].guard.rounds == 0
    lowest, _, router = guarded(0, 0, margin=10.0, steps=200)
    assert router.guard.rounds > 0
    assert lowest > -10.0


def test_the_guard_lets_better_arms_through():
    """Arm 0 brings .7 a round against 1.0 of the best.

    Once that is known, the guard no longer holds it back.
    """
    rng, theta = np.random.default_rng(0), np.array([0.5, 1.0])
    router = LinUCB(2, 1, warmup=0, noise_sd=0.1, safe=0, margin=5.0)
    for _ in range(400):
        arm = int(choose(router.probs(np.ones((1, 1))), rng.random(1))[0][0])
        router.update(np.ones((1, 1)), np.array([arm]), np.array([theta[arm] + 0.1 * rng.normal()]))
    assert router.probs(np.ones((1, 1)))[0].tolist() == [0.0, 1.0]
    with pytest.raises(InputError, match="cannot be removed"):
        router.remove_arm(0)
