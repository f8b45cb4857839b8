"""A server in a process of its own, on a free port of this machine, as a user starts it."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx

CONFIG = """
arms:
  - {name: short, kind: metric, metric: length, direction: short}
  - {name: long, kind: metric, metric: length, direction: long}
router: {name: linucb, warmup: 1}
context: {kind: hashing, dim: 16}
payoff: {name: probe}
data: {answer_kind: number}
"""
RUN = "from reward_router.cli import main; main()"


def command(config: Path, ledger: Path, *options: str) -> list[str]:
    words = ["serve", str(config), "--ledger", str(ledger), "--port", "0", *options]
    return [sys.executable, "-c", RUN, *words]


class Running:
    """``reward-router serve`` until `stop` or `kill`; a context manager that stops it."""

    def __init__(self, config: Path, ledger: Path, *options: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            command(config, ledger, *options),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "COLUMNS": "200", **environment},
        )
        self.said: list[str] = []
        self.url = ""
        for line in self.process.stdout:
            self.said.append(line)
            if line.startswith("serving"):
                self.url = line.split()[1]
                break
        assert self.url, "".join(self.said)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def _listen(self) -> None:
        self.said.extend(self.process.stdout)

    def post(self, path: str, body: object, **options: object) -> httpx.Response:
        return self.client.post(path, json=body, **options)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it well; its exit code."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(60)
        self._listener.join(60)
        return code

    def kill(self) -> None:
        self.process.kill()
        self.stop()

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
