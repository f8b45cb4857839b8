"""Recorded scores with their texts and sources.

They are what the strengths are learned from; `roles` says which rows are for what.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router.chat import Unreadable
from reward_router.errors import InputError
from reward_router.fit_prior.pairs import in_words
from reward_router.offline.strengths import dev_rows
from reward_router.reading import Broken
from reward_router.replay import reading
from reward_router.replay.columns import collect
from reward_router.replay.fields import recorded as in_our_form
from reward_router.replay.importers import kind, load_records
from reward_router.replay.records import Records
from reward_router.rewards.names import nearest

_WITHOUT_TEXTS = "without prompt or responses"
_MARK = "\x1f"  # the source rides in front of the category while rows become columns


@dataclass(frozen=True, eq=False)
class Recorded:
    """Records, every row with prompt and responses, and the source each row came from."""

    records: Records
    source_P: NDArray[np.str_]
    category_P: NDArray[np.str_]
    dropped: Counter[str]

    @property
    def prompts(self) -> list[str]:
        """The prompt of each row."""
        return [self.records.prompts[g] for g in self.records.group_P]

    @property
    def sides(self) -> tuple[list[str], list[str]]:
        """Response a and b of each row."""
        first, second = zip(*self.records.responses, strict=True)
        return list(first), list(second)

    @property
    def abstained_PK(self) -> NDArray[np.bool_]:
        """Where an arm said nothing of a pair, or was not asked.

        It is worth 1/2 there, as in replay, and never right.
        """
        return np.isnan(self.records.margins_PK)

    def digest(self) -> str:
        """A hash of every text, label and score: what a prior was learned from."""
        records = self.records
        total = blake2b(digest_size=16)
        responses = chain.from_iterable(records.responses)
        for text in [*records.arms, *self.prompts, *responses]:
            # The length keeps texts apart that would run into each other.
            total.update(f"{len(text)}:".encode() + text.encode())

        for array in (records.first_PK, records.second_PK, records.label_P):
            total.update(np.ascontiguousarray(array).tobytes())
        return total.hexdigest()


def read_recorded(files: Sequence[str]) -> Recorded:
    """Rows of all files together, in replay's formats.

    RewardBench results and ledgers are read one kind at a time.

    Rows without a prompt or a response, with identical or empty ones, are left out and counted.
    InputError where none is left, or where more than half cannot be read.
    """
    dropped: Counter[str] = Counter()
    if all(kind(file) == "rows" for file in files):
        records = collect("scores", _rows(files, dropped))
        names = [name.split(_MARK, 1) for name in records.categories]
    else:
        together = list(load_records(files))
        if len(together) > 1:
            raise InputError(f"scores {', '.join(files)}: files of several kinds; give one kind")
        records = together[0]
        if not records.prompts or not records.responses:
            raise InputError(
                f"scores {records.name}: prompts and responses are needed on every row, "
                "to be encoded"
            )
        names = [[records.name, category] for category in records.categories]
    source_P = np.array([names[c][0] for c in records.category_P])
    category_P = np.array([names[c][1] for c in records.category_P])
    counts = {
        "broken": records.n_broken,
        "with identical responses": records.n_identical,
        "whose label is a tie": records.n_ties,
    }
    dropped.update({reason: count for reason, count in counts.items() if count})
    lost = dropped["broken"] + dropped[_WITHOUT_TEXTS]
    read = len(records) + sum(dropped.values())
    if 2 * lost > read:
        raise InputError(
            f"scores {', '.join(files)}: {lost} of {read} rows cannot be used, more than half: "
            f"{in_words(dropped)}"
        )
    dropped += Counter()  # names that were only looked up leave
    return Recorded(records, source_P, category_P, dropped)


def _rows(files: Sequence[str], dropped: Counter[str]) -> Iterator[tuple[str, Any]]:
    for file in files:
        for where, row in reading.rows(file):
            if not isinstance(row, Mapping):
                yield where, row
                continue
            try:
                fields = in_our_form(row)
            except (Unreadable, RecursionError) as error:
                yield where, Broken(error)
                continue
            reason = _unusable(fields)
            if reason:
                dropped[reason] += 1
                continue
            source = fields["source"] or reading.short_name(file)
            category = fields["category"] or source
            yield where, {**fields, "category": f"{source}{_MARK}{category}"}


def _unusable(row: Mapping[str, Any]) -> str:
    texts = [row.get(name) for name in ("prompt", "response_a", "response_b")]
    if not all(isinstance(text, str) for text in texts):
        return _WITHOUT_TEXTS
    filled = all(str(text).strip() for text in texts)
    return "" if filled else "with an empty side"


@dataclass(frozen=True, eq=False)
class Roles:
    """(P,) truth values: what a row is for.

    Prompts never stand on two sides; rows in none were dropped for that reason.
    """

    train_P: NDArray[np.bool_]
    dev_P: NDArray[np.bool_]
    test_P: NDArray[np.bool_]
    out_P: NDArray[np.bool_]


def roles(recorded: Recorded, holdout: Sequence[str], test: float, dev: float, seed: int) -> Roles:
    """Which rows are for what.

    Held-out sources are out of distribution; the rest is split by prompt into test, dev and
    training.

    Args:
        recorded: the rows.
        holdout: names of the held-out sources.
        test: share of the other prompts that tests.
        dev: share of the training prompts that stops and calibrates.
        seed: of the draws.
    """
    sources = sorted(set(recorded.source_P.tolist()))
    for name in holdout:
        if name not in sources:
            raise InputError(f"holdout_sources: no source {name!r}{nearest(name, sources)}")

    group_P = recorded.records.group_P
    n_rows = len(group_P)
    out_P = np.isin(recorded.source_P, list(holdout))
    # A prompt of a held-out source teaches nothing, wherever it stands.
    of_held_out_P = np.isin(group_P, group_P[out_P])
    inside = np.flatnonzero(~of_held_out_P)
    if not len(inside):
        raise InputError(
            f"holdout_sources holds out every source ({', '.join(sources)}): "
            "nothing is left to learn from"
        )

    test_P = np.zeros(n_rows, bool)
    test_P[inside] = dev_rows(group_P[inside], test, seed, "test")
    rest = inside[~test_P[inside]]
    dev_P = np.zeros(n_rows, bool)
    dev_P[rest] = dev_rows(group_P[rest], dev, seed)
    train_P = np.zeros(n_rows, bool)
    train_P[rest] = ~dev_P[rest]
    return Roles(train_P, dev_P, test_P, out_P)
