"""RewardBench 2 score files: best-of-4 with ties, the benchmark's official metric, and the pairs that routers are compared on.

Official metric (allenai/reward-bench, ``reroll_and_score_dataset`` and ``process_single_model``): outside the subset Ties an item
counts 1/m where the correct completion is among the m completions of highest score, else 0. Ties is scored over the whole subset:
0.3 accuracy on tied + 0.3 on reference prompts + 0.2 + 0.2 for the margin between correct answers staying below the margin to the
best wrong one (there, and also on the reference prompt), + 0.01 of a tanh margin.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reward_router.chat import shown
from reward_router.column_names import as_text
from reward_router.errors import InputError
from reward_router.replay import reading
from reward_router.replay.fields import number, side
from reward_router.replay.rewardbench1 import credit_of
from reward_router.types import Float

Json = dict[str, Any]
Problem = tuple[str, str]
Key = tuple[str, str]


@dataclass(frozen=True)
class Item:
    """One prompt with its completions' scores, the ``num_correct`` correct ones first.

    A generative judge that only says whether its pick was right has no scores but a ``result``: 1 right, 0 wrong, between: a tie.
    """

    id: str
    subset: str
    num_correct: int
    scores_N: Float
    result: float | None = None

    @property
    def key(self) -> Key:
        """What an item is known by in every file: ids alone come again in other subsets."""
        return self.subset, self.id


def joined(files: Mapping[str, str]) -> tuple[dict[str, Json], list[Problem], int, Json]:
    """({pair: row}, [(where, what is broken)], rows read, official metric by arm) of ``files``, arm -> path. All items are held.

    Every correct completion against every wrong one is a row. An item for which some arm has nothing but its result becomes one
    row, right or wrong: the correct completion against the strongest of the others, for every arm.
    """
    problems: list[Problem] = []
    official: Json = {}
    by_arm: dict[str, dict[Key, Item]] = {}
    shape: dict[Key, tuple[str, int, int]] = {}
    read = 0
    for arm, source in files.items():
        found, broken = items(reading.rows(source), Path(source).name)
        problems += broken
        read += len(found) + len(broken)
        fitting = [item for item in found if _fits(item, arm, shape, problems)]
        by_arm[arm] = {item.key: item for item in fitting}
        if fitting:
            official[arm] = official_scores(fitting)
    bare = {key for own in by_arm.values() for key, item in own.items() if item.result is not None}
    rows: dict[str, Json] = {}
    for arm, own in by_arm.items():
        for key, item in own.items():
            for pair, scores in [_whole(item)] if key in bare else pairs(item):
                label = side(pair)
                row = rows.setdefault(
                    pair,
                    {"id": pair, "label": label, "category": f"rb2/{item.subset}", "scores": {}},
                )
                row["scores"][arm] = scores if label == "a" else scores[::-1]
    return rows, problems, read, official


def _fits(
    item: Item, arm: str, shape: dict[Key, tuple[str, int, int]], problems: list[Problem]
) -> bool:
    """Whether an item has as many completions here as in the files before: else it would be joined to other pairs."""
    n = len(item.scores_N)
    if n == 0:
        return True
    first, correct, before = shape.setdefault(item.key, (arm, item.num_correct, n))
    if (correct, before) == (item.num_correct, n):
        return True
    why = f"{item.num_correct} correct of {n} completions; in {first} it has {correct} of {before}"
    problems.append((f"{arm} item {item.id} of {item.subset}", why))
    return False


def items(rows: Any, where: str) -> tuple[list[Item], list[Problem]]:
    """A score file's rows -> (items, [(where, what is broken)]).

    ``InputError`` where columns are missing everywhere, or one subset has an id twice.
    """
    found: list[Item] = []
    problems: list[Problem] = []
    places: dict[Key, int] = {}
    whole = 0
    for count, (_, row) in enumerate(rows, 1):
        missing = isinstance(row, str) or any(row.get(c) is None for c in ("id", "subset"))
        whole += not missing and ("scores" in row or "results" in row)
        item = (str(row) if isinstance(row, str) else "no id or subset") if missing else _item(row)
        if isinstance(item, str):
            problems.append((f"{where} item {count}", item))
            continue
        if item.key in places:
            raise InputError(
                f"{where}: id {item.id!r} of {item.subset} stands twice, at items {places[item.key]} and {count}: one would be lost"
            )
        places[item.key] = count
        found.append(item)
    if not whole:
        raise InputError(
            f"{where}: a RewardBench 2 score file has the columns id, subset, scores and num_correct"
        )
    return found, problems


def _item(row: Mapping[str, Any]) -> Item | str:
    """The item, or what is broken."""
    name, subset = str(as_text(row["id"])), str(as_text(row["subset"]))
    scores, num_correct = row.get("scores"), row.get("num_correct")
    if num_correct is None:
        num_correct = 1
    result = credit_of(row.get("results"))
    ties = subset.lower() == "ties"
    if scores is None and result is not None and not ties:
        return Item(name, subset, 1, np.empty(0), result)
    try:
        scores_N = np.array([number(s) for s in scores or ()], dtype=np.float64)
    except (TypeError, ValueError):
        return f"scores of {name} are not numbers: {shown(scores)!r}"
    if scores is None or len(scores_N) == 0:
        return f"scores of {name} are not numbers: {shown(scores)!r}"
    if any(math.isnan(score) for score in scores_N):
        return f"scores of {name} hold a NaN or nothing"
    if isinstance(num_correct, bool) or num_correct not in range(1, len(scores_N)):
        return f"{name} has {shown(num_correct)} correct of {len(scores_N)} completions, needed: at least one of each"
    if ties and name.partition(":")[0] not in ("ref", "tied"):
        return f"id {name!r} in Ties, allowed: ref:N and tied:N"
    return Item(name, subset, int(num_correct), scores_N)


def _whole(item: Item) -> tuple[str, list[float]]:
    """(row id, [score of the correct completion, of the strongest other]); a result counts as 1 against 0."""
    name = f"{item.subset}/{item.id}-0xbest"
    if item.result is not None:
        return name, [item.result, 1 - item.result]
    return name, [
        float(item.scores_N[: item.num_correct].max()),
        float(item.scores_N[item.num_correct :].max()),
    ]


def pairs(item: Item) -> Iterator[tuple[str, list[float]]]:
    """(pair id, [score of the correct, score of the wrong completion]); the id without its last part is the item."""
    for i in range(item.num_correct):
        for j in range(item.num_correct, len(item.scores_N)):
            yield (
                f"{item.subset}/{item.id}-{i}x{j}",
                [float(item.scores_N[i]), float(item.scores_N[j])],
            )


def best_of_n(item: Item) -> float:
    """1/m where the first completion is among the m best, else 0; a judge's own result where there are no scores."""
    if item.result is not None:
        return item.result
    best = item.scores_N == item.scores_N.max()
    return float(best[0] / best.sum())


def official_scores(found: Sequence[Item]) -> dict[str, float]:
    """Score of each subset and their plain mean ``overall``."""
    by_subset: dict[str, list[Item]] = {}
    for item in found:
        by_subset.setdefault(item.subset, []).append(item)
    scores = {
        s: ties_score(i) if s.lower() == "ties" else float(np.mean([best_of_n(x) for x in i]))
        for s, i in by_subset.items()
    }
    return {**scores, "overall": float(np.mean(list(scores.values())))}


def ties_score(found: Sequence[Item]) -> float:
    """The Ties subset's score; ids read ``ref:7`` (one correct answer) and ``tied:7`` (several)."""
    kinds: dict[str, dict[str, tuple[bool, float, float]]] = {"ref": {}, "tied": {}}
    for item in found:
        kind, _, prompt = item.id.partition(":")
        kinds[kind][prompt] = _margins(item)
    ref, tied = kinds["ref"], kinds["tied"]
    both = sorted(set(ref) & set(tied))
    accuracy = [
        float(np.mean([m[0] for m in side.values()])) if side else 0.0 for side in (tied, ref)
    ]
    if not both:
        return 0.3 * accuracy[0] + 0.3 * accuracy[1]
    spread, gap, gap_ref = np.array([[tied[p][1], tied[p][2], ref[p][2]] for p in both]).T
    hard = np.minimum(gap_ref, gap)
    with np.errstate(divide="ignore", invalid="ignore"):
        smooth = np.nan_to_num(np.tanh(hard / spread - 1), nan=0.0)
    preferred = 0.2 * (gap > spread).mean() + 0.2 * (hard > spread).mean()
    return float(0.3 * accuracy[0] + 0.3 * accuracy[1] + preferred + 0.01 * smooth.mean())


def _margins(item: Item) -> tuple[bool, float, float]:
    """(all correct above all wrong, spread of the correct ones, worst correct minus best wrong)."""
    right, wrong = item.scores_N[: item.num_correct], item.scores_N[item.num_correct :]
    gap = float(right.min() - wrong.max())
    return gap > 0, float(right.max() - right.min()), gap
