"""Best of n inside a run: is the router right about the policy's own samples, before it learned in the run, and after?

The sampled responses to the held-out prompts are there anyway, with their gold. The router as it stands, frozen and greedy (as in
`bestofn`), names one arm a prompt, the arm picks one of the n responses: one call a response. Nothing of it reaches the ledger, the
router or the trainer. Gold of the pick stands beside the mean of the n, which is what a pick at random gives, and beside the best
of the n, which nobody can beat. A response that the token limit cut is a response like any other here: no rule helps the arm.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reward_router import keyed
from reward_router.dispatch.eligible import masked
from reward_router.evaluate import interval
from reward_router.examples import Example
from reward_router.loop import Loop
from reward_router.payoffs import gold_of_choice
from reward_router.routers.choose import choose
from reward_router.routers.greedy import Greedy
from reward_router.types import Decision, Float
from reward_router.verdicts.batch import Batch, Unit

NO_STEP = 2**40
"""Added to the step, so that what is drawn here (noise on scores, ties between arms) is drawn for no training step."""


@dataclass(frozen=True)
class Pick:
    """One prompt: the arm it was given, and gold of that arm's choice, of a random one and of the best one."""

    id: str
    category: str
    arm: str
    gold: float
    random: float
    oracle: float


def best_of(
    loop: Loop,
    answered: Sequence[tuple[Example, Sequence[str]]],
    step: int,
    chosen: Callable[[dict[str, tuple[str, list[float]]]], None] = lambda picks: None,
) -> dict[str, Any]:
    """Let the router after ``step`` steps choose among the responses to each prompt; returns what the summary says of it.

    ``answered``: prompts of this process with their responses. ``chosen`` is told of each of them the arm and its scores.
    All processes must call it alike.
    """
    parts = loop.parts
    prompts = [example.prompt for example, _ in answered]
    responses = [list(group) for _, group in answered]
    ids = [example.id for example, _ in answered]
    batch = Batch(NO_STEP + step, prompts, ids, responses, resting=parts.session.resting())
    for b, texts in enumerate(responses):
        batch.units.append(Unit(ids[b], ((b, tuple(range(len(texts)))),)))
    batch.decisions = _decisions(loop, ids, loop.units.prompt_rows(prompts, responses), step)

    verdicts = parts.session.mode.judge(batch)
    loop.loading = verdicts.load_seconds
    judged = zip(answered, batch.decisions, verdicts.scores, strict=True)
    chosen(
        {example.id: (decision.name, list(score_N)) for (example, _), decision, [score_N] in judged}
    )
    picks = []
    for (example, group), decision, [score_N] in zip(
        answered, batch.decisions, verdicts.scores, strict=True
    ):
        gold_N = example.gold(group)
        right = gold_of_choice(score_N, gold_N)
        assert right is not None  # held-out prompts are those that have gold
        ends = float(gold_N.mean()), float(gold_N.max())
        picks.append(Pick(example.id, example.category, decision.name, right, *ends))

    calls = sum(call.status != "shared" for call in verdicts.calls)
    found = sorted(parts.ranks.gather(picks), key=lambda pick: pick.id)
    return tabulate(
        found, parts.dispatcher.arms, sum(parts.ranks.gather([calls])), loop.config.eval.samples
    )


def _decisions(loop: Loop, ids: Sequence[str], context_BD: Float, step: int) -> list[Decision]:
    """One decision a prompt by the frozen router: the arm it expects most of, a tie broken by key. Written down nowhere."""
    dispatcher, seed = loop.parts.dispatcher, loop.config.seed
    if not ids:
        return []
    names, resting = dispatcher.arms, loop.session.resting()
    awake_K = np.array([name not in resting for name in names])
    seen_BD = loop.seen(context_BD, step)
    probs_BK = masked(Greedy(dispatcher.router).probs(seen_BD), awake_K[None])
    u_B = np.array([keyed.uniform(seed, "arm", NO_STEP + step, unit) for unit in ids])
    arm_B, p_B = choose(probs_BK, u_B)
    chosen = zip(ids, arm_B.tolist(), p_B.tolist(), probs_BK, strict=True)
    return [Decision(unit, unit, step, k, names[k], p, probs_K) for unit, k, p, probs_K in chosen]


def tabulate(
    picks: Sequence[Pick], arms: Sequence[str], calls: int, samples: int
) -> dict[str, Any]:
    """Means over prompts, the paired 95 % interval of the choice less a random one, and who chose, in all and by category."""
    gold_B, random_B = np.array([p.gold for p in picks]), np.array([p.random for p in picks])
    groups = {"all": list(picks)}
    for category in sorted({p.category for p in picks} - {""}):
        groups[category] = [p for p in picks if p.category == category]
    return {
        "prompts": len(picks),
        "samples": samples,
        "gold": float(gold_B.mean()),
        "random": float(random_B.mean()),
        "oracle": float(np.mean([p.oracle for p in picks])),
        "diff": float((gold_B - random_B).mean()),
        "ci95": list(interval(gold_B - random_B)),
        "calls": calls,
        "by_category": {name: _category(group, arms) for name, group in groups.items()},
    }


def _category(picks: Sequence[Pick], arms: Sequence[str]) -> dict[str, Any]:
    return {
        "n": len(picks),
        "gold": float(np.mean([p.gold for p in picks])),
        "random": float(np.mean([p.random for p in picks])),
        "oracle": float(np.mean([p.oracle for p in picks])),
        "shares": {arm: sum(p.arm == arm for p in picks) / len(picks) for arm in arms},
    }
