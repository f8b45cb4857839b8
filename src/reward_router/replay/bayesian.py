"""BayesianRouter over recorded rows.

Strengths and their calibration come from the other folds; Thompson sampling runs on the fold that
is judged.

Offline stage, on the training folds: strengths (``offline.strengths``) stop on a dev split of the
prompts, and the same dev split calibrates the prior (``offline.calibrate``) for the payoff used
online.

Online stage: the judged fold's prompts in ORDERS seeded orders, each from the prior anew. An arm's
probability is exact, so a row's accuracy is an expectation, as in ``protocols.online``.

Ablations by name: ``without=online`` takes the argmax of the strengths; ``without=offline`` has
the zero prior at its own precision, on the same encoding; ``without=cls`` learns strengths by L_bt
alone. ``weighted_score`` is a x offline strength + (1 - a) x the zero prior's posterior.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial

import numpy as np

from reward_router import checks
from reward_router.errors import InputError
from reward_router.keyed import rng
from reward_router.replay.embed import RowContexts
from reward_router.replay.feedback import Feedback
from reward_router.replay.offline_stage import WORTH, Fitted, no_prior, offline_stage, with_prior
from reward_router.replay.protocols import (
    RowOutcome,
    Run,
    Split,
    Streamed,
    last_third,
    rows_by_group,
    summary,
    visits,
)
from reward_router.replay.records import Records
from reward_router.replay.stream import PayoffRows, play, play_batches
from reward_router.replay.weighted import WeightedScore, best_of_scores
from reward_router.routers.guard import checked_decision_margin
from reward_router.routers.trusted import NARROW, TRUST
from reward_router.types import Float, Int, Router

RouterFactory = Callable[[Fitted], Router]
"""Makes the router that learns online from what the offline stage gave."""

ABLATIONS = ("online", "offline", "cls")
ORDERS = 5


@dataclass(frozen=True)
class LearnedVariant:
    """Which strengths are learned, and what happens online.

    Args:
        dim: width of the encoding.
        lambda_cls: weight of the classification loss.
        balance: whether training pairs are balanced over the arms.
        router: makes the learner; None takes the arm of the best strength.
    """

    dim: int
    lambda_cls: float
    balance: bool
    router: RouterFactory | None

    def __call__(self, split: Split) -> RowOutcome | Streamed:
        """The cross-fitted method: accuracies and calls of the judged rows."""
        fitted = offline_stage(split, self.dim, self.lambda_cls, self.balance)
        if self.router is not None:
            return _learned(split, fitted, self.router)

        # Without an online part the strongest arm of each row judges it.
        strength_TK = fitted.score_PK[split.test_P]
        score_TK = split.records.eligible(strength_TK, split.test_P)
        return _routed(split, best_of_scores(score_TK))

    def run(
        self, fitted: Fitted, records: Records, contexts: RowContexts, feedback: Feedback, seed: int
    ) -> Run:
        """One run over the whole file from an artifact, as other online routers have it."""
        visit_P = visits(records, seed)
        if self.router is None:
            score_PK = records.eligible(fitted.score_PK)
            return summary(records, best_of_scores(score_PK), visit_P, 0)

        # The prior was learned elsewhere: no row is for training, and every row is judged.
        nothing = np.zeros(0, np.int64)
        every_row = np.arange(len(records))
        everything = Split(records, contexts, nothing, every_row, feedback, seed)

        # Prompts in the order in which the visit first meets them; rows of a prompt stay together.
        groups = rows_by_group(records.group_P)
        group_V = records.group_P[visit_P]
        _, first_V = np.unique(group_V, return_index=True)
        blocks = [groups[g] for g in group_V[np.sort(first_V)]]

        router = self.router(fitted)
        probs_PK = one_pass(everything, fitted.h_PD, router, blocks, seed)
        return summary(records, probs_PK, visit_P, feedback.extra_calls)


def bayesian_method(  # noqa: PLR0913 - its keywords are the options of the method, by their names
    without: str = "",
    dim: int = 64,
    lambda_cls: float = 0.2,
    balance: bool = False,
    trust: float = TRUST,
    prior: str = "",
    width: float = NARROW,
    decision_margin: float | None = None,
    worth: float = WORTH,
) -> LearnedVariant:
    """BayesianRouter, whole or without one of its parts.

    Args:
        without: the part that is left out, one of ABLATIONS; empty: none.
        dim: width of the encoding.
        lambda_cls: weight of the classification loss.
        balance: whether training pairs are balanced over the arms.
        trust: how far the prior is believed, above 0 up to 1.
        prior: the folder of an artifact, which takes the place of the other folds.
        width: share of a posterior's standard deviation that is sampled; 1 is the paper's rule.
        decision_margin: expected payoff that one decision may give up against the arm that the
            posterior thinks best; None: any.
        worth: payoffs that the prior itself is worth at least, where ``trust`` is below 1; 0: as
            calibrated.
    """
    _check_options(without, trust, prior, width)
    checked_decision_margin(decision_margin)
    checks.real("router bayesian: worth", worth, 0.0, 1e9)
    _check_torch("bayesian")
    learner: RouterFactory | None = partial(
        with_prior, trust=trust, width=width, decision_margin=decision_margin, worth=worth
    )
    if without == "online":
        learner = None
    elif without == "offline":
        learner = no_prior
    return LearnedVariant(dim, 0.0 if without == "cls" else lambda_cls, balance, learner)


def _check_options(without: str, trust: float, prior: str, width: float) -> None:
    """``InputError`` for the first option of `bayesian` that is out of its range."""
    if without and without not in ABLATIONS:
        close = get_close_matches(without, ABLATIONS, 1, cutoff=0.3)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InputError(
            f"router bayesian: without={without}{hint} allowed: {', '.join(ABLATIONS)}"
        )
    if without == "cls" and prior:
        raise InputError(
            "router bayesian: without=cls is decided when strengths are learned; "
            "fit a prior with lambda_cls 0"
        )
    if not 0 <= width <= 10:
        raise InputError(
            f"router bayesian: width={width}, "
            "allowed: 0 (the best mean) to 10; 1 is Thompson's rule"
        )
    if not 0 < trust <= 1:
        raise InputError(
            f"router bayesian: trust={trust}, "
            "allowed: above 0, up to 1 (the prior is believed outright)"
        )


def weighted_score(
    a: float = 0.5, dim: int = 64, lambda_cls: float = 0.2, balance: bool = False, prior: str = ""
) -> LearnedVariant:
    """The paper's simple combination: a x offline strength + (1 - a) x online score.

    ``a`` lies in [0, 1]; the other options are those of `bayesian`.
    """
    if not 0 <= a <= 1:
        raise InputError(
            f"router weighted_score: a={a}, allowed: 0 (online only) to 1 (offline only)"
        )
    _check_torch("weighted_score")
    return LearnedVariant(
        dim, lambda_cls, balance, lambda f: WeightedScore(no_prior(f), f.strength_KD, a)
    )


def _check_torch(name: str) -> None:
    """InputError where torch is absent: strengths are learned with it, and pairs encoded."""
    if importlib.util.find_spec("torch") is None:
        raise InputError(
            f"router {name} needs torch, which is absent: pip install 'reward-router[train]'"
        )


def online_stage(split: Split, h_PD: Float, make: Callable[[], Router]) -> tuple[Float, Float]:
    """(T, K) probabilities at the judged rows, and what `Streamed` says of the last third.

    Both are means over ORDERS passes over those rows, in seeded orders of their prompts.
    """
    groups = judged_groups(split)
    n_rows = len(split.test_P)
    n_arms = len(split.records.arms)
    total_TK = np.zeros((n_rows, n_arms))
    late_3 = np.zeros(3)

    # Every repeat has orders of its own, so that repeats are independent.
    first = split.repeat * ORDERS
    for seed in range(first, first + ORDERS):
        draw = rng(seed, "order", 2, "bayesian")
        order_G = draw.permutation(len(groups))
        blocks = [groups[g] for g in order_G]
        p_TK = one_pass(split, h_PD, make(), blocks, seed)
        total_TK += p_TK
        late_3 += _late(split, p_TK, np.concatenate(blocks))

    return total_TK / ORDERS, late_3 / ORDERS


def judged_groups(split: Split) -> list[Int]:
    """Row numbers of each judged prompt."""
    group_T = np.unique(split.records.group_P[split.test_P], return_inverse=True)[1]
    return [split.test_P[rows] for rows in rows_by_group(group_T)]


def one_pass(
    split: Split, h_PD: Float, router: Router, blocks: Sequence[Int], seed: int, batch: int = 0
) -> Float:
    """(T, K) probabilities at the judged rows of a router that meets ``blocks`` in order.

    Args:
        split: the rows, and which of them are judged.
        h_PD: their encoding.
        router: learns as it goes.
        blocks: row numbers of each prompt.
        seed: of the payoffs and of the draws.
        batch: prompts that share one decision, for LASER; 0: every row has its own.
    """
    records = split.records
    unit_P = (split.pairs or split.contexts).unit_P

    def context_of(row_B: Int) -> Float:
        # Rows that share one context are given to the router once.
        shared = unit_P[row_B[0]] == unit_P[row_B[-1]]
        return h_PD[row_B[:1] if shared else row_B]

    probs_PK = np.zeros(records.correct_PK.shape)
    payoff_PK = split.feedback.matrix(records, seed)
    frozen_P = None
    if not split.paid:
        # The prior decides alone, and nothing can be earned by trying.
        payoff_PK[split.test_P] = np.nan
        frozen_P = np.zeros(len(records), dtype=bool)
        frozen_P[split.test_P] = True
    paid = PayoffRows(
        payoff_PK=payoff_PK,
        uniform_P=rng(seed, "arm", 1, "bayesian").random(len(records)),
        delay=split.feedback.delay,
        present_PK=records.present_PK,
        frozen_P=frozen_P,
    )
    if batch:
        play_batches(blocks, batch, router, context_of, paid, probs_PK)
    else:
        play(blocks, router, context_of, paid, probs_PK)
    return np.asarray(probs_PK[split.test_P])


def _learned(split: Split, fitted: Fitted, router: RouterFactory) -> Streamed:
    """An online stage's accuracy and calls, and its last third.

    Each payoff that is an agreement costs calls of the other arms.
    """
    p_TK, late_3 = online_stage(split, fitted.h_PD, lambda: router(fitted))
    accuracy_T, calls_TK = _routed(split, p_TK)

    # The other arms of a row share the calls that its payoff takes.
    n_arms = p_TK.shape[1]
    others = split.feedback.extra_calls if split.paid else 0
    extra_TK = (1 - p_TK) * (others / (n_arms - 1))
    return Streamed(accuracy_T, calls_TK + extra_TK, late_3)


def _late(split: Split, p_TK: Float, visit_T: Int) -> Float:
    """Of the last third of one pass: rows, the sum of accuracies, and the regret in rows.

    The regret is that against the best arm of all judged rows, as for other online routers.
    """
    correct_PK = split.records.correct_PK
    judged_PK = correct_PK[split.test_P] if split.carried else correct_PK
    best = int(judged_PK.mean(axis=0).argmax())

    late_L = last_third(visit_T)
    # rows of the file to places among the judged rows, which ascend
    place_L = np.searchsorted(split.test_P, late_L)
    right = float((p_TK[place_L] * correct_PK[late_L]).sum())
    return np.array([len(late_L), right, correct_PK[late_L, best].sum() - right])


def _routed(split: Split, p_TK: Float) -> RowOutcome:
    correct_TK = split.records.correct_PK[split.test_P]
    return np.einsum("tk,tk->t", p_TK, correct_TK), p_TK
