"""The main job: a policy is trained on preferences from the reward model that the router picks. Read it top to bottom.

LASER's Algorithm 1 with the unit of routing as a setting: a whole batch (the paper), a prompt (its footnote), or a pair of
responses (BayesianRouter). One step is :meth:`Loop.step`: prompts -> responses -> contexts -> arms -> scores -> pairs ->
one optimiser step -> payoffs -> router. The router never sees text, the reward models never see the router, the trainer
never knows who judged. Left out: what big runs need (use TRL, OpenRLHF or verl and attach the router there).

Deviations from the paper, each a setting: warm-up pulls instead of a random b (``router.init: random``), a truth-anchored
payoff in the embedded default (``payoff.name: neg_loss``), quantiles of earlier payoffs only.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reward_router import keyed
from reward_router.assemble import Parts, by_iteration
from reward_router.dispatch import Dispatcher
from reward_router.errors import RunError
from reward_router.examples import Example
from reward_router.features import pool
from reward_router.judging.judge import Unit, Verdicts
from reward_router.pairs import GapScale, fixed_by_the_cut, form_pairs, gaps
from reward_router.payoffs import (
    agreement,
    full_advantage,
    gold_of_best,
    label_losses,
    light_advantage,
    order_accuracy,
)
from reward_router.policy import Prompt
from reward_router.responses import finished
from reward_router.routers.trusted import TrustedThompson
from reward_router.show import Clock
from reward_router.training.curves import training_curves
from reward_router.training.step import Pair, StepResult
from reward_router.types import Decision, Float, Int

LOG2_TOLERANCE = 1e-6
RAW_PAYOFFS = ("neg_loss", "improvement", "light_advantage")
COUNTS = (
    "skipped_prompts", "skipped_steps", "abstained", "tied_pairs", "equal_pairs", "uninformative", "agreed", "no_payoff",
    "truncated", "pairs", "responses", "failed_rows",
)  # fmt: skip


@dataclass
class Outcome:
    """What came of one decision; a ``python`` payoff receives it. ``loss_P`` and ``after_P``: nats, one a trained pair.

    ``scores`` (the chosen arm's own, NaN where it abstained), ``golds`` (1 right, 0 wrong, NaN unknown) and ``responses`` have
    one entry per prompt of the unit. Losses of pairs that the fallback judged are left out: they say nothing of the chosen arm.
    ``loss_PK``: of every such pair the loss under each arm's label, NaN where it gives none (``full_advantage`` only).
    """

    unit: str
    decision_id: str
    loss_P: list[float] = field(default_factory=list)
    after_P: list[float] = field(default_factory=list)
    loss_PK: list[list[float]] = field(default_factory=list)
    scores: list[Float] = field(default_factory=list)
    golds: list[Float] = field(default_factory=list)
    responses: list[list[str]] = field(default_factory=list)
    failed: bool = False

    def merge(self, other: "Outcome") -> None:
        """Add what another process saw of the same decision."""
        for name in ("loss_P", "after_P", "loss_PK", "scores", "golds", "responses"):
            getattr(self, name).extend(getattr(other, name))
        self.failed |= other.failed

    def mean(self, measure: Any) -> float | None:
        """The mean of a payoff formula over the unit's prompts; None where no prompt gives one."""
        values = [measure(s, g) for s, g in zip(self.scores, self.golds, strict=True)]
        known = [v for v in values if v is not None]
        return float(np.mean(known)) if known else None


class Loop:
    """Steps of one run on one process; everything they need is in ``parts``."""

    def __init__(
        self, parts: Parts, clock: Clock, say: Callable[[str], None], warn: Callable[[str], None] = lambda _: None
    ) -> None:
        """``say`` is told what is happening, ``warn`` what the user should change."""
        self.parts, self.config, self.clock, self.say, self.warn = parts, parts.config, clock, say, warn
        self.counts = dict.fromkeys(COUNTS, 0)
        self.loading = 0.0  # seconds that the last verdicts took to load models
        self.gap_scale = GapScale()
        if self.config.tie:
            recorded = parts.dispatcher.ledger.calls()
            arms = [recorded.arms[k] for k in recorded.arm.tolist()]
            self.gap_scale.learn(
                gaps(zip(recorded.decision.tolist(), arms, recorded.status, recorded.score.tolist(), strict=True))
            )

    def step(self, t: int) -> dict[str, Any]:
        """One batch from prompts to router update; returns its line for metrics.jsonl."""
        parts, clock = self.parts, self.clock
        if t % parts.batches_per_iteration == 0:
            parts.policy.snapshot_reference()  # reference = pi_{m-1}
            if t > 0 and self.config.payoff.per_iteration:
                parts.dispatcher.reset_scaler()
        examples = parts.ranks.shard(parts.batch(t))
        prompts = [e.prompt for e in examples]

        self.say(f"sampling {self.config.policy.n_responses} responses to {len(prompts)} prompts")
        with clock.phase("sample"):
            responses = parts.policy.sample(prompts, [e.id for e in examples], self.config.policy.n_responses, t)

        self.say("embedding")
        with clock.phase("embed"):
            units, context_BD, n_units = self.units(examples, responses, t)
        with clock.phase("route"):
            decisions = self.route(units, context_BD, n_units, t)

        with clock.phase("score"):
            audited, resting = self.audited(examples, t), self.resting()
            if parts.committee is not None:
                verdicts = parts.committee.judge(units, decisions, examples, responses, t, audited, resting)
            else:
                verdicts = parts.judge.judge(units, decisions, prompts, responses, t, audited, resting)
        self.loading = verdicts.load_seconds
        pairs, owner = self.pairs(units, decisions, verdicts, examples, responses, t)
        with clock.phase("score"):
            label_PK = self.labels(owner, units, decisions, prompts, responses, verdicts)
        with clock.phase("route"):
            calls = parts.ranks.gather(verdicts.calls)
            parts.dispatcher.record_calls(calls)
            if self.config.tie:
                self.gap_scale.learn(gaps((c.decision_id, str(c.arm), c.status, c.score) for c in calls))
            nobody = self.all_rest()  # an answer recorded just now has ended its arm's rest
            failures = parts.ranks.gather(verdicts.failures)
            for decision_id, arm, reason in failures:
                parts.dispatcher.record_failure(decision_id, arm, reason)
        if failures and nobody:
            raise RunError(nobody_judges(t, failures))

        self.say(f"training on {len(pairs)} pairs")
        with clock.phase("step"):
            flipped_P = self.flipped(pairs, label_PK)
            result = parts.trainer.step(pairs, t)
            after_P = parts.trainer.losses(pairs) if self.config.payoff.name == "improvement" else np.zeros(len(pairs))
            parts.policy.sync()

        self.say("payoff")
        with clock.phase("payoff"):
            loss_PK = label_losses(label_PK, result.loss_P, flipped_P) if len(label_PK) else None
            outcomes = self.outcomes(units, decisions, verdicts, examples, responses, owner, result, after_P, loss_PK)
            paid = self.pay(outcomes, t)
        return self.record(t, decisions, context_BD, verdicts, result, outcomes, paid, responses)

    # what is routed ----------------------------------------------------------------------------------------------------

    def units(
        self, examples: Sequence[Example], responses: Sequence[Sequence[str]], t: int
    ) -> tuple[list[Unit], Float, list[int]]:
        """This process's units, the contexts of what all processes route, and how many prompts each row stands for."""
        gather = self.parts.ranks.gather
        whole = [(b, tuple(range(len(responses[b])))) for b in range(len(examples))]
        if self.config.router.unit == "pair":
            return self.pair_units(examples, responses, t)
        rows = gather(list(self.prompt_rows([e.prompt for e in examples], responses)))
        if self.config.router.unit == "batch":
            return [Unit(f"batch-{t}", tuple(whole))], pool(np.stack(rows)), [len(rows)]
        units = [Unit(e.id, (cell,)) for e, cell in zip(examples, whole, strict=True)]
        return units, np.stack(rows), [1] * len(rows)

    def prompt_rows(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Float:
        """(B, D) what the router sees of whole prompts: each prompt's own row, or the mean over its pairs of responses.

        The latter where the router knows pairs only: ``unit: pair``, or a prior.
        """
        contexts = self.parts.contexts
        by_pairs = self.config.router.unit == "pair" or contexts.of_pairs is not None
        return contexts.groups(prompts, responses) if by_pairs else contexts.prompts(prompts)

    def pair_units(
        self, examples: Sequence[Example], responses: Sequence[Sequence[str]], t: int
    ) -> tuple[list[Unit], Float, list[int]]:
        """Candidate pairs first, routed after: two calls a pair. A pair of equal responses is no candidate."""
        units, triples = [], []
        for b, example in enumerate(examples):
            draw = keyed.rng(self.config.seed, "pairs", t, example.id)
            order = np.arange(float(len(responses[b])))  # any strict order makes every distinct pair a candidate
            for pair in self.ordered(order, responses[b], draw):
                j, i = sorted(pair)  # a pair is looked at the same way round whoever wins it
                names = sorted(f"{keyed.key(0, 'data', 0, responses[b][n]):x}"[:12] for n in (i, j))
                units.append(Unit("|".join([example.id, *names]), ((b, (j, i)),)))
                triples.append((example.prompt, responses[b][j], responses[b][i]))
        mine = list(self.parts.contexts.pairs(*map(list, zip(*triples, strict=True)))) if triples else []
        rows = self.parts.ranks.gather(mine)
        return units, np.array(rows).reshape(len(rows), self.parts.contexts.pair_dim), [1] * len(rows)

    def route(self, units: Sequence[Unit], context_BD: Float, n_units: list[int], t: int) -> list[Decision]:
        """Decisions of this process's units. Every process routes all units: equal state, equal draws."""
        context_BD = self.seen(context_BD, t)
        ids = list(dict.fromkeys(self.parts.ranks.gather([u.id for u in units])))
        by_unit = {d.unit: d for d in self.parts.dispatcher.route(context_BD, ids, t, n_units=n_units)}
        return [by_unit[u.id] for u in units]

    def seen(self, context_BD: Float, t: int) -> Float:
        """(B, D) contexts as the router takes them at step t: one that goes by the iteration sees its number alone."""
        if not by_iteration(self.config.router):
            return context_BD
        return np.full((len(context_BD), 1), float(t // self.parts.batches_per_iteration))

    def resting(self) -> frozenset[str]:
        """Arms that rest and are asked by no decision but their own; none where all rest: then everyone is asked in turn."""
        waits = {} if self.all_rest() else self.parts.dispatcher.resting
        return frozenset(name for name, wait in waits.items() if wait > 0)

    def all_rest(self) -> bool:
        """Whether every arm rests."""
        return set(self.parts.judge.pool.names) <= self.parts.dispatcher.resting.keys()

    def audited(self, examples: Sequence[Example], t: int) -> frozenset[int]:
        """Rows that every arm scores as well."""
        draws = [keyed.uniform(self.config.seed, "audit", t, e.id) for e in examples]
        return frozenset(b for b, u in enumerate(draws) if u < self.config.audit)

    # what is trained ---------------------------------------------------------------------------------------------------

    def pairs(
        self,
        units: Sequence[Unit],
        decisions: Sequence[Decision],
        verdicts: Verdicts,
        examples: Sequence[Example],
        responses: Sequence[Sequence[str]],
        t: int,
    ) -> tuple[list[Pair], list[int]]:
        """Preference pairs and the unit whose arm ordered each (-1: the fallback, or the rule on cut responses).

        What gives no pair is counted.
        """
        pairs, owner, empty = [], [], []
        for u, unit in enumerate(units):
            for c, (score_N, (b, cols)) in enumerate(zip(verdicts.scores[u], unit.cells, strict=True)):
                texts = [responses[b][n] for n in cols]
                draw = keyed.rng(self.config.seed, "pairs", t, f"{unit.id}/{examples[b].id}")
                if self.parts.committee is not None:
                    found = self.parts.committee.pairs(verdicts.rankings[u, c], texts, self.config.pairs, draw)
                else:
                    margin = self.margin(verdicts.stand_in.get((u, c), decisions[u].name))
                    found = [(*pair, 1.0) for pair in self.ordered(score_N, texts, draw, margin)]
                empty += [] if found else [(b, bool(np.isfinite(score_N).all()))]
                pairs += [Pair(examples[b].prompt, texts[w], texts[x], weight) for w, x, weight in found]
                # what the fallback ordered, or the rule on cut responses, says nothing of this unit's arm
                by_other = u in verdicts.failed or (u, c) in verdicts.abstained or (u, c) in verdicts.failed_cells
                fixed_NN = fixed_by_the_cut(finished(texts), self.config.pairs.truncated)
                owner += [-1 if by_other or fixed_NN[w, x] else u for w, x, _ in found]
        judged = {(b, n) for unit in units for b, cols in unit.cells for n in cols}
        counted = {
            "pairs": len(pairs),
            "abstained": len(verdicts.abstained),
            "responses": len(judged),
            "truncated": int(sum((~finished(group)).sum() for group in responses)),
            "failed_rows": len(verdicts.row_failures),
        }
        if self.config.router.unit == "pair":
            equal = sum(c * (c - 1) // 2 for group in responses for c in Counter(map(str, group)).values())
            counted |= {"tied_pairs": sum(known for _, known in empty), "equal_pairs": equal}
            counted["skipped_prompts"] = len(examples) - len({b for unit in units for b, _ in unit.cells})
        else:
            counted["skipped_prompts"] = len(empty)
        for name, count in self.parts.ranks.gather(list(counted.items())):
            self.counts[name] += count
        return pairs, owner

    def ordered(
        self, score_N: Float, texts: Sequence[str], draw: np.random.Generator, margin: float = 0.0
    ) -> list[tuple[int, int]]:
        """(winner, loser) pairs of one prompt's responses as the configuration wants them."""
        limits = self.config.pairs
        ended_N = finished(texts)
        return form_pairs(
            score_N,
            texts,
            limits.per_prompt,
            draw,
            margin,
            finished_N=ended_N,
            truncated=limits.truncated,
            pick=limits.pick,
        )

    def margin(self, arm: str) -> float:
        """The score gap up to which this arm's verdict is a tie: a fixed one, or a share of the arm's own usual gap."""
        return max(self.config.pairs.margin, self.gap_scale.threshold(arm, self.config.tie))

    def labels(
        self,
        owner: Sequence[int],
        units: Sequence[Unit],
        decisions: Sequence[Decision],
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[str]],
        verdicts: Verdicts,
    ) -> Int:
        """(P, K) for ``full_advantage``: 1 where an arm orders the pair as its judge did, -1 the other way, 0 where it does not.

        It asks all other arms: K - 1 times the calls. (0, 0) for every other payoff. Pairs that the fallback judged are all 0.
        """
        if self.config.payoff.name != "full_advantage":
            return np.zeros((0, 0), np.int64)
        self.parts.judge.compare([u for u in owner if u >= 0], units, decisions, prompts, responses, verdicts)
        names = self.parts.dispatcher.arms
        gap_PK = np.zeros((len(owner), len(names)))
        for p, u in enumerate(owner):
            said = {decisions[u].name: verdicts.own[u][0], **verdicts.others.get(u, {})} if u >= 0 else {}
            gap_PK[p] = [said[name][1] - said[name][0] if name in said else 0.0 for name in names]
        own_P = [names.index(decisions[u].name) if u >= 0 else 0 for u in owner]
        return agreement(gap_PK, np.array([self.margin(name) for name in names]), np.array(own_P, np.int64))

    def flipped(self, pairs: Sequence[Pair], label_PK: Int) -> Float:
        """(P,) each pair's loss before the step with its order turned round, NaN where no arm asks for that."""
        loss_P = np.full(len(pairs), np.nan)
        if self.config.payoff.name == "full_advantage":
            at = np.flatnonzero((label_PK < 0).any(axis=1)).tolist()
            turned = [Pair(pairs[p].prompt, pairs[p].rejected, pairs[p].chosen) for p in at]
            loss_P[at] = self.parts.trainer.losses(turned, pairs)
        return loss_P

    def outcomes(
        self,
        units: Sequence[Unit],
        decisions: Sequence[Decision],
        verdicts: Verdicts,
        examples: Sequence[Example],
        responses: Sequence[Sequence[str]],
        owner: Sequence[int],
        result: StepResult,
        after_P: Float,
        loss_PK: Float | None,
    ) -> list[Outcome]:
        """What came of every decision of all processes."""
        mine = []
        for u, (unit, decision) in enumerate(zip(units, decisions, strict=True)):
            # a row that the arm failed on says nothing of it, unlike one that it abstained from
            told = [c for c in range(len(unit.cells)) if u in verdicts.failed or (u, c) not in verdicts.failed_cells]
            cells = [unit.cells[c] for c in told]
            texts = [[responses[b][n] for n in cols] for b, cols in cells]
            golds = [examples[b].gold(x) for (b, _), x in zip(cells, texts, strict=True)]
            outcome = Outcome(
                unit.id,
                decision.id,
                scores=[verdicts.own[u][c] for c in told],
                golds=golds,
                responses=texts,
                failed=u in verdicts.failed,
            )
            if not result.skipped:
                at = [p for p, o in enumerate(owner) if o == u]
                outcome.loss_P, outcome.after_P = list(result.loss_P[at]), list(after_P[at])
                outcome.loss_PK = [] if loss_PK is None else loss_PK[at].tolist()
            mine.append(outcome)
        merged: dict[str, Outcome] = {}
        for outcome in self.parts.ranks.gather(mine):
            if outcome.unit in merged:
                merged[outcome.unit].merge(outcome)
            else:
                merged[outcome.unit] = outcome
        self.counts["skipped_steps"] += result.skipped
        return list(merged.values())

    # what the router learns --------------------------------------------------------------------------------------------

    def pay(self, outcomes: Sequence[Outcome], t: int) -> dict[str, float]:
        """Give each decision its payoff; a failed arm, a skipped step or an uninformative loss gives none, and is counted."""
        name, dispatcher = self.config.payoff.name, self.parts.dispatcher
        payoffs = {o.decision_id: self.payoff(o, t) for o in outcomes}
        known = [(i, v) for i, v in payoffs.items() if v is not None]
        self.counts["no_payoff"] += len(payoffs) - len(known)
        if name == "light_advantage":  # against the mean of the batch: -loss is all it needs of each pair
            advantage = light_advantage([-v for _, v in known]).tolist()
            known = [(i, a) for (i, _), a in zip(known, advantage, strict=True)]
        if name in RAW_PAYOFFS:
            dispatcher.feedback_raw_many(known, source=name)
        else:
            dispatcher.feedback_many(known, source=name)
        for outcome in outcomes:  # gold is recorded for the report; no router reads it
            right = outcome.mean(order_accuracy)
            if right is not None and not outcome.failed:
                dispatcher.record_label(outcome.unit, t, right, "gold order")
        return dict(known)

    def payoff(self, outcome: Outcome, t: int) -> float | None:
        """The configured payoff of one outcome: in [0, 1], except that losses are raw (scaled by the dispatcher)."""
        config = self.config.payoff
        if outcome.failed:
            return None
        if config.name in RAW_PAYOFFS:
            return self._loss_payoff(outcome)
        if config.name == "full_advantage":
            return self._full_advantage(outcome)
        if keyed.uniform(self.config.seed, "probe", t, outcome.unit) >= config.fraction:
            return None
        if config.name == "python":
            return self.parts.python_payoff(outcome)
        return outcome.mean(order_accuracy if config.name == "probe" else gold_of_choice)

    def _loss_payoff(self, outcome: Outcome) -> float | None:
        if not outcome.loss_P:
            return None
        if self.config.train.loss == "dpo" and max(abs(x - math.log(2)) for x in outcome.loss_P) < LOG2_TOLERANCE:
            self._uninformative()
            return None
        after = float(np.mean(outcome.after_P)) if self.config.payoff.name == "improvement" else 0.0
        before = float(np.mean(outcome.loss_P))
        return before - after if self.config.payoff.name == "improvement" else -before

    def _full_advantage(self, outcome: Outcome) -> float | None:
        """1 or 0; None where no arm disagreed with the judge of the pair, or it had no order to give."""
        if not outcome.loss_P or self._loss_payoff(outcome) is None:
            return None
        [sign] = full_advantage(outcome.loss_P, outcome.loss_PK)
        self.counts["agreed"] += not np.isfinite(sign)
        return float(sign) if np.isfinite(sign) else None

    def _uninformative(self) -> None:
        """Policy = reference: the DPO loss is log 2 whatever the arm said."""
        self.counts["uninformative"] += 1
        if self.counts["uninformative"] == 1:
            self.warn(
                "warning: train.loss dpo is log 2 for every arm while the policy is its reference, so these payoffs teach the "
                "router nothing and are left out; train.loss: dpo+nll or payoff.name: improvement tells arms apart"
            )

    # what is written down ----------------------------------------------------------------------------------------------

    def record(
        self,
        t: int,
        decisions: Sequence[Decision],
        context_BD: Float,
        verdicts: Verdicts,
        result: StepResult,
        outcomes: Sequence[Outcome],
        paid: dict[str, float],
        responses: Sequence[Sequence[str]],
    ) -> dict[str, Any]:
        """One line of metrics.jsonl: shares, losses, payoffs, gold of what was sampled, seconds, the router's posterior."""
        gold = np.concatenate([g for o in outcomes for g in o.golds]) if outcomes else np.zeros(0)
        names, gather = self.parts.dispatcher.arms, self.parts.ranks.gather
        decided = list(dict(gather([(d.id, d.name) for d in decisions])).values())
        loss_P = gather(result.loss_P.tolist())
        probs = dict(gather([(d.id, d.probs_K.tolist()) for d in decisions]))
        words = gather([len(r.split()) for group in responses for r in group])
        seconds: dict[str, float] = {}
        for arm, spent in gather(list(verdicts.seconds.items())):
            seconds[arm] = seconds.get(arm, 0.0) + spent
        ended = [bool(end) for group in responses for end in finished(group)]
        right = [r for o in outcomes if not o.failed and (r := o.mean(order_accuracy)) is not None]
        return {
            "step": t,
            "iteration": t // self.parts.batches_per_iteration,
            "arms": {name: decided.count(name) for name in names},
            "probs": dict(zip(names, np.mean(list(probs.values()), axis=0).tolist(), strict=True)) if probs else {},
            "loss": float(np.mean(loss_P)) if loss_P and np.isfinite(loss_P).all() else None,
            "pairs": len(loss_P),
            "skipped": result.skipped,
            "lr": list(result.lr_S),
            "grad_norm": result.grad_norm if math.isfinite(result.grad_norm) else None,
            **training_curves(gather(result.moved_P2.tolist()), self.config.train.beta, gather(ended)),
            "payoff": float(np.mean(list(paid.values()))) if paid else None,
            "payoffs": len(paid),
            "gold_order": float(np.mean(right)) if right else None,
            "gold_sampled": float(np.nanmean(gold)) if np.isfinite(gold).any() else None,
            "words": float(np.mean(words or [0])),
            "truncated": sum(gather([int((~finished(group)).sum()) for group in responses])),
            "failures": len(gather(verdicts.failures)),
            "failed_rows": len(gather(verdicts.row_failures)),
            "abstained": len(gather(list(verdicts.abstained))),
            "resting": sorted(self.parts.dispatcher.resting),
            "committee": self.parts.committee and self.parts.committee.record(),
            "score_seconds": seconds,
            "posterior": self._posterior(context_BD, names),
            "trust": prior_trust(self.parts.dispatcher),
            "seconds": dict(self.clock.seconds),
        }

    def _posterior(self, context_BD: Float, names: Sequence[str]) -> dict[str, list[float]]:
        """Mean and sd of each arm's payoff at this batch's mean context, where the router has a posterior."""
        router = self.parts.dispatcher.router
        if not hasattr(router, "posterior") or len(context_BD) == 0:
            return {}
        mean_BK, sd_BK = router.posterior(pool(context_BD))
        return {name: [float(mean_BK[0, k]), float(sd_BK[0, k])] for k, name in enumerate(names)}


def nobody_judges(t: int, failures: Sequence[tuple[str, str, str]]) -> str:
    """Why a run stops where all arms rest and none of them answered when asked again."""
    reasons = {arm: reason for _, arm, reason in failures}
    told = "; ".join(f"{arm}: {reason}" for arm, reason in sorted(reasons.items()))
    return (
        f"step {t + 1}: all arms failed again and again and none answered when asked in turn, so nobody can judge ({told}); "
        "put one back and go on with --resume"
    )


def prior_trust(dispatcher: Dispatcher) -> float | None:
    """Posterior weight of the informative prior; None where the router has none that must earn its trust."""
    router = dispatcher.router
    return router.trust if isinstance(router, TrustedThompson) else None


def gold_of_choice(score_N: Float, gold_N: Float) -> float | None:
    """Gold of the response the arm would pick; one that abstains picks any of them alike."""
    return gold_of_best(score_N if np.isfinite(score_N).any() else np.zeros_like(score_N), gold_N)


def describe(record: dict[str, Any]) -> str:
    """One step in one line."""
    arms = ", ".join(f"{name} {n}" for name, n in sorted(record["arms"].items(), key=lambda x: -x[1]) if n)
    if record.get("committee"):
        arms += f" ({record['committee']['calls_per_response']:.2f} calls a response)"
    loss = f"loss {record['loss']:.3f}" if record["loss"] is not None else "no step"
    payoff = f"payoff {record['payoff']:+.2f}" if record["payoff"] is not None else "no payoff"
    gold = f", sampled gold {record['gold_sampled']:.2f}" if record["gold_sampled"] is not None else ""
    return f"step {record['step'] + 1}: {record['pairs']} pairs, {loss}, {payoff}{gold}; {arms}"
