"""What asking an endpoint costs beside its own latency.

`python benchmarks/endpoints.py [throughput|cache|breaker]`. throughput: 64 scorings at a time
against a server of 50 ms latency, beside the ideal (scorings / 64 x 50 ms). The server is a process
of its own (asyncio, no framework), or a function inside this one, which shows what the client alone
takes. cache: seconds of an answer that was paid for before. breaker: a run of 200 steps, 8
decisions each, over four arms of which one hangs from the first step on; the share of the run's
time that was spent waiting for it.
"""

import asyncio
import json
import multiprocessing
import sys
import tempfile
import time

import httpx
import numpy as np

from reward_router import Dispatcher, LinUCB
from reward_router.dispatch import BreakerRule
from reward_router.rewards.kinds.http import Http
from reward_router.session import Batch, Session

LATENCY, AT_ONCE, SCORINGS = 0.05, 64, 1920
GENERIC = {"dialect": "generic", "request": {"r": "{response}"}, "answer": "score", "raw": False}
LISTS = {"dialect": "generic", "request": {"r": "{responses}"}, "answer": "scores[*]", "raw": False}


async def answer(reader, writer) -> None:
    """HTTP/1.1 keep-alive, one JSON answer a POST after the latency."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = (
                int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                if b"ontent-" in head
                else 0
            )
            body = json.loads(await reader.readexactly(length)) if length else {}
            await asyncio.sleep(LATENCY)
            many = isinstance(body.get("r"), list)
            said = (
                {"scores": [1.0 * len(r) for r in body["r"]]}
                if many
                else {"score": 1.0 * len(body.get("r", ""))}
            )
            content = json.dumps(said).encode()
            head = (
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(content)}\r\n\r\n"
            )
            writer.write(head.encode() + content)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def serve(port) -> None:
    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=512)
        port.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


class Inside(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request):
        body = json.loads(await request.aread())
        await asyncio.sleep(LATENCY)
        return httpx.Response(200, json={"score": 1.0 * len(body["r"])})


def throughput() -> None:
    port = multiprocessing.Queue()
    process = multiprocessing.Process(target=serve, args=(port,), daemon=True)
    process.start()
    url = f"http://127.0.0.1:{port.get()}"
    calls = {"concurrency": AT_ONCE, "canaries": 0, "cache": False}
    ways = {
        "one response a request, a server beside": (Http(url, calls=calls, **GENERIC), SCORINGS),
        "one response a request, no network": (
            Http("http://x", calls=calls, transport=Inside(), **GENERIC),
            SCORINGS,
        ),
        "32 responses a request, a server beside": (Http(url, calls=calls, **LISTS), SCORINGS * 32),
    }
    for name, (arm, count) in ways.items():
        batch = 32 if "32" in name else 1
        arm.score(
            ["p"], [[f"warm {n}" for n in range(AT_ONCE * batch)]]
        )  # connections are open from here on
        texts = [f"response number {n}" for n in range(count)]
        ideal = count / batch / AT_ONCE * LATENCY
        wall, cpu = time.perf_counter(), time.process_time()
        scores = arm.score(["p"], [texts])
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        assert (scores == [[len(text) for text in texts]]).all()
        requests = count // batch
        print(f"{name}: {count} scorings in {wall:.2f} s, ideal {ideal:.2f} s: "
              f"{ideal / wall:.1%} of ideal; "
              f"{1e3 * cpu / requests:.2f} ms of this processor a request")  # fmt: skip
    process.kill()


def cache() -> None:
    texts = [f"response number {n}" for n in range(2000)]
    for name, where in (("memory", True), ("file", f"{tempfile.mkdtemp()}/answers.sqlite")):
        arm = Http(
            "http://x",
            calls={"concurrency": 512, "canaries": 0, "cache": where},
            transport=Inside(),
            **GENERIC,
        )
        arm.score(["p"], [texts])
        start = time.perf_counter()
        arm.score(["p"], [texts])
        print(
            f"cache in {name}: {1e6 * (time.perf_counter() - start) / len(texts):.0f} "
            "microseconds a hit"
        )


class Working:
    """An arm of this machine that takes a while."""

    def score(self, prompts, responses):
        return [[float(len(text)) for text in row] for row in responses]


class Hanging(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request):
        await asyncio.sleep(3600)


def breaker(
    steps: int = 200,
    decisions: int = 8,
    step_seconds: float = 30.0,
    timeout: float = 60.0,
    scale: float = 5.0,
) -> None:
    """Time is divided by ``scale``: timeout, patience and a step's own work alike."""
    calls = {"timeout": timeout / scale, "patience": 1.0 / scale}
    names = ["hangs", "one", "two", "three"]
    hanging = Http("http://hangs", calls=calls, transport=Hanging())
    models = {name: hanging if name == "hangs" else Working() for name in names}
    draw, waited, asked = np.random.default_rng(0), 0.0, 0
    dispatcher = Dispatcher(LinUCB(4, 8), names, breaker=BreakerRule())
    session = Session(dispatcher, models, payoff="probe")
    for t in range(steps):
        batch = Batch(t, [f"p{t}-{i}" for i in range(decisions)],
                      [f"u{i}" for i in range(decisions)], [["a", "bb"]] * decisions,
                      gold=draw.permuted([[0.0, 1.0]] * decisions, axis=1),
                      contexts=draw.normal(size=(decisions, 8)))  # fmt: skip
        session.judge(batch)
        session.learn(batch)
        waited += batch.verdicts.seconds.get("hangs", 0.0) * scale
        asked += "hangs" in batch.verdicts.seconds
    dispatcher.close()
    run = steps * step_seconds + waited
    print(
        f"breaker: {steps} steps of {step_seconds:g} s, timeout {timeout:g} s: "
        f"asked in {asked} steps, {waited:.0f} s of {run:.0f} s lost to the endpoint that hangs: "
        f"{waited / run:.2%}"
    )


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["throughput", "cache", "breaker"]
    for name in wanted:
        {"throughput": throughput, "cache": cache, "breaker": breaker}[name]()
