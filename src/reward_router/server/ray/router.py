"""The router in Ray: one actor with the ledger, which is its state.

Ray starts it again when its process dies. It reads the ledger then and is the same router, and the
requests that were under way come again. One with an id counts once, as with a server that was
killed.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from reward_router.assemble import arm_names
from reward_router.config import Config
from reward_router.errors import InputError, RewardRouterError
from reward_router.rewards.configured import arm_pool
from reward_router.server.build import Turns, build
from reward_router.server.ray.models import Elsewhere, handle_of
from reward_router.server.ray.places import Group, here
from reward_router.server.run import Place, groups_of
from reward_router.strict_json import dumps

Message = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, headers and body of an answer."""


class Router:
    """Answers requests as the server does, in one process; everything else only hands them on.

    Args:
        config: found `fitting`.
        place: where the ledger is; who may ask is the door's business.
        groups: the arms in deployments.
        deployments: (application, deployment) of each group, by its name.
    """

    def __init__(
        self,
        config: Config,
        place: Place,
        groups: list[Group],
        deployments: Mapping[str, tuple[str, str]],
    ) -> None:
        """Opens nothing: what goes wrong then is told to whoever asks first, and tried again."""
        self.config = config
        self.place = place
        self.groups = groups
        self.deployments = deployments
        self._app: Any = None
        self._desk: Any = None
        self._opening = asyncio.Lock()

    async def begin(self, config: Config, place: Place) -> int:
        """Open the ledger; how many events it has.

        InputError where this router was started with another configuration or ledger.
        """
        if (config, place.ledger) != (self.config, self.place.ledger):
            raise InputError(
                f"ray.name: a router {config.ray.name!r} runs already, with another configuration "
                f"or another ledger than {place.ledger}; stop that one, or choose another name"
            )
        await self._application()
        return int(self._desk.ledger.last_seq)

    async def answer(self, scope: dict[str, Any], body: bytes) -> Message:
        """What the server says to one HTTP request."""
        try:
            app = await self._application()
        except RewardRouterError as error:
            return unavailable(str(error))
        told: list[dict[str, Any]] = []
        whole = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            return whole.pop() if whole else {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            told.append(message)

        await app(scope, receive, send)
        parts = [each.get("body", b"") for each in told[1:]]
        return told[0]["status"], told[0]["headers"], b"".join(parts)

    async def close(self) -> None:
        """Write a snapshot and close the ledger."""
        async with self._opening:
            if self._app is not None:
                await asyncio.to_thread(self._desk.close)
                self._app = None

    async def _application(self) -> Any:
        async with self._opening:
            if self._app is None:
                await asyncio.to_thread(self._open)
            return self._app

    def _open(self) -> None:
        from reward_router.server.app import Access, application

        config = self.config
        handles = {}
        for group in self.groups:
            handle = handle_of(group, self.deployments[group.name])
            for spec in group.specs:
                handles[spec.name] = handle
        specs = here(config, self.groups)
        pool = arm_pool(specs, config.pool, config.policy.device)
        turns = Elsewhere(arm_names(config), handles, Turns(pool, specs), config.pool.timeout)
        self._desk = build(config, self.place.ledger, turns)
        groups = groups_of(config, self.place, self._desk)
        # The door has looked at tokens and sizes.
        access = Access(token=None, max_body=self.place.max_body)
        self._app = application(self._desk, groups, access)


def unavailable(why: str) -> Message:
    """A refusal: the same request may be sent again."""
    body = dumps({"error": why, "field": ""}).encode()
    headers = [(b"content-type", b"application/json"), (b"retry-after", b"1")]
    return 503, [*headers, (b"content-length", str(len(body)).encode())], body
