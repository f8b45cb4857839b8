"""How trainers ask, one file a dialect."""

import importlib
import pkgutil

from reward_router.server.dialect import Dialect


def dialects() -> list[Dialect]:
    """All of them, by path."""
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    found: list[Dialect] = [module.DIALECT for module in modules]
    return sorted(found, key=lambda dialect: dialect.path)
