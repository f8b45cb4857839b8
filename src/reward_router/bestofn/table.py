"""What each way of judging would have chosen, with intervals over prompts and seeds.

Every arm scores every response once; all rows are read off that one table of scores. A row's gold
is that of the responses it puts first, their mean where several share the first place, so no row
gains or loses by the order of the responses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reward_router.bestofn.rows import Item
from reward_router.bestofn.ways import gold_of_choices
from reward_router.contexts import plain_prompt
from reward_router.progress import LiteralTable
from reward_router.replay.intervals import Bootstrap, bootstrap, percentile_interval
from reward_router.types import Float

ROUTED = "routed"
RANDOM = "random"
MEAN = "mean"
COMMITTEE = "committee"
ORACLE = "oracle"
SAMPLE = "no judge"
PERFECT = "perfect router"
RESERVED = (ROUTED, RANDOM, MEAN, COMMITTEE, ORACLE, SAMPLE, PERFECT)
WORDS = (
    "routed: one arm a prompt, the router's. random: any arm, each alike often. "
    "mean: of all arms' z-scores. committee: asks another arm where that pays. "
    "no judge: any response. perfect router: the best arm of each prompt, "
    "oracle: the best response, both in hindsight."
)

ArmScores = Mapping[str, Sequence[Float]]
"""By arm, per prompt its scores of the N responses."""


@dataclass(frozen=True)
class MethodRow:
    """One row: (P,) gold for every seed, and what it costs."""

    name: str
    gold_SP: list[Float]
    calls: float


def arm_golds(scores: ArmScores, items: Sequence[Item]) -> dict[str, Float]:
    """By arm, (B,) gold of what it puts first."""
    return {arm: gold_of_choices(rows, items) for arm, rows in scores.items()}


def heard(scores: ArmScores) -> list[str]:
    """The arms that gave a score to some response; all of them where none did.

    The row of any other arm is chance, and no arm to be named the best.
    """
    names = [arm for arm, rows in scores.items() if any(np.isfinite(row).any() for row in rows)]
    return names or list(scores)


def scales(scores: ArmScores) -> dict[str, float]:
    """By arm, the standard deviation of its scores within a prompt.

    Only differences between responses to one prompt decide a choice, so only they calibrate. An arm
    that never tells two responses apart has 1.
    """
    scale = {}
    for arm, rows in scores.items():
        centred = [_centred(row) for row in rows if np.isfinite(row).any()]
        gaps = np.concatenate(centred) if centred else np.zeros(0)
        gaps = gaps[np.isfinite(gaps)]

        # Rows are centred one by one, so the mean square is the variance within prompts.
        sd = 0.0
        if len(gaps):
            sd = float(np.sqrt(np.mean(gaps**2)))
        scale[arm] = sd if sd > 0 else 1.0
    return scale


def mean_scores(scores: ArmScores, scale: Mapping[str, float]) -> list[Float]:
    """Per prompt (N,) the mean of the arms' z-scores.

    An arm that abstains from a response has no say in it; NaN where all of them abstain.
    """
    means = []
    for rows in zip(*scores.values(), strict=True):
        z_scores = []
        for arm, row in zip(scores, rows, strict=True):
            z_scores.append(_centred(row) / scale[arm])
        z_KN = np.array(z_scores)

        # The mean over the arms that said something of a response.
        is_scored_KN = np.isfinite(z_KN)
        total_N = np.where(is_scored_KN, z_KN, 0.0).sum(axis=0)
        count_N = is_scored_KN.sum(axis=0)
        mean_N = total_N / np.maximum(count_N, 1)
        means.append(np.where(count_N > 0, mean_N, np.nan))
    return means


def _centred(row: Float) -> Float:
    return row - np.nanmean(row) if np.isfinite(row).any() else row


def best_arm(golds: Mapping[str, Float]) -> str | None:
    """The arm of the highest mean gold over the prompts whose gold is known.

    The first of several with the same mean; None where no gold is known.
    """
    means = {}
    for arm, gold_P in golds.items():
        measured_P = gold_P[np.isfinite(gold_P)]
        if len(measured_P):
            means[arm] = float(measured_P.mean())
    return max(means, key=lambda arm: means[arm]) if means else None


def compare_methods(
    items: Sequence[Item],
    scores: ArmScores,
    scale: Mapping[str, float],
    routed: MethodRow,
    committee: MethodRow | None,
    named: str | None,
) -> dict[str, Any]:
    """The table as data: ``methods``, ``best_single`` and ``categories``.

    Prompts with a response of unknown gold are left out. O(arms x prompts x replicates).

    Args:
        items: the prompts that were chosen for.
        scores: what every arm says of every response.
        scale: the unit of each arm's scores, from `scales`.
        routed: the routed arms' choices.
        committee: the committee's choices; None where there is none.
        named: the best single arm of the train prompts, to which all rows are compared; None: the
            best one here.
    """
    # Only prompts whose every response has gold: else the bounds would be of another set.
    measured_rows = [i for i, item in enumerate(items) if item.measured]
    measured_items = [items[i] for i in measured_rows]
    all_golds = arm_golds(scores, items)
    golds = {arm: gold_P[measured_rows] for arm, gold_P in all_golds.items()}
    gold_KP = np.stack(list(golds.values()))

    mean_choice_P = gold_of_choices(mean_scores(scores, scale), items)
    any_response_P = np.array([item.gold_N[item.open_N].mean() for item in measured_items])
    best_response_P = np.array([item.gold_N.max() for item in measured_items])

    methods = [_measured_part(routed, measured_rows)]
    if committee is not None:
        methods.append(_measured_part(committee, measured_rows))
    # The number is what a method costs: how many arms score each response.
    methods.append(MethodRow(RANDOM, [gold_KP.mean(axis=0)], 1.0))
    methods += [MethodRow(arm, [gold_P], 1.0) for arm, gold_P in golds.items()]
    methods.append(MethodRow(MEAN, [mean_choice_P[measured_rows]], float(len(golds))))
    methods.append(MethodRow(SAMPLE, [any_response_P], 0.0))
    methods.append(MethodRow(PERFECT, [gold_KP.max(axis=0)], 1.0))
    methods.append(MethodRow(ORACLE, [best_response_P], 0.0))

    best_here = best_arm({arm: golds[arm] for arm in heard(scores)})
    against = named or best_here or ""

    # Equal prompts are drawn together: their golds are no independent numbers.
    texts = [plain_prompt(item.prompt) for item in measured_items]
    _, group_P = np.unique(texts, return_inverse=True)
    boot = bootstrap(np.asarray(group_P, np.int64))
    return {
        "methods": {method.name: _row(method, golds[against], boot) for method in methods},
        "best_single": {"train": named, "test": best_here, "against": against},
        "categories": _categories(measured_items, methods),
    }


def _measured_part(method: MethodRow, rows: Sequence[int]) -> MethodRow:
    return MethodRow(method.name, [gold_P[list(rows)] for gold_P in method.gold_SP], method.calls)


def _row(method: MethodRow, best_P: Float, boot: Bootstrap) -> dict[str, Any]:
    gap_SP = [gold_P - best_P for gold_P in method.gold_SP]
    gold_draws = boot.replicate(method.gold_SP)
    gap_draws = boot.replicate(gap_SP)
    return {
        "gold": float(np.mean(method.gold_SP)),
        "ci95": list(percentile_interval(gold_draws)),
        "vs_best_single": float(np.mean(gap_SP)),
        "vs_best_single_ci95": list(percentile_interval(gap_draws)),
        "calls_per_response": method.calls,
        "by_seed": [float(gold_P.mean()) for gold_P in method.gold_SP],
    }


def _categories(items: Sequence[Item], methods: Sequence[MethodRow]) -> dict[str, Any]:
    """By category, the number of prompts and every method's gold.

    Empty where the prompts have no categories.
    """
    category_P = np.array([item.category for item in items])
    names = sorted(set(category_P.tolist()) - {""})
    by_category: dict[str, Any] = {}
    for name in names:
        is_in_P = category_P == name
        golds = {}
        for method in methods:
            # Over seeds and prompts alike.
            own_SP = [gold_P[is_in_P] for gold_P in method.gold_SP]
            golds[method.name] = float(np.mean(own_SP))
        by_category[name] = {"prompts": int(is_in_P.sum()), "gold": golds}
    return by_category


def table_text(result: Mapping[str, Any]) -> LiteralTable:
    """The table for a terminal."""
    best = result["best_single"]
    rows = result["methods"]
    measured = result["prompts"]["measured"]
    table = LiteralTable(
        f"{_measure_word(result)} on {measured} prompts that nothing was learned from"
    )
    for column in ("who judges", "gold [95 %]", "less best single [95 %]", "calls"):
        table.column(column, justify="left" if column == "who judges" else "right")
    for name in _order(rows):
        row = rows[name]
        low, high = row["ci95"]
        below, above = row["vs_best_single_ci95"]
        gold = f"{row['gold']:.3f} [{low:.3f}, {high:.3f}]"
        gap = f"{row['vs_best_single']:+.3f} [{below:+.3f}, {above:+.3f}]"
        if name == best["against"]:
            gap = ""
        table.row(_called(name, best), gold, gap, f"{row['calls_per_response']:.2f}")
    return table


def _measure_word(result: Mapping[str, Any]) -> str:
    words = {"gold": "gold", "f1": "F1", "rouge_l": "ROUGE-L", "exact": "exact match"}
    return words[result["measure"]]


def _order(rows: Mapping[str, Any]) -> list[str]:
    """The routed ways, then all others from good to bad, the two bounds last."""
    first = [name for name in (ROUTED, COMMITTEE) if name in rows]
    last = [PERFECT, ORACLE]
    others = [name for name in rows if name not in (*first, *last)]
    best_first = sorted(others, key=lambda name: -rows[name]["gold"])
    return [*first, *best_first, *last]


def _called(name: str, best: Mapping[str, Any]) -> str:
    """A row's name, with a mark on the best single arms."""
    if name == best["train"]:
        return f"{name} *"
    return f"{name} (*)" if name == best["test"] else name


def table_notes(best: Mapping[str, Any]) -> str:
    """What the marks of the table mean."""
    here = f"(*) {best['test']}: the best here, in hindsight"
    if best["train"] is None:
        return f"{here}; differences are to it, for no train prompt tells the best arm beforehand"
    named = f"* {best['train']}: the best single arm by the train prompts; differences are to it"
    return named if best["train"] == best["test"] else f"{named}. {here}"
