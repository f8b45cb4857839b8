"""Transfer between sources, online streams and cost figures of the committee."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from committee_baselines import best_single, weighted_vote
from committee_pools import Pool, load
from reward_router import keyed
from reward_router.committee import Committee, LabelPolicy, OnlineCommittee
from reward_router.committee.gate import opens

STREAMS = ("rewardmath_rm13", "rewardmath_all31", "rb2_k1", "rb2_all18", "merged4")
LAST = 500


def credit(answer_P: np.ndarray, sign_P: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.sign(answer_P) * sign_P


def shared(one: Pool, other: Pool) -> tuple[Pool, Pool]:
    arms = [arm for arm in one.arms if arm in set(other.arms)]
    return tuple(
        Pool(
            p.name,
            arms,
            p.margins_PK[:, [p.arms.index(a) for a in arms]],
            p.label_P,
            p.group_P,
            p.category_P,
            p.source_P,
            p.prompt_P,
        )
        for p in (one, other)
    )


def transfer() -> list[str]:
    """Train on one source, test on another, no label from the target."""
    lines = []
    math, prm = shared(load("rewardmath_rm13"), load("rb_math_prm"))
    for source, target in ((math, prm), (prm, math)):
        n = len(source.label_P)
        both = Pool(
            "both",
            source.arms,
            np.vstack([source.margins_PK, target.margins_PK]),
            np.concatenate([source.label_P, target.label_P]),
            np.zeros(n + len(target.label_P)),
            source.category_P + target.category_P,
            [],
            source.prompt_P + target.prompt_P,
        )
        train = np.arange(len(both.label_P)) < n
        cells = [
            f"{name} {credit(m(both, train, ~train), target.sign_P).mean():.3f}"
            for name, m in (("single", best_single), ("vote", weighted_vote))
        ]
        for gate in ("lower95", "off"):
            committee = Committee(np.ones(len(source.arms)), gate=gate).fit(
                source.margins_PK, source.label_P, source.group_P, source.category_P
            )
            prob, calls, _ = committee.judge(target.margins_PK, target.category_P)
            cells.append(
                f"committee ({gate}, playing {committee.playing}) "
                f"{credit(prob - 0.5, target.sign_P).mean():.3f} @ {calls.mean():.2f}"
            )
        lines.append(
            f"{source.name} -> {target.name} ({len(source.arms)} arms): " + ", ".join(cells)
        )
    return lines


def stream(
    pool: Pool, seed: int, share: float, gates: Sequence[str], start: str = "vote"
) -> dict[str, dict]:
    """One order of one pool's rows, labels drawn by key and scored by all arms.

    Per gate, right answers and calls a row. Labels are drawn at random, so what is learned does not
    depend on who played: one pass serves all gates.
    """
    order = keyed.rng(seed, "data", 0, pool.name).permutation(len(pool.label_P))
    policy = LabelPolicy(share=share, seed=seed)
    online = OnlineCommittee(Committee(np.ones(len(pool.arms)), seed=seed), policy, start)
    right, calls = ({gate: np.zeros(len(order)) for gate in gates} for _ in range(2))
    waiting = []
    for step, p in enumerate(order):
        waiting.append(step)
        unit = f"{pool.name}:{p}"
        if online.wants_unlabelled():
            online.add_unlabelled(pool.margins_PK[p])
            online.extra_cost += len(pool.arms) - 1
        if policy.draws(unit, step) and online.scores_all([], unit, step):
            decide(online, pool, order, waiting, right, calls)
            waiting = []
            online.add_label(
                pool.margins_PK[p],
                bool(pool.label_P[p]),
                str(pool.group_P[p]),
                step,
                pool.category_P[p],
            )
    decide(online, pool, order, waiting, right, calls)
    extra = online.extra_cost / len(order)
    return {
        gate: {
            "order": order,
            "right": right[gate],
            "calls": calls[gate],
            "extra": extra,
            "playing": plays(online, gate),
        }
        for gate in gates
    }


def plays(online: OnlineCommittee, rule: str) -> bool:
    """Set the committee's gate to a rule; whether it is open."""
    committee, gate = online.committee, online.committee.gate
    committee.gate_rule = rule
    if gate is not None:
        committee.gate = replace(
            gate, open=rule != "off" and opens(rule, gate.gain, gate.lower, gate.n)
        )
    return committee.playing


def decide(
    online: OnlineCommittee,
    pool: Pool,
    order: np.ndarray,
    steps: list[int],
    right: dict,
    calls: dict,
) -> None:
    if not steps:
        return
    rows = order[steps]
    for gate in right:
        plays(online, gate)
        if online.voting:
            for step, p in zip(steps, rows, strict=True):
                ballot = online.ballot(f"{pool.name}:{p}", step)
                prob = online.posterior({k: pool.margins_PK[p, k] for k in ballot})
                right[gate][step], calls[gate][step] = (
                    credit(np.array(prob - 0.5), pool.sign_P[p]),
                    len(ballot),
                )
        else:
            prob, n_calls, _ = online.committee.judge(
                pool.margins_PK[rows], [pool.category_P[p] for p in rows]
            )
            right[gate][steps], calls[gate][steps] = credit(prob - 0.5, pool.sign_P[rows]), n_calls
    plays(online, "auto")


def online(
    names: tuple[str, ...], orders: int, share: float, gates: Sequence[str], start: str
) -> None:
    """One line a stream and gate."""
    for name in names:
        pool, begin = load(name), time.process_time()
        credit_PK = 0.5 + 0.5 * np.sign(np.nan_to_num(pool.margins_PK)) * pool.sign_P[:, None]
        best = credit_PK[:, int(np.argmax(credit_PK.mean(0)))]
        runs = [stream(pool, seed, share, gates, start) for seed in range(orders)]
        for gate in gates:
            print(
                online_line(name, gate, start, [run[gate] for run in runs], best, pool.group_P),
                flush=True,
            )
        print(f"{name:17s} cpu {time.process_time() - begin:.0f}s", flush=True)


def online_line(
    name: str, gate: str, start: str, runs: list[dict], best: np.ndarray, group_P: np.ndarray
) -> str:
    total = np.mean([(r["right"] - best[r["order"]]).mean() for r in runs])
    late = [(r["right"] - best[r["order"]])[-LAST:] for r in runs]
    low, high = late_interval(late, [group_P[r["order"][-LAST:]] for r in runs])
    calls = np.mean([r["calls"][-LAST:].mean() for r in runs])
    return (
        f"{name:17s} {gate} {start}: last {LAST} {np.mean(late):+.4f} [{low:+.4f},{high:+.4f}] "
        f"a run {np.round([x.mean() for x in late], 3).tolist()}, "
        f"cumulative {total:+.4f}, calls at the end {calls:.2f}, "
        f"scored for labels {np.mean([r['extra'] for r in runs]):.2f} a decision, "
        f"playing {np.mean([r['playing'] for r in runs]):.0%}"
    )


def late_interval(
    late: list[np.ndarray], groups: list[np.ndarray], draws: int = 2000
) -> tuple[float, float]:
    """Bootstrap over runs and, inside a run, over prompts."""
    random, means = np.random.default_rng(0), []
    totals = []
    for gain, group in zip(late, groups, strict=True):
        index = np.unique(group, return_inverse=True)[1]
        totals.append((np.bincount(index, gain), np.bincount(index)))
    for _ in range(draws):
        picked = random.integers(0, len(totals), len(totals))
        parts = []
        for i in picked:
            gain, size = totals[i]
            weight = random.multinomial(len(size), np.full(len(size), 1 / len(size)))
            parts.append(weight @ gain / (weight @ size))
        means.append(np.mean(parts))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def cost() -> list[str]:
    """CPU seconds of a fit and microseconds of a decision.

    They are measured on normal margins with correlated arms.
    """
    lines = []
    for n_arms, n in ((13, 3000), (31, 3000), (64, 3000), (64, 300)):
        random = np.random.default_rng(0)
        label = random.random(n) < 0.5
        noise = random.normal(size=(n, n_arms)) + 0.7 * random.normal(size=(n, 1))
        margins = np.where(label, 1.0, -1.0)[:, None] * random.uniform(0.1, 0.8, n_arms) + noise
        for gate in ("off", "lower95"):
            begin = time.process_time()
            committee = Committee(np.ones(n_arms), gate=gate).fit(margins, label)
            fit = time.process_time() - begin
            begin, steps = time.process_time(), 0
            for row in margins[:1000]:
                asked: dict[int, float] = {}
                while (arm := committee.next(asked)) is not None:
                    asked[arm], steps = row[arm], steps + 1
                committee.posterior(asked)
                steps += 2
            one = (time.process_time() - begin) / steps
            begin = time.process_time()
            committee.judge(margins)
            table = (time.process_time() - begin) / n
            size = sum(a.nbytes for a in committee.state_dict().values())
            lines.append(
                f"K {n_arms} n {n} gate {gate}: fit {fit:.2f} s CPU, "
                f"next/posterior {one * 1e6:.1f} us a call, judge {table * 1e6:.1f} us a row, "
                f"state {size / 1024:.0f} KiB"
            )
    return lines
