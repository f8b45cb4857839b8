"""What an arm that runs elsewhere says beside its scores: failures by row, and what each cost.

Such an arm is asked once: its requests cost money and time, so nothing is asked again in halves as
a local arm is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeGuard, runtime_checkable

from reward_router.types import Float


class ArmFailed(RuntimeError):
    """An arm could not answer. The message is whole: where it asked, what came back.

    ``away``: nobody answered there at all (refused, hung, no such host), which may pass.
    ``divides``: the request was refused for what it held, so that its parts may be answered one by
    one.
    """

    def __init__(self, message: str, *, away: bool = False, divides: bool = False) -> None:
        """``message`` holds no secret."""
        super().__init__(message)
        self.away = away
        self.divides = divides


class ArmStops(ArmFailed):
    """The run must not go on with this arm (``on_drift: stop``)."""


@dataclass(frozen=True, eq=False)
class Answer:
    """An arm's scores and their bill.

    ``scores_BN`` (rows shorter than the longest padded with NaN), ``errors`` by row, ``seconds_BN``
    wall time and ``price_BN`` in the unit of the arm's ``cost`` (NaN: not measured, one ``cost`` a
    call), ``notices`` for whoever runs this.
    """

    scores_BN: Float = field(repr=False)
    seconds_BN: Float = field(repr=False)
    price_BN: Float = field(repr=False)
    errors: Mapping[int, ArmFailed] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    def scores(self) -> Float:
        """(B, N) ``scores_BN`` where every row was answered; else the first failure is raised."""
        for error in self.errors.values():
            raise error
        return self.scores_BN


@runtime_checkable
class Metered(Protocol):
    """A reward model that tells what its scores cost and which rows failed.

    ``groupwise``: its scores compare the responses of one row with each other, so that rows of one
    prompt are not joined.
    """

    groupwise: bool

    def score_with_bill(self, prompts: Sequence[Any], responses: Sequence[Sequence[str]]) -> Answer:
        """Scores of B prompts with up to N responses each.

        It raises nothing but programming errors: failures are in the answer.
        """
        ...


def is_metered(model: object) -> TypeGuard[Metered]:
    """``isinstance(model, Metered)``, cheap enough to be asked at every request."""
    return hasattr(model, "score_with_bill") and hasattr(model, "groupwise")


@runtime_checkable
class Served(Protocol):
    """A reward model behind an endpoint.

    What is served there now can be told from what was served there before.
    """

    def served(self) -> str:
        """A fingerprint of the served model; `ArmFailed` where nobody answers."""
        ...


@runtime_checkable
class Remarking(Protocol):
    """A reward model that measured something of itself."""

    def remarks(self) -> list[str]:
        """Sentences for the table of ``arms check``, e.g. a judge's position bias."""
        ...
