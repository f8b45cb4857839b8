"""A network that is a function.

Arms behind endpoints are tested without a server, a port or a wait.
"""

import json
from collections.abc import Callable
from typing import Any

import httpx


class FakeTransport(httpx.MockTransport):
    """Answers every request by ``respond(body)``.

    That is JSON, a `httpx.Response`, or an exception that is raised. ``requests`` keeps every
    request that was made, ``bodies`` their JSON. GET requests are answered 404 unless ``pages`` has
    their path.

    >>> fake = FakeTransport(lambda body: {"echo": body})
    >>> from reward_router.rewards.remote.policy import CallPolicy
    >>> from reward_router.rewards.remote.wire import Wire
    >>> [reply] = Wire("http://fake", CallPolicy(), transport=fake).post_all([[1, 2]])
    >>> reply.value, fake.bodies
    ({'echo': [1, 2]}, [[1, 2]])
    """

    def __init__(self, respond: Callable[[Any], Any], pages: dict[str, Any] | None = None) -> None:
        """``pages``: what GET finds, by path."""
        self.respond = respond
        self.pages = pages or {}
        self.requests: list[httpx.Request] = []
        self.bodies: list[Any] = []
        super().__init__(self._handle)

    def _handle(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            page = self.pages.get(request.url.path)
            if page is None:
                return httpx.Response(404)
            return httpx.Response(200, json=page)

        body = json.loads(request.content)
        self.requests.append(request)
        self.bodies.append(body)
        answer = self.respond(body)
        if isinstance(answer, Exception):
            raise answer
        # A whole response as it is, and anything else as the JSON of one that went well.
        if isinstance(answer, httpx.Response):
            return answer
        return httpx.Response(200, json=answer)


class FakeTimekeeper:
    """Time that passes only where somebody waits; ``slept`` keeps the waits.

    Jitter is always ``jitter``.
    """

    def __init__(self, jitter: float = 0.0) -> None:
        """Starts at 0."""
        self.time = 0.0
        self.jitter = jitter
        self.slept = list[float]()

    def now(self) -> float:
        """Seconds waited so far."""
        return self.time

    async def sleep(self, seconds: float) -> None:
        """No wait; the clock moves."""
        self.slept.append(seconds)
        self.time += seconds

    def draw(self) -> float:
        """The jitter."""
        return self.jitter
