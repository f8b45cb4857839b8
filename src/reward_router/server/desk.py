"""What the server does, without HTTP: it judges, routes, scores and pays on one `Session`.

Many threads may ask at once. Decisions, calls and payoffs are written by the dispatcher under its
own lock; arms are asked outside of it, so that a slow arm holds up nobody else. Where no arm ever
waits for anything (``at_once``), a request keeps the lock from its first write to its last, and all
of them reach the file in one commit.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from reward_router.chat import Prompt
from reward_router.dispatch.inputs import decision_key, key_of
from reward_router.errors import InputError, LedgerError
from reward_router.ledger.rows import Decided
from reward_router.server.answers import Answer, Answers, restored
from reward_router.server.asked import Asked
from reward_router.server.refusal import Refused, told
from reward_router.session import Judgement, Session
from reward_router.strict_json import finite
from reward_router.types import Decision, Float
from reward_router.verdicts.batch import Batch
from reward_router.verdicts.single import SingleArm

log = logging.getLogger(__name__)


class Desk:
    """Answers requests; every answer is in the ledger before it is given.

    Args:
        session: routes prompts, one arm a prompt.
        at_once: whether nothing that a request does has to be waited for, so that requests may be
            answered one after the other.
    """

    def __init__(self, session: Session, at_once: bool = False) -> None:
        """Read the arms' scales from the ledger, so that the first request need not."""
        if not isinstance(session.mode, SingleArm):
            raise InputError("server: its session judges by one arm a prompt (verdicts='single')")
        self.session = session
        self.at_once = at_once
        self.asker = session.mode.asker
        self.ledger = session.dispatcher.ledger
        self.answers = Answers(self.ledger, one_commit=self.one_commit)
        self._began_after = self.ledger.last_seq
        self._unanswered: set[str | None] = set()
        self._encoding = threading.Lock()
        session.scale.calibrated("", np.zeros(0))

    @contextmanager
    def together(self) -> Iterator[None]:
        """What the block writes reaches the file in one commit at its end; others wait for it."""
        generation = self.ledger.generation
        try:
            with told(), self.ledger.together():
                yield
        finally:
            if self.ledger.generation != generation:  # the commit failed: scales know too much
                self.session.reread()

    @contextmanager
    def one_commit(self) -> Iterator[None]:
        """``together`` where nothing in the block has to be waited for, else nothing."""
        if not self.at_once:
            yield
            return
        with self.together():
            yield

    # judging --------------------------------------------------------------------------------------

    def judge(self, asked: Asked) -> Answer:
        """Route every prompt, have its responses judged, and record both."""
        return self.answers.once("judge", asked.request_id, asked.body, lambda: self._judge(asked))

    def _judge(self, asked: Asked) -> Answer:
        batch = asked.batch()
        rows = self.route_batch(batch, is_new=asked.request_id is None)
        is_old = bool(rows) and self._may_have_calls(rows, asked.request_id)
        was_judged = is_old and restored(batch, self.ledger, rows)
        if was_judged:
            with self.ledger.lock, told():
                judgements = self.session.judgements(batch)
        else:
            self.ask(batch)
            judgements = self.record(batch)
            self._unanswered.add(asked.request_id)
        payoffs = self.learn(batch, was_judged)
        self._unanswered.discard(asked.request_id)

        verdicts = []
        for name, judgement in zip(asked.ids, judgements, strict=True):
            payoff = payoffs.get(judgement.decision_id)
            verdicts.append(_verdict(name, judgement, payoff))
        return {"request_id": asked.request_id, "verdicts": verdicts}

    def _may_have_calls(self, rows: Sequence[Decided], request_id: str | None) -> bool:
        """Whether these decisions may have been judged, although no answer is kept."""
        before_the_start = rows[0].seq <= self._began_after
        return before_the_start or self.answers.forgot or request_id in self._unanswered

    def encoded(self, prompts: Sequence[Prompt]) -> Float:
        """(B, D) what the router sees of these texts."""
        encoder = self.session.contexts
        if encoder is None:
            raise Refused(422, "contexts: this server has no encoder; bring contexts of your own")
        with told("contexts"), self._encoding:
            return np.asarray(encoder(prompts))

    def route_batch(self, batch: Batch, is_new: bool = False) -> list[Decided]:
        """Fill and route; returns the units' decisions as recorded where all were there before.

        ``is_new``: whether the units' ids are known to be no decision's yet.
        """
        routed_by = "prompts" if batch.contexts is None else "contexts"
        with told(routed_by), self._encoding:
            self.session.fill(batch)
        keys = [decision_key(batch.step, unit.id) for unit in batch.units]
        with told():
            found = {} if is_new else self.ledger.find(keys)
        with told(routed_by, conflict=bool(found)):
            self.session.route(batch)
        return [found[key][0] for key in keys] if len(found) == len(keys) else []

    def ask(self, batch: Batch) -> None:
        """Have a routed batch judged."""
        with told():
            self.session.ask(batch)

    def record(self, batch: Batch) -> list[Judgement]:
        """Write down what was said of a judged batch."""
        # Scales are learned in the order in which calls are recorded, as a restart reads them.
        with self.ledger.lock, told():
            self.session.record(batch)
            judgements = self.session.judgements(batch)
        for _, arm, reason in batch.verdicts.failures:
            log.warning("arm %s failed: %s", arm, reason)
        return judgements

    def learn(self, batch: Batch, was_judged: bool = False) -> dict[str, float]:
        """Pay what can be paid at once: payoffs that are made of verdicts and gold."""
        payoff = self.session.payoff
        if payoff.kind.needs_loss or (payoff.kind.needs_gold and batch.gold is None):
            return {}
        with told("gold"):
            if was_judged and (paid := self._paid(batch.decisions)):
                return paid
            return self.session.learn(batch)

    def _paid(self, decisions: Sequence[Decision]) -> dict[str, float]:
        payoffs = {}
        for row, paid in self.ledger.find([key_of(each.id) for each in decisions]).values():
            value = None if paid is None else paid.raw if paid.kind == "raw" else paid.scaled
            if value is not None:
                payoffs[row.id.hex()] = value
        return payoffs

    # routing and scoring apart --------------------------------------------------------------------

    def route(self, asked: Asked) -> Answer:
        """Choose arms and record the decisions; whoever asked scores by themselves."""
        batch = asked.batch()
        self.route_batch(batch, is_new=asked.request_id is None)
        decisions = []
        for name, decision in zip(asked.ids, batch.decisions, strict=True):
            told_of = {
                "id": name,
                "decision_id": decision.id,
                "arm": decision.name,
                "propensity": decision.propensity,
                "probs": decision.probs_K.tolist(),
            }
            decisions.append(told_of)
        arms = self.session.dispatcher.arms
        return {"request_id": asked.request_id, "arms": arms, "decisions": decisions}

    # paying ---------------------------------------------------------------------------------------

    def pay(self, payoffs: Sequence[tuple[str, float]], source: str, raw: bool) -> list[bool]:
        """Payoffs by decision id, all or none; for each whether it is new.

        Refused where a decision is not in the ledger (404) or has another payoff (409).
        """
        ids = [name for name, _ in payoffs]
        self.recorded(ids, "payoffs.{}.decision_id")
        dispatcher = self.session.dispatcher
        give = dispatcher.feedback_raw_many if raw else dispatcher.feedback_many
        try:
            with told("payoffs"):
                return give(payoffs, source=source)
        except Refused as refused:
            text = refused.message
            at = next((i for i, name in enumerate(ids) if name.lower() in text), None)
            if not isinstance(refused.__cause__, LedgerError) or at is None:
                raise
            field = f"payoffs.{at}.value"
            raise Refused(409, f"{field}: {text}", field) from None

    def recorded(self, ids: Sequence[str], field: str) -> list[Decided]:
        """The decisions of these ids; Refused (404) for one that is not in the ledger."""
        keys = []
        for i, name in enumerate(ids):
            with told(field.format(i), conflict=True):
                keys.append(_key(name, field.format(i)))
        with told():
            found = self.ledger.find(keys)
        for i, key in enumerate(keys):
            if key not in found:
                where = field.format(i)
                raise Refused(404, f"{where}: no decision {ids[i]!r} is in the ledger", where)
        return [found[key][0] for key in keys]

    # looking --------------------------------------------------------------------------------------

    def unready(self) -> str:
        """Why no prompt can be judged now, '' where one can."""
        try:
            resting = self.session.dispatcher.resting
            self.ledger.meta("binding")
        except LedgerError as error:
            return str(error)
        waiting = [arm for arm, wait in resting.items() if wait > 0]
        if len(waiting) == len(self.session.dispatcher.arms):
            return f"every arm failed lately and rests: {', '.join(waiting)}"
        return ""

    def close(self) -> None:
        """Write a snapshot and close the ledger."""
        self.session.dispatcher.close()


def _key(name: str, field: str) -> bytes:
    try:
        return key_of(name)
    except LedgerError:
        raise Refused(404, f"{field}: no decision {name[:60]!r} is in the ledger", field) from None


def _verdict(name: str, judgement: Judgement, payoff: float | None) -> dict[str, Any]:
    return {
        "id": name,
        "decision_id": judgement.decision_id,
        "arm": judgement.arm,
        "propensity": judgement.propensity,
        "scores": finite(judgement.scores),
        "calibrated": finite(judgement.calibrated),
        "ranking": list(judgement.ranking),
        "payoff": payoff,
    }
