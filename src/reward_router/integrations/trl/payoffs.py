"""When a decision gets its payoff: at once, by an audit, by a later loss, by the next evaluation,
or from user code.

Decisions that wait are held by id only, so that a checkpoint can keep them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reward_router import keyed
from reward_router.errors import InputError
from reward_router.kinds import PAYOFFS
from reward_router.outcomes import Outcome, PayoffRule
from reward_router.payoffs import order_accuracy
from reward_router.rewards.pool import RewardPool
from reward_router.session import Session
from reward_router.types import Float, RewardModel
from reward_router.verdicts.batch import Batch

LATER = ("lagged_loss", "eval_gain", "audit", "user")
"""Payoffs of a trainer's reward function beside those of the table that need gold or are functions.
"""
PayoffSource = str | Callable[[Outcome], float | None] | None


class Payoffs:
    """Gives the decisions of a session their payoffs.

    Args:
        source: ``lagged_loss``: minus the loss that the trainer logged next; ``eval_gain``: how
            much a metric rose from one evaluation to the next; ``audit``: the share of response
            pairs that the arm orders as ``auditor`` does; ``user``: none but those that user code
            gives; a payoff of the table that needs gold; a function of an ``Outcome``; None: the
            session's own.
        auditor: a reward model that is no arm of the router.
        share: the share of groups that are audited, drawn by key.
    """

    def __init__(
        self, source: PayoffSource, auditor: RewardModel | None = None, share: float = 1.0
    ) -> None:
        """InputError for an unknown payoff, or an audit without an auditor."""
        if isinstance(source, str) and source not in LATER:
            kind = PAYOFFS[source]
            if kind.needs_loss:
                raise InputError(
                    f"payoff={source!r} needs the losses of pairs, which TRL does not give; "
                    f"allowed {', '.join(LATER)}, probe, verifier, or a function of an Outcome"
                )
        if (source == "audit") != (auditor is not None):
            raise InputError("payoff='audit' and audit= belong together: give both or neither")
        if not 0.0 < share <= 1.0:
            raise InputError(f"audit_share={share}; allowed above 0 and up to 1")
        self.source, self.share = source, share
        self._auditor = None if auditor is None else RewardPool({}, models={"audit": auditor})
        self.waiting: list[tuple[int, list[str]]] = []
        self.last_gain: float | None = None

    def bind(self, session: Session) -> None:
        """Take the session's own payoff where none was given."""
        if self.source is None:
            kind = session.payoff.kind
            if kind.needs_loss and session.payoff.name != "neg_loss":
                raise InputError(
                    f"payoff.name: {session.payoff.name} needs the losses of pairs, which TRL does "
                    f"not give; give payoff= one of {', '.join(LATER)}, probe or verifier"
                )
            self.source = "lagged_loss" if kind.needs_loss else session.payoff.name
        elif self.source not in LATER:
            session.payoff = PayoffRule.of(self.source)

    @property
    def needs_gold(self) -> bool:
        """Whether nothing can be learned without gold."""
        known = isinstance(self.source, str) and self.source not in (*LATER, "python")
        return known and PAYOFFS[str(self.source)].needs_gold

    def judged(self, session: Session, batch: Batch, global_step: int) -> dict[str, float]:
        """A batch was judged: pay it now or let its decisions wait. Returns what was paid."""
        if self.source == "user":
            return {}
        if self.source in ("lagged_loss", "eval_gain"):
            ids = session.gather([decision.id for decision in batch.decisions])
            self.waiting.append((global_step, ids))
            return {}
        if self.source == "audit":
            return self._audit(session, batch)
        return session.learn(batch)

    def logged(self, session: Session, history: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """The trainer logged: decisions of steps that its newest loss covers are paid minus that
        loss.
        """
        losses = [entry for entry in history if "loss" in entry]
        if self.source != "lagged_loss" or not losses or not self.waiting:
            return {}
        newest = losses[-1]
        covered = [ids for step, ids in self.waiting if step < newest["step"]]
        self.waiting = [entry for entry in self.waiting if entry[0] >= newest["step"]]
        return self._pay_raw(session, covered, -float(newest["loss"]))

    def evaluated(self, session: Session, value: float) -> dict[str, float]:
        """An evaluation measured ``value``: what waits since the one before is paid the gain."""
        before, self.last_gain = self.last_gain, float(value)
        waiting = [ids for _, ids in self.waiting]
        self.waiting = []
        if before is None:
            return {}
        return self._pay_raw(session, waiting, self.last_gain - before)

    def _pay_raw(
        self, session: Session, groups: Sequence[list[str]], value: float
    ) -> dict[str, float]:
        value = session.gather([value])[0]  # the first process's, to the last bit
        if not math.isfinite(value):
            return {}
        payoffs = {decision_id: value for ids in groups for decision_id in ids}
        session.dispatcher.feedback_raw_many(list(payoffs.items()), source=str(self.source))
        return payoffs

    def _audit(self, session: Session, batch: Batch) -> dict[str, float]:
        """The auditor orders a share of the groups; the drawn arm is paid for agreeing with it."""
        seed = session.dispatcher.seed
        drawn = []
        for u, name in enumerate(batch.ids):
            if keyed.uniform(seed, "audit", batch.step, name) < self.share:
                drawn.append(u)
        mine = []
        for u, score_N in zip(drawn, self._audited(batch, drawn), strict=True):
            [own_N] = batch.verdicts.own[u]
            payoff = order_accuracy(own_N, score_N)
            if payoff is not None and u not in batch.verdicts.failed:
                mine.append((batch.decisions[u].id, payoff))
        payoffs = session.gather(mine)
        session.dispatcher.feedback_many(payoffs, source="audit")
        return dict(payoffs)

    def _audited(self, batch: Batch, drawn: Sequence[int]) -> list[Float]:
        if not drawn or self._auditor is None:
            return []
        responses = [list(batch.responses[u]) for u in drawn]
        result = self._auditor.score("audit", [batch.prompts[u] for u in drawn], responses)
        lengths = [len(group) for group in responses]
        return [row[:n] for row, n in zip(result.scores_BN, lengths, strict=True)]
