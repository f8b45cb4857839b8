"""How responses are judged, learned from and chosen among: by a routed arm, or by the committee.

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
from reward_router.chat import Prompt
from reward_router.config import Config, RouterConfig
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
    """What came of choosing among the responses to B prompts.

    Args:
        ids: the prompts' ids.
        arms: by prompt, who decided.
        asked: by prompt, the arms whose scores were asked for.
        scores: by prompt, (N,) the scores that decided.
        index: by prompt, the best response, drawn among those that share the best score.
        gold_B: (B,) the gold of the choice, the mean of those that share the best score.
        calls: how many scores were asked for.
        responses: how many responses there were.
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
class LearningCost:
    """What learning took: payoffs given, calls made (of them for labels), responses judged."""

    payoffs: int = 0
    calls: int = 0
    labels: int = 0
    responses: int = 0
    shares: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Means:
    """What every way of judging works with.

    Args:
        names: the arms.
        costs: by arm, the price of a call.
        book: the arms' scores.
        dim: the features of a context.
        prior: what the router knows of the arms beforehand.
        loss: the loss of responses under the policy, for ``neg_loss``.
    """

    names: Sequence[str]
    costs: dict[str, float]
    book: ScoreBook
    dim: int
    prior: Prior | None = None
    loss: Loss | None = None


class Way:
    """One router with its ledger, and what judges: the router's arm, or a committee."""

    def __init__(
        self,
        config: Config,
        means: Means,
        *,
        committee: bool = False,
        folder: Path | None = None,
    ) -> None:
        """Builds the router and what judges; nothing is scored yet.

        Args:
            config: the whole configuration, with the seed of this run.
            means: the arms and what they need.
            committee: whether a committee judges; the router, if any, then names its first arm.
            folder: where the ledgers are kept; None: in memory.
        """
        self.config = config
        self.names = list(means.names)
        self.loss = means.loss
        self.folder = folder
        self.book = means.book
        self.asker = Asker(means.book, means.costs, fallback=config.pool.fallback)
        self.asker.seed = config.seed
        self.committee = self._committee() if committee else None
        self.mode: VerdictMode = self.committee or SingleArm(self.asker)
        if committee and config.judge.first == "order":
            # The committee decides alone, and nobody asks this router.
            self.router: Router = Uniform(len(self.names))
        else:
            self.router = build_router(
                config.router, self.names, means.dim, config.seed, means.prior
            )
        self._python_payoff = None
        # Imported once and here, so that a wrong path is an error before anything is scored.
        if config.payoff.kind.needs_path:
            self._python_payoff = own_payoff(config.payoff.path or "")
        self._items: dict[str, Item] = {}
        self._sessions: list[Session] = []
        # By arm, how often it answered while learning; -1: it was asked and never said anything.
        self._answers: dict[str, int] = {}

    def _committee(self) -> CommitteeOfArms:
        # A router of whole prompts: every unit is a prompt with all of its responses.
        config = self.config.model_copy(update={"router": RouterConfig(name="uniform")})
        return build_committee(config, self.asker, self.names, list)

    # learning

    def learn(self, items: Sequence[Item], context_BD: Float) -> LearningCost:
        """One pass: every train prompt is routed, judged and paid for once."""
        learned = LearningCost()
        size = self.config.train.batch_prompts
        session = self._session(self.router, "train")

        # By key: the same seed visits the same prompts in the same order in every way of judging.
        draw = keyed.rng(self.config.seed, "data", 0, "bestofn")
        order = draw.permutation(len(items)).tolist()
        for step, start in enumerate(range(0, len(items), size)):
            rows = order[start : start + size]
            unjudged = self._batch([items[row] for row in rows], context_BD[rows], step)
            batch = session.judge(unjudged)
            payoffs = session.learn(batch)

            learned.payoffs += len(payoffs)
            self._count(batch, learned)
        return learned

    def _count(self, batch: Batch, learned: LearningCost) -> None:
        """What judging this batch took, and which arms answered."""
        verdicts = batch.verdicts
        for unit, decision in enumerate(batch.decisions):
            name = decided_by(decision)
            learned.shares[name] = learned.shares.get(name, 0) + 1
            # -1 until its first answer: an arm that never said anything is not chosen at test time.
            answers_before = self._answers.get(name, -1)
            if unit in verdicts.failed or (unit, 0) in verdicts.abstained:
                self._answers[name] = answers_before
            else:
                self._answers[name] = max(answers_before, 0) + 1

        statuses = [call.status for call in batch.verdicts.calls]
        learned.calls += sum(status not in NOT_ASKED for status in statuses)
        learned.labels += statuses.count("label")
        learned.responses += sum(len(group) for group in batch.responses)

    def _payoff(self, outcome: Outcome) -> float | None:
        """The configured payoff of one decision, None where nothing is known."""
        item = self._items[outcome.unit]
        [score_N] = outcome.scores
        if self.config.payoff.kind.needs_loss:
            return self._neg_loss(item, score_N)
        if self._python_payoff is not None:
            return self._python_payoff(outcome)
        if self.config.payoff.kind.is_gold:
            return order_accuracy(score_N, item.gold_N)
        return gold_of_best(spoken(score_N, item), item.gold_N)

    def _neg_loss(self, item: Item, score_N: Float) -> float | None:
        nothing_said = not np.isfinite(score_N).any()
        if self.loss is None or nothing_said:
            return None
        best = int(np.nanargmax(spoken(score_N, item)))
        [loss] = self.loss([item.prompt], [item.responses[best]])
        return -loss

    # choosing

    def choose(self, items: Sequence[Item], context_BD: Float) -> Chosen:
        """The best response to every test prompt.

        The frozen router's greedy arm judges, or the committee that has learned.
        """
        dead = [k for k, name in enumerate(self.names) if self._answers.get(name, 0) < 0]
        session = self._session(Greedy(self.router, dead), "test")
        batch = self._batch(items, context_BD, CHOOSE)
        batch.learn = False
        # With `learn` off a committee asks as it learned to, and draws no labels.
        verdicts = session.judge(batch).verdicts

        arms_by_decision: dict[str, list[str]] = {decision.id: [] for decision in batch.decisions}
        calls = [call for call in verdicts.calls if call.status not in NOT_ASKED]
        for call in calls:
            arms = arms_by_decision[call.decision_id or ""]
            if str(call.arm) not in arms:
                arms.append(str(call.arm))

        # A unit is one prompt, so its scores have one part.
        scores = [parts[0] for parts in verdicts.scores]
        index = []
        for score_N, item in zip(scores, items, strict=True):
            index.append(pick(score_N, item, self.config.seed))
        return Chosen(
            ids=[item.id for item in items],
            arms=[decided_by(decision) for decision in batch.decisions],
            asked=[arms_by_decision[decision.id] for decision in batch.decisions],
            scores=scores,
            index=index,
            gold_B=gold_of_choices(scores, items),
            calls=len(calls),
            responses=sum(len(item.responses) for item in items),
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
        config = self.config
        path: Path | str = ":memory:"
        if self.folder is not None:
            path = self.folder / f"{part}.sqlite"
            # An earlier call of this command left one: the same decisions are made again.
            for old in self.folder.glob(f"{part}.sqlite*"):
                old.unlink()
        ledger = Ledger(path, durability=config.durability, contexts=config.contexts)
        dispatcher = bound_dispatcher(config, router, self.names, ledger)
        payoff = PayoffRule(
            config.payoff.name, self._payoff, fraction=config.payoff.fraction, seed=config.seed
        )
        payoff.raw = config.payoff.kind.raw
        session = Session(dispatcher, self.book, None, payoff, self.mode)
        self._sessions.append(session)
        return session

    def close(self) -> None:
        """Close the ledgers."""
        for session in self._sessions:
            session.dispatcher.close()


def decided_by(decision: Decision) -> str:
    """The arm that was drawn, or who decided where none was."""
    return decision.name or str(decision.by)


def spoken(score_N: Float, item: Item) -> Float:
    """(N,) the scores of the responses that may be chosen, NaN for the others.

    All of them are alike where the arm abstained from every one.
    """
    open_N = item.open_N
    is_scored_N = open_N & np.isfinite(score_N)
    if is_scored_N.any():
        return np.where(is_scored_N, score_N, np.nan)
    # Nothing said: any response that may be chosen is as good as another.
    return np.where(open_N, 0.0, np.nan)


def gold_of_choices(scores: Sequence[Float], items: Sequence[Item]) -> Float:
    """(B,) gold of the responses with the best score, their mean where several share it.

    NaN where gold is unknown.
    """
    golds = []
    for score_N, item in zip(scores, items, strict=True):
        open_score_N = spoken(score_N, item)
        gold = gold_of_best(open_score_N, item.gold_N)
        golds.append(np.nan if gold is None else gold)
    return np.array(golds)


def pick(score_N: Float, item: Item, seed: int) -> int:
    """The index of the best response.

    It is drawn by key among those that share the best score, so that places do not count.
    """
    open_score_N = spoken(score_N, item)
    highest = np.nanmax(open_score_N)
    best = np.flatnonzero(open_score_N == highest)

    # Drawn and not the first one: places would count where many responses tie.
    draw = keyed.uniform(seed, "order", 0, f"bestofn/{item.id}")
    place = int(draw * len(best))
    return int(best[place])
