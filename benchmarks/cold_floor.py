"""What any rule loses on a cold stream: policies that read no context, on replay's own streams.

    python benchmarks/cold_floor.py [FILE...] [--orders 40] [--first 0] [--policy NAME ...]
    python benchmarks/cold_floor.py --made-up [--orders 40] [--first 0] [--policy NAME ...]

All orders of a stream run side by side, so a policy takes seconds. Rows of one prompt are decided
with what was known before it, as in `replay`. An arm is drawn and what it is worth on the whole
stream is counted, in points less the best arm: the mean over files or made-up kinds, over those
under 1,000 rows, and over the thirds of the streams, with standard errors over orders. ``known
...`` is told the true means of all arms, though not which arm has which: no rule without contexts
can be expected to do much better than the best of these.
"""

import argparse
import os
from functools import partial
from pathlib import Path

import numpy as np

from cold_streams import KINDS, lost, made_up, recorded
from reward_router.replay.importers import load_records
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

    def __init__(self, streams, draw, width=1.0, a=1.0, b=1.0):
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
    """The plain opinion of `Adaptive`, with the laws of all orders learned side by side.

    ``law``: ``learned`` (one Beta law of all arms, its mean and spread learned), ``flat`` (the law
    Beta(1, 1)), or ``mean`` (its mean learned, worth two payoffs). ``worth``: whether what trying
    an arm is worth is added; ``spent``: for the rows that are left after ten pulls of every arm.
    """

    def __init__(self, streams, draw, law="learned", width=WIDTH, worth=True, spent=False):
        self.draw, self.law, self.width, self.worth = draw, law, width, worth
        self.spent = spent
        self.next, self.population = 0, None

    def __call__(self, total_SK3, step):
        if step >= self.next:
            self.population = self.learned(total_SK3)
            self.next = step + max(1, int(0.1 * step))
        mean_SK, sd_SK = self.population.arms(total_SK3)
        score_SK = mean_SK + self.width * sd_SK * self.draw.standard_normal(mean_SK.shape)
        if self.worth:
            ahead = max(ROWS_AHEAD, step)
            if self.spent:
                ahead = max(ahead - pooled.LOOK_AHEAD * mean_SK.shape[1], 0)
            noise_SK = self.population.noise(mean_SK)
            score_SK += pooled.worth_of_trying(mean_SK, sd_SK, noise_SK, ahead)
        return score_SK

    def learned(self, total_SK3):
        """The laws of the arms of all orders, each number (S, 1)."""
        laws = [pooled.learned(total_K3) for total_K3 in total_SK3]
        mean_S1, variance_S1, dispersion_S1 = np.array([pooled.as_array(x) for x in laws]).T[
            ..., None
        ]
        if self.law == "flat":
            mean_S1 = np.full_like(mean_S1, 0.5)
        if self.law != "learned":
            # a Beta law of size 2 has variance mean (1 - mean) / 3
            variance_S1 = mean_S1 * (1 - mean_S1) / 3
        return pooled.Population(mean_S1, variance_S1, dispersion_S1)


class Known:
    """Thompson for arms whose means are the file's, in an unknown order."""

    def __init__(self, streams, draw, width):
        # in an order of their own: which arm has which is not told
        self.mean_SK = np.clip(np.sort(streams.mean_SK, axis=1), 0.01, 0.99)
        self.draw, self.width = draw, width

    def __call__(self, total_SK3, step):
        right_SK1 = total_SK3[..., 1, None]
        wrong_SK1 = total_SK3[..., 0, None] - right_SK1
        mean_S1K = self.mean_SK[:, None]
        log_SKK = right_SK1 * np.log(mean_S1K) + wrong_SK1 * np.log1p(-mean_S1K)
        weight_SKK = np.exp(log_SKK - log_SKK.max(axis=-1, keepdims=True))
        weight_SKK /= weight_SKK.sum(axis=-1, keepdims=True)
        mean_SK = (weight_SKK * mean_S1K).sum(axis=-1)
        var_SK = (weight_SKK * mean_S1K**2).sum(axis=-1) - mean_SK**2
        noise_SK = self.draw.standard_normal(mean_SK.shape)
        return mean_SK + self.width * np.sqrt(np.maximum(var_SK, 0)) * noise_SK


class Bound:
    """Upper confidence bounds: UCB1, UCB-V, KL-UCB and its form for many arms (MOSS)."""

    def __init__(self, streams, draw, kind, factor=1.0):
        self.kind, self.factor = kind, factor
        self.rows_an_arm = streams.rows / streams.mean_SK.shape[1]

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

    def __init__(self, streams, draw, epsilon=0.0, temperature=0.0):
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
    "flat law, .3": partial(Plain, law="flat", worth=False),
    "flat law, .4": partial(Plain, law="flat", width=0.4, worth=False),
    "flat law, .3, worth of trying": partial(Plain, law="flat"),
    "learned mean worth two, .4": partial(Plain, law="mean", width=0.4, worth=False),
    "learned law, worth after trying all": partial(Plain, spent=True),
    "flat law, .3, worth after trying all": partial(Plain, law="flat", spent=True),
    "flat law, .4, worth after trying all": partial(Plain, law="flat", width=0.4, spent=True),
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


def table_row(name, made, streams, by_row):
    """One policy over all streams: cells of a table."""
    tables = []
    for one in streams:
        draw = np.random.default_rng(1)
        tables.append(lost(one, made(one, draw), draw, by_row))
    whole = np.array([table_SP.mean() for table_SP in tables])
    # orders are drawn apart for each stream, so variances of means add up
    error = np.array([t.mean(axis=1).std(ddof=1) / np.sqrt(len(t)) for t in tables])
    thirds = np.mean([[p.mean() for p in np.array_split(t, 3, axis=1)] for t in tables], axis=0)
    short = whole[[one.rows < SHORT for one in streams]]

    cells = [f"{whole.mean():.2f} ± {np.sqrt((error**2).sum()) / len(tables):.2f}"]
    cells += [f"{short.mean():.2f}" if len(short) else "-"]
    cells += [" / ".join(f"{x:.1f}" for x in thirds)]
    cells += [f"{x:.1f} ± {e:.1f}" for x, e in zip(whole, error, strict=True)]
    return f"| {name} | " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*")
    parser.add_argument("--policy", action="append", choices=list(POLICIES))
    parser.add_argument("--orders", type=int, default=40)
    parser.add_argument("--by-row", action="store_true", help="what arms pay on each row, not all")
    parser.add_argument("--made-up", action="store_true", help="made-up kinds, no files")
    parser.add_argument("--first", type=int, default=0, help="number of the first order")
    asked = parser.parse_args()
    folder = Path(os.environ.get("REWARD_ROUTER_DATA", ".")) / "replay"
    if asked.made_up:
        streams = [made_up(name, asked.orders, asked.first) for name in KINDS]
    else:
        files = asked.files or sorted(map(str, folder.glob("*.jsonl.gz")))
        every = load_records(files, 0, False)
        streams = [recorded(records, asked.orders, asked.first) for records in every]
    print("| policy | mean | short | thirds | " + " | ".join(s.name for s in streams) + " |")
    print("|---" * (4 + len(streams)) + "|")
    for name in asked.policy or POLICIES:
        print(table_row(name, POLICIES[name], streams, asked.by_row), flush=True)


if __name__ == "__main__":
    main()
