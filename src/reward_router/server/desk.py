"""What the server does, without HTTP: it judges, routes, scores and pays on one `Session`.

Many threads may ask at once. Decisions, calls and payoffs are written by the dispatcher under its
own lock; arms are asked outside of it, so that a slow arm holds up nobody else.
"""

import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reward_router.chat import Prompt
from reward_router.dispatch.inputs import decision_key, key_of
from reward_router.errors import InputError, LedgerError
from reward_router.ledger.rows import Decided
from reward_router.server.answers import Answer, Answers, restored
from reward_router.server.refusal import Refused, told
from reward_router.session import Judgement, Session
from reward_router.strict_json import finite
from reward_router.types import Decision, Float
from reward_router.verdicts.batch import Batch, Unit, Verdicts
from reward_router.verdicts.single import SingleArm


@dataclass(frozen=True)
class Asked:
    """B prompts, with their responses where they are to be judged.

    Args:
        prompts: texts or lists of messages.
        responses: per prompt, its N responses.
        ids: B names that the caller gives the prompts, none twice.
        step: the caller's step; draws are keyed by it.
        request_id: the caller's name of the request, by which it is recognised when it comes again.
        contexts: (B, D) what the router sees; None: the encoder's.
        gold: per prompt (N,) 1 right, 0 wrong, NaN unknown.
        body: the request's bytes, in one spelling; not needed without a ``request_id``.
    """

    prompts: Sequence[Prompt]
    responses: Sequence[Sequence[str]]
    ids: Sequence[str]
    step: int = 0
    request_id: str | None = None
    contexts: Float | None = None
    gold: Sequence[Float] | None = None
    body: bytes = b""

    def batch(self) -> Batch:
        """As a session takes it: a unit's id begins with that of the request."""
        name = self.request_id if self.request_id is not None else uuid.uuid4().hex
        batch = Batch(
            step=self.step,
            prompts=self.prompts,
            ids=[f"{name}/{each}" for each in self.ids],
            responses=self.responses,
            gold=self.gold,
        )
        if self.contexts is not None:
            batch.contexts = self.contexts
        return batch


class Desk:
    """Answers requests; every answer is in the ledger before it is given.

    Args:
        session: routes prompts, one arm a prompt.
    """

    def __init__(self, session: Session) -> None:
        """Read the arms' scales from the ledger, so that the first request need not."""
        if not isinstance(session.mode, SingleArm):
            raise InputError("server: its session judges by one arm a prompt (verdicts='single')")
        self.session = session
        self.asker = session.mode.asker
        self.ledger = session.dispatcher.ledger
        self.answers = Answers(self.ledger)
        self._began_after = self.ledger.last_seq
        self._unanswered: set[str] = set()
        self._recording = threading.Lock()
        self._encoding = threading.Lock()
        session.scale.calibrated("", np.zeros(0))

    # judging --------------------------------------------------------------------------------------

    def judge(self, asked: Asked) -> Answer:
        """Route every prompt, have its responses judged, and record both."""
        return self.answers.once("judge", asked.request_id, asked.body, lambda: self._judge(asked))

    def _judge(self, asked: Asked) -> Answer:
        batch = asked.batch()
        rows = self.route_batch(batch, is_new=asked.request_id is None)
        is_old = bool(rows) and self._may_have_calls(rows, asked.request_id)
        was_judged = is_old and restored(batch, self.ledger, rows)
        judgements = self.ask(batch, was_judged, asked.request_id)
        payoffs = self.learn(batch, was_judged)
        self._unanswered.discard(asked.request_id or "")
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

    def ask(
        self, batch: Batch, was_judged: bool = False, request_id: str | None = None
    ) -> list[Judgement]:
        """Have a routed batch judged and recorded, unless it was; what was said of it."""
        if not was_judged:
            with told():
                self.session.ask(batch)
        # Scales are learned in the order in which calls are recorded, as a restart reads them.
        with self._recording, told():
            if not was_judged:
                self.session.record(batch)
                if request_id is not None:
                    self._unanswered.add(request_id)
            return self.session.judgements(batch)

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

    def score(self, asked: Asked, arm: str | None, decision_ids: Sequence[str] | None) -> Answer:
        """Scores by an arm that the caller names, or by the arms of decisions."""

        def work() -> Answer:
            return self._score(asked, arm, decision_ids)

        return self.answers.once("score", asked.request_id, asked.body, work)

    def _score(self, asked: Asked, arm: str | None, decision_ids: Sequence[str] | None) -> Answer:
        batch = asked.batch()
        batch.units = [
            Unit(name, ((row, tuple(range(len(asked.responses[row])))),))
            for row, name in enumerate(batch.ids)
        ]
        rows_by_arm: dict[str, list[int]] = {}
        if decision_ids is not None:
            recorded = self._recorded(decision_ids)
            arms: list[str] = self.ledger.meta("binding")["arms"]
            for row, decided in enumerate(recorded):
                rows_by_arm.setdefault(arms[decided.arm], []).append(row)
            batch.decisions = [_named(row.id.hex()) for row in recorded]
            status = "ok"
        else:
            if arm not in self.session.dispatcher.arms:
                listed = ", ".join(self.session.dispatcher.arms)
                raise Refused(422, f"arm: {arm!r} is none of the arms {listed}", "arm")
            rows_by_arm[arm or ""] = list(range(len(batch.ids)))
            batch.decisions = [_named("") for _ in batch.ids]
            status = "audit"
        return {
            "request_id": asked.request_id,
            "scores": self._ask_arms(batch, rows_by_arm, status),
        }

    def _ask_arms(self, batch: Batch, rows_by_arm: dict[str, list[int]], status: str) -> list[Any]:
        batch.verdicts = Verdicts.silent(batch.units)
        scored: list[dict[str, Any]] = [{} for _ in batch.units]
        for arm in self.asker.pool.order(rows_by_arm):
            rows = rows_by_arm[arm]
            with told():
                reply = self.asker.ask(batch, arm, [batch.units[row].cells[0] for row in rows])
            for row in rows:
                unit, decision = batch.units[row], batch.decisions[row]
                batch.verdicts.calls += reply.calls(decision, unit, status)
                score_N = [reply.score[row, n] for n in unit.cells[0][1]]
                scored[row] = {"arm": arm, "scores": finite(score_N)}
            if not reply.ok:
                first = batch.decisions[rows[0]].id or None
                with told():
                    self.session.dispatcher.record_failure(first, arm, reply.reason)
        with self._recording, told():
            self.session.record(batch)
        for entry in scored:
            scores = np.array(entry["scores"], np.float64)
            entry["calibrated"] = finite(self.session.scale.calibrated(entry["arm"], scores))
        return scored

    # paying ---------------------------------------------------------------------------------------

    def pay(self, payoffs: Sequence[tuple[str, float]], source: str, raw: bool) -> list[bool]:
        """Payoffs by decision id, all or none; for each whether it is new.

        Refused where a decision is not in the ledger (404) or has another payoff (409).
        """
        ids = [name for name, _ in payoffs]
        self._recorded(ids, "payoffs.{}.decision_id")
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

    def _recorded(self, ids: Sequence[str], field: str = "decision_ids.{}") -> list[Decided]:
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


def _named(decision_id: str) -> Decision:
    """A stand-in for a decision of which only the id matters, '' where there is none."""
    return Decision(decision_id, "", 0, -1, "", 1.0, np.zeros(0))


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
