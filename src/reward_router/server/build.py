"""From a configuration to the session that a server answers with.

It is the configuration of ``reward-router train``; what a trainer does itself (``policy``,
``train``, ``data``, ``pairs``, ``eval``) is not read, but for ``data.answer_kind``. Left out:
committees, ensembles, priors over pairs, and routing by batch, pair or iteration: one prompt with
its responses is what is routed.
"""

import logging
import threading
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from reward_router.assemble import (
    arm_names,
    arm_specs,
    bound_dispatcher,
    build_asker,
    build_mode,
    build_pool,
    build_router,
    check_arms,
    payoff_rule,
)
from reward_router.chat import Prompt
from reward_router.config import Config, ContextConfig
from reward_router.contexts import Contexts
from reward_router.errors import InputError
from reward_router.kinds import ARMS, is_import_path
from reward_router.ledger import Ledger
from reward_router.rewards.pool import RewardPool
from reward_router.rewards.request import ScoreResult
from reward_router.rewards.spec import ArmSpec, source_of
from reward_router.session import Session

log = logging.getLogger(__name__)


def fitting(config: Config) -> Config:
    """The configuration with contexts that need no policy.

    InputError where it asks for what a server does not do.
    """
    refused = {
        f"router.unit: {config.router.unit}": config.router.unit != "prompt",
        f"router.prior: {config.router.prior}": config.router.prior is not None,
        "router.per: iteration": config.router.by_iteration,
        f"router.mode: {config.router.mode}": config.router.mode != "route",
        f"judge.mode: {config.judge.mode}": config.judge.mode != "single",
        f"noise: {config.noise}": config.noise > 0,
    }
    for setting, asked in refused.items():
        if asked:
            raise InputError(
                f"config: {setting} is not for a server; allowed router.unit: prompt without a "
                "prior, router.mode: route, judge.mode: single, and noise: 0"
            )
    context = config.context
    if context.kind == "policy":
        if "kind" in context.model_fields_set:
            raise InputError(
                "config: context.kind: policy needs our own policy; allowed hashing or sentence "
                "(a request may bring contexts of its own)"
            )
        context = ContextConfig(**{**context.model_dump(), "kind": "hashing"})
    return config.model_copy(update={"context": context})


def build(config: Config, ledger: Path, turns: Any = None) -> Session:
    """The session of a configuration that was found `fitting`, on the ledger at this path.

    ``turns`` scores for the arms, as `Turns` does; None: they are loaded in this process.

    InputError where an arm cannot be had; LedgerError where somebody else writes the ledger.
    """
    specs = arm_specs(config)
    pool = build_pool(config, [])
    if turns is None:
        check_arms(specs, pool)
        turns = Turns(pool, specs)
    names = arm_names(config)
    asker = build_asker(config, turns)
    asker.warn = partial(log.warning, "%s")
    mode = build_mode(config, asker, names, list)
    contexts = Contexts(config.context, None, device=config.pool.device)
    ledger.parent.mkdir(parents=True, exist_ok=True)
    store = Ledger(ledger, durability=config.durability, contexts=config.contexts)
    router = build_router(config.router, names, contexts.dim, config.seed)
    dispatcher = bound_dispatcher(config, router, names, store)
    return Session(dispatcher, pool, contexts.prompts, payoff_rule(config), mode)


class Turns:
    """A pool that many threads may ask: models take turns, services are asked side by side.

    A model in memory, and a reward model of a user's own, answer one request at a time. Arms on
    one model share their turn; where not all models fit into memory, all of them do, because one
    may drop the other's. An arm behind a service takes its first request alone, which may score
    canaries, and the others side by side.
    """

    def __init__(self, pool: RewardPool, specs: Sequence[ArmSpec]) -> None:
        """``specs``: of the arms of ``pool``."""
        self.pool = pool
        locks: dict[str, threading.Lock] = {}
        self._lock: dict[str, threading.Lock] = {}
        self._services: set[str] = set()
        self._met: set[str] = set()
        for spec in specs:
            source = source_of(spec)
            shared = spec.name
            if source is not None:
                shared = repr(source) if pool.stays else "all models"
            self._lock[spec.name] = locks.setdefault(shared, threading.Lock())
            if ARMS[spec.kind].remote and not is_import_path(spec.kind):
                self._services.add(spec.name)

    @property
    def names(self) -> list[str]:
        """The arms."""
        return self.pool.names

    def order(self, arms: Iterable[str]) -> list[str]:
        """The arms in the order that loads least."""
        return self.pool.order(arms)

    def score(
        self, arm: str, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]
    ) -> ScoreResult:
        """What the pool says, in turn."""
        if arm in self._met and arm in self._services:
            return self.pool.score(arm, prompts, responses)
        with self._lock[arm]:
            result = self.pool.score(arm, prompts, responses)
        if result.ok:
            self._met.add(arm)
        return result
