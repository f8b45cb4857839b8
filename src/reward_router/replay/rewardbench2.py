"""RewardBench 2 score files: best-of-4 with ties, the official metric, and the pairs to compare.

Official metric (allenai/reward-bench, ``reroll_and_score_dataset`` and ``process_single_model``):
outside the subset Ties an item counts 1/m where the correct completion is among the m completions
of highest score, else 0. Ties is scored over the whole subset: 0.3 accuracy on tied + 0.3 on
reference prompts + 0.2 + 0.2 for the margin between correct answers staying below the margin to the
best wrong one (there, and also on the reference prompt), + 0.01 of a tanh margin.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reward_router.chat import shown
from reward_router.column_names import as_text
from reward_router.errors import InputError
from reward_router.replay import reading
from reward_router.replay.fields import score_number, side
from reward_router.replay.rewardbench1 import credit_of
from reward_router.types import Float

Json = dict[str, Any]
ItemKey = tuple[str, str]
RowShape = tuple[str, int, int]
"""Of an item: the arm whose file had it first, its correct completions, and all of them."""


@dataclass(frozen=True)
class ScoredItem:
    """One prompt with its completions' scores, the ``num_correct`` correct ones first.

    A generative judge that only says whether its pick was right has no scores but a ``result``:
    1 right, 0 wrong, between: a tie.
    """

    id: str
    subset: str
    num_correct: int
    scores_N: Float
    result: float | None = None

    @property
    def key(self) -> ItemKey:
        """What an item is known by in every file: ids alone come again in other subsets."""
        return self.subset, self.id


def join_files(
    files: Mapping[str, str],
) -> tuple[dict[str, Json], list[reading.BadRow], int, Json]:
    """({pair: row}, problems, rows read, official metric by arm) of ``files``, arm -> path.

    All items are held. Every correct completion against every wrong one is a row. An item for which
    some arm has nothing but its result becomes one row, right or wrong: the correct completion
    against the strongest of the others, for every arm.
    """
    problems: list[reading.BadRow] = []
    official: Json = {}
    by_arm: dict[str, dict[ItemKey, ScoredItem]] = {}
    shapes: dict[ItemKey, RowShape] = {}
    read = 0
    for arm, source in files.items():
        scored, broken = items(reading.rows(source), Path(source).name)
        problems += broken
        read += len(scored) + len(broken)
        fitting = [item for item in scored if _fits(item, arm, shapes, problems)]
        by_arm[arm] = {item.key: item for item in fitting}
        if fitting:
            official[arm] = official_scores(fitting)
    # Decided over all files first: an item must have the same rows for every arm.
    result_only: set[ItemKey] = set()
    for own in by_arm.values():
        result_only |= {key for key, item in own.items() if item.result is not None}
    rows: dict[str, Json] = {}
    for arm, own in by_arm.items():
        for key, item in own.items():
            _add(rows, arm, item, whole=key in result_only)
    return rows, problems, read, official


def _add(rows: dict[str, Json], arm: str, item: ScoredItem, whole: bool) -> None:
    """Put an arm's scores of an item into its rows: one for the whole item, or one a pair."""
    for pair, scores in [_whole(item)] if whole else scored_pairs(item):
        label = side(pair)
        category = f"rb2/{item.subset}"
        row = rows.setdefault(
            pair, {"id": pair, "label": label, "category": category, "scores": {}}
        )
        row["scores"][arm] = scores if label == "a" else scores[::-1]


def _fits(
    item: ScoredItem, arm: str, shapes: dict[ItemKey, RowShape], problems: list[reading.BadRow]
) -> bool:
    """Whether an item has as many completions here as in the files before.

    Else it would be joined to other pairs.
    """
    n = len(item.scores_N)
    if n == 0:
        return True
    first, correct, before = shapes.setdefault(item.key, (arm, item.num_correct, n))
    if (correct, before) == (item.num_correct, n):
        return True
    why = f"{item.num_correct} correct of {n} completions; in {first} it has {correct} of {before}"
    problems.append((f"{arm} item {item.id} of {item.subset}", why))
    return False


def items(rows: Iterable[Any], where: str) -> tuple[list[ScoredItem], list[reading.BadRow]]:
    """A score file's rows -> (items, problems).

    ``InputError`` where columns are missing everywhere, or one subset has an id twice.
    """
    usable: list[ScoredItem] = []
    problems: list[reading.BadRow] = []
    numbers: dict[ItemKey, int] = {}
    some_scores = False
    for count, (_, row) in enumerate(rows, 1):
        item = str(row) if isinstance(row, str) else _item(row)
        some_scores |= not isinstance(row, str) and _is_complete(row)
        if isinstance(item, str):
            problems.append((f"{where} item {count}", item))
            continue
        if item.key in numbers:
            raise InputError(
                f"{where}: id {item.id!r} of {item.subset} stands twice, "
                f"at items {numbers[item.key]} and {count}: one would be lost"
            )
        numbers[item.key] = count
        usable.append(item)
    if not some_scores:
        raise InputError(
            f"{where}: a RewardBench 2 score file has the columns id, subset, scores "
            "and num_correct"
        )
    return usable, problems


def _is_complete(row: Mapping[str, Any]) -> bool:
    """Whether a row has the columns of a score file, whatever stands in them."""
    return _has_names(row) and ("scores" in row or "results" in row)


def _has_names(row: Mapping[str, Any]) -> bool:
    return row.get("id") is not None and row.get("subset") is not None


def _item(row: Mapping[str, Any]) -> ScoredItem | str:
    """The item, or what is broken."""
    if not _has_names(row):
        return "no id or subset"
    name = str(as_text(row["id"]))
    subset = str(as_text(row["subset"]))
    scores = row.get("scores")
    result = credit_of(row.get("results"))
    ties = subset.lower() == "ties"
    # The official metric of Ties needs scores: there a result alone is not enough.
    if scores is None and result is not None and not ties:
        return ScoredItem(name, subset, 1, np.empty(0), result)
    try:
        scores_N = np.array([score_number(s) for s in scores or ()], dtype=np.float64)
    except (TypeError, ValueError):
        return f"scores of {name} are not numbers: {shown(scores)!r}"
    if scores is None or len(scores_N) == 0:
        return f"scores of {name} are not numbers: {shown(scores)!r}"
    if np.isnan(scores_N).any():
        return f"scores of {name} hold a NaN or nothing"
    num_correct = row.get("num_correct")
    if num_correct is None:
        num_correct = 1
    if isinstance(num_correct, bool) or num_correct not in range(1, len(scores_N)):
        return (
            f"{name} has {shown(num_correct)} correct of {len(scores_N)} completions, "
            "needed: at least one of each"
        )
    if ties and name.partition(":")[0] not in ("ref", "tied"):
        return f"id {name!r} in Ties, allowed: ref:N and tied:N"
    return ScoredItem(name, subset, int(num_correct), scores_N)


def _whole(item: ScoredItem) -> tuple[str, list[float]]:
    """(row id, [score of the correct completion, of the strongest other]).

    A result counts as 1 against 0.
    """
    name = f"{item.subset}/{item.id}-0xbest"
    if item.result is not None:
        return name, [item.result, 1 - item.result]
    correct = item.scores_N[: item.num_correct]
    wrong = item.scores_N[item.num_correct :]
    return name, [float(correct.max()), float(wrong.max())]


def scored_pairs(item: ScoredItem) -> Iterator[tuple[str, list[float]]]:
    """(pair id, [score of the correct, score of the wrong completion]).

    The id without its last part is the item.
    """
    # The correct completions stand first.
    correct = range(item.num_correct)
    wrong = range(item.num_correct, len(item.scores_N))
    for i in correct:
        for j in wrong:
            scores = [float(item.scores_N[i]), float(item.scores_N[j])]
            pair_id = f"{item.subset}/{item.id}-{i}x{j}"
            yield pair_id, scores


def best_of_n(item: ScoredItem) -> float:
    """1/m where the first completion is among the m best, else 0.

    A judge's own result where there are no scores.
    """
    if item.result is not None:
        return item.result
    best = item.scores_N == item.scores_N.max()
    return float(best[0] / best.sum())


def official_scores(scored: Sequence[ScoredItem]) -> dict[str, float]:
    """Score of each subset and their plain mean ``overall``."""
    by_subset: dict[str, list[ScoredItem]] = {}
    for item in scored:
        by_subset.setdefault(item.subset, []).append(item)
    scores = {}
    for subset, own in by_subset.items():
        if subset.lower() == "ties":
            scores[subset] = ties_score(own)
        else:
            scores[subset] = float(np.mean([best_of_n(item) for item in own]))
    return {**scores, "overall": float(np.mean(list(scores.values())))}


def ties_score(scored: Sequence[ScoredItem]) -> float:
    """The Ties subset's score; ids read ``ref:7`` (one correct answer) and ``tied:7`` (several)."""
    ref: dict[str, _Margins] = {}
    tied: dict[str, _Margins] = {}
    for item in scored:
        kind, _, prompt = item.id.partition(":")
        of_kind = ref if kind == "ref" else tied
        of_kind[prompt] = _margins(item)

    accuracy = 0.3 * _accuracy(tied) + 0.3 * _accuracy(ref)
    both = sorted(set(ref) & set(tied))
    if not both:
        return accuracy

    # The margins are compared between the two prompts of one number.
    spread = np.array([tied[prompt].spread for prompt in both])
    gap = np.array([tied[prompt].gap for prompt in both])
    gap_ref = np.array([ref[prompt].gap for prompt in both])
    hard = np.minimum(gap_ref, gap)

    # Correct answers of one score have no spread: the benchmark counts 0/0 as 0.
    with np.errstate(divide="ignore", invalid="ignore"):
        smooth = np.nan_to_num(np.tanh(hard / spread - 1), nan=0.0)
    preferred = 0.2 * (gap > spread).mean() + 0.2 * (hard > spread).mean()
    return float(accuracy + preferred + 0.01 * smooth.mean())


class _Margins(NamedTuple):
    """Of an item: ``right`` where all correct completions stand above all wrong ones.

    ``spread`` is that of the correct ones; ``gap`` is the worst correct less the best wrong one.
    """

    right: bool
    spread: float
    gap: float


def _accuracy(margins: Mapping[str, _Margins]) -> float:
    return float(np.mean([m.right for m in margins.values()])) if margins else 0.0


def _margins(item: ScoredItem) -> _Margins:
    correct = item.scores_N[: item.num_correct]
    wrong = item.scores_N[item.num_correct :]
    # Every correct answer has to lie above every wrong one.
    gap = float(correct.min() - wrong.max())
    spread = float(correct.max() - correct.min())
    return _Margins(gap > 0, spread, gap)
