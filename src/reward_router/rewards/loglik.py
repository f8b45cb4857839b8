"""The name under which the documentation has always imported `LogLik`; it lies with the other kinds now."""

from reward_router.rewards.kinds.loglik import REDUCTIONS, LogLik

__all__ = ["REDUCTIONS", "LogLik"]
