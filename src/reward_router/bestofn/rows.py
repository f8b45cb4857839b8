"""Prompts with n responses each and their gold, read from a file, and which side each is on.

A row is {prompt, responses: [...], answer?, golds?: [...], category?, id?, split?}. Gold of a
response is, by ``measure``: its number in ``golds``, else the verdict of ``data.answer_kind`` on
``answer``, else the rule of the embedded prompt; or F1, ROUGE-L or exact match with ``answer``. NaN
where there is none of these.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router import keyed, preferences
from reward_router.bestofn.measures import MEASURES, measured, references
from reward_router.chat import Prompt, Unreadable
from reward_router.column_names import optional, required
from reward_router.config import Config, DataConfig
from reward_router.contexts import plain_prompt
from reward_router.data import PromptRecord, load_prompts
from reward_router.errors import InputError
from reward_router.examples import EMBEDDED_TASKS, Example, taken_in_turn
from reward_router.grading import grade
from reward_router.reading import Broken, DataRow, RowTally, is_hub_name, read_rows
from reward_router.responses import finished
from reward_router.tasks import SPLITS, generate, verify
from reward_router.types import Float, Truncated

EITHER = "train+test"
_SIDES = {
    **dict.fromkeys(("train", "training", "learn"), "train"),
    **dict.fromkeys(("test", "choose", "validation", "valid", "val", "dev", "eval"), "test"),
}
_WORDS = {"true": 1.0, "false": 0.0}
_OURS = ("responses", "golds", "split")


@dataclass(frozen=True, eq=False)
class Item(Example):
    """A prompt with its ``responses`` and their ``gold_N`` in [0, 1], NaN unknown.

    ``cut``: whether responses that the token limit cut may be chosen (``pairs.truncated``).
    ``side``: train or test where the data says it.
    """

    responses: tuple[str, ...] = ()
    gold_N: Float = field(default_factory=lambda: np.zeros(0))
    cut: Truncated = "keep"
    side: str | None = None

    def gold(self, responses: Sequence[str]) -> Float:
        """(N,) gold of texts among this prompt's own responses, NaN for others."""
        gold_by_text = dict(zip(self.responses, self.gold_N.tolist(), strict=True))
        return np.array([gold_by_text.get(r, np.nan) for r in responses], dtype=np.float64)

    @property
    def open_N(self) -> NDArray[np.bool_]:
        """(N,) which responses may be chosen: not a cut one where another ended by itself."""
        finished_N = finished(self.responses)
        # Where every response was cut, one of them has to do.
        if self.cut == "keep" or not finished_N.any():
            return np.ones(len(finished_N), dtype=bool)
        return finished_N

    @property
    def measured(self) -> bool:
        """Whether the gold of every response is known."""
        return bool(np.isfinite(self.gold_N).all())


@dataclass(frozen=True)
class LearnedAndJudged:
    """The prompts that are learned from, and those that are chosen for."""

    train: list[Item]
    test: list[Item]


def read_responses(source: str, config: Config, side: str | None = None) -> list[Item]:
    """The rows of a file (or Hub data set) of responses, in order. O(rows).

    ``data.columns`` maps our names to the file's. InputError for no rows, an id given twice, fewer
    than two responses, and golds that are not one number in [0, 1] (or null) a response; each names
    the row.
    """
    data = config.data
    prompt_columns = {ours: theirs for ours, theirs in data.columns.items() if ours not in _OURS}
    tally = RowTally(source)
    # Of a file every row counts: its split only says on which side it is.
    on_the_hub = not Path(source).exists() and is_hub_name(source)
    split = EITHER if on_the_hub else None
    records = load_prompts(
        source, split=split, columns=prompt_columns, template=data.template, tally=tally
    )
    # Every prompt is to get its best response, so none is left out in silence.
    if tally.first is not None:
        raise InputError(tally.first)
    rows = [(place, row) for place, row in read_rows(source, split) if not isinstance(row, Broken)]
    items = []
    for placed, record in zip(rows, records, strict=True):
        items.append(_item(placed, record, config, side))
    if _measure(config) != "gold" and not any(item.measured for item in items):
        raise InputError(
            f"data {source}: measure {config.measure} compares with `answer`, and no row has one"
        )
    return items


def _item(
    placed: tuple[str, DataRow],
    record: PromptRecord,
    config: Config,
    side: str | None,
) -> Item:
    place, row = placed
    columns = config.data.columns
    responses = _responses(row, columns, record.prompt, place)
    golds_N = _golds(row, columns, len(responses), place)
    verify_one = _rule(record, config.data) if golds_N is None else None
    answer = row.get(columns.get("answer", "answer"), record.answer)
    gold_N = _gold(responses, golds_N, answer, verify_one, _measure(config))
    return Item(
        record.id,
        record.prompt,
        record.category,
        verify_one,
        responses=responses,
        gold_N=_alike(responses, gold_N),
        side=side or _side(row, columns, place),
    )


def _side(row: DataRow, columns: Mapping[str, str], place: str) -> str | None:
    """Train or test, where the row says it in any word for them; None where it does not."""
    mapping = {ours: theirs for ours, theirs in columns.items() if ours == "split"}
    word = (optional(row, "split", mapping, place) or "").strip()
    if not word:
        return None
    side = _SIDES.get(word.casefold())
    if side is None:
        raise InputError(
            f"data {place}: split is {word!r}; allowed train (to learn from), "
            "test (to choose for), or null"
        )
    return side


def _measure(config: Config) -> str:
    return config.measure or "gold"


def _responses(
    row: DataRow, columns: Mapping[str, str], prompt: Prompt, place: str
) -> tuple[str, ...]:
    mapping = {ours: theirs for ours, theirs in columns.items() if ours == "responses"}
    values = _list(required(row, "responses", mapping, place))
    is_list = isinstance(values, Sequence) and not isinstance(values, str)
    if not is_list:
        raise InputError(
            f"data {place}: responses is {str(values)[:60]!r}; a list of texts is expected"
        )
    if len(values) < 2:
        count = "one response only, so there is nothing to choose" if values else "an empty list"
        raise InputError(f"data {place}: responses is {count}; best of n needs 2 or more a prompt")
    return tuple(_response(value, n, prompt, place) for n, value in enumerate(values))


def _list(value: Any) -> Any:
    """The list in a cell that holds it as JSON text, as a CSV does; any other value as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _response(value: Any, n: int, prompt: Prompt, place: str) -> str:
    """A response as text, from any form that the reader of preferences takes."""
    try:
        return preferences.response(value, prompt, "it")
    except Unreadable as error:
        raise InputError(
            f"data {place}: response {n} is {str(value)[:60]!r}: {error}; "
            "allowed a text, or one turn {role: assistant, content: text}"
        ) from None


def _golds(row: DataRow, columns: Mapping[str, str], n: int, place: str) -> Float | None:
    """The row's own golds, None where it has none."""
    name = columns.get("golds", "golds")
    if row.get(name) is None:
        # A column that was mapped has to be there; our own name need not.
        if name != "golds" and name not in row:
            required(row, "golds", {"golds": name}, place)
        return None

    values = _list(row[name])
    is_list = isinstance(values, Sequence) and not isinstance(values, str)
    if not is_list or len(values) != n:
        count = f"{len(values)} numbers" if isinstance(values, list | tuple) else repr(values)[:60]
        raise InputError(
            f"data {place}: {name} is {count} for {n} responses; "
            "one number in [0, 1] or null a response"
        )

    gold_N = np.full(n, np.nan)
    for i, cell in enumerate(values):
        if cell is None:
            continue
        value = _number(cell)
        in_range = isinstance(value, int | float) and 0 <= value <= 1
        if not in_range:
            raise InputError(
                f"data {place}: {name}[{i}] is {cell!r}; allowed a number in [0, 1], or null"
            )
        gold_N[i] = float(value)
    return gold_N


def _number(value: Any) -> Any:
    """The number, true or false in a text, as CSV and pandas write them; all else as it is."""
    if not isinstance(value, str):
        return value
    word = value.strip().casefold()
    if word in _WORDS:
        return _WORDS[word]
    try:
        return float(word)
    except ValueError:
        return value


@cache
def _embedded_rules() -> dict[str, Callable[[str], bool]]:
    """Prompt -> rule, of all embedded prompts."""
    tasks = chain.from_iterable(generate(split) for split in SPLITS)
    return {task.prompt: partial(verify, task) for task in tasks}


def _rule(record: PromptRecord, data: DataConfig) -> Callable[[str], bool] | None:
    """The rule for a prompt's responses: the answer by its kind, or the embedded prompt's own."""
    if data.answer_kind is not None and record.answer is not None:
        # Names of their own, because mypy narrows no attribute inside the lambda below.
        kind = data.answer_kind
        answer = record.answer
        try:
            grade(kind, "", answer)
        except InputError as error:
            raise InputError(f"prompt {record.id}: {error}") from None
        return lambda response: grade(kind, response, answer)
    if data.source == EMBEDDED_TASKS:
        return _embedded_rules().get(plain_prompt(record.prompt))
    return None


def gold_of(
    responses: Sequence[str], answer: Any, rule: Callable[[str], bool] | None, measure: str
) -> Float:
    """(N,) gold by ``measure``; NaN where there is no answer, or no rule. O(total text)."""
    return _gold(responses, None, answer, rule, measure)


def _gold(
    responses: Sequence[str],
    golds_N: Float | None,
    answer: Any,
    rule: Callable[[str], bool] | None,
    measure: str,
) -> Float:
    unknown_N = np.full(len(responses), np.nan)
    if measure in MEASURES:
        answers = references(answer)
        if not answers:
            return unknown_N
        return np.array([measured(measure, response, answers) for response in responses])
    if golds_N is not None:
        return golds_N
    if rule is None:
        return unknown_N
    return np.array([float(rule(response)) for response in responses])


def _alike(responses: Sequence[str], gold_N: Float) -> Float:
    """Equal texts have equal gold: the mean of what was given for them."""
    texts = np.array(responses, dtype=object)
    return np.array([float(np.mean(gold_N[texts == text])) for text in responses])


# which are learned from


def divide(items: Sequence[Item], config: Config) -> LearnedAndJudged:
    """Prompts to learn from and prompts to choose for; InputError where none is left to choose for.

    A row that names its side is on that side. The others are divided by the share ``split.train``,
    drawn by the prompt's text, so that equal prompts are on one side.
    """
    share = config.split.train if config.split else 0.5

    def learns(item: Item) -> bool:
        if item.side is not None:
            return item.side == "train"
        return keyed.uniform(config.seed, "data", 0, f"bestofn/{plain_prompt(item.prompt)}") < share

    train = [item for item in items if learns(item)]
    test = [item for item in items if not learns(item)]
    if not test:
        raise InputError(
            f"prompts to learn from: {len(items)}, and none is left to choose for; give more rows, "
            f"a smaller split.train than {share}, split: test in some rows, or --train and --test"
        )
    return LearnedAndJudged(train, test)


def two_files(train: str, test: str, config: Config) -> LearnedAndJudged:
    """One file to learn from, another to choose for; InputError where an id is in both."""
    sides = LearnedAndJudged(
        read_responses(train, config, "train"), read_responses(test, config, "test")
    )
    both = {item.id for item in sides.train} & {item.id for item in sides.test}
    if both:
        raise InputError(
            f"id {min(both)!r} is in {train} and in {test}; "
            "a prompt that is learned from is not chosen for"
        )
    return sides


def limited(sides: LearnedAndJudged, limit: int | None) -> LearnedAndJudged:
    """At most so many prompts on each side, from the categories in turn."""
    return LearnedAndJudged(_first(sides.train, limit), _first(sides.test, limit))


def _first(items: Sequence[Item], limit: int | None) -> list[Item]:
    kept = {id(item) for item in taken_in_turn(items, limit)}
    return [item for item in items if id(item) in kept]


def shared_prompts(sides: LearnedAndJudged) -> int:
    """How many prompts are word for word on both sides."""
    seen = {plain_prompt(item.prompt) for item in sides.train}
    return sum(plain_prompt(item.prompt) in seen for item in sides.test)
