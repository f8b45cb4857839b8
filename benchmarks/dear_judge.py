"""A dear judge among cheap arms, at 1, 1.6 and 3 units of cost a pair.

`python benchmarks/dear_judge.py`. Costs are ratios of list prices (the cheapest arm of a pool is 1
unit). Every pair is judged by what was learned on other prompts (5 folds); the price of an opinion
is moved, without looking at labels, until the mean cost lands on the budget. Two things anybody can
do without a committee are beside it: the best single arm that the budget pays for, and asking the
best arm about a random share of the pairs. Needs REWARD_ROUTER_DATA.
"""

import numpy as np

from committee_pools import Pool, load
from reward_router.committee import Committee
from reward_router.committee.labelled import assign_folds

BUDGETS = (1.0, 1.6, 3.0)
PRICES = np.concatenate([[0.0], np.geomspace(1e-4, 0.5, 24), [1.0]])
GPT54 = {"nano": 1.0, "mini": 3.7, "": 12.4}
"""GPT-5.4 nano, mini and full, for a request of 300 tokens and an answer of 20.

List prices as read in 2026-11: 0.20/1.25, 0.75/4.50 and 2.50/15.00 dollars a million tokens.
"""
CLAUDE = {"Haiku": 4.7, "Sonnet": 14.1}
"""Claude Haiku 4.5 and Sonnet 4.6, likewise: 1/5 and 3/15 dollars a million tokens."""


def gpt_costs(arm: str) -> float | None:
    """Cost of one call of the five judges with one prompt; None for the other arms of the pool."""
    if "+criteria" in arm:
        return None
    for word, cost in CLAUDE.items():
        if word in arm:
            return cost
    return GPT54["nano" if "nano" in arm else "mini" if "mini" in arm else ""]


def judge_costs(arm: str) -> float | None:
    """Classifiers of 2 to 27 billion parameters on an own GPU are 1; the reasoning judge is 25."""
    return 25.0 if arm.startswith("arena_hard") else None if ":" in arm else 1.0


def kept(pool: Pool, costs: dict[str, float]) -> np.ndarray:
    return pool.margins_PK[:, [pool.arms.index(arm) for arm in costs]]


def curve(pool: Pool, margins_PK: np.ndarray, cost_K: np.ndarray, gate: str) -> np.ndarray:
    """(prices, 2): mean cost and accuracy, cross-fitted."""
    fold = assign_folds(pool.group_P, 5, 0)
    total = np.zeros((len(PRICES), 2))
    for f in range(5):
        train, test = fold != f, fold == f
        committee = Committee(cost_K, price=0.01, gate=gate)
        committee.fit(margins_PK[train], pool.label_P[train], pool.group_P[train])
        for i, price in enumerate(PRICES):
            prob, _, asked = committee.judge(margins_PK[test], None, price)
            right = 0.5 + 0.5 * np.sign(prob - 0.5) * pool.sign_P[test]
            total[i] += (asked @ cost_K).sum(), right.sum()
    return total / len(fold)


def at(budget: float, curve_C2: np.ndarray, single_K2: np.ndarray) -> float:
    """Accuracy at a mean cost.

    It is that of the committee, of the cheapest arms alone (a committee asks again where the first
    arm ties, so its cheapest point is above them), or of a random mix of the two neighbours.
    """
    cheapest_K2 = single_K2[single_K2[:, 0] == single_K2[:, 0].min()]
    curve_C2 = np.concatenate([curve_C2, cheapest_K2[[cheapest_K2[:, 1].argmax()]]])
    order = np.argsort(curve_C2[:, 0])
    cost_C, accuracy_C = curve_C2[order, 0], np.maximum.accumulate(curve_C2[order, 1])
    return float(np.interp(budget, cost_C, accuracy_C, left=np.nan))


def alone(pool: Pool, margins_PK: np.ndarray, cost_K: np.ndarray) -> np.ndarray:
    """(K, 2): each arm by itself."""
    credit = 0.5 + 0.5 * np.sign(np.nan_to_num(margins_PK)) * pool.sign_P[:, None]
    return np.stack([cost_K, credit.mean(0)], axis=1)


def mixed(budget: float, single_K2: np.ndarray) -> float:
    """The best accuracy of two arms, one asked about a random share.

    It is the upper hull of the single arms.
    """
    best = max((a for c, a in single_K2 if c <= budget), default=np.nan)
    for c1, a1 in single_K2:
        for c2, a2 in single_K2:
            if c1 <= budget < c2:
                best = max(best, a1 + (a2 - a1) * (budget - c1) / (c2 - c1))
    return float(best)


def report(name: str, costs_of) -> None:
    pool = load(name)
    costs = {arm: cost for arm in pool.arms if (cost := costs_of(arm)) is not None}
    margins_PK, cost_K = kept(pool, costs), np.array(list(costs.values()))
    single_K2 = alone(pool, margins_PK, cost_K)
    print(f"\n{name}: {len(pool.label_P)} pairs")
    for (arm, cost), (_, accuracy) in zip(costs.items(), single_K2, strict=True):
        print(f"  {arm:45s} cost {cost:4g}  accuracy {accuracy:.3f}")
    curves = {gate: curve(pool, margins_PK, cost_K, gate) for gate in ("mean", "off")}
    print(
        "| cost a pair | best single arm | dear judge on a random share "
        "| committee (gate mean) | committee (gate off) |"
    )
    print("|---|---|---|---|---|")
    for budget in BUDGETS:
        best = max((a for c, a in single_K2 if c <= budget), default=np.nan)
        cells = [
            best,
            mixed(budget, single_K2),
            *(at(budget, curves[gate], single_K2) for gate in curves),
        ]
        print(f"| {budget:g} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |")
    dearest = curves["off"][0]
    print(f"everything that pays: cost {dearest[0]:.1f}, accuracy {dearest[1]:.3f}")


if __name__ == "__main__":
    report("rb2_k1", gpt_costs)
    report("judgebench_all11", judge_costs)
