"""Limits, retries and cache, on a clock that passes only where somebody waits."""

import httpx
import numpy as np
import pytest

from reward_router.errors import InputError
from reward_router.rewards.kinds.http import Http
from reward_router.rewards.remote.policy import CallPolicy
from reward_router.rewards.remote.wire import Wire
from reward_router.testing.transport import FakeTimekeeper, FakeTransport


def wire_of(respond, clock=None, **policy):
    fake = FakeTransport(respond)
    return Wire(
        "http://rm", CallPolicy(**policy), transport=fake, clock=clock or FakeTimekeeper()
    ), fake


@pytest.mark.parametrize(
    ("status", "tries"), [(429, 3), (500, 3), (503, 3), (400, 1), (401, 1), (404, 1), (200, 1)]
)
def test_only_busy_and_broken_servers_are_asked_again(status, tries):
    wire, fake = wire_of(lambda body: httpx.Response(status, json={}), retries=2)
    [reply] = wire.post_all([{}])
    assert len(fake.bodies) == reply.tries == tries


@pytest.mark.parametrize("error", [httpx.ReadTimeout("slow"), httpx.ConnectError("refused")])
def test_who_does_not_answer_is_not_asked_again(error):
    wire, fake = wire_of(lambda body: error, retries=5)
    [reply] = wire.post_all([{}])
    assert reply.error.away
    assert len(fake.bodies) == 1


def test_pauses_double_and_jitter_moves_them_over_their_upper_half():
    low, high = (
        wire_of(lambda body: httpx.Response(503), FakeTimekeeper(jitter), retries=4)
        for jitter in (0.0, 1.0)
    )
    for wire, _ in (low, high):
        wire.post_all([{}])
    np.testing.assert_allclose(low[0].clock.slept, [0.25, 0.5, 1, 2])
    np.testing.assert_allclose(high[0].clock.slept, [0.5, 1, 2, 4])


def test_a_server_that_says_when_to_come_back_is_heard():
    answers = [httpx.Response(429, headers={"Retry-After": "7"}), {"fine": 1}]
    wire, _ = wire_of(lambda body: answers.pop(0))
    [reply] = wire.post_all([{}])
    assert reply.value == {"fine": 1}
    assert wire.clock.slept == [7.0]


@pytest.mark.parametrize("rpm", [1, 7, 30])
def test_no_minute_has_more_requests_than_allowed(rpm):
    moments = []
    clock = FakeTimekeeper()
    wire, _ = wire_of(lambda body: moments.append(clock.now()) or {}, clock, rpm=rpm, concurrency=1)
    wire.post_all([{}] * (3 * rpm + 1))
    for start in moments:
        assert sum(start <= moment < start + 60 for moment in moments) <= rpm
    assert moments[-1] == pytest.approx(180, abs=1)  # and no slower than that


def test_tokens_a_minute_are_counted_as_the_server_counts_them():
    clock, moments = FakeTimekeeper(), []
    answer = {"usage": {"prompt_tokens": 400, "completion_tokens": 100}}
    wire, _ = wire_of(
        lambda body: moments.append(clock.now()) or answer, clock, tpm=1000, concurrency=1
    )
    wire.post_all([{}] * 4)
    assert moments[0] == moments[1] == 0
    assert moments[2] >= 59


def test_no_more_requests_at_once_than_allowed():
    import asyncio

    now, most = 0, 0

    class Slow(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.001)
            now -= 1
            return httpx.Response(200, json={})

    Wire("http://rm", CallPolicy(concurrency=3), transport=Slow()).post_all([{}] * 20)
    assert most == 3


@pytest.mark.parametrize("kept", ["memory", "file"])
def test_what_was_paid_for_once_is_not_paid_again(kept, tmp_path):
    calls = {"cache": True if kept == "memory" else str(tmp_path / "answers.sqlite")}
    fake = FakeTransport(
        lambda body: {"data": [{"probs": [float(len(body["messages"][-1]["content"])) - 20]}]}
    )

    def arm():
        return Http("http://rm", calls=calls, price={"call": 1}, transport=fake)

    first = arm()
    before = first.score_with_bill(["p"], [["one", "three"]])
    asked = len(fake.bodies)
    again = (first if kept == "memory" else arm()).score_with_bill(["p"], [["one", "three", "new"]])
    canaries = 0 if kept == "memory" else 6
    assert len(fake.bodies) == asked + canaries + 1
    np.testing.assert_array_equal(again.scores_BN[0, :2], before.scores_BN[0])
    assert again.price_BN[0, 1] == 0
    assert again.price_BN[0, 2] == 1


def test_answers_of_another_model_are_not_taken(tmp_path):
    served, calls = [0.0], {"cache": str(tmp_path / "answers.sqlite")}
    fake = FakeTransport(
        lambda body: {"data": [{"probs": [served[0] + len(body["messages"][-1]["content"])]}]}
    )
    first = Http("http://rm", calls=calls, transport=fake).score(["p"], [["one"]])
    served[0] = 100.0
    arm = Http("http://rm", calls=calls, transport=fake)
    answer = arm.score_with_bill(["p"], [["one"]])
    assert answer.scores_BN[0, 0] == first[0, 0] + 100
    assert "scored" in answer.notices[0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"rpm": 0},
        {"concurrency": 1.5},
        {"on_drift": "panic"},
        {"retries": -1},
        {"timeout": True},
        {"tpm": "9"},
    ],
)
def test_a_policy_that_cannot_be_right_is_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        CallPolicy.of(wrong)
