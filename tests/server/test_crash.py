"""kill -9 under load with clients that retry: nothing acknowledged is lost or counts twice."""

import json
import threading
import time
from collections import Counter, defaultdict

import httpx
import numpy as np
import pytest
from inside import Inside
from running import CONFIG, Running

from reward_router.ledger import Ledger
from reward_router.ledger.rows import Called, Decided, Paid
from reward_router.verdicts.scale import ScoreScale

CLIENTS = 3
GROUP = 4
# Arms that answer at once: one commit a request. One that may take its time: a commit a stage.
ARMS = {"at once": CONFIG, "in stages": CONFIG.replace("metric: length", "metric: rouge_l", 1)}
ARMS["in stages"] = ARMS["in stages"].replace("rouge_l, direction: short", "rouge_l")


class Client(threading.Thread):
    """Asks again and again; a request without an answer is sent again as it was."""

    def __init__(self, number: int) -> None:
        super().__init__(daemon=True)
        self.number = number
        self.http = httpx.Client(timeout=20)
        self.url = ""
        self.ending = threading.Event()
        self.answered: dict[str, tuple[str, object, bytes]] = {}
        self.retries = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        step = 0
        while not self.ending.is_set():
            self.one(step)
            step += 1

    def one(self, step: int) -> None:
        raise NotImplementedError

    def ask(self, path: str, body: dict[str, object]) -> dict | None:
        """The answer, kept under the request's id; None where the test is over."""
        content = self.send(path, body)
        if content is None:
            return None
        self.answered[str(body["request_id"])] = path, body, content
        return json.loads(content)

    def send(self, path: str, body: object) -> bytes | None:
        """The answer, however often it takes; None where the test is over."""
        while not self.ending.is_set():
            try:
                answer = self.http.post(self.url + path, json=body)
            except httpx.TransportError:
                self.retries += 1
                time.sleep(0.02)
                continue
            if answer.status_code != 200:
                self.wrong.append(f"{path}: {answer.status_code} {answer.text}")
                return None
            return answer.content
        return None


class Judging(Client):
    """Judges two prompts and pays for both."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.paid: dict[str, float] = {}

    def one(self, step: int) -> None:
        body = {
            "request_id": f"{self.number}-{step}",
            "step": step,
            "prompts": [f"prompt {self.number} {step}", "another one"],
            "responses": [["a", "b c d"], ["e f", "g"]],
        }
        answer = self.ask("/v1/judge", body)
        if answer is None:
            return
        values = {verdict["decision_id"]: (step % 5) / 4 for verdict in answer["verdicts"]}
        payoffs = [{"decision_id": name, "value": value} for name, value in values.items()]
        if self.send("/v1/payoffs", {"payoffs": payoffs}) is not None:
            self.paid |= values


class Grouping(Client):
    """Sends the responses of a group one by one."""

    def one(self, step: int) -> None:
        for n in range(GROUP):
            body = {
                "request_id": f"{self.number}-{step}-{n}",
                "prompt": f"prompt {step}",
                "response": "word " * (n + 1),
                "group": f"group {step}",
                "size": GROUP,
                "step": step,
            }
            if self.ask("/v1/reward", body) is None:
                return


@pytest.mark.parametrize(
    ("kills", "arms"),
    [
        (2, "at once"),
        pytest.param(2, "in stages", marks=pytest.mark.slow),
        pytest.param(20, "at once", marks=pytest.mark.slow),
        pytest.param(20, "in stages", marks=pytest.mark.slow),
    ],
)
def test_killed_under_load(kills, arms, tmp_path):
    config, path = tmp_path / "serve.yaml", tmp_path / "ledger.sqlite"
    config.write_text(ARMS[arms], encoding="utf-8")
    waits = np.random.default_rng(kills).uniform(0.3, 1.5, kills)
    judging = [Judging(number) for number in range(CLIENTS)]
    # A reward in stages that was not acknowledged counts as another response of its group.
    grouping = [Grouping(CLIENTS)] if arms == "at once" else []
    clients = [*judging, *grouping]
    server = Running(config, path)
    for client in clients:
        client.url = server.url
        client.start()
    for wait in waits:
        until_answered(clients)
        time.sleep(wait)
        server.kill()
        server = Running(config, path)
        for client in clients:
            client.url = server.url
    until_answered(clients)
    for client in clients:
        client.ending.set()
    for client in clients:
        client.join(60)
        assert client.wrong == []
        assert client.answered
    assert sum(client.retries for client in clients) >= kills

    # what was acknowledged is still answered so, word for word, and asks and writes nothing
    before = written(path)
    for client in clients:
        client.ending.clear()
        for request_path, body, content in client.answered.values():
            assert client.send(request_path, body) == content
    assert written(path) == before
    assert server.stop() == 0
    print(f"{arms}: {kills} kills, {sum(len(c.answered) for c in clients)} requests acknowledged")
    check(path, judging, grouping)


def until_answered(clients: list[Client]) -> None:
    """Wait until every client was answered once more, so that there is load, however slow."""
    before = [len(client.answered) for client in clients]
    while any(len(c.answered) == n and not c.wrong for c, n in zip(clients, before, strict=True)):
        time.sleep(0.02)


def written(path) -> int:
    with Ledger(path, readonly=True) as ledger:
        return ledger.last_seq


def check(path, judging, grouping) -> None:
    with Ledger(path, readonly=True) as ledger:
        assert ledger.check().ok
        arms = ledger.meta("binding")["arms"]
        rows = list(ledger.events())
    decided = {row.id.hex(): row for row in rows if isinstance(row, Decided)}
    paid = defaultdict(list)
    calls = defaultdict(dict)
    for row in rows:
        if isinstance(row, Paid):
            paid[row.decision].append(row.scaled)
        if isinstance(row, Called):
            number = int(row.response.rpartition("/")[2])
            # no response of a decision was asked about twice, acknowledged or not
            assert number not in calls[row.decision]
            calls[row.decision][number] = row
    units = Counter((row.step, row.unit) for row in decided.values())
    assert set(units.values()) == {1}
    assert {len(values) for values in paid.values()} == {1}
    assert any(client.paid for client in judging)

    for client in judging:
        for request_id, (_, body, content) in client.answered.items():
            for n, verdict in enumerate(json.loads(content)["verdicts"]):
                row = decided[verdict["decision_id"]]
                assert (row.step, row.unit) == (body["step"], f"{request_id}/{n}")
                assert (arms[row.arm], row.propensity) == (verdict["arm"], verdict["propensity"])
                said = calls[row.seq]
                assert [said[i].score for i in range(len(said))] == verdict["scores"]
        for name, value in client.paid.items():
            assert paid[decided[name].seq] == [value]

    for client in grouping:
        groups = defaultdict(list)
        for request_id, (_, _, content) in client.answered.items():
            groups[request_id.rpartition("-")[0]].append(json.loads(content))
        for rewards in groups.values():
            # one group, one decision, however often the server was killed meanwhile
            assert len({reward["decision_id"] for reward in rewards}) == 1
            said = calls[decided[rewards[0]["decision_id"]].seq]
            assert [said[i].score for i in range(len(rewards))] == [r["score"] for r in rewards]
            assert len(said) - len(rewards) in ((0,) if len(rewards) == GROUP else (0, 1))


def test_a_full_disk_is_a_503_and_the_server_goes_on_when_there_is_room(tmp_path):
    config, path = tmp_path / "serve.yaml", tmp_path / "ledger.sqlite"
    config.write_text(CONFIG, encoding="utf-8")
    server = Inside(config, path)
    assert server.desk.at_once
    body = {"prompts": ["Say hi."], "responses": [["hi", "hello there " * 40]], "gold": [[1, 0]]}
    assert server.post("/v1/judge", body).status_code == 200
    pages = server.desk.ledger.query("PRAGMA page_count")[0][0]
    server.desk.ledger.query(f"PRAGMA max_page_count={pages + 2}")
    before, answer = 0, None
    for step in range(1000):
        before = server.events
        answer = server.post("/v1/judge", {**body, "request_id": f"{step}-" + "x" * 150})
        if answer.status_code != 200:
            break
    assert answer.status_code == 503
    assert "no room" in answer.json()["error"]
    server.desk.ledger.query("PRAGMA max_page_count=1000000")
    again = server.post("/v1/judge", {**body, "request_id": "with room"})
    assert again.status_code == 200
    # a decision, two calls, a payoff and a label: nothing of the refused request is left
    assert server.events == before + 5
    scales = ScoreScale.of(server.desk.ledger)
    for arm in ("short", "long"):
        known_N = server.desk.session.scale.calibrated(arm, np.array([1.0, 2.0]))
        np.testing.assert_array_equal(known_N, scales.calibrated(arm, np.array([1.0, 2.0])))
    server.close()
    with Ledger(path, readonly=True) as ledger:
        assert ledger.check().ok
