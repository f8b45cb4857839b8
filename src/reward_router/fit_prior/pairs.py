"""Preference pairs of several sources, sampled and cleaned.

What is left out is counted by reason.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from reward_router.data import PreferenceRecord, load_preferences
from reward_router.errors import InputError
from reward_router.keyed import key
from reward_router.offline.settings import PairSource
from reward_router.offline.text import prompt_text
from reward_router.reading import RowTally


@dataclass(frozen=True, slots=True)
class SourcedPair:
    """One preference, its prompt as text; ``id`` is unique over all sources."""

    id: str
    source: str
    category: str
    prompt: str
    chosen: str
    rejected: str


def load_pairs(
    sources: Sequence[PairSource], seed: int = 0
) -> tuple[list[SourcedPair], Counter[str]]:
    """Pairs of every source in order, and how many were left out, by reason.

    Left out: rows that cannot be read, ties, identical responses, an empty side, more than
    ``max_chars``, and what is beyond ``sample``. InputError where a source has none left, or where
    more than half of its rows cannot be read. O(rows).
    """
    pairs: list[SourcedPair] = []
    dropped: Counter[str] = Counter()
    for source in sources:
        usable: list[SourcedPair] = []
        tally = RowTally(source.source)
        records = load_preferences(
            source.source,
            split=source.split,
            columns=source.columns,
            config_name=source.name,
            preference=source.preference,
            tally=tally,
        )
        dropped += _left_out(tally)
        for record in records:
            pair = _pair(record, source)
            reason = _unusable(pair, source.max_chars)
            if reason:
                dropped[reason] += 1
            else:
                usable.append(pair)
        if not usable:
            raise InputError(f"data {source.source}: no usable pair; left out: {in_words(dropped)}")
        pairs += _sampled(usable, source.sample, seed)
    return pairs, dropped


def pairs_digest(pairs: Sequence[SourcedPair]) -> str:
    """How many pairs, and one hash of all of them in order."""
    total = hashlib.blake2b(digest_size=16)
    for pair in pairs:
        parts = (pair.id, pair.source, pair.category, pair.prompt, pair.chosen, pair.rejected)
        # Separators that no text holds, so that texts cannot run into each other.
        line = "\x1f".join(parts)
        total.update(line.encode(errors="surrogatepass") + b"\x1e")
    return f"{len(pairs)} pairs, {total.hexdigest()}"


def _left_out(tally: RowTally) -> Counter[str]:
    """What the reader left out already, by reason."""
    counts = {
        "with identical responses": tally.identical,
        "without a better response (ties)": tally.ties,
        f"that cannot be read (first: {tally.first})": tally.lost,
    }
    return Counter({reason: count for reason, count in counts.items() if count})


def in_words(dropped: Counter[str]) -> str:
    """The counts in words, '' for none."""
    return ", ".join(f"{n} {reason}" for reason, n in sorted(dropped.items()))


def _pair(record: PreferenceRecord, source: PairSource) -> SourcedPair:
    # Without a name of its own, a source goes by its file: the last part, before the first dot.
    file_name = source.source.rsplit("/", 1)[-1].split(".")[0]
    name = source.as_source or record.source or file_name
    return SourcedPair(
        id=f"{name}:{record.id}",
        source=name,
        category=record.category or name,
        prompt=prompt_text(record.prompt),
        chosen=record.chosen,
        rejected=record.rejected,
    )


def _unusable(pair: SourcedPair, max_chars: int | None) -> str:
    if not pair.chosen.strip() or not pair.rejected.strip():
        return "with an empty side"
    characters = len(pair.prompt) + len(pair.chosen) + len(pair.rejected)
    too_long = max_chars is not None and characters > max_chars
    return "longer than max_chars" if too_long else ""


def _sampled(pairs: list[SourcedPair], sample: int | None, seed: int) -> list[SourcedPair]:
    """At most ``sample`` pairs, in file order: those with the smallest keyed hashes.

    So a larger sample holds a smaller one.
    """
    if sample is None or sample >= len(pairs):
        return pairs

    def hashed(row: int) -> int:
        return key(seed, "data", 0, pairs[row].id)

    by_hash = sorted(range(len(pairs)), key=hashed)
    smallest = by_hash[:sample]
    return [pairs[row] for row in sorted(smallest)]
