"""What comes with the package, and how it is found by name.

These are small reward models and a prior, each a folder with a card.
"""

import json
from importlib import resources
from pathlib import Path
from typing import Any

from reward_router.errors import InputError


def packaged(marker: str) -> list[str]:
    """Names of the packaged folders that hold the file ``marker``."""
    here = resources.files("reward_router.artifacts")
    return sorted(p.name for p in here.iterdir() if p.is_dir() and (p / marker).is_file())


def folder_of(given: str, marker: str, key: str, maker: str) -> Path:
    """The folder that ``given`` names: a path, or a packaged name.

    InputError where it is neither; ``key`` says there what was given.
    """
    if Path(given).is_dir():
        return Path(given)

    names = packaged(marker)
    if given in names:
        folder = resources.files("reward_router.artifacts") / given
        return Path(str(folder))
    known = ", ".join(names) or "none"
    raise InputError(
        f"{key}={given!r} is neither a folder that {maker} wrote nor a packaged one ({known})"
    )


def demo_scores() -> Path:
    """The sample that ``reward-router replay demo`` reads.

    It holds 320 pairs of the default policy's own right and wrong answers to embedded prompts,
    scored by the seven default arms. `make prior` makes it: a part of its ``scores.jsonl``, evenly
    from the categories.
    """
    return Path(str(resources.files("reward_router.artifacts") / "demo-scores.jsonl.gz"))


def shipped_study() -> dict[str, Any] | None:
    """What the default set-up and others came to over several seeds.

    It was measured for this version; None where it was not.

    Keys ``machine``, ``seeds`` and ``variants``: name -> ``change`` of gold and its ``ci95``.
    """
    path = Path(str(resources.files("reward_router.artifacts") / "study.json"))
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
