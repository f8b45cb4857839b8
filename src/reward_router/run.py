"""One run from configuration to report: begin or resume, gold before, the steps with looks, gold after, summary."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from reward_router import config as configuration
from reward_router import machine
from reward_router.artifacts import shipped_study
from reward_router.assemble import Parts, arm_names, assemble, fitting, know_gold
from reward_router.best_of import best_of
from reward_router.changes import differences, told
from reward_router.config import Config, DataConfig
from reward_router.distributed import Ranks
from reward_router.errors import InputError
from reward_router.evaluate import Gold, compare, measure
from reward_router.examples import Example, balanced, load_examples
from reward_router.headline import BEST_OF, GOLD, GOLD_SAMPLED, best_of_line
from reward_router.ledger import Ledger
from reward_router.looks import Looks, look_prompts
from reward_router.loop import Loop, describe
from reward_router.manifest import dev_set, manifest, prior_digest
from reward_router.online import prior_trust
from reward_router.progress import Clock, Show, plain_console, say
from reward_router.reckon import chosen_cost, measured_cost, step_cost
from reward_router.rundir import RunDir, as_arrays, as_tensors, explained, read_state
from reward_router.samples import Samples
from reward_router.summary import (
    arms_table,
    model_hash,
    payoff_gold_correlation,
    show_summary,
    total_price,
    units_by_category,
)
from reward_router.win_rate import win_rate

TELLING = 50
"""A run that goes on tells how far it is at most for one part in so many of its time."""


def train(
    config: Config,
    out: Path,
    *,
    resume: bool = False,
    accept_changes: bool = False,
    console: Console | None = None,
    before: dict[str, Gold] | None = None,
    at_checkpoint: Callable[[Path], object] | None = None,
) -> dict[str, Any]:
    """Run ``config`` into the directory ``out``; returns what summary.json holds. ``before``: gold measured already, by kind.

    ``at_checkpoint`` is given the directory after a checkpoint, as long as that takes no more than a fiftieth of the run's time:
    ``progress.json`` there says then what summary.json would.

    ``resume`` goes on from the last checkpoint there: decisions, payoffs and the router's state come out as if the run had
    never been interrupted. What the run is made of (prompts, weights, code, versions) must be what it began with, else it is
    refused; ``accept_changes`` goes on all the same and records what changed. InputError (exit 2) for what cannot be right, RunError (exit 1) where it had to stop.
    """
    run, clock = RunDir(out), Clock()
    if accept_changes and not resume:
        raise InputError(
            "--accept-changes says what --resume may go on with; give both, or neither"
        )
    run.check(config, resume)
    ranks = Ranks("cpu" if config.policy.device == "cpu" else "auto")
    console = console if console and ranks.main else plain_console(quiet=True)
    with clock.phase("load"):
        examples = load_examples(config.data)
    if resume:
        state, note = ranks.once(lambda: _resumed(run, config, examples, accept_changes))
        if note:
            say(console, note, "yellow")
    else:
        made_of = manifest(config, examples) | origin()
        state = ranks.once(lambda: run.begin(config, made_of))
    if state is not None:
        clock = Clock(state["seconds"])
    parts, show = None, Show(console, {}, clock)
    try:
        with show:
            with clock.phase("load"):
                parts = assemble(
                    config,
                    run.ledger,
                    ranks,
                    lambda what: say(console, what, "dim"),
                    examples,
                    show.begin,
                )
                going = _Run(run, parts, clock, show, before or {})
                going.at_checkpoint = at_checkpoint
            after = going.go(state)
        return going.finish(after)
    except InputError:
        if not run.metrics.is_file():
            run.abandon()
        raise
    finally:
        if parts is not None:
            parts.dispatcher.ledger.close()


def _resumed(
    run: RunDir, config: Config, examples: list[Example], accept: bool
) -> tuple[dict[str, Any] | None, str]:
    """The checkpoint to go on from, and what the user should know; nothing is touched where the run is refused."""
    now, kept = manifest(config, examples), run.read_manifest()
    changes = {} if kept is None else differences(kept, now)
    if (
        kept is None
        and (last := _last_state(run)) is not None
        and last.get("prior") != now["prior"]
    ):
        changes = {"prior": [last.get("prior"), now["prior"]]}
    if changes and not accept:
        raise InputError(
            f"--resume {run.path}: {told(changes)}; put it back, or give --accept-changes to go on with it"
        )
    state = rewind(run)
    accepted = list((kept or {}).get("accepted", []))
    if changes:
        accepted.append({"step": state["step"] if state else 0, "changes": changes})
        with Ledger(run.ledger) as ledger:
            ledger.remember("accepted_changes", accepted)
    if kept is None or changes:
        began = {key: kept[key] for key in origin() if kept is not None and key in kept}
        run.write_manifest({**now, **began, **({"accepted": accepted} if accepted else {})})
    note = f"note: {told(changes)}; going on as told, and the report says so" if changes else ""
    if kept is None:
        note = note or (
            f"note: {run.path} began before manifests were kept: whether its prompts, weights or versions changed since "
            "then cannot be told"
        )
    return state, note


def _last_state(run: RunDir) -> dict[str, Any] | None:
    """The newest checkpoint's state, its tensors whole or not; None where there is none."""
    found = run.checkpoints()
    return read_state(found[-1]) if found else None


def rewind(run: RunDir) -> dict[str, Any] | None:
    """The newest checkpoint's state; what came after it leaves ledger and log: those steps are run again."""
    if not run.ledger.exists():
        if run.checkpoints():
            raise InputError(
                f"--resume {run.path}: {run.ledger.name} is missing; the run cannot go on without it"
            )
        return None
    with Ledger(run.ledger) as ledger:
        state = run.newest_checkpoint(ledger.last_seq)
        ledger.rewind(state["seq"] if state else 0, "resumed from a checkpoint")
    run.trim_log(state["step"] if state else 0)
    return state


class _Run:
    def __init__(
        self, run: RunDir, parts: Parts, clock: Clock, show: Show, before: dict[str, Gold]
    ) -> None:
        self.run, self.parts, self.clock, self.config = run, parts, clock, parts.config
        self.show, self.console = show, show.console
        self.held_out = self._examples(dev_set(self.config))
        self.test = self._examples(self.config.eval.test)
        self.looks = self._make_looks() if self.config.eval.keep == "best" else None
        settings, single = self.config.eval, parts.routed and parts.committee is None
        self.chooses = settings.best_of and settings.samples > 1 and bool(self.held_out) and single
        self.answers: list[tuple[Example, list[str]]] = []
        self.samples = Samples(run, parts.ranks)
        self.best_of: dict[str, Any] = {}
        if self.chooses:
            know_gold(parts, self.held_out)
        self.show.expect(*self._plan())
        self.loop = Loop(parts, clock, self.show.say, self._warn)
        parts.asker.say = self.show.say
        parts.asker.warn = self._warn
        if parts.eval_only is not None:
            parts.eval_only.warn = self._warn
        wanted = self.kinds().keys() - (
            {GOLD_SAMPLED} if self.chooses else set()
        )  # the responses are needed, too
        self.before = {kind: gold for kind, gold in before.items() if kind in wanted}
        self.first = self.done = 0
        self.at_checkpoint: Callable[[Path], object] | None = None
        self.told = self.telling = 0.0  # when progress was told last, and the seconds that took

    def _plan(self) -> tuple[dict[str, int], dict[str, float]]:
        """How often each kind of work is to be done, and how much work it is."""
        parts, config = self.parts, self.config
        plan, costs = {"step": parts.steps}, {"step": step_cost(config, parts.examples)}
        if self.looks is not None:
            plan["look"] = sum(self.looks.due(t, parts.steps) for t in range(parts.steps + 1))
            costs["look"] = measured_cost(
                config, len(self.looks.examples), config.eval.look_samples
            )
        for kind, (examples, samples) in self.kinds().items():
            plan[kind], costs[kind] = 2, measured_cost(config, len(examples), samples)
        if self.chooses:
            plan[BEST_OF], costs[BEST_OF] = 2, chosen_cost(config, self.held_out)
        return plan, costs

    def _once(self) -> float:
        """Seconds of the last verdicts that went into loading models which now stay."""
        return self.loop.loading if self.parts.pool.stays else 0.0

    def kinds(self) -> dict[str, tuple[list[Example], int]]:
        """Kinds of gold this run measures: name in the summary -> prompts and samples of each (0: one greedy response)."""
        settings = self.config.eval
        sets = {GOLD: self.held_out, "gold_test": self.test}
        kinds = {
            name: (examples, 0) for name, examples in sets.items() if examples and settings.greedy
        }
        if settings.samples:
            kinds |= {
                f"{name}_sampled": (examples, settings.samples)
                for name, examples in sets.items()
                if examples
            }
        return kinds

    def _make_looks(self) -> Looks:
        parts, config = self.parts, self.config
        held_out = [e.prompt for e in (*self.held_out, *self.test)]
        chosen = look_prompts(parts.examples, parts.routed_ids(), held_out, config.eval.look)
        return Looks(config, chosen, parts.policy, parts.ranks)

    def _warn(self, what: str) -> None:
        say(self.console, what, "yellow")

    def _examples(self, data: DataConfig | None) -> list[Example]:
        if data is None:
            return []
        everyone = load_examples(data)
        judged = [e for e in everyone if e.verify] or (everyone if self.config.eval.arm else [])
        return (
            balanced(fitting(judged, data, self.parts.policy, self._warn), self.config.eval.limit)
            if judged
            else []
        )

    def go(self, state: dict[str, Any] | None) -> dict[str, Gold]:
        """Everything up to gold after training, which it returns."""
        if state is not None:
            self._restore(state, self.run.load_tensors(state))
            say(self.console, f"resumed after step {self.first} of {self.parts.steps}")
        else:
            for kind in self.before:
                self.show.skip(kind)
            self.before |= self._measure_all(
                "before", [kind for kind in self.kinds() if kind not in self.before]
            )
            self._choose("before", 0)
            self.samples.write()
            self._look(0)
            self._checkpoint(0)
        for t in range(self.first, self.parts.steps):
            if self.looks is not None and self.looks.stopped:
                break
            self._step(t)
        return self._after()

    def _step(self, t: int) -> None:
        record = self.loop.step(t)
        self.done = t + 1
        self.show.advance(describe(record), once=self._once())
        record["look"] = self._look(t + 1)
        if self.parts.ranks.main:
            self.run.log(record)
        # a run that may stop at the next step, for want of judges, goes on from here
        stuck = set(self.parts.pool.names) <= set(record["resting"])
        due = (t + 1) % self.config.checkpoint_every == 0 or record["skipped"] or stuck
        if due and t + 1 < self.parts.steps:
            self._checkpoint(t + 1)

    def _look(self, step: int) -> dict[str, Any] | None:
        """A look after ``step`` steps where one is due: its entry for the log."""
        if self.looks is None or not self.looks.due(step, self.parts.steps):
            return None

        def tick(done: int, total: int) -> None:
            self.show.say(f"looking at train prompts: {done}/{total} answered")

        with self.clock.phase("eval"):
            entry = self.looks.look(step, tick)
        if self.looks.stopped and step < self.parts.steps:
            say(
                self.console,
                f"stopped after step {step}: {self.config.eval.patience} looks brought nothing better",
            )
        base = "" if step == 0 else f" (base model {entry['base']:.3f}, best {entry['best']:.3f})"
        self.show.advance(
            f"look after step {step}: gold {entry['gold']:.3f} on train prompts{base}", "look"
        )
        return entry

    def _after(self) -> dict[str, Gold]:
        """Gold of the adapter that is kept; of the base model it is known."""
        after, base = dict(self.before), self.looks is not None and self.looks.settle().step == 0
        lost = (
            {GOLD_SAMPLED} if self.chooses and not self.answers else set()
        )  # by a resume; drawn again alike
        for kind in self.kinds():
            if base and kind not in lost:
                self.show.skip(kind)
            else:
                after[kind] = self._measure(kind, "after")
        self._choose("after", self.done)
        self.samples.write()
        return after

    def _choose(self, when: str, step: int) -> None:
        """Best of n among the sampled responses to the held-out prompts, where it is asked for."""
        if not self.chooses:
            return
        self.show.say(f"best of {self.config.eval.samples} {when} training")
        with self.clock.phase("eval"):
            found = best_of(
                self.loop, self.answers, step, lambda picks: self.samples.chosen(when, picks)
            )
        self.best_of[when] = found
        self.show.advance(best_of_line(found, when), BEST_OF, self._once())

    def _measure_all(self, when: str, kinds: list[str]) -> dict[str, Gold]:
        return {kind: self._measure(kind, when) for kind in kinds}

    def _measure(self, kind: str, when: str) -> Gold:
        examples, samples = self.kinds()[kind]
        how = f"{samples} samples each" if samples else "greedy"

        def tick(done: int, total: int) -> None:
            self.show.say(f"gold {when} training: {done}/{total} prompts")

        def keep(example: Example, responses: Sequence[str]) -> None:
            self.samples.keep(when, kind, example, responses)
            if kind == GOLD_SAMPLED and self.chooses:
                self.answers.append((example, list(responses)))

        self.answers = [] if kind == GOLD_SAMPLED else self.answers
        tick(0, len(examples))
        settings = self.config.eval
        with self.clock.phase("eval"):
            gold = measure(
                self.parts.policy,
                examples,
                self.parts.ranks,
                settings.max_new_tokens,
                settings.batch,
                tick,
                samples,
                keep,
            )
        share = sum(gold.right) / len(gold.right)
        told = f"{share:.3f} of" if share == share else "unknown, answered"
        self.show.advance(
            f"gold {when} training: {told} {len(gold.right)} held-out prompts, {how}", kind
        )
        return gold

    def _checkpoint(self, step: int) -> None:
        self.parts.ranks.wait()
        if not self.parts.ranks.main:
            return
        with self.clock.phase("checkpoint"):
            policy = self.parts.policy
            tensors = {
                "policy": policy.adapter_state("policy"),
                "reference": policy.adapter_state("reference"),
                "optimizer": self.parts.trainer.state_dict(),
            }
            if self.parts.committee is not None:
                tensors["committee"] = as_tensors(self.parts.committee.state_dict())
            if self.looks is not None:
                tensors["best"] = self.looks.adapter
            state = {
                "looks": self.looks.state_dict() if self.looks is not None else None,
                "seq": self.parts.dispatcher.ledger.last_seq,
                "before": {name: gold.to_json() for name, gold in self.before.items()},
                "best_of": self.best_of,
                "counts": self.loop.counts,
                "seconds": dict(self.clock.seconds),
                "prior": prior_digest(self.config),
            }
            self.run.save_checkpoint(step, tensors, state)
            self._tell()

    def _tell(self) -> None:
        """Let others see how far the run is; seldom enough that it takes a fiftieth of the time."""
        now = time.perf_counter()
        if self.at_checkpoint is None or now - self.told < TELLING * self.telling:
            return
        self.run.write_progress(self._summary({}))
        self.at_checkpoint(self.run.path)
        self.told = time.perf_counter()
        self.telling = self.told - now

    def _restore(self, state: dict[str, Any], tensors: dict[str, dict[str, Any]]) -> None:
        self.parts.policy.load_adapter(tensors["policy"], "policy")
        self.parts.policy.load_adapter(tensors["reference"], "reference")
        self.parts.trainer.load_state_dict(tensors["optimizer"])
        if self.parts.committee is not None:
            self.parts.committee.load_state_dict(as_arrays(tensors["committee"]))
        self.parts.policy.sync()
        self.before = {name: Gold(**gold) for name, gold in state["before"].items()}
        self.best_of = state.get("best_of", {})
        self.loop.counts.update(state["counts"])
        self.first = self.done = state["step"]
        for _ in range(self.first):
            self.show.skip()
        for kind in (*self.before, *([BEST_OF] if self.best_of else [])):
            self.show.skip(kind)
        if self.looks is not None:
            self.looks.load_state_dict(state["looks"], tensors["best"])
            for _ in self.looks.looks:
                self.show.skip("look")

    def finish(self, after: dict[str, Gold]) -> dict[str, Any]:
        """Write what the run made, and say it."""
        if not self.parts.ranks.main:
            return {}
        with explained(self.run.adapter):
            self.parts.policy.save_pretrained(self.run.adapter)
        with explained(self.run.router):
            save_router(self.run.router, self.parts)
        summary = self._summary(after)
        self.parts.dispatcher.close()
        self.run.finish(summary)
        show_summary(summary, self.console)
        return summary

    def _summary(self, after: dict[str, Gold]) -> dict[str, Any]:
        parts, config = self.parts, self.config
        made_of = self.run.read_manifest() or {}
        accepted = made_of.pop("accepted", [])
        counted = parts.dispatcher.counts()
        by_status = counted["calls"]
        audit = by_status.get("audit", 0)
        made = sum(by_status.values()) - audit - by_status.get("shared", 0)
        n_arms = len(parts.committee.names if parts.committee else parts.pool.names)
        return {
            "router": judged_by(config),
            "unit": config.router.unit,
            "payoff": config.payoff.name,
            "truncated": config.pairs.truncated,
            "n_arms": n_arms,
            "steps": self.done,
            "planned_steps": parts.steps,
            "kept": self.looks.summary() if self.looks is not None and self.looks.looks else None,
            "arms": arms_table(parts),
            "units_by_category": units_by_category(parts),
            **dict.fromkeys((GOLD, GOLD_SAMPLED, "gold_test", "gold_test_sampled")),
            **{
                kind: compare(self.before[kind], gold)
                for kind, gold in after.items()
                if _known(gold)
            },
            "win_rate": win_rate(config, self.run.read_samples())
            if after and config.eval.arm
            else None,
            "gold_rows": {
                n: {"before": self.before[n].to_json(), "after": g.to_json()}
                for n, g in after.items()
            },
            "samples": config.eval.samples,
            "best_of": self.best_of or None,
            "study": shipped_study() if is_default(config) else None,
            "trust": prior_trust(parts.dispatcher.router),
            "payoff_gold": payoff_gold_correlation(parts),
            "calls": {
                "made": made,
                "audit": audit,
                "label": by_status.get("label", 0),
                "payoff": self.loop.counts.get("payoff_calls", 0),
                "best_of": sum(found["calls"] for found in self.best_of.values()),
                "all_arms": self.loop.counts["responses"] * n_arms,
                "by_status": by_status,
                "price": total_price(parts),
            },
            "counts": {
                **self.loop.counts,
                "long_prompts": parts.long_prompts,
                "arm_failures": counted["failures"],
            },
            "committee": self._committee(made - by_status.get("label", 0)),
            "saturated": counted.get("saturated"),
            "seconds": {k: round(v, 3) for k, v in self.clock.seconds.items()},
            "peak_memory_gib": peak_memory(),
            "manifest": {
                **made_of,
                "model": model_hash(parts.policy.model.get_base_model()),
                "ended": machine.now(),
            },
            "accepted_changes": accepted,
        }

    def _committee(self, judged: int) -> dict[str, Any] | None:
        committee = self.parts.committee
        if committee is None:
            return None
        refits = [
            r
            for line in self.run.read_log()
            for r in (line.get("committee") or {}).get("refits", [])
        ]
        calls = judged / max(1, self.loop.counts["responses"])
        return {
            **committee.describe(),
            "calls_per_response": calls,
            "counts": committee.counts,
            "refits": refits,
        }


def _known(gold: Gold) -> bool:
    """Whether gold is known of every prompt; of those that an arm alone judges it is not."""
    return all(right == right for right in gold.right)


def origin() -> dict[str, Any]:
    """When a run began, on which machine and by which commit of this program: told in the report, compared nowhere."""
    return {"began": machine.now(), "hardware": machine.hardware(), "commit": machine.commit()}


def is_default(config: Config) -> bool:
    """Whether this is the embedded default, with any seed."""
    default = configuration.load()
    return config.model_copy(update={"seed": default.seed}) == default


def judged_by(config: Config) -> str:
    """Who judges, in a few words."""
    if config.router.mode == "ensemble":
        return f"{config.router.ensemble} ensemble"
    if config.judge.mode == "committee":
        return (
            "committee"
            if config.judge.first == "order"
            else f"committee after {config.router.name}"
        )
    return config.router.name


def save_router(path: Path, parts: Parts) -> None:
    """The router's learned state with the names of its arms, arrays only."""
    import numpy as np

    state = parts.dispatcher.router.state_dict()
    arrays: dict[str, Any] = {f"router/{k}": v for k, v in state.items()}
    np.savez(path, arms=np.array(parts.dispatcher.arms), **arrays)


def peak_memory() -> float:
    """Peak resident memory of this process, GiB."""
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(round(peak / (1024**3 if sys.platform == "darwin" else 1024**2), 2))


def headline(config: Config, preset: str | None) -> str:
    """The first line of a run: the set-up, and how it differs from the paper's."""
    names = arm_names(config)
    does = (
        f"judges each {config.router.unit} with some"
        if config.judge.mode == "committee"
        else f"routes each {config.router.unit} to one"
    )
    text = f"{preset or 'run'}: {judged_by(config)} {does} of {len(names)} arms, payoff {config.payoff.name}, {config.train.loss}"
    if preset in (None, "default"):
        text += (
            "; the paper's set-up (--preset laser) routes whole batches on the policy's own embedding and learns from -loss, "
            "which rewards agreement with the policy rather than truth"
        )
    return text
