"""What any rule loses on a cold stream: policies that read no context, on replay's own streams.

    python benchmarks/cold_floor.py [FILE...] [--orders 40] [--first 0] [--policy NAME ...]

All orders of a file run side by side, so a policy takes seconds. Rows of one prompt are decided
with what was known before it, as in `replay`. An arm is drawn and what it is worth on the whole
file is counted, in points less the best arm: the mean over files, over files under 1,000 rows, and
over the thirds of the streams. ``known ...`` is told the true means of all arms, though not which
arm has which: no rule without contexts can be expected to do much better than the best of these.
"""

import argparse
import os
from functools import partial
from pathlib import Path

import numpy as np

from reward_router.replay.importers import load_records
from reward_router.replay.protocols import rows_by_group, visits
from reward_router.routers import pooled
from reward_router.routers.adaptive import ROWS_AHEAD, WIDTH

SHORT = 1000


def warmed(score_SK, count_SK):
    """Every arm once before scores count."""
    return np.where(count_SK < 1, np.inf, score_SK)


def means(total_SK3):
    return total_SK3[..., 1] / np.maximum(total_SK3[..., 0], 1e-9)


class Narrowed:
    """Beta(a, b) posteriors, ``width`` times their sd sampled."""

    def __init__(self, file, draw, width=1.0, a=1.0, b=1.0):
        self.draw, self.width, self.a, self.b = draw, width, a, b

    def __call__(self, total_SK3, step):
        right_SK = self.a + total_SK3[..., 1]
        all_SK = self.a + self.b + total_SK3[..., 0]
        if self.width == 1:
            return self.draw.beta(right_SK, all_SK - right_SK)
        mean_SK = right_SK / all_SK
        sd_SK = np.sqrt(mean_SK * (1 - mean_SK) / (all_SK + 1))
        return mean_SK + self.width * sd_SK * self.draw.standard_normal(mean_SK.shape)


class Plain:
    """The plain opinion of `Adaptive`, with the laws of all orders learned side by side."""

    def __init__(self, file, draw):
        self.draw, self.next, self.laws = draw, 0, []

    def __call__(self, total_SK3, step):
        if step >= self.next:
            self.laws = [pooled.learned(total_K3) for total_K3 in total_SK3]
            self.next = step + max(1, int(0.1 * step))
        score_SK = np.empty(total_SK3.shape[:2])
        for s, (law, total_K3) in enumerate(zip(self.laws, total_SK3, strict=True)):
            mean_K, sd_K = law.arms(total_K3)
            noise_K = law.noise(mean_K)
            ahead = max(ROWS_AHEAD, step)
            worth_K = pooled.worth_of_trying(mean_K, sd_K, noise_K, ahead)
            score_SK[s] = mean_K + worth_K + WIDTH * sd_K * self.draw.standard_normal(len(mean_K))
        return score_SK


class Known:
    """Thompson for arms whose means are the file's, in an unknown order."""

    def __init__(self, file, draw, width):
        self.mean_K = np.clip(file.correct_PK.mean(axis=0), 0.01, 0.99)
        self.draw, self.width = draw, width

    def __call__(self, total_SK3, step):
        right_SK1 = total_SK3[..., 1, None]
        wrong_SK1 = total_SK3[..., 0, None] - right_SK1
        log_SKK = right_SK1 * np.log(self.mean_K) + wrong_SK1 * np.log1p(-self.mean_K)
        weight_SKK = np.exp(log_SKK - log_SKK.max(axis=-1, keepdims=True))
        weight_SKK /= weight_SKK.sum(axis=-1, keepdims=True)
        mean_SK = weight_SKK @ self.mean_K
        var_SK = weight_SKK @ self.mean_K**2 - mean_SK**2
        noise_SK = self.draw.standard_normal(mean_SK.shape)
        return mean_SK + self.width * np.sqrt(np.maximum(var_SK, 0)) * noise_SK


class Bound:
    """Upper confidence bounds: UCB1, UCB-V, KL-UCB and its form for many arms (MOSS)."""

    def __init__(self, file, draw, kind, factor=1.0):
        self.kind, self.factor = kind, factor
        self.rows_an_arm = len(file) / len(file.arms)

    def __call__(self, total_SK3, step):
        count_SK = np.maximum(total_SK3[..., 0], 1)
        mean_SK = means(total_SK3)
        budget = self.factor * np.log(max(step, 2))
        if self.kind == "moss":
            budget = np.log(np.maximum(self.rows_an_arm / count_SK, 1.0001))
        if self.kind == "ucb1":
            bound_SK = mean_SK + np.sqrt(budget / count_SK)
        elif self.kind == "ucbv":
            var_SK = np.maximum(total_SK3[..., 2] / count_SK - mean_SK**2, 0)
            bound_SK = mean_SK + np.sqrt(2 * var_SK * budget / count_SK) + 3 * budget / count_SK
        else:
            bound_SK = kl_bound(mean_SK, budget / count_SK)
        return warmed(bound_SK, total_SK3[..., 0])


def kl_bound(mean_SK, limit_SK):
    """The largest q with KL(mean, q) within the limit, by bisection."""
    mean_SK = np.clip(mean_SK, 1e-6, 1 - 1e-6)
    low_SK, high_SK = mean_SK.copy(), np.full_like(mean_SK, 1 - 1e-9)
    for _ in range(18):
        q_SK = (low_SK + high_SK) / 2
        kl_SK = mean_SK * np.log(mean_SK / q_SK) + (1 - mean_SK) * np.log(
            (1 - mean_SK) / (1 - q_SK)
        )
        inside_SK = kl_SK <= limit_SK
        low_SK, high_SK = np.where(inside_SK, q_SK, low_SK), np.where(inside_SK, high_SK, q_SK)
    return low_SK


class Greedy:
    """The best mean, with a uniform share (epsilon) or by Boltzmann's law (temperature)."""

    def __init__(self, file, draw, epsilon=0.0, temperature=0.0):
        self.draw, self.epsilon, self.temperature = draw, epsilon, temperature

    def __call__(self, total_SK3, step):
        if self.temperature:
            mean_SK = total_SK3[..., 1] / np.maximum(total_SK3[..., 0], 1)
            return mean_SK / self.temperature + self.draw.gumbel(size=mean_SK.shape)
        score_SK = warmed(means(total_SK3), total_SK3[..., 0])
        any_S = self.draw.random(len(score_SK)) < self.epsilon
        score_SK[any_S] = self.draw.random(score_SK[any_S].shape)
        return score_SK


POLICIES = {
    "adaptive, no contexts": Plain,
    "Thompson, Beta(1, 1)": Narrowed,
    "Thompson narrowed to .3": partial(Narrowed, width=0.3),
    "Thompson narrowed to .4": partial(Narrowed, width=0.4),
    "UCB1": partial(Bound, kind="ucb1", factor=2.0),
    "UCB-V": partial(Bound, kind="ucbv"),
    "KL-UCB": partial(Bound, kind="kl"),
    "KL-UCB for many arms": partial(Bound, kind="moss"),
    "epsilon-greedy .1": partial(Greedy, epsilon=0.1),
    "softmax .1": partial(Greedy, temperature=0.1),
    "known means, Thompson": partial(Known, width=1.0),
    "known means, narrowed to .3": partial(Known, width=0.3),
}


def lost(records, make, orders, first):
    """(orders, rows) how far below the best arm the arm drawn is, in points."""
    draw = np.random.default_rng(1)
    policy = make(records, draw)
    groups = rows_by_group(records.group_P)
    visit_SP = np.array([visits(records, first + s) for s in range(orders)])
    group_SP = records.group_P[visit_SP]
    ends_SP = np.ones(visit_SP.shape, bool)
    ends_SP[:, :-1] = group_SP[:, 1:] != group_SP[:, :-1]
    assert len(groups) == ends_SP[0].sum()

    absent_PK = np.isnan(records.margins_PK)
    mean_K = records.correct_PK.mean(axis=0)
    known_SK3 = np.zeros((orders, len(records.arms), 3))
    paid_SK3 = known_SK3.copy()
    lost_SP = np.empty(visit_SP.shape)
    each = np.arange(orders)
    for step in range(len(records)):
        row_S = visit_SP[:, step]
        score_SK = np.where(absent_PK[row_S], -np.inf, policy(known_SK3, step))
        # ties are drawn evenly
        score_SK = np.where(np.isposinf(score_SK), 1e6, score_SK) + 1e-9 * draw.random(
            score_SK.shape
        )
        arm_S = score_SK.argmax(axis=1)
        came_S = ~absent_PK[row_S, arm_S]
        payoff_S = records.correct_PK[row_S, arm_S]
        paid_SK3[each, arm_S] += came_S[:, None] * np.stack(
            [np.ones(orders), payoff_S, payoff_S**2], axis=1
        )
        lost_SP[:, step] = 100 * (mean_K[arm_S] - mean_K.max())
        done_S = ends_SP[:, step]
        known_SK3[done_S] = paid_SK3[done_S]
    return lost_SP


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*")
    parser.add_argument("--policy", action="append", choices=list(POLICIES))
    parser.add_argument("--orders", type=int, default=40)
    parser.add_argument("--first", type=int, default=0, help="number of the first order")
    asked = parser.parse_args()
    folder = Path(os.environ.get("REWARD_ROUTER_DATA", ".")) / "replay"
    files = asked.files or sorted(map(str, folder.glob("*.jsonl.gz")))
    records = list(load_records(files, 0, False))
    print("| policy | mean | short | thirds | " + " | ".join(r.name for r in records) + " |")
    print("|---" * (4 + len(records)) + "|")
    for name in asked.policy or POLICIES:
        tables = [lost(r, POLICIES[name], asked.orders, asked.first) for r in records]
        whole = np.array([table_SP.mean() for table_SP in tables])
        short = whole[[len(r) < SHORT for r in records]]
        thirds = np.mean(
            [[part.mean() for part in np.array_split(t, 3, axis=1)] for t in tables], axis=0
        )
        cells = [f"{whole.mean():.2f}", f"{short.mean():.2f}" if len(short) else "-"]
        cells += [" / ".join(f"{x:.1f}" for x in thirds), *(f"{x:.1f}" for x in whole)]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
