"""One request to an arm and what came of it: equal texts are asked about once, answers checked.

What an arm raises or returns for one prompt (a row) is that row's failure: the request is split in
halves and asked again, until the rows that fail stand alone. Splitting is bounded: `MOST_REQUESTS`
in all, and an arm that answers nothing at all is given up after one descent to a single row and
`SPREAD` more rows.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reward_router.chat import Prompt
from reward_router.errors import InputError
from reward_router.rewards.answer import NotScores, read_score_rows
from reward_router.rewards.metered import ArmFailed, ArmStops, Metered, is_metered
from reward_router.types import Float, RewardModel

RequestStatus = Literal["ok", "failed", "timeout"]
MOST_REQUESTS = 100
"""Most requests that one question to an arm may lead to."""
SPREAD = 5
"""Rows that are tried alone before an arm that answered nothing is held to be dead."""


@dataclass(frozen=True, eq=False)
class ScoreResult:
    """What came of asking one arm: scores, or why there are none.

    Args:
        arm: its name.
        scores_BN: NaN where the arm abstained or a row is shorter than the longest.
        mask_BN: True where a response exists.
        seconds: wall time of scoring.
        load_seconds: wall time of loading before it.
        status: ok, failed or timeout; unless ok, every score is NaN.
        error: why, unless ok.
        n_calls: the responses asked for, which are the unit of cost.
        n_unique: those of them that were computed after de-duplication.
        row_errors: by row, why the arm could not answer that prompt though it answered others.
        refused: whether the arm cannot be had at all as it is configured (bad input).
        seconds_BN: what each response took where the arm measures it (NaN: it does not), also
            where it failed; a repeated response has it once.
        price_BN: what each response cost, likewise.
        notices: sentences for whoever runs this.
        stops: whether the run must not go on with this arm.
        away: whether nobody answered where it asks.
    """

    arm: str
    scores_BN: Float = field(repr=False)
    mask_BN: NDArray[np.bool_] = field(repr=False)
    seconds: float
    load_seconds: float
    status: RequestStatus
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
        """Seconds and price of one response.

        Where the arm does not measure them, it has its share of the seconds, and NaN.
        """
        seconds = self.seconds / max(1, self.n_calls)
        price = math.nan
        if self.seconds_BN is not None:
            seconds = float(self.seconds_BN[b, n])
        if self.price_BN is not None:
            price = float(self.price_BN[b, n])
        return seconds, price

    @property
    def abstained_B(self) -> NDArray[np.bool_]:
        """Per prompt: no response got a score, and the row did not fail either."""
        silent_B = np.asarray(~np.isfinite(self.scores_BN).any(axis=1))
        silent_B[list(self.row_errors)] = False
        return silent_B


@dataclass(frozen=True, eq=False)
class Scored:
    """What a model said of the U distinct prompts' responses.

    Args:
        scores_UN: the scores.
        errors: by distinct row, why it failed.
        seconds_UN: what each response took, where the model keeps a bill.
        price_UN: what each response cost, likewise.
        notices: sentences for whoever runs this.
        error: why every row failed; None where not all of them did.
    """

    scores_UN: Float
    errors: Mapping[int, str] = field(default_factory=dict)
    seconds_UN: Float | None = None
    price_UN: Float | None = None
    notices: tuple[str, ...] = ()
    error: BaseException | None = None


@dataclass(frozen=True, eq=False)
class ArmRequest:
    """Distinct prompts and responses, and the way back to the places asked about.

    Args:
        prompts: the distinct prompts.
        responses: of each of them, the distinct responses.
        row_B: of each prompt asked about, its distinct row.
        column_BN: of each response asked about, its place in that row.
    """

    prompts: list[Prompt]
    responses: list[list[str]]
    row_B: list[int]
    column_BN: list[list[int]]

    @classmethod
    def of(
        cls, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]], join: bool = True
    ) -> "ArmRequest":
        """De-duplicate; O(total text).

        ``join``: whether the rows of one prompt become one; else only rows of equal responses do.
        """
        row_by_key: dict[str, int] = {}
        # Of every distinct row, the places of its texts, in the order in which they came.
        places: list[dict[str, int]] = []
        distinct_prompts: list[Prompt] = []
        row_B: list[int] = []
        column_BN: list[list[int]] = []
        for prompt, texts in zip(prompts, responses, strict=True):
            key = _key(prompt)
            if not join:
                key += json.dumps(list(texts))
            if key not in row_by_key:
                row_by_key[key] = len(places)
                places.append({})
                distinct_prompts.append(prompt)
            row = row_by_key[key]
            place_of = places[row]
            row_B.append(row)
            column_BN.append([place_of.setdefault(text, len(place_of)) for text in texts])
        distinct_responses = [list(place_of) for place_of in places]
        return cls(distinct_prompts, distinct_responses, row_B, column_BN)

    def run(self, model: RewardModel, ragged: bool) -> Scored:
        """The arm's scores of the distinct responses, and the rows that failed.

        A model that needs equal rows is asked once per row length. One that keeps a bill is asked
        once: its requests cost money.
        """
        if is_metered(model):
            return self._metered(model)
        scores_UN = self._blank_UN()
        asking = _Asking(self, model, scores_UN)
        rows = self._rows_with_responses()
        if ragged:
            asking.ask(rows)
        else:
            lengths = {len(self.responses[row]) for row in rows}
            for length in sorted(lengths):
                asking.ask([row for row in rows if len(self.responses[row]) == length])

        # Where every row failed, the request failed.
        if rows and len(asking.errors) == len(rows):
            return Scored(scores_UN, error=asking.first or asking.errors[rows[0]])
        reasons = {row: exception_in_line(error) for row, error in asking.errors.items()}
        return Scored(scores_UN, reasons)

    def _blank_UN(self) -> Float:
        width = max((len(texts) for texts in self.responses), default=0)
        return np.full((len(self.prompts), width), np.nan)

    def _rows_with_responses(self) -> list[int]:
        return [row for row, texts in enumerate(self.responses) if texts]

    def _metered(self, model: Metered) -> Scored:
        """One question to an arm that tells what failed and what it cost."""
        try:
            answer = model.score_with_bill(self.prompts, self.responses)
        except ArmFailed as error:
            # Before anything was asked: the arm must not judge.
            return Scored(self._blank_UN(), error=error)
        scores_UN, errors = read_score_rows(
            answer.scores_BN, len(self.prompts), answer.scores_BN.shape[1]
        )
        errors |= {row: exception_in_line(error) for row, error in answer.errors.items()}
        rows = self._rows_with_responses()
        error_of_all: BaseException | None = None
        if rows and len(errors) == len(rows):
            error_of_all = next(iter(answer.errors.values()), None)
        return Scored(
            scores_UN, errors, answer.seconds_BN, answer.price_BN, answer.notices, error_of_all
        )

    def result(self, arm: str, scored: Scored, seconds: float, load_seconds: float) -> ScoreResult:
        """The answer, put back in the places asked about.

        Where every row failed, it is that failure with its bill.
        """
        error = scored.error
        scores_BN, mask_BN = self._blank()
        row_errors: dict[int, str] = {}
        if error is None:
            for b, (row, columns) in enumerate(zip(self.row_B, self.column_BN, strict=True)):
                scores_BN[b, : len(columns)] = scored.scores_UN[row, columns]
                if row in scored.errors:
                    row_errors[b] = scored.errors[row]
        n_calls, n_unique = self._counts()
        return ScoreResult(
            arm=arm,
            scores_BN=scores_BN,
            mask_BN=mask_BN,
            seconds=seconds,
            load_seconds=load_seconds,
            status="ok" if error is None else "failed",
            error=None if error is None else exception_in_line(error),
            n_calls=n_calls,
            n_unique=n_unique,
            row_errors=row_errors,
            seconds_BN=self._billed(scored.seconds_UN),
            price_BN=self._billed(scored.price_UN),
            notices=scored.notices,
            stops=isinstance(error, ArmStops),
            away=isinstance(error, ArmFailed) and error.away,
        )

    def _billed(self, value_UN: Float | None) -> Float | None:
        """(B, N) a bill in the places asked about.

        A response that was asked about twice is billed at its first place, and is 0 at the others.
        """
        if value_UN is None:
            return None
        value_BN, _ = self._blank()
        billed: set[tuple[int, int]] = set()
        for b, (row, columns) in enumerate(zip(self.row_B, self.column_BN, strict=True)):
            for n, column in enumerate(columns):
                place = (row, column)
                # A second place for one answer is free.
                value_BN[b, n] = 0.0 if place in billed else value_UN[place]
                billed.add(place)
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
        width = max((len(columns) for columns in self.column_BN), default=0)
        shape = (len(self.row_B), width)
        mask_BN = np.zeros(shape, dtype=bool)
        # Rows are ragged: behind a row's own responses nothing is asked.
        for b, columns in enumerate(self.column_BN):
            mask_BN[b, : len(columns)] = True
        scores_BN = np.full(shape, np.nan)
        return scores_BN, mask_BN

    def _counts(self) -> tuple[int, int]:
        """The responses asked about, and the distinct ones among them."""
        n_calls = sum(len(columns) for columns in self.column_BN)
        n_unique = sum(len(texts) for texts in self.responses)
        return n_calls, n_unique


class _Asking:
    """One question to one arm, asked again in halves where it fails."""

    def __init__(self, request: ArmRequest, model: RewardModel, scores_UN: Float) -> None:
        self.request = request
        self.model = model
        self.scores_UN = scores_UN
        self.errors: dict[int, BaseException] = {}
        self.requests = 0
        self.answered = False
        self.first: BaseException | None = None
        self.settled: set[int] = set()

    def ask(self, rows: list[int]) -> None:
        """Scores of these rows into ``scores_UN``, or their errors.

        Halves are asked about depth first, so that the way to a single row is short.
        """
        waiting = [rows] if rows else []
        while waiting and self.requests < MOST_REQUESTS:
            part = self._unsettled([waiting.pop()])
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
            left = sorted(self._unsettled(waiting))
            if self._dead(left):
                for row in left:
                    self._fail(row, error)
                return
        given_up = NotScores(f"given up after {self.requests} requests, many of which failed")
        for row in self._unsettled(waiting):
            self._fail(row, given_up)

    def _unsettled(self, parts: Sequence[Sequence[int]]) -> list[int]:
        """The rows of these parts that have neither scores nor an error yet."""
        return [row for row in chain.from_iterable(parts) if row not in self.settled]

    def _fail(self, row: int, error: BaseException) -> None:
        if row not in self.settled:
            self.errors[row] = error
            self.settled.add(row)

    def _dead(self, left: list[int]) -> bool:
        """Whether nothing was answered so far and rows spread over the rest fail alone as well.

        Where few rows are left, all of them are asked about.
        """
        if self.answered or len(left) < SPREAD:
            return False
        # Evenly spread, the first and the last among them.
        spread = {left[(i * (len(left) - 1)) // (SPREAD - 1)] for i in range(SPREAD)}
        for row in sorted(spread, reverse=True):
            error = self._once([row])
            if error is None:
                return False
            self._fail(row, error)
        return True

    def _once(self, rows: list[int]) -> BaseException | None:
        """Ask about these rows together; the error where that gave nothing.

        Single wrong rows of a good answer are kept apart.
        """
        self.requests += 1
        prompts = [self.request.prompts[row] for row in rows]
        texts = [self.request.responses[row] for row in rows]
        width = max(map(len, texts))
        try:
            answer = self.model.score(prompts, texts)
            scores_BN, wrong = read_score_rows(answer, len(rows), width)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # An arm is foreign code: even its sys.exit is its own failure.
            self.first = self.first or error
            return error
        self.answered = True
        self.settled.update(rows)
        self.scores_UN[rows, :width] = scores_BN
        self.errors |= {rows[b]: NotScores(why) for b, why in wrong.items()}
        return None


def exception_in_line(error: BaseException) -> str:
    """Class, message and place of an arm's exception in one line."""
    message = " ".join(str(error).split())
    # These say themselves what is wrong, and where.
    if isinstance(error, ArmFailed | InputError):
        return message
    message = message[:300]
    # Raised here and not by the arm: the place would be ours.
    if isinstance(error, NotScores):
        return f"ValueError: {message}"
    place = ""
    trace = error.__traceback__
    while trace is not None:
        file_name = trace.tb_frame.f_code.co_filename.rsplit("/", 1)[-1]
        place = f" ({file_name} line {trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(error).__name__}: {message}{place}"


def _key(prompt: Prompt) -> str:
    """A prompt as text; a letter in front tells a text from messages."""
    if isinstance(prompt, str):
        return "s" + prompt
    turns = [dict(message) for message in prompt]
    return "m" + json.dumps(turns, sort_keys=True, default=str)
