"""One step of the main job as one line of metrics.jsonl, and in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reward_router.assemble import Parts
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
    """A batch of the main job.

    What the trainer was given, what it reported, and what that was worth.

    Args:
        pairs: preference pairs of this process.
        result: the optimiser steps.
        trained: the losses by pair, and whose arm ordered each.
        outcomes: what came of every decision of all processes.
        payoffs: decision id -> payoff.
        eval_only: what the arms said that are only looked at.
    """

    pairs: list[Pair] = field(default_factory=list)
    result: StepResult = field(default_factory=lambda: StepResult(np.zeros(0), False, 0.0))
    trained: Trained = field(default_factory=lambda: Trained([], np.zeros(0)))
    outcomes: list[Outcome] = field(default_factory=list)
    payoffs: dict[str, float] = field(default_factory=dict)
    eval_only: dict[str, dict[str, Any]] = field(default_factory=dict)


def line(parts: Parts, step: Step, seconds: dict[str, float]) -> Json:
    """One line of metrics.jsonl.

    Shares, losses, payoffs, gold of what was sampled, seconds, the router's posterior.

    All processes must call it alike. ``seconds``: spent so far, by phase.
    """
    verdicts, result = step.verdicts, step.result
    gather, names = parts.ranks.gather, parts.dispatcher.arms
    loss_P = gather(result.loss_P.tolist())
    decided = list(dict(gather([(d.id, d.name) for d in step.decisions])).values())
    probs = dict(gather([(d.id, d.probs_K.tolist()) for d in step.decisions if d.name]))
    payoffs = list(step.payoffs.values())
    right = [_order(outcome) for outcome in step.outcomes if not outcome.failed]
    gold = [gold_N for outcome in step.outcomes for gold_N in outcome.golds]
    words = gather(_words(step.responses))
    ended = [bool(end) for group in step.responses for end in finished(group)]
    return {
        "step": step.step,
        "iteration": step.step // parts.batches_per_iteration,
        "arms": {name: decided.count(name) for name in names},
        "probs": _mean_probs(names, list(probs.values())),
        "loss": _mean(loss_P) if np.isfinite(loss_P).all() else None,
        "pairs": len(loss_P),
        "skipped": result.skipped,
        "lr": list(result.lr_S),
        "grad_norm": result.grad_norm if math.isfinite(result.grad_norm) else None,
        **training_curves(gather(result.moved_P2.tolist()), parts.config.train.beta, gather(ended)),
        "payoff": _mean(payoffs),
        "payoffs": len(payoffs),
        "gold_order": _mean([share for share in right if share is not None]),
        "gold_sampled": _known_mean(gold),
        "words": _mean(words) or 0.0,
        "truncated": sum(gather([sum(truncated(group) for group in step.responses)])),
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
    """One step in one line."""
    most_first = sorted(record["arms"].items(), key=lambda arm: -arm[1])
    who = ", ".join(f"{name} {n}" for name, n in most_first if n)
    if record.get("committee"):
        calls = f"{record['committee']['calls_per_response']:.2f} calls a response"
        who = f"{who} ({calls})" if who else f"committee ({calls})"
    loss = f"loss {record['loss']:.3f}" if record["loss"] is not None else "no step"
    payoff = f"payoff {record['payoff']:+.2f}" if record["payoff"] is not None else "no payoff"
    gold = ""
    if record["gold_sampled"] is not None:
        gold = f", sampled gold {record['gold_sampled']:.2f}"
    told = f"step {record['step'] + 1}: {record['pairs']} pairs, {loss}, {payoff}{gold}"
    return f"{told}; {who or 'all arms'}"


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _known_mean(gold: Sequence[Float]) -> float | None:
    """The mean of what is known; None where nothing is."""
    flat = np.concatenate(gold) if gold else np.zeros(0)
    return float(np.nanmean(flat)) if np.isfinite(flat).any() else None


def _order(outcome: Outcome) -> float | None:
    return outcome.mean(order_accuracy)


def _words(responses: Sequence[Sequence[str]]) -> list[int]:
    return [len(text.split()) for group in responses for text in group]


def _mean_probs(names: Sequence[str], probs: Sequence[Sequence[float]]) -> dict[str, float]:
    if not probs:
        return {}
    return dict(zip(names, np.mean(probs, axis=0).tolist(), strict=True))


def _summed(seconds: Sequence[tuple[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for arm, spent in seconds:
        total[arm] = total.get(arm, 0.0) + spent
    return total


def _posterior(parts: Parts, step: Step) -> dict[str, list[float]]:
    """Mean and sd of each arm's payoff at the batch's mean context, where there is a posterior."""
    router = parts.dispatcher.router
    if not isinstance(router, HasPosterior) or step.contexts is None or len(step.contexts) == 0:
        return {}
    mean_BK, sd_BK = router.posterior(pool(step.contexts))
    both = zip(mean_BK[0].tolist(), sd_BK[0].tolist(), strict=True)
    return {name: list(pair) for name, pair in zip(parts.dispatcher.arms, both, strict=True)}
