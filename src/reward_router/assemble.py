"""From a configuration to the parts of a run: prompts, policy, arms, router, dispatcher, trainer."""

import atexit
import importlib
import inspect
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reward_router import keyed
from reward_router.committee import Committee, LabelPolicy, OnlineCommittee
from reward_router.config import OPTIONS, BreakerConfig, Config, DataConfig, RouterConfig, TrainConfig
from reward_router.contexts import Contexts, text_of
from reward_router.data import Prompt
from reward_router.dispatch import BreakerRule, Dispatcher
from reward_router.errors import InputError
from reward_router.examples import Example, load_examples
from reward_router.judging.committee import COMMITTEE, CommitteeJudge
from reward_router.judging.judge import Judge
from reward_router.ledger import Ledger
from reward_router.limits import within
from reward_router.online import online_prior, online_router, same_arms
from reward_router.payoffs import QuantileScaler
from reward_router.ranks import Ranks
from reward_router.rewards.defaults import default_arms
from reward_router.rewards.pool import RewardPool
from reward_router.rewards.python import here_importable
from reward_router.rewards.spec import ArmSpec, source_of
from reward_router.routers import Adaptive, Exp3, Fixed, LinearThompson, LinUCB, RoundRobin, Uniform
from reward_router.routers.sequential import Sequential
from reward_router.training.schedule import Schedule
from reward_router.types import Float, RewardModel, Router

if TYPE_CHECKING:
    from reward_router.offline.prior import Prior
    from reward_router.policy import Policy, PolicyText
    from reward_router.training.step import Trainer

ENSEMBLE = "ensemble"


@dataclass
class Parts:
    """Everything a step needs."""

    config: Config
    ranks: Ranks
    examples: list[Example]
    policy: "Policy"
    contexts: Contexts
    judge: Judge
    trainer: "Trainer"
    dispatcher: Dispatcher
    long_prompts: int = 0
    committee: CommitteeJudge | None = None

    @property
    def routed(self) -> bool:
        """Whether a router names arms; false where all judge together or the committee names them itself."""
        return len(self.dispatcher.arms) == len(self.judge.pool.names)

    @property
    def batches_per_iteration(self) -> int:
        """Batches after which the reference moves."""
        return batches_per_iteration(self.config.train, len(self.examples))

    @property
    def steps(self) -> int:
        """Batches of the whole run."""
        return self.config.train.iterations * self.batches_per_iteration

    def routed_ids(self) -> set[str]:
        """Ids of the prompts that some step of the run routes. O(prompts) a step, one pass at most."""
        one_pass = math.ceil(len(self.examples) / self.config.train.batch_prompts)
        return {e.id for t in range(min(self.steps, one_pass)) for e in self.batch(t)}

    def batch(self, t: int) -> list[Example]:
        """The prompts of step t: passes over the data, each in its own keyed order; no prompt twice in a batch."""
        size, total = self.config.train.batch_prompts, len(self.examples)
        per_pass = math.ceil(total / size)
        order = keyed.rng(self.config.seed, "data", t // per_pass).permutation(total)
        at = (t % per_pass) * size
        return [self.examples[i] for i in order[at : at + size]]

    @cached_property
    def python_payoff(self) -> Callable[[Any], float | None]:
        """The function that ``payoff.path`` names, its values checked."""
        return checked_payoff(self.config.payoff.path or "")


def batches_per_iteration(train: TrainConfig, prompts: int) -> int:
    """As configured, or those of one pass over so many prompts."""
    return train.batches_per_iteration or math.ceil(prompts / train.batch_prompts)


def schedule_of(config: Config, prompts: int) -> Schedule:
    """The learning rates of a run over so many prompts."""
    train = config.train
    per_prompt = min(config.pairs.per_prompt, math.comb(config.policy.n_responses, 2))
    most_pairs = min(train.batch_prompts, prompts) * per_prompt
    mini_batches = math.ceil(most_pairs / train.mini_batch) if train.mini_batch else 1
    batches = train.iterations * batches_per_iteration(train, prompts)
    return Schedule(train.lr, train.warmup, train.schedule, batches, train.steps_per_batch * mini_batches)


def arm_specs(config: Config) -> list[ArmSpec]:
    """The arms of a run, the embedded ones where none are listed; without those of kind gold."""
    if not config.arms:
        return default_arms()
    return [ArmSpec(a.name, a.kind, a.model, a.options, a.cost) for a in config.arms if a.kind != "gold"]


def arm_names(config: Config) -> list[str]:
    """Names in the order of the configuration."""
    return [a.name for a in config.arms] or [s.name for s in arm_specs(config)]


def build_pool(config: Config, examples: list[Example]) -> RewardPool:
    """The arms behind one door, in the configured order; nothing is loaded yet."""
    for arm in config.arms:
        if arm.kind == "gold" and arm.options:
            raise InputError(f"arm {arm.name!r}: kind gold takes no option {sorted(arm.options)[0]!r}")
    gold: dict[str, RewardModel] = {a.name: GoldModel(examples) for a in config.arms if a.kind == "gold"}
    specs = {s.name: s for s in arm_specs(config)}
    pool = config.pool
    device = config.policy.device if pool.device == "auto" else pool.device
    return RewardPool(specs, resident=pool.resident, device=device, dtype=pool.dtype, timeout=pool.timeout, models=gold)


class GoldModel:
    """The verifier as an arm, for control runs: 1 right, 0 wrong, NaN where the prompt is unknown."""

    def __init__(self, examples: list[Example]) -> None:
        """``examples``: the prompts it can judge."""
        self.examples = {text_of(e.prompt): e for e in examples}

    def add(self, examples: Sequence[Example]) -> None:
        """More prompts that it can judge."""
        self.examples |= {text_of(e.prompt): e for e in examples}

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Float:
        """(B, N) gold."""
        rows = [self.examples[text_of(p)].gold(group) for p, group in zip(prompts, responses, strict=True)]
        return np.stack(rows) if rows else np.zeros((0, 0))


def know_gold(parts: Parts, examples: Sequence[Example]) -> None:
    """Let the arms of kind gold judge these prompts, too."""
    for name in parts.judge.pool.names:
        if any(arm.name == name and arm.kind == "gold" for arm in parts.config.arms):
            model = parts.judge.pool.load(name)
            assert isinstance(model, GoldModel)
            model.add(examples)


def build_router(config: RouterConfig, arms: list[str], dim: int, seed: int, prior: "Prior | None" = None) -> Router:
    """The configured router; options that are None take its own defaults."""
    k = len(arms)
    given = config.model_dump(include=OPTIONS.get(config.name, set()), exclude_none=True)
    if config.name == "linucb":
        return LinUCB(k, dim, prior_mean=random_start(config, k, dim, seed), **given)
    if config.name == "thompson":
        return LinearThompson(k, dim, **given)
    if config.name == "adaptive":
        return Adaptive(k, dim, **given)
    if config.name == "bayesian":
        return online_router(config, arms, dim, prior)
    if config.name == "exp3":
        return Exp3(k, **given)
    if config.name == "laser-exp3":  # the paper's text: learning rate 1 inside the exponent
        return Exp3(k, eta=1.0, **given)
    if config.name == "round_robin":
        return Sequential(k) if config.per == "iteration" else RoundRobin(k)
    if config.name == "fixed":
        return Fixed(k, arms.index(config.arm or ""))
    return Uniform(k)


def random_start(config: RouterConfig, k: int, dim: int, seed: int) -> Float | None:
    """theta_0 = b_0 / ridge with b_0 ~ N(0, 1): the paper's text (LASER, Algorithm 1); None: zeros."""
    if config.init == "zeros":
        return None
    return keyed.rng(seed, "init", 0, "b").normal(size=(k, dim)) / (config.ridge or 1.0)


def prior_warnings(config: Config, prior: "Prior", specs: Sequence[ArmSpec]) -> list[str]:
    """What a run with this prior should know of its arms; InputError where an arm is not the one the prior was learned with."""
    given = config.router.prior or ""
    found = [same_arms(prior, specs, given)]
    if strange := prior.unknown(arm_names(config)):
        found.append(f"{given} has no strengths of {', '.join(strange)}; they start with a zero prior")
    return [warning for warning in found if warning]


def build_dispatcher(
    config: Config, ranks: Ranks, ledger: Path, arms: list[str], dim: int, prior: "Prior | None" = None
) -> Dispatcher:
    """Router and ledger bound together; other processes than the first keep a private copy of the ledger."""
    if not ranks.main:
        folder = Path(tempfile.mkdtemp(prefix="reward-router-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        if ledger.exists():
            shutil.copy(ledger, folder / "ledger.sqlite")
        ledger = folder / "ledger.sqlite"
    ranks.wait()  # nobody writes while the others copy
    payoff = config.payoff
    first = [config.pool.fallback] if config.pool.fallback else []
    return Dispatcher(
        build_router(config.router, arms, dim, config.seed, prior),
        arms,
        ledger=Ledger(ledger, durability=config.durability, contexts=config.contexts),
        seed=config.seed,
        scaler=QuantileScaler(payoff.low, payoff.high, payoff.history, payoff.window),
        hold_back=payoff.hold_back,
        breaker=breaker_rule(config.pool.breaker),
        fallback=list(dict.fromkeys([*first, *arms])),
    )


def breaker_rule(config: BreakerConfig) -> BreakerRule | None:
    """The configured rule; None where no arm is to rest."""
    return BreakerRule(**config.model_dump(exclude={"enabled"})) if config.enabled else None


def assemble(
    config: Config,
    ledger: Path,
    ranks: Ranks,
    say: Callable[[str], None],
    examples: list[Example] | None = None,
    begin: Callable[[str], None] | None = None,
) -> Parts:
    """Load everything a run needs; InputError before the first step where something cannot be right.

    ``say`` is told what a user should know; ``begin`` (none: ``say``, too) what is being loaded. ``examples``: the prompts of
    ``config.data`` where they are read already.
    """
    begin = begin or say
    from reward_router.policy import Policy
    from reward_router.preflight import answer_one_row, check_disk, check_policy, check_prompts, disk_bytes
    from reward_router.training.step import Trainer

    fresh = not ledger.exists()  # a run that goes on has met its arms already
    examples, names = load_examples(config.data) if examples is None else examples, arm_names(config)
    check_names(config, examples, names)
    prior = online_prior(config.router, config.payoff.name)
    if prior is not None:
        for warning in prior_warnings(config, prior, arm_specs(config)):
            say(f"warning: {warning}")
    pool = build_pool(config, examples)
    check_arms(arm_specs(config), pool)
    text = check_policy(config)
    fits = fitting(examples, config.data, text, say)
    check_prompts(config, text, fits)
    check_disk(ledger.parent, disk_bytes(config, steps_of(config, len(fits)), len(fits)))
    begin(f"asking {len(names)} arms about a real prompt")
    answer_one_row(config, pool, arm_specs(config), fits, say, refuse=fresh)
    begin(f"loading {config.policy.model}")
    policy = Policy(config.policy, config.train, config.seed)
    contexts = Contexts(config.context, policy, prior.encoder(device=config.policy.device) if prior else None)
    ensemble = config.router.ensemble if config.router.mode == "ensemble" else None
    costs = {s.name: s.cost for s in arm_specs(config)}
    judge = Judge(
        pool, costs, fallback=config.pool.fallback, ensemble=ensemble, noise=config.noise, seed=config.seed, say=say
    )
    trainer = Trainer(policy, config.train, ranks.accelerator, schedule_of(config, len(fits)), config.seed)
    dim = contexts.of_unit(config.router.unit)
    committee = build_committee(config, judge, names, ranks.gather) if config.judge.mode == "committee" else None
    alone = ENSEMBLE if ensemble else COMMITTEE if committee and config.judge.first == "order" else None
    if alone:  # no router names an arm: decisions bear this name, calls the arms'
        router = RouterConfig(name="fixed", arm=alone, unit=config.router.unit)
        config, names = config.model_copy(update={"router": router}), [*names, alone]
    elif by_iteration(config.router):
        dim = 1
    dispatcher = build_dispatcher(config, ranks, ledger, names, dim, prior)
    return Parts(
        config, ranks, fits, policy, contexts, judge, trainer, dispatcher, len(examples) - len(fits), committee
    )


def build_committee(
    config: Config, judge: Judge, names: list[str], gather: Callable[[list[Any]], list[Any]]
) -> CommitteeJudge:
    """The committee over all arms but the one that labels, unfitted; InputError for costs or a budget that no order could keep."""
    names = [name for name in names if name != config.judge.labels.arm]
    settings, costs = config.judge, [judge.costs.get(name, 1.0) for name in names]
    free = [name for name, cost in zip(names, costs, strict=True) if cost <= 0]
    if free:
        raise InputError(f"arms.{free[0]}.cost: the committee orders arms by gain per cost; allowed above 0")
    voters = [cost for name, cost in zip(names, costs, strict=True) if name not in settings.vetoes]
    if not voters:
        raise InputError(f"judge.vetoes names all arms ({', '.join(names)}); one must be left to judge")
    if settings.budget is not None and settings.budget < max(voters):
        raise InputError(
            f"judge.budget={settings.budget} is below {max(voters)}, what one judgement of the dearest arm costs; allowed that or more"
        )
    vetoes = [names.index(name) for name in settings.vetoes]
    committee = Committee(
        costs,
        settings.price,
        settings.max_calls,
        gate=settings.gate,
        vetoes=vetoes,
        budget=settings.budget,
        seed=config.seed,
    )
    per_unit = 2 if config.router.unit == "pair" else config.policy.n_responses
    extra = math.inf if settings.labels.extra_calls is None else settings.labels.extra_calls / per_unit
    labels = settings.labels
    seed = keyed.key(config.seed, "init", 0, "committee") >> 65  # its draws are its own
    policy = LabelPolicy(labels.fraction, labels.full, labels.full_share, extra, seed)
    return CommitteeJudge(judge, OnlineCommittee(committee, policy, labels.start), names, settings, config.seed, gather)


def steps_of(config: Config, prompts: int) -> int:
    """Batches of a whole run."""
    return config.train.iterations * (
        config.train.batches_per_iteration or math.ceil(prompts / config.train.batch_prompts)
    )


def check_names(config: Config, examples: list[Example], names: list[str]) -> None:
    """InputError for a payoff that this data cannot give, or an arm that is none of the arms."""
    if config.payoff.name in ("verifier", "probe") and not any(e.verify for e in examples):
        raise InputError(
            f"payoff.name: {config.payoff.name} needs gold, and {config.data.source} has none; give data.answer_kind and an "
            "answer column, or use payoff.name: neg_loss"
        )
    if config.payoff.name == "python":
        import_callable(config.payoff.path or "", "payoff.path")
    vetoes = [(f"judge.vetoes.{i}", name) for i, name in enumerate(config.judge.vetoes)]
    known = (("router.arm", config.router.arm), ("pool.fallback", config.pool.fallback))
    for key, arm in (*known, ("judge.labels.by", config.judge.labels.arm), *vetoes):
        if arm is not None and arm not in names:
            raise InputError(f"{key}={arm!r} is none of the arms {', '.join(names)}")
    for key, uses, name in (
        ("router.mode: ensemble", config.router.mode == "ensemble", ENSEMBLE),
        ("judge: committee", config.judge.mode == "committee", COMMITTEE),
    ):
        if uses and name in names:
            raise InputError(f"arm {name!r}: {key} uses this name itself; give the arm another")
    by_gold = config.judge.mode == "committee" and config.judge.labels.arm is None
    if by_gold and (blank := sum(e.verify is None for e in examples)):
        raise InputError(
            f"judge: committee learns from gold of prompts drawn at random, and {blank} of {len(examples)} prompts have none; give "
            "data.answer_kind and an answer column, keep only prompts with answers, let an arm label (judge.labels.by), or use judge: single"
        )


def check_arms(specs: Sequence[ArmSpec], pool: RewardPool) -> None:
    """InputError where an arm cannot be had: its import path, its options, a package it needs, a model or its weights."""
    if any(source_of(spec) is not None for spec in specs):  # arms without weights need no torch
        from reward_router.preflight import check_models

        check_models(specs)
    for spec in specs:
        if source_of(spec) is None and (result := pool.score(spec.name, [], [])).error:
            raise InputError(f"arm {spec.name!r} cannot be built: {result.error}")


def fitting(
    examples: list[Example], data: DataConfig, policy: "Policy | PolicyText", say: Callable[[str], None]
) -> list[Example]:
    """The examples whose prompts the policy takes; a longer one is an InputError unless ``long_prompts: skip``."""
    if data.long_prompts == "refuse":
        for example in examples:
            policy.prompt_ids(example.prompt)
        return examples
    from reward_router.policy import PolicyText

    text = policy if isinstance(policy, PolicyText) else policy.text
    kept, limit = [e for e in examples if text.takes(e.prompt)], text.limit
    if not kept:
        most = policy.config.max_prompt_tokens
        least = (
            f"policy.max_prompt_tokens={most}" if limit == most else f"{limit} tokens, what the policy's context leaves"
        )
        raise InputError(f"data {data.source}: no prompt is within {least}")
    if len(kept) < len(examples):
        say(f"{len(examples) - len(kept)} of {len(examples)} prompts are longer than {limit} tokens and are left out")
    return kept


def by_iteration(config: RouterConfig) -> bool:
    """Whether the router's context is the iteration's number."""
    return config.name == "round_robin" and config.per == "iteration"


def checked_payoff(path: str) -> Callable[[Any], float | None]:
    """The payoff function at ``module:name``; InputError where it raises, or returns neither None nor a number in [0, 1].

    RunError where one call takes longer than `limits.SECONDS`.
    """
    function = import_callable(path, "payoff.path")

    def payoff(outcome: Any) -> float | None:
        try:
            value = within(lambda: function(outcome), f"payoff.path={path!r}")
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"payoff.path={path!r} raised {type(error).__name__}: {error}") from error
        if value is None:
            return None
        if not isinstance(value, int | float | np.number) or not 0 <= value <= 1:
            raise InputError(
                f"payoff.path={path!r} returned {value!r} for unit {outcome.unit!r}; allowed a number in [0, 1], or None for no payoff"
            )
        return float(value)

    return payoff


def import_callable(path: str, key: str) -> Callable[..., Any]:
    """The object at ``module:name``; InputError says which part is missing."""
    module, colon, name = path.partition(":")
    if not colon:
        raise InputError(f"{key}={path!r}: write it as module:function")
    try:
        with here_importable():
            holder = importlib.import_module(module)
    except (ImportError, SyntaxError, ValueError) as error:
        raise InputError(f"{key}={path!r}: {error}") from None
    except Exception as error:  # the module is the user's: whatever it raises while it is imported is its own
        said = " ".join(str(error).split())
        raise InputError(f"{key}={path!r} cannot be imported: {type(error).__name__}: {said}") from error
    found = getattr(holder, name, None)
    if found is None:
        raise InputError(f"{key}={path!r}: module {module} has no {name!r}")
    if not callable(found) or (inspect.isfunction(found) and not inspect.signature(found).parameters):
        raise InputError(f"{key}={path!r} is not a function of one argument")
    return found  # type: ignore[no-any-return]
