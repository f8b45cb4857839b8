"""Ask one arm, look at its margin, ask the next only where that is worth its price.

`Committee` is the public face: settings in, labelled margins to `fit`, then whole tables at once
(`judge`) or one unit at a time (`next`, `posterior`). What a fit learns is a `CommitteePlan`;
whether it may play is a `GateVerdict`; an arm that may only say no is a veto. Leaves out: position
bias (sides must be drawn at random) and text (it never sees any).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reward_router.committee.ask import StageReader
from reward_router.committee.budget import PricePacer
from reward_router.committee.fit import WEIGHTS, fit_plan
from reward_router.committee.gate import (
    GATE_RULES,
    CommitteeChoice,
    GateVerdict,
    chosen_weights,
    signed_wins,
)
from reward_router.committee.labelled import (
    LabelledRows,
    check_labels,
    check_margins,
    check_sides,
    encode,
    labelled_rows,
)
from reward_router.committee.plan import CommitteePlan, paced_walk, walk
from reward_router.committee.promise import Promise, promised, set_aside
from reward_router.committee.state import plan_arrays, plan_from
from reward_router.committee.stop import sigmoid
from reward_router.committee.trial import Setting, best_single, signed_credit
from reward_router.errors import InputError
from reward_router.types import Float, Int, State

FEWEST_LABELS = 10
FEWEST_PROMPTS = 5
"""Whole prompts are held out, twice over: fewer leave nothing to learn from."""
PRICE = 0.0125
VETO_TRUST = (19.0, 1.0)  # right and wrong refusals that a veto is credited with before any label
SURE = 1e-9  # log-odds of a verdict without any evidence of how good it is: its side alone


class Committee:
    """Sequential judge over K arms with calibrated verdicts, a stopping rule and a safety gate.

    Args:
        costs: (K,) what one judgement of each arm costs, in any unit, all > 0 (calls: ones).
        price: accuracy that one unit of cost must buy (.0125: one and a quarter percentage points a
            call). Where weights are chosen on the stream and fall more than half a point behind the
            mean or the vote of all arms, a third or a 25th of it is taken.
        max_calls: most arms asked on one pair.
        gate: when the committee may judge in place of the best single arm, by its gain over it in
            nested cross-validation. "auto": the gain's one-sided lower bound is above 0 while there
            are fewer than 100 labels, from there on the gain is. "lower95": the bound is above 0.
            "noninferior": the gain is above 0 and the bound above -1 point. "mean": the gain is
            above 0. "off": always.
        weights: "safe": no arm may count against its own verdict. "signed": it may. "mean": all
            alike; "vote": log-odds of accuracies. "auto": `fit` chooses among the four where its
            labels are a random sample of the stream that is judged (``origin="stream"``), else it
            is "safe", since weights of either sign fit how a benchmark was built and lose
            elsewhere.
        max_error: a promise in place of the price: arms are asked until P(wrong) is at most this,
            pairs that stay unsure are abstained on, and 2 of 5 labels certify it (`promise`). In
            (0, .5).
        vetoes: arms (indices) that are always asked where they apply and can only refuse a side.
        budget: cost an item (vetoes not counted) that the price is paced to spend: `judge` takes
            its rows as a stream, `pacer` serves live decisions.
        seed: of the folds inside the final fit; neither the gate nor the choice of weights depends
            on it.

    Fit: O(P K^2) times the folds; a decision is one dot product; memory O(K^2). Figures:
    docs/committee.md. Errors: InputError on shapes, infinite margins, costs that are not positive,
    labels of one class.

    >>> rng = np.random.default_rng(0)
    >>> label = rng.random(300) < 0.5
    >>> margins = np.where(label, 1.0, -1.0)[:, None] + rng.normal(size=(300, 3)) * [1.0, 1.5, 4.0]
    >>> committee = Committee([1, 1, 1], gate="off").fit(margins, label)
    >>> committee.next({}), committee.next({0: 9.0}), committee.next({0: 0.01})
    (0, None, 1)
    """

    def __init__(  # noqa: PLR0913 - the signature is public
        self,
        costs: ArrayLike,
        price: float = PRICE,
        max_calls: int = 16,
        *,
        gate: str = "auto",
        weights: str = "auto",
        max_error: float | None = None,
        vetoes: Sequence[int] = (),
        budget: float | None = None,
        seed: int = 0,
    ) -> None:
        """Check the settings; nothing is fitted yet."""
        cost = np.asarray(costs, dtype=np.float64)
        if cost.ndim != 1 or cost.size == 0 or not (np.isfinite(cost) & (cost > 0)).all():
            raise InputError(
                f"costs must be one finite number > 0 an arm, got {np.round(cost, 6).tolist()}"
            )
        if not price >= 0 or not np.isfinite(price) or max_calls < 1:
            raise InputError(f"price must be >= 0 and max_calls >= 1, got {price} and {max_calls}")
        if gate != "off" and gate not in GATE_RULES:
            raise InputError(f"gate must be one of {', '.join(GATE_RULES)}, off; got {gate!r}")
        if weights != "auto" and weights not in WEIGHTS:
            raise InputError(f"weights must be one of auto, {', '.join(WEIGHTS)}; got {weights!r}")
        if max_error is not None and not 0 < max_error < 0.5:
            raise InputError(
                f"max_error must be above 0 and below 0.5, the error of a coin; got {max_error}"
            )
        if max_error is not None and budget is not None:
            raise InputError(
                "max_error asks until it is sure, whatever that costs: "
                "give it or a budget, not both"
            )
        if any(not 0 <= v < cost.size for v in vetoes) or len(set(vetoes)) >= cost.size:
            raise InputError(
                f"vetoes must be arms below {cost.size} and leave one arm to judge, "
                f"got {list(vetoes)}"
            )

        self.costs = cost
        self.price = float(price)
        self.max_calls = int(max_calls)
        self.asked_price = self.price
        self.gate_rule = gate
        self.weights_rule = weights
        self.max_error = max_error
        self.seed = seed
        if budget is not None and not (np.isfinite(budget) and budget > 0):
            raise InputError(f"budget must be a finite cost > 0 an item, got {budget}")

        self.vetoes = tuple(sorted(set(vetoes)))
        self.budget = budget
        self.voters = np.array([k for k in range(cost.size) if k not in self.vetoes])
        self.single = int(self.voters[0])
        self.gate: GateVerdict | None = None
        self.free: GateVerdict | None = None
        self.choice: CommitteeChoice | None = None
        self.promise: Promise | None = None
        self.fallback: CommitteePlan | None = None
        self.barred = False
        self.categories: tuple[str, ...] = ()
        self.veto_log_odds = np.full(len(self.vetoes), np.log(VETO_TRUST[0] / VETO_TRUST[1]))
        self._column = {int(arm): c for c, arm in enumerate(self.voters)}
        self._unit = float(cost[self.voters].mean())
        self._relative = cost[self.voters] / self._unit
        self._take_plan(None)

    def _take_plan(self, plan: CommitteePlan | None) -> None:
        self.plan = plan
        self._asker = None if plan is None else StageReader(plan, self._relative)

    @property
    def n_arms(self) -> int:
        """K, vetoes included."""
        return int(self.costs.size)

    @property
    def playing(self) -> bool:
        """Whether the committee judges (true) or its best single arm alone.

        The single arm judges while the committee is gated or unfitted, and where no arm is better
        than a coin.
        """
        if self.plan is None or self.plan.order_GT[0, 0] < 0:
            return False
        if self.gate_rule == "off" or self.promise is not None:
            return True
        return self.gate is not None and self.gate.open

    @property
    def summary(self) -> dict[str, Any]:
        """What the last fit found, JSON-ready.

        It holds the weights, the gain over the best single arm out of fold and its lower bound,
        what every gate says to that, every candidate's figures, and ``promise`` where there is a
        max_error. Empty before a fit, and where nothing was compared.
        """
        figures = {} if self.choice is None else self.choice.summary(self.gate_rule)
        if self.promise is None:
            return figures
        return figures | {"promise": self.promise.summary()}

    @property
    def order(self) -> tuple[int, ...]:
        """The arms in the order they are asked where no category says otherwise.

        Vetoes come first; while gated there is one arm beside them.
        """
        if self.plan is None or not self.playing:
            return (*self.vetoes, self.single)
        # Row 0 is the order without a category; -1 fills it up behind its end.
        columns = self.plan.order_GT[0]
        asked = [int(self.voters[k]) for k in columns if k >= 0]
        return (*self.vetoes, *asked)

    def fit(  # noqa: PLR0913 - the signature is public
        self,
        margins_PK: ArrayLike,
        labels_P: ArrayLike,
        groups: ArrayLike | None = None,
        categories: Sequence[str] | None = None,
        *,
        weights: ArrayLike | None = None,
        random: ArrayLike | None = None,
        sources: Sequence[str] | None = None,
        origin: str = "other",
    ) -> Self:
        """Learn from P labelled pairs.

        With fewer than 10 labels drawn at random, or of fewer than 5 groups, nothing is fitted and
        the first arm plays. InputError where every label names the same side.

        Args:
            margins_PK: (P, K) score margins of the pairs; NaN where an arm is missing.
            labels_P: (P,) whether a is the better response.
            groups: (P,) rows of one group belong together, such as those of one prompt; None: every
                row is a group.
            categories: (P,) category of each pair; None: there are none.
            weights: (P,) inverse propensities, by which labels that were not drawn at random enter
                the moments.
            random: (P,) whether a label was drawn at random; None: all were. Only those fit curves,
                temperatures, stopping and the gate.
            sources: (P,) benchmark or task that a row is from. With two or more, signed weights are
                tried, and taken only where they win on sources left out: ``free`` then says so.
            origin: "stream" where the labels are a random sample of the pairs that will be judged;
                "other" where what was learned is carried elsewhere.
        """
        if origin not in ("stream", "other"):
            raise InputError(f"origin must be stream or other, got {origin!r}")

        margins = check_margins(margins_PK, self.n_arms)
        label = check_labels(labels_P, len(margins))
        check_sides(label)
        names = () if categories is None else _names(categories)
        category = encode(categories, names, len(label))
        data = labelled_rows(margins[:, self.voters], label, groups, category, weights, random)
        # too few to compare anything: the first arm goes on alone
        prompts = len(np.unique(data.group_P[data.random_P]))
        if data.random_P.sum() < FEWEST_LABELS or prompts < FEWEST_PROMPTS:
            return self

        drawn = data.take(data.random_P)
        setting = Setting(self._relative, self.max_calls, self.asked_price * self._unit)
        self.categories = names
        source = np.zeros(len(label), dtype=np.int64)
        if sources is not None:
            source = encode(sources, _names(sources), len(label))

        # Found before the plan: it is what the gate compares with, and what plays while it is shut.
        best = best_single(drawn.margins_PK, drawn.sign_P, setting.cost_K, setting.price)
        self.single = int(self.voters[best])
        # only labels from elsewhere need the test on sources left out
        carried = self.weights_rule == "auto" and origin == "other"
        self.free = signed_wins(data, source, setting, self.seed) if carried else None

        for candidates in self._candidates(origin):
            self._fit_one_of(candidates, data, setting)
            if self.playing:
                break

        # Vetoes only refuse: they are no part of the plan and are counted beside it.
        self._fit_vetoes(margins[data.random_P], drawn.sign_P)
        return self

    def _candidates(self, origin: str) -> list[tuple[str, ...]]:
        """Weights that may compete.

        Where the first of several lists does not come to play, the next is tried.
        """
        if self.weights_rule != "auto":
            return [(self.weights_rule,)]
        if origin == "stream":
            # Signed weights that were taken away do not compete again.
            allowed = [name for name in WEIGHTS if not (self.barred and name == "signed")]
            return [tuple(allowed)]

        # Labels of other sets: signed weights only where they won on sources left out.
        may_be_signed = self.free is not None and self.free.open
        return [("signed",), ("safe",)] if may_be_signed else [("safe",)]

    def _fit_one_of(
        self, candidates: tuple[str, ...], data: LabelledRows, setting: Setting
    ) -> None:
        """Choose among the candidates out of fold, and fit the chosen one on everything.

        A plan without signed weights is kept beside it.
        """
        # nested cross-validation is dear, and is left out where nothing depends on it
        compared = len(candidates) > 1 or self.gate_rule != "off"
        # a budget or a promise says by itself how many arms are asked
        floor = len(candidates) > 1 and self.budget is None and self.max_error is None
        self.choice = chosen_weights(data, candidates, setting, floor) if compared else None
        if self.choice is None:
            weights = candidates[0]
            self.price = self.asked_price
            self.gate = None
        else:
            weights = self.choice.weights
            self.price = self.asked_price * self.choice.discount
            self.gate = self.choice.gate(self.gate_rule)

        # a promise is certified on rows that the plan was not fitted on
        fitted, held = (data, None) if self.max_error is None else set_aside(data, self.seed)
        plan = fit_plan(fitted, setting.shape(weights), self.seed)
        self.promise = None
        if held is not None and self.max_error is not None:
            plan, self.promise = promised(plan, held, self.max_error)

        # signed weights are given up where later labels speak against them
        self.fallback = None
        if weights == "signed" and "safe" in candidates:
            self.fallback = fit_plan(fitted, setting.shape("safe"), self.seed)

        self._take_plan(plan)

    def advantage(
        self, margins_K: ArrayLike, label: bool, category: str | None = None
    ) -> float | None:
        """right(the plan) - right(the plan without signed weights) on one pair, in [-1, 1].

        None where there is no second plan.
        """
        if self.plan is None or self.fallback is None or not self.playing:
            return None

        # Both plans walk the same row at the same price, so only their weights make a difference.
        row_1K = np.asarray(margins_K, dtype=np.float64)[None]
        margins = check_margins(row_1K, self.n_arms)[:, self.voters]
        code = encode(None if category is None else [category], self.categories, 1)
        price = self.price * self._unit
        ours, _ = walk(self.plan, margins, code, price)
        theirs, _ = walk(self.fallback, margins, code, price)

        sign = np.where([label], 1.0, -1.0)
        our_credit = signed_credit(ours, sign)[0]
        their_credit = signed_credit(theirs, sign)[0]
        return float(our_credit - their_credit)

    def fall_back(self) -> None:
        """Judge without signed weights from now on, in every later fit as well."""
        self.barred = True
        if self.fallback is not None and self.choice is not None:
            self.choice = replace(self.choice, weights="safe")
            self.gate = self.choice.gate(self.gate_rule)
            self._take_plan(self.fallback)
        self.fallback = None

    def abstains(self, prob_P: ArrayLike) -> NDArray[np.bool_]:
        """Which of these P(a better), of any shape, are too unsure for the promise.

        Without a max_error these are the ones that are exactly 1/2.
        """
        # Clipped, so that a probability of exactly 0 or 1 has finite log-odds.
        prob = np.clip(np.asarray(prob_P, dtype=np.float64), 1e-15, 1 - 1e-15)
        log_odds = np.log(prob / (1 - prob))
        sure = np.abs(log_odds)
        if self.max_error is None:
            return np.asarray(sure == 0)

        # Without labels nothing can be promised, so nothing is answered.
        threshold = float("inf") if self.promise is None else self.promise.threshold
        # a pair that meets the threshold up to rounding is answered
        needed = threshold * (1 - 1e-12) - SURE
        return np.asarray(sure < needed)

    def pacer(self) -> PricePacer:
        """A fresh pacer for live decisions.

        Give its price to `next`, and record what the unit cost (vetoes not counted). InputError
        without a fit or a budget, or where the budget does not pay for the first arm.
        """
        if self.plan is None or self.budget is None:
            raise InputError("pacing needs a budget and a fitted committee")
        # the plan's prices and costs are in units of the mean arm
        prices_L = self.plan.prices_L / self._unit
        cost_L = self.plan.cost_L * self._unit
        return PricePacer(self.budget, prices_L, cost_L)

    def _fit_vetoes(self, margins_PK: Float, sign_P: Float) -> None:
        for i, arm in enumerate(self.vetoes):
            side_P = np.sign(np.nan_to_num(margins_PK[:, arm]))
            verdict_P = side_P * sign_P
            # Counts start from a little trust, so that a veto without labels already speaks.
            right = VETO_TRUST[0] + (verdict_P > 0).sum()
            wrong = VETO_TRUST[1] + (verdict_P < 0).sum()
            log_odds = float(np.log(right / wrong))
            # a veto that is wrong more often than right is ignored, not turned round
            self.veto_log_odds[i] = max(log_odds, 0.0)

    def judge(
        self,
        margins_PK: ArrayLike,
        categories: Sequence[str] | None = None,
        price: float | None = None,
    ) -> tuple[Float, Int, NDArray[np.bool_]]:
        """Judge P recorded pairs: P(a better), calls made, (P, K) which arms were asked.

        A pair that the arms asked cannot tell apart gets exactly 1/2. A gated or unfitted committee
        asks its single arm only. An arm that is missing on a row was asked in vain and counts; a
        veto that does not apply (NaN) does not. O(P T^2), T = max_calls.
        """
        margins = check_margins(margins_PK, self.n_arms)
        asked = np.zeros(margins.shape, dtype=bool)
        vote = margins[:, self.voters]
        if self.plan is None or not self.playing:
            asked[:, self.single] = True
            log_odds = self._alone(vote)
            return self._after_vetoes(margins, log_odds, asked)

        category = encode(categories, self.categories, len(margins))
        if price is None and self.budget is not None:
            # A budget is a price that moves from row to row.
            cost = self.costs[self.voters]
            log_odds, asked[:, self.voters] = paced_walk(
                self.plan, vote, category, self.pacer(), cost, self._unit
            )
        else:
            given = self.price if price is None else price
            unit_price = given * self._unit
            log_odds, asked[:, self.voters] = walk(self.plan, vote, category, unit_price)
        return self._after_vetoes(margins, log_odds, asked)

    def ungated(self, margins_PK: ArrayLike, categories: Sequence[str] | None = None) -> Float:
        """(P,) P(a better) of the fitted voters whatever the gate says; 1/2 before a fit."""
        margins = check_margins(margins_PK, self.n_arms)
        n_rows = len(margins)
        if self.plan is None:
            return np.full(n_rows, 0.5)

        category = encode(categories, self.categories, n_rows)
        voter_margins = margins[:, self.voters]
        price = self.price * self._unit
        log_odds, _ = walk(self.plan, voter_margins, category, price)
        return sigmoid(log_odds)

    def _alone(self, vote_PK: Float) -> Float:
        # the single arm is a voter, never a veto
        column = self._column[self.single]
        verdict = np.sign(np.nan_to_num(vote_PK[:, column])) * SURE
        if self.plan is None:
            return verdict

        log_odds_PK = self.plan.calibrator.log_odds(vote_PK)
        return np.asarray(verdict + log_odds_PK[:, column])

    def _after_vetoes(
        self, margins_PK: Float, log_odds_P: Float, asked_PK: NDArray[np.bool_]
    ) -> tuple[Float, Int, NDArray[np.bool_]]:
        """Pairs that a veto refused are decided by the vetoes alone, and cost nothing else."""
        vetoes = list(self.vetoes)
        verdict_PV = margins_PK[:, vetoes]
        # vetoes on both sides may cancel; then the voters decide
        refused_P = np.sign(np.nan_to_num(verdict_PV)) @ self.veto_log_odds
        # A veto is asked first: on a refused pair nobody else was called.
        asked_PK[refused_P != 0] = False
        asked_PK[:, vetoes] = ~np.isnan(verdict_PV)
        prob_P = sigmoid(np.where(refused_P != 0, refused_P, log_odds_P))

        return prob_P, asked_PK.sum(axis=1), asked_PK

    def next(
        self, asked: Mapping[int, float], category: str | None = None, price: float | None = None
    ) -> int | None:
        """The arm to ask next, or None to stop. O(asked).

        ``asked`` holds the margins of the arms asked so far; NaN: asked, no answer. The arms asked
        need not follow `order`: a router may choose the first, the committee goes on from there.
        """
        for arm in self.vetoes:
            if arm not in asked:
                return arm

        votes = self._votes(asked)
        # a refused pair is decided, and no voter is paid for it
        if self.refusal(asked) != 0:
            return None
        if self._asker is None or not self.playing:
            return None if votes else self.single

        unit_price = (self.price if price is None else price) * self._unit
        column = self._asker.following(votes, self._row(category), unit_price)
        return None if column is None else int(self.voters[column])

    def posterior(self, asked: Mapping[int, float], category: str | None = None) -> float:
        """P(a better) given the margins of the arms asked; 1/2 before any. O(asked)."""
        log_odds = self.refusal(asked)
        votes = self._votes(asked)
        # A veto that refused has the last word: votes count where none did.
        if log_odds == 0 and votes:
            if self._asker is not None and self.playing:
                log_odds = self._asker.log_odds(votes, self._row(category))
            else:
                log_odds = self._single_log_odds(votes)

        return float(sigmoid(np.array(log_odds)))

    def _single_log_odds(self, votes: Mapping[int, float]) -> float:
        """Log-odds of the single arm, or of the first arm asked where that one was not."""
        column = self._column[self.single]
        # A router may have drawn another arm first; then that one is all there is.
        column = column if column in votes else next(iter(votes))
        margin = votes[column]
        log_odds = SURE * (float(margin > 0) - float(margin < 0))
        if self._asker is None:
            return log_odds

        return log_odds + self._asker.verdict(column, margin)

    def pair_log_odds(self, arm: int, margins: Float) -> Float:
        """Signed log-odds of one voter for margins of any shape.

        Before a fit it is the sign alone, SURE strong.
        """
        # So small that any calibrated evidence outweighs it; it only breaks exact ties.
        sign = SURE * np.sign(np.nan_to_num(margins))
        if self.plan is None:
            return sign

        log_odds = self.plan.calibrator.curve(self._column[arm], margins)
        return np.asarray(sign + log_odds)

    def weights(self, arms: Sequence[int], category: str | None = None) -> dict[int, float]:
        """Weight of each asked voter's log-odds in the sum.

        While gated or unfitted the single arm alone counts, or the first where it was not asked.
        """
        if self._asker is None or not self.playing:
            if not arms:
                return {}
            counts = self.single if self.single in arms else arms[0]
            return {counts: 1.0}

        columns = frozenset(self._column[k] for k in arms)
        step = self._asker.step(columns, self._row(category))
        weight_of = {}
        for column, weight in zip(step.arms, step.weights, strict=True):
            weight_of[int(self.voters[column])] = weight
        return weight_of

    def following(self, arms: Sequence[int], category: str | None = None) -> int | None:
        """Who would be asked after these voters if nothing stopped before; None: nobody adds."""
        if self._asker is None or not self.playing:
            return None if arms else self.single

        # The plan numbers voters by column; arms outside of it are vetoes.
        columns = frozenset(self._column[k] for k in arms)
        step = self._asker.step(columns, self._row(category))
        if step.following is None:
            return None
        return int(self.voters[step.following])

    def bound(self, n_asked: int, price: float | None = None) -> float:
        """|log-odds| at which the answer stands after ``n_asked`` >= 1 voters.

        It is 0 for a gated or unfitted committee.
        """
        if self._asker is None or not self.playing:
            return 0.0

        call_price = self.price if price is None else price
        return self._asker.bound(n_asked, call_price * self._unit)

    def _votes(self, asked: Mapping[int, float]) -> dict[int, float]:
        return {self._column[k]: m for k, m in asked.items() if k in self._column}

    def refusal(self, asked: Mapping[int, float]) -> float:
        """Log-odds the vetoes alone give: 0 where none of them refused, or they cancel."""
        total = 0.0
        for trust, arm in zip(self.veto_log_odds, self.vetoes, strict=True):
            margin = asked.get(arm, 0.0)
            # 1 for a, -1 for b, and 0 where the veto has nothing against either, NaN included.
            side = (margin > 0) - (margin < 0)
            total += trust * side
        return float(total)

    def _row(self, category: str | None) -> int:
        """The plan's row for a category; 0 is the row for everybody."""
        if category is None or category not in self.categories:
            return 0
        if self.plan is None or not self.plan.by_category:
            return 0
        return 1 + self.categories.index(category)

    def state_dict(self) -> State:
        """Everything learned, as arrays only.

        Settings (costs, price, vetoes) belong to the constructor.
        """
        fixed: State = {
            "n_arms": np.array(self.n_arms),
            "single": np.array(self.single),
            "categories": np.array(self.categories, dtype=np.str_),
            "veto_log_odds": self.veto_log_odds.copy(),
            "gate": np.array([] if self.gate is None else self.gate.numbers()),
            "barred": np.array(self.barred),
            "promise": np.array([] if self.promise is None else self.promise.numbers()),
        }
        if self.choice is not None:
            fixed |= self.choice.state()

        if self.fallback is not None:
            arrays = plan_arrays(self.fallback)
            fixed |= {f"fallback.{name}": value for name, value in arrays.items()}

        return fixed if self.plan is None else fixed | plan_arrays(self.plan)

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore bit for bit; InputError (and no change) where the state does not fit.

        Its numbers of arms and vetoes must be these.
        """
        # Everything that may not fit is read before anything is changed.
        n_arms = int(state["n_arms"])
        veto_shape = state["veto_log_odds"].shape
        if n_arms != self.n_arms or veto_shape != (len(self.vetoes),):
            raise InputError(
                f"state of {n_arms} arms, {len(state['veto_log_odds'])} vetoes "
                f"does not fit {self.n_arms}, {len(self.vetoes)}"
            )
        plan = plan_from(state, len(self.voters))
        prefix = "fallback."
        second = {}
        for name, value in state.items():
            if name.startswith(prefix):
                second[name.removeprefix(prefix)] = value

        self.single = int(state["single"])
        self.veto_log_odds = np.array(state["veto_log_odds"], dtype=np.float64)
        self.categories = tuple(map(str, state["categories"]))
        self.gate = GateVerdict.of(state["gate"]) if len(state["gate"]) else None
        # States of earlier versions have neither a promise nor a bar.
        self.promise = Promise.of(state["promise"]) if len(state.get("promise", ())) else None
        self.barred = bool(state.get("barred", False))
        self.choice = CommitteeChoice.of(state)
        self.fallback = plan_from(second, len(self.voters))

        # A discount that the gate chose holds until the next fit.
        discount = 1.0 if self.choice is None else self.choice.discount
        self.price = self.asked_price * discount
        self._take_plan(plan)


def _names(labels: Sequence[str]) -> tuple[str, ...]:
    """The names that occur, in order."""
    return tuple(sorted(set(map(str, labels))))
