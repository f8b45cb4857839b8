"""One answer a request id, however often the request is sent and whenever the server was killed.

An answer is kept in the ledger before it goes out, under the caller's request id and a digest of
the body. What a server recorded and was killed before it could answer is read back from the calls:
no arm is asked twice, and nothing is counted twice.
"""

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np

from reward_router.ledger.protocol import Store
from reward_router.ledger.rows import Called, Decided
from reward_router.server.refusal import Refused, told
from reward_router.verdicts.batch import Batch, Verdicts

Answer = dict[str, Any]
STAND_IN = "fallback"
WITHOUT_SCORE = ("failed", "timeout")
KEEP = 100_000
"""Answers of a kind that are kept: more than a night of a request a second."""


class Answers:
    """The answers that were given, by kind of request and request id.

    Args:
        ledger: where they are kept.
        keep: how many of a kind; the oldest make room.
        one_commit: what an answer and the work for it are done in.
    """

    def __init__(
        self,
        ledger: Store,
        keep: int = KEEP,
        one_commit: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Nothing is read before it is asked for."""
        self._ledger = ledger
        self._keep = keep
        self._one_commit = one_commit
        # by kind the names of the answers in the ledger, the oldest first
        self._kept: dict[str, deque[str]] = {}
        self.forgot = False  # whether answers made room since the start
        self._turns: dict[str, int] = {}
        self._free = threading.Condition()

    def once(
        self, kind: str, request_id: str | None, body: bytes, work: Callable[[], Answer]
    ) -> Answer:
        """What ``work`` makes, or what it made when this request came before.

        Refused where the id came with another body. Without an id the work is done every time.
        """
        if request_id is None:
            with self._one_commit():
                return work()
        key = f"answer/{kind}/{request_id}"
        digest = hashlib.blake2b(body, digest_size=16).hexdigest()
        # in this order: who waits for a turn inside the commit would keep its holder from writing
        with self._one_commit(), self._turn(key):
            with told():
                kept = self._ledger.meta(key)
            if kept is None:
                answer = work()
                self._remember(kind, key, {"digest": digest, "answer": answer})
                return answer
        if kept["digest"] != digest:
            raise Refused(
                409,
                f"request_id: {request_id!r} came before with another body; give every request an "
                "id of its own, and the same id only to the same request sent again",
                "request_id",
            )
        answered: Answer = kept["answer"]
        return answered

    def _remember(self, kind: str, key: str, value: Answer) -> None:
        """Keep an answer; in the same transaction the oldest of its kind make room."""
        with self._ledger.lock, told():
            if kind not in self._kept:
                self._kept[kind] = deque(self._ledger.named(f"answer/{kind}/", "at"))
            kept = self._kept[kind]
            too_many = [kept[i] for i in range(len(kept) + 1 - self._keep)]
            self._ledger.remember(key, {**value, "at": self._ledger.last_seq}, too_many)
            for _ in too_many:
                kept.popleft()
            self.forgot = self.forgot or bool(too_many)
            kept.append(key)

    @contextmanager
    def _turn(self, key: str) -> Iterator[None]:
        """Requests with one id wait for each other."""
        with self._free:
            while key in self._turns:
                self._free.wait()
            self._turns[key] = threading.get_ident()
        try:
            yield
        finally:
            with self._free:
                del self._turns[key]
                self._free.notify_all()


def restored(batch: Batch, ledger: Store, rows: Sequence[Decided]) -> bool:
    """Fill the verdicts of a batch from the calls that were recorded for its decisions.

    ``rows``: the decisions of its units, in order. False where there are no calls: then the arms
    were not asked yet. O(events after the first of the decisions).
    """
    arms: list[str] = ledger.meta("binding")["arms"]
    unit_of = {row.seq: u for u, row in enumerate(rows)}
    said: list[dict[str, list[Called]]] = [{} for _ in rows]
    found = False
    for call in ledger.events(min(unit_of), [Called]):
        if isinstance(call, Called) and call.decision in unit_of:
            found = True
            said[unit_of[call.decision]].setdefault(arms[call.arm], []).append(call)
    if not found:
        return False
    verdicts = batch.verdicts = Verdicts.silent(batch.units)
    for u, calls_by_arm in enumerate(said):
        own = batch.decisions[u].name
        verdicts.own.append([score_N.copy() for score_N in verdicts.scores[u]])
        for arm, calls in calls_by_arm.items():
            _say(verdicts, u, arm, calls, is_own=arm == own)
    return True


def _say(verdicts: Verdicts, u: int, arm: str, calls: Sequence[Called], *, is_own: bool) -> None:
    """What one arm said of a unit; whatever was asked for other ends is left out."""
    if any(call.status in WITHOUT_SCORE for call in calls):
        if is_own:
            verdicts.failed.add(u)
        return
    if not is_own and any(call.status != STAND_IN for call in calls):
        return
    [score_N] = verdicts.scores[u]
    for call in calls:
        place = int(call.response.rpartition("/")[2])
        score_N[place] = np.nan if call.score is None else call.score
    if is_own:
        verdicts.own[u][0][:] = score_N
    else:
        verdicts.stand_in[u, 0] = arm
