"""Where what was computed once is kept between runs: converted models, embeddings, scores."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """The folder that is kept between runs.

    It is ``$REWARD_ROUTER_CACHE``, else ``reward-router`` in ``$XDG_CACHE_HOME``, else
    ``~/.cache/reward-router``. A ``~`` in either variable is the home directory.
    """
    own = os.environ.get("REWARD_ROUTER_CACHE")
    if own:
        return Path(own).expanduser()

    # The XDG base directory, which all programs of a user share.
    xdg = os.environ.get("XDG_CACHE_HOME")
    base = Path(xdg).expanduser() if xdg else Path.home() / ".cache"
    return base / "reward-router"
