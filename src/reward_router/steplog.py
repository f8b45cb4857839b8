"""One step of the main job as one line of metrics.jsonl, and in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reward_router.assemble import RunParts
from reward_router.features import pool
from reward_router.online import prior_trust
from reward_router.outcomes import Outcome, Trained
from reward_router.pairing import truncated
from reward_router.payoffs import order_accuracy
from reward_router.responses import finished
from reward_router.training.curves import training_curves
from reward_router.training.records import Pair, StepResult
from reward_router.types import Float, HasPosterior
from reward_router.verdicts.batch import Batch

Json = dict[str, Any]


@dataclass
class Step(Batch):
    """A batch of the main job, with what the trainer was given and what came of it.

    Args:
        pairs: preference pairs of this process.
        result: what the optimiser steps did.
        trained: the losses by pair, and whose arm ordered each pair.
        outcomes: what came of every decision of all processes.
        payoffs: decision id -> payoff.
        eval_only: what those arms said that take no part in training.
        calls: responses that arms were asked about for it, in all processes.
    """

    pairs: list[Pair] = field(default_factory=list)
    result: StepResult = field(default_factory=lambda: StepResult(np.zeros(0), False, 0.0))
    trained: Trained = field(default_factory=lambda: Trained([], np.zeros(0)))
    outcomes: list[Outcome] = field(default_factory=list)
    payoffs: dict[str, float] = field(default_factory=dict)
    eval_only: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: int = 0


def metrics_line(parts: RunParts, step: Step, seconds: dict[str, float]) -> Json:
    """One step for metrics.jsonl.

    It holds the arms' shares, losses, payoffs, gold of what was sampled, seconds, and the router's
    posterior.

    Args:
        parts: the run.
        step: a finished step of this process. All processes must call this alike.
        seconds: spent so far, by phase.
    """
    verdicts = step.verdicts
    result = step.result
    gather = parts.ranks.gather
    loss_P = gather(result.loss_P.tolist())
    moved_P2 = gather(result.moved_P2.tolist())
    payoffs = list(step.payoffs.values())
    ended = gather(_ended(step.responses))
    words = gather(_words(step.responses))
    cut_here = sum(truncated(group) for group in step.responses)
    return {
        "step": step.step,
        "iteration": step.step // parts.batches_per_iteration,
        **_who_decided(parts, step),
        "loss": _mean(loss_P) if np.isfinite(loss_P).all() else None,
        "pairs": len(loss_P),
        "skipped": result.skipped,
        "lr": list(result.lr_S),
        "grad_norm": result.grad_norm if math.isfinite(result.grad_norm) else None,
        **training_curves(moved_P2, parts.config.train.beta, ended),
        "payoff": _mean(payoffs),
        "payoffs": len(payoffs),
        "gold_order": _mean_order(step.outcomes),
        "gold_sampled": _mean_gold(step.outcomes),
        "words": _mean(words) or 0.0,
        "tokens": _mean(gather(_tokens(step.responses))),
        "truncated": sum(gather([cut_here])),
        "calls": step.calls,
        "failures": len(gather(verdicts.failures)),
        "failed_rows": len(gather(verdicts.row_failures)),
        "abstained": len(gather(list(verdicts.abstained))),
        "resting": sorted(parts.dispatcher.resting),
        "committee": parts.committee and parts.committee.record(),
        "score_seconds": _summed(gather(list(verdicts.seconds.items()))),
        "posterior": _posterior(parts, step),
        **({"eval_only": step.eval_only} if step.eval_only else {}),
        "trust": prior_trust(parts.dispatcher.router),
        "seconds": dict(seconds),
    }


def describe(record: Json) -> str:
    """One step in one line for people."""
    most_first = sorted(record["arms"].items(), key=lambda arm: -arm[1])
    judges = ", ".join(f"{name} {n}" for name, n in most_first if n)
    if record.get("committee"):
        calls = f"{record['committee']['calls_per_response']:.2f} calls a response"
        judges = f"{judges or 'committee'} ({calls})"
    loss = "no step"
    if record["loss"] is not None:
        loss = f"loss {record['loss']:.3f}"
    payoff = "no payoff"
    if record["payoff"] is not None:
        payoff = f"payoff {record['payoff']:+.2f}"
    gold = ""
    if record["gold_sampled"] is not None:
        gold = f", sampled gold {record['gold_sampled']:.2f}"
    figures = f"step {record['step'] + 1}: {record['pairs']} pairs, {loss}, {payoff}{gold}"
    return f"{figures}; {judges or 'all arms'}"


def _who_decided(parts: RunParts, step: Step) -> Json:
    """How often each arm was drawn, and the mean of the probabilities it was drawn with.

    A decision about a whole batch is known to every process; it counts once, by its id.
    """
    gather = parts.ranks.gather
    names = parts.dispatcher.arms
    # By id: a decision about a whole batch comes from every process.
    arms = [(decision.id, decision.name) for decision in step.decisions]
    arm_by_id = dict(gather(arms))
    # An ensemble or a committee names no arm and has no probabilities.
    probs = [
        (decision.id, decision.probs_K.tolist()) for decision in step.decisions if decision.name
    ]
    probs_by_id = dict(gather(probs))

    decided = list(arm_by_id.values())
    return {
        "arms": {name: decided.count(name) for name in names},
        "probs": _mean_probs(names, list(probs_by_id.values())),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _mean_order(outcomes: Sequence[Outcome]) -> float | None:
    """How often the drawn arms put right above wrong, where they did not fail."""
    accuracies = [outcome.mean(order_accuracy) for outcome in outcomes if not outcome.failed]
    return _mean([accuracy for accuracy in accuracies if accuracy is not None])


def _mean_gold(outcomes: Sequence[Outcome]) -> float | None:
    """The share of right responses among those whose gold is known; None where none is."""
    gold: list[Float] = []
    for outcome in outcomes:
        gold += outcome.golds
    flat = np.concatenate(gold) if gold else np.zeros(0)
    # `nanmean` of nothing warns and gives NaN.
    if not np.isfinite(flat).any():
        return None
    return float(np.nanmean(flat))


def _ended(responses: Sequence[Sequence[str]]) -> list[bool]:
    """Of every response, whether it ended by itself."""
    ended: list[bool] = []
    for group in responses:
        ended += finished(group).tolist()
    return ended


def _words(responses: Sequence[Sequence[str]]) -> list[int]:
    """Of every response, how many words it has."""
    words: list[int] = []
    for group in responses:
        words += [len(text.split()) for text in group]
    return words


def _tokens(responses: Sequence[Sequence[str]]) -> list[int]:
    """Of every response whose tokens were counted, how many it has."""
    counts: list[int] = []
    for group in responses:
        for response in group:
            count = getattr(response, "tokens", None)
            if count is not None:
                counts.append(count)
    return counts


def _mean_probs(names: Sequence[str], probs: Sequence[Sequence[float]]) -> dict[str, float]:
    if not probs:
        return {}
    return dict(zip(names, np.mean(probs, axis=0).tolist(), strict=True))


def _summed(seconds: Sequence[tuple[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for arm, spent in seconds:
        total[arm] = total.get(arm, 0.0) + spent
    return total


def _posterior(parts: RunParts, step: Step) -> dict[str, list[float]]:
    """Mean and sd of each arm's payoff at the batch's mean context, where there is a posterior."""
    router = parts.dispatcher.router
    context_UD = step.contexts
    if not isinstance(router, HasPosterior) or context_UD is None or len(context_UD) == 0:
        return {}
    mean_BK, sd_BK = router.posterior(pool(context_UD))
    means = mean_BK[0].tolist()
    sds = sd_BK[0].tolist()

    by_arm = zip(parts.dispatcher.arms, means, sds, strict=True)
    return {name: [mean, sd] for name, mean, sd in by_arm}
