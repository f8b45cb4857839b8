"""All methods over one file: runs, intervals, regret, shares -> the JSON-ready result that table, verdict and report read."""

import multiprocessing
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reward_router.errors import InputError
from reward_router.posterior.blas import one_thread
from reward_router.replay import methods
from reward_router.replay.agreement import agreement
from reward_router.replay.embed import Contexts, build
from reward_router.replay.feedback import Feedback
from reward_router.replay.intervals import Bootstrap, best_single, bootstrap, interval
from reward_router.replay.joined import Parts
from reward_router.replay.lengths import lengths
from reward_router.replay.methods import Plan, Protocol
from reward_router.replay.offline_stage import from_artifact
from reward_router.replay.price_curve import price_curve
from reward_router.replay.promise_curve import FEWEST_ROWS, promise_curve
from reward_router.replay.protocols import Judged, Run, averaged, curve_rows, hindsight
from reward_router.replay.records import Records
from reward_router.replay.verdict import verdict
from reward_router.types import Float

Json = dict[str, Any]
Job = tuple[list[Plan], int]
Done = tuple[str, Run] | dict[str, Judged]
POOL_ROWS = 100_000  # a longer file is not copied to worker processes
POOL_JOBS = 12
_REPEATS = 3


@dataclass(frozen=True)
class Settings:
    """How to evaluate: what ``reward-router replay`` was asked for."""

    routers: Sequence[str] | None = None
    features: str = "auto"
    feedback: Feedback = field(default_factory=lambda: Feedback("correct"))
    seeds: int = 20
    folds: int = 5
    by: str | None = None
    workers: int = 1


def evaluate(records: Records, settings: Settings, parts: Parts | None = None) -> Json:
    """Every method on one file, or learned on one part of the rows and judged on the other. See docs/replay.md for the seconds."""
    plans = methods.plan(settings.routers, records)
    brought = next((p.label for p in plans if p.prior is not None), None)
    if parts is not None and brought is not None:
        raise InputError(
            f"--router {brought} brings its own prior: give the files to judge alone, without --train"
        )
    contexts = build(records, settings.features)
    folds, repeats = min(settings.folds, records.n_groups), min(_REPEATS, settings.seeds)
    priors = {p.prior: from_artifact(p.prior, records) for p in plans if p.prior is not None}
    pairs = _pairs(plans, records, settings.features)
    protocol = Protocol(settings.feedback, folds, 1 if parts else repeats, pairs, priors, parts)
    runs = run_all(plans, records, contexts, protocol, settings)
    judged = records if parts is None else parts.judged
    result = summarise(judged, contexts, plans, runs, settings)
    result["lengths"] = lengths(judged)
    if any(p.kind == "committee" for p in plans):
        result["price_curve"] = price_curve(records, contexts, protocol.folds, parts=parts)
        if len(records) >= FEWEST_ROWS:
            result["promise_curve"] = promise_curve(records, contexts, protocol.folds, parts)
    return result


def _pairs(plans: Sequence[Plan], records: Records, features: str) -> Contexts | None:
    """Contexts of pairs where strengths are learned, responses are recorded and nobody chose other features."""
    wanted = features == "auto" and records.responses and any(p.learns_strengths for p in plans)
    return build(records, "pair") if wanted else None


def run_all(
    plans: Sequence[Plan],
    records: Records,
    contexts: Contexts,
    protocol: Protocol,
    settings: Settings,
) -> dict[str, list[Run]]:
    """Runs of each plan by its label; the same whatever the number of worker processes."""
    fitted = [p for p in plans if p.cross_fitted]
    jobs: list[Job] = [(fitted, repeat) for repeat in range(protocol.repeats) if fitted]
    jobs += [
        ([p], seed)
        for p in plans
        if not p.cross_fitted
        for seed in range(settings.seeds if p.learns_online else 1)
    ]
    found: dict[str, list[Run]] = {p.label: [] for p in plans}
    foldings: dict[str, list[Judged]] = {p.label: [] for p in fitted}
    for chunk in _mapped(jobs, records, contexts, protocol, settings.workers):
        for result in chunk:
            if isinstance(result, tuple):
                found[result[0]].append(result[1])
            else:
                for label, judged in result.items():
                    foldings[label].append(judged)
    learnt = {
        p.label for p in fitted if p.kind == "online"
    }  # their repeats differ by order as well: resampled like runs
    one_each = {
        label: [averaged([j]) for j in repeats]
        for label, repeats in foldings.items()
        if label in learnt
    }
    return found | {label: [averaged(repeats)] for label, repeats in foldings.items()} | one_each


def _mapped(
    jobs: Sequence[Job], records: Records, contexts: Contexts, protocol: Protocol, workers: int
) -> Iterator[list[Done]]:
    """Results in the order of ``jobs``, from worker processes where it pays."""
    if workers < 2 or len(records) > POOL_ROWS or len(jobs) < POOL_JOBS:
        yield _run_jobs(jobs, records, contexts, protocol)
        return
    size = max(1, len(jobs) // (8 * workers))
    chunks = [jobs[i : i + size] for i in range(0, len(jobs), size)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_die_with_parent) as pool:
        same = ([thing] * len(chunks) for thing in (records, contexts, protocol))
        yield from pool.map(_run_jobs, chunks, *same)


def _die_with_parent() -> None:
    """End this worker as soon as its parent is gone, however it went: nobody would read what it computes."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _run_jobs(
    jobs: Sequence[Job], records: Records, contexts: Contexts, protocol: Protocol
) -> list[Done]:
    done: list[Done] = []
    with one_thread():
        for plans, number in jobs:
            if plans[0].cross_fitted:
                done.append(methods.run_crossfit(plans, records, contexts, protocol, number))
            else:
                done.append(
                    (plans[0].label, methods.run(plans[0], records, contexts, protocol, number))
                )
    return done


def summarise(
    records: Records,
    contexts: Contexts,
    plans: Sequence[Plan],
    runs: Mapping[str, Sequence[Run]],
    settings: Settings,
) -> Json:
    """Accuracies, intervals and paired differences of finished runs."""
    boot = bootstrap(records.group_P)
    replicates = {p.label: boot.replicate([r.accuracy_P for r in runs[p.label]]) for p in plans}
    best_R = best_single({arm: replicates[arm] for arm in records.arms})
    even_P = records.correct_PK.mean(axis=1)
    if records.there_PK is not None:  # the arms with a score there, as the router of that name
        even_P = np.mean(records.correct_PK, axis=1, where=records.there_PK)
    uniform_R = boot.replicate([even_P])
    accuracy_K = records.correct_PK.mean(axis=0)
    best = int(accuracy_K.argmax())
    reference = {
        "best": (float(accuracy_K[best]), best_R),
        "uniform": (
            float(even_P.mean() if records.there_PK is not None else accuracy_K.mean()),
            uniform_R,
        ),
    }
    forced = {
        p.label: rows
        for p in plans
        if (rows := methods.forced_rows(p, len(records.arms))) > len(records)
    }
    entries = {
        p.label: _entry(p, runs[p.label], records, boot, replicates[p.label], reference)
        for p in plans
    }
    result: Json = {
        "name": records.name,
        "rows": len(records),
        "prompts": records.n_groups,
        "broken_rows": records.n_broken,
        "identical_rows": records.n_identical,
        "tied_rows": records.n_ties,
        "problems": list(records.problems),
        "arms": list(records.arms),
        "missing": _missing(records),
        "features": {
            "blocks": list(contexts.blocks),
            "width": contexts.width,
            "encoder": contexts.note,
        },
        "best_single": records.arms[best],
        "headroom": float(records.correct_PK.max(axis=1).mean() - accuracy_K[best]),
        "some_right_rows": int((records.correct_PK.max(axis=1) > 0.5).sum()),
        "routers": entries,
        "by": _by_category(records, entries, runs)
        if settings.by or len(records.categories) > 1
        else {},
        "agreement": agreement(records),
        "curve_rows": curve_rows(len(records)),
        "official": dict(records.official),
        "warmup_too_long": forced,
    }
    gains = {p.label: replicates[p.label] - best_R for p in plans if p.kind not in ("arm", "bound")}
    result["verdict"] = verdict(result, gains, settings.routers or ())
    return result


def _entry(
    plan: Plan,
    runs: Sequence[Run],
    records: Records,
    boot: Bootstrap,
    own_R: Float,
    reference: Mapping[str, tuple[float, Float]],
) -> Json:
    accuracy_P = np.mean([r.accuracy_P for r in runs], axis=0)
    some_right_P = records.correct_PK.max(axis=1) > 0.5
    per_run = [float(r.accuracy_P.mean()) for r in runs]
    point = float(accuracy_P.mean())
    best_P, category_P = hindsight(records)
    entry: Json = {
        "kind": plan.kind,
        "accuracy": point,
        "ci95": interval(own_R),
        "accuracy_some_right": float(accuracy_P[some_right_P].mean())
        if some_right_P.any()
        else None,
        "calls_per_row": float(np.mean([r.calls for r in runs])),
        "cost_per_row": float(np.mean([r.cost for r in runs])),
        "regret": float((best_P - accuracy_P).sum()),
        "regret_vs_category_best": float((category_P - accuracy_P).sum()),
        "vs_best_single": _difference(point, own_R, reference["best"]),
        "vs_uniform": _difference(point, own_R, reference["uniform"]),
        "share": dict(
            zip(records.arms, np.mean([r.share_K for r in runs], axis=0).tolist(), strict=True)
        ),
        "runs": len(runs),
        "sd_between_runs": float(np.std(per_run, ddof=1)) if len(runs) > 1 else 0.0,
    }
    late = [r.last_third for r in runs if r.last_third is not None]
    if late and plan.learns_online:
        entry["last_third"] = {
            "accuracy": float(np.mean([a for a, _ in late])),
            "regret": float(np.mean([b for _, b in late])),
        }
    if runs[0].share_TK is not None and plan.learns_online:
        entry["share_over_time"] = (
            np.mean([r.share_TK for r in runs if r.share_TK is not None], axis=0).round(5).tolist()
        )
        entry["regret_over_time"] = (
            np.mean([r.regret_T for r in runs if r.regret_T is not None], axis=0).round(3).tolist()
        )
    return entry


def _difference(point: float, own_R: Float, other: tuple[float, Float]) -> Json:
    low, high = interval(own_R - other[1])
    return {"diff": point - other[0], "ci95": (low, high), "inside": bool(low <= 0 <= high)}


def _missing(records: Records) -> dict[str, float]:
    share_K = np.isnan(records.margins_PK).mean(axis=0)
    return {
        arm: float(share) for arm, share in zip(records.arms, share_K, strict=True) if share > 0
    }


def _by_category(records: Records, entries: Json, runs: Mapping[str, Sequence[Run]]) -> Json:
    """Accuracy of each method in each category, over all its rows and over those where some arm is right, with their numbers."""
    some_P = (records.correct_PK.max(axis=1) > 0.5).astype(np.float64)
    counts = {
        name: _summed(records, part_P)
        for name, part_P in (("rows", None), ("some_right_rows", some_P))
    }
    there = [c for c, n in enumerate(counts["rows"]) if n]
    table: Json = {
        records.categories[c]: {name: int(n[c]) for name, n in counts.items()} for c in there
    }
    for part, over, weight_P in (
        ("accuracy", "rows", None),
        ("accuracy_some_right", "some_right_rows", some_P),
    ):
        for c in there:
            table[records.categories[c]][part] = {}
        for label in entries:
            mean_P = np.mean([r.accuracy_P for r in runs[label]], axis=0)
            sums = _summed(records, mean_P if weight_P is None else mean_P * weight_P)
            for c in there:
                n = counts[over][c]
                table[records.categories[c]][part][label] = float(sums[c] / n) if n else None
    return table


def _summed(records: Records, value_P: Float | None) -> Float:
    """(C,) sums of a row's value by category, None: counts."""
    return np.bincount(records.category_P, value_P, len(records.categories)).astype(np.float64)
