"""What a committee learns from in a run.

Labels of a keyed-random share of its units, by gold or by a strong judge outside it.

A label is a (better, worse) pair of a unit's responses, scored by all K arms within the stated
extra cost. Gold costs nothing, so it is looked up first; a judge is asked only about units whose
label all arms may score. With a label-free start, all arms score the first units, labelled or not.
Every process of a run sees all labels and all costs in one order, so all hold the same committee.
Leaves out: labels that come later (a person's).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reward_router import keyed
from reward_router.committee import OnlineCommittee, Refit
from reward_router.committee.online import UNLABELLED
from reward_router.config import LabelConfig
from reward_router.types import Float
from reward_router.verdicts.table import ScoreTable

PairSides = list[tuple[int, int, bool]]


@dataclass(frozen=True)
class LabelRow:
    """One (better, worse) pair of responses with the margins of all K arms, sides drawn by key."""

    margins_K: list[float]
    label: bool
    group: str
    category: str


class CommitteeLearner:
    """Draws units, has them labelled and scored by all arms, and hands the rows to the committee.

    ``counts`` are added to: units labelled; ``no_pair``: drawn in vain; ``not_scored``: by all, for
    want of budget; label rows.
    """

    def __init__(
        self,
        online: OnlineCommittee,
        settings: LabelConfig,
        counts: dict[str, int],
        seed: int = 0,
        gather: Callable[[list[Any]], list[Any]] = lambda items: items,
    ) -> None:
        """``gather`` joins lists over processes."""
        self.online = online
        self.settings = settings
        self.counts = counts
        self.seed = seed
        self.gather = gather

    def learn(self, table: ScoreTable) -> list[Refit]:
        """Labels of this step's units, those of all processes in one order.

        The refits they led to.
        """
        step = table.batch.step
        self._start(table)
        # By key and not by what was said: a label drawn because arms disagree is no random sample.
        drawn = [i for i, unit in enumerate(table.units) if self.online.policy.draws(unit.id, step)]
        judge = self.settings.arm
        labelled, bought = self._judged(table, drawn, judge) if judge else self._gold(table, drawn)
        table.ask_all(table.missing(labelled), "label")
        mine: list[LabelRow] = []
        for i, sides in labelled.items():
            mine += _rows(table, i, sides)
        # Every process adds all rows in one order, so that all committees stay the same.
        rows = self.gather(mine)
        counted = {
            "labelled": len(labelled),
            "no_pair": bought - len(labelled),
            "not_scored": len(drawn) - bought,
        }
        # Each process counts what it saw; `gather` brings the counts of all of them.
        for name, n in self.gather(list(counted.items())):
            self.counts[name] += n
        self.counts["rows"] += len(rows)
        refits: list[Refit] = []
        for r in rows:
            refit = self.online.add_label(r.margins_K, r.label, r.group, step, r.category)
            if refit is not None:
                refits.append(refit)
        return refits

    def _gold(self, table: ScoreTable, drawn: Sequence[int]) -> tuple[dict[int, PairSides], int]:
        """Units whose gold orders responses and that all arms may score.

        How many were not refused for want of budget.
        """
        gold_of = {i: table.gold(i) for i in drawn}
        ordered = self._ordered(table, gold_of)
        paid = self._paid(table, list(ordered))
        labelled = {i: ordered[i] for i in paid}

        # Gold costs nothing: a unit that it does not order was looked up in vain, not refused.
        without_pair = len(drawn) - len(ordered)
        return labelled, without_pair + len(paid)

    def _judged(
        self, table: ScoreTable, drawn: Sequence[int], name: str
    ) -> tuple[dict[int, PairSides], int]:
        """The same by a judge: asked about units that all arms may score.

        Where it orders nothing, the others are spared.
        """
        paid = self._paid(table, drawn, table.asker.cost(name))
        scores = table.labels(name, paid)
        ordered = self._ordered(table, {i: scores[i] for i in paid})

        # Units that the judge could not order are not scored by the other arms.
        unordered = [i for i in paid if i not in ordered]
        spared = [tuple(table.scores[i]) for i in unordered]
        # What all arms would have cost was reserved before the judge spoke; here it is given back.
        for arms_asked in self.gather(spared):
            self.online.extra_cost -= self.online.rest_cost(arms_asked)
        return ordered, len(paid)

    def _ordered(self, table: ScoreTable, values: dict[int, Float]) -> dict[int, PairSides]:
        """Unit -> its sides, of those units whose values order any two responses."""
        ordered = {}
        for i, value_N in values.items():
            sides = self._sides(table, i, value_N)
            if sides:
                ordered[i] = sides
        return ordered

    def _paid(self, table: ScoreTable, places: Sequence[int], label_cost: float = 0.0) -> list[int]:
        """Those of these units that all arms may score, decided in the order of all processes."""
        step = table.batch.step
        offered = []
        for i in places:
            arms_asked = tuple(table.scores[i])
            offered.append((table.units[i].id, arms_asked))

        # Every process goes through the offers of all: the budget is one, and so is its order.
        bought = set()
        for unit, arms_asked in self.gather(offered):
            if self.online.scores_all(arms_asked, unit, step, label_cost):
                bought.add(unit)
        return [i for i in places if table.units[i].id in bought]

    def _sides(self, table: ScoreTable, i: int, value_N: Float) -> PairSides:
        """(better, worse, is better side a) for as many disjoint pairs as the responses give."""
        draw = keyed.rng(self.seed, "label", table.batch.step, table.units[i].id)
        values = set(value_N[np.isfinite(value_N)].tolist())
        # Gold of 0 and 1 alone says right and wrong; anything else is a grade.
        only_right_and_wrong = values <= {0.0, 1.0}
        graded = self.settings.arm is not None or not only_right_and_wrong
        form = better_worse if graded else right_wrong
        pairs = form(value_N, distinct(table.texts(i)), draw)

        # Sides by coin: calibration curves are the same for both sides and would learn a bias.
        better_is_a = draw.random(len(pairs)) < 0.5
        sided = zip(pairs, better_is_a, strict=True)
        return [(better, worse, bool(side)) for (better, worse), side in sided]

    def _start(self, table: ScoreTable) -> None:
        """Disjoint pairs scored by all arms, unlabelled, until the label-free start has enough."""
        if not self.online.wants_unlabelled():
            return
        step = table.batch.step
        pairs = [
            _any_pairs(self.seed, step, unit.id, table.texts(i))
            for i, unit in enumerate(table.units)
        ]
        own_units = [
            (unit.id, tuple(table.scores[i]), len(pairs[i])) for i, unit in enumerate(table.units)
        ]
        offered = self.gather(own_units)
        chosen = set()
        # Counted down here, because the rows themselves are added only after all arms answered.
        room = UNLABELLED - len(self.online.unlabelled)
        for unit, arms_asked, n in offered:
            if room > 0 and n and self.online.scores_unlabelled(arms_asked):
                chosen.add(unit)
                room -= n
        mine = [i for i, unit in enumerate(table.units) if unit.id in chosen]
        table.ask_all(table.missing(mine), "label")
        own_margins: list[list[float]] = []
        for i in mine:
            own_margins += _margins(table, i, pairs[i])
        for margins in self.gather(own_margins):
            if self.online.wants_unlabelled():
                self.online.add_unlabelled(margins)


def distinct(texts: Sequence[str]) -> list[int]:
    """Index of the first response of each text.

    They stand in the order of the texts' last responses, from the end.

    >>> distinct(["a", "b", "a", "c"])
    [3, 0, 1]
    """
    last_first = reversed(list(enumerate(texts)))
    # A text that comes again keeps its place in the dictionary and takes the earlier index.
    first_place = {text: n for n, text in last_first}
    return list(first_place.values())


def right_wrong(
    gold_N: Float, among: Sequence[int], draw: np.random.Generator
) -> list[tuple[int, int]]:
    """Disjoint pairs of a response of gold 1 and one of gold 0, matched at random."""
    right = [n for n in among if gold_N[n] == 1.0]
    wrong = [n for n in among if gold_N[n] == 0.0]
    draw.shuffle(right)
    draw.shuffle(wrong)
    return list(zip(right, wrong, strict=False))


def better_worse(
    value_N: Float, among: Sequence[int], draw: np.random.Generator
) -> list[tuple[int, int]]:
    """Disjoint (better, worse) pairs, matched at random, not by how far they are apart.

    Ties and NaN give none. O(N^2).
    """
    # A random order: pairs by distance in score would be easier than those that are judged.
    order = draw.permutation(np.array(among, dtype=np.int64))
    free = [int(n) for n in order if np.isfinite(value_N[n])]
    pairs = []
    while free:
        one = free.pop(0)
        different = (n for n in free if value_N[n] != value_N[one])
        other = next(different, None)
        if other is None:
            continue
        free.remove(other)
        one_is_better = value_N[one] > value_N[other]
        pairs.append((one, other) if one_is_better else (other, one))
    return pairs


def _any_pairs(seed: int, step: int, unit: str, texts: Sequence[str]) -> list[tuple[int, int]]:
    draw = keyed.rng(seed, "pairs", step, f"start/{unit}")
    different = np.array(distinct(texts))
    order = draw.permutation(different).tolist()

    # Neighbours in a random order are disjoint pairs at random.
    first = order[::2]
    second = order[1::2]
    # An odd number of responses leaves the last one without a partner.
    return list(zip(first, second, strict=False))


def _margins(table: ScoreTable, i: int, pairs: Sequence[tuple[int, int]]) -> list[list[float]]:
    scores_KN = table.scores_KN(i)
    return [(scores_KN[:, one] - scores_KN[:, other]).tolist() for one, other in pairs]


def _rows(table: ScoreTable, i: int, sides: PairSides) -> list[LabelRow]:
    row = table.row(i)
    group = table.batch.ids[row]
    category = table.batch.category(row)
    a_and_b = []
    for better, worse, better_is_a in sides:
        a_and_b.append((better, worse) if better_is_a else (worse, better))

    rows = []
    margins_PK = _margins(table, i, a_and_b)
    for margins_K, (_, _, better_is_a) in zip(margins_PK, sides, strict=True):
        rows.append(LabelRow(margins_K, better_is_a, group, category))
    return rows
