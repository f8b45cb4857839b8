"""What every request passes before anything else: its token, its size, and that it is text."""

import hmac
import json
import re
from typing import Any

from reward_router.reading.json_rows import half_surrogate
from reward_router.strict_json import dumps

OPEN = ("/healthz", "/readyz")
"""Paths that need no token: they say nothing of what is judged."""
_PERHAPS_HALF = re.compile(rb"\\u[dD][89abAB]|\\u[dD][c-fC-F]")
"""An escape that is half of a surrogate pair; whether the other half is there, JSON tells."""


class Gate:
    """ASGI: refuses a request without the token (401), of a larger body (413), or of no text.

    Args:
        app: what is behind it.
        token: what ``Authorization: Bearer`` must say; None: nothing is asked for.
        max_body: bytes. The body is read whole before it goes on.
    """

    def __init__(self, app: Any, token: str | None, max_body: int) -> None:
        """One gate an app."""
        self.app = app
        self.expected = None if token is None else f"Bearer {token}".encode()
        self.max_body = max_body

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Let the request through, or answer it here."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if self._is_stranger(scope["path"], headers):
            message = "Authorization: the token is missing or wrong; allowed Bearer TOKEN"
            await _refuse(send, 401, message, headers=[(b"www-authenticate", b"Bearer")])
            return
        body = await self._body(headers, receive)
        if body is None:
            message = f"body: it is larger than {self.max_body} bytes, the most that is taken"
            await _refuse(send, 413, message, headers=[(b"connection", b"close")])
            return
        no_text = _no_text(body)
        if no_text is not None:
            status, field, message = no_text
            await _refuse(send, status, message, field)
            return
        whole = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Any:
            return whole.pop() if whole else await receive()

        await self.app(scope, replay, send)

    def _is_stranger(self, path: str, headers: dict[bytes, bytes]) -> bool:
        if self.expected is None or path in OPEN:
            return False
        return not hmac.compare_digest(headers.get(b"authorization", b""), self.expected)

    async def _body(self, headers: dict[bytes, bytes], receive: Any) -> bytes | None:
        """The whole body; None where it is too large."""
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self.max_body:
            return None
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            part = message.get("body", b"")
            size += len(part)
            if size > self.max_body:
                return None
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)


def _no_text(body: bytes) -> tuple[int, str, str] | None:
    """Why a body is no text (status, field, message), None where it is.

    Python's JSON takes half a surrogate pair for text, and nothing can write it down.
    """
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return 400, "", f"body: no UTF-8 at byte {error.start}; allowed JSON in UTF-8"
    if _PERHAPS_HALF.search(body) is None:
        return None
    try:
        where = half_surrogate(json.loads(body), "the row")
    except (ValueError, RecursionError):
        return None  # said where the body is read as JSON
    if where is None:
        return None
    field = where.strip("'") if where.startswith("'") else ""
    line = f"{field or 'body'}: it holds half of a surrogate pair (a cut emoji?), which is no text"
    return 422, field, line


async def _refuse(
    send: Any,
    status: int,
    message: str,
    field: str = "",
    headers: list[tuple[bytes, bytes]] | None = None,
) -> None:
    body = dumps({"error": message, "field": field}).encode()
    described = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *(headers or []),
    ]
    await send({"type": "http.response.start", "status": status, "headers": described})
    await send({"type": "http.response.body", "body": body})
