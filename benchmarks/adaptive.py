"""Online routers against the best single arm in hindsight.

A cold stream, its last third, and warm (learned on the other folds first). python
benchmarks/adaptive.py FILE... [--router adaptive --router linucb ...] [--orders 20] [--json OUT]

Cold: `replay`'s own stream. Warm: the router goes through the training prompts of a fold (its own
decisions, its own payoffs, one order), then through the fold that is judged, and goes on learning.
Differences in percentage points, means over orders and folds.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from reward_router.keyed import rng
from reward_router.posterior.blas import one_thread
from reward_router.replay import methods
from reward_router.replay.embed import build
from reward_router.replay.feedback import Feedback
from reward_router.replay.importers import load_records
from reward_router.replay.protocols import folds, hindsight, online, rows_by_group
from reward_router.replay.stream import PayoffRows, play

ROUTERS = ["adaptive", "linucb", "linucb:alpha=0.3", "discounted"]
FOLDS = 5


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+")
    parser.add_argument("--router", action="append")
    parser.add_argument("--orders", type=int, default=20)
    parser.add_argument(
        "--warm-orders",
        type=int,
        default=1,
        help="orders of each of five folds; 0: no warm figures",
    )
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found = {}
    for records in load_records(asked.files, 20_000, False):
        contexts = build(records, "auto")
        found[records.name] = {}
        for name in asked.router or ROUTERS:
            with one_thread():
                row = cold(records, contexts, name, asked.orders)
                row["warm"] = warm(records, contexts, name, asked.warm_orders)
            found[records.name][name] = row
            print(
                f"{records.name:28s} {name:18s}",
                {k: round(v, 2) for k, v in row.items()},
                flush=True,
            )
            if asked.json:
                asked.json.write_text(json.dumps(found, indent=1))
    print(table(found))


def plan_of(name, records):
    return next(p for p in methods.plan([name], records) if p.kind == "online")


def cold(records, contexts, name, orders):
    plan, correct = plan_of(name, records), Feedback("correct")
    best = records.correct_PK.mean(axis=0).max()

    def router():
        return methods.router_of(plan.name, records.arms, contexts.width, dict(plan.options), 0)

    runs = [online(records, contexts, router(), correct, seed) for seed in range(orders)]
    whole = [100 * (run.accuracy_P.mean() - best) for run in runs]
    late_rows = len(records) - -(-2 * len(records) // 3)
    late = [-100 * run.last_third[1] / late_rows for run in runs]
    error = np.std(whole, ddof=1) / np.sqrt(orders) if orders > 1 else np.nan
    return {
        "cold": float(np.mean(whole)),
        "cold_se": float(error),
        "last_third": float(np.mean(late)),
    }


def warm(records, contexts, name, orders):
    if not orders:
        return float("nan")
    plan, best_P = plan_of(name, records), hindsight(records)[0]
    payoff_PK = Feedback("correct").matrix(records, 0)
    groups, gains = rows_by_group(records.group_P), []
    for order in range(orders):
        for number, (train_P, test_P) in enumerate(folds(records.group_P, FOLDS, order)):
            context_UD = contexts.fit(np.unique(contexts.unit_P[train_P]))
            router = methods.router_of(
                plan.name, records.arms, contexts.width, dict(plan.options), 0
            )
            probs_PK = np.zeros(records.correct_PK.shape)
            draw = rng(order, "arm", number, "warm")
            blocks = [shuffled(records.group_P[part_P], draw) for part_P in (train_P, test_P)]
            rows = [groups[g] for part in blocks for g in part]
            uniform_P = draw.random(len(records))
            context_of = lambda row_B: context_UD[contexts.unit_P[row_B]]  # noqa: E731, B023
            paid = PayoffRows(payoff_PK, uniform_P, 0, records.present_PK)
            play(rows, router, context_of, paid, probs_PK)
            accuracy_T = (probs_PK[test_P] * records.correct_PK[test_P]).sum(axis=1)
            gains.append(accuracy_T - best_P[test_P])
    return 100 * float(np.concatenate(gains).mean())


def shuffled(group_N, draw):
    return draw.permutation(np.unique(group_N)).tolist()


def table(found):
    names = list(next(iter(found.values())))
    lines = ["| file | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
    for file, rows in found.items():
        cells = [
            f"{r['cold']:.1f} / {r['last_third']:.1f} / {r['warm']:.1f}"
            for r in (rows[n] for n in names)
        ]
        lines.append(f"| {file} | " + " | ".join(cells) + " |")
    means = []
    for name in names:
        parts = [
            np.mean([rows[name][k] for rows in found.values()])
            for k in ("cold", "last_third", "warm")
        ]
        means.append(" / ".join(f"{x:.1f}" for x in parts))
    return "\n".join([*lines, "| **mean** | " + " | ".join(means) + " |"])


if __name__ == "__main__":
    main()
