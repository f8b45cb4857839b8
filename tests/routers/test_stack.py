"""Arms read side by side against the same arms read one by one, and the storage both share."""

import numpy as np
import pytest

from reward_router.posterior import blas, stack
from reward_router.routers import LinearThompson, LinUCB


def taught(dim, arms=5, seed=0, rows=900, **keywords):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, dim)) + 2 * rng.normal(size=dim)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    router = LinUCB(arms, dim, ridge=0.1, warmup=0, **keywords)
    router.update(x, rng.integers(0, arms, rows), rng.random(rows))
    return router, x


def one_by_one(model, x):
    """Every arm asked by itself: (means, sds) (B, K)."""
    found = [model._component_moments(arm[0], x) for arm in model.arms]
    return np.stack([mean for mean, _ in found], 1), np.stack([sd for _, sd in found], 1)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("dim", [8, 67, 150])
@pytest.mark.parametrize(
    "keywords", [{}, {"center": True, "intercept": 1.0}, {"dtype": np.float32}]
)
def test_arms_side_by_side_read_what_each_reads_alone(wide, dim, keywords, monkeypatch):
    monkeypatch.setattr(stack, "WIDE", 0 if wide else 10**12)
    router, x = taught(dim, **keywords)
    near = 1e-4 if "dtype" in keywords else 1e-11
    rng = np.random.default_rng(1)
    for more in (0, 1, 40, 90):  # nothing new, a row in a tail, folds of one arm or more
        router.update(x[:more], rng.integers(0, 5, more), rng.random(more))
        for rows in (1, 7):
            got = router.posterior(x[:rows])
            assert [stacked.wide for stacked in router.model._stacks] == [wide]
            want = one_by_one(router.model, router.model.contexts(x[:rows]))
            np.testing.assert_allclose(got, want, rtol=near, atol=near)


def test_arms_that_come_and_go_leave_and_rejoin_the_stack():
    router, x = taught(50)
    before = router.posterior(x[:4])
    router.add_arm()
    assert not router.model._stacked()  # the new arm is in its dual form
    np.testing.assert_allclose([m[:, :5] for m in router.posterior(x[:4])], before, rtol=1e-11)
    router.remove_arm(5)
    assert router.model._stacked()
    np.testing.assert_allclose(router.posterior(x[:4]), before, rtol=1e-11)


def test_a_read_decides_nothing_about_what_is_stored():
    """One router is read after every row, so its arms join the stack at once.

    The other is read only at the end.
    """
    (read, x), (unread, _) = taught(60, rows=250), taught(60, rows=250)
    rng = np.random.default_rng(3)
    for i in range(200):
        arm, payoff = rng.integers(0, 5, 1), rng.random(1)
        read.probs(x[i : i + 1])
        read.probs(x[:3])
        for router in (read, unread):
            router.update(x[i : i + 1], arm, payoff)
    assert all(
        read.state_dict()[name].tobytes() == value.tobytes()
        for name, value in unread.state_dict().items()
    )
    assert (read.probs(x) == unread.probs(x)).all()


def test_two_components_have_a_stack_each():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 40)) / 7
    router = LinearThompson(
        3, 40, rng.normal(size=(3, 40)), trust=0.5, trust_precision=4.0, noise_sd=0.3
    )
    router.update(x, rng.integers(0, 3, 600), rng.random(600))
    mean, sd, _ = router.model.components(x[:5])
    assert len(router.model._stacks) == 2
    for c in range(2):
        for k, arm in enumerate(router.model.arms):
            want = router.model._component_moments(arm[c], x[:5])
            np.testing.assert_allclose((mean[:, k, c], sd[:, k, c]), want, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("dim", [1, 5, 64, 129])
def test_a_triangle_is_packed_and_unpacked(dim):
    full_DD = np.random.default_rng(dim).normal(size=(dim, dim))
    full_DD = full_DD + full_DD.T
    packed = blas.packed(np.asfortranarray(full_DD))
    assert packed.shape == (dim * (dim + 1) // 2,)
    lower_DD = blas.unpacked(packed, dim)
    assert lower_DD.flags.f_contiguous
    assert (lower_DD == np.tril(full_DD)).all()


def test_blas_runs_on_one_thread_inside_a_call_and_as_before_outside():
    found = blas._openblas()
    if not found:
        pytest.skip("NumPy and SciPy carry no OpenBLAS here")
    before = [get() for get, _ in found]
    try:
        for _, put in found:
            put(2)
        several = [get() for get, _ in found]
        with blas.one_thread():
            assert [get() for get, _ in found] == [1] * len(found)
        assert [get() for get, _ in found] == several
    finally:
        for (_, put), count in zip(found, before, strict=True):
            put(count)


@pytest.mark.parametrize("rows", [3, 900])
def test_a_state_with_whole_matrices_loads_as_one_with_triangles(rows):
    """As states were written before triangles were packed; dual arms have no matrix."""
    router, x = taught(60, rows=rows)
    state = router.state_dict()
    for k in range(5):
        packed = state.pop(f"{k}/0/base_P")
        state[f"{k}/0/base_DD"] = blas.unpacked(packed, 60) if len(packed) else np.empty((0, 60))
    again = LinUCB(5, 60, ridge=0.1, warmup=0)
    again.load_state_dict(state)
    assert (again.probs(x[:9]) == router.probs(x[:9])).all()
    assert all(
        again.state_dict()[name].tobytes() == value.tobytes()
        for name, value in router.state_dict().items()
    )
