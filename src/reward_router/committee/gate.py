"""Should the committee play at all, and with which weights?

Nested cross-validation (`trial`) says what each candidate is worth; this module says who believes
it.

A gate is a rule on the gain over the best single arm, out of fold: its mean and its one-sided lower
bound. The bound is corrected for the number of candidates that competed (Bonferroni), because the
best of several looks better than it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from reward_router.committee.labelled import LabelledRows
from reward_router.committee.trial import (
    DISCOUNTS,
    OF_ALL,
    SINGLE,
    Z95,
    Difference,
    Setting,
    Trials,
    best_single,
    clustered_error,
    difference,
    discounted,
    nested_trials,
    over_sources,
)
from reward_router.types import Float, Int

__all__ = [
    "GATE_RULES",
    "CommitteeChoice",
    "GateVerdict",
    "best_single",
    "chosen_weights",
    "clustered_error",
    "opens",
    "signed_wins",
]

GATE_RULES = ("auto", "lower95", "noninferior", "mean")
MARGIN = 0.01  # of non-inferiority: the accuracy that may be lost with confidence at most 95 %
ENOUGH_LABELS = 100  # from here on the mean is believed by "auto"
ERROR = 0.05
FLOOR = 0.005  # accuracy by which asking few arms may fall behind asking all of them


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """The verdict on the committee: accuracies out of fold, their difference and its lower bound.

    The bound is one-sided.
    """

    open: bool
    committee: float
    single: float
    gain: float
    lower: float
    calls: float
    n: int

    def numbers(self) -> list[float]:
        """The fields in order, as numbers."""
        return [
            float(self.open),
            self.committee,
            self.single,
            self.gain,
            self.lower,
            self.calls,
            float(self.n),
        ]

    @classmethod
    def of(cls, numbers: Float) -> "GateVerdict":
        """The gate that `numbers` wrote."""
        opened, committee, single, gain, lower, calls, n = map(float, numbers)
        return cls(bool(opened), committee, single, gain, lower, calls, int(n))


def opens(rule: str, gain: float, lower: float, labels: int) -> bool:
    """Whether a rule lets the committee play.

    It goes by the gain out of fold, the gain's lower bound and the number of labels. "auto" asks
    for the bound while there are fewer than 100 labels, and for the mean from there on.

    >>> [opens(rule, 0.012, -0.004, 60) for rule in GATE_RULES], opens("auto", 0.012, -0.004, 100)
    ([False, False, True, True], True)
    """
    # the mean of few labels is too noisy to be believed
    if rule == "auto":
        rule = "mean" if labels >= ENOUGH_LABELS else "lower95"
    if rule == "lower95":
        return lower > 0
    return gain > 0 and (rule == "mean" or lower > -MARGIN)


@dataclass(frozen=True)
class CommitteeChoice:
    """Which weights play, what each candidate was worth out of fold, and what every gate would say.

    ``table`` (candidates + 3, 5): accuracy, cost, calls, gain over the best single arm and its
    lower bound; the last rows are the mean of all arms, their vote, and that arm. ``discount``: of
    the price, below 1 where the candidates fell behind those at the full one.
    """

    weights: str
    candidates: tuple[str, ...]
    table: Float
    labels: int
    foldings: int
    between: float
    discount: float = 1.0

    def gate(self, rule: str) -> GateVerdict:
        """The gate of the chosen weights under a rule.

        "off" is never open: the committee then plays regardless.
        """
        chosen = self.candidates.index(self.weights)
        accuracy, _, calls, gain, lower = self.table[chosen].tolist()
        opened = rule != "off" and opens(rule, gain, lower, self.labels)
        return GateVerdict(
            open=opened,
            committee=accuracy,
            single=float(self.table[-1, 0]),
            gain=gain,
            lower=lower,
            calls=calls,
            n=self.labels,
        )

    def summary(self, rule: str) -> dict[str, Any]:
        """JSON-ready: weights, gain and bound, every gate's verdict, every candidate's figures."""
        names = (*self.candidates, *OF_ALL, SINGLE)
        columns = ("accuracy", "cost", "calls", "gain", "lower")
        figures = {}
        for name, row in zip(names, self.table.tolist(), strict=True):
            figures[name] = dict(zip(columns, row, strict=True))

        gate = self.gate(rule)
        return {
            "weights": self.weights,
            "gate": rule,
            "open": rule == "off" or gate.open,
            "gain": gate.gain,
            "lower": gate.lower,
            "confidence": 1 - ERROR / len(self.candidates),
            "labels": self.labels,
            "foldings": self.foldings,
            "error_of_foldings": self.between,
            "discount": self.discount,
            "gates": {name: self.gate(name).open for name in GATE_RULES} | {"off": True},
            "candidates": figures,
        }

    def state(self) -> dict[str, Any]:
        """Arrays only."""
        return {
            "choice.names": np.array([self.weights, *self.candidates], dtype=np.str_),
            "choice.table": self.table,
            "choice.counts": np.array([self.labels, self.foldings, self.between, self.discount]),
        }

    @classmethod
    def of(cls, state: Any) -> "CommitteeChoice | None":
        """The choice that `state` wrote; None where there was none."""
        if "choice.names" not in state:
            return None
        weights, *candidates = map(str, state["choice.names"])
        labels, foldings, between, discount = map(float, state["choice.counts"])
        return cls(
            weights=weights,
            candidates=tuple(candidates),
            table=np.array(state["choice.table"], dtype=np.float64),
            labels=int(labels),
            foldings=int(foldings),
            between=between,
            discount=discount,
        )


def chosen_weights(
    data: LabelledRows, candidates: Sequence[str], setting: Setting, floor: bool = False
) -> CommitteeChoice:
    """The candidate of the highest utility out of fold, all at one price.

    Utility is accuracy less the price of the candidate's calls. Weights of either sign must also be
    better than the best of the others with one-sided 95 % confidence: among many weak arms they
    look better than they are. ``floor``: where the chosen one falls more than FLOOR behind what
    asking all arms gives (their mean, their vote) or behind one arm, the price is discounted until
    one does not; where none of DISCOUNTS helps it stays as it was.
    """
    group_P = data.group_P[data.random_P]
    # Bonferroni: the best of several looks better than it is
    z = float(-ndtri(ERROR / len(candidates)))

    def settled(trials: Trials) -> bool:
        """Neither the gate of "auto" nor the lead over the next candidate hangs on the foldings."""
        weights = _pick(trials, candidates, setting, group_P)
        others = [name for name in candidates if name != weights]
        gain = _gap(trials, weights, SINGLE, None, group_P)
        if not gain.settled(z if len(group_P) < ENOUGH_LABELS else 0.0):
            return False
        if not others:
            return True

        runner_up = _pick(trials, others, setting, group_P)
        return _gap(trials, weights, runner_up, setting, group_P).settled()

    trials = nested_trials(data, candidates, setting, settled)
    stage = 0
    if floor:
        behind = (_behind(trials, candidates, setting, group_P, d) for d in range(len(DISCOUNTS)))
        stage = next((d for d, accuracy in enumerate(behind) if accuracy <= FLOOR), 0)

    at = _at_stage(trials, candidates, stage)
    discounted_setting = setting._replace(price=setting.price * DISCOUNTS[stage])
    weights = _pick(at, candidates, discounted_setting, group_P)
    rows = []

    for name in (*candidates, *OF_ALL, SINGLE):
        trial = at[name]
        gap = _gap(at, name, SINGLE, None, group_P)
        means = trial.right_PR.mean(), trial.cost_PR.mean(), trial.calls_PR.mean()
        rows.append([*means, gap.mean, gap.lower(z) if name != SINGLE else 0.0])

    between = _gap(at, weights, SINGLE, None, group_P).between
    foldings = at[SINGLE].right_PR.shape[1]
    return CommitteeChoice(
        weights,
        tuple(candidates),
        np.array(rows),
        len(group_P),
        foldings,
        between,
        DISCOUNTS[stage],
    )


def _at_stage(trials: Trials, candidates: Sequence[str], stage: int) -> Trials:
    """The trials with every candidate at one discount, under its own name."""
    return trials | {name: trials[discounted(name, stage)] for name in candidates}


def _behind(
    trials: Trials, candidates: Sequence[str], setting: Setting, group_P: Int, stage: int
) -> float:
    """By how much the candidate chosen at a discount is less accurate than the yardsticks.

    These are the mean of all arms, their vote, and one arm; the best of them counts.
    """
    at_stage = _at_stage(trials, candidates, stage)
    # A discounted stage plays as if calls were cheaper, so it also has to choose at that price.
    price = setting.price * DISCOUNTS[stage]
    weights = _pick(at_stage, candidates, setting._replace(price=price), group_P)
    chosen_accuracy = float(at_stage[weights].right_PR.mean())

    yardsticks = (*OF_ALL, SINGLE)
    accuracies = [float(trials[name].right_PR.mean()) for name in yardsticks]
    return max(accuracies) - chosen_accuracy


def _pick(trials: Trials, candidates: Sequence[str], setting: Setting, group_P: Int) -> str:
    utility = {name: float(trials[name].utility_P(setting.price).mean()) for name in candidates}
    safe = [name for name in candidates if name != "signed"]
    # nothing to compare signed weights with
    if not safe:
        return "signed"

    best = max(safe, key=lambda name: utility[name])
    if "signed" not in candidates:
        return best

    # signed weights must win clearly, since they also fit noise
    gap = _gap(trials, "signed", best, setting, group_P)
    return "signed" if gap.lower() > 0 else best


def _gap(trials: Trials, one: str, other: str, setting: Setting | None, group_P: Int) -> Difference:
    """Paired difference of two candidates: of accuracies, or with a setting of utilities."""
    price = 0.0
    if setting is not None:
        price = setting.price
    # Utility is accuracy less what the calls cost.
    ours = trials[one]
    theirs = trials[other]
    our_utility_PR = ours.right_PR - price * ours.cost_PR
    their_utility_PR = theirs.right_PR - price * theirs.cost_PR
    return difference(our_utility_PR, their_utility_PR, group_P)


def signed_wins(
    data: LabelledRows, source_P: Int, setting: Setting, seed: int
) -> GateVerdict | None:
    """Do signed weights carry over to a source they were not fitted on?

    Each source is left out once. The gate is open iff on no source the signed committee is less
    accurate than the safe one, and the pooled one-sided lower 95 % bound of its gain is above 0. A
    random split is no test: there negative weights win by fitting the benchmark. None where there
    are fewer than two sources.
    """
    if len(np.unique(source_P)) < 2:
        return None

    by_source = over_sources(data, source_P, setting, seed)
    signed = [trials["signed"] for _, trials in by_source]
    safe = [trials["safe"] for _, trials in by_source]

    # rows of all sources together
    # One folding per source: a source left out is judged once.
    signed_P = np.concatenate([trial.right_PR[:, 0] for trial in signed])
    safe_P = np.concatenate([trial.right_PR[:, 0] for trial in safe])
    calls_P = np.concatenate([trial.calls_PR[:, 0] for trial in signed])
    group_P = np.concatenate([data.group_P[rows_P] for rows_P, _ in by_source])
    gain = difference(signed_P[:, None], safe_P[:, None], group_P)
    lower = gain.lower(Z95)

    # one source on which they lose is enough to refuse them
    both = zip(signed, safe, strict=True)
    worst = min(float((ours.right_PR - theirs.right_PR).mean()) for ours, theirs in both)
    return GateVerdict(
        open=lower > 0 and worst >= 0,
        committee=float(signed_P.mean()),
        single=float(safe_P.mean()),
        gain=gain.mean,
        lower=lower,
        calls=float(calls_P.mean()),
        n=len(group_P),
    )
