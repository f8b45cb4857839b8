"""A group is one decision: it closes when it is whole or when its time is over."""

import math

import pytest
from inside import Inside
from running import CONFIG

from reward_router.ledger.rows import Called
from reward_router.server.group import Sample


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


@pytest.mark.parametrize("at_once", [True, False])
def test_an_open_group_is_still_open_after_a_kill(tmp_path, at_once):
    path = tmp_path / "serve.yaml"
    path.write_text(CONFIG, encoding="utf-8")

    def started() -> Inside:
        inside = Inside(path, tmp_path / "ledger.sqlite", size=3)
        inside.desk.at_once = at_once
        return inside

    before = started()
    before.groups.reward(Sample("another prompt", "a"))
    first = before.groups.reward(Sample("3 + 4?", "7", "7"))
    # nothing is closed as a stop would close it: only what was written is there
    before.desk.ledger.close()
    after = started()
    assert after.groups.open == 2
    rewards = [after.groups.reward(Sample("3 + 4?", text, "7")) for text in ("It is 8.", "no idea")]
    assert {reward.decision_id for reward in rewards} == {first.decision_id}
    assert {reward.arm for reward in rewards} == {first.arm}
    assert after.groups.open == 1
    # its payoff is made of all three responses, the one before the kill among them
    [payoff] = after.desk.ledger.payoffs().scaled
    assert payoff == float(first.arm == "short")
    calls = [call.response for call in after.desk.ledger.events(types=[Called])]
    assert sorted(each.rpartition("/")[2] for each in calls) == ["0", "0", "1", "2"]
    after.close()
    again = started()
    assert again.groups.open == 1
    again.now = 60.0
    other = again.groups.reward(Sample("3 + 4?", "7", "7"))
    assert other.decision_id != first.decision_id
    assert again.groups.open == 1
    again.close()


def test_a_group_that_was_whole_when_the_server_was_killed_is_paid_at_the_start(tmp_path):
    path = tmp_path / "serve.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    before = Inside(path, tmp_path / "ledger.sqlite", size=2)
    before.desk.at_once = False
    before.groups._end = lambda group: None  # killed before it was paid
    first = before.groups.reward(Sample("3 + 4?", "7", "7"))
    before.groups.reward(Sample("3 + 4?", "It is 8.", "7"))
    before.desk.ledger.close()
    after = Inside(path, tmp_path / "ledger.sqlite", size=2)
    assert after.groups.open == 0
    [payoff] = after.desk.ledger.payoffs().scaled
    assert payoff == float(first.arm == "short")
    assert after.desk.ledger.named("group/", "opened") == []
    assert after.desk.ledger.named("response/", "number") == []
    after.close()
