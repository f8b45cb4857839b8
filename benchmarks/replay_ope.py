"""Does each off-policy interval cover?

It is measured on real recorded files, where the truth is known because every arm was scored.

    python benchmarks/replay_ope.py [--redraws 2000] [--rows 600] [--loggers ...]
        [--json OUT] FILE...
    python benchmarks/replay_ope.py --table OUT            the tables of results-replay.md

A redraw shuffles the rows, lets a stochastic router log them in 20 batches (it adapts between
batches), and estimates frozen targets from that log alone. Truth: the target's mean credit over the
same rows. Contexts: category one-hot. Redraws are run side by side: the loggers' formulas are
written for stacks of logs here, and each study first checks one log of them against the router
itself (``check_logger``); the estimators are the library's own.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reward_router.keyed import rng
from reward_router.posterior.blas import one_thread
from reward_router.posterior.win_probability import win_probability
from reward_router.replay import estimators
from reward_router.replay.importers import load_records
from reward_router.replay.records import Records
from reward_router.routers import Exp3, LinearThompson, LinUCB, choose
from reward_router.routers.decide import even_argmax, forced_K, with_floor
from reward_router.types import Float, Int, Router

BATCHES, STACK, ENOUGH = 20, 100, 100
NOISE_SD, EXPLORE, GAMMA, WARMUP = 0.5, 0.2, 0.1, 2
ROUTERS: dict[str, Callable[[int, int], Router]] = {
    "thompson": lambda k, d: LinearThompson(k, d, noise_sd=NOISE_SD),
    "linucb": lambda k, d: LinUCB(k, d, explore=EXPLORE, warmup=WARMUP),
    "exp3": lambda k, d: Exp3(k, gamma=GAMMA),
}


class Linear:
    """R linear routers side by side.

    Contexts are few, so rows and payoffs are counted for each arm and context.
    """

    def __init__(self, kind: str, stack: int, n_arms: int, context_CD: Float) -> None:
        self.kind, self.context_CD, self.stack, self.n_arms = kind, context_CD, stack, n_arms
        self.scale = NOISE_SD**-2 if kind == "thompson" else 1.0
        self.rows_MC, self.payoff_MC = np.zeros((2, stack * n_arms, len(context_CD)))

    def probs(self, context_RB: Int) -> Float:
        mean_MC, sd_MC = self._moments()
        needed, index = np.unique(
            context_RB + len(self.context_CD) * np.arange(self.stack)[:, None], return_inverse=True
        )
        mean_BK, sd_BK = (
            v.reshape(self.stack, self.n_arms, -1)
            .transpose(0, 2, 1)
            .reshape(-1, self.n_arms)[needed]
            for v in (mean_MC, sd_MC)
        )
        if self.kind == "thompson":
            p_BK = win_probability(mean_BK, sd_BK)
        else:
            p_BK = even_argmax(np.round(mean_BK + sd_BK, 10))
            pulls_RK = self.rows_MC.sum(axis=1).reshape(self.stack, self.n_arms)
            for r in np.flatnonzero(pulls_RK.min(axis=1) < WARMUP):
                p_BK[needed // len(self.context_CD) == r] = forced_K(pulls_RK[r], WARMUP)
            p_BK = with_floor(p_BK, EXPLORE)
        return p_BK[index.reshape(context_RB.shape)]

    def _moments(self) -> tuple[Float, Float]:
        """x'A^-1 b and sqrt(x'A^-1 x) for each log and arm (M) and context (C)."""
        outer_CDD = self.context_CD[:, :, None] * self.context_CD[:, None]
        width = self.context_CD.shape[1]
        gram_MDD = np.eye(width) + self.scale * (
            self.rows_MC @ outer_CDD.reshape(len(outer_CDD), -1)
        ).reshape(-1, width, width)
        solved_MDC = np.linalg.solve(
            gram_MDD, np.broadcast_to(self.context_CD.T, (len(gram_MDD), width, len(outer_CDD)))
        )
        moment_MD = self.scale * self.payoff_MC @ self.context_CD
        return (moment_MD[:, None] @ solved_MDC)[:, 0], np.sqrt(
            np.einsum("cd,mdc->mc", self.context_CD, solved_MDC)
        )

    def update(self, context_RB: Int, arm_RB: Int, payoff_RB: Float, propensity_RB: Float) -> None:
        slot_RB = arm_RB + self.n_arms * np.arange(self.stack)[:, None]
        np.add.at(self.rows_MC, (slot_RB, context_RB), 1.0)
        np.add.at(self.payoff_MC, (slot_RB, context_RB), payoff_RB)


class Weights:
    """R Exp3 routers side by side."""

    def __init__(self, stack: int, n_arms: int, context_CD: Float) -> None:
        self.sums_RK = np.zeros((stack, n_arms))

    def probs(self, context_RB: Int) -> Float:
        n_arms = self.sums_RK.shape[1]
        weight_RK = np.exp(
            GAMMA / n_arms * (self.sums_RK - self.sums_RK.max(axis=1, keepdims=True))
        )
        p_RK = (1 - GAMMA) * weight_RK / weight_RK.sum(axis=1, keepdims=True) + GAMMA / n_arms
        return np.repeat(p_RK[:, None], context_RB.shape[1], axis=1)

    def update(self, context_RB: Int, arm_RB: Int, payoff_RB: Float, propensity_RB: Float) -> None:
        np.add.at(
            self.sums_RK, (np.arange(len(arm_RB))[:, None], arm_RB), payoff_RB / propensity_RB
        )


LOGGERS: dict[str, Callable[[int, int, Float], Linear | Weights]] = {
    "thompson": partial(Linear, "thompson"),
    "linucb": partial(Linear, "linucb"),
    "exp3": Weights,
}


def log_stack(
    logger: str, context_CD: Float, category_RT: Int, credit_RTK: Float, uniform_RT: Float
) -> tuple[Float, Int]:
    """Probabilities (R, T, K) and arms (R, T) of R logs.

    Rows come in the given order, and are decided batch by batch.
    """
    stack, n_rows, n_arms = credit_RTK.shape
    probs_RTK, arm_RT = np.empty((stack, n_rows, n_arms)), np.empty((stack, n_rows), dtype=np.int64)
    routers, each = LOGGERS[logger](stack, n_arms, context_CD), np.arange(stack)[:, None]
    for rows in np.array_split(np.arange(n_rows), BATCHES):
        p_RBK = routers.probs(category_RT[:, rows])
        arm_B, propensity_B = choose(p_RBK.reshape(-1, n_arms), uniform_RT[:, rows].ravel())
        probs_RTK[:, rows], arm_RT[:, rows] = p_RBK, arm_B.reshape(stack, -1)
        payoff_RB = credit_RTK[each, rows, arm_RT[:, rows]]
        routers.update(
            category_RT[:, rows], arm_RT[:, rows], payoff_RB, propensity_B.reshape(stack, -1)
        )
    return probs_RTK, arm_RT


def check_logger(
    logger: str, context_CD: Float, category_T: Int, credit_TK: Float, probs_TK: Float, arm_T: Int
) -> None:
    """The router itself, told what the stacked one was told, has the same probabilities."""
    router = ROUTERS[logger](credit_TK.shape[1], context_CD.shape[1])
    for rows in np.array_split(np.arange(len(arm_T)), BATCHES):
        x_BD = context_CD[category_T[rows]]
        apart = np.abs(router.probs(x_BD) - probs_TK[rows]).max()
        if apart > 1e-6:
            raise SystemExit(
                f"{logger}: the stacked logger's probabilities are {apart:.2g} off the router's"
            )
        router.update(x_BD, arm_T[rows], credit_TK[rows, arm_T[rows]], probs_TK[rows, arm_T[rows]])


def targets(records: Records, rows: Int) -> dict[str, Float]:
    """Frozen targets as (categories, K) probabilities."""
    credit_TK, category_T = records.correct_PK[rows], records.category_P[rows]
    order = credit_TK.mean(axis=0).argsort()
    n_c, n_arms = len(records.categories), credit_TK.shape[1]
    best_of = np.array(
        [
            credit_TK[category_T == c].mean(axis=0).argmax() if (category_T == c).any() else 0
            for c in range(n_c)
        ]
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
    """Bias, root mean square error and coverage of each method for each target.

    All are on one file under one logger.
    """
    (records,) = load_records([file], keep_prompts=0, keep_responses=False)
    rows = np.sort(rng(0, "sample", 0, "ope").permutation(len(records))[:n_rows])
    wanted = targets(records, rows)
    n_c = len(records.categories)
    context_CD = np.hstack([np.ones((n_c, 1)), np.eye(n_c)]) / np.sqrt(2)
    found: dict[tuple[str, str], list[Float]] = {}
    with one_thread():
        for first in range(0, redraws, STACK):
            seeds = range(first, min(first + STACK, redraws))
            order_RT = rows[
                np.stack([rng(seed, "order", 0, "ope").permutation(len(rows)) for seed in seeds])
            ]
            uniform_RT = np.stack([rng(seed, "arm", 0, "ope").random(len(rows)) for seed in seeds])
            category_RT, credit_RTK = records.category_P[order_RT], records.correct_PK[order_RT]
            probs_RTK, arm_RT = log_stack(logger, context_CD, category_RT, credit_RTK, uniform_RT)
            if first == 0:
                check_logger(
                    logger, context_CD, category_RT[0], credit_RTK[0], probs_RTK[0], arm_RT[0]
                )
            payoff_RT = np.take_along_axis(credit_RTK, arm_RT[..., None], axis=2)[..., 0]
            model_RTK = estimators.past_model(
                context_CD[category_RT], arm_RT, payoff_RT, len(records.arms)
            )
            for name, target_CK in wanted.items():
                terms = estimators.terms(
                    target_CK[category_RT], probs_RTK, arm_RT, payoff_RT, model_RTK
                )
                for method, estimate in estimators.ESTIMATORS.items():
                    value_R, low_R, high_R = estimate(terms, 0.95)
                    kept = np.stack(
                        [value_R, np.maximum(low_R, 0), np.minimum(high_R, 1), terms.ess], axis=1
                    )
                    found.setdefault((name, method), []).append(kept)
    truth = {
        n: float((records.correct_PK[rows] * t[records.category_P[rows]]).sum(axis=1).mean())
        for n, t in wanted.items()
    }
    return [
        _row(records.name, logger, name, method, truth[name], np.concatenate(v))
        for (name, method), v in found.items()
    ]


def _row(
    file: str, logger: str, target: str, method: str, truth: float, values_R4: Float
) -> dict[str, Any]:
    value_R, low_R, high_R, ess_R = values_R4.T
    covered_R, enough_R, error_R = (
        (low_R <= truth) & (truth <= high_R),
        ess_R >= ENOUGH,
        value_R - truth,
    )
    return {
        "file": file, "logger": logger, "target": target, "method": method, "truth": truth,
        "redraws": len(value_R), "bias": float(error_R.mean()),
        "bias_se": float(error_R.std() / np.sqrt(len(error_R))),
        "rmse": float(np.sqrt((error_R**2).mean())), "coverage": float(covered_R.mean()),
        "ess": float(ess_R.mean()), "width": float((high_R - low_R).mean()),
        "redraws_enough": int(enough_R.sum()),
        "coverage_enough": float(covered_R[enough_R].mean()) if enough_R.any() else None,
    }  # fmt: skip


def jobs(
    files: list[str], loggers: list[str], redraws: int, n_rows: int
) -> Iterator[tuple[str, str, int, int]]:
    for file in files:
        for logger in loggers:
            yield file, logger, redraws, n_rows


def _study(job: tuple[str, str, int, int]) -> list[dict[str, Any]]:
    started = time.process_time()
    rows = study(*job)
    print(f"{Path(job[0]).name} {job[1]}: {time.process_time() - started:.0f} s CPU", flush=True)
    return rows


def error_of(coverage: float, n: int) -> float:
    """Monte-Carlo standard error of a coverage."""
    return float(np.sqrt(max(coverage * (1 - coverage), 1 / n) / n))


def misses(row: dict[str, Any]) -> bool:
    """Coverage under 93 % by more than two Monte-Carlo standard errors.

    It is measured on redraws with enough effective rows.
    """
    coverage, n = row["coverage_enough"], row["redraws_enough"]
    return n >= ENOUGH and coverage + 2 * error_of(coverage, n) < 0.93


def tables(rows: list[dict[str, Any]]) -> None:
    """Markdown: a line a method, then a line a file, logger and target."""
    print(
        "| method | cells | mean coverage | lowest | under 93 % | mean abs bias | mean RMSE "
        "| mean width |\n|---|---|---|---|---|---|---|---|"
    )
    for method in estimators.ESTIMATORS:
        cells = [r for r in rows if r["method"] == method and r["redraws_enough"] >= ENOUGH]
        if cells:
            worst = min(cells, key=lambda r: r["coverage_enough"])
            mean = {
                k: np.mean([abs(r[k]) for r in cells])
                for k in ("coverage_enough", "bias", "rmse", "width")
            }
            error = error_of(worst["coverage_enough"], worst["redraws_enough"])
            lowest = f"{100 * worst['coverage_enough']:.1f} ± {100 * error:.1f}"
            print(
                f"| `{method}` | {len(cells)} | {100 * mean['coverage_enough']:.1f} | {lowest} "
                f"| {sum(map(misses, cells))} | {mean['bias']:.4f} | {mean['rmse']:.3f} "
                f"| {mean['width']:.3f} |"
            )
    print(
        "\n| file | logger | target | truth | ESS | ESS >= 100 | "
        + " | ".join(f"`{m}`" for m in estimators.ESTIMATORS)
        + " |\n|"
        + "---|" * (6 + len(estimators.ESTIMATORS))
    )
    for i in range(0, len(rows), len(estimators.ESTIMATORS)):
        r = rows[i]
        cells = [_cell(c) for c in rows[i : i + len(estimators.ESTIMATORS)]]
        share = f"{100 * r['redraws_enough'] / r['redraws']:.0f} %"
        print(
            f"| {r['file']} | {r['logger']} | {r['target']} | {r['truth']:.3f} | {r['ess']:.0f} "
            f"| {share} | {' | '.join(cells)} |"
        )


def _cell(r: dict[str, Any]) -> str:
    """Bias, RMSE and coverage of all redraws.

    Where there are 100 with enough effective rows, the coverage of those is there, too.
    """
    enough = (
        f" ({100 * r['coverage_enough']:.1f}{'!' if misses(r) else ''})"
        if r["redraws_enough"] >= ENOUGH
        else ""
    )
    return f"{1000 * r['bias']:+.0f} {1000 * r['rmse']:.0f} {100 * r['coverage']:.1f}{enough}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*")
    parser.add_argument("--redraws", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--table", nargs="+", type=Path, help="what --json wrote, several runs in turn"
    )
    parser.add_argument("--loggers", nargs="+", choices=list(LOGGERS), default=list(LOGGERS))
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    if args.table:
        return tables([row for path in args.table for row in json.loads(path.read_text())])
    with ProcessPoolExecutor(args.workers) as pool:
        rows = [
            r
            for part in pool.map(_study, jobs(args.files, args.loggers, args.redraws, args.rows))
            for r in part
        ]
    if args.json:
        args.json.write_text(json.dumps(rows))
    tables(rows)


if __name__ == "__main__":
    main()
