import importlib.util
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location(
    "remote_servers", Path(__file__).with_name("servers.py")
)
servers = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(servers)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """What was served before is kept in the cache directory: every test has its own."""
    monkeypatch.setenv("REWARD_ROUTER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def server():
    """(state, url) of a server that speaks every dialect."""
    with servers.serving() as both:
        yield both


@pytest.fixture
def worth():
    return servers.worth
