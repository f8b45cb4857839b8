"""What comes with the package: small reward models and a prior, each a folder with a card, and how they are found by name."""

from importlib import resources
from pathlib import Path

from reward_router.errors import InputError


def packaged(marker: str) -> list[str]:
    """Names of the packaged folders that hold the file ``marker``."""
    here = resources.files("reward_router.artifacts")
    return sorted(p.name for p in here.iterdir() if p.is_dir() and (p / marker).is_file())


def folder_of(given: str, marker: str, key: str, maker: str) -> Path:
    """The folder that ``given`` names: a path, or a packaged name. InputError (``key``: what was given) where it is neither."""
    if Path(given).is_dir():
        return Path(given)
    if given in packaged(marker):
        return Path(str(resources.files("reward_router.artifacts") / given))
    known = ", ".join(packaged(marker)) or "none"
    raise InputError(f"{key}={given!r} is neither a folder that {maker} wrote nor a packaged one ({known})")
