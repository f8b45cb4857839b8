"""One connection to a server: HTTP/1.1 on asyncio's streams, kept open between requests.

httpx's own connections take 1.5 to 2 ms of processor time a request, which is all that 64 requests
at a time leave of 50 ms; this one takes a tenth. It does what an endpoint of scores needs: a whole
request, a whole answer, by length, in chunks or to the end, and TLS. Left out, and left to httpx:
proxies. Left out altogether: HTTP/2, redirects, cookies, streaming.
"""

import asyncio
import ssl
from urllib.request import getproxies, proxy_bypass

import httpx

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_NO_BODY = frozenset({204, 304})


def connection(url: httpx.URL, trusted: ssl.SSLContext | bool) -> httpx.AsyncBaseTransport:
    """A connection of ours; one of httpx's where the environment names a proxy for this URL.

    ``trusted``: what certificates are checked against; False where there is no TLS.
    """
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if proxy is None or proxy_bypass(url.host):
        return Connection(trusted if isinstance(trusted, ssl.SSLContext) else None)
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
    return httpx.AsyncHTTPTransport(verify=trusted, limits=limits, proxy=proxy)


class Connection(httpx.AsyncBaseTransport):
    """One request at a time.

    A transport error of httpx says what went wrong; the next request then opens the connection
    anew.

    Args:
        trusted: what certificates are checked against; None: no TLS.
    """

    def __init__(self, trusted: ssl.SSLContext | None) -> None:
        """Opened by the first request."""
        self._trusted = trusted
        self._streams: Streams | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and read the answer to its end."""
        sent = _head(request) + await request.aread()
        try:
            if self._streams is not None:
                answer = await self._on_open_connection(sent)
                if answer is not None:
                    return answer
            self._streams = await self._opened(request.url)
            return await self._exchange(self._streams, sent)
        except _Closed as error:
            self._drop()
            raise httpx.RemoteProtocolError(str(error)) from error
        except BaseException:
            # Whatever is left on the way belongs to no later request.
            self._drop()
            raise

    async def aclose(self) -> None:
        """Close the connection."""
        self._drop()

    async def _on_open_connection(self, sent: bytes) -> httpx.Response | None:
        """The answer; None where the server closed the connection while it was idle."""
        assert self._streams is not None
        try:
            return await self._exchange(self._streams, sent)
        except _Closed:
            self._drop()
            return None

    async def _opened(self, url: httpx.URL) -> Streams:
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            return await asyncio.open_connection(url.host, port, ssl=self._trusted)
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error

    async def _exchange(self, streams: Streams, sent: bytes) -> httpx.Response:
        reader, writer = streams
        try:
            writer.write(sent)
            await writer.drain()
            status, reason, headers = await _answer_head(reader)
            content, is_whole = await _body(reader, status, headers)
        except asyncio.IncompleteReadError as error:
            raise httpx.RemoteProtocolError("the connection ended within the answer") from error
        except asyncio.LimitOverrunError as error:
            raise httpx.RemoteProtocolError("the answer's headers are too long") from error
        except OSError as error:
            raise httpx.ReadError(str(error)) from error
        if not is_whole or "close" in headers.get("connection", "").lower():
            self._drop()
        extensions = {"reason_phrase": reason}
        return httpx.Response(status, headers=headers, content=content, extensions=extensions)

    def _drop(self) -> None:
        if self._streams is not None:
            _, writer = self._streams
            writer.transport.abort()
            self._streams = None


class _Closed(httpx.RemoteProtocolError):
    """The connection ended before anything was answered."""


def _head(request: httpx.Request) -> bytes:
    """The request line and the headers."""
    lines = [b"%s %s HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
    lines += [b"%s: %s" % pair for pair in request.headers.raw]
    return b"\r\n".join(lines) + b"\r\n\r\n"


async def _answer_head(reader: asyncio.StreamReader) -> tuple[int, bytes, httpx.Headers]:
    """Status, its words, and headers; answers that only announce one are passed over."""
    while True:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise
            raise _Closed("the connection was closed without an answer") from error
        except ConnectionError as error:
            raise _Closed(str(error)) from error
        first, *lines = head[:-4].split(b"\r\n")
        version, _, said = first.partition(b" ")
        code, _, reason = said.partition(b" ")
        if not version.startswith(b"HTTP/1.") or not code.isdigit():
            raise httpx.RemoteProtocolError(f"what it answered is no HTTP: {head[:60]!r}")
        pairs = []
        for line in lines:
            name, _, value = line.partition(b":")
            pairs.append((name, value.strip()))
        if version == b"HTTP/1.0":
            pairs.append((b"connection", b"close"))
        if not code.startswith(b"1"):
            return int(code), reason, httpx.Headers(pairs)


async def _body(
    reader: asyncio.StreamReader, status: int, headers: httpx.Headers
) -> tuple[bytes, bool]:
    """The body, and whether its end was known other than by the connection's."""
    if status in _NO_BODY:
        return b"", True
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return await _chunks(reader), True
    length = headers.get("content-length")
    if length is None:
        return await reader.read(), False
    if not length.isdigit():
        raise httpx.RemoteProtocolError(f"Content-Length is {length[:60]!r}")
    return await reader.readexactly(int(length)), True


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    """A body in chunks; what follows the last one is read and dropped."""
    chunks = []
    while True:
        line = await reader.readuntil(b"\r\n")
        size = line.partition(b";")[0].strip()
        try:
            count = int(size, 16)
        except ValueError:
            raise httpx.RemoteProtocolError(f"no length of a chunk: {line[:60]!r}") from None
        if count <= 0:
            break
        chunks.append(await reader.readexactly(count))
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return b"".join(chunks)
