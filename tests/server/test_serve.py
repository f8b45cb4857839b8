"""``reward-router serve`` as a user starts it: judged, paid, stopped, started again, killed."""

import signal

import httpx
from running import Running

from reward_router.ledger import Ledger

BODY = {
    "request_id": "first",
    "step": 3,
    "prompts": ["What is 3 + 4?", [{"role": "user", "content": "Say hi."}]],
    "ids": ["sum", "hi"],
    "responses": [["7", "It is 8, I think."], ["Hi!", "Hello there, my friend."]],
}


def events(path) -> list:
    with Ledger(path, readonly=True) as ledger:
        return list(ledger.events())


def test_judged_paid_stopped_and_started_again(config, tmp_path):
    path = tmp_path / "made" / "ledger.sqlite"
    with Running(config, path) as server:
        judged = server.post("/v1/judge", BODY)
        assert judged.status_code == 200, judged.text
        verdicts = judged.json()["verdicts"]
        assert [verdict["id"] for verdict in verdicts] == ["sum", "hi"]
        for verdict in verdicts:
            sign = 1 if verdict["arm"] == "long" else -1
            assert sign * (verdict["scores"][1] - verdict["scores"][0]) > 0
            assert verdict["ranking"] == ([1, 0] if sign > 0 else [0, 1])
            assert 0 < verdict["propensity"] <= 1
        ids = [verdict["decision_id"] for verdict in verdicts]
        payoffs = [{"decision_id": ids[0], "value": 1.0}, {"decision_id": ids[1], "value": 0.25}]
        assert server.post("/v1/payoffs", {"payoffs": payoffs}).json() == {"new": [True, True]}
        assert server.stop() == 0
    before = events(path)
    with Running(config, path) as server:
        assert server.post("/v1/judge", BODY).content == judged.content
        assert server.post("/v1/payoffs", {"payoffs": payoffs}).json() == {"new": [False, False]}
        other = server.post("/v1/payoffs", {"payoffs": [{**payoffs[0], "value": 0.5}]})
        assert other.status_code == 409
        assert other.json()["field"] == "payoffs.0.value"
        assert server.stop(signal.SIGINT) == 0
    assert events(path) == before


def test_a_killed_server_goes_on_as_the_one_that_was_not(config, tmp_path):
    def drive(path, killed: bool) -> tuple[list, list]:
        answers = []
        server = Running(config, path)
        for step in range(4):
            if killed and step % 2:
                server.kill()
                server = Running(config, path)
            body = {**BODY, "request_id": f"r{step}", "step": step}
            answers.append(server.post("/v1/judge", body).content)
            ids = [
                each["decision_id"] for each in server.post("/v1/judge", body).json()["verdicts"]
            ]
            payoffs = [{"decision_id": name, "value": -2.5 * step} for name in ids]
            said = server.post("/v1/payoffs", {"payoffs": payoffs, "raw": True, "source": "loss"})
            assert said.json() == {"new": [True, True]}
        server.stop()
        kept = [event for event in events(path) if type(event).__name__ != "Called"]
        return answers, kept

    assert drive(tmp_path / "killed", True) == drive(tmp_path / "calm", False)


def test_routed_by_the_server_and_scored_apart(server):
    routed = server.post("/v1/route", {"request_id": "apart", "prompts": ["Count."], "step": 1})
    [decision] = routed.json()["decisions"]
    assert decision["arm"] in routed.json()["arms"] == ["short", "long"]
    assert abs(sum(decision["probs"]) - 1) < 1e-12
    body = {"prompts": ["Count."], "responses": [["one two", "one"]]}
    by_decision = {**body, "decision_ids": [decision["decision_id"]]}
    by_name = {**body, "arm": decision["arm"]}
    [first] = server.post("/v1/score", by_decision).json()["scores"]
    [second] = server.post("/v1/score", by_name).json()["scores"]
    assert first["scores"] == second["scores"]
    assert first["arm"] == decision["arm"]
    again = server.post("/v1/route", {"request_id": "apart", "prompts": ["Count."], "step": 1})
    assert again.content == routed.content


def test_gold_pays_at_once_where_the_payoff_is_made_of_it(server):
    body = {"prompts": ["2 + 2?"], "responses": [["4", "It is five."]], "gold": [[1, 0]]}
    [verdict] = server.post("/v1/judge", body).json()["verdicts"]
    assert verdict["payoff"] == float(verdict["arm"] == "short")


def test_it_says_how_it_is(server):
    assert server.client.get("/healthz").json() == {"status": "ok"}
    assert server.client.get("/readyz").json() == {"status": "ready"}
    figures = server.client.get("/metrics").text
    assert 'reward_router_requests_total{path="/healthz",status="200"}' in figures
    assert 'reward_router_arm_resting{arm="short"} 0' in figures


def test_a_second_writer_of_the_ledger_is_refused(config, tmp_path):
    import subprocess

    from running import command

    with Running(config, tmp_path / "ledger.sqlite"):
        second = subprocess.run(
            command(config, tmp_path / "ledger.sqlite"), capture_output=True, text=True, check=False
        )
    assert second.returncode == 1
    assert "already open for writing" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_token_is_asked_for_where_there_is_one(config, tmp_path):
    options = ("--token-env", "A_TOKEN")
    with Running(config, tmp_path / "ledger.sqlite", *options, A_TOKEN="right-one") as server:
        for headers in ({}, {"Authorization": "Bearer wrong-one"}, {"Authorization": "right-one"}):
            refused = server.post("/v1/judge", BODY, headers=headers)
            assert refused.status_code == 401
            assert "token" in refused.json()["error"]
            assert httpx.get(f"{server.url}/metrics", headers=headers).status_code == 401
        assert events(tmp_path / "ledger.sqlite") == []
        assert server.client.get("/healthz").status_code == 200
        right = {"Authorization": "Bearer right-one"}
        assert server.post("/v1/judge", BODY, headers=right).status_code == 200
        assert not any("right-one" in line for line in server.said)
