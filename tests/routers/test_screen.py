"""The float32 screen.

Its bounds hold against exact arithmetic, and no choice differs from the one without it.
"""

from fractions import Fraction

import numpy as np
import pytest

from reward_router.posterior import screen
from reward_router.posterior.stack import Stack
from reward_router.routers import LinUCB


def taught(dim, arms=6, rows=1200, scale=1.0, **keywords):
    """All arms past their dual form, contexts with a strong common direction."""
    rng = np.random.default_rng(dim)
    x = rng.normal(size=(rows, dim)) + 3 * rng.normal(size=dim)
    x *= scale / np.linalg.norm(x, axis=1, keepdims=True)
    router = LinUCB(arms, dim, warmup=0, **keywords)
    router.update(x, rng.integers(0, arms, rows), rng.random(rows))
    return router, x


def unscreened(router, x, monkeypatch, **keywords):
    with monkeypatch.context() as patch:
        patch.setattr(Stack, "screens", lambda self, rows: False)
        return router.probs(x, **keywords)


@pytest.fixture(autouse=True)
def small_stacks_too(monkeypatch):
    monkeypatch.setattr("reward_router.posterior.stack.CACHED", 0)


@pytest.mark.parametrize(("dim", "ridge"), [(3, 1.0), (40, 1e-3), (97, 1.0), (200, 1e-6)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_bounds_hold_in_exact_arithmetic(dim, ridge, dtype):
    scale = 1.0 if dtype == np.float64 else 0.01  # a longer context would promote float32
    router, x = taught(dim, arms=2, ridge=ridge, scale=scale, dtype=dtype)
    near_null = x[0] - x[1]  # far from what was seen: |x|'|A||x| is far above x'Ax
    rows = np.ascontiguousarray(np.stack([x[0], near_null, np.eye(dim)[0] * scale]), dtype)
    assert router.model.bounds(rows) is not None
    arms = [arm[0] for arm in router.model.arms]
    checked = screen.Screen(arms, dim)
    found, error = checked.quadratic(rows)
    assert (error < 0.1 * np.einsum("bd,bd->b", rows, rows)[:, None] / ridge).all()
    rows_BD, rows_scale = exact(rows)
    for k, arm in enumerate(arms):
        low = np.tril(arm.base_DD)
        full_DD, full_scale = exact(low + np.tril(low, -1).T)
        truth_B = (rows_BD * (rows_BD @ full_DD)).sum(axis=1)
        for b, whole in enumerate(truth_B):
            truth = Fraction(whole, full_scale * rows_scale**2)
            assert abs(Fraction(float(found[b, k])) - truth) <= Fraction(float(error[b, k]))


def exact(numbers):
    """Floats as Python's integers over one common power of two: sums and products are exact."""
    ratios = [float(v).as_integer_ratio() for v in np.ravel(numbers)]
    scale = max(below for _, below in ratios)
    whole = np.array([above * (scale // below) for above, below in ratios], dtype=object)
    return whole.reshape(np.shape(numbers)), scale


@pytest.mark.parametrize("dim", [5, 96, 150])
@pytest.mark.parametrize(
    "keywords",
    [{}, {"alpha": 0.0}, {"center": True, "intercept": 1.0}, {"alpha": 0.3, "explore": 0.1}],
)
def test_choices_are_those_of_float64(dim, keywords, monkeypatch):
    router, x = taught(dim, **keywords)
    rng = np.random.default_rng(7)
    for more in (0, 1, 50, 200):  # tails of every length, folds between
        router.update(x[:more], rng.integers(0, 6, more), rng.random(more))
        for rows in (x[:1], x[300:333]):
            assert router.model.bounds(router.model.contexts(rows)) is not None
            assert (router.probs(rows) == unscreened(router, rows, monkeypatch)).all()
            penalty = 0.2 * rng.random(6)
            assert (
                router.probs(rows, penalty)
                == unscreened(router, rows, monkeypatch, penalty_K=penalty)
            ).all()


def test_equal_arms_share_a_row_and_few_arms_left_are_read_one_by_one(monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 30)) / 6
    router = LinUCB(9, 30, warmup=0)
    good = rng.random(300)
    for arm in range(9):
        router.update(x, np.full(300, arm), 0.2 * rng.random(300) if arm < 7 else good)
    asked = []
    alone = router.model.alone
    monkeypatch.setattr(
        router.model, "alone", lambda k, rows: (asked.append((k, len(rows))), alone(k, rows))[1]
    )
    p = router.probs(x[:40])
    assert (p == unscreened(router, x[:40], monkeypatch)).all()
    shared = (p == 0.5).sum(axis=1)
    assert set(shared) <= {0, 2}
    assert (shared == 2).sum() >= 10
    assert {k for k, _ in asked} >= {7, 8}
    assert len(asked) < 9


def test_arms_that_cannot_be_told_apart_are_read_all_at_once(monkeypatch):
    x = np.random.default_rng(0).normal(size=(300, 30)) / 6
    router = LinUCB(4, 30, warmup=0)
    for arm in range(4):
        router.update(x, np.full(300, arm), np.linspace(0, 1, 300))
    monkeypatch.setattr(router.model, "alone", None)
    assert (router.probs(x) == 0.25).all()


def test_choices_after_arms_have_come_and_gone(monkeypatch):
    """The arms stay, the stack and what it copied are new."""
    router, x = taught(6)
    rng = np.random.default_rng(3)
    for change in (router.add_arm, lambda: router.remove_arm(6), lambda: router.remove_arm(0)):
        router.probs(x[:5])
        change()
        router.update(x[:3], rng.integers(0, router.n_arms, 3), rng.random(3))  # folds nothing
        assert (router.probs(x[:50]) == unscreened(router, x[:50], monkeypatch)).all()
    assert router.model.bounds(router.model.contexts(x[:2])) is not None


def test_what_float32_cannot_hold_is_left_to_float64(monkeypatch):
    router, x = taught(40, ridge=1e-60, scale=1e-31)
    x_BD = router.model.contexts(x[:9])
    _, _, high = router.model.bounds(x_BD)
    assert not np.isfinite(high).any()
    p = router.probs(x[:9])
    assert (p == unscreened(router, x[:9], monkeypatch)).all()
    assert (p.sum(axis=1) == 1).all()


def test_large_float32_states_have_no_second_copy():
    router = LinUCB(1, 2048, warmup=0, dtype=np.float32)
    assert router.model.bounds(np.zeros((2, 2048), np.float32)) is None
