"""These tests need the packages of the extra ``serve``."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

for package in ("fastapi", "uvicorn", "httpx"):
    pytest.importorskip(package, reason="needs the packages of the extra `serve`")
sys.path.insert(0, str(Path(__file__).parent))

from running import CONFIG, Running  # noqa: E402


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "serve.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server for the tests of a module that do not mind each other."""
    folder = tmp_path_factory.mktemp("server")
    path = folder / "serve.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    with Running(path, folder / "ledger.sqlite") as running:
        yield running
