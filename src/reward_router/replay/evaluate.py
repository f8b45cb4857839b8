"""All methods over one file: runs, intervals, regret and shares.

The result is ready for JSON; table, verdict and report read it.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reward_router.errors import InputError
from reward_router.posterior.blas import one_thread
from reward_router.replay import methods
from reward_router.replay.agreement import arm_agreement
from reward_router.replay.embed import RowContexts, build
from reward_router.replay.feedback import Feedback
from reward_router.replay.intervals import (
    Bootstrap,
    best_single_arm,
    bootstrap,
    percentile_interval,
)
from reward_router.replay.joined import Parts
from reward_router.replay.lengths import lengths
from reward_router.replay.methods import Conditions, MethodPlan
from reward_router.replay.offline_stage import from_artifact
from reward_router.replay.price_curve import price_curve
from reward_router.replay.promise_curve import FEWEST_PROMPTS, FEWEST_ROWS, promise_curve
from reward_router.replay.protocols import MethodScores, Run, averaged, curve_rows, hindsight
from reward_router.replay.records import Records
from reward_router.replay.verdict import file_verdict
from reward_router.types import Float

Json = dict[str, Any]
Job = tuple[list[MethodPlan], int]
Done = tuple[str, Run] | dict[str, MethodScores]
POOL_ROWS = 100_000  # a longer file is not copied to worker processes
POOL_JOBS = 12  # fewer jobs are done before a worker process has started
_REPEATS = 3
_DIGITS = 12


@dataclass(frozen=True)
class ReplaySettings:
    """How to evaluate: what ``reward-router replay`` was asked for.

    Args:
        routers: methods by name; None: the whole table.
        features: blocks of the contexts, see ``embed.build``.
        feedback: what pays online routers.
        seeds: runs of each online router.
        folds: folds of the cross-fitted methods.
        by: ``category`` for a table by category.
        workers: processes to run in.
        tick: is told (runs done, runs in all) of a file as they end.
    """

    routers: Sequence[str] | None = None
    features: str = "auto"
    feedback: Feedback = field(default_factory=lambda: Feedback("correct"))
    seeds: int = 20
    folds: int = 5
    by: str | None = None
    workers: int = 1
    tick: Callable[[int, int], None] = lambda done, total: None


def evaluate_methods(
    records: Records, settings: ReplaySettings, parts: Parts | None = None
) -> Json:
    """Every method on one file, or learned on one part of the rows and judged on the other.

    docs/replay.md says how many seconds it takes.
    """
    plans = methods.plan(settings.routers, records)
    with_prior = [p for p in plans if p.prior is not None]
    if parts is not None and with_prior:
        raise InputError(
            f"--router {with_prior[0].label} brings its own prior: "
            "give the files to judge alone, without --train"
        )
    contexts = build(records, settings.features)
    conditions = Conditions(
        feedback=settings.feedback,
        folds=min(settings.folds, records.n_groups),
        # Given parts are one split: there is nothing to draw again.
        repeats=1 if parts else min(_REPEATS, settings.seeds),
        pairs=_pairs(plans, records, settings.features),
        priors={str(p.prior): from_artifact(str(p.prior), records) for p in with_prior},
        parts=parts,
    )
    runs = run_all(plans, records, contexts, conditions, settings)
    judged = records if parts is None else parts.judged
    result = summarise(judged, contexts, plans, runs, settings)
    result["lengths"] = lengths(judged)
    if any(p.kind == "committee" for p in plans):
        result["price_curve"] = price_curve(records, contexts, conditions.folds, parts=parts)
        if _can_promise(records, parts):
            result["promise_curve"] = promise_curve(records, contexts, conditions.folds, parts)
    return result


def _can_promise(records: Records, parts: Parts | None) -> bool:
    """Whether there are rows enough to learn from, and to certify a promise with."""
    group_T = records.group_P if parts is None else records.group_P[parts.train_P]
    return len(group_T) >= FEWEST_ROWS and len(np.unique(group_T)) >= FEWEST_PROMPTS


def _pairs(plans: Sequence[MethodPlan], records: Records, features: str) -> RowContexts | None:
    """Contexts of pairs, for methods that learn strengths.

    None where responses are not recorded, or where somebody chose other features.
    """
    wanted = features == "auto" and records.responses and any(p.learns_strengths for p in plans)
    return build(records, "pair") if wanted else None


def run_all(
    plans: Sequence[MethodPlan],
    records: Records,
    contexts: RowContexts,
    conditions: Conditions,
    settings: ReplaySettings,
) -> dict[str, list[Run]]:
    """Runs of each plan by its label; the same whatever the number of worker processes."""
    fitted = [plan for plan in plans if plan.cross_fitted]
    runs: dict[str, list[Run]] = {plan.label: [] for plan in plans}
    foldings: dict[str, list[MethodScores]] = {plan.label: [] for plan in fitted}
    jobs = _jobs(plans, fitted, conditions.repeats, settings.seeds)

    done = 0
    for chunk in _mapped(jobs, records, contexts, conditions, settings.workers):
        done += len(chunk)
        settings.tick(done, len(jobs))
        for result in chunk:
            # A run is one plan's; a folding holds all cross-fitted plans at once.
            if isinstance(result, tuple):
                label, run = result
                runs[label].append(run)
                continue
            for label, judged in result.items():
                foldings[label].append(judged)

    for plan in fitted:
        repeats = foldings[plan.label]
        if plan.kind == "online":
            # These repeats differ by order as well, so they are resampled like runs.
            runs[plan.label] = [averaged([judged]) for judged in repeats]
        else:
            runs[plan.label] = [averaged(repeats)]
    return runs


def _jobs(
    plans: Sequence[MethodPlan], fitted: list[MethodPlan], repeats: int, seeds: int
) -> list[Job]:
    """All cross-fitted plans together once a repeat, then each of the others once a seed."""
    jobs: list[Job] = []
    if fitted:
        jobs += [(fitted, repeat) for repeat in range(repeats)]
    for plan in plans:
        if not plan.cross_fitted:
            # Only what draws differs from seed to seed.
            runs = seeds if plan.learns_online else 1
            jobs += [([plan], seed) for seed in range(runs)]
    return jobs


def _mapped(
    jobs: Sequence[Job],
    records: Records,
    contexts: RowContexts,
    conditions: Conditions,
    workers: int,
) -> Iterator[list[Done]]:
    """Results in the order of ``jobs``, from worker processes where it pays."""
    # Here, where copies of the rows or the start of processes would take longer than they save.
    stays_here = len(records) > POOL_ROWS or len(jobs) < POOL_JOBS
    if workers < 2 or stays_here:
        for job in jobs:
            yield _run_jobs([job], records, contexts, conditions)
        return

    # Eight chunks a worker: few copies of the records, and no worker is left with a long tail.
    size = max(1, len(jobs) // (8 * workers))
    chunks = [jobs[i : i + size] for i in range(0, len(jobs), size)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_die_with_parent) as pool:
        same = ([thing] * len(chunks) for thing in (records, contexts, conditions))
        yield from pool.map(_run_jobs, chunks, *same)


def _die_with_parent() -> None:
    """End this worker as soon as its parent is gone, however it went.

    Nobody would read what it computes.
    """
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _run_jobs(
    jobs: Sequence[Job], records: Records, contexts: RowContexts, conditions: Conditions
) -> list[Done]:
    done: list[Done] = []
    with one_thread():
        for plans, number in jobs:
            if plans[0].cross_fitted:
                done.append(methods.run_crossfit(plans, records, contexts, conditions, number))
            else:
                run = methods.run(plans[0], records, contexts, conditions, number)
                done.append((plans[0].label, run))
    return done


def summarise(
    records: Records,
    contexts: RowContexts,
    plans: Sequence[MethodPlan],
    runs: Mapping[str, Sequence[Run]],
    settings: ReplaySettings,
) -> Json:
    """Accuracies, intervals and paired differences of finished runs."""
    boot = bootstrap(records.group_P)
    replicates = {}
    for plan in plans:
        accuracies = [run.accuracy_P for run in runs[plan.label]]
        replicates[plan.label] = boot.replicate(accuracies)
    best_R = best_single_arm({arm: replicates[arm] for arm in records.arms})
    accuracy_K = records.correct_PK.mean(axis=0)
    best = int(accuracy_K.argmax())
    uniform, uniform_R = _uniform(records, boot)
    reference = {"best": (float(accuracy_K[best]), best_R), "uniform": (uniform, uniform_R)}
    warmup_rows = {p.label: methods.forced_rows(p, len(records.arms)) for p in plans}
    too_long = {label: rows for label, rows in warmup_rows.items() if rows > len(records)}
    entries = {
        p.label: _entry(p, runs[p.label], records, boot, replicates[p.label], reference)
        for p in plans
    }
    by_category = settings.by or len(records.categories) > 1
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
        "by": _by_category(records, entries, runs) if by_category else {},
        "agreement": arm_agreement(records),
        "curve_rows": curve_rows(len(records)),
        "official": dict(records.official),
        "warmup_too_long": too_long,
    }
    gains = {p.label: replicates[p.label] - best_R for p in plans if p.kind not in ("arm", "bound")}
    result["verdict"] = file_verdict(result, gains, settings.routers or ())
    return result


def _uniform(records: Records, boot: Bootstrap) -> tuple[float, Float]:
    """Accuracy of a uniform choice and its replicates.

    The choice is among the arms with a score on the row, as the router of that name has it.
    """
    correct_PK = records.correct_PK
    if records.present_PK is None:
        even_P = correct_PK.mean(axis=1)
        # By arm first, as every other accuracy here: the last bit depends on the order of sums.
        accuracy = float(correct_PK.mean(axis=0).mean())
        return accuracy, boot.replicate([even_P])

    even_P = np.mean(correct_PK, axis=1, where=records.present_PK)
    return float(even_P.mean()), boot.replicate([even_P])


def _entry(
    plan: MethodPlan,
    runs: Sequence[Run],
    records: Records,
    boot: Bootstrap,
    own_R: Float,
    reference: Mapping[str, tuple[float, Float]],
) -> Json:
    accuracy_P = np.mean([run.accuracy_P for run in runs], axis=0)
    share_K = np.mean([run.share_K for run in runs], axis=0)
    per_run = [float(run.accuracy_P.mean()) for run in runs]
    point = float(accuracy_P.mean())

    # Rows that some arm gets right: nobody can be right on the others.
    some_right_P = records.correct_PK.max(axis=1) > 0.5
    some_right = None
    if some_right_P.any():
        some_right = float(accuracy_P[some_right_P].mean())
    sd_between_runs = 0.0
    if len(runs) > 1:
        sd_between_runs = float(np.std(per_run, ddof=1))

    best_P, category_P = hindsight(records)
    entry: Json = {
        "kind": plan.kind,
        "accuracy": point,
        "ci95": percentile_interval(own_R),
        "accuracy_some_right": some_right,
        "calls_per_row": float(np.mean([run.calls for run in runs])),
        "cost_per_row": float(np.mean([run.cost for run in runs])),
        "regret": float((best_P - accuracy_P).sum()),
        "regret_vs_category_best": float((category_P - accuracy_P).sum()),
        "vs_best_single": _difference(point, own_R, reference["best"]),
        "vs_uniform": _difference(point, own_R, reference["uniform"]),
        "share": dict(zip(records.arms, share_K.tolist(), strict=True)),
        "runs": len(runs),
        "sd_between_runs": sd_between_runs,
    }
    if plan.kind == "online":
        entry |= _over_time(runs)
    return entry


def _over_time(runs: Sequence[Run]) -> Json:
    """What an online router's curves show: its last third, arm shares and regret."""
    entry: Json = {}
    late = [run.last_third for run in runs if run.last_third is not None]
    if late:
        accuracies = [accuracy for accuracy, _ in late]
        regrets = [regret for _, regret in late]
        entry["last_third"] = {
            "accuracy": float(np.mean(accuracies)),
            "regret": float(np.mean(regrets)),
        }

    if runs[0].share_TK is not None:
        share_RTK = [run.share_TK for run in runs if run.share_TK is not None]
        regret_RT = [run.regret_T for run in runs if run.regret_T is not None]
        entry["share_over_time"] = np.mean(share_RTK, axis=0).round(5).tolist()
        entry["regret_over_time"] = np.mean(regret_RT, axis=0).round(3).tolist()
    return entry


def _difference(point: float, own_R: Float, other: tuple[float, Float]) -> Json:
    # Sums in another order differ in the last bits, which is no difference.
    difference_R = np.round(own_R - other[1], _DIGITS)
    low, high = percentile_interval(difference_R)
    difference = round(point - other[0], _DIGITS)
    return {"diff": difference, "ci95": (low, high), "inside": bool(low <= 0 <= high)}


def _missing(records: Records) -> dict[str, float]:
    share_K = np.isnan(records.margins_PK).mean(axis=0)
    return {
        arm: float(share) for arm, share in zip(records.arms, share_K, strict=True) if share > 0
    }


def _by_category(records: Records, entries: Json, runs: Mapping[str, Sequence[Run]]) -> Json:
    """Accuracy of each method in each category, with the numbers of rows.

    Once over all of the category's rows, once over those where some arm is right.
    """
    some_P = (records.correct_PK.max(axis=1) > 0.5).astype(np.float64)
    rows_C = _summed(records, None)
    some_C = _summed(records, some_P)
    present = [c for c, n in enumerate(rows_C) if n]
    table: Json = {}
    for c in present:
        table[records.categories[c]] = {
            "rows": int(rows_C[c]),
            "some_right_rows": int(some_C[c]),
            "accuracy": {},
            "accuracy_some_right": {},
        }
    for label in entries:
        mean_P = np.mean([r.accuracy_P for r in runs[label]], axis=0)
        sum_C = _summed(records, mean_P)
        some_sum_C = _summed(records, mean_P * some_P)
        for c in present:
            entry = table[records.categories[c]]
            entry["accuracy"][label] = float(sum_C[c] / rows_C[c])
            some_right = float(some_sum_C[c] / some_C[c]) if some_C[c] else None
            entry["accuracy_some_right"][label] = some_right
    return table


def _summed(records: Records, value_P: Float | None) -> Float:
    """(C,) sums of a row's value by category, None: counts."""
    return np.bincount(records.category_P, value_P, len(records.categories)).astype(np.float64)
