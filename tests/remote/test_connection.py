"""Our connection says what httpx's own says of the same bytes, and keeps a connection as long."""

import asyncio
import shutil
import ssl
import subprocess

import httpx
import pytest

from reward_router.rewards.remote.connection import Connection, connection

LONG = b'{"score": ' + b"1" * 200_000 + b"}"
WELL = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    "any case": b"HTTP/1.1 200 OK\r\ncOnTeNt-LeNgTh:2\r\n\r\n{}",
    "long": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(LONG), LONG),
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n",
    "to the end": b"HTTP/1.1 200 OK\r\n\r\nall of it",
    "the old protocol": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "announced": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "no body": b"HTTP/1.1 204 No Content\r\n\r\n",
    "no words": b"HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n",
    "error": b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nRetry-After: 3\r\n\r\nbusy",
    "compressed": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 22\r\n\r\n"
    + bytes.fromhex("1f8b08000000000002ffabae050043bfa6a302000000"),
    "last one": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
}
BADLY = {
    "nothing": b"",
    "no HTTP": b"It works!\r\n\r\n",
    "cut headers": b"HTTP/1.1 200 OK\r\nContent-Le",
    "cut body": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
    "cut chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    "no chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nab\r\n0\r\n\r\n",
    "no length": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nabc",
}
ENDS = ("to the end", "the old protocol", "last one")


class Raw:
    """A server that answers every request by the same bytes, and counts its connections."""

    def __init__(self, said: bytes, *, most: int = 1000, ends: bool = False) -> None:
        """``most``: requests of a connection; ``ends``: whether it closes after an answer."""
        self.said = said
        self.most = most
        self.ends = ends
        self.connections = 0

    async def answer(self, reader, writer) -> None:
        self.connections += 1
        for _ in range(self.most):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            count = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(count))
            writer.write(self.said)
            await writer.drain()
            if self.ends:
                break
        writer.close()


def asked(raw, transport, times=1):
    """The answers to so many requests, one after another on one connection."""

    async def run():
        server = await asyncio.start_server(raw.answer, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/classify?a=b"
        async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
            answers = [await client.post(url, content=b"{}", timeout=5) for _ in range(times)]
        server.close()
        return answers

    return asyncio.run(run())


@pytest.mark.parametrize("name", WELL)
def test_an_answer_is_read_as_httpx_reads_it(name):
    ends = name in ENDS
    [ours] = asked(Raw(WELL[name], ends=ends), Connection(None))
    [theirs] = asked(Raw(WELL[name], ends=ends), httpx.AsyncHTTPTransport())
    assert ours.status_code == theirs.status_code
    assert ours.content == theirs.content
    assert ours.reason_phrase == theirs.reason_phrase
    assert ours.headers.get("retry-after") == theirs.headers.get("retry-after")


@pytest.mark.parametrize("name", BADLY)
def test_what_is_no_answer_is_an_error_of_the_transport(name):
    with pytest.raises(httpx.TransportError) as ours:
        asked(Raw(BADLY[name], ends=True), Connection(None))
    assert ours.type.__module__ == "httpx"
    with pytest.raises(httpx.TransportError):
        asked(Raw(BADLY[name], ends=True), httpx.AsyncHTTPTransport())


@pytest.mark.parametrize("name", WELL)
def test_a_connection_is_kept_where_the_server_keeps_it(name):
    raw = Raw(WELL[name], ends=name in ENDS)
    answers = asked(raw, Connection(None), times=3)
    assert len({answer.content for answer in answers}) == 1
    assert raw.connections == (3 if name in ENDS else 1)


def test_a_connection_that_was_closed_while_idle_is_opened_again():
    raw = Raw(WELL["length"], most=2)
    answers = asked(raw, Connection(None), times=6)
    assert [answer.status_code for answer in answers] == [200] * 6
    assert raw.connections == 3


def test_a_request_that_is_given_up_leaves_nothing_to_the_next():
    async def run():
        held = asyncio.Event()
        requests = 0

        async def answer(reader, writer):
            nonlocal requests
            while True:
                try:
                    await reader.readuntil(b"\r\n\r\n")
                except asyncio.IncompleteReadError:
                    return
                requests += 1
                number = requests
                if number == 1:
                    await held.wait()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        ours = Connection(None)
        request = httpx.Request("GET", url)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ours.handle_async_request(request), 0.2)
        held.set()
        answer_2 = await ours.handle_async_request(httpx.Request("GET", url))
        await ours.aclose()
        server.close()
        return answer_2.content

    assert asyncio.run(run()) == b"2"


def test_a_proxy_of_the_environment_is_left_to_httpx(monkeypatch):
    url = httpx.URL("http://rm.example/classify")
    for name in ("http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert isinstance(connection(url, False), Connection)
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    assert isinstance(connection(url, False), httpx.AsyncHTTPTransport)
    monkeypatch.setenv("no_proxy", "rm.example")
    assert isinstance(connection(url, False), Connection)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_certificates_are_checked(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    made += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True)

    async def ask(trusted):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        raw = Raw(WELL["length"])
        server = await asyncio.start_server(raw.answer, "localhost", 0, ssl=context)
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}/"
        async with httpx.AsyncClient(transport=Connection(trusted), trust_env=False) as client:
            answer = await client.post(url, content=b"{}")
        server.close()
        return answer.content

    assert asyncio.run(ask(ssl.create_default_context(cafile=str(certificate)))) == b"{}"
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        asyncio.run(ask(httpx.create_ssl_context()))
