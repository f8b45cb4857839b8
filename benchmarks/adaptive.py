"""Online routers against the best single arm in hindsight: a cold stream, and warm.

    python benchmarks/adaptive.py FILE... [--router adaptive --router linucb ...] [--orders 20]
        [--warm-orders 1] [--told-orders 1] [--json OUT]

Cold: `replay`'s own stream, and its last third. Warm has two readings, both on five folds. In
*warm* the router goes through the training prompts of a fold by its own decisions and its own
payoffs (one order), then through the fold that is judged, and goes on learning. In *told* it learns
what every arm earned on every training row and then goes on as before; *told, frozen* decides the
judged rows greedily and learns nothing there. Differences in percentage points, means over orders
and folds, with standard errors over orders (cold) or prompts (warm and told).
"""

import argparse
import json
from dataclasses import replace
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
    parser.add_argument("--first", type=int, default=0, help="number of the first cold order")
    parser.add_argument(
        "--warm-orders",
        type=int,
        default=1,
        help="orders of each of five folds; 0: no warm figures",
    )
    parser.add_argument(
        "--told-orders", type=int, default=0, help="the same where every arm's payoff is told"
    )
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found = {}
    seeds = range(asked.first, asked.first + asked.orders)
    for records in load_records(asked.files, 20_000, False):
        contexts = build(records, "auto")
        found[records.name] = {}
        for name in asked.router or ROUTERS:
            with one_thread():
                row = cold(records, contexts, name, seeds) if asked.orders else {}
                row |= warm(records, contexts, name, asked.warm_orders)
                row |= told(records, contexts, name, asked.told_orders)
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


def cold(records, contexts, name, seeds):
    plan, correct = plan_of(name, records), Feedback("correct")
    best = records.correct_PK.mean(axis=0).max()

    def router():
        return methods.router_of(plan.name, records.arms, contexts.width, dict(plan.options), 0)

    runs = [online(records, contexts, router(), correct, seed) for seed in seeds]
    whole = [100 * (run.accuracy_P.mean() - best) for run in runs]
    late_rows = len(records) - -(-2 * len(records) // 3)
    late = [-100 * run.last_third[1] / late_rows for run in runs]
    error = np.std(whole, ddof=1) / np.sqrt(len(seeds)) if len(seeds) > 1 else np.nan
    return {
        "cold": float(np.mean(whole)),
        "cold_se": float(error),
        "last_third": float(np.mean(late)),
    }


def fold_routers(records, contexts, name, orders):
    """A new router for each fold of each order, with what it needs to learn and be judged."""
    plan = plan_of(name, records)
    for order in range(orders):
        for number, (train_P, test_P) in enumerate(folds(records.group_P, FOLDS, order)):
            context_UD = contexts.fit(np.unique(contexts.unit_P[train_P]))
            options = dict(plan.options)
            router = methods.router_of(plan.name, records.arms, contexts.width, options, 0)
            yield router, context_UD[contexts.unit_P], train_P, test_P, (order, number)


def judged(records, router, context_PD, rows, test_P, draw, frozen=False):
    """(T,) accuracies less the best arm's on the judged rows, after the rows that come before."""
    payoff_PK = Feedback("correct").matrix(records, 0)
    probs_PK = np.zeros(records.correct_PK.shape)
    paid = PayoffRows(payoff_PK, draw.random(len(records)), 0, records.present_PK)
    if frozen:
        frozen_P = np.ones(len(records), bool)
        paid = replace(paid, payoff_PK=np.full_like(payoff_PK, np.nan), frozen_P=frozen_P)
    play(rows, router, lambda row_B: context_PD[row_B], paid, probs_PK)
    accuracy_T = (probs_PK[test_P] * records.correct_PK[test_P]).sum(axis=1)
    return accuracy_T - hindsight(records)[0][test_P]


def warm(records, contexts, name, orders):
    """Learned from its own decisions on the training rows."""
    groups, gains = rows_by_group(records.group_P), []
    for router, context_PD, train_P, test_P, key in fold_routers(records, contexts, name, orders):
        draw = rng(key[0], "arm", key[1], "warm")
        blocks = [shuffled(records.group_P[part_P], draw) for part_P in (train_P, test_P)]
        rows = [groups[g] for part in blocks for g in part]
        gains.append((test_P, judged(records, router, context_PD, rows, test_P, draw)))
    return summed("warm", records, gains)


def told(records, contexts, name, orders):
    """Told what every arm earned on the training rows."""
    groups, on, frozen = rows_by_group(records.group_P), [], []
    payoff_PK = Feedback("correct").matrix(records, 0)
    for router, context_PD, train_P, test_P, key in fold_routers(records, contexts, name, orders):
        draw = rng(key[0], "arm", key[1], "told")
        order_T = np.concatenate([groups[g] for g in shuffled(records.group_P[train_P], draw)])
        place_N, arm_N = np.nonzero(~np.isnan(payoff_PK[order_T]))
        row_N = order_T[place_N]
        router.update(context_PD[row_N], arm_N, payoff_PK[row_N, arm_N])

        rows = [groups[g] for g in shuffled(records.group_P[test_P], draw)]
        still = judged(records, router, context_PD, rows, test_P, draw, frozen=True)
        frozen.append((test_P, still))
        on.append((test_P, judged(records, router, context_PD, rows, test_P, draw)))
    return summed("told", records, on) | summed("frozen", records, frozen)


def summed(key, records, gains):
    """{key: mean in points, key_se: standard error over prompts}; nothing where nothing ran."""
    if not gains:
        return {}
    times = len(gains) / FOLDS
    gain_P = np.zeros(len(records))
    for test_P, gain_T in gains:
        gain_P[test_P] += gain_T / times
    # rows of a prompt go together
    about_G = np.bincount(records.group_P, gain_P - gain_P.mean())
    error = np.sqrt((about_G**2).sum()) / len(records)
    return {key: 100 * float(gain_P.mean()), f"{key}_se": 100 * float(error)}


def shuffled(group_N, draw):
    return draw.permutation(np.unique(group_N)).tolist()


def table(found):
    names = list(next(iter(found.values())))
    first = next(iter(found.values()))[names[0]]
    keys = [key for key in first if not key.endswith("_se")]
    head = " | ".join(f"{name}: {' / '.join(keys)}" for name in names)
    lines = [f"| file | {head} |", "|---" * (1 + len(names)) + "|"]
    for file, rows in found.items():
        cells = [" / ".join(figure(rows[name], key) for key in keys) for name in names]
        lines.append(f"| {file} | " + " | ".join(cells) + " |")
    means = []
    for name in names:
        every = [rows[name] for rows in found.values()]
        parts = [f"{np.mean([row[key] for row in every]):+.1f}" for key in keys]
        means.append(" / ".join(parts))
    return "\n".join([*lines, "| **mean** | " + " | ".join(means) + " |"])


def figure(row, key):
    error = row.get(f"{key}_se")
    return f"{row[key]:+.1f}" + (f" ± {error:.1f}" if error is not None else "")


if __name__ == "__main__":
    main()
