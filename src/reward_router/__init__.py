"""reward-router: chooses which reward model should judge, and learns from what happens.

The names below load when they are first touched, so that importing the package is quick and needs
none of its extras.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reward_router.committee import Committee
    from reward_router.dispatch import Dispatcher
    from reward_router.errors import AllArmsResting
    from reward_router.ledger import Ledger
    from reward_router.payoffs import QuantileScaler
    from reward_router.routers import Exp3, Fixed, LinearThompson, LinUCB, RoundRobin, Uniform
    from reward_router.routers.choose import choose
    from reward_router.session import Session
    from reward_router.types import Decision, RewardModel
    from reward_router.verdicts.batch import Batch

    __version__: str

_HOME = {
    "AllArmsResting": "errors",
    "Batch": "verdicts.batch",
    "Committee": "committee",
    "Decision": "types",
    "Dispatcher": "dispatch",
    "Exp3": "routers",
    "Fixed": "routers",
    "Ledger": "ledger",
    "LinUCB": "routers",
    "LinearThompson": "routers",
    "QuantileScaler": "payoffs",
    "RewardModel": "types",
    "RoundRobin": "routers",
    "Session": "session",
    "Uniform": "routers",
    "choose": "routers",
}

__all__ = [
    "AllArmsResting",
    "Batch",
    "Committee",
    "Decision",
    "Dispatcher",
    "Exp3",
    "Fixed",
    "Ledger",
    "LinUCB",
    "LinearThompson",
    "QuantileScaler",
    "RewardModel",
    "RoundRobin",
    "Session",
    "Uniform",
    "__version__",
    "choose",
]


def __getattr__(name: str) -> Any:
    """Load a public name (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("reward-router")
    elif name in _HOME:
        value = getattr(import_module(f"reward_router.{_HOME[name]}"), name)
    else:
        raise AttributeError(f"module 'reward_router' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names and what is loaded."""
    return sorted({*globals(), *__all__})
