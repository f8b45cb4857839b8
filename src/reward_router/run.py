"""One run from configuration to summary.

A run begins or is resumed; gold is measured before; the steps are taken, with looks between them;
gold is measured after; and the summary is written.
"""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from reward_router import config as configuration
from reward_router import machine
from reward_router.artifacts import shipped_study
from reward_router.assemble import RunParts, arm_names, assemble, fitting, know_gold
from reward_router.best_of import best_of
from reward_router.changes import Changes, differences, first_change
from reward_router.config import Config, DataConfig
from reward_router.distributed import Ranks
from reward_router.errors import InputError
from reward_router.evaluate import GoldMeasured, Measurement, compare_gold, measure_gold
from reward_router.examples import Example, load_examples, taken_in_turn
from reward_router.facts import too_hard
from reward_router.headline import BEST_OF, GOLD_FIGURE, GOLD_SAMPLED, best_of_line
from reward_router.ledger import Ledger
from reward_router.looks import Looks, look_prompts
from reward_router.loop import Loop, describe
from reward_router.manifest import dev_set, manifest, prior_digest
from reward_router.online import prior_trust
from reward_router.progress import Clock, Show, plain_console, say, say_fact
from reward_router.reckon import chosen_cost, measured_cost, step_cost
from reward_router.reporting import Reporter, check_trackers
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
"""A run that goes on spends at most one part in so many of its time on telling how far it is."""


def train(  # noqa: PLR0913 - the library's entry: each keyword is an option
    config: Config,
    out: Path,
    *,
    resume: bool = False,
    accept_changes: bool = False,
    console: Console | None = None,
    before: dict[str, GoldMeasured] | None = None,
    at_checkpoint: Callable[[Path], object] | None = None,
) -> dict[str, Any]:
    """Run ``config`` into the directory ``out``; returns what summary.json holds.

    Args:
        config: the run.
        out: a new or empty directory, or with ``resume`` that of an unfinished run.
        resume: go on from the last checkpoint there. Decisions, payoffs and the router's state come
            out as if the run had never been interrupted. What the run is made of (prompts, weights,
            code, versions) must be what it began with, else it is refused.
        accept_changes: with ``resume``, go on although something changed, and record what.
        console: where progress is shown; None: nowhere.
        before: gold that was measured already, by kind.
        at_checkpoint: is given the directory after a checkpoint, when ``progress.json`` there says
            what summary.json would. It is called so seldom that it takes at most a fiftieth of the
            run's time.

    InputError (exit code 2) for what cannot be right, RunError (exit code 1) where it had to stop.
    """
    run = RunDir(out)
    clock = Clock()
    if accept_changes and not resume:
        raise InputError(
            "--accept-changes says what --resume may go on with; give both, or neither"
        )
    run.check(config, resume)
    check_trackers(config.report_to)
    # Made before anything is written: only the first process may touch the directory.
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
    # A resumed run goes on counting the seconds where it stopped.
    if state is not None:
        clock = Clock(state["seconds"])
    parts = None
    show = Show(console, {}, clock)
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
            with going.reporter:
                after = going.go(state)
        return going.finish(after)
    # A run that never started leaves no directory behind; one that logged a step stays.
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
    """The checkpoint to go on from, and what the user should know.

    InputError where something changed and is not accepted; then nothing was touched.
    """
    now = manifest(config, examples)
    began_with = run.read_manifest()
    changes = _changes(run, began_with, now)
    if changes and not accept:
        raise InputError(
            f"--resume {run.path}: {first_change(changes)}; "
            "put it back, or give --accept-changes to go on with it"
        )
    state = rewind(run)
    accepted = list((began_with or {}).get("accepted", []))
    if changes:
        accepted.append({"step": state["step"] if state else 0, "changes": changes})
        with Ledger(run.ledger) as ledger:
            ledger.remember("accepted_changes", accepted)
    if began_with is None or changes:
        # When and where the run began stays what it was.
        beginning = began_with or {}
        made_of = now | {key: beginning[key] for key in origin() if key in beginning}
        if accepted:
            made_of["accepted"] = accepted
        run.write_manifest(made_of)
    note = ""
    if changes:
        note = f"note: {first_change(changes)}; going on as told, and the report says so"
    elif began_with is None:
        note = (
            f"note: {run.path} began before manifests were kept: whether its prompts, weights or "
            "versions changed since then cannot be told"
        )
    return state, note


def _changes(run: RunDir, began_with: dict[str, Any] | None, now: dict[str, Any]) -> Changes:
    """What the run was made of when it began, and is not made of now."""
    if began_with is not None:
        return differences(began_with, now)
    # A run from before there were manifests: its checkpoints say which prior it has, and no more.
    state = _last_state(run)
    if state is None or state.get("prior") == now["prior"]:
        return {}
    return {"prior": [state.get("prior"), now["prior"]]}


def _last_state(run: RunDir) -> dict[str, Any] | None:
    """The newest checkpoint's state, its tensors whole or not; None where there is none."""
    checkpoints = run.checkpoints()
    return read_state(checkpoints[-1]) if checkpoints else None


def rewind(run: RunDir) -> dict[str, Any] | None:
    """The newest checkpoint's state; None where there is none yet.

    What came after it leaves the ledger and the log, because those steps are run again.
    """
    if not run.ledger.exists():
        if run.checkpoints():
            raise InputError(
                f"--resume {run.path}: {run.ledger.name} is missing; "
                "the run cannot go on without it"
            )
        return None
    with Ledger(run.ledger) as ledger:
        state = run.newest_checkpoint(ledger.last_seq)
        ledger.rewind(state["seq"] if state else 0, "resumed from a checkpoint")
    run.trim_log(state["step"] if state else 0)
    return state


class _Run:
    """One process's way through a run: what is measured when, what is shown, what is kept."""

    def __init__(
        self,
        run: RunDir,
        parts: RunParts,
        clock: Clock,
        show: Show,
        before: dict[str, GoldMeasured],
    ) -> None:
        self.run = run
        self.parts = parts
        self.clock = clock
        self.config = parts.config
        self.show = show
        self.console = show.console
        self.held_out = self._examples(dev_set(self.config))
        self.test = self._examples(self.config.eval.test)
        self.looks = self._make_looks() if self.config.eval.keep == "best" else None
        self.chooses = self._can_choose()
        """Whether the router also chooses among the samples (``eval.best_of``)."""
        self.answers: list[tuple[Example, list[str]]] = []
        """Held-out prompts of this process with the responses that were sampled last."""
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
        reusable = set(self.kinds())
        if self.chooses:
            # Best of n needs the responses as well, and those were not handed over.
            reusable.discard(GOLD_SAMPLED)
        self.before = {kind: gold for kind, gold in before.items() if kind in reusable}
        self.reporter = Reporter(
            self.config, run, lambda what: say(self.console, what, "dim"), self._warn
        )
        self.first = 0
        self.done = 0
        self.at_checkpoint: Callable[[Path], object] | None = None
        self.told_at = 0.0
        self.telling_took = 0.0

    def _can_choose(self) -> bool:
        """Best of n needs several samples with gold, and a router that names single arms."""
        settings = self.config.eval
        names_single_arms = self.parts.routed and self.parts.committee is None
        several_samples = settings.samples > 1 and bool(self.held_out)
        return settings.best_of and several_samples and names_single_arms

    def _plan(self) -> tuple[dict[str, int], dict[str, float]]:
        """How often each kind of work is to be done, and how much work one piece of it is."""
        parts = self.parts
        config = self.config
        times = {"step": parts.steps}
        costs = {"step": step_cost(config, parts.examples)}

        if self.looks is not None:
            # A look may be due before the first step and after the last one.
            times["look"] = sum(self.looks.due(t, parts.steps) for t in range(parts.steps + 1))
            looked_at = len(self.looks.examples)
            costs["look"] = measured_cost(config, looked_at, config.eval.look_samples)

        # Gold and best of n are there twice: before training and after.
        for kind, (examples, samples) in self.kinds().items():
            times[kind] = 2
            costs[kind] = measured_cost(config, len(examples), samples)
        if self.chooses:
            times[BEST_OF] = 2
            costs[BEST_OF] = chosen_cost(config, self.held_out)
        return times, costs

    def _once(self) -> float:
        """Seconds of the last verdicts that went into loading models which now stay."""
        return self.loop.loading if self.parts.pool.stays else 0.0

    def kinds(self) -> dict[str, tuple[list[Example], int]]:
        """Kinds of gold that this run measures.

        Returns the name in the summary -> the prompts, and how many samples of each (0: one greedy
        response).
        """
        settings = self.config.eval
        sets = {GOLD_FIGURE: self.held_out, "gold_test": self.test}
        measured = {name: examples for name, examples in sets.items() if examples}
        kinds: dict[str, tuple[list[Example], int]] = {}
        if settings.greedy:
            kinds |= {name: (examples, 0) for name, examples in measured.items()}
        if settings.samples:
            for name, examples in measured.items():
                kinds[f"{name}_sampled"] = (examples, settings.samples)
        return kinds

    def _make_looks(self) -> Looks:
        parts = self.parts
        # Looks choose the adapter that is kept: they must not see what it is measured on.
        measured_elsewhere = [example.prompt for example in (*self.held_out, *self.test)]
        size = self.config.eval.look
        chosen = look_prompts(parts.examples, parts.routed_ids(), measured_elsewhere, size)
        return Looks(self.config, chosen, parts.policy, parts.ranks)

    def _warn(self, what: str) -> None:
        say(self.console, what, "yellow")

    def _examples(self, data: DataConfig | None) -> list[Example]:
        """Prompts to measure on: those with gold, or all where an arm measures instead of gold."""
        if data is None:
            return []
        everyone = load_examples(data)
        judged = [example for example in everyone if example.verify]
        if not judged and self.config.eval.arm:
            judged = everyone
        if not judged:
            return []
        short_enough = fitting(judged, data, self.parts.policy, self._warn)
        return taken_in_turn(short_enough, self.config.eval.limit)

    def go(self, state: dict[str, Any] | None) -> dict[str, GoldMeasured]:
        """Everything up to gold after training, which it returns."""
        # The trackers of a run of several processes hear from the first one alone.
        if self.parts.ranks.main:
            self.reporter.start(state["step"] + 1 if state is not None else 0)
        if state is not None:
            self._restore(state, self.run.load_tensors(state))
            say(self.console, f"resumed after step {self.first} of {self.parts.steps}")
            self._report_gold("before", self.before, 0)
            self.reporter.catch_up()
        else:
            for kind in self.before:
                self.show.skip(kind)
            for kind in self.kinds():
                if kind not in self.before:
                    self.before[kind] = self._measure(kind, "before")
            self._report_gold("before", self.before, 0)
            self._warn_where_too_hard()
            self._choose("before", 0)
            self.samples.write()
            self._look(0)
            self._checkpoint(0)
        # The steps themselves. Everything else in this file is about what stands around them.
        for t in range(self.first, self.parts.steps):
            if self.looks is not None and self.looks.stopped:
                break
            self._step(t)
        return self._after()

    def _step(self, t: int) -> None:
        record = self.loop.step(t)
        done = t + 1
        self.done = done
        self.show.advance(describe(record), once=self._once())
        record["look"] = self._look(done)
        if self.parts.ranks.main:
            self.run.log(record)
            self.reporter.step(record)

        # Where all arms rest the run may stop at the next step, for want of judges. It should then
        # go on from here.
        all_rest = set(self.parts.pool.names) <= set(record["resting"])
        due = done % self.config.checkpoint_every == 0 or record["skipped"] or all_rest
        # The end of the run writes everything anyway.
        is_last = done >= self.parts.steps
        if due and not is_last:
            self._checkpoint(done)

    def _look(self, step: int) -> dict[str, Any] | None:
        """Look after ``step`` steps, where a look is due; returns its entry for the log."""
        if self.looks is None or not self.looks.due(step, self.parts.steps):
            return None

        def tick(done: int, total: int) -> None:
            self.show.say(f"looking at train prompts: {done}/{total} answered")

        with self.clock.phase("eval"):
            entry = self.looks.look(step, tick)
        if self.looks.stopped and step < self.parts.steps:
            patience = self.config.eval.patience
            say(self.console, f"stopped after step {step}: {patience} looks brought nothing better")
        line = f"look after step {step}: gold {entry['gold']:.3f} on train prompts"
        if step > 0:
            line += f" (base model {entry['base']:.3f}, best {entry['best']:.3f})"
        self.show.advance(line, "look")
        return entry

    def _after(self) -> dict[str, GoldMeasured]:
        """Gold of the adapter that is kept. If that is the base model, its gold is known."""
        after = dict(self.before)
        base_is_kept = self.looks is not None and self.looks.settle().step == 0
        # A resumed run does not have the base model's responses, which best of n needs. They are
        # drawn again, and come out alike.
        responses_are_lost = self.chooses and not self.answers
        for kind in self.kinds():
            needed = kind == GOLD_SAMPLED and responses_are_lost
            if base_is_kept and not needed:
                self.show.skip(kind)
            else:
                after[kind] = self._measure(kind, "after")
        self._report_gold("after", after, self.done)
        self._choose("after", self.done)
        self.samples.write()
        return after

    def _report_gold(self, when: str, measured: dict[str, GoldMeasured], step: int) -> None:
        for kind, gold in measured.items():
            if _known(gold):
                self.reporter.gold(kind, when, sum(gold.right) / len(gold.right), step)

    def _choose(self, when: str, step: int) -> None:
        """Best of n among the sampled responses to the held-out prompts, where it is asked for."""
        if not self.chooses:
            return
        self.show.say(f"best of {self.config.eval.samples} {when} training")

        def remember(picks: Any) -> None:
            self.samples.chosen(when, picks)

        with self.clock.phase("eval"):
            figures = best_of(self.loop, self.answers, step, remember)
        self.best_of[when] = figures
        self.show.advance(best_of_line(figures, when), BEST_OF, self._once())

    def _measure(self, kind: str, when: str) -> GoldMeasured:
        """One kind of gold of the policy as it is; ``when`` is before or after training."""
        examples, samples = self.kinds()[kind]
        how = f"{samples} samples each" if samples else "greedy"

        def tick(done: int, total: int) -> None:
            self.show.say(f"gold {when} training: {done}/{total} prompts")

        def keep(example: Example, responses: Sequence[str]) -> None:
            self.samples.keep(when, kind, example, responses)
            if kind == GOLD_SAMPLED and self.chooses:
                self.answers.append((example, list(responses)))

        # The responses to be chosen from are those that were sampled last.
        self.answers = [] if kind == GOLD_SAMPLED else self.answers
        tick(0, len(examples))
        settings = self.config.eval
        with self.clock.phase("eval"):
            how_measured = Measurement(samples, settings.max_new_tokens, settings.batch)
            gold = measure_gold(
                self.parts.policy, examples, self.parts.ranks, how_measured, tick, keep
            )
        share = sum(gold.right) / len(gold.right)
        figure = "unknown, answered" if math.isnan(share) else f"{share:.3f} of"
        self.show.advance(
            f"gold {when} training: {figure} {len(gold.right)} held-out prompts, {how}", kind
        )
        return gold

    def _warn_where_too_hard(self) -> None:
        """Said before the first step, while it costs little to stop."""
        measured = self.before.get(GOLD_SAMPLED) or self.before.get(GOLD_FIGURE)
        # One process speaks for all.
        if measured is None or not self.parts.ranks.main:
            return
        n_prompts = len(measured.right)
        share = sum(measured.right) / n_prompts
        advice = too_hard(share, self.config.payoff.name)
        if advice:
            say_fact(self.console, f"hard     {advice}", "yellow")

    def _checkpoint(self, step: int) -> None:
        self.parts.ranks.wait()
        if not self.parts.ranks.main:
            return
        with self.clock.phase("checkpoint"):
            policy = self.parts.policy
            # The base weights are not among them: they do not change.
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
        since_last = now - self.told_at
        too_soon = since_last < TELLING * self.telling_took
        if self.at_checkpoint is None or too_soon:
            return
        self.run.write_progress(self._summary({}))
        self.at_checkpoint(self.run.path)

        self.told_at = time.perf_counter()
        self.telling_took = self.told_at - now

    def _restore(self, state: dict[str, Any], tensors: dict[str, dict[str, Any]]) -> None:
        self.parts.policy.load_adapter(tensors["policy"], "policy")
        self.parts.policy.load_adapter(tensors["reference"], "reference")
        self.parts.trainer.load_state_dict(tensors["optimizer"])
        if self.parts.committee is not None:
            self.parts.committee.load_state_dict(as_arrays(tensors["committee"]))
        # The sampler holds a copy of the weights, which has to follow.
        self.parts.policy.sync()
        self.before = {name: GoldMeasured(**gold) for name, gold in state["before"].items()}
        self.best_of = state.get("best_of", {})
        self.loop.counts.update(state["counts"])
        self.first = state["step"]
        self.done = self.first
        # What an earlier process did is not counted as work of this one.
        for _ in range(self.first):
            self.show.skip()
        for kind in self.before:
            self.show.skip(kind)
        if self.best_of:
            self.show.skip(BEST_OF)
        if self.looks is not None:
            self.looks.load_state_dict(state["looks"], tensors["best"])
            for _ in self.looks.looks:
                self.show.skip("look")

    def finish(self, after: dict[str, GoldMeasured]) -> dict[str, Any]:
        """Write what the run made, and say it."""
        if not self.parts.ranks.main:
            return {}
        # The summary comes last: a directory with it is a finished run.
        with explained(self.run.adapter):
            self.parts.policy.save_pretrained(self.run.adapter)
        with explained(self.run.router):
            save_router(self.run.router, self.parts)
        summary = self._summary(after)
        self.parts.dispatcher.close()
        self.run.finish(summary)
        show_summary(summary, self.console)
        return summary

    def _summary(self, after: dict[str, GoldMeasured]) -> dict[str, Any]:
        """What summary.json holds; ``after`` is empty while the run goes on."""
        parts = self.parts
        config = self.config
        made_of = self.run.read_manifest() or {}
        accepted = made_of.pop("accepted", [])
        counts = parts.dispatcher.counts()
        n_arms = len(parts.committee.names if parts.committee else parts.pool.names)
        calls = self._calls(counts["calls"], n_arms)
        kept = None
        if self.looks is not None and self.looks.looks:
            kept = self.looks.summary()
        wins = None
        if after and config.eval.arm:
            wins = win_rate(config, self.run.read_samples())
        model = model_hash(parts.policy.model.get_base_model())
        return {
            "router": judged_by(config),
            "unit": config.router.unit,
            "payoff": config.payoff.name,
            "truncated": config.pairs.truncated,
            "n_arms": n_arms,
            "steps": self.done,
            "planned_steps": parts.steps,
            "kept": kept,
            "arms": arms_table(parts),
            "units_by_category": units_by_category(parts),
            **self._gold_tables(after),
            "win_rate": wins,
            "gold_rows": self._gold_rows(after),
            "samples": config.eval.samples,
            "best_of": self.best_of or None,
            "study": shipped_study() if is_default(config) else None,
            "trust": prior_trust(parts.dispatcher.router),
            "payoff_gold": payoff_gold_correlation(parts),
            "calls": calls,
            "counts": {
                **self.loop.counts,
                "long_prompts": parts.long_prompts,
                "arm_failures": counts["failures"],
            },
            "committee": self._committee(calls["made"] - calls["label"]),
            "saturated": counts.get("saturated"),
            "seconds": {phase: round(spent, 3) for phase, spent in self.clock.seconds.items()},
            "peak_memory_gib": peak_memory(),
            "manifest": {**made_of, "model": model, "ended": machine.now()},
            "accepted_changes": accepted,
        }

    def _gold_tables(self, after: dict[str, GoldMeasured]) -> dict[str, Any]:
        """Every kind of gold, before and after; None for what was not measured."""
        tables: dict[str, Any] = dict.fromkeys(
            (GOLD_FIGURE, GOLD_SAMPLED, "gold_test", "gold_test_sampled")
        )
        for kind, gold in after.items():
            if _known(gold):
                tables[kind] = compare_gold(self.before[kind], gold)
        return tables

    def _gold_rows(self, after: dict[str, GoldMeasured]) -> dict[str, Any]:
        """The same prompt by prompt."""
        rows = {}
        for kind, gold in after.items():
            rows[kind] = {"before": self.before[kind].to_json(), "after": gold.to_json()}
        return rows

    def _calls(self, by_status: dict[str, int], n_arms: int) -> dict[str, Any]:
        """How many calls the run made, and how many asking every arm would have taken."""
        audit = by_status.get("audit", 0)
        # An audit judges nothing; a shared call was made once and is counted there.
        made = sum(by_status.values()) - audit - by_status.get("shared", 0)
        return {
            "made": made,
            "audit": audit,
            "label": by_status.get("label", 0),
            "payoff": self.loop.counts.get("payoff_calls", 0),
            "best_of": sum(figures["calls"] for figures in self.best_of.values()),
            "all_arms": self.loop.counts["responses"] * n_arms,
            "by_status": by_status,
            "price": total_price(self.parts),
        }

    def _committee(self, judging_calls: int) -> dict[str, Any] | None:
        committee = self.parts.committee
        if committee is None:
            return None
        refits: list[Any] = []
        for line in self.run.read_log():
            refits += (line.get("committee") or {}).get("refits", [])
        return {
            **committee.describe(),
            "calls_per_response": judging_calls / max(1, self.loop.counts["responses"]),
            "counts": committee.counts,
            "refits": refits,
        }


def _known(gold: GoldMeasured) -> bool:
    """Whether gold is known of every prompt; of those that an arm alone judges it is not."""
    return not any(math.isnan(right) for right in gold.right)


def origin() -> dict[str, Any]:
    """When a run began, on which machine, and by which commit of this program.

    The report tells it; it is compared nowhere.
    """
    return {"began": machine.now(), "hardware": machine.hardware(), "commit": machine.commit()}


def is_default(config: Config) -> bool:
    """Whether this is the embedded default, with any seed."""
    default = configuration.load()
    # Seed and trackers make no other set-up of it.
    unlike = {"seed": default.seed, "report_to": default.report_to}
    return config.model_copy(update=unlike) == default


def judged_by(config: Config) -> str:
    """Who judges, in a few words."""
    if config.router.mode == "ensemble":
        return f"{config.router.ensemble} ensemble"
    if config.judge.mode == "committee":
        if config.judge.first == "order":
            return "committee"
        return f"committee after {config.router.name}"
    return config.router.name


def save_router(path: Path, parts: RunParts) -> None:
    """The router's learned state with the names of its arms, arrays only."""
    import numpy as np

    state = parts.dispatcher.router.state_dict()
    arrays: dict[str, Any] = {f"router/{name}": array for name, array in state.items()}
    np.savez(path, arms=np.array(parts.dispatcher.arms), **arrays)


def peak_memory() -> float:
    """Peak resident memory of this process, GiB."""
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux reports kibibytes, macOS bytes.
    units_per_gib = 1024**3 if sys.platform == "darwin" else 1024**2
    return float(round(peak / units_per_gib, 2))


def headline(config: Config, preset: str | None) -> str:
    """The first line of a run: the set-up, and how it differs from the paper's."""
    does = f"routes each {config.router.unit} to one"
    if config.judge.mode == "committee":
        does = f"judges each {config.router.unit} with some"
    text = (
        f"{preset or 'run'}: {judged_by(config)} {does} of {len(arm_names(config))} arms, "
        f"payoff {config.payoff.name}, {config.train.loss}"
    )
    if preset in (None, "default"):
        text += (
            "; the paper's set-up (--preset laser) routes whole batches on the policy's own "
            "embedding and learns from -loss, which rewards agreement with the policy rather than "
            "truth"
        )
    return text
