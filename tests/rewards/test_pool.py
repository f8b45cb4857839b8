"""The pool: lazy loading, few models at a time, de-duplication, failures as data."""

import re
import threading
import time

import numpy as np
import pytest

from reward_router.errors import InputError
from reward_router.rewards import pool as pool_module
from reward_router.rewards.kinds.python import load_python
from reward_router.rewards.noise import Noisy
from reward_router.rewards.pool import RewardPool
from reward_router.rewards.spec import ArmSpec, build_arm, check_spec
from reward_router.rewards.tiny import tiny_llama

PROMPTS = ["Say hi.", "Say bye.", "Say hi."]
RESPONSES = [["hi", "hello there", "hi"], ["bye"], ["hi", "yo"]]
LENGTH = ArmSpec("short", "metric", options={"metric": "length"})


class Given:
    """A reward model that does what it is told, and keeps what it was asked."""

    def __init__(self, answer=None):
        self.answer, self.asked = answer, []

    def score(self, prompts, responses):
        self.asked.append((list(prompts), [list(r) for r in responses]))
        if self.answer is not None:
            return self.answer(prompts, responses)
        return [[float(len(text)) for text in row] for row in responses]


def given(answer=None, **options):
    arm = Given(answer)
    return RewardPool({}, models={"arm": arm}, **options), arm


def test_scores_come_back_in_place_with_a_mask():
    result = RewardPool({"short": LENGTH}).score("short", PROMPTS, RESPONSES)
    np.testing.assert_array_equal(
        result.scores_BN, [[-1, -2, -1], [-1, np.nan, np.nan], [-1, -1, np.nan]]
    )
    np.testing.assert_array_equal(result.mask_BN, np.isfinite(result.scores_BN))
    assert (result.ok, result.error, result.n_calls, result.n_unique) == (True, None, 6, 4)


def test_equal_responses_reach_the_arm_once_and_rows_of_equal_length_together():
    pool, arm = given()
    result = pool.score("arm", PROMPTS, RESPONSES)
    assert arm.asked == [(["Say bye."], [["bye"]]), (["Say hi."], [["hi", "hello there", "yo"]])]
    np.testing.assert_array_equal(
        result.scores_BN, [[2, 11, 2], [3, np.nan, np.nan], [2, 2, np.nan]]
    )


class OwnError(Exception):
    """What only a user's own code raises."""


def raising(error):
    def answer(prompts, responses):
        raise error

    return answer


FAILURES = [
    (raising(RuntimeError("CUDA out of memory")), "RuntimeError: CUDA out of memory"),
    (raising(OwnError("no luck")), "OwnError: no luck"),
    (raising(ConnectionRefusedError("refused")), "refused"),
    (raising(MemoryError()), "MemoryError"),
    (raising(StopIteration()), "StopIteration"),
    (lambda p, r: [[1.0]], "expected"),
    (lambda p, r: [1.0, 2.0], "shape"),
    (lambda p, r: None, "TypeError|shape"),
    (lambda p, r: [["a" for _ in row] for row in r], "could not convert"),
    (lambda p, r: [[float("inf") for _ in row] for row in r], "inf"),
    (lambda p, r: [[-float("inf") for _ in row] for row in r], "inf"),
]


@pytest.mark.parametrize("timeout", [None, 5.0])
@pytest.mark.parametrize(("answer", "says"), FAILURES)
def test_a_failure_is_data_and_never_a_score(answer, says, timeout):
    pool, _ = given(answer, timeout=timeout)
    result = pool.score("arm", ["a", "b"], [["x", "y"], ["z", "w"]])
    assert (result.status, result.n_calls) == ("failed", 4)
    assert np.isnan(result.scores_BN).all()
    assert result.scores_BN.shape == (2, 2)
    assert re.search(says, result.error)
    assert "\n" not in result.error


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_a_person_may_interrupt_an_arm_and_an_arm_may_not_end_the_program(timeout):
    pool, _ = given(raising(KeyboardInterrupt()), timeout=timeout)
    with pytest.raises(KeyboardInterrupt):
        pool.score("arm", ["a"], [["x"]])
    pool, _ = given(raising(SystemExit(3)), timeout=timeout)
    result = pool.score("arm", ["a"], [["x"]])
    assert (result.status, result.error[:13]) == ("failed", "SystemExit: 3")


def test_nan_is_abstention_not_failure():
    pool, _ = given(lambda p, r: [[np.nan, 1.0], [np.nan, np.nan]])
    result = pool.score("arm", ["a", "b"], [["x", "y"], ["z", "w"]])
    assert result.ok
    assert result.abstained_B.tolist() == [False, True]


def test_too_slow_is_a_timeout_and_the_arm_stays_busy_until_it_returns():
    go_on = threading.Event()
    pool, _ = given(lambda p, r: go_on.wait(30) and [[1.0]], timeout=0.05)
    first = pool.score("arm", ["a"], [["x"]])
    again = pool.score("arm", ["a"], [["x"]])
    assert (first.status, again.status) == ("timeout", "timeout")
    assert "0.05 s" in first.error
    assert "busy" in again.error
    go_on.set()
    deadline = time.monotonic() + 20
    while pool.score("arm", ["a"], [["x"]]).status != "ok" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert pool.score("arm", ["a"], [["x"]]).scores_BN.tolist() == [[1.0]]


def test_least_recently_used_model_leaves_and_shared_models_count_once(monkeypatch):
    loaded = []
    monkeypatch.setattr(
        pool_module, "load", lambda source: loaded.append(source.model) or tiny_llama()
    )
    arm = {
        name: ArmSpec(name, "loglik", model, {"reduction": reduction})
        for name, model, reduction in [
            ("a", "A", "mean"),
            ("a2", "A", "pmi"),
            ("b", "B", "mean"),
            ("c", "C", "sum"),
        ]
    }
    pool = RewardPool(arm, resident=2)
    for name in ("a", "a2", "b", "a", "c", "a", "b"):
        assert pool.score(name, ["Hi"], [["yo"]]).ok
    assert loaded == ["A", "B", "C", "B"]
    assert pool.loads == 4


def test_arms_in_memory_come_first_and_each_model_is_loaded_once(monkeypatch):
    loaded = []
    monkeypatch.setattr(
        pool_module, "load", lambda source: loaded.append(source.model) or tiny_llama()
    )
    specs = {n: ArmSpec(n, "loglik", n[0]) for n in ("a1", "b1", "c1", "a2", "b2")}
    specs["short"] = LENGTH
    pool = RewardPool(specs, resident=1)
    pool.load("b1")
    order = pool.order(specs)
    assert order == ["b1", "b2", "short", "a1", "a2", "c1"]
    for name in order:
        assert pool.score(name, ["p"], [["x"]]).ok
    assert loaded == ["b", "a", "c"]


def test_a_model_that_cannot_be_loaded_fails_as_data_and_raises_when_asked_for_early(tmp_path):
    pool = RewardPool({"gone": ArmSpec("gone", "loglik", str(tmp_path / "nothing"))})
    result = pool.score("gone", ["a"], [["x"]])
    assert result.status == "failed"
    assert "cannot be loaded" in result.error
    with pytest.raises(InputError, match="cannot be loaded"):
        pool.load("gone")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (
            ArmSpec("x", "logprob"),
            "unknown.*allowed: classifier, embedding, gold, head, http, judge, local_judge, loglik",
        ),
        (ArmSpec("x", "loglike", "tiny"), "did you mean loglik"),
        (ArmSpec("x", "loglik"), "needs a model"),
        (ArmSpec("x", "loglik", "tiny", {"reducton": "sum"}), "did you mean reduction"),
        (ArmSpec("x", "loglik", "tiny", {"reduction": "averge"}), "reduction 'averge'"),
        (ArmSpec("x", "loglik", "tiny", {"dtype": "float31"}), "did you mean float32"),
        (ArmSpec("x", "metric", "tiny", {"metric": "length"}), "takes no model"),
        (ArmSpec("x", "metric"), "needs the option 'metric'"),
        (ArmSpec("x", "metric", options={"metric": "rouge"}), "did you mean rouge_l"),
        (ArmSpec("x", "metric", options={"metric": "length", "goal": 3}), "no option 'goal'"),
        (ArmSpec("x", "python"), "needs the option 'path'"),
    ],
)
def test_a_spec_that_cannot_be_right_is_refused_with_the_nearest_name(spec, says):
    with pytest.raises(InputError, match=says):
        check_spec(spec)
    with pytest.raises(InputError):
        RewardPool({"x": spec})


def test_wrong_requests_are_refused():
    pool, _ = given()
    with pytest.raises(InputError, match="unknown"):
        pool.score("amr", ["a"], [["x"]])
    with pytest.raises(InputError, match="1 prompts but 2 rows"):
        pool.score("arm", ["a"], [["x"], ["y"]])
    with pytest.raises(InputError, match="resident"):
        RewardPool({}, resident=0)
    with pytest.raises(InputError, match="timeout"):
        RewardPool({}, timeout=0)


def test_no_prompts_and_no_responses():
    pool, arm = given()
    assert pool.score("arm", [], []).scores_BN.shape == (0, 0)
    assert pool.score("arm", ["a"], [[]]).scores_BN.shape == (1, 0)
    assert arm.asked == []


def test_noise_is_keyed_by_what_is_scored_and_has_the_stated_spread():
    responses = [[f"r{i}" for i in range(4000)]]
    noisy, again = (
        Noisy(Given(lambda p, r: [[0.0] * len(r[0])]), 0.3, seed=1, name="a") for _ in range(2)
    )
    values = noisy.score(["p"], responses)[0]
    np.testing.assert_array_equal(values[::-1], again.score(["p"], [responses[0][::-1]])[0])
    assert abs(values.mean()) < 4 * 0.3 / 4000**0.5
    assert abs(values.std() - 0.3) < 4 * 0.3 / 8000**0.5
    other = Noisy(noisy.model, 0.3, seed=1, name="b").score(["p"], responses)[0]
    assert abs(np.corrcoef(values, other)[0, 1]) < 4 / 4000**0.5
    with pytest.raises(InputError, match="standard deviation"):
        Noisy(noisy.model, float("nan"))


def test_noise_is_an_option_of_every_arm():
    noisy = build_arm(
        ArmSpec("short", "metric", options={"metric": "length", "noise": 0.5, "noise_seed": 3})
    )
    assert isinstance(noisy, Noisy)
    assert (noisy.sd, noisy.seed, noisy.name) == (0.5, 3, "short")


def test_own_models_by_import_path(tmp_path, monkeypatch):
    (tmp_path / "my_arms.py").write_text(
        "class Count:\n    def __init__(self, letter='a'): self.letter = letter\n"
        "    def score(self, prompts, responses):\n"
        "        return [[float(r.count(self.letter)) for r in row] for row in responses]\n"
        "class Deaf:\n"
        "    pass\n"
        "class Odd:\n"
        "    def score(self, prompts): return 0\n"
        "ready = Count('b')\n"
    )
    monkeypatch.chdir(tmp_path)
    pool = RewardPool(
        {"n": ArmSpec("n", "python", options={"path": "my_arms:Count", "letter": "b"})}
    )
    assert pool.score("n", ["p"], [["abba", "a"]]).scores_BN.tolist() == [[2, 0]]
    assert load_python("my_arms:ready").score(["p"], [["b"]]) == [[1.0]]
    for path, says in [
        ("my_arms", "write package.module:Class"),
        ("my_arms:Cuont", "has no 'Cuont'"),
        ("nowhere:X", "cannot be imported"),
        ("my_arms:Deaf", "no method score"),
        ("my_arms:Odd", "must take"),
    ]:
        with pytest.raises(InputError, match=says):
            load_python(path)
    with pytest.raises(InputError, match="did you mean letter"):
        load_python("my_arms:Count", leter="b")
    with pytest.raises(InputError, match="takes no options"):
        load_python("my_arms:ready", letter="b")


def test_the_tiny_model_is_an_arm_by_name():
    pool = RewardPool(
        {"lm": ArmSpec("lm", "loglik", "tiny", {"reduction": "sum", "dtype": "bfloat16"})}
    )
    assert np.isfinite(pool.score("lm", ["Hi"], [["yo", "hello"]]).scores_BN).all()
