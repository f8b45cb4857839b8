"""kill -9 under load with clients that retry: nothing acknowledged is lost or counts twice."""

import threading
import time
from collections import Counter

import httpx
import numpy as np
import pytest
from running import Running

from reward_router.ledger import Ledger
from reward_router.ledger.rows import Called, Decided, Paid

CLIENTS = 3


class Client(threading.Thread):
    """Judges and pays, again and again; a request without an answer is sent again as it was."""

    def __init__(self, number: int) -> None:
        super().__init__(daemon=True)
        self.number = number
        self.url = ""
        self.ending = threading.Event()
        self.judged: dict[str, bytes] = {}
        self.paid: dict[str, float] = {}
        self.wrong: list[str] = []

    def run(self) -> None:
        step = 0
        while not self.ending.is_set():
            self.one(step)
            step += 1

    def one(self, step: int) -> None:
        body = {
            "request_id": f"{self.number}-{step}",
            "step": step,
            "prompts": [f"prompt {self.number} {step}", "another one"],
            "responses": [["a", "b c d"], ["e f", "g"]],
        }
        answer = self.send("/v1/judge", body)
        if answer is None:
            return
        again = self.send("/v1/judge", body) if step % 3 == 0 else answer
        if again is not None and again != answer:
            self.wrong.append(f"{body['request_id']}: another answer")
        self.judged[body["request_id"]] = answer
        verdicts = httpx.Response(200, content=answer).json()["verdicts"]
        values = {verdict["decision_id"]: (step % 5) / 4 for verdict in verdicts}
        payoffs = [{"decision_id": name, "value": value} for name, value in values.items()]
        if self.send("/v1/payoffs", {"payoffs": payoffs}) is not None:
            self.paid |= values

    def send(self, path: str, body: object) -> bytes | None:
        """The answer, however often it takes; None where the test is over."""
        while not self.ending.is_set():
            try:
                answer = httpx.post(self.url + path, json=body, timeout=20)
            except httpx.TransportError:
                time.sleep(0.02)
                continue
            if answer.status_code != 200:
                self.wrong.append(f"{path}: {answer.status_code} {answer.text}")
                return None
            return answer.content
        return None


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_under_load(kills, config, tmp_path):
    path = tmp_path / "ledger.sqlite"
    waits = np.random.default_rng(kills).uniform(0.3, 1.5, kills)
    clients = [Client(number) for number in range(CLIENTS)]
    server = Running(config, path)
    for client in clients:
        client.url = server.url
        client.start()
    for wait in waits:
        time.sleep(wait)
        server.kill()
        server = Running(config, path)
        for client in clients:
            client.url = server.url
    time.sleep(0.5)
    for client in clients:
        client.ending.set()
    for client in clients:
        client.join(60)
        assert client.wrong == []
    # what was acknowledged is still answered so, word for word
    for client in clients:
        assert client.judged
        newest = list(client.judged)[-1]
        step = int(newest.partition("-")[2])
        client.ending.clear()
        body = {
            "request_id": newest,
            "step": step,
            "prompts": [f"prompt {client.number} {step}", "another one"],
            "responses": [["a", "b c d"], ["e f", "g"]],
        }
        assert client.send("/v1/judge", body) == client.judged[newest]
    assert server.stop() == 0
    check(path, clients)


def check(path, clients) -> None:
    with Ledger(path, readonly=True) as ledger:
        assert ledger.check().ok
        rows = list(ledger.events())
    decided = {row.seq: row for row in rows if isinstance(row, Decided)}
    id_of = {seq: row.id.hex() for seq, row in decided.items()}
    units = Counter((row.step, row.unit) for row in decided.values())
    assert set(units.values()) == {1}
    calls = Counter((row.decision, row.response) for row in rows if isinstance(row, Called))
    assert set(calls.values()) == {1}
    paid = {id_of[row.decision]: row.scaled for row in rows if isinstance(row, Paid)}
    names = {row.unit.rpartition("/")[0] for row in decided.values()}
    judged_seqs = {decision for decision, _ in calls}
    complete = {decided[seq].unit.rpartition("/")[0] for seq in judged_seqs}
    for client in clients:
        assert client.judged.keys() <= names
        assert client.judged.keys() <= complete
        assert client.paid.items() <= paid.items()
