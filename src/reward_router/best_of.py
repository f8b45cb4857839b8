"""Best of n inside a run: is the router right about the policy's own samples?

It is asked twice: before the router learned in this run, and after. The sampled responses to the
held-out prompts are there anyway, with their gold. The router as it stands, frozen and greedy (as
in `bestofn`), names one arm a prompt, and the arm picks one of the n responses: one call a
response. Nothing of it reaches the ledger, the router or the trainer. Gold of the pick stands
beside the mean of the n, which is what a pick at random gives, and beside the best of the n, which
nobody can beat. A response that the token limit cut is a response like any other here: no rule
helps the arm.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reward_router import keyed
from reward_router.dispatch.eligible import masked
from reward_router.evaluate import bootstrap_interval
from reward_router.examples import Example
from reward_router.loop import Loop
from reward_router.payoffs import gold_of_choice
from reward_router.routers.choose import choose
from reward_router.routers.greedy import Greedy
from reward_router.types import Decision, Float
from reward_router.verdicts.batch import Batch, Unit

NO_STEP = 2**40
"""Added to the step, so that what is drawn here is drawn for no training step.

Drawn are noise on scores and ties between arms.
"""
ChosenByWho = dict[str, tuple[str, list[float]]]
"""Id of a prompt -> the arm that it was given, and the scores of that arm."""


@dataclass(frozen=True)
class PromptPick:
    """What one prompt's choice was worth.

    Args:
        id: of the prompt.
        category: of the prompt.
        arm: the arm that the router named.
        gold: of the response that this arm likes best.
        random: the mean gold of the responses: what a pick at random gives.
        oracle: the highest gold of the responses.
    """

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
    chosen: Callable[[ChosenByWho], None] = lambda picks: None,
) -> dict[str, Any]:
    """Let the router choose among the responses to each prompt; returns the summary's entry.

    Args:
        loop: the run, with its router as it stands.
        answered: prompts of this process with their responses.
        step: steps done.
        chosen: is told the arm and its scores for each prompt.

    All processes must call it alike.
    """
    parts = loop.parts
    batch = _judged(loop, answered, step)
    scores = [score_N for [score_N] in batch.verdicts.scores]

    chosen_arms: ChosenByWho = {}
    picks = []
    for (example, responses), decision, score_N in zip(
        answered, batch.decisions, scores, strict=True
    ):
        chosen_arms[example.id] = (decision.name, list(score_N))
        gold_N = example.gold(responses)
        gold = gold_of_choice(score_N, gold_N)
        assert gold is not None  # held-out prompts are those that have gold
        picks.append(
            PromptPick(
                example.id,
                example.category,
                decision.name,
                gold,
                random=float(gold_N.mean()),
                oracle=float(gold_N.max()),
            )
        )
    chosen(chosen_arms)

    # A shared call cost nothing: the same response was scored already.
    calls = sum(call.status != "shared" for call in batch.verdicts.calls)
    everyones_picks = sorted(parts.ranks.gather(picks), key=lambda pick: pick.id)
    everyones_calls = sum(parts.ranks.gather([calls]))
    return tabulate_choices(
        everyones_picks, parts.dispatcher.arms, everyones_calls, loop.config.eval.samples
    )


def _judged(loop: Loop, answered: Sequence[tuple[Example, Sequence[str]]], step: int) -> Batch:
    """One unit a prompt, routed and scored."""
    session = loop.parts.session
    prompts = [example.prompt for example, _ in answered]
    ids = [example.id for example, _ in answered]
    responses = [list(group) for _, group in answered]

    # These are no steps of the run: their numbers must not meet those of training.
    batch = Batch(NO_STEP + step, prompts, ids, responses, resting=session.resting())
    for row, texts in enumerate(responses):
        every_response = tuple(range(len(texts)))
        batch.units.append(Unit(ids[row], ((row, every_response),)))
    context_BD = loop.unit_filler.prompt_rows(prompts, responses)
    batch.decisions = _decisions(loop, ids, context_BD, step)

    verdicts = session.mode.judge(batch)
    loop.loading = verdicts.load_seconds
    return batch


def _decisions(loop: Loop, ids: Sequence[str], context_BD: Float, step: int) -> list[Decision]:
    """One decision a prompt by the frozen router, written down nowhere.

    It is the arm that the router expects most of; a tie is broken by key.
    """
    if not ids:
        return []
    dispatcher = loop.parts.dispatcher
    names = dispatcher.arms

    # Exploration is for training; here every prompt gets the arm of the highest mean that works.
    greedy = Greedy(dispatcher.router)
    probs_BK = greedy.probs(loop.contexts_for_router(context_BD, step))
    resting = loop.session.resting()
    awake_K = np.array([name not in resting for name in names])
    probs_BK = masked(probs_BK, awake_K[None])

    # Only ties are left to the draw, and it is keyed: the same prompt, the same arm.
    seed = loop.config.seed
    u_B = np.array([keyed.uniform(seed, "arm", NO_STEP + step, unit) for unit in ids])
    arm_B, p_B = choose(probs_BK, u_B)

    decisions = []
    for unit, k, p, probs_K in zip(ids, arm_B.tolist(), p_B.tolist(), probs_BK, strict=True):
        decisions.append(Decision(unit, unit, step, k, names[k], p, probs_K))
    return decisions


def tabulate_choices(
    picks: Sequence[PromptPick], arms: Sequence[str], calls: int, samples: int
) -> dict[str, Any]:
    """Means over prompts, and who chose, in all and by category.

    Beside them stands the paired 95 % interval of the choice less a random one.
    """
    gold_B = np.array([pick.gold for pick in picks])
    random_B = np.array([pick.random for pick in picks])
    # Paired: the same prompts, with a chosen sample and with any of them.
    gain_B = gold_B - random_B

    by_category = {"all": _category(picks, arms)}
    for category in sorted({pick.category for pick in picks} - {""}):
        group = [pick for pick in picks if pick.category == category]
        by_category[category] = _category(group, arms)
    return {
        "prompts": len(picks),
        "samples": samples,
        "gold": float(gold_B.mean()),
        "random": float(random_B.mean()),
        "oracle": float(np.mean([pick.oracle for pick in picks])),
        "diff": float(gain_B.mean()),
        "ci95": list(bootstrap_interval(gain_B)),
        "calls": calls,
        "by_category": by_category,
    }


def _category(picks: Sequence[PromptPick], arms: Sequence[str]) -> dict[str, Any]:
    shares = {}
    for arm in arms:
        chosen_by_arm = sum(pick.arm == arm for pick in picks)
        shares[arm] = chosen_by_arm / len(picks)
    return {
        "n": len(picks),
        "gold": float(np.mean([pick.gold for pick in picks])),
        "random": float(np.mean([pick.random for pick in picks])),
        "oracle": float(np.mean([pick.oracle for pick in picks])),
        "shares": shares,
    }
