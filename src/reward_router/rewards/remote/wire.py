"""Requests to one endpoint: asynchronous inside, a plain function outside.

Whatever goes wrong is said, with the URL and what came back.

One thread with an event loop serves an endpoint; `post_all` hands it a batch and waits. httpx is
imported when the first request is made.
"""

import asyncio
import importlib.util
import json
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from reward_router.errors import InputError
from reward_router.rewards.metered import ArmFailed
from reward_router.rewards.remote.policy import AGAIN, CallPolicy, Pace, RealClock, Timekeeper
from reward_router.secrecy import from_environment, hidden, shown_url

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
NO_HTTPX = (
    "arms behind an endpoint need the package httpx; install reward-router with the extra http"
)
SHOWN = 160
"""Characters of an answer that a message repeats."""
LETTERS_PER_TOKEN = 4
"""For limits and prices where a server does not count tokens itself."""
HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "User-Agent": "reward-router",
}
_DIVIDES = frozenset({400, 413, 422})
"""The request was refused for what it held."""


@dataclass(frozen=True)
class WireReply:
    """What came of one request: ``value`` (JSON) or ``error``.

    ``seconds`` from the first try to the last, waiting for a limit excluded; ``tokens_in`` and
    ``tokens_out`` as the server counts them, else reckoned from the letters.
    """

    value: Any = field(default=None, repr=False)
    error: ArmFailed | None = None
    seconds: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    tries: int = 1


class Wire:
    """One endpoint under one policy.

    ``transport`` takes the place of the network (`reward_router.testing`); ``clock`` that of time.
    """

    def __init__(
        self,
        url: str,
        policy: CallPolicy,
        key_env: str | None = None,
        *,
        transport: Any = None,
        clock: Timekeeper | None = None,
    ) -> None:
        """Sends nothing; the secret is read at the first request.

        InputError for a URL that is none.
        """
        check_url(url)
        self.url = url
        self.policy = policy
        self.key_env = key_env
        self.clock = clock or RealClock()
        self.shown = shown_url(url)
        self.requests = Pace(policy.rpm, self.clock)
        self.tokens = Pace(policy.tpm, self.clock)
        self.hung = False
        self.slowest = 0.0
        self._transport = transport
        self._free: list[httpx.AsyncBaseTransport] = []
        self._headers: dict[str, str] = {}
        # Reading a URL takes a tenth of a request's processor time.
        self._urls: dict[str, httpx.URL] = {}
        self._trusted: Any = None
        self._slots: asyncio.Semaphore | None = None
        self._secret: str | None = None
        self._portal = _Portal(f"arm at {self.shown}")

    def post_all(self, bodies: Sequence[Any], path: str = "") -> list[WireReply]:
        """One reply a body, in order; bodies are JSON values.

        It blocks; an interrupt gives up what is under way.
        """
        return self._portal.run(self._all([("POST", self.url + path, body) for body in bodies]))

    def get(self, path: str) -> Any:
        """The JSON at a path of the same host, None where there is none.

        It may not take longer than ``patience``.
        """
        import httpx

        place = str(httpx.URL(self.url).copy_with(path=path, query=None))
        [reply] = self._portal.run(self._all([("GET", place, None)]))
        return None if reply.error else reply.value

    def check(self) -> None:
        """InputError where requests cannot be made: the package httpx or the secret is missing."""
        if importlib.util.find_spec("httpx") is None:
            raise InputError(NO_HTTPX)
        from_environment(self.key_env, self.shown)

    # on the event loop

    async def _all(self, requests: Sequence[tuple[str, str, Any]]) -> list[WireReply]:
        self._open()
        batch = _Batch()
        replies = [WireReply()] * len(requests)
        waiting = iter(enumerate(requests))

        async def work() -> None:
            # All workers draw from one iterator. A task for every request would begin them all,
            # and write all their bodies, before the first one is sent.
            for place, request in waiting:
                replies[place] = await self._one(*request, batch)

        workers = min(self.policy.concurrency, len(requests))
        await asyncio.gather(*(work() for _ in range(workers)))
        return replies

    def _open(self) -> None:
        """The limits, made on their own event loop when they are first needed."""
        if self._slots is not None:
            return
        if importlib.util.find_spec("httpx") is None:
            raise InputError(NO_HTTPX)
        # Read as late as this, so that an arm can be described where its key is not set.
        self._secret = from_environment(self.key_env, self.shown)
        self._headers = dict(HEADERS)
        if self._secret:
            self._headers["Authorization"] = f"Bearer {self._secret}"
        encrypted = self.url.startswith("https:")
        self._trusted = _trusted(self.policy.ca) if encrypted else False
        self._slots = asyncio.Semaphore(self.policy.concurrency)

    def _connection(self) -> "httpx.AsyncBaseTransport":
        """A connection, of those that are free; a new one where none is."""
        if self._transport is not None:
            return self._transport  # type: ignore[no-any-return]
        if self._free:
            return self._free.pop()
        import httpx

        from reward_router.rewards.remote.connection import connection

        return connection(httpx.URL(self.url), self._trusted)

    async def _one(self, method: str, url: str, body: Any, batch: "_Batch") -> WireReply:
        """One request with its retries, inside the limits.

        It is not sent at all where the batch found nobody.
        """
        content = b"" if body is None else json.dumps(body, allow_nan=False).encode()
        reckoned = 1 + len(content) // LETTERS_PER_TOKEN
        assert self._slots is not None
        async with self._slots:
            start = self.clock.now()
            tries = 0
            while True:
                if batch.nobody is not None:
                    return WireReply(error=batch.nobody, tries=tries)
                await self.requests.take(1)
                await self.tokens.take(reckoned)
                # Waiting for a limit is none of the server's time.
                if tries == 0:
                    start = self.clock.now()
                tries += 1
                status, retry_after, reply = await self._try(method, url, content, batch)
                if status not in AGAIN or tries > self.policy.retries:
                    break
                await self.clock.sleep(self.policy.pause(tries - 1, self.clock.draw(), retry_after))
        seconds = self.clock.now() - start
        tokens_in, tokens_out = _usage(reply.value, reckoned)
        # The limit was taken from by a guess; what the server counted puts that right.
        self.tokens.correct(tokens_in + tokens_out - reckoned if reply.error is None else 0)
        return WireReply(reply.value, reply.error, seconds, tokens_in, tokens_out, tries)

    async def _try(
        self, method: str, url: str, content: bytes, batch: "_Batch"
    ) -> tuple[int, float | None, WireReply]:
        """One try: its status (0 where there was none), what Retry-After says, and the reply."""
        import httpx

        connection = self._connection()
        limit = self._limit(method)
        start = self.clock.now()
        if url not in self._urls:
            self._urls[url] = httpx.URL(url)
        where = self._urls[url]
        request = httpx.Request(method, where, headers=self._headers, content=content or None)
        try:
            # The whole is limited: a server that drips bytes would never time out otherwise.
            async with asyncio.timeout(limit):
                answer = await _exchange(connection, request)
        except (TimeoutError, httpx.TimeoutException):
            return (
                0,
                None,
                self._nobody(f"hung: no answer within {limit:g} s", batch, method, hung=True),
            )
        except httpx.TransportError as error:
            return 0, None, self._nobody(_told(error), batch, method, hung=False)
        finally:
            if connection is not self._transport:
                self._free.append(connection)
        # Somebody is there: a later silence in this batch is that request's alone.
        batch.answered = True
        if method == "POST":
            self.hung = False
            self.slowest = max(self.slowest, self.clock.now() - start)
        return answer.status_code, _retry_after(answer), self._read(answer, method)

    def _limit(self, method: str) -> float:
        """Seconds that a request may take.

        They are few where the last one hung, or where it only asks what is served.
        """
        if not self.hung and method != "GET":
            return self.policy.timeout
        # Twice the slowest answer so far: a slow server is not taken for a dead one.
        patience = max(self.policy.patience, 2 * self.slowest)
        return min(patience, self.policy.timeout)

    def _nobody(self, what: str, batch: "_Batch", method: str, *, hung: bool) -> WireReply:
        error = ArmFailed(self._hide(f"{method} {self.shown}: {what}"), away=True)
        if method == "POST":
            self.hung = self.hung or hung
            if not batch.answered:
                batch.nobody = error
        return WireReply(error=error)

    def _read(self, answer: "httpx.Response", method: str) -> WireReply:
        """The JSON of an answer, or what it was instead."""
        text = answer.text
        kind = answer.headers.get("content-type", "no content type").partition(";")[0]
        came = f"{answer.status_code} {answer.reason_phrase}".strip()
        if not answer.is_success:
            divides = answer.status_code in _DIVIDES
            return self._wrong(
                f"{method} {self.shown} answered {came}: {self._said(text)}", divides
            )
        if not text.strip():
            return self._wrong(f"{method} {self.shown} answered {came} with nothing at all")
        try:
            return WireReply(json.loads(text))
        except ValueError:
            return self._wrong(
                f"{method} {self.shown} answered {came}, {kind} instead of JSON: {self._said(text)}"
            )

    def _wrong(self, message: str, divides: bool = False) -> WireReply:
        return WireReply(error=ArmFailed(message, divides=divides))

    def _said(self, text: str) -> str:
        """The beginning of an answer, in one line, without secrets."""
        if not text.strip():
            return "nothing"
        # Hidden before it is cut: half a secret is still a secret.
        one_line = " ".join(text[: 4 * SHOWN].split())
        return repr(self._hide(one_line)[:SHOWN])

    def _hide(self, text: str) -> str:
        return hidden(text, [self._secret])

    def unreadable(self, value: Any, why: str) -> ArmFailed:
        """The failure of an answer that was JSON and yet no answer."""
        return ArmFailed(f"{self.shown}: {why}; it answered {self._said(json.dumps(value))}")


async def _exchange(
    connection: "httpx.AsyncBaseTransport", request: "httpx.Request"
) -> "httpx.Response":
    """A whole answer. A redirect is one like any other: it says that the URL is wrong."""
    answer = await connection.handle_async_request(request)
    await answer.aread()
    return answer


@dataclass
class _Batch:
    """Requests that were made together.

    Where nobody answers the first of them, the rest are not sent.
    """

    answered: bool = False
    nobody: ArmFailed | None = None


class _Portal:
    """A daemon thread with an event loop, started when it is first needed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine; an interrupt of the waiting thread cancels it."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name=self.name, daemon=True).start()
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


def check_url(url: Any) -> None:
    """InputError unless this is the URL of a web server, and one without a secret in it."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        usable = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname)
        usable = usable and parts is not None and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise InputError(
            f"url is {url!r}; the address of a server is expected, such as http://localhost:8000"
        )


def _trusted(ca: str | None) -> Any:
    """What TLS certificates are checked against: httpx's own list, or a file of the user's.

    It is one context for all connections.
    """
    import ssl

    import httpx

    try:
        if ca is None:
            return httpx.create_ssl_context()
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"calls.ca={ca!r}: no file of certificates: {error}") from None


def _told(error: "httpx.TransportError") -> str:
    """Why a connection failed: the last cause, which names certificates, hosts and refusals."""
    cause: BaseException = error
    while cause.__cause__ is not None or cause.__context__ is not None:
        cause = cause.__cause__ or cause.__context__ or cause

    # In one line; the error's own words where it has some.
    own_words = " ".join(str(error).split())
    words_of_cause = " ".join(str(cause).split())
    said = own_words or words_of_cause
    kind = type(error).__name__
    return f"{kind}: {said}" if said else kind


def _retry_after(answer: "httpx.Response") -> float | None:
    """Seconds that Retry-After names; a date is left out, few servers send one."""
    given = answer.headers.get("retry-after", "")
    try:
        return float(given)
    except ValueError:
        return None


def _usage(value: Any, reckoned: int) -> tuple[int, int]:
    """Tokens in and out as an OpenAI-compatible server counts them; else those reckoned, and 0."""
    usage = value.get("usage") if isinstance(value, dict) else None
    if not isinstance(usage, dict):
        return reckoned, 0

    def count(name: str) -> int:
        """The count of that name; 0 where the server names none, or no number."""
        tokens = usage.get(name)
        return tokens if isinstance(tokens, int) else 0

    taken = count("prompt_tokens") or count("input_tokens") or count("total_tokens")
    return taken, count("completion_tokens") or count("output_tokens")
