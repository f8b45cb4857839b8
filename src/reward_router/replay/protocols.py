"""The two ways to run a method over recorded rows.

``online`` learns from its own decisions. In one run prompts come in a seeded random order; all rows
of a prompt are decided with the router's state at its start; their payoffs are released after the
prompt (later with a delay) and applied in the order in which they fall due. A row's accuracy is the
mean over the router's own distribution there, not of the one draw it learns from: the same
expectation, less noise.

``crossfit`` is trained elsewhere: folds are split by prompt, never by row, and re-drawn ``repeats``
times.

Where `joined.Parts` are given, both learn on one part of the rows and are judged on the other.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from reward_router.committee.calibrate import Calibrator
from reward_router.dispatch.eligible import masked
from reward_router.keyed import rng
from reward_router.replay.embed import RowContexts
from reward_router.replay.feedback import Feedback
from reward_router.replay.joined import Parts
from reward_router.replay.records import Records
from reward_router.replay.stream import PayoffRows, play, play_batches
from reward_router.types import AnyFloat, Float, Int, Router

CORRECT = Feedback("correct")
TIME_BINS = 40  # points of a curve over a run
ENOUGH_ROWS = 50_000

RowOutcome = tuple[Float, Float]
"""Of the judged rows: accuracies (T,) and calls of each arm (T, K)."""


class Streamed(NamedTuple):
    """The outcome of a method that went through the judged rows as a stream.

    Args:
        accuracy_T: accuracies.
        calls_TK: calls of each arm.
        late_3: of the last third of the stream: rows, the sum of their accuracies, their regret.
    """

    accuracy_T: Float
    calls_TK: Float
    late_3: Float


@dataclass(frozen=True)
class Run:
    """What one run (or one cross-fitted method) did.

    Args:
        accuracy_P: of each row.
        share_K: of the calls that went to each arm.
        cost: of a row, in the file's unit.
        calls: of a row.
        share_TK: arm shares over TIME_BINS equal parts of the run's order.
        regret_T: cumulative regret against the best arm at the end of each part.
        category_regret_T: the same against the best arm of each category.
        last_third: accuracy over the last third of the run's rows, and their regret in rows.
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


@dataclass(frozen=True)
class Passage:
    """How one run goes through the rows.

    Args:
        blocks: row numbers of each prompt, in the order of the run.
        paid: what the rows pay.
        extra_calls: calls a judged row that the payoffs cost.
    """

    blocks: Sequence[Int]
    paid: PayoffRows
    extra_calls: int


def passage(records: Records, feedback: Feedback, seed: int, parts: Parts | None = None) -> Passage:
    """The run of a seed: prompts in its order, payoffs and draws of its own.

    With ``parts`` the rows to learn from come first. Unless the parts say so, no payoff comes on
    the judged ones and they are decided greedily.
    """
    groups = rows_by_group(records.group_P)
    blocks = [groups[g] for g in _prompt_order(records, seed)]
    payoff_PK = feedback.matrix(records, seed)
    frozen_P = None
    if parts is not None:
        blocks = parts.in_turn(blocks)
        if not parts.goes_on:
            payoff_PK[parts.test_P] = np.nan
            frozen_P = np.zeros(len(records), dtype=bool)
            frozen_P[parts.test_P] = True
    paid = PayoffRows(
        payoff_PK=payoff_PK,
        uniform_P=rng(seed, "arm", 0, "replay").random(len(records)),
        delay=feedback.delay,
        present_PK=records.present_PK,
        frozen_P=frozen_P,
    )
    # nobody asks further arms for a payoff that is not given
    extra_calls = feedback.extra_calls if frozen_P is None else 0
    return Passage(blocks, paid, extra_calls)


def online(
    records: Records,
    contexts: RowContexts,
    router: Router,
    feedback: Feedback,
    seed: int,
    batch: int = 0,
) -> Run:
    """One pass of a learning router over all rows.

    O(rows) decisions; memory O(P) beside the payoff matrix.

    Args:
        records: the rows.
        contexts: their contexts.
        router: learns as it goes.
        feedback: what pays it.
        seed: of the order, the draws and the payoffs.
        batch: prompts that share one decision and one payoff (LASER's unit); 0: every row has its
            own.
    """
    rows = passage(records, feedback, seed)
    probs_PK = _probabilities(records, contexts, router, rows, batch)
    return summary(records, probs_PK, np.concatenate(rows.blocks), rows.extra_calls)


def online_on_parts(
    records: Records,
    contexts: RowContexts,
    router: Router,
    rows: Passage,
    parts: Parts,
    batch: int = 0,
) -> Run:
    """As `online`, but judged only on the rows that ``parts`` set apart; ``rows`` knows them."""
    probs_PK = _probabilities(records, contexts, router, rows, batch)
    visit_P = parts.places(np.concatenate(rows.blocks))
    return summary(parts.judged, probs_PK[parts.test_P], visit_P, rows.extra_calls)


def _probabilities(
    records: Records, contexts: RowContexts, router: Router, rows: Passage, batch: int
) -> AnyFloat:
    """(P, K) the router's distribution at every row that it passes."""
    visit_P = np.concatenate(rows.blocks)
    context_UD = contexts.online(_first_seen(contexts.unit_P[visit_P]))
    probs_PK = np.empty(records.correct_PK.shape, dtype=np.float32)

    def context_of(row_B: Int) -> Float:
        unit_B = contexts.unit_P[row_B]
        # Rows that share one context are given to the router once.
        shared = unit_B[0] == unit_B[-1]
        return context_UD[unit_B[:1] if shared else unit_B]

    if batch:
        play_batches(rows.blocks, batch, router, context_of, rows.paid, probs_PK)
    else:
        play(rows.blocks, router, context_of, rows.paid, probs_PK)
    return probs_PK


def _first_seen(unit_V: Int) -> Int:
    """Distinct units in the order in which they are first visited."""
    _, first_U = np.unique(unit_V, return_index=True)
    return np.asarray(unit_V[np.sort(first_U)])


def summary(records: Records, probs_PK: AnyFloat, visit_P: Int, extra_calls: int) -> Run:
    """A run's account from the probabilities at each row and the order of the rows."""
    # The expectation over the run's own probabilities, not of the one draw it learned from.
    credit_P = np.einsum("pk,pk->p", probs_PK, records.correct_PK)
    # Single precision sums to 1 within 1e-7 only, which would be a gain where all arms are alike.
    accuracy_P = credit_P / probs_PK.sum(axis=1, dtype=np.float64)
    price = float(np.einsum("pk,pk->", probs_PK, records.price_PK)) / len(records)
    # Calls that the payoff costs are of no particular arm: they are priced at the mean.
    extra = extra_calls * float(records.price_PK.mean())

    best_P, category_P = hindsight(records)
    regret_P = best_P - accuracy_P
    category_regret_P = category_P - accuracy_P
    late_P = last_third(visit_P)
    return Run(
        accuracy_P=accuracy_P,
        share_K=probs_PK.mean(axis=0, dtype=np.float64),
        cost=price + extra,
        calls=1.0 + extra_calls,
        share_TK=_binned(probs_PK[visit_P]),
        regret_T=_curve(regret_P[visit_P]),
        category_regret_T=_curve(category_regret_P[visit_P]),
        last_third=_late(accuracy_P[late_P], best_P[late_P]),
    )


def last_third(visit_P: Int) -> Int:
    """The last rows of a stream, no more than a third of them."""
    return visit_P[-(-2 * len(visit_P) // 3) :]


def _late(accuracy_L: Float, best_L: Float) -> tuple[float, float] | None:
    if not len(accuracy_L):
        return None
    return float(accuracy_L.mean()), float((best_L - accuracy_L).sum())


def hindsight(records: Records) -> tuple[Float, Float]:
    """(P,) accuracies of the arm that is best over the whole file, and of each category's best."""
    correct_PK = records.correct_PK
    best = int(correct_PK.mean(axis=0).argmax())

    category_P = np.zeros(len(records))
    for code in range(len(records.categories)):
        rows = records.category_P == code
        # Parts and selections of a file keep its categories, also those without a row.
        if rows.any():
            correct_RK = correct_PK[rows]
            best_here = correct_RK.mean(axis=0).argmax()
            category_P[rows] = correct_RK[:, best_here]
    return correct_PK[:, best], category_P


def _edges(n: int) -> Int:
    """Where the parts of a curve begin and end; a short run has fewer than TIME_BINS."""
    return np.unique(np.linspace(0, n, TIME_BINS + 1).round().astype(np.int64))


def _binned(probs_VK: AnyFloat) -> Float:
    edges = _edges(len(probs_VK))
    total_TK = np.add.reduceat(probs_VK.astype(np.float64), edges[:-1], axis=0)
    return np.asarray(total_TK / np.diff(edges)[:, None])


def _curve(regret_V: Float) -> Float:
    """Cumulative regret at the end of each time bin."""
    return np.cumsum(regret_V)[_edges(len(regret_V))[1:] - 1]


def curve_rows(n: int) -> list[int]:
    """Number of rows seen at each point of a curve."""
    return [int(e) for e in _edges(n)[1:]]


def folds(group_P: Int, n_folds: int, repeat: int) -> Iterator[tuple[Int, Int]]:
    """(training rows, test rows) of each fold.

    Prompts are shuffled by the repeat's own key and dealt into equal folds.
    """
    n_groups = int(group_P.max()) + 1
    draw = rng(repeat, "order", 1, "folds")
    order_G = draw.permutation(n_groups)

    # Dealt in turn, so that folds differ by one prompt at most.
    fold_G = np.empty(n_groups, dtype=np.int64)
    fold_G[order_G] = np.arange(n_groups) % n_folds
    fold_P = fold_G[group_P]
    for fold in range(n_folds):
        held_P = fold_P == fold
        yield np.flatnonzero(~held_P), np.flatnonzero(held_P)


@dataclass(frozen=True)
class Split:
    """One fold: all rows, and which of them are for training and which are judged.

    What methods share is computed once.

    Args:
        records: all rows.
        contexts: their contexts.
        train_P: numbers of the rows to learn from.
        test_P: numbers of the rows that are judged.
        feedback: for methods with an online stage on the judged rows.
        repeat: number of the folding.
        pairs: contexts of pairs, where there are any.
        shared: what methods computed for each other.
        carried: whether the judged rows come from elsewhere, so that the training labels are no
            sample of what is judged.
        paid: whether payoffs come on the judged rows.
    """

    records: Records
    contexts: RowContexts
    train_P: Int
    test_P: Int
    feedback: Feedback = CORRECT
    repeat: int = 0
    pairs: RowContexts | None = None
    shared: dict[Hashable, Any] = field(default_factory=dict)
    carried: bool = False
    paid: bool = True

    @cached_property
    def pair_features_PF(self) -> Float:
        """What strengths are learned from, unreduced.

        It describes the pair where the responses are recorded, else the prompt or category.
        """
        # `pairs` are there where responses are recorded.
        chosen = self.pairs or self.contexts
        return np.hstack([chosen.fixed_UF, chosen.learned_UE])[chosen.unit_P]

    @cached_property
    def context_PD(self) -> Float:
        """RowContexts of all rows, PCA of the training side."""
        unit_P = self.contexts.unit_P
        return self.contexts.fit(np.unique(unit_P[self.train_P]))[unit_P]

    @cached_property
    def fit_P(self) -> Int:
        """At most ENOUGH_ROWS training rows, evenly spaced.

        They are enough for the few parameters an arm has, and keep a long file quick.
        """
        return self.train_P[:: -(-len(self.train_P) // ENOUGH_ROWS)]

    @cached_property
    def log_odds(self) -> tuple[Float, Float]:
        """Calibrated log-odds that a is better, on ``fit_P`` and on the test rows.

        The calibrator is fitted on ``fit_P``.
        """
        margins_PK = self.records.margins_PK
        fit_TK = margins_PK[self.fit_P]
        test_TK = margins_PK[self.test_P]
        right_T = self.records.label_P[self.fit_P] > 0

        n_arms = len(self.records.arms)
        calibrator = Calibrator(n_arms).fit(fit_TK, right_T)
        return calibrator.log_odds(fit_TK), calibrator.log_odds(test_TK)


Method = Callable[[Split], RowOutcome | Streamed]
"""Learns on ``train_P`` and judges the test rows."""


def splits(
    records: Records, contexts: RowContexts, n_folds: int, repeat: int, parts: Parts | None = None
) -> Iterator[Split]:
    """The folds of one repeat, or the one split that ``parts`` name."""
    if parts is not None:
        yield Split(
            records,
            contexts,
            parts.train_P,
            parts.test_P,
            repeat=repeat,
            carried=True,
            paid=parts.goes_on,
        )
        return
    for train_P, test_P in folds(records.group_P, n_folds, repeat):
        yield Split(records, contexts, train_P, test_P, repeat=repeat)


@dataclass(frozen=True)
class MethodScores:
    """One method over all rows: accuracy of each, and calls of each arm with their price in all.

    ``late_3`` sums what the streams of the folds say of their last thirds (`Streamed`).
    """

    accuracy_P: Float
    calls_K: Float
    cost: float
    late_3: Float | None = None


def crossfit(
    folding: Iterable[Split], methods: Mapping[str, Method], parts: Parts | None = None
) -> dict[str, MethodScores]:
    """Each method by its label, judged by what was learned on other prompts.

    Args:
        folding: the splits, which judge every row once; ``parts`` give a single one.
        methods: the methods by label.
        parts: whose judged rows are counted, in their own order; None: all rows.
    """
    accuracies: dict[str, Float] = {}
    calls: dict[str, Float] = {}
    costs = dict.fromkeys(methods, 0.0)
    lates: dict[str, Float] = {}
    for split in folding:
        # Folds fill all rows together; the one split of two parts fills its judged rows.
        if parts is None:
            n_rows = len(split.records)
            place_T = split.test_P
        else:
            n_rows = len(parts.test_P)
            place_T = np.arange(n_rows)
        price_TK = split.records.price_PK[split.test_P]

        for label, method in methods.items():
            outcome = method(split)
            accuracy_T, calls_TK = outcome[:2]
            if isinstance(outcome, Streamed):
                lates[label] = lates.get(label, np.zeros(3)) + outcome.late_3
            accuracy_P = accuracies.setdefault(label, np.zeros(n_rows))
            accuracy_P[place_T] = accuracy_T
            calls[label] = calls.get(label, 0.0) + calls_TK.sum(axis=0)
            costs[label] += float((calls_TK * price_TK).sum())
    return {
        label: MethodScores(accuracies[label], calls[label], costs[label], lates.get(label))
        for label in methods
    }


def averaged(repeats: Sequence[MethodScores]) -> Run:
    """Several foldings of one method as one run."""
    accuracy_P = _mean([judged.accuracy_P for judged in repeats])
    calls_K = _mean([judged.calls_K for judged in repeats])
    n_rows = len(accuracy_P)
    n_calls = float(calls_K.sum())
    return Run(
        accuracy_P=accuracy_P,
        share_K=calls_K / max(n_calls, 1e-12),
        cost=sum(judged.cost for judged in repeats) / len(repeats) / n_rows,
        calls=n_calls / n_rows,
        last_third=_mean_late([judged.late_3 for judged in repeats if judged.late_3 is not None]),
    )


def _mean_late(repeats: Sequence[Float]) -> tuple[float, float] | None:
    """Accuracy and regret over the last thirds; None where there were no streams, or no rows."""
    if not repeats:
        return None
    rows, right, regret = _mean(repeats).tolist()
    return (right / rows, regret) if rows else None


def _mean(arrays: Sequence[Float]) -> Float:
    return sum(arrays, np.zeros_like(arrays[0])) / len(arrays)


def one_arm_each(records: Records, arm_P: Int) -> Run:
    """The run that calls arm ``arm_P`` on each row."""
    n_rows = len(records)
    rows = np.arange(n_rows)
    calls_K = np.bincount(arm_P, minlength=len(records.arms))
    share_K = calls_K / n_rows

    accuracy_P = records.correct_PK[rows, arm_P]
    cost = float(records.price_PK[rows, arm_P].mean())
    return Run(accuracy_P, share_K, cost, 1.0)


def scheduled(records: Records, probs_of: Callable[[int, int], Float], seed: int) -> Run:
    """A run that learns nothing.

    ``probs_of(rows, arms)`` gives the probabilities in the order in which the run visits the rows.
    """
    visit_P = visits(records, seed)
    n_rows = len(records)
    n_arms = len(records.arms)
    # A schedule counts visits: the first probabilities belong to the row that is visited first.
    probs_PK = np.empty(records.correct_PK.shape)
    probs_PK[visit_P] = probs_of(n_rows, n_arms)

    if records.present_PK is not None:
        probs_PK = masked(probs_PK, records.present_PK)
    return summary(records, probs_PK, visit_P, 0)


def visits(records: Records, seed: int) -> Int:
    """Row numbers in the order of run ``seed``: prompts shuffled, rows of a prompt together."""
    groups = rows_by_group(records.group_P)
    return np.concatenate([groups[g] for g in _prompt_order(records, seed)])


def _prompt_order(records: Records, seed: int) -> Int:
    return rng(seed, "order", 0, "replay").permutation(records.n_groups)
