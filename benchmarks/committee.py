"""The committee on recorded scores.

`python benchmarks/committee.py study|transfer|online|gates|cost`. Settings were fixed in
docs/log/2026-11-committee.md before the first look; needs REWARD_ROUTER_DATA.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from committee_baselines import METHODS
from committee_gates import gates
from committee_pools import POOLS, Pool, load
from committee_streams import STREAMS, cost, online, transfer
from reward_router.committee import Committee
from reward_router.committee.gate import opens
from reward_router.committee.labelled import assign_folds

REPEATS, FOLDS, BOOTSTRAPS = 3, 5, 2000
GATES = {
    "committee": "auto",
    "committee lower95": "lower95",
    "committee noninferior": "noninferior",
    "committee mean": "mean",
    "committee ungated": "off",
}


def credit(answer_P: np.ndarray, sign_P: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.sign(answer_P) * sign_P


def study_pool(pool: Pool, price: float) -> dict:
    """Cross-validated rows of every method.

    They are accuracy and calls a row, averaged over repeats, and the committee's posterior.
    """
    n = len(pool.label_P)
    names = [*METHODS, *GATES]
    right = {name: np.zeros((REPEATS, n)) for name in names}
    calls = {
        name: np.full((REPEATS, n), float(METHODS[name][1] or len(pool.arms))) for name in METHODS
    }
    calls |= {name: np.zeros((REPEATS, n)) for name in GATES}
    posterior, opened = (
        {name: np.zeros((REPEATS, n)) for name in GATES},
        {name: [] for name in GATES},
    )
    for repeat in range(REPEATS):
        fold = assign_folds(pool.group_P, FOLDS, repeat)
        for f in range(FOLDS):
            train, test = fold != f, fold == f
            for name, (method, _) in METHODS.items():
                right[name][repeat, test] = credit(method(pool, train, test), pool.sign_P[test])
            committee = fitted(pool, train, price)
            for name, rule in GATES.items():
                committee.gate_rule = rule
                gate = committee.gate
                committee.gate = replace(
                    gate, open=rule != "off" and opens(rule, gate.gain, gate.lower, gate.n)
                )
                opened[name].append(committee.playing)
                prob, n_calls, _ = committee.judge(
                    pool.margins_PK[test], [pool.category_P[i] for i in np.flatnonzero(test)]
                )
                right[name][repeat, test] = credit(prob - 0.5, pool.sign_P[test])
                calls[name][repeat, test] = n_calls
                posterior[name][repeat, test] = prob
    return {
        "right": right,
        "calls": calls,
        "posterior": posterior,
        "open": {g: float(np.mean(o)) for g, o in opened.items()},
    }


def fitted(pool: Pool, train: np.ndarray, price: float) -> Committee:
    committee = Committee(np.ones(len(pool.arms)), price=price)
    return committee.fit(
        pool.margins_PK[train],
        pool.label_P[train],
        pool.group_P[train],
        [pool.category_P[i] for i in np.flatnonzero(train)],
    )


def interval(gain_P: np.ndarray, group_P: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap over groups of the mean of paired differences."""
    index = np.unique(group_P, return_inverse=True)[1]
    total, size = np.bincount(index, gain_P), np.bincount(index)
    draw = np.random.default_rng(seed).multinomial(
        len(size), np.full(len(size), 1 / len(size)), BOOTSTRAPS
    )
    low, high = np.quantile((draw @ total) / (draw @ size), [0.025, 0.975])
    return float(low), float(high)


def calibration(posterior_P: np.ndarray, sign_P: np.ndarray, draws: int = 400) -> dict[str, float]:
    """ECE over 15 bins of equal mass of the answer's confidence.

    Beside it stand its mean and 95th percentile when labels follow the posterior.
    """
    confidence = np.maximum(posterior_P, 1 - posterior_P)
    order = np.argsort(confidence, kind="stable")
    bins = np.array_split(order, 15)
    size = np.array([len(b) for b in bins])
    start = np.concatenate([[0], np.cumsum(size)[:-1]])

    def ece(right: np.ndarray) -> np.ndarray:
        gap = np.add.reduceat((right - confidence)[..., order], start, axis=-1)
        return np.abs(gap).sum(-1) / len(posterior_P)

    plain = float(ece(credit(posterior_P - 0.5, sign_P)))
    perfect = ece(
        (np.random.default_rng(0).random((draws, len(confidence))) < confidence).astype(float)
    )
    return {
        "ece": plain,
        "debiased": max(plain - float(perfect.mean()), 0.0),
        "bar": float(np.quantile(perfect, 0.95)),
    }


def summary(pool: Pool, result: dict) -> dict:
    right = {name: rows.mean(0) for name, rows in result["right"].items()}
    out = {"n": len(pool.label_P), "K": len(pool.arms), "open": result["open"], "methods": {}}
    for name, rows in right.items():
        gain, vote = rows - right["best single"], rows - right["weighted vote"]
        out["methods"][name] = {
            "accuracy": float(rows.mean()),
            "calls": float(result["calls"][name].mean()),
            "gain": float(gain.mean()),
            "gain_ci": interval(gain, pool.group_P),
            "vote": float(vote.mean()),
            "vote_ci": interval(vote, pool.group_P),
        }
    for name, posterior in result["posterior"].items():
        reps = [calibration(p, pool.sign_P) for p in posterior]
        out["methods"][name] |= {key: float(np.mean([r[key] for r in reps])) for key in reps[0]}
    out["single_hindsight"] = float(
        (0.5 + 0.5 * np.sign(np.nan_to_num(pool.margins_PK)) * pool.sign_P[:, None]).mean(0).max()
    )
    return out


def study(names: list[str], price: float, out: Path | None) -> None:
    """One line a pool, then the targets and the table.

    Pools that ``out`` holds already are not run again.
    """
    results = json.loads(out.read_text()) if out and out.is_file() else {}
    for name in names:
        if name not in results:
            start = time.process_time()
            pool = load(name)
            results[name] = summary(pool, study_pool(pool, price))
            print(line(name, results[name]), f"cpu {time.process_time() - start:.0f}s", flush=True)
            if out:
                out.write_text(json.dumps(results, indent=1))
    results = {name: results[name] for name in names}
    print(verdict(results))
    print(table(results))


def line(name: str, r: dict) -> str:
    cell = {m: f"{v['accuracy']:.3f}" for m, v in r["methods"].items()}
    parts = [
        f"{name:17s} n {r['n']:4d} K {r['K']:2d} " + " ".join(f"{m} {cell[m]}" for m in METHODS)
    ]
    for gate in GATES:
        m = r["methods"][gate]
        parts.append(
            f"  {gate:17s} {m['accuracy']:.3f} @ {m['calls']:.2f} "
            f"vs single {m['gain']:+.3f} [{m['gain_ci'][0]:+.3f},{m['gain_ci'][1]:+.3f}] "
            f"vs vote {m['vote']:+.3f} [{m['vote_ci'][0]:+.3f},{m['vote_ci'][1]:+.3f}] "
            f"ece {m['debiased']:.3f} ({m['ece']:.3f}, bar {m['bar']:.3f})"
        )
    return "\n".join(parts)


def verdict(results: dict) -> str:
    """The targets, for each gate."""
    lines = []
    for name in GATES:
        rows = [(r["methods"][name], r) for r in results.values()]
        gain, calls = np.mean([m["gain"] for m, _ in rows]), np.mean([m["calls"] for m, _ in rows])
        share = np.mean([m["calls"] / r["K"] for m, r in rows])
        level = sum(m["vote"] >= -0.005 and m["calls"] <= 0.41 * r["K"] for m, r in rows)
        better, worse = (
            sum(m["gain_ci"][0] > 0 for m, _ in rows),
            sum(m["gain_ci"][1] < 0 for m, _ in rows),
        )
        calibrated = sum(m["debiased"] <= 0.03 or m["ece"] <= m["bar"] for m, _ in rows)
        lines.append(
            f"{name}: gain {gain:+.4f} at {calls:.2f} calls, {share:.1%} of K; "
            f"at the vote's level for at most 41 % of its calls on {level}/{len(rows)} pools; "
            f"better on {better}, worse on {worse}, lowest {min(m['gain'] for m, _ in rows):+.4f}; "
            f"calibrated on {calibrated}"
        )
    return "\n".join(lines)


def table(results: dict) -> str:
    """The study as a Markdown table: accuracy @ calls."""
    head = [
        "pool",
        "n",
        "K",
        "single",
        "hindsight",
        "vote",
        "stacking",
        "majority",
        "category",
        "prompt",
        "oracle",
        *GATES,
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, r in results.items():
        m = {k: v["accuracy"] for k, v in r["methods"].items()}
        cells = [name, r["n"], r["K"], f"{m['best single']:.3f}", f"{r['single_hindsight']:.3f}"]
        cells += [
            f"{m[k]:.3f}"
            for k in (
                "weighted vote",
                "stacking",
                "majority",
                "category best",
                "prompt router",
                "oracle",
            )
        ]
        for gate in GATES:
            v = r["methods"][gate]
            cells.append(
                f"{v['accuracy']:.3f} @ {v['calls']:.2f} ({100 * v['gain']:+.1f} "
                f"[{100 * v['gain_ci'][0]:+.1f}, {100 * v['gain_ci'][1]:+.1f}])"
            )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["study", "transfer", "online", "gates", "cost"])
    parser.add_argument("--pools", default=",".join(POOLS))
    parser.add_argument("--price", type=float, default=0.0125)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--gate", default="lower95", help="one or more, with commas")
    parser.add_argument("--start", default="vote")
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--orders", type=int, default=5)
    parser.add_argument("--draws", type=int, default=100)
    args = parser.parse_args()
    if args.what == "study":
        study(args.pools.split(","), args.price, args.out)
    elif args.what == "online":
        names = tuple(args.pools.split(",")) if args.pools != ",".join(POOLS) else STREAMS
        online(names, args.orders, args.share, args.gate.split(","), args.start)
    elif args.what == "gates":
        gates(args.draws)
    else:
        print("\n".join(transfer() if args.what == "transfer" else cost()))


if __name__ == "__main__":
    sys.exit(main())
