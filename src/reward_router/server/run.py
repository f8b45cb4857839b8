"""``reward-router serve``: from a configuration to a server that listens until it is stopped.

SIGTERM and Ctrl-C end it well: requests under way are answered, a snapshot is written, exit code 0.
"""

import ipaddress
import logging
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reward_router.config import Config
from reward_router.errors import InputError, RunError
from reward_router.secrecy import VARIABLE, from_environment
from reward_router.server.build import build, fitting
from reward_router.server.desk import Desk
from reward_router.server.groups import Groups

GRACE = 30
"""Seconds that requests under way have when the server is asked to stop."""


@dataclass(frozen=True)
class Place:
    """Where the server listens and what it keeps.

    Args:
        ledger: the file that is its state.
        host: an address of this machine.
        port: 0: any free one.
        token_env: the environment variable that holds the token; None: no token.
        max_body: bytes of a request.
        group_size: responses of a prompt group, for trainers that do not say it; None: the
            configuration's ``policy.n_responses``.
        group_seconds: how long a group waits for them.
    """

    ledger: Path
    host: str = "127.0.0.1"
    port: int = 8000
    token_env: str | None = None
    max_body: int = 8 * 2**20
    group_size: int | None = None
    group_seconds: float = 600.0

    def token(self) -> str | None:
        """The token of the environment; InputError where others could ask without one."""
        if self.token_env is not None and not VARIABLE.fullmatch(self.token_env):
            raise InputError(
                f"--token-env {self.token_env!r}: allowed the name of an environment variable"
            )
        token = from_environment(self.token_env, "--token-env")
        if token is None and not _is_loopback(self.host):
            raise InputError(
                f"--host {self.host}: other machines could ask, and there is no token; give "
                "--token-env NAME, the environment variable that holds one, or --host 127.0.0.1"
            )
        return token


def serve(config: Config, place: Place, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C. ``say`` is told the address once it listens.

    InputError for a configuration or a place that cannot be right; RunError where the port is
    taken.
    """
    check_packages()
    from reward_router.server.app import Access, application

    if place.max_body < 1:
        raise InputError(f"--max-body {place.max_body}: allowed 1 or more bytes")
    access = Access(place.token(), place.max_body)
    settled = fitting(config)
    with listener_at(place.host, place.port) as listener:
        desk = Desk(build(settled, place.ledger))
        groups = groups_of(config, place, desk)
        say(f"ledger   {place.ledger} ({desk.ledger.last_seq} events)")
        answer(application(desk, groups, access), listener, say)
        say("stopped")


def check_packages() -> None:
    """InputError where the extra ``serve`` is not installed."""
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"serve needs FastAPI and uvicorn ({error.name} is missing); "
            "pip install 'reward-router[serve]'"
        ) from None


def groups_of(config: Config, place: Place, desk: Desk) -> Groups:
    """The prompt groups that a server keeps."""
    size = place.group_size or config.policy.n_responses
    return Groups(desk, size, place.group_seconds, config.data.answer_kind)


def answer(app: Any, listener: socket.socket, say: Callable[[str], None]) -> None:
    """Have an ASGI application answer at an open socket until SIGTERM or Ctrl-C."""
    import uvicorn

    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE,
        )
    )
    # uvicorn raises a signal again once it has stopped; that must not end the process badly.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    say(f"serving  http://{shown}:{port}")
    server.run(sockets=[listener])


def listener_at(host: str, port: int) -> socket.socket:
    """A socket that listens; RunError where it cannot."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as error:
        raise InputError(f"--host {host} --port {port}: {error}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise RunError(f"--host {host} --port {port}: {error.strerror or error}") from None
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
