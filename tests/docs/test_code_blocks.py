"""Every Python block of the README and the docs runs.

Every command in them is one that the command line takes.
"""

import os
import re
import shlex
from pathlib import Path

import pytest
import typer

from reward_router import config as configuration

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
TRAINERS = sorted((ROOT / "docs" / "trainers").glob("*.md"))
"""Their Python needs the trainers; tests/server runs what can be run here."""
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.S | re.M)


def blocks(page: Path, languages: tuple[str, ...]) -> list[str]:
    return [
        code
        for language, code in FENCE.findall(page.read_text(encoding="utf-8"))
        if language in languages
    ]


def commands(page: Path) -> list[str]:
    text = "\n".join(blocks(page, ("bash", "sh", "console", "text"))).replace("\\\n", " ")
    lines = [line.strip().removeprefix("$ ") for line in text.splitlines()]
    return [
        line.split(" #")[0].split(" | ")[0].split(" && ")[0]
        for line in lines
        if line.startswith("reward-router ")
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    if page.name == "trl.md":
        pytest.importorskip("trl", reason="needs TRL")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for code in blocks(page, ("python",)):
        exec(compile(code, page.name, "exec"), namespace)


@pytest.mark.parametrize("page", PAGES + TRAINERS, ids=lambda p: p.name)
def test_configurations_are_valid(page):
    for text in blocks(page, ("yaml",)):
        tree = configuration.parse_yaml(text, page.name)
        if isinstance(tree, dict) and tree.keys() & configuration.Config.model_fields.keys():
            configuration.validate(tree, page.name)


@pytest.mark.parametrize("page", PAGES + TRAINERS, ids=lambda p: p.name)
def test_commands_are_understood(page):
    from reward_router.cli import app

    root = typer.main.get_command(app)
    for line in commands(page):
        command, words = root, shlex.split(os.path.expandvars(line))[1:]
        while words and hasattr(command, "commands") and not words[0].startswith("-"):
            assert words[0] in command.commands, f"{page.name}: {line!r}: no command {words[0]!r}"
            command, words = command.commands[words[0]], words[1:]
        known = {option for p in command.params for option in (*p.opts, *p.secondary_opts)} | {
            "--help",
            "--version",
        }
        unknown = [w for w in words if w.startswith("--") and w.split("=")[0] not in known]
        assert not unknown, f"{page.name}: {line!r}: unknown {unknown}"
