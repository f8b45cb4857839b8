"""The place from which the documentation imports `LogLik`; it lies with the other kinds."""

from reward_router.rewards.kinds.loglik import REDUCTIONS, LogLik

__all__ = ["REDUCTIONS", "LogLik"]
