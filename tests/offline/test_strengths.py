"""Laws of the strengths.

The losses are compared with loops, the numpy head with torch's; what is planted is found; who is
right is all that counts.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_router.errors import InputError
from reward_router.features import pair_rows
from reward_router.offline.balance import balanced, tuples
from reward_router.offline.learn import LearnedHead, as_strengths, bt_loss, cls_loss, seeded_head
from reward_router.offline.strengths import Strengths, dev_rows, fit_strengths, right_of

MARKS = st.lists(
    st.lists(st.sampled_from([0.0, 1.0, math.nan]), min_size=4, max_size=4), min_size=1, max_size=40
)


def planted(n: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of three kinds.

    Arm k is right on kind k nearly always, on the others on 55 %. The features are the kind, in
    noise.
    """
    draw = np.random.default_rng(seed)
    kind = draw.integers(3, size=n)
    centre = draw.normal(size=(3, 24))
    first, second = (centre[kind] + 0.5 * draw.normal(size=(n, 24)) for _ in range(2))
    right = (draw.random((n, 3)) < np.where(np.eye(3)[kind] == 1, 0.95, 0.55)).astype(float)
    return pair_rows(first, second), right, kind


def fitted(seed: int = 0, **options: object) -> Strengths:
    features, right, _ = planted(300)
    return fit_strengths(features, right, np.arange(300), dim=8, epochs=3, seed=seed, **options)


def test_planted_strengths_are_found_on_new_pairs() -> None:
    features, right, _ = planted(900)
    strengths = fit_strengths(features[:600], right[:600], np.arange(600), dim=16, epochs=30)
    h = strengths.encode(features[600:])
    test = right[600:]
    routed = test[np.arange(300), strengths.scores(h).argmax(1)].mean()
    assert routed > test.mean(0).max() + 0.1, (routed, test.mean(0))
    assert np.abs(strengths.probability(h).mean(0) - test.mean(0)).max() < 0.12
    assert routed > 0.85


def test_h_and_strengths_have_unit_norm() -> None:
    strengths = fitted()
    h = strengths.encode(planted(20)[0])
    assert h.dtype == np.float64
    assert h.shape == (20, 8)
    np.testing.assert_allclose(np.linalg.norm(h, axis=1), 1.0)
    np.testing.assert_allclose(np.linalg.norm(strengths.bt_KD, axis=1), 1.0)
    assert np.abs(strengths.scores(h)).max() <= 1 + 1e-12


def test_numpy_reads_what_torch_has_fitted() -> None:
    torch.manual_seed(1)
    head = LearnedHead(10, 6, 3)
    for parameter in head.parameters():
        parameter.data.normal_()
    x = torch.randn(7, 10)
    s, logit = head(x)
    strengths = as_strengths(head.state_dict(), np.zeros(10), np.ones(10), 0.0, 1)
    h = strengths.encode(x.numpy())
    np.testing.assert_allclose(strengths.scores(h), s.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(
        strengths.probability(h), logit.sigmoid().detach().numpy(), atol=1e-6
    )


@given(MARKS)
@settings(max_examples=30, deadline=None)
def test_losses_are_those_of_the_paper(marks: list[list[float]]) -> None:
    right = np.array(marks)
    s = np.random.default_rng(len(marks)).normal(size=right.shape)
    terms = [
        -math.log(1 / (1 + math.exp(-(s[i, n] - s[i, m]))))
        for i in range(len(right)) for n in range(4) for m in range(4) if right[i,
                                                                                n] == 1 and right[i,
                                                                                m] == 0
    ]  # fmt: skip
    got = bt_loss(torch.from_numpy(s), torch.from_numpy(tuples(right)), max(len(terms), 1))
    assert float(got) == pytest.approx(sum(terms) / max(len(terms), 1), abs=1e-9)
    each = [
        math.log1p(math.exp(-s[i, n])) if right[i, n] else math.log1p(math.exp(s[i, n]))
        for i in range(len(right)) for n in range(4) if not math.isnan(right[i, n])
    ]  # fmt: skip
    assert float(cls_loss(torch.from_numpy(s), torch.from_numpy(right), 1.0)) == pytest.approx(
        sum(each), abs=1e-9
    )


@given(MARKS, st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_balance_only_drops_and_leaves_wins_and_losses_level(
    marks: list[list[float]], seed: int
) -> None:
    right = np.array(marks)
    kept = balanced(right, seed)
    assert not (kept & ~tuples(right)).any()
    count = kept.sum(axis=0)
    assert np.abs(count.sum(axis=1) - count.sum(axis=0)).max() <= 4
    np.testing.assert_array_equal(kept, balanced(right, seed))


def test_balance_takes_an_overall_winner_s_lead_away() -> None:
    draw = np.random.default_rng(0)
    right = (draw.random((500, 3)) < [0.9, 0.6, 0.5]).astype(float)
    count = balanced(right).sum(axis=0)
    assert count.sum() > 100
    np.testing.assert_allclose(count.sum(axis=1), count.sum(axis=0), atol=3)
    before = tuples(right).sum(axis=0)
    assert before.sum(axis=1)[0] > 2 * before.sum(axis=0)[0]


def test_the_same_seed_gives_the_same_strengths_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again, other = fitted(), fitted(), fitted(seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    for name, value in first.arrays().items():
        np.testing.assert_array_equal(value, again.arrays()[name])
    assert not np.array_equal(first.bt_KD, other.bt_KD)


def test_without_cls_no_cls_row_is_trained() -> None:
    shrunk = fitted(lambda_cls=0.0, weight_decay=0.0)
    again = fitted(lambda_cls=0.0, weight_decay=0.0, lr=2e-3)
    np.testing.assert_array_equal(shrunk.cls_KD, again.cls_KD)
    assert not np.array_equal(shrunk.cls_KD, fitted(weight_decay=0.0).cls_KD)


def test_dev_rows_never_split_a_prompt() -> None:
    groups = np.random.default_rng(0).integers(40, size=300)
    dev = dev_rows(groups, 0.2)
    assert not set(groups[dev]) & set(groups[~dev])
    assert len(set(groups[dev])) == 8
    assert dev_rows(np.array([3, 9]), 0.01).sum() == 1


def test_an_arm_that_never_judged_learns_nothing_and_harms_nothing() -> None:
    features, right, _ = planted(300)
    silent = np.column_stack([right, np.full(300, np.nan)])
    strengths = fit_strengths(features, silent, np.arange(300), dim=8, epochs=3)
    assert strengths.n_arms == 4
    assert np.isfinite(strengths.scores(strengths.encode(features))).all()


def test_right_of_takes_ties_and_abstentions_out() -> None:
    got = right_of(np.array([[2.0, -1.0, 0.0, np.nan], [2.0, -1.0, 0.0, np.nan]]), [1, -1])
    np.testing.assert_array_equal(got, [[1, 0, np.nan, np.nan], [0, 1, np.nan, np.nan]])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"right_PK": np.ones((4, 3))}, "nothing to learn"),
        ({"right_PK": np.full((4, 3), 0.5)}, "0, 1 or NaN"),
        ({"right_PK": np.ones((4, 1))}, "at least 2 are needed"),
        ({"right_PK": np.ones((3, 3))}, "one length"),
        ({"features_PF": np.full((4, 5), np.nan)}, "row 0 is not"),
        ({"groups": [1, 1, 1, 1]}, "at least 2 prompts"),
        ({"dim": 1}, "dim=1: at least 2"),
        ({"dev": 1.5}, "strictly between 0 and 1"),
        ({"dev": np.ones(4, bool)}, "some rows and not all"),
        ({"lambda_cls": -1.0}, "lambda_cls=-1.0"),
    ],
)
def test_bad_input_is_one_clear_line(change: dict[str, object], said: str) -> None:
    asked: dict[str, object] = {
        "features_PF": np.eye(4, 5),
        "right_PK": np.eye(4, 3),
        "groups": np.arange(4),
    } | change
    with pytest.raises(InputError, match=said):
        fit_strengths(**asked)


def test_the_start_knows_overall_strength_and_training_cannot_lose_it_on_dev() -> None:
    draw = np.random.default_rng(0)
    features = pair_rows(draw.normal(size=(400, 12)), draw.normal(size=(400, 12)))
    right = (draw.random((400, 4)) < [0.55, 0.9, 0.6, 0.5]).astype(float)
    strengths = fit_strengths(features[:60], right[:60], np.arange(60), dim=16)
    chosen = strengths.scores(strengths.encode(features[60:])).argmax(axis=1)
    assert (chosen == 1).mean() > 0.9
    level = seeded_head(24, 16, right, 0, level=True)
    np.testing.assert_allclose(level.bt_KD.detach().sum(dim=1), 0.0, atol=1e-5)
    np.testing.assert_allclose(level.bt_KD.detach().norm(dim=1), 1.0, atol=1e-5)
