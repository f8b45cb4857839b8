"""``serve --ray`` while processes of its Ray are killed: nothing is lost or counted twice.

It needs the packages of the extra ``ray``: ``make test-ray``.
"""

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from running import Running, command

from reward_router.ledger import Ledger
from reward_router.ledger.rows import Called, Decided, Paid

pytest.importorskip("ray", reason="needs Ray: make test-ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

REQUESTS = 2000
CLIENTS = 4
CONFIG = """
arms:
  - name: large
    kind: metric
    metric: length
    direction: short
    ray: {{place: own, replicas: 2, cpus: 0.5}}
  - {{name: small, kind: metric, metric: length, direction: long}}
  - {{name: smaller, kind: metric, metric: readability}}
ray: {{name: {name}, replicas: 1, cpus: 0.5}}
router: {{name: linucb, warmup: 1, explore: 0.3}}
context: {{kind: hashing, dim: 16}}
payoff: {{name: probe}}
"""
# A Ray of its own with two workers' worth of CPUs, that gives way to nobody.
LOCAL = {"RAY_ADDRESS": "local", "RAY_worker_niceness": "0"}


class Client(threading.Thread):
    """Judges and pays; what has no answer is sent again as it was."""

    def __init__(self, number: int, url: str) -> None:
        super().__init__(daemon=True)
        self.number = number
        self.url = url
        self.answers: dict[int, bytes] = {}
        self.paid: dict[str, float] = {}
        self.wrong: list[str] = []

    def run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=300) as client:
            for step in range(self.number, REQUESTS, CLIENTS):
                self.answers[step] = self.send(client, "/v1/judge", body(step))
                verdicts = httpx.Response(200, content=self.answers[step]).json()["verdicts"]
                value = (step % 5) / 4
                payoffs = [
                    {"decision_id": each["decision_id"], "value": value} for each in verdicts
                ]
                self.send(client, "/v1/payoffs", {"payoffs": payoffs})
                self.paid |= {each["decision_id"]: value for each in verdicts}

    def send(self, client: httpx.Client, path: str, what: object) -> bytes:
        for _ in range(100):
            try:
                answer = client.post(path, json=what)
            except httpx.TransportError as error:
                self.wrong.append(f"{path}: {error!r}")
                raise
            if answer.status_code != 503:
                break
            time.sleep(0.5)
        if answer.status_code != 200:
            self.wrong.append(f"{path}: {answer.status_code} {answer.text}")
        return answer.content


def body(step: int) -> dict[str, object]:
    return {
        "request_id": f"r{step}",
        "step": step,
        "prompts": [f"prompt {step}"],
        "responses": [["a", f"b c {step}"]],
    }


def processes(server: int, title: str) -> list[int]:
    """Processes whose title begins so, of the Ray that this server started."""
    parents: dict[int, int] = {}
    titles: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            # The name of a program, in brackets, may hold spaces.
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:  # it has ended
            continue
        parents[int(entry.name)] = int(parent)
        titles[int(entry.name)] = words

    def descends(number: int) -> bool:
        while number in parents and number != server:
            number = parents[number]
        return number == server

    return [each for each, words in titles.items() if words.startswith(title) and descends(each)]


def test_killed_processes_lose_nothing_and_count_nothing_twice(tmp_path):
    name = f"test-{os.getpid()}"
    path = tmp_path / "ray.yaml"
    path.write_text(CONFIG.format(name=name), encoding="utf-8")
    ledger = tmp_path / "ledger.sqlite"
    with Running(path, ledger, "--ray", **LOCAL) as server:
        clients = [Client(number, server.url) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        victims = [
            f"ray::ServeReplica:{name}-0-large",
            "ray::Router",
            f"ray::ServeReplica:{name}-shared",
        ]
        for number, victim in enumerate(victims, 1):
            wanted = number * REQUESTS // 5
            while sum(len(client.answers) for client in clients) < wanted:
                assert any(client.is_alive() for client in clients)
                time.sleep(0.05)
            os.kill(processes(server.process.pid, victim)[0], signal.SIGKILL)
        for client in clients:
            client.join(900)
            assert client.wrong == []
            assert not client.is_alive()
        for client in clients:
            step, answer = list(client.answers.items())[-1]
            assert server.post("/v1/judge", body(step)).content == answer
        assert "reward_router_decisions_total 2000" in server.client.get("/metrics").text
        assert server.stop() == 0
    check(ledger, clients)


def check(path: Path, clients: list[Client]) -> None:
    """Every request is in the ledger once, with its calls and its payoff."""
    with Ledger(path, readonly=True) as ledger:
        assert ledger.check().ok
        rows = list(ledger.events())
    decided = {row.seq: row for row in rows if isinstance(row, Decided)}
    assert sorted(row.step for row in decided.values()) == list(range(REQUESTS))
    calls = Counter((row.decision, row.response) for row in rows if isinstance(row, Called))
    assert len(calls) == 2 * REQUESTS
    assert set(calls.values()) == {1}
    assert {row.status for row in rows if isinstance(row, Called)} == {"ok"}
    assert {row.arm for row in decided.values()} == {0, 1, 2}
    payments = [row for row in rows if isinstance(row, Paid)]
    assert len(payments) == REQUESTS
    paid = {decided[row.decision].id.hex(): row.scaled for row in payments}
    for client in clients:
        assert client.paid.items() <= paid.items()


def test_an_arm_that_cannot_be_had_is_one_line(tmp_path):
    import subprocess

    path = tmp_path / "ray.yaml"
    text = CONFIG.format(name=f"none-{os.getpid()}")
    wrong = "{name: mine, kind: python, path: 'nowhere.arms:Judge'}"
    path.write_text(text.replace("ray: {name", f"  - {wrong}\nray: {{name"), encoding="utf-8")
    words = command(path, tmp_path / "ledger.sqlite", "--ray")
    ended = subprocess.run(
        words, capture_output=True, text=True, timeout=600, env={**os.environ, **LOCAL}, check=False
    )
    assert ended.returncode == 2
    assert "'mine' cannot be built in Ray" in ended.stderr
    assert "nowhere.arms:Judge cannot be imported" in ended.stderr
    assert "Traceback" not in ended.stderr
