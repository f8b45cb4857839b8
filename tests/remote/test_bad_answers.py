"""What can go wrong at an endpoint.

The arm fails with one line that says where and what came back, and nothing else happens.
"""

import ssl
import time

import httpx
import numpy as np
import pytest

from reward_router.errors import InputError
from reward_router.rewards.kinds.http import Http
from reward_router.rewards.kinds.judge import Judge
from reward_router.rewards.metered import ArmFailed
from reward_router.rewards.pool import RewardPool
from reward_router.rewards.spec import ArmSpec
from reward_router.testing.transport import FakeTransport

QUIET = {"canaries": 0, "retries": 0}
SAID = {
    "html": "text/html instead of JSON: '<html><body>It works!",
    "nothing": "with nothing at all",
    "broken": "instead of JSON",
    "nan": "a finite number is expected",
    "count": "2 scores for 1 responses",
    "unauthorized": "401 Unauthorized",
}


def pool_of(url, key_env=None, **calls):
    options = {"url": url, "calls": {**QUIET, **calls}, **({"key_env": key_env} if key_env else {})}
    return RewardPool({"arm": ArmSpec("arm", "http", "rm", options)})


@pytest.mark.parametrize("mode", SAID)
def test_the_failure_says_where_and_what_came_back(mode, server):
    state, url = server
    state.mode = mode
    result = pool_of(url).score("arm", ["p"], [["some response"]])
    assert result.status == "failed"
    assert np.isnan(result.scores_BN).all()
    assert f"{url}/classify" in result.error
    assert SAID[mode] in result.error
    assert "\n" not in result.error


def test_the_secret_is_sent_and_never_told(server, monkeypatch):
    state, url = server
    monkeypatch.setenv("RM_KEY", "s3cr3t-key-value")
    pool = pool_of(url, "RM_KEY")
    assert pool.score("arm", ["p"], [["fine"]]).ok
    assert state.headers[-1]["Authorization"] == "Bearer s3cr3t-key-value"
    state.mode = "unauthorized"
    result = pool.score("arm", ["p"], [["another"]])
    assert "s3cr3t" not in result.error
    assert "Incorrect API key provided: ***" in result.error


def test_a_secret_that_is_not_there_is_said_before_anything_is_sent(server, monkeypatch):
    state, url = server
    monkeypatch.delenv("RM_KEY", raising=False)
    with pytest.raises(InputError, match="RM_KEY, and this environment variable is not set"):
        pool_of(url, "RM_KEY")
    assert state.posts == 0


def test_a_refused_connection_is_a_failure_that_may_pass():
    result = pool_of("http://127.0.0.1:9").score("arm", ["p"], [["fine"]])
    assert result.away
    assert "http://127.0.0.1:9/classify: ConnectError" in result.error


def test_a_certificate_that_is_not_trusted_is_named(tmp_path):
    refused = httpx.ConnectError(
        "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate"
    )
    refused.__cause__ = ssl.SSLCertVerificationError("self-signed certificate")
    arm = Http("https://rm.example", calls=QUIET, transport=FakeTransport(lambda body: refused))
    with pytest.raises(
        ArmFailed, match=r"https://rm\.example/classify: ConnectError: .*self-signed certificate"
    ):
        arm.score(["p"], [["r"]])
    with pytest.raises(InputError, match="no file of certificates"):
        Http("https://rm.example", calls={**QUIET, "ca": str(tmp_path / "none.pem")}).score(
            ["p"], [["r"]]
        )


def test_a_hang_is_waited_for_once_and_then_with_little_patience(server):
    state, url = server
    pool = pool_of(url, timeout=0.4, patience=0.05, concurrency=2)
    state.mode = "hang"
    start = time.perf_counter()
    first = pool.score("arm", ["p"], [[f"response {n}" for n in range(20)]])
    whole = time.perf_counter() - start
    second = pool.score("arm", ["p"], [[f"again {n}" for n in range(20)]])
    assert "hung: no answer within 0.4 s" in first.error
    assert "hung: no answer within 0.05 s" in second.error
    assert state.posts <= 4  # the other 18 of a batch were not sent
    assert first.away
    assert whole < 20 * 0.4 / 2
    state.mode = "well"
    state.hang.set()
    assert pool.score("arm", ["p"], [["back"]]).ok


def test_an_answer_that_is_nonsense_is_a_failure_and_on_the_bill():
    says = {
        "choices": [{"message": {"content": "I would say 7"}}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100},
    }
    judge = Judge(
        "http://j/v1",
        "m",
        calls=QUIET,
        price={"input": 2, "output": 10},
        transport=FakeTransport(lambda body: says),
    )
    pool = RewardPool({}, models={"judge": judge})
    result = pool.score("judge", ["p"], [["a", "b"]])
    assert result.status == "failed"
    assert "wrote no JSON" in result.error
    np.testing.assert_allclose(result.price_BN, [[0.003, 0.003]])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"score": 11}', "allowed 1 to 10"),
        ('{"score": "7"}', "a number is expected"),
        ('{"grade": 7}', "gave no score"),
        ("[7]", "no object"),
        ("", "wrote nothing"),
        (None, "wrote nothing"),
    ],
)
def test_what_a_judge_may_not_say(content, said):
    says = {"choices": [{"message": {"content": content}}]}
    judge = Judge("http://j/v1", "m", calls=QUIET, transport=FakeTransport(lambda body: says))
    with pytest.raises(ArmFailed, match=said):
        judge.score(["p"], [["a"]])


def test_only_the_rows_that_fail_are_failures():
    def classify(body):
        text = body["messages"][-1]["content"]
        return (
            httpx.Response(200, text="<html>")
            if text == "bad"
            else {"data": [{"probs": [float(len(text))]}]}
        )

    arm = Http("http://rm", calls=QUIET, transport=FakeTransport(classify))
    result = RewardPool({}, models={"arm": arm}).score(
        "arm", ["p", "q"], [["one", "bad"], ["three"]]
    )
    assert result.ok
    assert list(result.row_errors) == [0]
    assert result.scores_BN[1, 0] == 5
