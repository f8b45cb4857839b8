"""How the responses of a prompt are judged, learned from and chosen among: by one routed arm, or by the committee.

Learning is one pass over the train prompts in keyed order, a batch at a time: route, judge, pay. Choosing is one step over
the test prompts with the router frozen and greedy; the committee then asks as it learned to and learns no more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reward_router import keyed
from reward_router.assemble import breaker_rule, build_committee, build_router
from reward_router.bestofn.book import ScoreBook
from reward_router.bestofn.rows import Item
from reward_router.config import Config, RouterConfig
from reward_router.data import Prompt
from reward_router.dispatch import Dispatcher
from reward_router.judging.committee import COMMITTEE, CommitteeJudge
from reward_router.judging.judge import Judge, Unit, Verdicts
from reward_router.ledger import Ledger
from reward_router.offline.prior import Prior
from reward_router.payoffs import QuantileScaler, gold_of_best, order_accuracy
from reward_router.payoffs.own import own_payoff
from reward_router.routers.greedy import Greedy
from reward_router.types import Decision, Float, Router

CHOOSE = 2**40  # the step of choosing: no step of learning has its number
NOT_ASKED = ("audit", "shared", "label", "compared")
"""Calls that are not the judging of a prompt: they are counted apart, or cost nothing."""

Loss = Callable[[Sequence[Prompt], Sequence[str]], list[float]]


@dataclass
class Chosen:
    """What came of choosing: per prompt the index of the best response, who judged, the scores, and the gold of that choice.

    ``gold_B`` counts the mean of the responses that share the best score; the index is drawn among them.
    """

    ids: list[str]
    arms: list[str]
    asked: list[list[str]]
    scores: list[Float]
    index: list[int]
    gold_B: Float
    calls: int
    responses: int

    @property
    def calls_per_response(self) -> float:
        """The unit of cost."""
        return self.calls / max(1, self.responses)


@dataclass
class Learned:
    """What learning took: payoffs given, calls made (of them for labels), responses judged."""

    payoffs: int = 0
    calls: int = 0
    labels: int = 0
    responses: int = 0
    shares: dict[str, int] = field(default_factory=dict)


class Way:
    """One router with its ledger and judge. ``committee``: it judges, and the router (if any) names the first arm."""

    def __init__(
        self,
        config: Config,
        names: Sequence[str],
        book: ScoreBook,
        costs: dict[str, float],
        dim: int,
        prior: Prior | None = None,
        *,
        committee: bool = False,
        loss: Loss | None = None,
        folder: Path | None = None,
    ) -> None:
        """``loss``: of responses under the policy, for ``neg_loss``. ``folder``: where the ledgers are kept, None: in memory."""
        self.config, self.names, self.loss, self.folder = config, list(names), loss, folder
        self.judge = Judge(book, costs, fallback=config.pool.fallback, seed=config.seed)
        self.committee = self._committee() if committee else None
        self.alone = committee and config.judge.first == "order"
        routed = RouterConfig(name="fixed", arm=COMMITTEE) if self.alone else config.router
        self.arms = [*self.names, COMMITTEE] if self.alone else self.names
        self.router: Router = build_router(routed, self.arms, dim, config.seed, prior)
        self._python = None if config.payoff.path is None else own_payoff(config.payoff.path)
        self._ledgers: list[Dispatcher] = []
        self._answers: dict[str, int] = {}  # by arm: how often it answered; -1: it failed and never answered

    def _committee(self) -> CommitteeJudge:
        prompt = RouterConfig(name="fixed", arm=COMMITTEE)  # every unit is a prompt with all of its responses
        config = self.config.model_copy(update={"router": prompt})
        return build_committee(config, self.judge, self.names, lambda items: items)

    # learning ----------------------------------------------------------------------------------------------------------

    def learn(self, items: Sequence[Item], context_BD: Float) -> Learned:
        """One pass: every train prompt is routed, judged and paid for once."""
        learned, size = Learned(), self.config.train.batch_prompts
        dispatcher = self._dispatcher(self.router, "train")
        order = keyed.rng(self.config.seed, "data", 0, "bestofn").permutation(len(items)).tolist()
        for t, start in enumerate(range(0, len(items), size)):
            rows = order[start : start + size]
            batch = [items[i] for i in rows]
            units, decisions, verdicts = self._judged(dispatcher, batch, context_BD[rows], t, True)
            self._pay(dispatcher, batch, decisions, verdicts, t, learned)
            asked = [call for call in verdicts.calls if call.status not in NOT_ASKED]
            learned.calls += len(asked)
            learned.labels += sum(call.status == "label" for call in verdicts.calls)
            learned.responses += sum(len(cols) for unit in units for _, cols in unit.cells)
        return learned

    def _pay(
        self,
        dispatcher: Dispatcher,
        batch: Sequence[Item],
        decisions: Sequence[Decision],
        verdicts: Verdicts,
        t: int,
        learned: Learned,
    ) -> None:
        name = self.config.payoff.name
        for u, (item, decision) in enumerate(zip(batch, decisions, strict=True)):
            learned.shares[decision.name] = learned.shares.get(decision.name, 0) + 1
            before = self._answers.get(decision.name, -1)
            self._answers[decision.name] = before if u in verdicts.failed else max(before, 0) + 1
            right = order_accuracy(verdicts.own[u][0], item.gold_N)
            if right is not None and u not in verdicts.failed:
                dispatcher.record_label(decision.unit, t, right, "gold order")  # for the report; no router reads it
        paid = [(d.id, v) for u, d in enumerate(decisions) if (v := self._payoff(batch, d, verdicts, u, t)) is not None]
        if self.config.payoff.kind.raw:
            dispatcher.feedback_raw_many(paid, source=name)
        else:
            dispatcher.feedback_many(paid, source=name)
        learned.payoffs += len(paid)

    def _payoff(self, batch: Sequence[Item], decision: Decision, verdicts: Verdicts, u: int, t: int) -> float | None:
        """The configured payoff of one decision, None where the arm failed or nothing is known."""
        item, config, own_N = batch[u], self.config.payoff, verdicts.own[u][0]
        if u in verdicts.failed or keyed.uniform(self.config.seed, "probe", t, decision.unit) >= config.fraction:
            return None
        if config.kind.needs_loss:
            return self._neg_loss(item, own_N)
        if self._python is not None:
            return self._python(_outcome(item, decision, own_N))
        if config.kind.is_gold:
            return order_accuracy(own_N, item.gold_N)
        return gold_of_best(spoken(own_N, item), item.gold_N)

    def _neg_loss(self, item: Item, own_N: Float) -> float | None:
        if self.loss is None or not np.isfinite(own_N).any():
            return None
        [loss] = self.loss([item.prompt], [item.responses[int(np.nanargmax(spoken(own_N, item)))]])
        return -loss

    # choosing ----------------------------------------------------------------------------------------------------------

    def choose(self, items: Sequence[Item], context_BD: Float) -> Chosen:
        """The best response to every test prompt, by the frozen router's greedy arm or the committee that has learned."""
        dead = [k for k, name in enumerate(self.arms) if self._answers.get(name, 0) < 0]
        dispatcher = self._dispatcher(Greedy(self.router, dead), "test")
        _, decisions, verdicts = self._judged(dispatcher, items, context_BD, CHOOSE, False)
        asked: dict[str, list[str]] = {d.id: [] for d in decisions}
        calls = [call for call in verdicts.calls if call.status not in NOT_ASKED]
        for call in calls:
            who = asked[call.decision_id or ""]
            if str(call.arm) not in who:
                who.append(str(call.arm))
        scores = [parts[0] for parts in verdicts.scores]
        return Chosen(
            [item.id for item in items],
            [d.name for d in decisions],
            [asked[d.id] for d in decisions],
            scores,
            [pick(score_N, item, self.config.seed) for score_N, item in zip(scores, items, strict=True)],
            gold_of_choices(scores, items),
            len(calls),
            sum(len(item.responses) for item in items),
        )

    def _judged(
        self, dispatcher: Dispatcher, batch: Sequence[Item], context_BD: Float, step: int, learn: bool
    ) -> tuple[list[Unit], list[Decision], Verdicts]:
        units = [Unit(item.id, ((b, tuple(range(len(item.responses)))),)) for b, item in enumerate(batch)]
        prompts, responses = [item.prompt for item in batch], [item.responses for item in batch]
        decisions = dispatcher.route(context_BD, [unit.id for unit in units], step)
        resting = self._resting(dispatcher)
        if self.committee is not None:
            verdicts = self.committee.judge(units, decisions, batch, responses, step, resting=resting, learn=learn)
        else:
            verdicts = self.judge.judge(units, decisions, prompts, responses, step, resting=resting)
        dispatcher.record_calls(verdicts.calls)
        for decision_id, arm, reason in verdicts.failures:
            dispatcher.record_failure(decision_id, arm, reason)
        return units, decisions, verdicts

    def _resting(self, dispatcher: Dispatcher) -> frozenset[str]:
        """Arms that failed lately and are asked by no decision but their own; none where all rest."""
        waits = dispatcher.resting
        if set(self.names) <= waits.keys():
            return frozenset()
        return frozenset(name for name, wait in waits.items() if wait > 0)

    def _dispatcher(self, router: Router, part: str) -> Dispatcher:
        """A ledger of its own for learning and for choosing: the second one's router is another."""
        payoff, config = self.config.payoff, self.config
        where: Path | str = ":memory:"
        if self.folder is not None:
            where = self.folder / f"{part}.sqlite"
            for old in self.folder.glob(f"{part}.sqlite*"):
                old.unlink()  # of an earlier call of this command: the same decisions are made again
        made = Dispatcher(
            router,
            self.arms,
            ledger=Ledger(where, durability=config.durability, contexts=config.contexts),
            seed=config.seed,
            scaler=QuantileScaler(payoff.low, payoff.high, payoff.history, payoff.window),
            hold_back=payoff.hold_back,
            breaker=breaker_rule(config.pool.breaker),
            fallback=list(dict.fromkeys([*([config.pool.fallback] if config.pool.fallback else []), *self.arms])),
        )
        self._ledgers.append(made)
        return made

    def close(self) -> None:
        """Close the ledgers."""
        for dispatcher in self._ledgers:
            dispatcher.close()


def spoken(score_N: Float, item: Item) -> Float:
    """The scores of the responses that may be chosen, NaN for others; all alike where the arm abstained from every one of them."""
    open_N = item.open_N
    known_N = open_N & np.isfinite(score_N)
    return np.where(known_N, score_N, np.nan) if known_N.any() else np.where(open_N, 0.0, np.nan)


def gold_of_choices(scores: Sequence[Float], items: Sequence[Item]) -> Float:
    """(B,) gold of the responses with the best score, their mean where several share it; NaN where gold is unknown."""
    found = [gold_of_best(spoken(score_N, item), item.gold_N) for score_N, item in zip(scores, items, strict=True)]
    return np.array([np.nan if value is None else value for value in found])


def pick(score_N: Float, item: Item, seed: int) -> int:
    """The index of the best response; drawn by key among those that share the best score, so that places do not count."""
    value_N = spoken(score_N, item)
    best = np.flatnonzero(value_N == np.nanmax(value_N))
    return int(best[int(keyed.uniform(seed, "order", 0, f"bestofn/{item.id}") * len(best))])


def _outcome(item: Item, decision: Decision, own_N: Float) -> Any:
    """What a ``python`` payoff receives in training, too."""
    from reward_router.loop import Outcome

    return Outcome(item.id, decision.id, scores=[own_N], golds=[item.gold_N], responses=[list(item.responses)])
