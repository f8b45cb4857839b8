"""The same application without a process of its own, for tests of many small requests."""

import asyncio
from pathlib import Path

import httpx

from reward_router import config as configuration
from reward_router.server.app import Access, application
from reward_router.server.build import build, fitting
from reward_router.server.groups import Groups


class Inside:
    """A server that is asked by function calls; ``clock`` is what its groups take for the time."""

    def __init__(self, config: Path, ledger: Path, size: int = 2, max_body: int = 20_000) -> None:
        settled = fitting(configuration.load(config, None, []))
        self.now = 0.0
        self.desk = build(settled, ledger)
        self.groups = Groups(self.desk, size, 60.0, settled.data.answer_kind, lambda: self.now)
        self.app = application(self.desk, self.groups, Access(max_body=max_body))

    def post(self, path: str, body: object = None, **options: object) -> httpx.Response:
        if body is not None:
            options["json"] = body
        return self.ask("POST", path, **options)

    def ask(self, method: str, path: str, **options: object) -> httpx.Response:
        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://inside") as client:
                return await client.request(method, path, **options)

        return asyncio.run(asked())

    @property
    def events(self) -> int:
        return self.desk.ledger.last_seq

    def close(self) -> None:
        self.desk.close()
