"""The two ways to run a method over recorded rows: ``online`` (learns from its own decisions) and ``crossfit`` (trained elsewhere).

online, one run: prompts in a seeded random order; all rows of a prompt are decided with the router's state at its start; their
payoffs are released after the prompt (later with a delay) and applied in the order in which they fall due. A row's accuracy is
the mean over the router's own distribution there, not of the one draw it learns from: the same expectation, less noise.

crossfit: folds are split by prompt, never by row, and re-drawn ``repeats`` times.

Where `joined.Parts` are given, both learn on one part of the rows and are judged on the other, once.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from reward_router.committee.calibrate import Calibrator
from reward_router.dispatch.eligible import masked
from reward_router.keyed import rng
from reward_router.replay.embed import Contexts
from reward_router.replay.feedback import Feedback
from reward_router.replay.joined import Parts
from reward_router.replay.records import Records
from reward_router.replay.stream import play, play_batches
from reward_router.types import AnyFloat, Float, Int, Router

CORRECT = Feedback("correct")
TIME_BINS = 40
ENOUGH_ROWS = 50_000


@dataclass(frozen=True)
class Run:
    """What one run (or one cross-fitted method) did. ``share_TK``: arm shares over TIME_BINS equal parts of the run's order.

    ``last_third``: accuracy over the last third of the run's rows, and their regret in rows.
    """

    accuracy_P: Float
    share_K: Float
    cost: float
    calls: float
    share_TK: Float | None = None
    regret_T: Float | None = None
    category_regret_T: Float | None = None
    last_third: tuple[float, float] | None = None


def rows_by_group(group_P: Int) -> list[Int]:
    """Row numbers of each prompt, in file order. O(P log P)."""
    order_P = np.argsort(group_P, kind="stable")
    return np.split(order_P, np.cumsum(np.bincount(group_P))[:-1])


def online(
    records: Records,
    contexts: Contexts,
    router: Router,
    feedback: Feedback,
    seed: int,
    batch: int = 0,
    parts: Parts | None = None,
) -> Run:
    """One pass of a learning router over all rows. O(rows) decisions; memory O(P) beside the payoff matrix.

    ``batch`` prompts share one decision and one payoff (LASER's unit); 0: every row has its own. With ``parts`` the rows to learn
    from come first, and the run is judged on the others, where no payoff comes unless the parts say so.
    """
    groups = rows_by_group(records.group_P)
    blocks = [groups[g] for g in _prompt_order(records, seed)]
    payoff_PK = feedback.matrix(records, seed)
    if parts is not None:
        blocks = parts.in_turn(blocks)
        if not parts.goes_on:
            payoff_PK[parts.test_P] = np.nan
    visit_P = np.concatenate(blocks)
    context_UD = contexts.online(_first_seen(contexts.unit_P[visit_P]))
    uniform_P = rng(seed, "arm", 0, "replay").random(len(records))
    probs_PK = np.empty(records.correct_PK.shape, dtype=np.float32)

    def context_of(row_B: Int) -> Float:
        unit_B = contexts.unit_P[row_B]
        return context_UD[
            unit_B[:1] if unit_B[0] == unit_B[-1] else unit_B
        ]  # rows that share one context are asked once

    told = payoff_PK, uniform_P, feedback.delay, probs_PK, records.there_PK
    if batch:
        play_batches(blocks, batch, router, context_of, *told)
    else:
        play(blocks, router, context_of, *told)
    if parts is not None:
        return summary(
            parts.judged, probs_PK[parts.test_P], parts.places(visit_P), feedback.extra_calls
        )
    return summary(records, probs_PK, visit_P, feedback.extra_calls)


def _first_seen(unit_V: Int) -> Int:
    """Distinct units in the order in which they are first visited."""
    _, first_U = np.unique(unit_V, return_index=True)
    return np.asarray(unit_V[np.sort(first_U)])


def summary(records: Records, probs_PK: AnyFloat, visit_P: Int, extra_calls: int) -> Run:
    """A run's account from the probabilities at each row and the order of the rows."""
    accuracy_P = np.einsum("pk,pk->p", probs_PK, records.correct_PK)
    price = float(np.einsum("pk,pk->", probs_PK, records.price_PK)) / len(records)
    extra = extra_calls * float(records.price_PK.mean())
    best_P, category_P = hindsight(records)
    late_P = visit_P[-(-2 * len(visit_P) // 3) :]
    return Run(
        accuracy_P=accuracy_P,
        share_K=probs_PK.mean(axis=0, dtype=np.float64),
        cost=price + extra,
        calls=1.0 + extra_calls,
        share_TK=_binned(probs_PK[visit_P]),
        regret_T=_curve((best_P - accuracy_P)[visit_P]),
        category_regret_T=_curve((category_P - accuracy_P)[visit_P]),
        last_third=_late(accuracy_P[late_P], best_P[late_P]),
    )


def _late(accuracy_L: Float, best_L: Float) -> tuple[float, float] | None:
    return (
        (float(accuracy_L.mean()), float((best_L - accuracy_L).sum())) if len(accuracy_L) else None
    )


def hindsight(records: Records) -> tuple[Float, Float]:
    """(P,) accuracy of the arm that is best over the whole file, and of the arm that is best over each category."""
    best = int(records.correct_PK.mean(axis=0).argmax())
    category_P = np.empty(len(records))
    for c in range(len(records.categories)):
        rows = records.category_P == c
        here_PK = records.correct_PK[rows]
        category_P[rows] = here_PK[:, here_PK.mean(axis=0).argmax()] if rows.any() else 0.0
    return records.correct_PK[:, best], category_P


def _edges(n: int) -> Int:
    return np.unique(np.linspace(0, n, TIME_BINS + 1).round().astype(np.int64))


def _binned(probs_VK: AnyFloat) -> Float:
    edges = _edges(len(probs_VK))
    return (
        np.add.reduceat(probs_VK.astype(np.float64), edges[:-1], axis=0) / np.diff(edges)[:, None]
    )


def _curve(regret_V: Float) -> Float:
    """Cumulative regret at the end of each time bin."""
    return np.cumsum(regret_V)[_edges(len(regret_V))[1:] - 1]


def curve_rows(n: int) -> list[int]:
    """Number of rows seen at each point of a curve."""
    return [int(e) for e in _edges(n)[1:]]


def folds(group_P: Int, n_folds: int, repeat: int) -> Iterator[tuple[Int, Int]]:
    """(training rows, test rows) of each fold: prompts shuffled by the repeat's own key and dealt into equal folds."""
    n_groups = int(group_P.max()) + 1
    fold_G = np.empty(n_groups, dtype=np.int64)
    fold_G[rng(repeat, "order", 1, "folds").permutation(n_groups)] = np.arange(n_groups) % n_folds
    for fold in range(n_folds):
        yield np.flatnonzero(fold_G[group_P] != fold), np.flatnonzero(fold_G[group_P] == fold)


@dataclass(frozen=True)
class Split:
    """One fold: all rows, and which of them are for training and which are judged. What methods share is computed once.

    ``feedback`` and ``repeat`` are for methods with an online stage on the judged rows; ``pairs``: contexts of pairs, where there are any.
    ``carried``: the judged rows come from elsewhere, so that the training labels are no sample of what is judged.
    """

    records: Records
    contexts: Contexts
    train_P: Int
    test_P: Int
    feedback: Feedback = CORRECT
    repeat: int = 0
    pairs: Contexts | None = None
    shared: dict[Hashable, Any] = field(default_factory=dict)
    carried: bool = False

    @cached_property
    def pair_features_PF(self) -> Float:
        """What strengths are learned from, unreduced: of the pair where the responses are recorded, else of the prompt or category."""
        chosen = self.pairs or self.contexts
        return np.hstack([chosen.fixed_UF, chosen.learned_UE])[chosen.unit_P]

    @cached_property
    def context_PD(self) -> Float:
        """Contexts of all rows, PCA of the training side."""
        return self.contexts.fit(np.unique(self.contexts.unit_P[self.train_P]))[
            self.contexts.unit_P
        ]

    @cached_property
    def fit_P(self) -> Int:
        """At most ENOUGH_ROWS training rows, evenly spaced: what fits a few parameters an arm on a long file."""
        return self.train_P[:: -(-len(self.train_P) // ENOUGH_ROWS)]

    @cached_property
    def log_odds(self) -> tuple[Float, Float]:
        """Calibrated log-odds that a is better on ``fit_P`` and on the test rows, by a calibrator fitted on ``fit_P``."""
        margins_PK, label_P = self.records.margins_PK, self.records.label_P
        fitted = Calibrator(len(self.records.arms)).fit(
            margins_PK[self.fit_P], label_P[self.fit_P] > 0
        )
        return fitted.log_odds(margins_PK[self.fit_P]), fitted.log_odds(margins_PK[self.test_P])


Method = Callable[[Split], tuple[Float, Float]]
"""Learns on ``train_P``; gives (accuracy (T,), calls of each arm (T, K)) of the test rows."""


def splits(
    records: Records, contexts: Contexts, n_folds: int, repeat: int, parts: Parts | None = None
) -> Iterator[Split]:
    """The folds of one repeat, or the one split that ``parts`` name."""
    if parts is not None:
        yield Split(records, contexts, parts.train_P, parts.test_P, repeat=repeat, carried=True)
        return
    for train_P, test_P in folds(records.group_P, n_folds, repeat):
        yield Split(records, contexts, train_P, test_P, repeat=repeat)


@dataclass(frozen=True)
class Judged:
    """One method over all rows: accuracy of each, and calls of each arm with their price in all."""

    accuracy_P: Float
    asked_K: Float
    cost: float


def crossfit(
    records: Records,
    contexts: Contexts,
    methods: Mapping[str, Method],
    n_folds: int,
    repeat: int,
    feedback: Feedback = CORRECT,
    pairs: Contexts | None = None,
    parts: Parts | None = None,
) -> dict[str, Judged]:
    """Each method by its label: every row (with ``parts``: every judged one) judged by what was learned on other prompts."""
    n_arms = len(records.arms)
    n_rows = len(records) if parts is None else len(parts.test_P)
    found = {label: Judged(np.zeros(n_rows), np.zeros(n_arms), 0.0) for label in methods}
    for split in splits(records, contexts, n_folds, repeat, parts):
        split = replace(split, feedback=feedback, pairs=pairs)
        place_T = split.test_P if parts is None else np.arange(n_rows)
        price_TK = records.price_PK[split.test_P]
        for label, method in methods.items():
            so_far = found[label]
            so_far.accuracy_P[place_T], asked_TK = method(split)
            cost = so_far.cost + float((asked_TK * price_TK).sum())
            found[label] = Judged(so_far.accuracy_P, so_far.asked_K + asked_TK.sum(axis=0), cost)
    return found


def averaged(repeats: Sequence[Judged]) -> Run:
    """Several foldings of one method as one run."""
    accuracy_P = sum((j.accuracy_P for j in repeats), np.zeros_like(repeats[0].accuracy_P)) / len(
        repeats
    )
    asked_K = sum((j.asked_K for j in repeats), np.zeros_like(repeats[0].asked_K)) / len(repeats)
    cost = sum(j.cost for j in repeats) / len(repeats) / len(accuracy_P)
    return Run(
        accuracy_P,
        asked_K / max(float(asked_K.sum()), 1e-12),
        cost,
        float(asked_K.sum()) / len(accuracy_P),
    )


def one_arm_each(records: Records, arm_P: Int) -> Run:
    """The run that asks arm ``arm_P`` on each row."""
    rows = np.arange(len(records))
    share_K = np.bincount(arm_P, minlength=len(records.arms)) / len(records)
    return Run(
        records.correct_PK[rows, arm_P], share_K, float(records.price_PK[rows, arm_P].mean()), 1.0
    )


def scheduled(records: Records, probs_of: Callable[[int, int], Float], seed: int) -> Run:
    """A run that learns nothing: ``probs_of(rows, arms)`` gives the probabilities in the order in which the run visits the rows."""
    visit_P = visits(records, seed)
    probs_PK = np.empty(records.correct_PK.shape)
    probs_PK[visit_P] = probs_of(len(records), len(records.arms))
    if records.there_PK is not None:
        probs_PK = masked(probs_PK, records.there_PK)
    return summary(records, probs_PK, visit_P, 0)


def visits(records: Records, seed: int) -> Int:
    """Row numbers in the order of run ``seed``: prompts shuffled, rows of a prompt together."""
    groups = rows_by_group(records.group_P)
    return np.concatenate([groups[g] for g in _prompt_order(records, seed)])


def _prompt_order(records: Records, seed: int) -> Int:
    return rng(seed, "order", 0, "replay").permutation(records.n_groups)
