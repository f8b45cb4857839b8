"""From the configuration of a `RoutedReward` to its session: arms, router, contexts and ledger.

It is the configuration of ``reward-router train``; what TRL does itself (``policy``, ``train``,
``data``, ``pairs``, ``eval``) is not read, but for the column and the kind of answers. Left out:
committees, priors over pairs, and routing by batch, pair or iteration: one prompt with its
completions is what is routed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reward_router import config as configuration
from reward_router.assemble import (
    Arms,
    arm_names,
    arm_specs,
    build_asker,
    build_dispatcher,
    build_mode,
    build_pool,
    check_arms,
    payoff_rule,
)
from reward_router.config import Config, ContextConfig
from reward_router.contexts import Contexts
from reward_router.errors import InputError
from reward_router.integrations.trl.processes import Processes
from reward_router.ledger import Ledger
from reward_router.session import Session

MEMORY = ":memory:"
Source = Config | Mapping[str, Any] | str | Path


def read(source: Source) -> Config:
    """A configuration from a file's name, plain data or itself; InputError where it asks for what
    is left out here.
    """
    if isinstance(source, Config):
        config = source
    elif isinstance(source, Mapping):
        config = configuration.validate(source, "config")
    elif isinstance(source, str | Path):
        config = configuration.load(source)
    else:
        raise InputError(
            f"source: {type(source).__name__}; allowed a configuration (a file's name, a mapping, "
            "a Config) or a Session"
        )
    refused = {
        f"router.unit: {config.router.unit}": config.router.unit != "prompt",
        f"router.prior: {config.router.prior}": config.router.prior is not None,
        "router.per: iteration": config.router.by_iteration,
        f"judge.mode: {config.judge.mode}": config.judge.mode != "single",
    }
    for setting, asked in refused.items():
        if asked:
            raise InputError(
                f"config: {setting} is not for a trainer's reward function; allowed router.unit: "
                "prompt without a prior, and judge.mode: single"
            )
    context = config.context
    if context.kind == "policy":
        if "kind" in context.model_fields_set:
            raise InputError(
                "config: context.kind: policy needs our own policy; allowed hashing or sentence"
            )
        context = ContextConfig(**{**context.model_dump(), "kind": "hashing"})
    return config.model_copy(update={"context": context})


def build(config: Config, ledger: str | Path, processes: Processes) -> Session:
    """The session of a configuration; the first process writes ``ledger``, the others keep a copy
    of their own.
    """
    pool = build_pool(config, [])
    check_arms(arm_specs(config), pool)
    asker = build_asker(config, pool)
    names = arm_names(config)
    mode = build_mode(config, asker, names, processes.gather)
    contexts = Contexts(config.context, None, device=config.pool.device)
    path = Path(ledger)
    if str(ledger) != MEMORY and processes.main:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            Ledger(path).close()  # what a killed run left in the write-ahead log is in the file now
    processes.wait()
    arms = Arms(names, contexts.dim, mode.by)
    dispatcher = build_dispatcher(config, processes, path, arms)
    session = Session(dispatcher, pool, contexts.prompts, payoff_rule(config), mode)
    session.gather = processes.gather
    return session
