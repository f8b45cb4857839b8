"""The server's `/v1/judge` with given contexts, asked over HTTP on this machine.

    OMP_NUM_THREADS=1 python benchmarks/serve.py [--seconds 10] [--clients 2] [--rate 300]

K = 8 metric arms, D = 384, LinUCB. The server runs in a process of its own, the clients in threads
of this one. First single decisions at the asked rate (each client sends at its own fixed times; a
request that starts late is late because the one before it was slow, and its time counts from when
it was due), then as fast as they go, then batches of 32. Prints a line and a Markdown row for each.
"""

import argparse
import http.client
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

D, K = 384, 8
RUN = "from reward_router.cli import main; main()"


def config() -> str:
    arms = []
    for k in range(K):
        direction = "long" if k % 2 else "short"
        arms.append(f"  - {{name: arm{k}, kind: metric, metric: length, direction: {direction}}}")
    return "\n".join(
        [
            "arms:",
            *arms,
            "router: {name: linucb}",
            f"context: {{kind: hashing, dim: {D}}}",
            "contexts: f32",
        ]
    )


def started(folder: Path) -> tuple[subprocess.Popen[str], str]:
    path = folder / "serve.yaml"
    path.write_text(config(), encoding="utf-8")
    words = ["serve", str(path), "--ledger", str(folder / "ledger.sqlite"), "--port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *words], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("serving"):
            return process, line.split()[1]
    raise SystemExit("the server did not start")


def bodies(rng: np.random.Generator, batch: int, count: int) -> list[bytes]:
    made = []
    for _ in range(count):
        contexts = rng.normal(size=(batch, D)) / np.sqrt(D)
        body = {
            "prompts": ["What is 3 + 4?"] * batch,
            "responses": [["7", "It is 8, I think."]] * batch,
            "contexts": contexts.round(5).tolist(),
        }
        made.append(json.dumps(body).encode())
    return made


def drive(url: str, batch: int, rate: float | None, seconds: float, number: int) -> list[float]:
    """Seconds of each request, from when it was due (with a rate) or sent."""
    took = []
    made = bodies(np.random.default_rng(number), batch, 50)
    headers = {"content-type": "application/json"}
    # the client of the standard library: a heavier one would take longer than the server
    client = http.client.HTTPConnection(url.removeprefix("http://"))

    def judge(body: bytes) -> None:
        client.request("POST", "/v1/judge", body, headers)
        answer = client.getresponse()
        said = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{answer.status}: {said.decode()}")

    for body in made[:20]:
        judge(body)
    begin = time.perf_counter()
    n = 0
    while time.perf_counter() - begin < seconds:
        due = begin + n / rate if rate else time.perf_counter()
        time.sleep(max(0.0, due - time.perf_counter()))
        judge(made[n % len(made)])
        took.append(time.perf_counter() - due)
        n += 1
    client.close()
    return took


def cpu_seconds(pid: int) -> float:
    """Of a process so far, user and system: what a crowded machine does not change much."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def together(
    server: tuple[int, str], batch: int, rate: float | None, seconds: float, clients: int
) -> str:
    pid, url = server
    before = cpu_seconds(pid)
    took: list[list[float]] = [[] for _ in range(clients)]

    def work(number: int) -> None:
        share = rate / clients if rate else None
        took[number] = drive(url, batch, share, seconds, number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = np.concatenate([np.array(each) for each in took]) * 1000
    p50, p99 = np.percentile(times, [50, 99])
    requests = len(times) / seconds
    warm_up = 20 * clients
    cpu = 1000 * (cpu_seconds(pid) - before) / (len(times) + warm_up)
    name = f"{rate:.0f}/s asked" if rate else "as fast as they go"
    print(
        f"batch {batch}, {clients} clients, {name}: {requests:.0f} requests/s, "
        f"{requests * batch:.0f} decisions/s, p50 {p50:.2f} ms, p99 {p99:.2f} ms, "
        f"{cpu:.2f} ms CPU of the server a request"
    )
    counts = f"{requests:.0f} | {requests * batch:.0f}"
    return f"| {batch} | {name} | {counts} | {p50:.2f} | {p99:.2f} | {cpu:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--rate", type=float, default=300.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        process, url = started(Path(folder))
        server = process.pid, url
        try:
            rows = [together(server, 1, asked.rate, asked.seconds, asked.clients)]
            rows.append(together(server, 1, None, asked.seconds, asked.clients))
            rows.append(together(server, 32, None, asked.seconds, asked.clients))
        finally:
            process.terminate()
            process.wait(60)
    cores = len(os.sched_getaffinity(0))
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {cores} cores, load {os.getloadavg()[0]:.1f}")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
