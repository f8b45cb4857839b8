"""Does each off-policy interval cover? Real recorded files, where the truth is known because every arm was scored.

    python benchmarks/replay_ope.py [--redraws 2000] [--rows 600] [--loggers ...] [--json OUT] FILE...

A redraw shuffles the rows, lets a stochastic router log them in 25 batches (it adapts between batches), and estimates frozen
targets from that log alone. Truth: the target's mean credit over the same rows. Contexts: category one-hot.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from reward_router.keyed import rng
from reward_router.replay.importers import load
from reward_router.replay.ope import METHODS, Log, estimate, past_model
from reward_router.replay.records import Records
from reward_router.routers import Exp3, LinearThompson, LinUCB, choose
from reward_router.routers.blas import one_thread
from reward_router.types import Float, Int, Router

BATCHES = 25
LOGGERS: dict[str, Callable[[int, int], Router]] = {
    "thompson": lambda k, d: LinearThompson(k, d, noise_sd=0.5),
    "linucb": lambda k, d: LinUCB(k, d, explore=0.2),
    "exp3": lambda k, d: Exp3(k),
}


def log_once(context_CD: Float, category_T: Int, credit_TK: Float, router: Router, seed: int) -> Log:
    """Rows in the given order, decided batch by batch; contexts are few (one a category), so probabilities are too."""
    n_rows, n_arms = credit_TK.shape
    probs_TK, arm_T = np.empty((n_rows, n_arms)), np.empty(n_rows, dtype=np.int64)
    uniform_T = rng(seed, "arm", 0, "ope").random(n_rows)
    for rows in np.array_split(np.arange(n_rows), BATCHES):
        probs_TK[rows] = router.probs(context_CD)[category_T[rows]]
        arm_T[rows], _ = choose(probs_TK[rows], uniform_T[rows])
        chosen = credit_TK[rows, arm_T[rows]]
        router.update(context_CD[category_T[rows]], arm_T[rows], chosen, probs_TK[rows, arm_T[rows]])
    return Log(
        context_CD[category_T],
        probs_TK,
        arm_T,
        credit_TK[np.arange(n_rows), arm_T],
        np.zeros(n_rows, bool),
        tuple(map(str, range(n_arms))),
    )


def targets(records: Records, rows: Int) -> dict[str, Float]:
    """Frozen targets as (categories, K) probabilities."""
    credit_TK, category_T = records.correct_PK[rows], records.category_P[rows]
    order = credit_TK.mean(axis=0).argsort()
    n_c, n_arms = len(records.categories), credit_TK.shape[1]
    best_of = np.array(
        [credit_TK[category_T == c].mean(axis=0).argmax() if (category_T == c).any() else 0 for c in range(n_c)]
    )
    one = np.eye(n_arms)
    return {
        "best arm": np.tile(one[order[-1]], (n_c, 1)),
        "middle arm": np.tile(one[order[n_arms // 2]], (n_c, 1)),
        "category best": one[best_of],
        "uniform": np.full((n_c, n_arms), 1 / n_arms),
        "half best, half uniform": 0.5 * one[order[-1]] + np.full((n_c, n_arms), 0.5 / n_arms),
    }


def study(file: str, logger: str, redraws: int, n_rows: int) -> list[dict[str, Any]]:
    """Bias, root mean square error and coverage of each method for each target on one file under one logger."""
    (records,) = load([file], keep_prompts=0, keep_responses=False)
    rows = np.sort(rng(0, "sample", 0, "ope").permutation(len(records))[:n_rows])
    wanted = targets(records, rows)
    truth = {
        name: float((records.correct_PK[rows] * t[records.category_P[rows]]).sum(axis=1).mean())
        for name, t in wanted.items()
    }
    n_c = len(records.categories)
    context_CD = np.hstack([np.ones((n_c, 1)), np.eye(n_c)]) / np.sqrt(2)
    found: dict[tuple[str, str], list[tuple[float, bool, float, float]]] = {}
    with one_thread():
        for seed in range(redraws):
            order = rows[rng(seed, "order", 0, "ope").permutation(len(rows))]
            category_T = records.category_P[order]
            router = LOGGERS[logger](len(records.arms), context_CD.shape[1])
            log = log_once(context_CD, category_T, records.correct_PK[order], router, seed)
            model_TK = past_model(log)
            for name, target_CK in wanted.items():
                for method in METHODS:
                    e = estimate(log, target_CK[category_T], method, model_TK=model_TK)
                    found.setdefault((name, method), []).append(
                        (e.value, e.low <= truth[name] <= e.high, e.ess, e.high - e.low)
                    )
    return [
        _row(records, logger, name, method, truth[name], np.array(values, dtype=np.float64))
        for (name, method), values in found.items()
    ]


def _row(records: Records, logger: str, target: str, method: str, truth: float, values_R4: Float) -> dict[str, Any]:
    enough = values_R4[:, 2] >= 100
    error = values_R4[:, 0] - truth
    return {
        "file": records.name, "logger": logger, "target": target, "method": method, "truth": truth, "redraws": len(values_R4),
        "bias": float(error.mean()), "bias_se": float(error.std() / np.sqrt(len(error))), "rmse": float(np.sqrt((error**2).mean())),
        "coverage": float(values_R4[:, 1].mean()), "mean_ess": float(values_R4[:, 2].mean()), "width": float(values_R4[:, 3].mean()),
        "redraws_ess100": int(enough.sum()), "coverage_ess100": float(values_R4[enough, 1].mean()) if enough.any() else None,
    }  # fmt: skip


def jobs(files: list[str], loggers: list[str], redraws: int, n_rows: int) -> Iterator[tuple[str, str, int, int]]:
    for file in files:
        for logger in loggers:
            yield file, logger, redraws, n_rows


def _study(job: tuple[str, str, int, int]) -> list[dict[str, Any]]:
    started = time.process_time()
    rows = study(*job)
    print(f"{Path(job[0]).name} {job[1]}: {time.process_time() - started:.0f} s CPU", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--redraws", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--loggers", nargs="+", choices=list(LOGGERS), default=list(LOGGERS))
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    with ProcessPoolExecutor(args.workers) as pool:
        rows = [
            row for part in pool.map(_study, jobs(args.files, args.loggers, args.redraws, args.rows)) for row in part
        ]
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    for method in METHODS:
        cells = [r for r in rows if r["method"] == method and r["redraws_ess100"] >= 0.5 * r["redraws"]]
        low = [r for r in cells if r["coverage_ess100"] < 0.93]
        worst = min((r["coverage_ess100"] for r in cells), default=float("nan"))
        print(
            f"{method:14s} cells with ESS >= 100: {len(cells)}, coverage mean {np.mean([r['coverage_ess100'] for r in cells]):.3f}, worst {worst:.3f}, under .93: {len(low)}; largest |bias| {max(abs(r['bias']) for r in cells):.4f}, width {np.mean([r['width'] for r in cells]):.3f}"
        )
        for r in low:
            print(
                "   ",
                r["file"],
                r["logger"],
                r["target"],
                f"{r['coverage_ess100']:.3f}",
                f"truth {r['truth']:.3f} ess {r['mean_ess']:.0f} bias {r['bias']:+.4f}",
            )


if __name__ == "__main__":
    main()
