"""The main job: a policy is trained on preferences from the reward model that the router picks.

This file is meant to be read from top to bottom. It is LASER's Algorithm 1 with the unit of routing
as a setting: a whole batch (the paper), a prompt (its footnote), or a pair of responses
(BayesianRouter). One step is :meth:`Loop.step`: prompts -> responses -> contexts -> arms -> scores
-> pairs -> optimiser steps -> payoffs -> router. A ``Step`` is the record that travels along: a
session's ``Batch`` with what training adds to it. A ``Session`` does the middle, from decisions to
recorded verdicts, and the end, payoffs. It is the dispatcher, inside the session, that draws the
arms and updates the router. The router never sees text, the reward models never see the router, and
the trainer never knows who judged. Left out: what big runs need (use TRL, OpenRLHF or verl and
attach a session).

The letters behind an array's name are its axes: U units of all processes, P pairs of this process,
K arms, D features.

Deviations from the paper: LinUCB starts with warm-up pulls instead of random numbers
(``router.init: random`` is the paper's), the embedded default pays by a probe of known answers
(``payoff.name: neg_loss`` is the paper's), and a raw payoff is scaled by quantiles of earlier ones
only.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from reward_router import keyed
from reward_router.assemble import RunParts, by_iteration
from reward_router.errors import RunError
from reward_router.outcomes import Outcome, Trained
from reward_router.pairing import Pairing
from reward_router.payoffs import gold_of_choice, label_losses
from reward_router.progress import Clock
from reward_router.steplog import Step, describe, metrics_line
from reward_router.types import Float, Int
from reward_router.units import UnitFiller

__all__ = ["Loop", "Outcome", "describe", "gold_of_choice"]

COUNTS = (
    "skipped_prompts", "skipped_steps", "abstained", "tied_pairs", "equal_pairs", "uninformative",
    "agreed", "no_payoff", "truncated", "pairs", "responses", "failed_rows",
)  # fmt: skip


class Loop:
    """The steps of one run on one process.

    Args:
        parts: everything that a step needs: session, policy, trainer, prompts.
        clock: counts seconds by phase.
        say: is told what is happening.
        warn: is told what the user should change.
    """

    def __init__(
        self,
        parts: RunParts,
        clock: Clock,
        say: Callable[[str], None],
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Nothing is sampled yet."""
        self.parts = parts
        self.config = parts.config
        self.session = parts.session
        self.clock = clock
        self.say = say
        # One dictionary of counts, which pairing and payoffs add to as well.
        self.counts = dict.fromkeys(COUNTS, 0)
        self.loading = 0.0
        """Seconds that the last verdicts took to load models."""
        self.unit_filler = UnitFiller(parts.config, parts.contexts, parts.ranks.gather)
        self.pairing = Pairing(parts, self.counts)
        self.session.payoff.counts = self.counts
        self.session.payoff.warn = warn

    def step(self, t: int) -> dict[str, Any]:
        """One batch from prompts to router update; returns its line for metrics.jsonl."""
        session = self.session
        phase = self.clock.phase
        self._begin_iteration(t)
        with phase("sample"):
            step = self._sampled(t)
        self.say("embedding")
        with phase("embed"):
            context_UD = self.unit_filler.fill(step)
            step.contexts = self.contexts_for_router(context_UD, t)
        # Decide before anybody scores: the router must not see what it chooses between.
        with phase("route"):
            session.route(step)
        with phase("score"):
            session.ask(step)
        self.loading = step.verdicts.load_seconds
        # A pair's owner is the number of the unit whose arm ordered it, or NOBODY.
        step.pairs, owner = self.pairing.pairs(step)
        with phase("score"):
            # What each arm says of each pair; empty unless the payoff compares arms.
            label_PK = self.pairing.labels(step, owner)
        with phase("route"):
            # Pairing learns the arms' usual score gaps here; the router learns at the very end.
            calls = session.record(step)
            # A shared answer was asked for once, and is counted there.
            step.calls = sum(call.status != "shared" for call in calls)
            self.pairing.learn(calls)
        if self.parts.eval_only is not None:
            with phase("score"):
                step.eval_only = self.parts.eval_only.look(step)
        # Where ``record`` found that nobody answers, the run stops, but not before now: the ledger
        # has to hold the failures that a resumed run has to know.
        if step.stuck:
            raise RunError(self._nobody_judges(step))
        self.say(f"training on {len(step.pairs)} pairs")
        with phase("step"):
            step.trained = self._train(step, owner, label_PK)
        self.say("payoff")
        with phase("payoff"):
            step.outcomes = session.outcomes(step, step.trained)
            # Writes the payoffs into the ledger and updates the router.
            step.payoffs = session.pay(step.outcomes, t)
        return metrics_line(self.parts, step, self.clock.seconds)

    def _begin_iteration(self, t: int) -> None:
        """Where step t is the first of an iteration, the reference becomes the policy as it is.

        In LASER's Algorithm 1 that is pi_{m-1}.
        """
        parts = self.parts
        if t % parts.batches_per_iteration == 0:
            parts.policy.snapshot_reference()
            if t > 0 and self.config.payoff.per_iteration:
                parts.dispatcher.reset_scaler()

    def _sampled(self, t: int) -> Step:
        """This process's prompts of step t, with the policy's responses and their gold."""
        parts = self.parts
        n_responses = self.config.policy.n_responses
        examples = parts.ranks.shard(parts.batch(t))
        prompts = [example.prompt for example in examples]
        ids = [example.id for example in examples]
        self.say(f"sampling {n_responses} responses to {len(prompts)} prompts")
        responses = parts.policy.sample(prompts, ids, n_responses, t)
        gold = [example.gold(group) for example, group in zip(examples, responses, strict=True)]
        return Step(
            step=t,
            prompts=prompts,
            ids=ids,
            responses=responses,
            gold=gold,
            categories=[example.category for example in examples],
            audited=self._audited(ids, t),
        )

    def _audited(self, ids: Sequence[str], t: int) -> frozenset[int]:
        """Rows that every arm scores, to see how far the arms agree."""
        draw_B = [keyed.uniform(self.config.seed, "audit", t, prompt_id) for prompt_id in ids]
        return frozenset(row for row, draw in enumerate(draw_B) if draw < self.config.audit)

    def contexts_for_router(self, context_UD: Float, t: int) -> Float:
        """(U, D) contexts of all processes' units as the router takes them at step t.

        A router that names one arm for a whole iteration sees (U, 1), the iteration's number.
        """
        names_one_arm = by_iteration(self.config.router) and self.parts.routed
        if not names_one_arm:
            return context_UD
        iteration = t // self.parts.batches_per_iteration
        n_units = len(context_UD)
        return np.full((n_units, 1), float(iteration))

    def _train(self, step: Step, owner: Sequence[int], label_PK: Int) -> Trained:
        """The optimiser steps on the pairs, and the losses that payoffs are made of."""
        trainer = self.parts.trainer
        pairs = step.pairs
        # The losses of pairs with their responses exchanged, before the step changes the weights.
        flipped_P = self.pairing.flipped(pairs, label_PK)
        step.result = trainer.step(pairs, step.step)
        after_P = None
        if self.config.payoff.kind.needs_after:
            after_P = trainer.losses(pairs)
        self.parts.policy.sync()
        self.counts["skipped_steps"] += step.result.skipped

        loss_P = step.result.loss_P
        loss_PK = None
        if len(label_PK):
            loss_PK = label_losses(label_PK, loss_P, flipped_P)
        return Trained(owner, loss_P, after_P, loss_PK, step.result.skipped)

    def _nobody_judges(self, step: Step) -> str:
        """Why a run stops where all arms rest and none of them answered when asked again."""
        failures = self.parts.ranks.gather(step.verdicts.failures)
        last_reason = {arm: reason for _, arm, reason in failures}
        by_name = sorted(last_reason.items())
        reasons = "; ".join(f"{arm}: {reason}" for arm, reason in by_name)

        # Steps are counted from 1 where people read them.
        shown_step = step.step + 1
        return (
            f"step {shown_step}: all arms failed again and again and none answered when asked "
            f"in turn, so nobody can judge ({reasons}); put one back and go on with --resume"
        )
