"""Which arms rest: a circuit breaker for every arm.

It is folded from the ledger's decisions, answers and failures.

An arm that fails several times running, or in most of its recent answers, rests: it gets no
decision. A pause is counted in decisions (of all arms) from the last one the arm was given, grows
with every probe that fails, and ends with one probe: one decision that goes to the arm. An answer
ends the rest and forgets the failures.

What was answered is ordered by the decision it belongs to, not by its time of arrival: late payoffs
and late failures of decisions made before a rest change nothing of it. An answer is a call that did
not fail, or a payoff of a decision whose own arm did not fail; an abstention is an answer. Where an
arm answered about some responses of a decision and failed on others, it answered. Nothing here
reads a clock, a generator or a file.
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router.errors import InputError
from reward_router.types import State

MOST_PAUSE = 40
# what is known of an arm and a decision; the later outweighs the earlier
PAID = 0
FAILED = 1
CALLED = 2


@dataclass(frozen=True, slots=True)
class BreakerRule:
    """When an arm rests, and for how long.

    Args:
        failures: so many failures running, and the arm rests.
        recent: so many failures among its last ``window`` answers, and it rests.
        window: the number of answers that are remembered.
        pause: decisions of the first pause.
        growth: how many times longer each probe that fails makes the pause.
        longest: decisions of the longest pause, at most 40.

    >>> [BreakerRule().pause_at(level) for level in (1, 2, 3)]
    [10, 40, 40]
    """

    failures: int = 2
    recent: int = 6
    window: int = 10
    pause: int = 10
    growth: float = 4.0
    longest: int = MOST_PAUSE

    def __post_init__(self) -> None:
        """InputError names the number that is out of range."""
        counts = {
            "failures": self.failures,
            "recent": self.recent,
            "window": self.window,
            "pause": self.pause,
        }

        for name, value in counts.items():
            # a bool is an int in Python, and would be taken for 1
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1000:
                raise InputError(
                    f"breaker: {name}={value!r}; allowed a whole number from 1 to 1000"
                )

        if not self.pause <= self.longest <= MOST_PAUSE:
            raise InputError(
                f"breaker: longest={self.longest!r}; "
                f"allowed from pause={self.pause} to {MOST_PAUSE} decisions"
            )
        if not 1 <= self.growth <= 1000:
            raise InputError(f"breaker: growth={self.growth!r}; allowed from 1 to 1000")
        if self.recent > self.window:
            raise InputError(
                f"breaker: recent={self.recent} of window={self.window}; allowed at most the window"
            )

    def pause_at(self, level: int) -> int:
        """Decisions of the ``level``-th pause, from 1."""
        if self.growth == 1:
            return self.pause
        # growth ** 10 is beyond the longest pause, or so near 1 that it hardly grows
        steps = min(level - 1, 10)
        return int(min(self.pause * self.growth**steps, self.longest))

    def as_list(self) -> list[float]:
        """The numbers, as a ledger is bound to them."""
        return list(astuple(self))


USUAL = BreakerRule()


@dataclass(slots=True)
class _Circuit:
    """One arm.

    Attributes:
        floor: what was decided up to there says nothing any more.
        level: 0: it works; n: it is in its n-th pause.
        until: the decision before which it is not probed.
        probe: the decision of a probe whose answer is awaited, -1 none.
        pull: seq of the last decision it was given.
        pull_clock: number of that decision.
        failure: the decision of its last failure.
        rested: decisions that were made while it rested.
        present: 1 where the arm is there.
        position: decisions whose outcomes are remembered.
        outcome: those outcomes.
    """

    floor: int = 0
    level: int = 0
    until: int = 0
    probe: int = -1
    pull: int = -1
    pull_clock: int = 0
    failure: int = -1
    rested: int = 0
    present: int = 1
    position: list[int] = field(default_factory=list)
    outcome: list[int] = field(default_factory=list)

    def numbers(self) -> list[int]:
        """The fields that are whole numbers, in the order of NUMBERS."""
        return [getattr(self, name) for name in NUMBERS]


NUMBERS = ("floor", "level", "until", "probe", "pull", "pull_clock", "failure", "rested", "present")


class Breaker:
    """The circuits of all arms by their numbers in the ledger; every change is one event's."""

    def __init__(self, rule: BreakerRule, n_arms: int) -> None:
        """All arms work."""
        self.rule = rule
        # decisions so far, seq of the newest, seq when the last arm began to rest
        self.clock = 0
        self.last = 0
        self.since = -1
        self.circuits = [_Circuit() for _ in range(n_arms)]
        self.resting: set[int] = set()

    # reading --------------------------------------------------------------------------------------

    def waits(self, arm: int) -> int:
        """How many decisions from now the arm is probed.

        0: the next one may go to it, unless it is being probed.
        """
        circuit = self.circuits[arm]
        until = circuit.until if circuit.probe < 0 else circuit.probe + self.rule.longest
        return max(until - self.clock, 0)

    def probing(self, arm: int) -> bool:
        """Whether a probe of the arm is under way."""
        return self.circuits[arm].probe >= 0

    def drawn(self, arm: int) -> bool:
        """Whether the arm was ever given a decision."""
        return self.circuits[arm].pull >= 0

    def tried(self, arm: int) -> bool:
        """Whether the arm has failed since all arms rest."""
        return self.since >= 0 and self.circuits[arm].failure > self.since

    def rested_K(self) -> list[int]:
        """Per arm, decisions that were made while it rested."""
        return [circuit.rested for circuit in self.circuits]

    # events ---------------------------------------------------------------------------------------

    def pulled(self, arm: int, seq: int) -> None:
        """A decision was made; ``arm`` below 0: one without an arm."""
        # counted for the report
        for other in self.resting:
            if other != arm:
                self.circuits[other].rested += 1

        if arm >= 0:
            mine = self.circuits[arm]
            # a resting arm that is drawn is being probed
            if mine.level:
                mine.probe = self.clock
            mine.pull = seq
            mine.pull_clock = self.clock

        self.clock += 1
        self.last = seq

    def answered(self, arm: int, position: int, outcome: int = CALLED) -> None:
        """The arm answered about the decision with seq ``position``.

        ``outcome`` PAID: a payoff says so, and not a call.
        """
        circuit = self.circuits[arm]
        # What was known when the arm's rest ended says nothing of it any more.
        is_new = position > circuit.floor
        if not is_new:
            return
        if not circuit.level:
            self._note(circuit, position, outcome)
            return
        # A payoff of the very decision that the arm failed on is no sign of life.
        other_decision = circuit.failure != position
        if outcome == CALLED or other_decision:
            self._close(arm, position)

    def failed(self, arm: int, position: int) -> None:
        """The arm failed about the decision with seq ``position``.

        Where the failure belongs to no decision, ``position`` is its own event's seq.
        """
        circuit = self.circuits[arm]
        if position <= circuit.floor:
            return

        # failures may arrive out of order
        circuit.failure = max(circuit.failure, position)
        if circuit.level:
            self._rest(arm, position)
        elif self._note(circuit, position, FAILED):
            circuit.position.clear()
            circuit.outcome.clear()
            self._rest(arm, position)

    def added(self, arm: int) -> None:
        """An arm came, or came back: it works."""
        if arm == len(self.circuits):
            self.circuits.append(_Circuit())
        self._fresh(arm, True)

    def removed(self, arm: int) -> None:
        """An arm went."""
        self._fresh(arm, False)

    def stopped(self) -> None:
        """Nobody could judge, and the caller was told.

        The arm whose pause ends first is asked next.
        """
        if self.resting:
            # Ties by number, so that a fold of the same ledger wakes the same arm.
            soonest = min(self.resting, key=lambda arm: (self.waits(arm), arm))
            self.circuits[soonest].until = self.clock
            self.circuits[soonest].probe = -1
            self.since = self.last

    def _fresh(self, arm: int, present: bool) -> None:
        rested = self.circuits[arm].rested
        # what is under way belongs to the arm as it was
        self.circuits[arm] = _Circuit(floor=self.last, rested=rested, present=int(present))
        self.resting.discard(arm)
        self._all_rest()

    def _note(self, circuit: _Circuit, position: int, outcome: int) -> bool:
        """Enter an outcome at its place among the decisions. True: the arm is to rest."""
        places = circuit.position
        outcomes = circuit.outcome
        rule = self.rule
        place = bisect_left(places, position)

        if place < len(places) and places[place] == position:
            if outcomes[place] >= outcome:
                return False
            outcomes[place] = outcome
        else:
            places.insert(place, position)
            outcomes.insert(place, outcome)
            # only as many as the rule looks at are remembered
            if len(places) > max(rule.window, rule.failures):
                del places[0], outcomes[0]

        if outcome != FAILED:
            return False

        running = outcomes[-rule.failures :]
        if len(running) == rule.failures and all(each == FAILED for each in running):
            return True

        return outcomes[-rule.window :].count(FAILED) >= rule.recent

    def _rest(self, arm: int, position: int) -> None:
        circuit = self.circuits[arm]
        circuit.level += 1
        # what is under way was routed before this was known, but for a later probe
        if circuit.probe >= 0 and circuit.pull > position:
            circuit.floor = circuit.pull - 1
        else:
            circuit.floor = max(self.last, position)

        # the pause counts from the last decision that the arm was given
        start = circuit.pull_clock + 1 if circuit.pull >= position else self.clock
        circuit.until = start + self.rule.pause_at(circuit.level)
        if circuit.pull <= position:
            circuit.probe = -1

        self.resting.add(arm)
        self._all_rest()

    def _close(self, arm: int, position: int) -> None:
        circuit = self.circuits[arm]
        circuit.level = 0
        circuit.probe = -1
        circuit.floor = position
        self.resting.discard(arm)
        self._all_rest()

    def _all_rest(self) -> None:
        rest = all(circuit.level or not circuit.present for circuit in self.circuits)
        if not rest:
            self.since = -1
        # from the moment at which the last arm began to rest
        elif self.since < 0:
            self.since = self.last

    # as arrays ------------------------------------------------------------------------------------

    def state_dict(self) -> State:
        """Every number, as arrays: one row an arm, and the outcomes that are remembered.

        -1 stands where there is no outcome.
        """
        n_arms = len(self.circuits)
        # As wide as the longest memory that the rule may need; -1 fills it up.
        wide = max(self.rule.window, self.rule.failures)
        outcomes = np.full((2, n_arms, wide), -1, dtype=np.int64)
        for k, circuit in enumerate(self.circuits):
            outcomes[0, k, : len(circuit.position)] = circuit.position
            outcomes[1, k, : len(circuit.outcome)] = circuit.outcome

        rows = [circuit.numbers() for circuit in self.circuits]
        circuits = np.array(rows, dtype=np.int64).reshape(n_arms, len(NUMBERS))
        return {
            "clock": np.array([self.clock, self.last, self.since], dtype=np.int64),
            "circuits": circuits,
            "outcomes": outcomes,
        }

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore, to the number."""
        self.clock, self.last, self.since = state["clock"].tolist()
        self.circuits = []
        for numbers in state["circuits"].tolist():
            row = dict(zip(NUMBERS, numbers, strict=True))
            self.circuits.append(_Circuit(**row))

        # Rows of outcomes are padded at the end: the positions tell where.
        positions, outcomes = state["outcomes"].tolist()
        for circuit, position, outcome in zip(self.circuits, positions, outcomes, strict=True):
            circuit.position = [place for place in position if place >= 0]
            circuit.outcome = outcome[: len(circuit.position)]

        self.resting = {k for k, circuit in enumerate(self.circuits) if circuit.level}
