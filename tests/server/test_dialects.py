"""Each trainer's request, as its published client sends it, and what that client reads."""

import asyncio
import math
from pathlib import Path

import httpx
import pytest
from running import CONFIG, Running

from reward_router.ledger import Ledger

SIZE = 4


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dialects")
    path = folder / "serve.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    ledger = folder / "ledger.sqlite"
    with Running(path, ledger, "--group-size", str(SIZE)) as server:
        yield server, ledger


def decided(ledger: Path) -> list:
    with Ledger(ledger, readonly=True) as store:
        return [event for event in store.events() if type(event).__name__ == "Decided"]


def paid(ledger: Path) -> int:
    with Ledger(ledger, readonly=True) as store:
        return store.counts()["payoffs"]


def openrlhf_body(prompt: str, response: str, label: str) -> dict:
    """OpenRLHF 0.11.2, openrlhf/utils/agent.py:343-347; special tokens are kept (:285)."""
    return {"query": [f"<s>{prompt}{response}</s>"], "prompts": [prompt], "labels": [label]}


def test_openrlhf(place):
    server, ledger = place
    before, payoffs = decided(ledger), paid(ledger)
    answers = []
    for text in (" 7", " It is 8, I believe.", " 7", " No idea at all, sorry."):
        said = server.post("/get_reward", openrlhf_body("What is 3 + 4?", text, "7"))
        assert said.status_code == 200, said.text
        answers.append(said.json())
    for answer in answers:
        assert set(answer) == {"rewards", "scores", "extra_logs"}
        assert 0 <= answer["scores"][0] <= 1
        assert set(answer["extra_logs"]) == set(answers[0]["extra_logs"])
        assert all(len(values) == 1 for values in answer["extra_logs"].values())
    # one decision for the whole group, one arm, and its probe payoff when the group is whole
    group = decided(ledger)[len(before) :]
    assert len(group) == 1
    assert len({answer["extra_logs"]["router_arm_short"][0] for answer in answers}) == 1
    assert paid(ledger) == payoffs + 1
    # the next epoch's visit is another group
    server.post("/get_reward", openrlhf_body("What is 3 + 4?", " 7", "7"))
    assert len(decided(ledger)) == len(before) + 2


def test_openrlhf_by_its_own_client(place):
    agent = pytest.importorskip(
        "openrlhf.utils.agent", reason="needs OpenRLHF (make test-trainers)"
    )
    server, _ = place
    executor = agent.SingleTurnAgentExecutor([f"{server.url}/get_reward"])
    body = openrlhf_body("Say hi by its own client.", " Hi!", "")
    [answer] = asyncio.run(
        executor._fetch_rewards_via_http(body["query"], body["prompts"], body["labels"])
    )
    assert math.isfinite(answer["rewards"][0])
    assert 0 <= answer["scores"][0] <= 1


def test_slime(place):
    """slime, slime/rollout/rm_hub/__init__.py, remote_rm: one sample, answered by a number."""
    server, ledger = place
    before = len(decided(ledger))
    for text in ("a", "a b c", "a b"):
        body = {"prompt": "For slime.", "response": text, "label": None}
        assert isinstance(server.post("/slime", body).json(), float)
    assert len(decided(ledger)) == before + 1


def test_llamafactory(place):
    """LLaMA-Factory 0.9.5, llamafactory/train/ppo/ppo_utils.py:37-40."""
    server, ledger = place
    before = len(decided(ledger))
    texts = ["User: hi\nAssistant: hello", "User: count\nAssistant: one two three four five"]
    scores = server.post("/llamafactory", {"model": "model", "messages": texts}).json()["scores"]
    assert len(scores) == 2
    assert all(isinstance(score, float) for score in scores)
    assert len(decided(ledger)) == before + 2


def test_verifiers_decision_judge(place):
    """verifiers 0.4.0, verifiers/v1/judges/decision.py:49-75."""
    server, _ = place
    levels = ["Incorrect", "Partly", "Correct"]
    body = {
        "model": "typesafe-ai/jev",
        "state": {"question": "What is 3 + 4?", "response": "7", "answer": "7"},
        "questions": {
            "grade": {
                "type": "score",
                "instructions": [{"role": "user", "content": "Grade how well ..."}],
                "criteria": levels,
            }
        },
    }
    raw = server.post("/v1/decisions", body).json()
    result = raw.get("result", raw)
    score = result["answers"]["grade"]["score"] / (len(levels) - 1)
    assert 0 <= score <= 1


def test_vllm_decisions(place):
    server, _ = place
    values = [{"value": "Hi!", "description": ""}, {"value": "Hello there, friend."}]
    body = {
        "model": "any",
        "input": "Say hi.",
        "questions": [
            {"type": "choice", "instructions": "which?", "choices": values},
            {"type": "predicate", "instructions": "is it kind?"},
            {"type": "score", "instructions": "how good?", "levels": ["bad", "good"]},
        ],
    }
    choice, predicate, score = server.post("/v1/decisions", body).json()["answers"]
    assert choice["choice"] in ("Hi!", "Hello there, friend.")
    assert abs(sum(each["probability"] for each in choice["probabilities"]) - 1) < 1e-9
    assert 0 <= predicate["probability"] <= 1
    assert 0 <= score["score"] <= 1


def test_nemo_gym(place):
    server, _ = place
    body = {
        "responses_create_params": {"input": [{"role": "user", "content": "Say hi to NeMo."}]},
        "response": {
            "id": "resp_1",
            "output": [
                {"type": "reasoning", "summary": []},
                {"type": "message", "content": [{"type": "output_text", "text": "Hi!"}]},
            ],
        },
        "expected": 3,
    }
    answer = server.post("/verify", body).json()
    assert answer["response"] == body["response"]
    assert answer["expected"] == 3
    assert abs(sum(answer["reward_components"].values()) - answer["reward"]) < 1e-12


def test_the_generic_dialect_counts_a_request_once(place):
    server, ledger = place
    before = len(decided(ledger))
    body = {"prompt": "Generic.", "response": "yes", "group": "g-1", "size": 2, "request_id": "x"}
    first = server.post("/v1/reward", body)
    assert first.status_code == 200, first.text
    assert server.post("/v1/reward", body).content == first.content
    other = {**body, "request_id": "y", "response": "no"}
    assert server.post("/v1/reward", other).json()["arm"] == first.json()["arm"]
    assert len(decided(ledger)) == before + 1
    third = {**body, "request_id": "z"}
    assert server.post("/v1/reward", third).json()["decision_id"] != first.json()["decision_id"]


def test_where_every_arm_fails_trainers_get_a_neutral_reward_and_judges_none(tmp_path):
    (tmp_path / "arms_that_fail.py").write_text(
        "class Broken:\n    def score(self, prompts, responses):\n        raise OSError('away')\n"
    )
    path = tmp_path / "serve.yaml"
    path.write_text(
        "arms:\n  - {name: a, kind: python, path: 'arms_that_fail:Broken'}\n"
        "  - {name: b, kind: python, path: 'arms_that_fail:Broken'}\n"
        "context: {kind: hashing, dim: 4}\n"
    )
    import os

    found = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    with Running(path, tmp_path / "ledger.sqlite", PYTHONPATH=found) as server:
        for _ in range(4):  # before the arms rest, and while they do
            answer = server.post("/get_reward", openrlhf_body("Hi?", " Hi.", "")).json()
            assert answer["rewards"] == [0.0]
            assert answer["extra_logs"]["router_failed"] == [1.0]
            assert server.post("/slime", {"prompt": "p", "response": "r"}).json() == 0.0
            state = {"question": "q", "response": "r"}
            body = {"state": state, "questions": {"g": {"type": "predicate"}}}
            assert server.post("/v1/decisions", body).status_code == 503
        assert server.client.get("/readyz").status_code == 503
        assert server.client.get("/healthz").status_code == 200
        judged = server.post("/v1/judge", {"prompts": ["p"], "responses": [["r", "s"]]})
        assert judged.status_code in (200, 503)
        if judged.status_code == 200:
            assert judged.json()["verdicts"][0]["scores"] == [None, None]


def test_every_dialect_is_in_the_openapi(place):
    server, _ = place
    paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    spoken = {"/get_reward", "/slime", "/llamafactory", "/v1/decisions", "/verify", "/v1/reward"}
    stable = {"/v1/judge", "/v1/route", "/v1/score", "/v1/payoffs", "/healthz", "/readyz"}
    assert spoken | stable | {"/metrics"} == set(paths)
