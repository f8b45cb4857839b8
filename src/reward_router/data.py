"""Prompts and preferences as records, from files or the Hub.

A prompt is text or a list of messages; a single user message becomes its text. The forms that are
read are listed in ``docs/data.md``; any other column is reached by mapping. A row that cannot be
read is left out, counted and named.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from reward_router import chat, keyed, preferences
from reward_router.chat import Prompt, Unreadable
from reward_router.column_names import (
    check_mapping,
    fill_template,
    optional,
    required,
    template_fields,
)
from reward_router.errors import InputError
from reward_router.labels import Numbers, named
from reward_router.preferences import Preference
from reward_router.reading import Broken, DataRow, RowTally, read_rows

__all__ = [
    "PreferenceRecord",
    "Prompt",
    "PromptRecord",
    "load_preferences",
    "load_prompts",
    "wrapped",
]

_FOLD = re.compile(r"(?P<split>.+)#(?P<low>\d+(?:\.\d+)?):(?P<high>\d+(?:\.\d+)?)")
_CONVERSATIONS = ("messages", "conversations", "conversation")


@dataclass(frozen=True, slots=True)
class PromptRecord:
    """One prompt.

    Args:
        id: the data's own, else a hash of the record.
        prompt: a text, or a list of messages.
        category: what the prompt is about; may be empty.
        answer: what gold is computed from; None where the data has none.
    """

    id: str
    prompt: Prompt
    category: str = ""
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class PreferenceRecord:
    """One preference: ``chosen`` is better than ``rejected`` as a response to ``prompt``."""

    id: str
    prompt: Prompt
    chosen: str
    rejected: str
    source: str = ""
    category: str = ""


Record = TypeVar("Record", PromptRecord, PreferenceRecord)


def load_prompts(  # noqa: PLR0913 (the settings of a section `data`)
    path_or_name: str,
    *,
    split: str | None = "train",
    columns: Mapping[str, str] | None = None,
    template: str | None = None,
    limit: int | None = None,
    config_name: str | None = None,
    categories: Sequence[str] | None = None,
    tally: RowTally | None = None,
) -> list[PromptRecord]:
    """Prompts of a file or a Hub data set, in order.

    A file holds JSON lines, a JSON array or CSV, each also gzipped, or it is Parquet. A row that
    cannot be read is left out. InputError where more than half of the rows cannot be read (it names
    the file, the line and the columns there are), for an empty result, or for an id that stands
    twice. O(rows).

    Args:
        path_or_name: the file, or the name of a Hub data set.
        split: as in `read_rows`; ``NAME#A:B`` keeps the rows whose prompt hashes into percent A to
            B, a stable random split in which a prompt is never on both sides.
        columns: our names (id, prompt, category, answer) and the data's; a path such as
            ``conversation.0.content`` reaches into lists and objects.
        template: a text with ``{column}`` fields, ours or the data's; ``{{`` is a brace. A list
            fills in as lettered choices, one a line. Of a conversation it wraps the last user turn.
        limit: keeps the first so many.
        config_name: the configuration of a Hub data set.
        categories: keeps prompts of these only.
        tally: counts what was left out; None: a `DataWarning` names the first and counts them.
    """
    mapping = check_mapping(columns, ("id", "prompt", "category", "answer"))
    fields = template_fields(template)

    def make(place: str, row: DataRow) -> Iterator[PromptRecord]:
        chat.no_media(row)
        # A template may do without the prompt's own column.
        prompt: Prompt = ""
        if template is None or "prompt" in fields:
            prompt = _prompt_of(row, mapping, place)
        if template is not None:
            prompt = wrapped(
                prompt, lambda text: fill_template(template, row, mapping, text, place)
            )

        name = optional(row, "id", mapping, place)
        category = optional(row, "category", mapping, place)
        answer = optional(row, "answer", mapping, place)
        # Reasoning data sets keep their answers where no column says so.
        if answer is None and "answer" not in mapping:
            truth = {"answer": preferences.ground_truth(row)}
            answer = optional(truth, "answer", {}, place)
        yield PromptRecord(name or "", _checked(prompt), category or "", answer)

    counted = tally or RowTally(path_or_name)
    reading = _Reading(path_or_name, split, config_name, categories, limit, counted)
    records = [reading.named(record, place) for place, record in reading.records(make)]
    return reading.finished(records, tally is None)


def load_preferences(  # noqa: PLR0913 (the settings of a section `data`)
    path_or_name: str,
    *,
    split: str = "train",
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
    config_name: str | None = None,
    categories: Sequence[str] | None = None,
    preference: str | None = None,
    tally: RowTally | None = None,
) -> list[PreferenceRecord]:
    """Preference pairs {prompt, chosen, rejected, source?, category?, id?}.

    They come from the same places as in `load_prompts`, with the same options and errors. The forms
    of `reward_router.preferences` are recognised by their columns. ``chosen`` and ``rejected`` are
    texts or message lists that end in one assistant turn. Without a prompt column the prompt is
    what both have in common at their start (TRL's implicit prompt). A list of texts is several
    responses: every chosen is paired with every rejected. Ties and pairs of identical responses are
    left out and counted. O(rows).

    Args:
        path_or_name: as in `load_prompts`.
        split: as in `load_prompts`.
        columns: our names (id, prompt, chosen, rejected, source, category) and the data's.
        limit: as in `load_prompts`.
        config_name: as in `load_prompts`.
        categories: as in `load_prompts`.
        preference: the column that says which is better: labels, an index, or signed numbers
            (below 0 ``chosen`` is the better one, above 0 ``rejected``, 0 is a tie). Where its
            numbers leave open which of these, ``COLUMN:index0``, ``:index1``, ``:first`` or
            ``:signed`` says it.
        tally: as in `load_prompts`.
    """
    mapping = check_mapping(columns, ("id", "prompt", "chosen", "rejected", "source", "category"))
    numbers: dict[str, Numbers] = {}
    convention: str | None = None

    def make(place: str, row: DataRow) -> Iterator[_Draft]:
        nonlocal convention
        column = preference
        if preference is not None:
            column, convention = named(preference, row)
        name = optional(row, "id", mapping, place) or ""
        source = optional(row, "source", mapping, place) or ""
        category = optional(row, "category", mapping, place) or ""
        pairs = preferences.pairs_of(row, mapping, column, place)
        for number, pair in enumerate(pairs, start=1):
            _checked(pair.prompt)
            if isinstance(pair.said, float):
                # What a number means shows only when all numbers of its column are seen.
                new_column = Numbers(pair.column, convention, pair.counted_from)
                numbers.setdefault(pair.column, new_column).note(pair.said)
            pair_id = f"{name}-{number}" if name and len(pairs) > 1 else name
            yield _Draft(pair, pair_id, pair.prompt, source, category)

    counted = tally or RowTally(path_or_name)
    reading = _Reading(path_or_name, split, config_name, categories, limit, counted)
    drafts = list(reading.records(make))
    for column in numbers.values():
        _settle(column, path_or_name, preference)
    records = []
    for place, draft in drafts:
        try:
            record = draft.record(numbers)
        except ValueError:
            counted.broken(
                f"data {place}: {draft.pair.column} is {draft.pair.said}, which says nothing there"
            )
            continue
        if record is None:
            counted.ties += 1
        elif record.chosen == record.rejected:
            counted.identical += 1
        else:
            records.append(reading.named(record, place))
    return reading.finished(records, tally is None)


def _settle(column: Numbers, source: str, preference: str | None) -> None:
    """Settle what the numbers of a column mean; InputError where they leave it open.

    A column that the user named may be signed, so that 0 alone does not make it an index.
    """
    try:
        column.settle(named_index=preference is None or _sounds_like_an_index(column.column))
    except InputError as error:
        raise InputError(f"data {source}: {error}") from None


def _sounds_like_an_index(column: str) -> bool:
    return (
        re.search(r"(_id|index|idx|winner|label|choice|chosen)s?$", column.casefold()) is not None
    )


@dataclass(frozen=True, slots=True)
class _Draft:
    """A pair before it is known what the numbers of its label column mean."""

    pair: Preference
    id: str
    prompt: Prompt
    source: str
    category: str

    def record(self, numbers: Mapping[str, Numbers]) -> PreferenceRecord | None:
        """The preference; None for a tie."""
        said = self.pair.said
        # A number says nothing by itself: which side it means is known from the whole column.
        side = said
        if isinstance(said, float):
            side = numbers[self.pair.column].side(said)
        if side == "tie":
            return None

        better = self.pair.first
        worse = self.pair.second
        if side != "a":
            better, worse = worse, better
        return PreferenceRecord(self.id, self.prompt, better, worse, self.source, self.category)


class _Reading:
    """One pass over a source: which rows are wanted, what was lost, and that no id stands twice."""

    def __init__(
        self,
        source: str,
        split: str | None,
        config_name: str | None,
        categories: Sequence[str] | None,
        limit: int | None,
        tally: RowTally,
    ) -> None:
        if limit is not None and limit < 1:
            raise InputError(f"data limit={limit}: at least 1, or none for all")
        self.source = source
        self.config_name = config_name
        self.categories = categories
        self.limit = limit
        self.split, self.low, self.high = _fold(split)
        self.split_setting = split
        self.tally = tally
        self.seen: set[str] = set()
        self.first_at: dict[str, str] = {}

    def records(self, make: Callable[[str, DataRow], Iterator[Any]]) -> Iterator[tuple[str, Any]]:
        """(place, record) of the wanted rows, until the limit; what cannot be read is counted."""
        kept = 0
        for place, row in read_rows(self.source, self.split, self.config_name):
            self.tally.read += 1
            for record in self._of_row(place, row, make):
                self.seen.add(record.category)
                if not self._wanted(record):
                    continue
                kept += 1
                yield place, record
                if kept == self.limit:
                    return

    def _of_row(
        self, place: str, row: DataRow | Broken, make: Callable[[str, DataRow], Iterator[Any]]
    ) -> list[Any]:
        try:
            if isinstance(row, Broken):
                raise Unreadable(str(row))
            return list(make(place, row))
        except Unreadable as error:
            self.tally.broken(f"data {place}: {error}")
        except InputError as error:  # it names the place itself
            self.tally.broken(str(error))
        except RecursionError:
            self.tally.broken(f"data {place}: nested too deeply")
        return []

    def _wanted(self, record: Any) -> bool:
        if self.categories is not None and record.category not in self.categories:
            return False
        if self.low == 0 and self.high == 100:
            return True
        # A part of the data goes by the prompt's text, so that equal prompts stay in one part.
        percent = 100 * keyed.uniform(0, "data", 0, _digest(record.prompt))
        return self.low <= percent < self.high

    def named(self, record: Record, place: str) -> Record:
        """The record with a unique id: its own, else its content's hash.

        Equal records without ids are numbered from the second one on.
        """
        first_at = self.first_at
        if record.id in first_at:
            raise InputError(
                f"data {place}: id {record.id!r} was given before, at {first_at[record.id]}; "
                "ids are unique"
            )
        if not record.id:
            digest = name = _digest(record)
            count = 1
            while name in first_at:
                count += 1
                name = f"{digest}-{count}"
            record = replace(record, id=name)
        first_at[record.id] = place
        return record

    def finished(self, records: list[Record], tell: bool) -> list[Record]:
        """The records; InputError where too much was lost or none is left.

        ``tell``: whether to warn of what was left out.
        """
        self.tally.check()
        if not records:
            hints = ""
            if self.categories and self.seen:
                hints += f"; categories there are: {', '.join(sorted(self.seen))}"
            if left_out := self.tally.told():
                hints += f"; {left_out}"
            of_split = f", split {self.split_setting!r}" if self.split_setting else ""
            raise InputError(f"data {self.source}{of_split}: no rows{hints}")
        if tell:
            self.tally.tell()
        return records


def _digest(content: object) -> str:
    return hashlib.blake2b(repr(content).encode(), digest_size=8).hexdigest()


def _fold(split: str | None) -> tuple[str | None, float, float]:
    """The split's name, and the percents of its prompts from which and to which it goes."""
    parts = _FOLD.fullmatch(split or "")
    if parts is None:
        return split, 0.0, 100.0
    low = float(parts["low"])
    high = float(parts["high"])
    if not low < high <= 100:
        raise InputError(f"data split {split!r}: write NAME#A:B with 0 <= A < B <= 100 percent")
    return parts["split"], low, high


def _prompt_of(row: DataRow, mapping: Mapping[str, str], place: str) -> Prompt:
    """The prompt column, or the conversation that a row has instead.

    The assistant's turns at the end of a conversation are no prompt.
    """
    if "prompt" not in mapping and row.get("prompt") is None:
        has_turns = (name for name in _CONVERSATIONS if chat.is_messages(row.get(name)))
        column = next(has_turns, None)
        if column is not None:
            turns = chat.messages(row[column], column)
            # At least one turn stays: a prompt without any would say nothing.
            while len(turns) > 1 and turns[-1]["role"] == "assistant":
                turns = turns[:-1]
            return preferences.prompt(turns, column)

    text = required(row, "prompt", mapping, place)
    return preferences.prompt(text, "prompt")


def _checked(prompt: Prompt) -> Prompt:
    if not prompt:
        raise Unreadable("the prompt is empty")
    if not isinstance(prompt, str) and prompt[-1]["role"] == "assistant":
        raise Unreadable(
            "the prompt ends with an assistant turn; it must end with the user's or a tool's"
        )
    if not (prompt if isinstance(prompt, str) else prompt[-1]["content"]).strip():
        raise Unreadable("the prompt is empty")
    return prompt


def wrapped(prompt: Prompt, wrap: Callable[[str], str]) -> Prompt:
    """The prompt with its text, or its last user turn, passed through ``wrap``."""
    if isinstance(prompt, str):
        return wrap(prompt)
    last = max((i for i, turn in enumerate(prompt) if turn["role"] == "user"), default=None)
    if last is None:
        raise Unreadable("the template wraps the last user turn, and the prompt has none")
    return [
        {**turn, "content": wrap(turn["content"])} if i == last else turn
        for i, turn in enumerate(prompt)
    ]
