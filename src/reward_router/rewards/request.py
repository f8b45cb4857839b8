"""One request to an arm and what came of it: de-duplication on the way in, checks on the way out, a row at a time where it fails.

What an arm raises or returns for one prompt (a row) is that row's failure: the request is split in
halves and asked again, until the rows that fail stand alone. Splitting is bounded: `MOST_REQUESTS`
in all, and an arm that answers nothing at all is given up after one descent to a single row and
`SPREAD` more rows.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reward_router.errors import InputError
from reward_router.rewards.answer import NotScores, read_rows
from reward_router.rewards.metered import ArmFailed, ArmStops, Metered
from reward_router.rewards.template import Prompt
from reward_router.types import Float, RewardModel

Status = Literal["ok", "failed", "timeout"]
MOST_REQUESTS = 100
"""Most requests that one question to an arm may lead to."""
SPREAD = 5
"""Rows over the rest that are asked about alone before an arm that answered nothing is held to be dead."""


@dataclass(frozen=True, eq=False)
class ScoreResult:
    """What came of asking one arm: scores, or why there are none.

    ``scores_BN`` is NaN where the arm abstained or a row is shorter than the longest; ``mask_BN``
    is True where a response exists. ``status`` is ok, failed or timeout; unless ok, every score is
    NaN and ``error`` says why. ``row_errors`` says by row why the arm could not answer that prompt
    though it answered others. ``refused``: the arm cannot be had at all as it is configured (bad
    input). ``seconds`` is wall time of scoring, ``load_seconds`` of loading before it. ``n_calls``
    counts responses asked for (the unit of cost), ``n_unique`` those that were computed after
    de-duplication. ``seconds_BN`` and ``price_BN`` are what each response took and cost where the
    arm measures it (NaN: it does not; a repeated response has them once), also where it failed.
    ``notices`` are sentences for whoever runs this; ``stops``: the run must not go on with this
    arm; ``away``: nobody answered where it asks.
    """

    arm: str
    scores_BN: Float = field(repr=False)
    mask_BN: NDArray[np.bool_] = field(repr=False)
    seconds: float
    load_seconds: float
    status: Status
    error: str | None
    n_calls: int
    n_unique: int
    row_errors: Mapping[int, str] = field(default_factory=dict)
    refused: bool = False
    seconds_BN: Float | None = field(default=None, repr=False)
    price_BN: Float | None = field(default=None, repr=False)
    notices: tuple[str, ...] = ()
    stops: bool = False
    away: bool = False

    @property
    def ok(self) -> bool:
        """Whether the arm answered."""
        return self.status == "ok"

    def bill(self, b: int, n: int) -> tuple[float, float]:
        """Seconds and price of one response; where the arm does not measure them, its share of the seconds, and NaN."""
        seconds = (
            self.seconds / max(1, self.n_calls)
            if self.seconds_BN is None
            else float(self.seconds_BN[b, n])
        )
        return seconds, math.nan if self.price_BN is None else float(self.price_BN[b, n])

    @property
    def abstained_B(self) -> NDArray[np.bool_]:
        """Per prompt: no response got a score, and the row did not fail either."""
        silent_B = np.asarray(~np.isfinite(self.scores_BN).any(axis=1))
        silent_B[list(self.row_errors)] = False
        return silent_B


@dataclass(frozen=True, eq=False)
class Scored:
    """What a model said of the distinct responses: ``scores_UN``, ``errors`` by distinct row, and its bill where it keeps one.

    ``error``: every row failed, and this is why.
    """

    scores_UN: Float
    errors: Mapping[int, str] = field(default_factory=dict)
    seconds_UN: Float | None = None
    price_UN: Float | None = None
    notices: tuple[str, ...] = ()
    error: BaseException | None = None


@dataclass(frozen=True, eq=False)
class Request:
    """Distinct prompts and responses, and the way back to what was asked: ``row_B``, and ``column_BN`` inside that row."""

    prompts: list[Prompt]
    responses: list[list[str]]
    row_B: list[int]
    column_BN: list[list[int]]

    @classmethod
    def of(
        cls, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]], join: bool = True
    ) -> "Request":
        """De-duplicate; O(total text). ``join``: rows of one prompt become one; else only rows of equal responses do."""
        rows: dict[str, int] = {}
        known: list[dict[str, int]] = []
        distinct: list[Prompt] = []
        keys = [_key(prompt) for prompt in prompts]
        if not join:
            keys = [
                f"{key}{json.dumps(list(row))}" for key, row in zip(keys, responses, strict=True)
            ]
        for key, prompt in zip(keys, prompts, strict=True):
            if rows.setdefault(key, len(rows)) == len(known):
                known.append({})
                distinct.append(prompt)
        row_B = [rows[key] for key in keys]
        column_BN = [
            [known[r].setdefault(text, len(known[r])) for text in row]
            for r, row in zip(row_B, responses, strict=True)
        ]
        return cls(distinct, [list(texts) for texts in known], row_B, column_BN)

    def run(self, model: RewardModel, ragged: bool) -> Scored:
        """The arm's scores of the distinct responses, and the rows that failed.

        A model that needs equal rows is asked once per row length. One that keeps a bill is asked
        once: its requests cost money.
        """
        if isinstance(model, Metered):
            return self._metered(model)
        wide_UN = np.full(
            (len(self.prompts), max((len(r) for r in self.responses), default=0)), np.nan
        )
        asking = _Asking(self, model, wide_UN)
        asked = [u for u, r in enumerate(self.responses) if r]
        if ragged:
            asking.ask(asked)
        else:
            for length in sorted({len(self.responses[u]) for u in asked}):
                asking.ask([u for u in asked if len(self.responses[u]) == length])
        if asked and len(asking.errors) == len(asked):
            return Scored(wide_UN, error=asking.first or asking.errors[asked[0]])
        return Scored(wide_UN, {u: told(error) for u, error in asking.errors.items()})

    def _metered(self, model: Metered) -> Scored:
        """One question to an arm that tells what failed and what it cost."""
        try:
            answer = model.score_with_bill(self.prompts, self.responses)
        except ArmFailed as error:  # before anything was asked: the arm must not judge
            wide = max((len(r) for r in self.responses), default=0)
            return Scored(np.full((len(self.prompts), wide), np.nan), error=error)
        scores_UN, wrong = read_rows(answer.scores_BN, len(self.prompts), answer.scores_BN.shape[1])
        errors = {**wrong, **{u: told(error) for u, error in answer.errors.items()}}
        asked = [u for u, r in enumerate(self.responses) if r]
        every = (
            next(iter(answer.errors.values()), None)
            if asked and len(errors) == len(asked)
            else None
        )
        return Scored(scores_UN, errors, answer.seconds_BN, answer.price_BN, answer.notices, every)

    def result(self, arm: str, scored: Scored, seconds: float, load_seconds: float) -> ScoreResult:
        """The answer, put back in the places asked about; where every row failed, that failure with its bill."""
        seconds_BN, price_BN = self._billed(scored.seconds_UN), self._billed(scored.price_UN)
        bill: dict[str, Any] = {
            "seconds_BN": seconds_BN,
            "price_BN": price_BN,
            "notices": scored.notices,
        }
        scores_BN, mask_BN = self._blank()
        if scored.error is not None:
            bill["stops"] = isinstance(scored.error, ArmStops)
            bill["away"] = isinstance(scored.error, ArmFailed) and scored.error.away
            said = told(scored.error)
            return ScoreResult(
                arm,
                scores_BN,
                mask_BN,
                seconds,
                load_seconds,
                "failed",
                said,
                *self._counts(),
                **bill,
            )
        for b, (r, columns) in enumerate(zip(self.row_B, self.column_BN, strict=True)):
            scores_BN[b, : len(columns)] = scored.scores_UN[r, columns]
        failed = {b: scored.errors[r] for b, r in enumerate(self.row_B) if r in scored.errors}
        return ScoreResult(
            arm,
            scores_BN,
            mask_BN,
            seconds,
            load_seconds,
            "ok",
            None,
            *self._counts(),
            failed,
            **bill,
        )

    def _billed(self, value_UN: Float | None) -> Float | None:
        """(B, N) a bill in the places asked about: a response that was asked about twice is billed at its first place, 0 after."""
        if value_UN is None:
            return None
        value_BN, _ = self._blank()
        seen: set[tuple[int, int]] = set()
        for b, (r, columns) in enumerate(zip(self.row_B, self.column_BN, strict=True)):
            for n, column in enumerate(columns):
                value_BN[b, n] = 0.0 if (r, column) in seen else value_UN[r, column]
                seen.add((r, column))
        return value_BN

    def failed(
        self,
        arm: str,
        status: Literal["failed", "timeout"],
        error: str,
        seconds: float,
        load_seconds: float,
        refused: bool = False,
    ) -> ScoreResult:
        """No answer: every score NaN."""
        return ScoreResult(
            arm,
            *self._blank(),
            seconds,
            load_seconds,
            status,
            error,
            *self._counts(),
            refused=refused,
        )

    def _blank(self) -> tuple[Float, NDArray[np.bool_]]:
        shape = (len(self.row_B), max((len(c) for c in self.column_BN), default=0))
        mask_BN = np.zeros(shape, dtype=bool)
        for b, columns in enumerate(self.column_BN):
            mask_BN[b, : len(columns)] = True
        return np.full(shape, np.nan), mask_BN

    def _counts(self) -> tuple[int, int]:
        return sum(map(len, self.column_BN)), sum(map(len, self.responses))


class _Asking:
    """One question to one arm, asked again in halves where it fails."""

    def __init__(self, request: Request, model: RewardModel, wide_UN: Float) -> None:
        self.request, self.model, self.wide_UN = request, model, wide_UN
        self.errors: dict[int, BaseException] = {}
        self.asked, self.answered = 0, False
        self.first: BaseException | None = None
        self.settled: set[int] = set()

    def ask(self, rows: list[int]) -> None:
        """Scores of these rows into ``wide_UN``, or their errors. Halves are asked depth first: the way to one row is short."""
        waiting = [rows] if rows else []
        while waiting and self.asked < MOST_REQUESTS:
            part = [u for u in waiting.pop() if u not in self.settled]
            if not part:
                continue
            error = self._once(part)
            if error is None:
                continue
            if len(part) > 1:
                middle = (len(part) + 1) // 2
                waiting += [part[middle:], part[:middle]]
                continue
            self._fail(part[0], error)
            left = sorted(u for others in waiting for u in others if u not in self.settled)
            if self._dead(left):
                for u in left:
                    self._fail(u, error)
                return
        given_up = NotScores(f"given up after {self.asked} requests, many of which failed")
        for u in (u for others in waiting for u in others):
            self._fail(u, given_up)

    def _fail(self, row: int, error: BaseException) -> None:
        if row not in self.settled:
            self.errors[row] = error
            self.settled.add(row)

    def _dead(self, left: list[int]) -> bool:
        """Whether nothing was answered so far and rows spread over the rest fail alone as well. Few rows are all asked."""
        if self.answered or len(left) < SPREAD:
            return False
        spread = {left[(i * (len(left) - 1)) // (SPREAD - 1)] for i in range(SPREAD)}
        for u in sorted(spread, reverse=True):
            error = self._once([u])
            if error is None:
                return False
            self._fail(u, error)
        return True

    def _once(self, rows: list[int]) -> BaseException | None:
        """Ask about these rows together; the error where that gave nothing. Single wrong rows of a good answer are kept apart."""
        self.asked += 1
        texts = [self.request.responses[u] for u in rows]
        width = max(map(len, texts))
        try:
            answer = self.model.score([self.request.prompts[u] for u in rows], texts)
            scores_BN, wrong = read_rows(answer, len(rows), width)
        except KeyboardInterrupt:
            raise
        except (
            BaseException
        ) as error:  # an arm is foreign code: even its sys.exit is its own failure
            self.first = self.first or error
            return error
        self.answered = True
        self.settled.update(rows)
        self.wide_UN[rows, :width] = scores_BN
        self.errors |= {rows[b]: NotScores(why) for b, why in wrong.items()}
        return None


def told(error: BaseException) -> str:
    """Class, message and place of an arm's exception in one line."""
    place, trace = "", error.__traceback__
    while trace is not None:
        place = f" ({trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]} line {trace.tb_lineno})"
        trace = trace.tb_next
    said = " ".join(str(error).split())
    if isinstance(error, ArmFailed):
        return said
    if isinstance(error, InputError):  # says itself what, where and what is allowed
        return said
    said = said[:300]
    if isinstance(error, NotScores):  # found here, not raised by the arm: the place would be ours
        return f"ValueError: {said}"
    return f"{type(error).__name__}: {said}{place}"


def _key(prompt: Prompt) -> str:
    return (
        "s" + prompt
        if isinstance(prompt, str)
        else "m" + json.dumps([dict(m) for m in prompt], sort_keys=True, default=str)
    )
