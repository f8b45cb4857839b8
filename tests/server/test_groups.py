"""A group is one decision: it closes when it is whole or when its time is over."""

import math

import pytest
from inside import Inside
from running import CONFIG

from reward_router.server.groups import Sample


@pytest.fixture
def server(tmp_path):
    path = tmp_path / "serve.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    inside = Inside(path, tmp_path / "ledger.sqlite", size=3)
    yield inside
    inside.close()


def test_a_whole_group_is_paid_by_its_labels(server):
    groups, dispatcher = server.groups, server.desk.session.dispatcher
    rewards = [groups.reward(Sample("3 + 4?", text, "7")) for text in ("7", "It is 8.", "no idea")]
    assert len({reward.decision_id for reward in rewards}) == 1
    assert groups.open == 0
    assert dispatcher.counts()["payoffs"] == 1
    [payoff] = dispatcher.ledger.payoffs().scaled
    assert payoff == float(rewards[0].arm == "short")


def test_a_group_closes_when_its_time_is_over(server):
    groups = server.groups
    first = groups.reward(Sample("3 + 4?", "7", "7"))
    server.now = 59.0
    second = groups.reward(Sample("3 + 4?", "It is 8.", "7"))
    assert second.decision_id == first.decision_id
    server.now = 60.0
    third = groups.reward(Sample("3 + 4?", "7", "7"))
    assert third.decision_id != first.decision_id
    assert server.desk.session.dispatcher.counts()["payoffs"] == 1


def test_groups_apart_by_name_and_by_prompt(server):
    groups = server.groups
    same = [groups.reward(Sample("p", "a", group=name)).decision_id for name in ("x", "y", "x")]
    assert same[0] == same[2] != same[1]
    assert groups.reward(Sample("q", "a")).decision_id not in same


def test_every_visit_of_a_prompt_is_a_decision_of_its_own(server):
    seen = [server.groups.reward(Sample("p", "a", size=1)).decision_id for _ in range(12)]
    assert len(set(seen)) == 12
    with_step = server.groups.reward(Sample("p", "a", size=1, step=4))
    assert with_step.decision_id not in seen
    # keyed by step and prompt: another run of the same seed draws the same arms
    assert with_step.decision_id.startswith(f"{4:012x}")


def test_the_share_lies_in_0_1_and_rises_with_the_reward(server):
    rewards = [server.groups.reward(Sample("p", "w " * n)) for n in range(1, 10)]
    for reward in rewards:
        assert 0.0 <= reward.share <= 1.0
        assert math.isfinite(reward.value)
    by_value = sorted(rewards, key=lambda reward: reward.value)
    shares = [reward.share for reward in by_value]
    assert shares == sorted(shares)
