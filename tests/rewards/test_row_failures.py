"""Rows fail, not requests.

What an arm raises or returns for one prompt leaves the other prompts' scores as they are.
"""

import asyncio
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_router.rewards.answer import NotScores, read_score_rows
from reward_router.rewards.pool import RewardPool
from reward_router.rewards.request import MOST_REQUESTS
from reward_router.rewards.spec import ArmSpec


class Told:
    """An arm that answers as ``answer`` says and counts its requests."""

    def __init__(self, answer):
        self.answer, self.requests = answer, 0

    def score(self, prompts, responses):
        self.requests += 1
        return self.answer(prompts, responses)


def asked(answer, prompts, responses, **options):
    arm = Told(answer)
    return RewardPool({}, models={"arm": arm}, **options).score("arm", prompts, responses), arm


def lengths_but(bad):
    def answer(prompts, responses):
        if bad & set(prompts):
            raise ValueError("no answer in it")
        return [[float(len(r)) for r in row] for row in responses]

    return answer


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.data())
def test_only_the_rows_that_an_arm_cannot_answer_fail(size, data):
    prompts = [f"p{i}" for i in range(size)]
    bad = set(
        data.draw(st.lists(st.sampled_from(prompts), max_size=min(4, size - 1), unique=True))
        if size > 1
        else []
    )
    result, arm = asked(lengths_but(bad), prompts, [["a", "bb"]] * size)
    assert result.ok
    assert {prompts[b] for b in result.row_errors} == bad
    failed_B = np.array([p in bad for p in prompts])
    np.testing.assert_array_equal(np.isnan(result.scores_BN).all(axis=1), failed_B)
    np.testing.assert_array_equal(
        result.scores_BN[~failed_B], [[1.0, 2.0]] * int((~failed_B).sum())
    )
    assert not result.abstained_B.any()  # a row that failed is no abstention
    assert arm.requests <= max(1, 2 * len(bad) * (1 + math.ceil(math.log2(size))) + 8)


def test_several_bad_rows_at_the_front_do_not_take_the_others_along():
    prompts = [f"p{i}" for i in range(30)]
    result, _ = asked(lengths_but(set(prompts[:9])), prompts, [["a", "bb"]] * 30)
    assert sorted(result.row_errors) == list(range(9))


def test_a_dead_arm_is_given_up_after_a_few_requests():
    prompts = [f"p{i}" for i in range(512)]
    result, arm = asked(lengths_but(set(prompts)), prompts, [["a", "bb"]] * 512)
    assert (result.status, result.row_errors) == ("failed", {})
    assert arm.requests <= 16


def test_requests_are_bounded_whatever_fails():
    prompts = [f"p{i}" for i in range(300)]
    result, arm = asked(lengths_but(set(prompts[::2])), prompts, [["a", "bb"]] * 300)
    assert arm.requests <= MOST_REQUESTS
    answered_B = np.isfinite(result.scores_BN).all(axis=1)
    assert all((b in result.row_errors) != answered for b, answered in enumerate(answered_B))


def test_a_repeated_prompt_fails_wherever_it_stands():
    result, _ = asked(lengths_but({"b"}), ["a", "b", "a", "b"], [["x", "y"]] * 4)
    assert sorted(result.row_errors) == [1, 3]


PROMPTS, RESPONSES = ["p", "q", "r"], [["a", "bb"], ["c", "dd"], ["e", "ff"]]


def ones(made):
    return lambda p, r: made(np.ones((len(r), len(r[0]))))


GOOD = {
    "ints": ones(lambda a: a.astype(np.int8)),
    "halves": ones(lambda a: a.astype(np.float16)),
    "long doubles": ones(lambda a: a.astype(np.longdouble)),
    "bools": ones(lambda a: a.astype(bool)),
    "objects": ones(lambda a: a.astype(object)),
    "tuples": ones(lambda a: tuple(map(tuple, a))),
    "rows of arrays": ones(list),
    "fractions": lambda p, r: [[Fraction(2, 2)] * len(row) for row in r],
    "a generator of generators": lambda p, r: ((1.0 for _ in row) for row in r),
}


@pytest.mark.parametrize("name", GOOD)
def test_whatever_holds_numbers_in_the_right_shape_is_taken(name):
    result, arm = asked(GOOD[name], PROMPTS, RESPONSES)
    assert (result.ok, result.row_errors, arm.requests) == (True, {}, 1)
    np.testing.assert_array_equal(result.scores_BN, np.ones((3, 2)))


def test_tensors_of_any_type_are_taken():
    torch = pytest.importorskip("torch")
    tensor = torch.ones(3, 2)
    types = [
        torch.bfloat16,
        torch.float16,
        torch.float64,
        torch.float8_e4m3fn,
        torch.int32,
        torch.bool,
    ]
    answers = [
        *(tensor.to(dtype) for dtype in types),
        tensor.requires_grad_(),
        (tensor * 1.0).t().contiguous().t(),
        tensor.detach().to_sparse(),
        [[torch.tensor(1.0, dtype=torch.bfloat16, requires_grad=True)] * 2] * 3,
        [torch.ones(2, dtype=torch.bfloat16)] * 3,
    ]
    for answer in answers:
        result, _ = asked(lambda p, r, answer=answer: answer, PROMPTS, RESPONSES)
        np.testing.assert_array_equal(result.scores_BN, np.ones((3, 2)))
    result, _ = asked(lambda p, r: tensor.to(torch.complex64), PROMPTS, RESPONSES)
    assert "complex64" in result.error


BAD = {
    "None": (lambda p, r: None, "returned None"),
    "a trailing axis": (
        lambda p, r: np.ones((len(r), 2, 1)),
        r"shape \(3, 2, 1\), expected \(3, 2\)",
    ),
    "one flat list": (lambda p, r: [1.0] * (2 * len(r)), r"shape \(6,\), expected \(3, 2\)"),
    "one number": (lambda p, r: 1.0, "a float"),
    "texts": (lambda p, r: [["0.5"] * 2] * len(r), "could not convert"),
    "an array of texts": (lambda p, r: np.array([["0.5"] * 2] * len(r)), "real numbers"),
    "dates": (lambda p, r: np.zeros((len(r), 2), "datetime64[s]"), "real numbers"),
    "complex": (lambda p, r: [[1j] * 2] * len(r), "could not convert"),
    "mappings": (lambda p, r: [[{"score": 1.0}] * 2] * len(r), "could not convert"),
    "a mapping by prompt": (lambda p, r: dict.fromkeys(p, 1.0), "a dict"),
    "one score too few": (lambda p, r: [[1.0]] * len(r), r"shape \(1,\), expected \(2,\)"),
    "one row too few": (lambda p, r: [[1.0] * 2] * (len(r) - 1), "rows, expected"),
    "too large": (lambda p, r: [[10**400] * 2] * len(r), "could not convert"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_score_is_a_failure_that_says_what_it_is(name):
    answer, says = BAD[name]
    result, _ = asked(answer, PROMPTS, RESPONSES)
    assert result.status == "failed"
    assert np.isnan(result.scores_BN).all()
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(result.error)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ([1.0], "shape"),
        (None, "None"),
        ("12", "str"),
        ([math.inf, 1.0], "inf"),
        ([1.0, "x"], "convert"),
        ({}, "dict"),
    ],
)
def test_one_wrong_row_of_a_good_answer_fails_alone_and_without_a_second_request(wrong, says):
    result, arm = asked(
        lambda p, r: [wrong if q == "q" else [1.0, 2.0] for q in p], PROMPTS, RESPONSES
    )
    assert (list(result.row_errors), arm.requests) == ([1], 1)
    assert says in result.row_errors[1]
    np.testing.assert_array_equal(result.scores_BN, [[1.0, 2.0], [np.nan, np.nan], [1.0, 2.0]])


def test_none_in_place_of_a_score_is_an_abstention():
    result, _ = asked(lambda p, r: [[None, 1.0], [None, None], [2.0, None]], PROMPTS, RESPONSES)
    assert result.row_errors == {}
    assert result.abstained_B.tolist() == [False, True, False]


@pytest.mark.parametrize(
    "error", [SystemExit(0), MemoryError(), asyncio.CancelledError(), GeneratorExit()]
)
def test_what_ends_a_program_elsewhere_ends_only_the_row_here(error):
    def answer(prompts, responses):
        if "q" in prompts:
            raise error
        return np.zeros((len(responses), 2))

    for timeout in (None, 30.0):
        result, _ = asked(answer, PROMPTS, RESPONSES, timeout=timeout)
        assert list(result.row_errors) == [1]


def test_an_endless_answer_is_not_waited_for():
    with pytest.raises(NotScores, match="rows"):
        read_score_rows(iter(lambda: [1.0, 2.0], None), 2, 2)


def test_a_pattern_without_an_end_costs_its_row_and_no_more(monkeypatch):
    from reward_router.rewards import regex

    monkeypatch.setattr(regex, "_searcher", regex.Searcher(seconds=0.2))
    spec = ArmSpec("re", "metric", options={"metric": "regex", "pattern": "(a+)+$"})
    pool = RewardPool({"re": spec}, timeout=300.0)
    rows = [["aa", "b"], ["a" * 60 + "!", "b"], ["c", "aaa"]]
    result = pool.score("re", PROMPTS, rows)
    assert list(result.row_errors) == [1]
    assert "took" in result.row_errors[1]
    np.testing.assert_array_equal(result.scores_BN, [[1.0, 0.0], [np.nan, np.nan], [0.0, 1.0]])


def test_noise_is_added_to_whatever_an_arm_returns():
    torch = pytest.importorskip("torch")
    from reward_router.rewards.noise import Noisy

    arm = Noisy(
        Told(lambda p, r: torch.ones(3, 2, dtype=torch.bfloat16, requires_grad=True)), sd=0.0
    )
    np.testing.assert_array_equal(arm.score(PROMPTS, RESPONSES), np.ones((3, 2)))
