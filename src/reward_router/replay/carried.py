"""Train here, judge there.

Methods learn on the rows of some files or sources and are judged on the rows of others. Benchmarks
have biases of their own, and folds of one file cannot show them: what a method learns of a bias it
is paid for.

No label of the judged rows is read (online routers are frozen there unless they are to go on), and
prompts that stand on both sides teach nothing. The committee holds to what may be carried to
another source: weights that are not negative.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reward_router.errors import InputError
from reward_router.replay.evaluate import ReplaySettings, evaluate_methods
from reward_router.replay.joined import Parts, joined, parts_of
from reward_router.replay.methods import NOT_ROUTING
from reward_router.replay.records import Records

Json = dict[str, Any]
Narrow = Callable[[Records], Records]


@dataclass(frozen=True)
class Carry:
    """Learn on some rows and judge on others.

    Args:
        train: files to learn from.
        test: files to judge.
        by_source: each source is left out in turn, instead of ``train`` and ``test``.
        goes_on: online routers are paid for the judged rows, too.
        keep_shared: rows to learn from stay although their prompt is judged.
    """

    train: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    by_source: bool = False
    goes_on: bool = False
    keep_shared: bool = False


def train_test(
    train: Sequence[Records],
    test: Sequence[Records],
    narrow: Narrow,
    settings: ReplaySettings,
    carry: Carry,
) -> Json:
    """{"files": [one result over all test rows]}; ``trained_on`` names the training sets.

    ``InputError`` where they share fewer than two arms, or no row is left on a side.
    """
    together, part_P = joined([*train, *test])
    # Parts are numbered in the order in which they were joined: training sets come first.
    tested_P = part_P >= len(train)
    name = " + ".join(records.name for records in test)
    parts = parts_of(together, tested_P, name, carry.goes_on, carry.keep_shared)

    trained_on = [records.name for records in train]
    result = _judged(narrow(together), narrow, parts, settings, trained_on)
    return {"files": [result]}


def by_source(
    several: Sequence[Records],
    narrow: Narrow,
    settings: ReplaySettings,
    carry: Carry,
    done: Callable[[Json], None] = lambda result: None,
) -> Json:
    """{"files": [one result a source left out], "by_source": what `over_sources` says of them}.

    ``done`` gets each result as soon as it is ready. ``InputError`` where there are fewer than two
    sources.
    """
    together, _ = joined(several)
    source_P, sources = together.tag("source")
    present = [number for number in range(len(sources)) if (source_P == number).any()]
    if len(present) < 2:
        raise InputError(
            f"{together.name}: all rows are of one source, {sources[present[0]]}; "
            "--by-source needs two"
        )

    results = []
    for number in present:
        name = sources[number]
        others = [sources[other] for other in present if other != number]
        parts = parts_of(together, source_P == number, name, keep_shared=carry.keep_shared)
        result = _judged(narrow(together), narrow, parts, settings, others)
        results.append(result)
        done(result)
    return {"files": results, "by_source": carried_over_sources(results)}


def carried_over_sources(results: Sequence[Json]) -> Json:
    """{method: {mean, worst, worst_source, better, accuracy, calls}} over the sources.

    ``mean`` and ``worst`` are gains over the best single arm of the training sources, ``better``
    the number of sources with a gain. The yardstick is `best_train` where it was run, else that arm
    alone: the best arm in hindsight of a source that nobody saw is not to be had.
    """
    methods = [
        m
        for m, entry in results[0]["routers"].items()
        if entry["kind"] != "arm" and m not in NOT_ROUTING
    ]
    table: Json = {}
    for method in methods:
        gains = np.array([_gain(result, method) for result in results])
        worst = int(np.argmin(gains))
        entries = [result["routers"][method] for result in results]
        table[method] = {
            "mean": float(gains.mean()),
            "worst": float(gains[worst]),
            "worst_source": results[worst]["name"],
            "better": int((gains > 0).sum()),
            "accuracy": float(np.mean([entry["accuracy"] for entry in entries])),
            "calls": float(np.mean([entry["calls_per_row"] for entry in entries])),
        }
    return table


def _gain(result: Json, method: str) -> float:
    routers = result["routers"]
    yardstick = routers.get("best_train", routers[result["best_of_training"]])
    return float(routers[method]["accuracy"] - yardstick["accuracy"])


def _judged(
    records: Records, narrow: Narrow, parts: Parts, settings: ReplaySettings, trained_on: list[str]
) -> Json:
    judged = narrow(parts.judged)
    narrowed = Parts(parts.train_P, parts.test_P, judged, parts.goes_on, parts.shared)
    result = evaluate_methods(records, settings, narrowed)
    best = int(records.correct_PK[parts.train_P].mean(axis=0).argmax())
    return result | {
        "trained_on": trained_on,
        "best_of_training": records.arms[best],
        "training_rows": len(parts.train_P),
        "shared_rows": parts.shared,
    }
