"""Figures of the server in the text form that Prometheus reads; no package is needed for it."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from reward_router.server.desk import Desk
from reward_router.server.groups import Groups


class Requests:
    """Counts answered requests by path and status."""

    def __init__(self) -> None:
        """None yet."""
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, int]] = Counter()

    def counts(self) -> dict[tuple[str, int], int]:
        """(path, status) -> requests."""
        with self._lock:
            return dict(self._counts)

    def counting(self, app: Any) -> Callable[[Any, Any, Any], Any]:
        """ASGI: counts what passes. What reached no endpoint counts as ``other``."""

        async def counted(scope: Any, receive: Any, send: Any) -> None:
            async def noted(message: Any) -> None:
                if message["type"] == "http.response.start":
                    path = scope["path"] if scope.get("route") is not None else "other"
                    with self._lock:
                        self._counts[path, message["status"]] += 1
                await send(message)

            await app(scope, receive, noted if scope["type"] == "http" else send)

        return counted


def exposition(desk: Desk, groups: Groups, requests: Requests) -> str:
    """Every figure, one a line."""
    counts = desk.session.dispatcher.counts()
    resting = desk.session.dispatcher.resting
    lines: list[str] = []

    def say(name: str, kind: str, what: str, values: Mapping[str, float]) -> None:
        lines.append(f"# HELP reward_router_{name} {what}")
        lines.append(f"# TYPE reward_router_{name} {kind}")
        lines.extend(f"reward_router_{name}{labels} {value}" for labels, value in values.items())

    answered = {
        f'{{path="{path}",status="{status}"}}': count
        for (path, status), count in sorted(requests.counts().items())
    }
    say("requests_total", "counter", "Requests answered since the start.", answered)
    for name in ("decisions", "payoffs", "failures", "labels"):
        say(f"{name}_total", "counter", f"Events of the ledger: {name}.", {"": counts[name]})
    calls = {f'{{status="{status}"}}': count for status, count in counts["calls"].items()}
    say("calls_total", "counter", "One arm scored one response.", calls)
    arms = {
        f'{{arm="{_escaped(arm)}"}}': int(resting.get(arm, 0) > 0)
        for arm in desk.session.dispatcher.arms
    }
    say("arm_resting", "gauge", "1 where an arm failed lately and is not asked.", arms)
    say("open_groups", "gauge", "Prompt groups that still take responses.", {"": groups.open})
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
