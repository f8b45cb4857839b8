"""What each way of judging would have chosen, with intervals over prompts and seeds, and the differences to the best single arm.

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
from reward_router.contexts import text_of
from reward_router.progress import Table
from reward_router.replay.intervals import Bootstrap, bootstrap, interval
from reward_router.types import Float

ROUTED, RANDOM, MEAN, COMMITTEE, ORACLE = "routed", "random", "mean", "committee", "oracle"
SAMPLE, PERFECT = "no judge", "perfect router"
RESERVED = (ROUTED, RANDOM, MEAN, COMMITTEE, ORACLE, SAMPLE, PERFECT)
WORDS = (
    "routed: one arm a prompt, the router's. random: any arm, each alike often. mean: of all arms' z-scores. committee: asks another "
    "arm where that pays. no judge: any response. perfect router: the best arm of each prompt, oracle: the best response, both in hindsight."
)

ArmScores = Mapping[str, Sequence[Float]]
"""By arm, per prompt its scores of the N responses."""


@dataclass(frozen=True)
class Method:
    """One row: (P,) gold for every seed, and what it costs."""

    name: str
    gold_SP: list[Float]
    calls: float


def arm_golds(scores: ArmScores, items: Sequence[Item]) -> dict[str, Float]:
    """By arm, (B,) gold of what it puts first."""
    return {arm: gold_of_choices(rows, items) for arm, rows in scores.items()}


def scales(scores: ArmScores) -> dict[str, float]:
    """By arm, the standard deviation of its scores within a prompt; 1 where it never tells two responses apart.

    Only differences between responses to one prompt decide a choice, so only they calibrate.
    """
    found = {}
    for arm, rows in scores.items():
        gaps = [row - np.nanmean(row) for row in rows if np.isfinite(row).any()]
        known = np.concatenate(gaps) if gaps else np.zeros(0)
        known = known[np.isfinite(known)]
        sd = float(np.sqrt(np.mean(known**2))) if len(known) else 0.0
        found[arm] = sd if sd > 0 else 1.0
    return found


def mean_scores(scores: ArmScores, scale: Mapping[str, float]) -> list[Float]:
    """Per prompt (N,) the mean of the arms' z-scores; an arm that abstains from a response has no say in it."""
    arms = list(scores)
    found = []
    for rows in zip(*scores.values(), strict=True):
        z_KN = np.array([_centred(row) / scale[arm] for arm, row in zip(arms, rows, strict=True)])
        known_KN = np.isfinite(z_KN)
        total_N = np.where(known_KN, z_KN, 0.0).sum(axis=0)
        count_N = known_KN.sum(axis=0)
        found.append(np.where(count_N > 0, total_N / np.maximum(count_N, 1), np.nan))
    return found


def _centred(row: Float) -> Float:
    return row - np.nanmean(row) if np.isfinite(row).any() else row


def best_arm(golds: Mapping[str, Float]) -> str | None:
    """The arm of the highest mean gold over the prompts whose gold is known; None where there is none."""
    known = {arm: gold_P[np.isfinite(gold_P)] for arm, gold_P in golds.items()}
    means = {arm: float(gold_P.mean()) for arm, gold_P in known.items() if len(gold_P)}
    return max(means, key=lambda arm: means[arm]) if means else None


def compare(
    items: Sequence[Item],
    scores: ArmScores,
    scale: Mapping[str, float],
    routed: Method,
    committee: Method | None,
    named: str | None,
) -> dict[str, Any]:
    """The table as data: ``methods``, ``best_single`` and ``categories``. ``named``: the best single arm of the train prompts.

    Prompts with a response of unknown gold are left out. O(arms x prompts x replicates).
    """
    at = [i for i, item in enumerate(items) if item.measured]
    kept = [items[i] for i in at]
    golds = {arm: gold_P[at] for arm, gold_P in arm_golds(scores, items).items()}
    arms_KP = np.stack(list(golds.values()))
    mean_P = gold_of_choices(mean_scores(scores, scale), items)[at]
    methods = [
        Method(ROUTED, [gold_P[at] for gold_P in routed.gold_SP], routed.calls),
        *(
            [Method(COMMITTEE, [g[at] for g in committee.gold_SP], committee.calls)]
            if committee
            else []
        ),
        Method(RANDOM, [arms_KP.mean(axis=0)], 1.0),
        *(Method(arm, [gold_P], 1.0) for arm, gold_P in golds.items()),
        Method(MEAN, [mean_P], float(len(golds))),
        Method(SAMPLE, [np.array([item.gold_N[item.open_N].mean() for item in kept])], 0.0),
        Method(PERFECT, [arms_KP.max(axis=0)], 1.0),
        Method(ORACLE, [np.array([item.gold_N.max() for item in kept])], 0.0),
    ]
    here = best_arm(golds)
    against = named or here or ""
    _, group_P = np.unique([text_of(item.prompt) for item in kept], return_inverse=True)
    boot = bootstrap(np.asarray(group_P, np.int64))
    return {
        "methods": {m.name: _row(m, golds[against], boot) for m in methods},
        "best_single": {"train": named, "test": here, "against": against},
        "categories": _categories(kept, methods),
    }


def _row(method: Method, best_P: Float, boot: Bootstrap) -> dict[str, Any]:
    gaps = [gold_P - best_P for gold_P in method.gold_SP]
    return {
        "gold": float(np.mean(method.gold_SP)),
        "ci95": list(interval(boot.replicate(method.gold_SP))),
        "vs_best_single": float(np.mean(gaps)),
        "vs_best_single_ci95": list(interval(boot.replicate(gaps))),
        "calls_per_response": method.calls,
        "by_seed": [float(gold_P.mean()) for gold_P in method.gold_SP],
    }


def _categories(items: Sequence[Item], methods: Sequence[Method]) -> dict[str, Any]:
    """By category, the number of prompts and every method's gold; empty where there are no categories."""
    category_P = np.array([item.category for item in items])
    names = sorted({name for name in category_P.tolist() if name})
    found: dict[str, Any] = {}
    for name in names:
        mine = category_P == name
        golds = {m.name: float(np.mean([gold_P[mine] for gold_P in m.gold_SP])) for m in methods}
        found[name] = {"prompts": int(mine.sum()), "gold": golds}
    return found


def shown(result: Mapping[str, Any]) -> Table:
    """The table for a terminal."""
    best, rows = result["best_single"], result["methods"]
    measured = result["prompts"]["measured"]
    table = Table(f"{_measure_word(result)} on {measured} prompts that nothing was learned from")
    for column in ("who judges", "gold [95 %]", "less best single [95 %]", "calls"):
        table.column(column, justify="left" if column == "who judges" else "right")
    for name in _order(rows):
        row = rows[name]
        low, high = row["ci95"]
        below, above = row["vs_best_single_ci95"]
        gap = (
            ""
            if name == best["against"]
            else f"{row['vs_best_single']:+.3f} [{below:+.3f}, {above:+.3f}]"
        )
        table.row(
            _called(name, best), f"{row['gold']:.3f} [{low:.3f}, {high:.3f}]", gap,
            f"{row['calls_per_response']:.2f}",
        )  # fmt: skip
    return table


def _measure_word(result: Mapping[str, Any]) -> str:
    return {"gold": "gold", "f1": "F1", "rouge_l": "ROUGE-L", "exact": "exact match"}[
        result["measure"]
    ]


def _order(rows: Mapping[str, Any]) -> list[str]:
    """The routed ways, then all others from good to bad, the two bounds last."""
    first = [name for name in (ROUTED, COMMITTEE) if name in rows]
    last = [PERFECT, ORACLE]
    rest = sorted((n for n in rows if n not in (*first, *last)), key=lambda n: -rows[n]["gold"])
    return [*first, *rest, *last]


def _called(name: str, best: Mapping[str, Any]) -> str:
    """A row's name, with a mark on the best single arms."""
    if name == best["train"]:
        return f"{name} *"
    return f"{name} (*)" if name == best["test"] else name


def notes(best: Mapping[str, Any]) -> str:
    """What the marks of the table mean."""
    here = f"(*) {best['test']}: the best here, in hindsight"
    if best["train"] is None:
        return f"{here}; differences are to it, for no train prompt tells the best arm beforehand"
    named = f"* {best['train']}: the best single arm by the train prompts; differences are to it"
    return named if best["train"] == best["test"] else f"{named}. {here}"
