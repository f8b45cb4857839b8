"""The committee while it learns.

It votes before it knows anything, refits on a schedule as labels come, and never trusts what no
label confirmed. Its labels are a random sample of what it judges, so weights of either sign may
compete (`gate`); while they play, every label drawn at random also tests them (`watch`), and where
it speaks against them they are given up for good.

Before the first fit three arms vote: a keyed-random three, or with ``start="dawid_skene"`` the
three that agreement among unlabelled rows ranks first, until 40 labels or the audit at 20 throws
that guess away. From then on `Committee` decides (gated: its single arm).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reward_router import keyed
from reward_router.committee.budget import PricePacer
from reward_router.committee.committee import SURE, Committee
from reward_router.committee.dawid_skene import DawidSkene
from reward_router.committee.labels import GROWTH, SCHEDULE, LabelPolicy, LabelStore
from reward_router.committee.respond import PromptEvidence
from reward_router.committee.stop import sigmoid
from reward_router.committee.watch import FALSE_ALARM, PlanWatch
from reward_router.errors import InputError
from reward_router.types import Float, State

VOTERS = 3
UNLABELLED = 50
CONFIRMED_UNTIL = 40


@dataclass(frozen=True, slots=True)
class Refit:
    """One entry of the refit log."""

    step: int
    n_labels: int
    playing: bool
    single: int
    gain: float
    lower: float
    dawid_skene: str
    weights: str = "safe"
    fell_back: bool = False


class OnlineCommittee:
    """A `Committee` on a stream.

    It decides, says which decisions to label, and refits when enough labels came. Labels are the
    clock: refits after 10, 20, 30, 45, 65, 95, 140, 200, 300, 450 random labels scored by all arms,
    then each 1.5 times the last; each is logged in ``refits``. InputError on unknown starts and
    propensities.

    Args:
        committee: an unfitted committee, owned from here on.
        policy: which labels are drawn and scored by all arms.
        start: "vote" or "dawid_skene".

    >>> online = OnlineCommittee(Committee([1, 1, 1, 1]), LabelPolicy(share=0.5))
    >>> len(online.ballot("prompt-7", 0)), online.next({}, "prompt-7", 0) in range(4)
    (3, True)
    """

    def __init__(
        self, committee: Committee, policy: LabelPolicy | None = None, start: str = "vote"
    ) -> None:
        """Own the committee; nothing is labelled yet."""
        if start not in ("vote", "dawid_skene"):
            raise InputError(f"start must be 'vote' or 'dawid_skene', got {start!r}")

        self.committee = committee
        self.policy = policy or LabelPolicy()
        self.start = start
        self.store = LabelStore(committee.n_arms)
        self.guess = DawidSkene(len(committee.voters))
        self.watch = PlanWatch()
        self.unlabelled: list[Float] = []
        self.refits: list[Refit] = []
        self.extra_cost = 0.0
        self.dropped_labels = 0
        self._due = SCHEDULE[0]
        self._pacer: PricePacer | None = None
        self._spending: State = {
            "items": np.array(0),
            "spent": np.array(0.0),
            "bias": np.array(0.0),
        }

    @property
    def guessing(self) -> bool:
        """Whether the label-free ranking of arms is in use.

        It is where there are enough unlabelled rows and fewer than 40 labels, and no audit dropped
        it.
        """
        ready = self.start == "dawid_skene" and len(self.unlabelled) >= UNLABELLED
        return ready and self.guess.status != "dropped" and self.store.n_random < CONFIRMED_UNTIL

    @property
    def voting(self) -> bool:
        """Whether a fixed ballot judges instead of the committee."""
        return self.committee.plan is None or self.guessing

    def wants_unlabelled(self) -> bool:
        """Whether `add_unlabelled` still needs decisions scored by all arms."""
        return (
            self.start == "dawid_skene"
            and len(self.unlabelled) < UNLABELLED
            and self.store.n_random < CONFIRMED_UNTIL
        )

    def add_unlabelled(self, margins_K: ArrayLike) -> None:
        """One decision scored by all arms, no label; the 50th fits the label-free guess."""
        margins = np.asarray(margins_K, dtype=np.float64)
        vote_K = margins[self.committee.voters]
        self.unlabelled.append(vote_K)

        # fitted once, from the first rows that all arms scored
        if len(self.unlabelled) == UNLABELLED:
            rows_PK = np.array(self.unlabelled)
            self.guess.fit(rows_PK)

    def ballot(self, unit: str, step: int) -> tuple[int, ...]:
        """The arms that vote before the first fit.

        They are the vetoes, then three that are drawn by key or ranked by the guess.
        """
        voters = self.committee.voters
        size = self._ballot_size()
        if self.guessing:
            ranked = np.argsort(-self.guess.accuracy_K, kind="stable")
        else:
            draw = keyed.rng(self.policy.seed, "arm", step, unit)
            ranked = draw.permutation(len(voters))

        chosen = [int(k) for k in voters[ranked[:size]]]
        return (*self.committee.vetoes, *chosen)

    def _ballot_size(self) -> int:
        """Three, or as many as the cap and a budget allow."""
        committee = self.committee
        size = min(VOTERS, committee.max_calls)
        if committee.budget is None:
            return size
        affordable = int(committee.budget / committee.costs[committee.voters].mean())
        return max(1, min(size, affordable))

    def next(
        self,
        asked: Mapping[int, float],
        unit: str,
        step: int,
        category: str | None = None,
        price: float | None = None,
    ) -> int | None:
        """The arm to ask next, or None: the ballot's while voting, else the committee's."""
        if not self.voting:
            return self.committee.next(asked, category, price)

        waiting = [arm for arm in self.ballot(unit, step) if arm not in asked]
        return waiting[0] if waiting else None

    def panel(
        self,
        n_responses: int,
        unit: str,
        step: int,
        category: str | None = None,
        *,
        first: int | None = None,
        quorum: float = 0.5,
    ) -> PromptEvidence:
        """Judge N responses instead of a pair.

        While voting these are the ballot's votes, else the committee's at the present price.
        """
        if not self.voting:
            return PromptEvidence(
                self.committee, n_responses, category, price=self.price, first=first, quorum=quorum
            )

        votes = self._votes()
        ballot = self.ballot(unit, step)
        return PromptEvidence(
            self.committee, n_responses, first=first, quorum=quorum, ballot=ballot, votes=votes
        )

    def posterior(self, asked: Mapping[int, float], category: str | None = None) -> float:
        """P(a better); while voting it is the weighted vote."""
        if not self.voting:
            return self.committee.posterior(asked, category)

        # A veto that refuses overrules every vote.
        refusal = self.committee.refusal(asked)
        weight_of = self._votes()
        total = 0.0
        for arm, margin in asked.items():
            if arm in weight_of:
                side = float(np.sign(np.nan_to_num(margin)))
                total += weight_of[arm] * side

        log_odds = np.array(refusal if refusal else total)
        return float(sigmoid(log_odds))

    @property
    def certainty(self) -> float:
        """P(right) that a pair must have where an error is promised.

        It is 1/2 without a promise, and 1 while none can be kept.
        """
        if self.committee.max_error is None:
            return 0.5

        promise = self.committee.promise
        if promise is None or not promise.kept or self.voting:
            return 1.0

        return float(sigmoid(np.array(promise.threshold - SURE)))

    def abstains(self, prob_P: ArrayLike) -> NDArray[np.bool_]:
        """Which of these P(a better), of any shape, are too unsure for the promise.

        All of them are while nothing can be promised.
        """
        prob = np.asarray(prob_P, dtype=np.float64)
        return np.asarray(np.maximum(prob, 1 - prob) < self.certainty)

    def _votes(self) -> dict[int, float]:
        """Weight of each voter's side, by arm."""
        weights = self._vote_weights()
        return dict(zip(self.committee.voters.tolist(), weights.tolist(), strict=True))

    def _vote_weights(self) -> Float:
        """The guess's, or for all arms those of half a pseudo-label better than a coin."""
        if self.guessing:
            return self.guess.weights_K
        return np.full(len(self.committee.voters), float(np.log(0.55 / 0.45)))

    @property
    def price(self) -> float | None:
        """The paced price for the next decision.

        None where there is no budget or nothing is fitted; then the committee's own holds.
        """
        return None if self._pacer is None else self._pacer.price

    def record(self, cost: float) -> None:
        """Count what one decision cost (vetoes left out).

        A budget is kept from the first decision on.
        """
        if self._pacer is not None:
            self._pacer.record(cost)
            self._spending = self._pacer.state_dict()
        else:
            items = int(self._spending["items"]) + 1
            spent = float(self._spending["spent"]) + cost
            self._spending = {
                "items": np.array(items),
                "spent": np.array(spent),
                "bias": np.array(0.0),
            }

    def _pace(self) -> None:
        if self.committee.budget is not None and self.committee.plan is not None:
            self._pacer = self.committee.pacer()
            self._pacer.load_state_dict(self._spending)

    def rest_cost(self, asked: Sequence[int]) -> float:
        """What asking all arms costs beyond those asked."""
        rest = [k for k in range(self.committee.n_arms) if k not in asked]
        return float(self.committee.costs[rest].sum())

    def scores_unlabelled(self, asked: Sequence[int]) -> bool:
        """Whether a decision without a label is scored by the remaining arms too.

        That serves the label-free start; what it costs is counted.
        """
        cost = self.rest_cost(asked)
        within_budget = self.extra_cost + cost <= self.policy.extra_cost
        wanted = self.wants_unlabelled() and within_budget
        # Counted when it is decided: the caller is about to ask.
        if wanted:
            self.extra_cost += cost
        return wanted

    def scores_all(
        self, asked: Sequence[int], unit: str, step: int, label_cost: float = 0.0
    ) -> bool:
        """Whether a labelled decision is scored by the remaining arms too.

        What that and the label cost is counted.
        """
        cost = self.rest_cost(asked) + label_cost
        n_random = self.store.n_random
        wanted = self.policy.scores_all(unit, step, n_random, self.extra_cost, cost)
        # Counted when it is decided: the caller is about to ask.
        if wanted:
            self.extra_cost += cost
        return wanted

    def add_label(  # noqa: PLR0913 - all that is known of one label
        self,
        margins_K: ArrayLike,
        label: bool,
        group: str,
        step: int,
        category: str = "",
        *,
        source: str = "random",
        propensity: float | None = None,
    ) -> Refit | None:
        """One label with the margins of all K arms; refits when due and returns the log entry.

        ``source`` "random" (drawn by `LabelPolicy.draws`) teaches everything; any other enters the
        moments by 1 / ``propensity``, or, where that is None, not at all (counted in
        ``dropped_labels``). A random label also tests signed weights; where they fail, an entry
        says so.
        """
        random = source == "random"
        # without a propensity the label may be of any selection: it teaches nothing
        if not random and propensity is None:
            self.dropped_labels += 1
            return None

        # Tested before the label is learned: a plan must not be tested on what it was fitted on.
        weight = 1.0 if random else float(propensity or 0.0)
        advantage = self.committee.advantage(margins_K, label, category or None) if random else None
        self.store.add(margins_K, label, group, category, random, weight)
        fell_back = advantage is not None and self.watch.tell(advantage)
        if fell_back:
            self.committee.fall_back()

        if self.store.n_random >= self._due:
            return self._refit(step, fell_back)

        return self._entry(step, fell_back) if fell_back else None

    def _refit(self, step: int, fell_back: bool = False) -> Refit | None:
        n = self.store.n_random
        # The first labels also say whether the label-free guess was worth anything.
        guessed = self.start == "dawid_skene" and len(self.unlabelled) >= UNLABELLED
        if guessed and self.guess.status != "dropped":
            drawn = np.array(self.store.random)
            rows = np.array(self.store.margins)[drawn][:, self.committee.voters]
            self.guess.audit(rows, np.array(self.store.labels)[drawn])

        if not self.store.fit(self.committee):
            return None

        # a fit has a new curve of costs; what was spent is kept
        self._pace()
        self.watch.start()
        # beyond the schedule the gaps go on growing
        later = [size for size in SCHEDULE if size > n]
        self._due = later[0] if later else int(np.ceil(n * GROWTH))

        return self._entry(step, fell_back)

    def _entry(self, step: int, fell_back: bool) -> Refit:
        """Log where the committee stands."""
        committee = self.committee
        gate = committee.gate
        entry = Refit(
            step=step,
            n_labels=self.store.n_random,
            playing=committee.playing,
            single=committee.single,
            gain=gate.gain if gate else float("nan"),
            lower=gate.lower if gate else float("nan"),
            dawid_skene=self.guess.status,
            weights="safe" if committee.plan is None else committee.plan.weights,
            fell_back=fell_back,
        )
        self.refits.append(entry)

        return entry

    @property
    def summary(self) -> dict[str, Any]:
        """The committee's own summary, and the test of its signed weights by later labels.

        The test is told by its labels, its wealth and its alarm.
        """
        watch = {
            "labels": self.watch.labels,
            "wealth": self.watch.largest,
            "false_alarm": FALSE_ALARM,
            "fell_back": self.committee.barred,
        }

        return self.committee.summary | {"watch": watch}

    def state_dict(self) -> State:
        """Everything learned and counted, as arrays; the refit log is not part of it."""
        state: State = {}
        # Each part under a prefix of its own, so that their names cannot meet.
        parts = {
            "committee": self.committee.state_dict(),
            "store": self.store.state_dict(),
            "guess": self.guess.state_dict(),
        }
        for part, arrays in parts.items():
            for name, array in arrays.items():
                state[f"{part}.{name}"] = array

        n_voters = len(self.committee.voters)
        # Reshaped because an empty list would lose the number of voters.
        state["unlabelled"] = np.array(self.unlabelled).reshape(-1, n_voters)
        for name, amount in self._spending.items():
            state[f"spending.{name}"] = amount
        state["watch"] = self.watch.numbers()
        state["counts"] = np.array([self.extra_cost, self.dropped_labels, self._due])
        return state

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore bit for bit."""
        self.committee.load_state_dict(_part(state, "committee."))
        self.store.load_state_dict(_part(state, "store."))
        self.guess.load_state_dict(_part(state, "guess."))
        self.unlabelled = list(np.array(state["unlabelled"]))
        self._spending = _part(state, "spending.")
        if "watch" in state:
            self.watch.load(state["watch"])

        self._pace()
        cost, dropped, due = state["counts"].tolist()
        self.extra_cost = float(cost)
        self.dropped_labels = int(dropped)
        self._due = int(due)


def _part(state: Mapping[str, NDArray[Any]], prefix: str) -> State:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
