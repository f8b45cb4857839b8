"""What a routed reward answers, without a trainer."""

import importlib
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from reward_router import Dispatcher, Session, Uniform
from reward_router.contexts import Hashing
from reward_router.errors import InputError
from reward_router.integrations.trl.reward import RoutedReward
from reward_router.testing import FakeArm

PROMPTS = ["a", "a", "b", "b"]
TEXTS = ["hello", "zzz zz", "xx", "eieio"]


class Log:
    """Keeps what a reward function tells TRL."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.extra: dict[str, list[Any]] = {}

    @property
    def reporters(self) -> dict[str, Any]:
        return {"log_metric": self.metrics.__setitem__, "log_extra": self.extra.__setitem__}


def of_arms(**arms: FakeArm) -> Session:
    return Session(Dispatcher(Uniform(len(arms)), list(arms)), arms, Hashing(8), "probe")


def test_an_order_of_rows_is_no_matter_and_a_prompt_has_one_arm() -> None:
    from tiny_trl import CONFIG

    side_by_side = RoutedReward(CONFIG, payoff="user")
    mixed = RoutedReward(CONFIG, payoff="user")
    order = [2, 0, 3, 1]
    log = Log()
    one = side_by_side(PROMPTS, TEXTS, **log.reporters)
    other = mixed([PROMPTS[i] for i in order], [TEXTS[i] for i in order], **Log().reporters)
    assert [other[order.index(i)] for i in range(4)] == pytest.approx(one)
    arms = log.extra["router_arm"]
    assert arms[0] == arms[1]
    assert arms[2] == arms[3]


def test_a_pickled_reward_draws_the_same_arms() -> None:
    from tiny_trl import CONFIG

    reward = RoutedReward(CONFIG, payoff="user")
    copy = pickle.loads(pickle.dumps(reward))
    assert copy(PROMPTS, TEXTS) == reward(PROMPTS, TEXTS)
    with pytest.raises(InputError, match="cannot go to another process"):
        pickle.dumps(RoutedReward(of_arms(x=FakeArm(len)), payoff="user"))


@pytest.mark.parametrize("failed", ["mean", "none"])
def test_where_every_arm_failed_no_completion_has_an_advantage(failed: str) -> None:
    arms = {"x": FakeArm(len, fails=["b"]), "y": FakeArm(len, fails=["b"])}
    log = Log()
    reward = RoutedReward(of_arms(**arms), payoff="user", failed=failed)
    rewards = reward(PROMPTS, TEXTS, **log.reporters)
    assert rewards[0] is not None
    assert rewards[0] != rewards[1]
    assert rewards[2:] == ([0.0, 0.0] if failed == "mean" else [None, None])
    assert log.metrics["router/unjudged_groups"] == 1


def test_the_same_prompt_twice_in_a_step_is_two_decisions() -> None:
    class State:
        global_step = 5
        log_history: list[Any] = []

    reward = RoutedReward(of_arms(x=FakeArm(len), y=FakeArm(len)), payoff="user")
    for _ in range(2):
        reward(PROMPTS, TEXTS, trainer_state=State())
    ledger = reward.session.dispatcher.ledger
    assert ledger.decisions().step.tolist() == [5] * 4
    assert len(set(ledger.decisions().unit)) == 4


def test_an_audit_pays_for_the_order_of_an_arm_outside() -> None:
    arms = {"x": FakeArm(len), "y": FakeArm(lambda text: -len(text))}
    reward = RoutedReward(of_arms(**arms), payoff="audit", audit=FakeArm(len))
    log = Log()
    reward(PROMPTS, TEXTS, **log.reporters)
    decisions = reward.session.dispatcher.ledger.decisions()
    paid = reward.session.dispatcher.ledger.payoffs().scaled
    said = [float(decisions.arms[k] == "x") for k in decisions.arm]
    np.testing.assert_allclose(np.sort(paid), np.sort(said))


def test_user_code_pays_by_decision() -> None:
    reward = RoutedReward(of_arms(x=FakeArm(len)), payoff="user")
    log = Log()
    reward(PROMPTS, TEXTS, **log.reporters)
    reward.learn({log.extra["router_decision"][0]: 0.75})
    assert reward.session.dispatcher.ledger.payoffs().scaled.tolist() == [0.75]
    with pytest.raises(InputError, match=r"payoffs: decision '0+' is not in the ledger"):
        reward.learn({"0" * 32: 0.5})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"prompts": [], "completions": []}, "prompts: none"),
        ({"prompts": PROMPTS, "completions": TEXTS[:3]}, "completions: 3 values"),
        ({"prompts": PROMPTS, "completions": TEXTS, "answer": ["1"]}, "answer: 1 values"),
        ({"prompts": PROMPTS, "completions": TEXTS, "answer": np.ones(3)}, "answer: 3 values"),
        ({"prompts": None, "completions": TEXTS}, "prompts: NoneType"),
        ({"prompts": PROMPTS, "completions": "abcd"}, "completions: str"),
        ({"prompts": ["a", "b", "b"], "completions": TEXTS[:3]}, "num_generations=1"),
        ({"prompts": ["a"] * 3, "completions": TEXTS[:3]}, "num_generations=2: .* 3 completions"),
    ],
)
def test_bad_calls_name_the_argument(given: dict[str, Any], told: str) -> None:
    size = 2 if given["prompts"] == ["a"] * 3 else None
    reward = RoutedReward(of_arms(x=FakeArm(len)), size, payoff="user")
    with pytest.raises(InputError, match=told) as caught:
        reward(**given)
    assert "\n" not in str(caught.value)
    assert len(reward.session.dispatcher.ledger.decisions().unit) == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"num_generations": "4"}, "num_generations='4'"),
        ({"num_generations": 2.5}, "num_generations=2.5"),
        ({"gold": 7}, "gold=7"),
    ],
)
def test_bad_options_name_the_argument(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        RoutedReward(of_arms(x=FakeArm(len)), payoff="user", **options)
    with pytest.raises(InputError, match="source: NoneType"):
        RoutedReward(None)


@pytest.mark.parametrize(
    ("returned", "told"),
    [(None, "NoneType"), ([1.0], "1 values"), (["yes"] * 4, "'yes'"), ([3.0, 0, 0, 1], "3.0")],
)
def test_bad_gold_is_refused_before_anything_is_recorded(returned: Any, told: str) -> None:
    reward = RoutedReward(of_arms(x=FakeArm(len)), payoff="probe", gold=lambda **_: returned)
    with pytest.raises(InputError, match=f"gold: the function returned {told}"):
        reward(PROMPTS, TEXTS)
    assert len(reward.session.dispatcher.ledger.decisions().unit) == 0


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan"), "0.5", None])
def test_a_payoff_that_is_none_changes_nothing(value: Any) -> None:
    reward = RoutedReward(of_arms(x=FakeArm(len)), payoff="user")
    log = Log()
    reward(PROMPTS, TEXTS, **log.reporters)
    good, bad = sorted(set(log.extra["router_decision"]))
    with pytest.raises(InputError, match=r"payoffs: .* for decision"):
        reward.learn({good: 0.5, bad: value})
    with pytest.raises(InputError, match="payoffs: list"):
        reward.learn([(good, 0.5)])  # type: ignore[arg-type]
    assert len(reward.session.dispatcher.ledger.payoffs().scaled) == 0


def test_the_command_lines_reward_is_configured_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiny_trl import CONFIG

    file = tmp_path / "router.yaml"
    answers = {"source": "unread.jsonl", "answer_kind": "number"}
    file.write_text(yaml.safe_dump(CONFIG | {"data": answers}), encoding="utf-8")
    name = "reward_router.integrations.trl.environment"
    monkeypatch.delenv("REWARD_ROUTER_CONFIG", raising=False)
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(InputError, match="REWARD_ROUTER_CONFIG is not set"):
        importlib.import_module(name)
    monkeypatch.setenv("REWARD_ROUTER_CONFIG", str(file))
    monkeypatch.setenv("REWARD_ROUTER_GOLD", "answer")
    monkeypatch.setenv("REWARD_ROUTER_PAYOFF", "verifier")
    monkeypatch.setenv("REWARD_ROUTER_LEDGER", str(tmp_path / "ledger.sqlite"))
    # as trl/scripts/grpo.py does: the attribute is fetched, and called by the trainer
    reward = importlib.import_module("reward_router.integrations.trl").from_env
    texts = ["so it is 4", "five", "it is 5", "I think that it is 6, or 7"]
    assert np.isfinite(reward(PROMPTS, texts, answer=["4", "4", "5", "5"])).all()
    paid = reward.session.dispatcher.ledger.payoffs().scaled
    assert len(paid) == 2
    assert set(paid) <= {0.0, 0.5, 1.0}
    with pytest.raises(InputError, match="gold='answer' is no column of the data set"):
        reward(PROMPTS, texts)
    reward.session.dispatcher.close()
