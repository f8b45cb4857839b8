"""What came of a decision, and the payoff that it makes: one number in place of three sources.

The sources are verdicts, gold and training losses. A name, or a function of the ``Outcome``, says
how they become the number; the formulas are in ``payoffs``. A failed arm, a step that was not
taken, or a loss that tells no arm from another gives no payoff, and is counted. Left out: payoffs
that come later, from a person or another process, go to ``Dispatcher.feedback`` by the decision's
id.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reward_router import keyed
from reward_router.errors import InputError
from reward_router.kinds import PAYOFFS, PayoffKind
from reward_router.types import Float

LOG2_TOLERANCE = 1e-6
COUNTS = ("uninformative", "agreed", "no_payoff")
"""Why decisions have no payoff.

``uninformative``: the loss told no arm from another. ``agreed``: no arm disagreed with the judge of
the pair. ``no_payoff``: for these or any other reason.
"""


@dataclass
class Outcome:
    """What came of one decision; a payoff function receives it.

    Args:
        unit: the id of what was decided about.
        decision_id: the receipt; the payoff is given to this id.
        loss_P: the training loss of each of its pairs before the step, in nats. Pairs that a
            stand-in judged are left out, because they say nothing of the drawn arm.
        after_P: the same after the step (``improvement`` only).
        loss_PK: the loss of each such pair under each arm's label, NaN where an arm gives none
            (``full_advantage`` only).
        scores: for each prompt of the unit, (N,) the drawn arm's own scores, NaN where it
            abstained.
        golds: for each prompt, (N,) 1 right, 0 wrong, NaN unknown.
        responses: for each prompt, its N texts.
        prompts: the prompts of the unit themselves.
        failed: whether the drawn arm failed.
    """

    unit: str
    decision_id: str
    loss_P: list[float] = field(default_factory=list)
    after_P: list[float] = field(default_factory=list)
    loss_PK: list[list[float]] = field(default_factory=list)
    scores: list[Float] = field(default_factory=list)
    golds: list[Float] = field(default_factory=list)
    responses: list[list[str]] = field(default_factory=list)
    prompts: list[Any] = field(default_factory=list)
    failed: bool = False

    def merge(self, other: "Outcome") -> None:
        """Add what another process saw of the same decision."""
        lists = ("loss_P", "after_P", "loss_PK", "scores", "golds", "responses", "prompts")
        for name in lists:
            getattr(self, name).extend(getattr(other, name))
        self.failed |= other.failed

    def mean(self, measure: Callable[[Float, Float], float | None]) -> float | None:
        """The mean of a formula over the unit's prompts; None where no prompt gives a value.

        Args:
            measure: (scores_N, gold_N) -> a number, or None where it cannot be said.
        """
        values = []
        for score_N, gold_N in zip(self.scores, self.golds, strict=True):
            value = measure(score_N, gold_N)
            if value is not None:
                values.append(value)
        return float(np.mean(values)) if values else None


@dataclass
class Trained:
    """What a trainer reports of the P pairs it was given.

    Args:
        owner: (P,) the number of the unit whose arm ordered each pair; -1 where somebody else did,
            so that the loss says nothing of that arm.
        loss_P: (P,) each pair's loss before the step, in nats.
        after_P: (P,) the same after the step (``improvement``).
        loss_PK: (P, K) the loss under each arm's label (``full_advantage``).
        skipped: whether the step was not taken; then no loss counts.
    """

    owner: Sequence[int]
    loss_P: Float
    after_P: Float | None = None
    loss_PK: Float | None = None
    skipped: bool = False

    def write(self, unit: int, outcome: Outcome) -> None:
        """Put the losses of a unit's own pairs into its outcome."""
        # A step that was skipped has losses that are not finite: they say nothing.
        if self.skipped:
            return
        own_pairs = [p for p, owner in enumerate(self.owner) if owner == unit]
        outcome.loss_P = [float(self.loss_P[p]) for p in own_pairs]

        # Only payoffs that ask for them have the losses after the step, or under every arm's label.
        if self.after_P is not None:
            outcome.after_P = [float(self.after_P[p]) for p in own_pairs]
        if self.loss_PK is not None:
            outcome.loss_PK = self.loss_PK[own_pairs].tolist()


class PayoffRule:
    """How outcomes become payoffs.

    Args:
        name: a name of the table of payoffs, the import path of a function (``module:function``),
            or the name that ``function`` is recorded under.
        function: takes a decision's ``Outcome`` and returns a number in [0, 1], or None for no
            payoff.
        fraction: the share of decisions that get a payoff, drawn by key. It applies to payoffs
            that gold or a function makes.
        seed: of that draw.
        dpo: whether losses are plain DPO. Such a loss is log 2 whatever the arm said while the
            policy is its reference.

    The attribute ``raw`` says whether payoffs are any number, for the dispatcher to scale to
    [0, 1].
    """

    def __init__(
        self,
        name: str,
        function: Callable[[Outcome], float | None] | None = None,
        *,
        fraction: float = 1.0,
        seed: int = 0,
        dpo: bool = False,
    ) -> None:
        """InputError for a name that the table does not have."""
        if function is not None:
            kind = PayoffKind(name, function, "a function of the outcome", sampled=True)
        else:
            kind = PAYOFFS[name]
            if kind.needs_path or kind.needs_arm:
                raise InputError(f"payoff {name!r} is a function of the outcome; give the function")
        self.name = name
        self.kind = kind
        self.fraction = fraction
        self.seed = seed
        self.dpo = dpo
        self.raw = kind.raw
        self.counts = dict.fromkeys(COUNTS, 0)
        self.warn: Callable[[str], None] = lambda _: None

    @classmethod
    def of(cls, payoff: "PayoffRule | str | Callable[[Outcome], float | None]") -> "PayoffRule":
        """The rule that a name or a function says."""
        if isinstance(payoff, PayoffRule):
            return payoff
        if isinstance(payoff, str):
            return cls(payoff)
        return cls("python", payoff)

    def __call__(self, outcomes: Sequence[Outcome], step: int) -> dict[str, float]:
        """Decision id -> payoff, for those decisions that have one."""
        payoffs = {}
        for outcome in outcomes:
            payoff = self.one(outcome, step)
            if payoff is not None:
                payoffs[outcome.decision_id] = payoff
        self.counts["no_payoff"] += len(outcomes) - len(payoffs)

        together = self.kind.together
        if together is not None:
            # Some payoffs are only known beside the others of their batch.
            values = together(list(payoffs.values()))
            payoffs = dict(zip(payoffs, values, strict=True))
        return payoffs

    def paid_calls(self, calls: int) -> None:
        """Count what a judge was asked only to pay (``payoff_calls``); there once one was."""
        self.counts["payoff_calls"] = self.counts.get("payoff_calls", 0) + calls

    def one(self, outcome: Outcome, step: int) -> float | None:
        """The payoff of one outcome, None where there is none to give."""
        if outcome.failed or (self.kind.needs_loss and self._tells_nothing(outcome)):
            return None
        if self.kind.sampled:
            draw = keyed.uniform(self.seed, "probe", step, outcome.unit)
            if draw >= self.fraction:
                return None
        payoff: float | None = self.kind.make(outcome)
        # NaN: every arm would have judged alike, so that none is better than another.
        if payoff is not None and math.isnan(payoff):
            self.counts["agreed"] += 1
            return None
        return payoff

    def _tells_nothing(self, outcome: Outcome) -> bool:
        """Whether the losses are log 2 for every arm, as plain DPO's are at its reference."""
        if not outcome.loss_P or not self.dpo:
            return False
        largest_distance = max(abs(loss - math.log(2)) for loss in outcome.loss_P)
        if largest_distance >= LOG2_TOLERANCE:
            return False
        self._uninformative()
        return True

    def _uninformative(self) -> None:
        """Count an outcome whose loss tells no arm from another, and warn the first time."""
        self.counts["uninformative"] += 1
        if self.counts["uninformative"] == 1:
            self.warn(
                "warning: train.loss dpo is log 2 for every arm while the policy is its reference, "
                "so these payoffs teach the router nothing and are left out; train.loss: dpo+nll "
                "or payoff.name: improvement tells arms apart"
            )


def merged(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """One outcome for each unit, out of what several processes saw of it."""
    by_unit: dict[str, Outcome] = {}
    for outcome in outcomes:
        if outcome.unit in by_unit:
            by_unit[outcome.unit].merge(outcome)
        else:
            by_unit[outcome.unit] = outcome
    return list(by_unit.values())
