"""How a good request gets through quickly: past the framework, its body read once.

FastAPI reads JSON into Python objects, validates those, and calls an endpoint through a dozen
layers; with small requests that costs as much as the work itself. Here the bytes of a request are
validated as they are read (pydantic's own JSON reader), and the endpoint is called. Whatever does
not pass, and every other path, goes FastAPI's way, so that what a refusal says is said in one
place, and OpenAPI is FastAPI's.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from reward_router.server.refusal import Refused

Endpoint = Callable[[Any], Response]
THREADS = 40
"""Requests that are worked on at once; the others wait. It is what Starlette allows."""
SHORT = 2**19
"""Bytes of a body that is soon worked on: longer ones must not keep the others waiting."""


class Shortcut:
    """ASGI: answers good requests to endpoints, which take one argument, ``body``.

    Args:
        app: what answers everything else.
        endpoints: by path.
        refused: the answer to a refusal.
        at_once: whether endpoints wait for nothing. Then a short request is worked on where it was
            read: handing it to a thread and back would cost more than it saves. Else a thread does
            it.
    """

    def __init__(
        self,
        app: Any,
        endpoints: Mapping[str, Endpoint],
        refused: Callable[[Refused], Response],
        at_once: bool,
    ) -> None:
        """One for the life of the server."""
        self.app = app
        self.refused = refused
        self._short = SHORT if at_once else 0
        self._workers = ThreadPoolExecutor(THREADS, thread_name_prefix="request")
        self._endpoints: dict[str, tuple[type[BaseModel], Endpoint]] = {}
        for path, endpoint in endpoints.items():
            self._endpoints[path] = (endpoint.__annotations__["body"], endpoint)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer the request here, or let it go on as it came."""
        if not self._may_take(scope):
            await self.app(scope, receive, send)
            return

        model, endpoint = self._endpoints[scope["path"]]
        whole = await receive()  # the gate has it in one piece
        try:
            body = model.model_validate_json(whole["body"])
        except ValidationError:
            await self.app(scope, _again(whole, receive), send)
            return

        scope["route"] = endpoint
        try:
            if len(whole["body"]) < self._short:
                answer = endpoint(body)
            else:
                loop = asyncio.get_running_loop()
                answer = await loop.run_in_executor(self._workers, endpoint, body)
        except Refused as refused:
            answer = self.refused(refused)
        await answer(scope, receive, send)

    def _may_take(self, scope: Any) -> bool:
        if scope["type"] != "http" or scope["method"] != "POST":
            return False
        # A page of a browser may send any other type to this machine without asking.
        is_json = (b"content-type", b"application/json") in scope["headers"]
        return is_json and scope["path"] in self._endpoints


def _again(message: Any, receive: Any) -> Any:
    """``receive`` with a message put back in front."""
    waiting = [message]

    async def replay() -> Any:
        return waiting.pop() if waiting else await receive()

    return replay
