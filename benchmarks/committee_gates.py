"""Which gate is safe?

Simulated pools and real ones cut to few labels say how often, and by how much, the gated committee
falls below one arm.
"""

import time
from collections.abc import Callable, Iterator

import numpy as np

from committee_pools import load
from reward_router.committee import Committee
from reward_router.committee.gate import GATE_RULES, opens

LABELS = (40, 100, 270)
TEST, ARMS = 4000, 8
REAL = ("triviaqa", "merged4", "rb2_k1", "rewardmath_rm13", "rewardmath_all31")
Table = tuple[np.ndarray, np.ndarray]  # margins, labels


def arms(accuracy_K: list[float], correlation: float, seed: int, n: int) -> Table:
    """Normal margins whose sign is right with the stated probability; errors share a factor."""
    from scipy.special import ndtri

    random = np.random.default_rng(seed)
    label = random.random(n) < 0.5
    noise = np.sqrt(1 - correlation) * random.normal(size=(n, len(accuracy_K)))
    noise += np.sqrt(correlation) * random.normal(size=(n, 1))
    return np.where(label, 1.0, -1.0)[:, None] * ndtri(np.array(accuracy_K)) + noise, label


SCENES: dict[str, tuple[list[float], float]] = {
    "noise": ([0.5] * ARMS, 0.0),
    "one good, noise": ([0.75] + [0.5] * (ARMS - 1), 0.0),
    "one good, copies": ([0.75] * ARMS, 0.8),
    "one good, weak": ([0.75] + [0.55] * (ARMS - 1), 0.0),
    "equal, independent": ([0.65] * ARMS, 0.0),
}


def simulated(draws: int) -> Iterator[tuple[str, int, list[dict[str, float]]]]:
    for name, (accuracy, correlation) in SCENES.items():
        for n in LABELS:
            rows = []
            for seed in range(draws):
                margins, label = arms(accuracy, correlation, seed, n + TEST)
                rows.append(
                    judged(margins, label, np.arange(n + TEST), None, np.arange(n + TEST) < n)
                )
            yield name, n, rows


def cut(draws: int) -> Iterator[tuple[str, int, list[dict[str, float]]]]:
    """Real pools: n labelled rows drawn at random.

    Whole prompts are kept on one side; the rest is the test.
    """
    for name in REAL:
        pool = load(name)
        for n in LABELS:
            rows = []
            for seed in range(draws):
                order = np.random.default_rng(seed).permutation(len(pool.label_P))[:n]
                train = np.zeros(len(pool.label_P), dtype=bool)
                train[order] = True
                keep = train | ~np.isin(pool.group_P, pool.group_P[train])
                category = np.array(pool.category_P)
                rows.append(
                    judged(
                        pool.margins_PK[keep],
                        pool.label_P[keep],
                        pool.group_P[keep],
                        category[keep],
                        train[keep],
                    )
                )
            yield name, n, rows


def judged(
    margins: np.ndarray,
    label: np.ndarray,
    group: np.ndarray,
    category: np.ndarray | None,
    train: np.ndarray,
) -> dict[str, float]:
    """Gain on the test rows over the arm the labels chose, had the gate been open.

    Beside it stands what each rule said.
    """
    parts = [None if category is None else category[rows].tolist() for rows in (train, ~train)]
    committee = Committee(np.ones(margins.shape[1])).fit(
        margins[train], label[train], group[train], parts[0]
    )
    gate, sign = committee.gate, np.where(label[~train], 1.0, -1.0)
    committee.gate_rule = "off"
    prob, calls, _ = committee.judge(margins[~train], parts[1])
    single = np.nan_to_num(margins[~train, committee.single])
    gain = 0.5 * (np.sign(prob - 0.5) - np.sign(single)) * sign
    return {"gain": float(gain.mean()), "calls": float(calls.mean()), "off": 1.0} | {
        rule: float(opens(rule, gate.gain, gate.lower, gate.n)) for rule in GATE_RULES
    }


def cell(rows: list[dict[str, float]], rule: str) -> str:
    """Share of draws in which it opened, and what that led to.

    That is the mean gain over the chosen arm in pp, the share of draws more than 1 pp below it, and
    the worst.
    """
    gain = 100 * np.array([row["gain"] * row[rule] for row in rows])
    opened = np.mean([row[rule] for row in rows])
    return f"{opened:.0%}, {gain.mean():+.1f}, {np.mean(gain < -1):.0%}, {gain.min():+.1f}"


def gates(draws: int) -> None:
    """The table, one line a pool and number of labels; real pools with two fifths of the draws."""
    kinds: list[tuple[Callable[[int], Iterator[tuple[str, int, list[dict[str, float]]]]], int]] = [
        (simulated, draws),
        (cut, max(2 * draws // 5, 1)),
    ]
    print("| pool | labels | " + " | ".join((*GATE_RULES, "off")) + " |")
    for kind, many in kinds:
        for name, n, rows in kind(many):
            cells = [cell(rows, rule) for rule in (*GATE_RULES, "off")]
            print(
                f"| {name} | {n} | " + " | ".join(cells) + f" | cpu {time.process_time():.0f}s",
                flush=True,
            )
