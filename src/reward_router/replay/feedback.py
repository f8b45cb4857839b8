"""What an online router is paid with.

It is the label, sparse and late labels, the agreement of other arms, or a function of your own:

correct                          1 right, 1/2 tie, 0 wrong, for every row at once
correct:fraction=0.1,delay=50    a tenth of the rows is labelled, each label comes 50 rows later
agreement:others=2               share of 2 further arms, drawn at random, that agree; no label is
                                 used, and a row costs 2 calls more
package.module:function          function(records) -> (P, K) payoffs in [0, 1], NaN for none
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reward_router.errors import InputError
from reward_router.keyed import rng
from reward_router.limits import within
from reward_router.replay.records import Records
from reward_router.replay.spec import parse_options, split_name
from reward_router.types import Float, Int

Custom = Callable[[Records], Float]
_OPTIONS: dict[str, dict[str, type]] = {
    "correct": {"fraction": float, "delay": int},
    "agreement": {"others": int, "fraction": float, "delay": int},
}


@dataclass(frozen=True)
class Feedback:
    """A payoff rule.

    Args:
        kind: ``correct``, ``agreement``, or the import path of a function.
        fraction: share of the rows that pay.
        delay: rows after which a payoff comes.
        others: further arms that are called, for ``agreement``.
        custom: the function, where ``kind`` names one.
    """

    kind: str
    fraction: float = 1.0
    delay: int = 0
    others: int = 2
    custom: Custom | None = None

    @property
    def extra_calls(self) -> int:
        """Calls a row beyond the router's own."""
        return self.others if self.kind == "agreement" else 0

    def matrix(self, records: Records, seed: int) -> Float:
        """(P, K) payoff that each arm would earn on each row in run ``seed``. O(P K others).

        NaN where no payoff comes.
        """
        if self.custom is not None:
            custom = self.custom
            given_PK = within(lambda: custom(records), f"payoff {self.kind}")
            payoff_PK = _checked(given_PK, records)
        elif self.kind == "agreement":
            payoff_PK = _agreement(records, self.others, seed)
        else:
            # An arm that says nothing of a row earns nothing there, neither good nor bad.
            silent_PK = np.isnan(records.margins_PK)
            payoff_PK = np.where(silent_PK, np.nan, records.correct_PK)

        if self.fraction < 1:
            # By row and not by arm: whoever was drawn, the same rows pay.
            draw_P = rng(seed, "label", 0, "replay").random(len(records))
            seen_P = draw_P < self.fraction
            payoff_PK = np.where(seen_P[:, None], payoff_PK, np.nan)
        return payoff_PK


def parse_feedback(text: str) -> Feedback:
    """'correct:fraction=0.1,delay=50' as a Feedback.

    ``InputError`` names what is wrong and what is allowed.
    """
    name, options = split_name(text)
    # Any other name is the path of a user's own function.
    if name not in _OPTIONS:
        return Feedback(kind=text, custom=_load(text))

    values = parse_options(f"payoff {name}", options, _OPTIONS[name])
    feedback = Feedback(kind=name, **values)
    fraction_fits = 0 < feedback.fraction <= 1
    if not fraction_fits or feedback.delay < 0 or feedback.others < 1:
        raise InputError(f"payoff {text}: allowed are 0 < fraction <= 1, delay >= 0, others >= 1")
    return feedback


def _load(text: str) -> Custom:
    module, _, function = text.partition(":")
    if not function or "=" in function:
        raise InputError(
            f"payoff {text!r}, allowed: correct, agreement, or package.module:function"
        )
    try:
        function_object: Custom = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise InputError(f"payoff {text!r}: {error}") from error
    return function_object


def _checked(payoff_PK: Float, records: Records) -> Float:
    payoff_PK = np.asarray(payoff_PK, dtype=np.float64)
    if payoff_PK.shape != records.margins_PK.shape:
        raise InputError(
            f"custom payoff has shape {payoff_PK.shape}, "
            f"needed {records.margins_PK.shape} (rows, arms)"
        )
    paid = payoff_PK[~np.isnan(payoff_PK)]
    if paid.size and (paid.min() < 0 or paid.max() > 1):
        raise InputError(
            f"custom payoff lies in [{paid.min():g}, {paid.max():g}], allowed: [0, 1] or NaN"
        )
    return np.where(np.isnan(records.margins_PK), np.nan, payoff_PK)


def _agreement(records: Records, others: int, seed: int) -> Float:
    """Each arm against ``others`` arms drawn from the rest: same sign 1, a tie 1/2, else 0.

    The draw is the same for every arm of a row.
    """
    n_rows, n_arms = records.margins_PK.shape
    if others >= n_arms:
        raise InputError(
            f"{records.name}: agreement with {others} others needs {others + 1} arms, "
            f"there are {n_arms}"
        )
    sign_PK = np.sign(np.nan_to_num(records.margins_PK))

    # M witnesses of each row.
    draw = rng(seed, "audit", 0, "replay")
    order_PK: Int = draw.random((n_rows, n_arms)).argsort(axis=1)
    drawn_PM = order_PK[:, : others + 1]  # one spare: an arm is never its own witness
    sign_PM = np.take_along_axis(sign_PK, drawn_PM, axis=1)

    # Which witnesses count for which arm: not the arm itself, and then not the spare either.
    own_PMK = drawn_PM[:, :, None] == np.arange(n_arms)[None, None, :]
    drops_spare_PK = ~own_PMK.any(axis=1)  # arms not drawn drop the spare witness
    use_PMK = ~own_PMK
    use_PMK[:, others, :] &= ~drops_spare_PK

    agree_PMK = 0.5 + 0.5 * sign_PM[:, :, None] * sign_PK[:, None, :]
    payoff_PK = (agree_PMK * use_PMK).sum(axis=1) / others
    return np.where(np.isnan(records.margins_PK), np.nan, payoff_PK)
