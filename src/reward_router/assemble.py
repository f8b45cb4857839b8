"""The parts of a run, made from its configuration.

Parts are prompts, policy, arms, router, dispatcher and trainer.
"""

import atexit
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reward_router import keyed
from reward_router.committee import Committee, LabelPolicy, OnlineCommittee
from reward_router.config import BreakerConfig, Config, DataConfig, RouterConfig, TrainConfig
from reward_router.contexts import Contexts
from reward_router.dispatch import BreakerRule, Dispatcher
from reward_router.dispatch.old import NamedDecider, names_its_decider
from reward_router.distributed import Ranks
from reward_router.errors import InputError
from reward_router.examples import Example, load_examples
from reward_router.kinds import ROUTERS
from reward_router.ledger import Ledger
from reward_router.online import online_prior, same_arms
from reward_router.outcomes import PayoffRule
from reward_router.payoffs import QuantileScaler
from reward_router.payoffs.judge import JudgePayoff
from reward_router.payoffs.own import function_at, own_payoff
from reward_router.rewards import configured
from reward_router.rewards.pool import RewardPool
from reward_router.rewards.spec import ArmSpec, source_of
from reward_router.routers import Fixed, Uniform
from reward_router.routers.binding import bound
from reward_router.session import Session
from reward_router.training.schedule import Schedule
from reward_router.types import By, Router
from reward_router.verdicts.asking import Asker
from reward_router.verdicts.batch import VerdictMode
from reward_router.verdicts.committee import CommitteeOfArms
from reward_router.verdicts.ensemble import Ensemble
from reward_router.verdicts.eval_only import EvalOnly
from reward_router.verdicts.single import SingleArm

if TYPE_CHECKING:
    from reward_router.offline.prior import Prior
    from reward_router.policy import Policy, PolicyText
    from reward_router.training.step import Trainer

Gather = Callable[[list[Any]], list[Any]]


@dataclass
class RunParts:
    """Everything that a step needs.

    The session is the middle of it; the policy and the trainer are its two ends.
    """

    config: Config
    ranks: Ranks
    examples: list[Example]
    policy: "Policy"
    contexts: Contexts
    trainer: "Trainer"
    session: Session
    asker: Asker
    long_prompts: int = 0
    eval_only: EvalOnly | None = None

    @property
    def dispatcher(self) -> Dispatcher:
        """The router with its ledger."""
        return self.session.dispatcher

    @property
    def pool(self) -> RewardPool:
        """The arms."""
        return self.session.pool

    @property
    def committee(self) -> CommitteeOfArms | None:
        """The committee, where one judges."""
        mode = self.session.mode
        return mode if isinstance(mode, CommitteeOfArms) else None

    @property
    def routed(self) -> bool:
        """Whether a router names arms.

        False where all arms judge together, or the committee names them itself.
        """
        return self.session.mode.by is By.ROUTER

    @property
    def batches_per_iteration(self) -> int:
        """Batches after which the reference moves."""
        return batches_per_iteration(self.config.train, len(self.examples))

    @property
    def steps(self) -> int:
        """Batches of the whole run."""
        return self.config.train.iterations * self.batches_per_iteration

    def routed_ids(self) -> set[str]:
        """Ids of the prompts that some step of the run routes.

        Costs O(prompts) a step, for one pass over the data at most.
        """
        one_pass = math.ceil(len(self.examples) / self.config.train.batch_prompts)
        # After one pass every prompt has been seen: later steps add nothing.
        last = min(self.steps, one_pass)

        routed: set[str] = set()
        for t in range(last):
            routed.update(example.id for example in self.batch(t))
        return routed

    def batch(self, t: int) -> list[Example]:
        """The prompts of step t.

        A run passes over its data again and again, each time in another keyed order. No prompt is
        twice in a batch.
        """
        size = self.config.train.batch_prompts
        total = len(self.examples)
        batches_per_pass = math.ceil(total / size)
        number_of_pass, number_in_pass = divmod(t, batches_per_pass)

        # The order hangs on the pass alone, so a resumed run finds its place without any state.
        draw = keyed.rng(self.config.seed, "data", number_of_pass)
        order = draw.permutation(total)
        start = number_in_pass * size
        return [self.examples[i] for i in order[start : start + size]]


def batches_per_iteration(train: TrainConfig, prompts: int) -> int:
    """As configured, or those of one pass over so many prompts."""
    return train.batches_per_iteration or math.ceil(prompts / train.batch_prompts)


def schedule_of(config: Config, prompts: int) -> Schedule:
    """The learning rates of a run over so many prompts."""
    train = config.train
    # A prompt gives as many pairs as its responses form, and at most ``pairs.per_prompt``.
    all_pairs_of_prompt = math.comb(config.policy.n_responses, 2)
    pairs_per_prompt = min(config.pairs.per_prompt, all_pairs_of_prompt)
    most_pairs = min(train.batch_prompts, prompts) * pairs_per_prompt

    # Planned steps are counted for batches that give as many pairs as they can (see ``schedule``).
    mini_batches = 1
    if train.mini_batch:
        mini_batches = math.ceil(most_pairs / train.mini_batch)
    steps_per_batch = train.steps_per_batch * mini_batches
    batches = train.iterations * batches_per_iteration(train, prompts)
    return Schedule(train.lr, train.warmup, train.schedule, batches, steps_per_batch)


def arm_specs(config: Config) -> list[ArmSpec]:
    """The arms that may judge, in the order of the configuration.

    These are the embedded ones where the configuration lists none.
    """
    apart = (config.eval.arm, config.payoff.arm)
    return configured.configured_arms([arm for arm in config.arms if arm.name not in apart])


def evaluation_spec(config: Config) -> ArmSpec | None:
    """The arm kept for evaluation only (``eval.arm``).

    None where there is none, or where gold is it.
    """
    kept_out = [arm for arm in config.arms if arm.name == config.eval.arm and arm.kind != "gold"]
    return configured.spec_of(kept_out[0]) if kept_out else None


def arm_names(config: Config) -> list[str]:
    """Names in the order of the configuration."""
    return [spec.name for spec in arm_specs(config)]


def build_pool(config: Config, examples: list[Example]) -> RewardPool:
    """The arms behind one door, in the configured order; nothing is loaded yet."""
    return configured.arm_pool(arm_specs(config), config.pool, config.policy.device, examples)


def know_gold(parts: RunParts, examples: Sequence[Example]) -> None:
    """Let the arms of kind gold judge these prompts, too."""
    parts.pool.know(examples)


def build_router(
    config: RouterConfig, arms: list[str], dim: int, seed: int, prior: "Prior | None" = None
) -> Router:
    """The configured router; options that are left out take its own defaults."""
    return bound(ROUTERS[config.name].build(arms, dim, config.options, seed=seed, artifact=prior))


def prior_warnings(config: Config, prior: "Prior", specs: Sequence[ArmSpec]) -> list[str]:
    """Warnings about what the prior does not say of the arms of a run.

    InputError where an arm is not the one of that name that the prior was learned with.
    """
    prior_name = config.router.prior or ""
    warnings = [same_arms(prior, specs, prior_name)]
    if unknown := prior.unknown(arm_names(config)):
        warnings.append(
            f"{prior_name} has no strengths of {', '.join(unknown)}; they start with a zero prior"
        )
    return [warning for warning in warnings if warning]


@dataclass(frozen=True)
class Arms:
    """Names of the arms with what a router and the ledger need to know beside them.

    ``dim``: of what the router sees. ``by``: who decides; where it is not the router, none is
    asked.
    """

    names: list[str]
    dim: int
    by: By = By.ROUTER


def build_dispatcher(
    config: Config, ranks: Ranks, path: Path, arms: Arms, prior: "Prior | None" = None
) -> Dispatcher:
    """Router and ledger, bound together.

    Processes other than the first keep a private copy of the ledger.
    """
    if not ranks.main:
        folder = Path(tempfile.mkdtemp(prefix="reward-router-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        if path.exists():
            shutil.copy(path, folder / "ledger.sqlite")
        path = folder / "ledger.sqlite"
    # Routing is the same on every process, so each needs the ledger, and only one may write it.
    ranks.wait()  # nobody writes while the others copy
    ledger = Ledger(path, durability=config.durability, contexts=config.contexts)
    if arms.by is By.ROUTER:
        router = build_router(config.router, arms.names, arms.dim, config.seed, prior)
        return bound_dispatcher(config, router, arms.names, ledger)
    # Ledgers of earlier versions name an arm for the ensemble or the committee: they go on so.
    if names_its_decider(ledger, arms.names, arms.by):
        names = [*arms.names, str(arms.by)]
        return bound_dispatcher(
            config, Fixed(len(names), len(names) - 1), names, ledger, NamedDecider
        )
    # This router is never asked and never taught: the dispatcher only needs one.
    placeholder = Uniform(len(arms.names))
    return bound_dispatcher(config, placeholder, arms.names, ledger)


def bound_dispatcher(
    config: Config,
    router: Router,
    names: list[str],
    ledger: Ledger,
    kind: type[Dispatcher] = Dispatcher,
) -> Dispatcher:
    """A dispatcher with the settings of a run."""
    payoff = config.payoff
    # Stand-ins are tried in this order: the configured fallback first, then the arms as listed.
    stand_ins = list(names)
    if config.pool.fallback is not None:
        stand_ins = [config.pool.fallback, *names]
    return kind(
        router,
        names,
        ledger=ledger,
        seed=config.seed,
        scaler=QuantileScaler(payoff.low, payoff.high, payoff.history, payoff.window),
        hold_back=payoff.hold_back,
        breaker=breaker_rule(config.pool.breaker),
        fallback=list(dict.fromkeys(stand_ins)),
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
) -> RunParts:
    """Load everything a run needs.

    InputError before the first step where something cannot be right.

    ``say`` is told what a user should know; ``begin`` (none: ``say``, too) what is being loaded.
    ``examples``: the prompts of ``config.data`` where they are read already.
    """
    begin = begin or say
    from reward_router.policy import Policy
    from reward_router.preflight import (
        answer_one_row,
        check_disk,
        check_policy,
        check_prompts,
        disk_bytes,
    )
    from reward_router.training.step import Trainer

    fresh = not ledger.exists()  # a run that goes on has met its arms already
    if examples is None:
        examples = load_examples(config.data)
    names = arm_names(config)
    check_names(config, examples, names)
    prior = online_prior(config.router, config.payoff.name)
    # From the cheapest check to the dearest: nothing is loaded before all of them passed.
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
    if config.payoff.kind.needs_arm:
        answer_one_row(config, judge_pool(config), judge_specs(config), fits, say, refuse=fresh)
    lookers = build_eval_only(config, examples, ranks, say)
    if lookers is not None:
        answer_one_row(
            config, lookers.pool, configured.eval_specs(config.arms), fits, say, refuse=fresh
        )
    begin(f"loading {config.policy.model}")
    policy = Policy(config.policy, config.train, config.seed)
    encoder_of_pairs = prior.encoder(device=config.policy.device) if prior else None
    contexts = Contexts(config.context, policy, encoder_of_pairs)
    trainer = Trainer(
        policy, config.train, ranks.accelerator, schedule_of(config, len(fits)), config.seed
    )
    asker = build_asker(config, pool, say)
    mode = build_mode(config, asker, names, ranks.gather)
    dim = contexts.of_unit(config.router.unit)
    # The context is then one number, that of the iteration.
    if mode.by is By.ROUTER and by_iteration(config.router):
        dim = 1
    dispatcher = build_dispatcher(config, ranks, ledger, Arms(names, dim, mode.by), prior)
    session = Session(dispatcher, pool, contexts.prompts, payoff_rule(config), mode)
    session.gather = ranks.gather
    skipped = len(examples) - len(fits)
    return RunParts(
        config, ranks, fits, policy, contexts, trainer, session, asker, skipped, lookers
    )


def build_eval_only(
    config: Config, examples: list[Example], ranks: Ranks, say: Callable[[str], None]
) -> EvalOnly | None:
    """The arms that only look, in a pool of their own; None where there are none."""
    specs = configured.eval_specs(config.arms)
    if not specs:
        return None
    # A pool of their own: what they say must reach neither router nor trainer.
    pool = configured.arm_pool(specs, config.pool, config.policy.device, examples)
    check_arms(specs, pool)

    shares = {arm.name: arm.eval_share for arm in config.arms}
    costs = {spec.name: spec.cost for spec in specs}
    lookers = EvalOnly(pool, shares, costs, config.seed)
    lookers.gather = ranks.gather
    lookers.warn = say
    return lookers


def build_asker(config: Config, pool: Any, say: Callable[[str], None] = lambda _: None) -> Asker:
    """How the arms of this run are asked; ``pool``: a `RewardPool`, or whatever scores like one."""
    costs = {spec.name: spec.cost for spec in arm_specs(config)}
    asker = Asker(pool, costs, fallback=config.pool.fallback)
    asker.noise = config.noise
    asker.seed = config.seed
    asker.say = say
    return asker


def build_mode(config: Config, asker: Asker, names: list[str], gather: Gather) -> VerdictMode:
    """Who judges: the drawn arm, all arms, or the committee."""
    if config.judge.mode == "committee":
        return build_committee(config, asker, names, gather)
    if config.router.mode == "ensemble":
        return Ensemble(asker, config.router.ensemble)
    return SingleArm(asker)


def judge_specs(config: Config) -> list[ArmSpec]:
    """The arm that pays (``payoff.arm``); empty where none does."""
    return [configured.spec_of(arm) for arm in config.arms if arm.name == config.payoff.arm]


def judge_pool(config: Config) -> RewardPool:
    """The arm that pays, in a pool of its own; nothing is loaded yet."""
    return configured.arm_pool(judge_specs(config), config.pool, config.policy.device)


def payoff_rule(config: Config) -> PayoffRule:
    """The configured payoff."""
    payoff = config.payoff
    function: Callable[[Any], float | None] | None = None
    if payoff.kind.needs_path:
        function = own_payoff(payoff.path or "")
    elif payoff.kind.needs_arm:
        function = JudgePayoff(judge_pool(config), payoff.arm or "")
    rule = PayoffRule(
        payoff.name,
        function,
        fraction=payoff.fraction,
        seed=config.seed,
        dpo=config.train.loss == "dpo",
    )
    if isinstance(function, JudgePayoff):
        function.count = rule.paid_calls
    return rule


def build_committee(
    config: Config, asker: Asker, names: list[str], gather: Gather
) -> CommitteeOfArms:
    """The committee over all arms but the one that labels, not fitted yet.

    InputError for costs or a budget that no order of the arms could keep.
    """
    names = [name for name in names if name != config.judge.labels.arm]
    settings = config.judge
    costs = [asker.cost(name) for name in names]
    free = [name for name, cost in zip(names, costs, strict=True) if cost <= 0]
    if free:
        raise InputError(
            f"arms.{free[0]}.cost: the committee orders arms by gain per cost; allowed above 0"
        )
    voters = [cost for name, cost in zip(names, costs, strict=True) if name not in settings.vetoes]
    if not voters:
        raise InputError(
            f"judge.vetoes names all arms ({', '.join(names)}); one must be left to judge"
        )
    if settings.budget is not None and settings.budget < max(voters):
        raise InputError(
            f"judge.budget={settings.budget} is below {max(voters)}, what one judgement of the "
            "dearest arm costs; allowed that or more"
        )
    vetoes = [names.index(name) for name in settings.vetoes]
    committee = Committee(
        costs,
        settings.price,
        settings.max_calls,
        gate=settings.gate,
        weights=settings.weights,
        max_error=settings.max_error,
        vetoes=vetoes,
        budget=settings.budget,
        seed=config.seed,
    )
    labels = settings.labels
    calls_per_unit = 2 if config.router.unit == "pair" else config.policy.n_responses
    extra_units = math.inf
    if labels.extra_calls is not None:
        extra_units = labels.extra_calls / calls_per_unit
    # A seed of its own: what the committee draws must not depend on what the run draws.
    seed = keyed.key(config.seed, "init", 0, "committee") >> 65
    policy = LabelPolicy(labels.fraction, labels.full, labels.full_share, extra_units, seed)
    online = OnlineCommittee(committee, policy, labels.start)
    return CommitteeOfArms(asker, online, names, settings, gather)


def steps_of(config: Config, prompts: int) -> int:
    """Batches of a whole run."""
    return config.train.iterations * batches_per_iteration(config.train, prompts)


def check_names(config: Config, examples: list[Example], names: list[str]) -> None:
    """InputError for a payoff that this data cannot give, or an arm that is none of the arms."""
    if config.payoff.kind.needs_gold and not any(e.verify for e in examples):
        raise InputError(
            f"payoff.name: {config.payoff.name} needs gold, and "
            f"{config.data.source} has none; give "
            "data.answer_kind and an "
            "answer column, or use payoff.name: neg_loss"
        )
    if config.payoff.path is not None:
        function_at(config.payoff.path)
    vetoes = [(f"judge.vetoes.{i}", name) for i, name in enumerate(config.judge.vetoes)]
    named_arms = [
        ("router.arm", config.router.arm),
        ("pool.fallback", config.pool.fallback),
        ("judge.labels.by", config.judge.labels.arm),
        *vetoes,
    ]
    for key, arm in named_arms:
        if arm is not None and arm not in names:
            raise InputError(f"{key}={arm!r} is none of the arms {', '.join(names)}")
    by_gold = config.judge.mode == "committee" and config.judge.labels.arm is None
    if by_gold and (blank := sum(e.verify is None for e in examples)):
        raise InputError(
            f"judge: committee learns from gold of prompts drawn at random, and {blank} of "
            f"{len(examples)} prompts have none; give "
            "data.answer_kind and an answer column, keep only prompts with answers, let an arm "
            "label (judge.labels.by), or use judge: single"
        )


def check_arms(specs: Sequence[ArmSpec], pool: RewardPool) -> None:
    """Check that every arm can be had.

    InputError where one cannot, for its import path, its options, a package that it needs, its
    model or its weights.
    """
    if any(source_of(spec) is not None for spec in specs):  # arms without weights need no torch
        from reward_router.preflight import check_models

        check_models(specs)
    for spec in specs:
        if source_of(spec) is None and (result := pool.score(spec.name, [], [])).error:
            raise InputError(f"arm {spec.name!r} cannot be built: {result.error}")


def fitting(
    examples: list[Example],
    data: DataConfig,
    policy: "Policy | PolicyText",
    say: Callable[[str], None],
) -> list[Example]:
    """The examples whose prompts the policy takes.

    A longer prompt is an InputError, unless ``data.long_prompts: skip`` leaves it out.
    """
    # Refusing is the default: silently leaving prompts out would change what is trained on.
    if data.long_prompts == "refuse":
        for example in examples:
            policy.prompt_ids(example.prompt)
        return examples
    from reward_router.policy import PolicyText

    text = policy if isinstance(policy, PolicyText) else policy.text
    kept = [example for example in examples if text.takes(example.prompt)]
    limit = text.limit
    if not kept:
        most = policy.config.max_prompt_tokens
        in_words = f"{limit} tokens, what the policy's context leaves"
        if limit == most:
            in_words = f"policy.max_prompt_tokens={most}"
        raise InputError(f"data {data.source}: no prompt is within {in_words}")
    if len(kept) < len(examples):
        say(
            f"{len(examples) - len(kept)} of {len(examples)} prompts are longer "
            f"than {limit} tokens and are left out"
        )
    return kept


def by_iteration(config: RouterConfig) -> bool:
    """Whether the router's context is the iteration's number."""
    return config.by_iteration
