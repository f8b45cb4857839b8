"""BayesianRouter over recorded rows: strengths and their calibration from the other folds, Thompson sampling on the fold that is judged.

Offline stage, on the training folds: strengths (``offline.strengths``) stop on a dev split of the prompts, and the same dev split
calibrates the prior (``offline.calibrate``) for the payoff used online. Online stage: the judged fold's prompts in ORDERS seeded
orders, each from the prior anew; an arm's probability is exact, so a row's accuracy is an expectation, as in ``protocols.online``.

Ablations by name: ``without=online`` argmax of the strengths; ``without=offline`` the zero prior at its own precision, on the same
encoding; ``without=cls`` strengths by L_bt alone. ``weighted_score``: a x offline strength + (1 - a) x the zero prior's posterior.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from reward_router.errors import InputError
from reward_router.keyed import rng
from reward_router.replay.embed import Contexts
from reward_router.replay.feedback import Feedback
from reward_router.replay.offline_stage import Fitted, no_prior, offline_stage, with_prior
from reward_router.replay.protocols import Run, Split, rows_by_group, summary, visits
from reward_router.replay.records import Records
from reward_router.replay.stream import play, play_batches
from reward_router.replay.weighted import WeightedScore, best_of
from reward_router.routers.trusted import NARROW, TRUST
from reward_router.types import Float, Int, Router

ABLATIONS = ("online", "offline", "cls")
ORDERS = 5
Verdict = tuple[Float, Float]


@dataclass(frozen=True)
class Variant:
    """Which strengths are learned, and what happens online: ``router`` makes the learner, None takes the best strength."""

    dim: int
    lambda_cls: float
    balance: bool
    router: Callable[[Fitted], Router] | None

    def __call__(self, split: Split) -> Verdict:
        """The cross-fitted method: accuracies and calls of the judged rows."""
        fitted = offline_stage(split, self.dim, self.lambda_cls, self.balance)
        if self.router is None:
            return _routed(
                split, best_of(split.records.eligible(fitted.score_PK[split.test_P], split.test_P))
            )
        return _learned(split, fitted, self.router)

    def run(
        self, fitted: Fitted, records: Records, contexts: Contexts, feedback: Feedback, seed: int
    ) -> Run:
        """One run over the whole file from an artifact, as other online routers have it."""
        visit_P = visits(records, seed)
        if self.router is None:
            return summary(records, best_of(records.eligible(fitted.score_PK)), visit_P, 0)
        everything = Split(
            records, contexts, np.zeros(0, np.int64), np.arange(len(records)), feedback, seed
        )
        groups = rows_by_group(records.group_P)
        _, first_V = np.unique(records.group_P[visit_P], return_index=True)
        blocks = [groups[g] for g in records.group_P[visit_P[np.sort(first_V)]]]
        probs_PK = one_pass(everything, fitted.h_PD, self.router(fitted), blocks, seed)
        return summary(records, probs_PK, visit_P, feedback.extra_calls)


def bayesian(
    without: str = "",
    dim: int = 64,
    lambda_cls: float = 0.2,
    balance: bool = False,
    trust: float = TRUST,
    prior: str = "",
    width: float = NARROW,
) -> Variant:
    """BayesianRouter, whole or without one of its parts; ``prior``: the folder of an artifact instead of the other folds.

    ``width``: share of a posterior sd that is sampled; 1 is the paper's rule.
    """
    if without and without not in ABLATIONS:
        close = get_close_matches(without, ABLATIONS, 1, cutoff=0.3)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InputError(
            f"router bayesian: without={without}{hint} allowed: {', '.join(ABLATIONS)}"
        )
    if without == "cls" and prior:
        raise InputError(
            "router bayesian: without=cls is decided when strengths are learned; fit a prior with lambda_cls 0"
        )
    if not 0 <= width <= 10:
        raise InputError(
            f"router bayesian: width={width}, allowed: 0 (the best mean) to 10; 1 is Thompson's rule"
        )
    if not 0 < trust <= 1:
        raise InputError(
            f"router bayesian: trust={trust}, allowed: above 0, up to 1 (the prior is believed outright)"
        )
    _check_torch("bayesian")
    ways: dict[str, Callable[[Fitted], Router] | None] = {"online": None, "offline": no_prior}
    return Variant(
        dim,
        0.0 if without == "cls" else lambda_cls,
        balance,
        ways.get(without, lambda f: with_prior(f, trust, width)),
    )


def weighted_score(
    a: float = 0.5, dim: int = 64, lambda_cls: float = 0.2, balance: bool = False, prior: str = ""
) -> Variant:
    """The paper's simple combination: a x offline strength + (1 - a) x online score, a in [0, 1]."""
    if not 0 <= a <= 1:
        raise InputError(
            f"router weighted_score: a={a}, allowed: 0 (online only) to 1 (offline only)"
        )
    _check_torch("weighted_score")
    return Variant(dim, lambda_cls, balance, lambda f: WeightedScore(no_prior(f), f.strength_KD, a))


def _check_torch(name: str) -> None:
    """InputError where torch is absent: strengths are learned with it, and pairs encoded."""
    if importlib.util.find_spec("torch") is None:
        raise InputError(
            f"router {name} needs torch, which is absent: pip install 'reward-router[train]'"
        )


def online_stage(split: Split, h_PD: Float, make: Callable[[], Router]) -> Float:
    """(T, K) probabilities at the judged rows, a mean over ORDERS passes over them in seeded orders of their prompts."""
    groups = judged_groups(split)
    total_TK = np.zeros((len(split.test_P), len(split.records.arms)))
    for seed in range(split.repeat * ORDERS, (split.repeat + 1) * ORDERS):
        order_G = rng(seed, "order", 2, "bayesian").permutation(len(groups))
        total_TK += one_pass(split, h_PD, make(), [groups[g] for g in order_G], seed)
    return np.asarray(total_TK / ORDERS)


def judged_groups(split: Split) -> list[Int]:
    """Row numbers of each judged prompt."""
    group_T = np.unique(split.records.group_P[split.test_P], return_inverse=True)[1]
    return [split.test_P[rows] for rows in rows_by_group(group_T)]


def one_pass(
    split: Split, h_PD: Float, router: Router, blocks: Sequence[Int], seed: int, batch: int = 0
) -> Float:
    """(T, K) probabilities at the judged rows of a router that meets ``blocks`` in order; ``batch`` prompts a decision for LASER."""
    records, unit_P = split.records, (split.pairs or split.contexts).unit_P

    def context_of(row_B: Int) -> Float:
        return h_PD[row_B[:1] if unit_P[row_B[0]] == unit_P[row_B[-1]] else row_B]

    probs_PK = np.zeros(records.correct_PK.shape)
    uniform_P = rng(seed, "arm", 1, "bayesian").random(len(records))
    told = (
        split.feedback.matrix(records, seed),
        uniform_P,
        split.feedback.delay,
        probs_PK,
        records.there_PK,
    )
    if batch:
        play_batches(blocks, batch, router, context_of, *told)
    else:
        play(blocks, router, context_of, *told)
    return np.asarray(probs_PK[split.test_P])


def _learned(split: Split, fitted: Fitted, router: Callable[[Fitted], Router]) -> Verdict:
    """An online stage's accuracy and calls; each payoff that is an agreement costs calls of the other arms."""
    p_TK = online_stage(split, fitted.h_PD, lambda: router(fitted))
    accuracy_T, asked_TK = _routed(split, p_TK)
    others = split.feedback.extra_calls
    return accuracy_T, asked_TK + (1 - p_TK) * (others / (p_TK.shape[1] - 1))


def _routed(split: Split, p_TK: Float) -> Verdict:
    return np.einsum("tk,tk->t", p_TK, split.records.correct_PK[split.test_P]), p_TK
