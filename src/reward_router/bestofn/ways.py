"""How the responses of a prompt are judged, learned from and chosen among: by one routed arm, or by the committee.

Learning is one pass over the train prompts in keyed order, a batch at a time: route, judge, pay.
Choosing is one step over the test prompts with the router frozen and greedy; the committee then
asks as it learned to and learns no more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from reward_router import keyed
from reward_router.assemble import bound_dispatcher, build_committee, build_router
from reward_router.bestofn.book import ScoreBook
from reward_router.bestofn.rows import Item
from reward_router.config import Config, RouterConfig
from reward_router.data import Prompt
from reward_router.ledger import Ledger
from reward_router.offline.prior import Prior
from reward_router.outcomes import Outcome, PayoffRule
from reward_router.payoffs import gold_of_best, order_accuracy
from reward_router.payoffs.own import own_payoff
from reward_router.routers import Uniform
from reward_router.routers.greedy import Greedy
from reward_router.session import Session
from reward_router.types import Decision, Float, Router
from reward_router.verdicts.asking import Asker
from reward_router.verdicts.batch import Batch, VerdictMode
from reward_router.verdicts.committee import CommitteeOfArms
from reward_router.verdicts.single import SingleArm

CHOOSE = 2**40  # the step of choosing: no step of learning has its number
NOT_ASKED = ("audit", "shared", "label", "compared")
"""Calls that are not the judging of a prompt: they are counted apart, or cost nothing."""

Loss = Callable[[Sequence[Prompt], Sequence[str]], list[float]]


@dataclass
class Chosen:
    """What came of choosing: per prompt the index of the best response, who judged, the scores, and the gold of that choice.

    ``gold_B`` counts the mean of the responses that share the best score; the index is drawn among
    them.
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
        self.book, self.asker = book, Asker(book, costs, fallback=config.pool.fallback)
        self.asker.seed = config.seed
        self.committee = self._committee() if committee else None
        self.mode: VerdictMode = self.committee or SingleArm(self.asker)
        alone = committee and config.judge.first == "order"
        self.router: Router = Uniform(
            len(self.names)
        )  # never asked where the committee decides alone
        if not alone:
            self.router = build_router(config.router, self.names, dim, config.seed, prior)
        self._python = (
            own_payoff(config.payoff.path or "") if config.payoff.kind.needs_path else None
        )
        self._items: dict[str, Item] = {}
        self._sessions: list[Session] = []
        self._answers: dict[
            str, int
        ] = {}  # by arm: how often it answered; -1: it failed and never answered

    def _committee(self) -> CommitteeOfArms:
        prompt = RouterConfig(name="uniform")  # every unit is a prompt with all of its responses
        config = self.config.model_copy(update={"router": prompt})
        return build_committee(config, self.asker, self.names, list)

    # learning ----------------------------------------------------------------------------------------------------------

    def learn(self, items: Sequence[Item], context_BD: Float) -> Learned:
        """One pass: every train prompt is routed, judged and paid for once."""
        learned, size = Learned(), self.config.train.batch_prompts
        session = self._session(self.router, "train")
        order = keyed.rng(self.config.seed, "data", 0, "bestofn").permutation(len(items)).tolist()
        for t, start in enumerate(range(0, len(items), size)):
            rows = order[start : start + size]
            batch = session.judge(self._batch([items[i] for i in rows], context_BD[rows], t))
            learned.payoffs += len(session.learn(batch))
            self._count(batch, learned)
        return learned

    def _count(self, batch: Batch, learned: Learned) -> None:
        """What judging this batch took, and which arms answered."""
        for u, decision in enumerate(batch.decisions):
            name = decided_by(decision)
            learned.shares[name] = learned.shares.get(name, 0) + 1
            before = self._answers.get(name, -1)
            failed = u in batch.verdicts.failed
            self._answers[name] = before if failed else max(before, 0) + 1
        statuses = [call.status for call in batch.verdicts.calls]
        learned.calls += sum(status not in NOT_ASKED for status in statuses)
        learned.labels += statuses.count("label")
        learned.responses += sum(len(group) for group in batch.responses)

    def _payoff(self, outcome: Outcome) -> float | None:
        """The configured payoff of one decision, None where nothing is known."""
        item, [own_N] = self._items[outcome.unit], outcome.scores
        if self.config.payoff.kind.needs_loss:
            return self._neg_loss(item, own_N)
        if self._python is not None:
            return self._python(outcome)
        if self.config.payoff.kind.is_gold:
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
        dead = [k for k, name in enumerate(self.names) if self._answers.get(name, 0) < 0]
        session = self._session(Greedy(self.router, dead), "test")
        batch = self._batch(items, context_BD, CHOOSE)
        batch.learn = False
        verdicts = session.judge(batch).verdicts
        asked: dict[str, list[str]] = {d.id: [] for d in batch.decisions}
        calls = [call for call in verdicts.calls if call.status not in NOT_ASKED]
        for call in calls:
            who = asked[call.decision_id or ""]
            if str(call.arm) not in who:
                who.append(str(call.arm))
        scores = [parts[0] for parts in verdicts.scores]
        return Chosen(
            [item.id for item in items],
            [decided_by(d) for d in batch.decisions],
            [asked[d.id] for d in batch.decisions],
            scores,
            [
                pick(score_N, item, self.config.seed)
                for score_N, item in zip(scores, items, strict=True)
            ],
            gold_of_choices(scores, items),
            len(calls),
            sum(len(item.responses) for item in items),
        )

    def _batch(self, items: Sequence[Item], context_BD: Float, step: int) -> Batch:
        """These prompts with all of their responses, each a unit."""
        self._items |= {item.id: item for item in items}
        return Batch(
            step=step,
            prompts=[item.prompt for item in items],
            ids=[item.id for item in items],
            responses=[item.responses for item in items],
            gold=[item.gold_N for item in items],
            categories=[item.category for item in items],
            contexts=context_BD,
        )

    def _session(self, router: Router, part: str) -> Session:
        """A ledger of its own for learning and for choosing: the second one's router is another."""
        config, name = self.config, self.config.payoff.name
        where: Path | str = ":memory:"
        if self.folder is not None:
            where = self.folder / f"{part}.sqlite"
            for old in self.folder.glob(f"{part}.sqlite*"):
                old.unlink()  # of an earlier call of this command: the same decisions are made again
        ledger = Ledger(where, durability=config.durability, contexts=config.contexts)
        dispatcher = bound_dispatcher(config, router, self.names, ledger)
        payoff = PayoffRule(name, self._payoff, fraction=config.payoff.fraction, seed=config.seed)
        payoff.raw = config.payoff.kind.raw
        made = Session(dispatcher, self.book, None, payoff, self.mode)
        self._sessions.append(made)
        return made

    def close(self) -> None:
        """Close the ledgers."""
        for session in self._sessions:
            session.dispatcher.close()


def decided_by(decision: Decision) -> str:
    """The arm that was drawn, or who decided where none was."""
    return decision.name or str(decision.by)


def spoken(score_N: Float, item: Item) -> Float:
    """The scores of the responses that may be chosen, NaN for others; all alike where the arm abstained from every one of them."""
    open_N = item.open_N
    known_N = open_N & np.isfinite(score_N)
    return np.where(known_N, score_N, np.nan) if known_N.any() else np.where(open_N, 0.0, np.nan)


def gold_of_choices(scores: Sequence[Float], items: Sequence[Item]) -> Float:
    """(B,) gold of the responses with the best score, their mean where several share it; NaN where gold is unknown."""
    found = [
        gold_of_best(spoken(score_N, item), item.gold_N)
        for score_N, item in zip(scores, items, strict=True)
    ]
    return np.array([np.nan if value is None else value for value in found])


def pick(score_N: Float, item: Item, seed: int) -> int:
    """The index of the best response; drawn by key among those that share the best score, so that places do not count."""
    value_N = spoken(score_N, item)
    best = np.flatnonzero(value_N == np.nanmax(value_N))
    return int(best[int(keyed.uniform(seed, "order", 0, f"bestofn/{item.id}") * len(best))])
