"""The arms of the experiment `metrics`: ROSCOE's, and metrics that do not look at the question.

They score the recorded pairs once; scores are kept by content and by what an arm is, as those of
`fit-prior` are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from rich.console import Console

from reward_router.chat import Unreadable
from reward_router.errors import InputError
from reward_router.experiments.kind import Request
from reward_router.fit_prior.pairs import SourcedPair
from reward_router.fit_prior.scoring import score_pairs
from reward_router.keyed import rng
from reward_router.reading import Broken
from reward_router.replay import importers, reading
from reward_router.replay.columns import collect
from reward_router.replay.fields import recorded
from reward_router.replay.records import Records
from reward_router.rewards.pool import RewardPool
from reward_router.rewards.spec import ArmSpec
from reward_router.types import Int

READ = 64
"""Tokens of a response that perplexity reads here: all of them would take an hour of one core."""

BATCH = 16
"""Sentences encoded together: on one core twice as fast as 64, which do not fit its cache."""

METRICS: Mapping[str, Mapping[str, object]] = {
    # First, because sentences are encoded on the way to their tokens: the others find them.
    "faithfulness": {"kind": "roscoe", "metric": "faithfulness_token"},
    "informativeness": {"kind": "roscoe", "metric": "informativeness_step"},
    "reasoning alignment": {"kind": "roscoe", "metric": "reasoning_alignment"},
    "hallucination": {"kind": "roscoe", "metric": "hallucination"},
    "common sense": {"kind": "roscoe", "metric": "missing_step"},
    "semantic": {"kind": "roscoe", "metric": "semantic_coverage_chain"},
    "coherence": {"kind": "roscoe", "metric": "coherence"},
    "perplexity": {"kind": "roscoe_lm", "metric": "perplexity_chain", "max_tokens": READ},
}
"""LASER's eight, by its names. Without references the source stands for the reference chain."""

FEWEST = 20
"""Pairs under which nothing could be learned."""
NEVER = "(?!)"
"""A pattern that nothing matches: with noise of 1 a metric of it is a number drawn anew."""
IRRELEVANT: Mapping[str, Mapping[str, object]] = {
    "repetition of steps": {"kind": "roscoe", "metric": "repetition_step"},
    "repetition of tokens": {"kind": "roscoe", "metric": "repetition_token"},
    "readability": {"kind": "metric", "metric": "readability"},
    "coin": {"kind": "metric", "metric": "regex", "pattern": NEVER, "noise": 1.0},
    "second coin": {
        "kind": "metric",
        "metric": "regex",
        "pattern": NEVER,
        "noise": 1.0,
        "noise_seed": 1,
    },
}
"""In the order in which they are added, which is that of this table and no measurement's."""


def specs() -> list[ArmSpec]:
    """The arms of both tables."""
    arms = []
    for name, written in {**METRICS, **IRRELEVANT}.items():
        options = {key: value for key, value in written.items() if key != "kind"}
        if written["kind"] == "roscoe":
            options["batch_size"] = BATCH
        arms.append(ArmSpec(name, str(written["kind"]), options=options))
    return arms


def with_texts(file: str) -> tuple[Records, int]:
    """The rows of a file that hold their texts, and how many do not.

    InputError where none does.
    """
    if importers.kind(file) != "rows":
        [records] = importers.load_records([file])
        return records, 0
    left_out = 0
    kept = []
    for where, row in reading.rows(file):
        if not isinstance(row, Broken) and not _has_texts(row):
            left_out += 1
        else:
            kept.append((where, row))
    name = reading.short_name(file)
    if not any(isinstance(row, Mapping) for _, row in kept):
        raise InputError(
            f"{name}: metrics are computed from texts, and no row has its prompt, response_a and "
            "response_b"
        )
    return collect(name, kept), left_out


def most_pairs(request: Request) -> int | None:
    """How many pairs ``--set pairs=N`` asks for; None: all. InputError for anything else."""
    if not request.settings:
        return None
    text = request.settings[-1].removeprefix("pairs=")
    known = all(setting.startswith("pairs=") for setting in request.settings)
    if not known or not text.isdecimal() or int(text) < FEWEST:
        raise InputError(
            f"--set {' '.join(request.settings)}: metrics on recorded pairs takes pairs=N alone, "
            f"how many are drawn, N a whole number from {FEWEST}"
        )
    return int(text)


def drawn_rows(n_rows: int, count: int) -> Int:
    """(count,) rows drawn without replacement, in the file's order; always the same ones."""
    return np.sort(rng(0, "order", 0, "metrics").permutation(n_rows)[:count])


def _has_texts(row: object) -> bool:
    try:
        fields = recorded(row)  # type: ignore[arg-type]
    except (Unreadable, RecursionError):
        return True  # a row that cannot be read is counted as broken where rows become columns
    return all(fields[name] for name in ("prompt", "response_a", "response_b"))


def as_pairs(records: Records) -> list[SourcedPair]:
    """The recorded rows as what `score_pairs` takes: the first response stands as the chosen one.

    InputError where a row lacks its prompt or its responses.
    """
    if not records.prompts or not records.responses:
        raise InputError(
            f"{records.name}: metrics are computed from texts, and some row lacks its prompt, "
            "response_a or response_b"
        )
    pairs = []
    for p, (first, second) in enumerate(records.responses):
        prompt = records.prompts[records.group_P[p]]
        pairs.append(SourcedPair(str(p), records.name, "", prompt, first, second))
    return pairs


def check_names(records: Records, arms: Sequence[ArmSpec]) -> None:
    """InputError where an arm of the file has the name of a metric."""
    taken = sorted({arm.name for arm in arms} & set(records.arms))
    if taken:
        raise InputError(
            f"{records.name}: an arm is called {taken[0]!r}, as a metric is; rename it"
        )


def with_metrics(records: Records, console: Console, arms: Sequence[ArmSpec]) -> Records:
    """The same rows with a column more for each of the arms, after the reward models.

    What was scored before is read from the cache. InputError where an arm could not be asked.
    """
    check_names(records, arms)
    pool = RewardPool({arm.name: arm for arm in arms})
    scores, failed = score_pairs(as_pairs(records), arms, pool, console)
    for arm, error in failed.items():
        raise InputError(f"metric {arm}: {error}")
    first_PK = np.stack([scores[arm.name][:, 0] for arm in arms], axis=1)
    second_PK = np.stack([scores[arm.name][:, 1] for arm in arms], axis=1)
    cost_PK = records.cost_PK
    if cost_PK is not None:
        cost_PK = np.hstack([cost_PK, np.ones_like(first_PK)])
    return replace(
        records,
        arms=(*records.arms, *(arm.name for arm in arms)),
        first_PK=np.hstack([records.first_PK, first_PK]),
        second_PK=np.hstack([records.second_PK, second_PK]),
        cost_PK=cost_PK,
    )
