"""A prior believed as a whole.

Tested are the mixture's law, what a stale prior costs, and what a good one keeps.
"""

import numpy as np
import pytest

from reward_router.errors import InputError
from reward_router.keyed import rng
from reward_router.routers import LinearThompson, choose
from reward_router.routers.trusted import Anchored, TrustedThompson
from reward_router.types import Float, Router

ARMS, DIM, NOISE, ROUNDS = 5, 6, 0.4, 300


def world(seed: int) -> tuple[Float, Float]:
    """Arms' weights with an intercept, and unit contexts."""
    draw = rng(seed, "data", 0, "world")
    weight_KD = np.hstack([draw.normal(size=(ARMS, DIM)) * 0.2, draw.normal(size=(ARMS, 1)) * 0.15])
    x_BD = draw.normal(size=(ROUNDS, DIM))
    return weight_KD, x_BD / np.linalg.norm(x_BD, axis=1, keepdims=True)


def regret(router: Router, weight_KD: Float, x_BD: Float, seed: int) -> float:
    """Expected regret against the best arm of each round."""
    draw = rng(seed, "noise", 0, "world")
    mean_BK = 0.5 + x_BD @ weight_KD[:, :-1].T + weight_KD[:, -1]
    noise_B, uniform_B = draw.normal(size=ROUNDS) * NOISE, draw.random(ROUNDS)
    total = 0.0
    for i, x_D in enumerate(x_BD):
        p_1K = router.probs(x_D[None])
        arm_1, _ = choose(p_1K, uniform_B[i : i + 1])
        total += float(mean_BK[i].max() - (p_1K[0] * mean_BK[i]).sum())
        router.update(x_D[None], arm_1, mean_BK[i, arm_1] + noise_B[i])
    return total


def with_one(x_BD: Float) -> Float:
    return np.hstack([x_BD, np.ones((len(x_BD), 1))])


def plain() -> LinearThompson:
    return LinearThompson(ARMS, DIM + 1, None, 20.0, NOISE, center=True)


def informed(weight_KD: Float) -> Anchored:
    router = LinearThompson(ARMS, DIM + 1, None, 400.0, NOISE, center=True)
    return Anchored(router, weight_KD - weight_KD.mean(axis=0))


def centred_on_payoffs(weight_KD: Float) -> LinearThompson:
    return LinearThompson(
        ARMS, DIM + 1, weight_KD - weight_KD.mean(axis=0), 400.0, NOISE, center=True
    )


class AsSeen:
    """A router over contexts with a constant feature, fed bare contexts."""

    def __init__(self, router: Router) -> None:
        self.router = router

    def probs(self, x_BD: Float) -> Float:
        return self.router.probs(with_one(x_BD))

    def update(self, x_BD: Float, arm_B, payoff_B) -> None:  # type: ignore[no-untyped-def]
        self.router.update(with_one(x_BD), arm_B, payoff_B)


def mean_regret(make, trust: float | None, stale: bool, seeds: int = 5) -> float:
    found = []
    for seed in range(seeds):
        weight_KD, x_BD = world(seed)
        router = make(weight_KD[::-1] if stale else weight_KD)
        if trust is not None:
            router = TrustedThompson(router, plain(), trust)
        found.append(regret(AsSeen(router), weight_KD, x_BD, seed))  # type: ignore[arg-type]
    return float(np.mean(found))


@pytest.mark.slow  # test_router_priors asks the same of every router, on fewer seeds
def test_a_stale_prior_costs_little_and_a_good_one_keeps_its_gain() -> None:
    nothing = mean_regret(lambda w: plain(), None, False)
    outright = mean_regret(informed, None, False)
    assert outright < 0.5 * nothing  # the prior is worth having
    assert mean_regret(informed, 0.9, False) <= nothing - 0.9 * (nothing - outright)
    assert mean_regret(informed, 0.9, True) <= 1.2 * nothing
    assert (
        mean_regret(informed, None, True) > 1.5 * nothing
    )  # without trust a stale prior is a dogma


def test_probabilities_and_moments_are_the_mixture_of_the_parts() -> None:
    weight_KD, x_BD = world(0)
    x_BD = with_one(x_BD[:20])
    tight = LinearThompson(ARMS, DIM + 1, None, 90.0, NOISE, center=True)
    router = TrustedThompson(informed(weight_KD), plain(), 0.3, tight)
    router.update(x_BD[:5], np.zeros(5, np.int64), np.full(5, 0.5))
    parts = [router.informed, router.plain, tight]
    expected = sum(w * part.probs(x_BD) for w, part in zip(router.weight_M, parts, strict=True))
    np.testing.assert_allclose(router.probs(x_BD), expected)
    np.testing.assert_allclose(router.probs(x_BD).sum(axis=1), 1.0)
    mean_BK, sd_BK = router.posterior(x_BD)
    moments = [part.posterior(x_BD) for part in parts]
    np.testing.assert_allclose(
        mean_BK, sum(w * m for w, (m, _) in zip(router.weight_M, moments, strict=True))
    )
    second = sum(w * (m**2 + s**2) for w, (m, s) in zip(router.weight_M, moments, strict=True))
    np.testing.assert_allclose(sd_BK**2, second - mean_BK**2)


@pytest.mark.parametrize("named", [False, True])
def test_the_weights_are_bayes_rule_on_the_payoffs(named: bool) -> None:
    """Without centring, trust is in proportion to the joint Gaussian densities.

    They are those of all payoffs, arm by arm.
    """
    from scipy.special import log_softmax
    from scipy.stats import multivariate_normal

    weight_KD, x_BD = world(1)
    x_BD, draw = with_one(x_BD[:12]), rng(0, "noise", 1, "t")
    arm_B, y_B = draw.integers(ARMS, size=12), draw.normal(size=12)
    one = Anchored(LinearThompson(ARMS, DIM + 1, None, 400.0, NOISE), weight_KD)
    zero = [LinearThompson(ARMS, DIM + 1, None, precision, NOISE) for precision in (20.0, 90.0)]
    router = TrustedThompson(one, zero[0], 0.6, zero[1] if named else None)
    for part in (slice(0, 1), slice(1, 7), slice(7, 12)):  # however the rows are cut into batches
        router.update(x_BD[part], arm_B[part], y_B[part])
    nothing_KD, start = np.zeros_like(weight_KD), [0.6, 0.04, 0.36] if named else [0.6, 0.4]
    believed = zip((weight_KD, nothing_KD, nothing_KD), (400.0, 20.0, 90.0), start, strict=False)
    joint = []
    for mean_KD, precision, weight in believed:
        joint.append(np.log(weight))
        for k in range(ARMS):
            x = x_BD[arm_B == k]
            if len(x):
                cov = x @ x.T / precision + NOISE**2 * np.eye(len(x))
                joint[-1] += multivariate_normal.logpdf(y_B[arm_B == k], x @ mean_KD[k], cov)
    np.testing.assert_allclose(router.log_weight_M, log_softmax(joint), rtol=1e-9)
    assert router.trust == router.weight_M[0]


def test_arms_that_all_disappoint_alike_are_told_by_the_level_and_by_nothing_else() -> None:
    """The prior calls arms 0 and 1 good and only they are pulled.

    That both pay little says nothing once payoffs are centred.
    """
    weight_KD = np.zeros((ARMS, DIM + 1))
    weight_KD[:2, -1], weight_KD[2:, -1] = 0.3, -0.2
    x_BD = with_one(world(6)[1][:60])
    trust = {}
    for level in (None, (0.5, 0.05), (0.5, 10.0)):
        router = TrustedThompson(informed(weight_KD), plain(), 0.9, None, level)
        router.update(x_BD, np.arange(60) % 2, 0.3 + 0.4 * np.resize([1.0, -1.0, -1.0, 1.0], 60))
        trust[level] = router.trust
    assert trust[None] > 0.9
    assert trust[0.5, 0.05] < 0.01
    assert trust[0.5, 10.0] == pytest.approx(
        trust[None], abs=0.05
    )  # a level that is not known says nothing
    good = TrustedThompson(informed(weight_KD), plain(), 0.9, None, (0.5, 0.05))
    good.update(x_BD, np.arange(60) % 2, 0.8 + 0.4 * np.resize([1.0, -1.0, -1.0, 1.0], 60))
    assert good.trust > 0.9


@pytest.mark.parametrize("nameless", [lambda: None, plain])
def test_state_goes_on_bit_for_bit(nameless) -> None:  # type: ignore[no-untyped-def]
    weight_KD, x_BD = world(2)
    x_BD = with_one(x_BD)
    one, two = (TrustedThompson(informed(weight_KD), plain(), 0.5, nameless()) for _ in range(2))
    for i in range(10):
        one.update(x_BD[i : i + 1], np.array([i % ARMS]), np.array([0.1 * i]))
    two.load_state_dict(one.state_dict())
    np.testing.assert_array_equal(one.probs(x_BD), two.probs(x_BD))
    assert one.trust == two.trust
    with pytest.raises(InputError):
        one.load_state_dict(plain().state_dict())
    other = TrustedThompson(
        informed(weight_KD), plain(), 0.5, plain() if nameless() is None else None
    )
    with pytest.raises(InputError, match="log_weight_M"):
        other.load_state_dict(one.state_dict())


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="5 arms and 7 features, plain 2 and 7"):
        TrustedThompson(informed(np.zeros((ARMS, DIM + 1))), LinearThompson(2, DIM + 1))
    with pytest.raises(InputError, match="strictly between 0 and 1"):
        TrustedThompson(informed(np.zeros((ARMS, DIM + 1))), plain(), 1.0)
    with pytest.raises(InputError, match="nameless 2 and 7"):
        TrustedThompson(
            informed(np.zeros((ARMS, DIM + 1))), plain(), 0.5, LinearThompson(2, DIM + 1)
        )
    with pytest.raises(InputError, match="the level's sd"):
        TrustedThompson(informed(np.zeros((ARMS, DIM + 1))), plain(), 0.5, None, (0.5, -1.0))
    bare = LinearThompson(ARMS, DIM + 1, None, 20.0, NOISE)
    with pytest.raises(InputError, match="centred payoffs"):
        TrustedThompson(Anchored(bare, np.zeros((ARMS, DIM + 1))), bare, 0.5, None, (0.5, 0.1))
    with pytest.raises(InputError, match="one number an arm"):
        Anchored(plain(), np.zeros((ARMS, DIM + 1)), np.zeros(2))


def test_anchored_without_centring_is_a_prior_mean() -> None:
    weight_KD, x_BD = world(3)
    x_BD, draw = with_one(x_BD[:30]), rng(0, "noise", 2, "t")
    one = Anchored(LinearThompson(ARMS, DIM + 1, None, 50.0, NOISE), weight_KD)
    other = LinearThompson(ARMS, DIM + 1, weight_KD, 50.0, NOISE)
    arm_B, y_B = draw.integers(ARMS, size=30), draw.normal(size=30)
    for router in (one, other):
        router.update(x_BD, arm_B, y_B)
    for mine, theirs in zip(one.posterior(x_BD), other.posterior(x_BD), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-10)
    np.testing.assert_allclose(one.probs(x_BD), other.probs(x_BD), atol=1e-6)


def test_a_constant_added_to_all_payoffs_changes_nothing() -> None:
    weight_KD, x_BD = world(4)
    x_BD, draw = with_one(x_BD[:30]), rng(0, "noise", 3, "t")
    arm_B, y_B = draw.integers(ARMS, size=30), draw.normal(size=30)
    one, other = informed(weight_KD), informed(weight_KD)
    one.update(x_BD, arm_B, y_B)
    other.update(x_BD, arm_B, y_B + 3.0)
    np.testing.assert_allclose(one.probs(x_BD), other.probs(x_BD), atol=1e-8)


def test_a_prior_that_is_right_is_not_contradicted_by_its_own_choices() -> None:
    """Noiseless payoffs from the prior's weights, best arm always pulled.

    Differences of arms stay what they are.
    """
    weight_KD, x_BD = world(5)
    weight_KD, x_BD = weight_KD - weight_KD.mean(axis=0), with_one(x_BD[:100])
    best_B = (x_BD @ weight_KD.T).argmax(axis=1)
    right, drifting = informed(weight_KD), centred_on_payoffs(weight_KD)
    for router in (right, drifting):
        router.update(x_BD, best_B, 0.5 + (x_BD @ weight_KD.T).max(axis=1))
    truth_BK = x_BD @ weight_KD.T
    truth_BK = truth_BK - truth_BK.mean(axis=1, keepdims=True)
    error = {
        r: np.abs(
            r.posterior(x_BD)[0] - r.posterior(x_BD)[0].mean(axis=1, keepdims=True) - truth_BK
        ).max()
        for r in (right, drifting)
    }
    assert error[right] < 1e-9
    assert error[drifting] > 0.05
