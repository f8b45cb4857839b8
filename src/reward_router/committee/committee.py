"""Ask one arm, look at its margin, ask the next only where that is worth its price.

`Committee` is the public face: settings in, labelled margins to `fit`, then whole tables at once (`judge`) or one unit at a time
(`next`, `posterior`). What a fit learns is a `Plan`; whether it may play is a `Gate`; an arm that may only say no is a veto.
Leaves out: position bias (sides must be drawn at random) and text (it never sees any).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reward_router.committee.ask import Asker
from reward_router.committee.budget import PricePacer
from reward_router.committee.fit import Shape, fit_plan
from reward_router.committee.gate import RULES, Gate, best_single, nested_gate, signed_wins
from reward_router.committee.labelled import check_labels, check_margins, check_sides, encode, labelled_rows
from reward_router.committee.plan import Plan, paced_walk, walk
from reward_router.committee.state import plan_arrays, plan_from
from reward_router.committee.stop import sigmoid
from reward_router.errors import InputError
from reward_router.types import Float, Int, State

FEWEST_LABELS = 10
VETO_TRUST = (19.0, 1.0)
SURE = 1e-9


class Committee:
    """Sequential judge over K arms with calibrated verdicts, a stopping rule and a safety gate.

    ``costs`` (K,) is what one judgement of each arm costs, in any unit, all > 0 (calls: ones); ``price`` is the accuracy one unit of
    cost must buy (.01: one percentage point a call); ``max_calls`` caps the arms asked on one pair. ``gate`` is "lower95" (the
    best single arm plays until the committee's nested cross-validation is above it with one-sided 95 % confidence), "noninferior" (until it is
    above it at all, and less than a point below it with that confidence), "mean" (until it is above it at all) or "off".
    ``vetoes`` are arms (indices) that are always asked where they apply and can only refuse a side. With a ``budget`` (cost an
    item, vetoes not counted) the price is paced to spend it: `judge` takes its rows as a stream, `pacer` serves live decisions.

    Fit: O(P K^2) times the folds; a decision is one dot product; memory O(K^2). Figures: docs/committee.md.
    Errors: InputError on shapes, infinite margins, costs that are not positive, labels of one class.

    >>> rng = np.random.default_rng(0)
    >>> label = rng.random(300) < 0.5
    >>> margins = np.where(label, 1.0, -1.0)[:, None] + rng.normal(size=(300, 3)) * [1.0, 1.5, 4.0]
    >>> committee = Committee([1, 1, 1], gate="off").fit(margins, label)
    >>> committee.next({}), committee.next({0: 9.0}), committee.next({0: 0.01})
    (0, None, 1)
    """

    def __init__(
        self,
        costs: ArrayLike,
        price: float = 0.01,
        max_calls: int = 16,
        *,
        gate: str = "lower95",
        vetoes: Sequence[int] = (),
        budget: float | None = None,
        seed: int = 0,
    ) -> None:
        """Check the settings; nothing is fitted yet."""
        cost = np.asarray(costs, dtype=np.float64)
        if cost.ndim != 1 or cost.size == 0 or not (np.isfinite(cost) & (cost > 0)).all():
            raise InputError(f"costs must be one finite number > 0 an arm, got {np.round(cost, 6).tolist()}")
        if not price >= 0 or not np.isfinite(price) or max_calls < 1:
            raise InputError(f"price must be >= 0 and max_calls >= 1, got {price} and {max_calls}")
        if gate != "off" and gate not in RULES:
            raise InputError(f"gate must be one of {', '.join(RULES)}, off; got {gate!r}")
        if any(not 0 <= v < cost.size for v in vetoes) or len(set(vetoes)) >= cost.size:
            raise InputError(f"vetoes must be arms below {cost.size} and leave one arm to judge, got {list(vetoes)}")
        self.costs, self.price, self.max_calls, self.gate_rule, self.seed = (
            cost,
            float(price),
            int(max_calls),
            gate,
            seed,
        )
        if budget is not None and not (np.isfinite(budget) and budget > 0):
            raise InputError(f"budget must be a finite cost > 0 an item, got {budget}")
        self.vetoes, self.budget = tuple(sorted(set(vetoes))), budget
        self.voters = np.array([k for k in range(cost.size) if k not in self.vetoes])
        self.single = int(self.voters[0])
        self.gate: Gate | None = None
        self.free: Gate | None = None
        self.categories: tuple[str, ...] = ()
        self.veto_log_odds = np.full(len(self.vetoes), np.log(VETO_TRUST[0] / VETO_TRUST[1]))
        self._column = {int(arm): c for c, arm in enumerate(self.voters)}
        self._unit = float(cost[self.voters].mean())
        self._relative = cost[self.voters] / self._unit
        self._take_plan(None)

    def _take_plan(self, plan: Plan | None) -> None:
        self.plan = plan
        self._asker = None if plan is None else Asker(plan, self._relative)

    @property
    def n_arms(self) -> int:
        """K, vetoes included."""
        return int(self.costs.size)

    @property
    def playing(self) -> bool:
        """Whether the committee judges (true) or, gated, unfitted or without any arm better than a coin, its best single arm alone."""
        return (
            self.plan is not None
            and bool(self.plan.order_GT[0, 0] >= 0)
            and (self.gate_rule == "off" or (self.gate is not None and self.gate.open))
        )

    @property
    def order(self) -> tuple[int, ...]:
        """The arms in the order they are asked where no category says otherwise; vetoes first; one arm while gated."""
        if self.plan is None or not self.playing:
            return (*self.vetoes, self.single)
        return (*self.vetoes, *(int(self.voters[k]) for k in self.plan.order_GT[0] if k >= 0))

    def fit(
        self,
        margins_PK: ArrayLike,
        labels_P: ArrayLike,
        groups: ArrayLike | None = None,
        categories: Sequence[str] | None = None,
        *,
        weights: ArrayLike | None = None,
        random: ArrayLike | None = None,
        sources: Sequence[str] | None = None,
    ) -> Self:
        """Learn from P labelled pairs: margins (NaN missing), labels (true = a better), groups (rows of one prompt belong together).

        ``random`` (P,) marks labels drawn at random (default all): only those fit curves, temperatures, stopping and the gate;
        the others enter the moments by ``weights`` (inverse propensities). With fewer than 10 such labels nothing is
        fitted and the first arm plays. With two or more ``sources`` (the benchmark or task a row is from) signed weights are tried, and
        taken only where they win on sources left out: ``free`` then says so. InputError where every label names the same side.
        """
        margins = check_margins(margins_PK, self.n_arms)
        label = check_labels(labels_P, len(margins))
        check_sides(label)
        names = () if categories is None else tuple(sorted(set(map(str, categories))))
        category = encode(categories, names, len(label))
        data = labelled_rows(margins[:, self.voters], label, groups, category, weights, random)
        if data.random_P.sum() < FEWEST_LABELS:
            return self
        cost, price = self._relative, self.price * self._unit
        drawn = data.take(data.random_P)
        self.categories = names
        source = np.zeros(len(label), dtype=np.int64)
        if sources is not None:
            source = encode(sources, tuple(sorted(set(map(str, sources)))), len(label))
        self.single = int(self.voters[best_single(drawn.margins_PK, drawn.sign_P, cost, price)])
        self.free = signed_wins(data, source, cost, self.max_calls, price, self.seed)
        for signed in (True, False) if self.free is not None and self.free.open else (False,):
            self._take_plan(
                fit_plan(data, Shape(cost, min(self.max_calls, len(cost)), "signed" if signed else "safe"), self.seed)
            )
            if self.gate_rule != "off":
                self.gate = nested_gate(data, cost, self.max_calls, price, self.seed, self.gate_rule, signed)
            if self.playing:
                break
        self._fit_vetoes(margins[data.random_P], drawn.sign_P)
        return self

    def pacer(self) -> PricePacer:
        """A fresh pacer for live decisions: give its price to `next`, record what the unit cost (vetoes not counted).

        InputError without a fit or a budget, or where the budget does not pay for the first arm.
        """
        if self.plan is None or self.budget is None:
            raise InputError("pacing needs a budget and a fitted committee")
        return PricePacer(self.budget, self.plan.prices_L / self._unit, self.plan.cost_L * self._unit)

    def _fit_vetoes(self, margins_PK: Float, sign_P: Float) -> None:
        for i, arm in enumerate(self.vetoes):
            verdict = np.sign(np.nan_to_num(margins_PK[:, arm])) * sign_P
            right, wrong = VETO_TRUST[0] + (verdict > 0).sum(), VETO_TRUST[1] + (verdict < 0).sum()
            self.veto_log_odds[i] = max(float(np.log(right / wrong)), 0.0)

    def judge(
        self, margins_PK: ArrayLike, categories: Sequence[str] | None = None, price: float | None = None
    ) -> tuple[Float, Int, NDArray[np.bool_]]:
        """Judge P recorded pairs: P(a better), calls made, (P, K) which arms were asked. O(P T^2), T = max_calls.

        A pair the arms asked cannot tell apart gets exactly 1/2. A gated or unfitted committee asks its single arm only. An arm
        that is missing on a row was asked in vain and counts; a veto that does not apply (NaN) does not.
        """
        margins = check_margins(margins_PK, self.n_arms)
        asked, vote = np.zeros(margins.shape, dtype=bool), margins[:, self.voters]
        if self.plan is not None and self.playing:
            category = encode(categories, self.categories, len(margins))
            if price is None and self.budget is not None:
                cost = self.costs[self.voters]
                log_odds, asked[:, self.voters] = paced_walk(self.plan, vote, category, self.pacer(), cost, self._unit)
            else:
                at = (self.price if price is None else price) * self._unit
                log_odds, asked[:, self.voters] = walk(self.plan, vote, category, at)
        else:
            asked[:, self.single] = True
            log_odds = self._alone(vote)
        return self._after_vetoes(margins, log_odds, asked)

    def ungated(self, margins_PK: ArrayLike, categories: Sequence[str] | None = None) -> Float:
        """(P,) P(a better) of the fitted voters whatever the gate says; 1/2 before a fit."""
        margins = check_margins(margins_PK, self.n_arms)
        if self.plan is None:
            return np.full(len(margins), 0.5)
        category = encode(categories, self.categories, len(margins))
        return sigmoid(walk(self.plan, margins[:, self.voters], category, self.price * self._unit)[0])

    def _alone(self, vote_PK: Float) -> Float:
        column = self._column[self.single]
        verdict = np.sign(np.nan_to_num(vote_PK[:, column])) * SURE
        return verdict if self.plan is None else np.asarray(verdict + self.plan.calibrator.log_odds(vote_PK)[:, column])

    def _after_vetoes(
        self, margins_PK: Float, log_odds_P: Float, asked_PK: NDArray[np.bool_]
    ) -> tuple[Float, Int, NDArray[np.bool_]]:
        verdict_PV = margins_PK[:, list(self.vetoes)]
        refused_P = np.sign(np.nan_to_num(verdict_PV)) @ self.veto_log_odds
        asked_PK[refused_P != 0] = False
        asked_PK[:, list(self.vetoes)] = ~np.isnan(verdict_PV)
        return sigmoid(np.where(refused_P != 0, refused_P, log_odds_P)), asked_PK.sum(axis=1), asked_PK

    def next(self, asked: Mapping[int, float], category: str | None = None, price: float | None = None) -> int | None:
        """The arm to ask next given the margins of those asked (NaN: asked, no answer), or None to stop. O(asked).

        The arms asked need not follow `order`: a router may choose the first, the committee goes on from there.
        """
        for arm in self.vetoes:
            if arm not in asked:
                return arm
        votes = self._votes(asked)
        if self.refusal(asked) != 0:
            return None
        if self._asker is None or not self.playing:
            return None if votes else self.single
        at = (self.price if price is None else price) * self._unit
        column = self._asker.following(votes, self._row(category), at)
        return None if column is None else int(self.voters[column])

    def posterior(self, asked: Mapping[int, float], category: str | None = None) -> float:
        """P(a better) given the margins of the arms asked; 1/2 before any. O(asked)."""
        log_odds, votes = self.refusal(asked), self._votes(asked)
        if log_odds == 0 and votes:
            if self._asker is not None and self.playing:
                log_odds = self._asker.log_odds(votes, self._row(category))
            else:
                column = self._column[self.single]
                column = column if column in votes else next(iter(votes))
                margin = votes[column]
                log_odds = SURE * (float(margin > 0) - float(margin < 0))
                log_odds += 0.0 if self._asker is None else self._asker.verdict(column, margin)
        return float(sigmoid(np.array(log_odds)))

    def pair_log_odds(self, arm: int, margins: Float) -> Float:
        """Signed log-odds of one voter for margins of any shape; before a fit just the sign, an epsilon strong."""
        sign = SURE * np.sign(np.nan_to_num(margins))
        return sign if self.plan is None else np.asarray(sign + self.plan.calibrator.curve(self._column[arm], margins))

    def weights(self, arms: Sequence[int], category: str | None = None) -> dict[int, float]:
        """Weight of each asked voter's log-odds in the sum; gated or unfitted: the single arm's (else the first's) alone counts."""
        if self._asker is None or not self.playing:
            return {self.single if self.single in arms else arms[0]: 1.0} if arms else {}
        step = self._asker.step(frozenset(self._column[k] for k in arms), self._row(category))
        return {int(self.voters[c]): w for c, w in zip(step.arms, step.weights, strict=True)}

    def following(self, arms: Sequence[int], category: str | None = None) -> int | None:
        """Who would be asked after these voters if nothing stopped before; None where nobody adds."""
        if self._asker is None or not self.playing:
            return None if arms else self.single
        column = self._asker.step(frozenset(self._column[k] for k in arms), self._row(category)).following
        return None if column is None else int(self.voters[column])

    def bound(self, n_asked: int, price: float | None = None) -> float:
        """|log-odds| at which the answer stands after ``n_asked`` >= 1 voters; 0 for a gated or unfitted committee."""
        if self._asker is None or not self.playing:
            return 0.0
        return self._asker.bound(n_asked, (self.price if price is None else price) * self._unit)

    def _votes(self, asked: Mapping[int, float]) -> dict[int, float]:
        return {self._column[k]: m for k, m in asked.items() if k in self._column}

    def refusal(self, asked: Mapping[int, float]) -> float:
        """Log-odds the vetoes alone give: 0 where none of them refused, or they cancel."""
        margins = ((i, asked.get(arm, 0.0)) for i, arm in enumerate(self.vetoes))
        return float(sum(self.veto_log_odds[i] * ((m > 0) - (m < 0)) for i, m in margins))

    def _row(self, category: str | None) -> int:
        if category is None or self.plan is None or not self.plan.by_category or category not in self.categories:
            return 0
        return 1 + self.categories.index(category)

    def state_dict(self) -> State:
        """Everything learned, as arrays only; settings (costs, price, vetoes) belong to the constructor."""
        fixed: State = {
            "n_arms": np.array(self.n_arms),
            "single": np.array(self.single),
            "categories": np.array(self.categories, dtype=np.str_),
            "veto_log_odds": self.veto_log_odds.copy(),
            "gate": np.array([] if self.gate is None else self.gate.numbers()),
        }
        return fixed if self.plan is None else fixed | plan_arrays(self.plan)

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore bit for bit; InputError (and no change) where the number of arms or vetoes differs."""
        if int(state["n_arms"]) != self.n_arms or state["veto_log_odds"].shape != (len(self.vetoes),):
            raise InputError(
                f"state of {int(state['n_arms'])} arms, {len(state['veto_log_odds'])} vetoes does not fit {self.n_arms}, {len(self.vetoes)}"
            )
        plan = plan_from(state, len(self.voters))
        self.single, self.veto_log_odds = int(state["single"]), np.array(state["veto_log_odds"], dtype=np.float64)
        self.categories = tuple(map(str, state["categories"]))
        self.gate = Gate.of(state["gate"]) if len(state["gate"]) else None
        self._take_plan(plan)
