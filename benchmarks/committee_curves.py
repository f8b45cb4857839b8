"""The committee at a number of calls, and what it can promise, on recorded files.

`python benchmarks/committee_curves.py [FILE...]`. Accuracy at 1, 1.6 and 3 calls a row comes from
one cross-fitted curve over the price a file and kind of weights (no gate: the curve shows the
committee itself), between two prices in a straight line. Risk and coverage come from
`reward_router.replay.promise_curve`.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from reward_router.replay.baselines import fitted_committee, judged_at
from reward_router.replay.embed import build
from reward_router.replay.importers import load_records
from reward_router.replay.price_curve import CURVE_PRICES
from reward_router.replay.promise_curve import promise_curve
from reward_router.replay.protocols import splits
from reward_router.replay.records import Records

CALLS = (1.0, 1.6, 3.0)
WEIGHTS = ("safe", "mean", "signed")


def curve(records: Records, weights: str) -> tuple[np.ndarray, np.ndarray]:
    """(calls, accuracy) over PRICES, ascending in calls."""
    contexts, total = build(records, "none"), np.zeros((len(CURVE_PRICES), 2))
    for split in splits(records, contexts, 5, 0):
        judge = fitted_committee(split, CURVE_PRICES[0], {"gate": "off", "weights": weights})
        for i, price in enumerate(CURVE_PRICES):
            accuracy_T, asked_TK = judged_at(judge, split, price)
            total[i] += asked_TK.sum(), accuracy_T.sum()
    calls, accuracy = total.T / len(records)
    return np.maximum.accumulate(calls), accuracy


def measured(path: str) -> dict:
    """Everything about one file."""
    (records,) = load_records([path], 0, False)
    found = {"name": records.name, "rows": len(records), "arms": len(records.arms)}
    found["best"] = float(records.correct_PK.mean(axis=0).max())
    for weights in WEIGHTS:
        calls, accuracy = curve(records, weights)
        found[weights] = np.interp(CALLS, calls, accuracy).tolist()
        found[f"{weights} most calls"] = float(calls[-1])
    found["promise"] = promise_curve(records, build(records, "none"), 5)
    return found


def table(results: list[dict]) -> str:
    """Markdown: accuracy in % at 1, 1.6 and 3 calls.

    A curve that ends before stays where it ends.
    """
    head = ["file", "rows, arms", "best arm in hindsight"]
    head += [f"{weights} @ {calls:g}" for weights in WEIGHTS for calls in CALLS]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for r in results:
        cells = [r["name"], f"{r['rows']}, {r['arms']}", f"{100 * r['best']:.1f}"]
        cells += [f"{100 * x:.1f}" for weights in WEIGHTS for x in r[weights]]
        lines.append("| " + " | ".join(cells) + " |")
    means = [np.mean([r[w][i] for r in results]) for w in WEIGHTS for i in range(len(CALLS))]
    cells = [
        "mean",
        "",
        f"{100 * np.mean([r['best'] for r in results]):.1f}",
        *(f"{100 * x:.1f}" for x in means),
    ]
    return "\n".join([*lines, "| " + " | ".join(cells) + " |"])


def promises(results: list[dict]) -> str:
    """Markdown: coverage, risk and calls of each promise.

    What could not be promised in a fold was not answered there.
    """
    shown = (0.02, 0.05, 0.1, 0.2)
    lines = [
        "| file | " + " | ".join(f"max_error {m:g}" for m in shown) + " |",
        "|---|" + "---|" * len(shown),
    ]
    for r in results:
        p, cells = r["promise"], []
        for m in shown:
            i = p["max_error"].index(m)
            risk = p["risk"][i]
            cell = (
                f"{100 * p['coverage'][i]:.0f} % answered, {100 * (risk or 0):.1f} % wrong, "
                f"{p['calls'][i]:.1f} calls"
            )
            cells.append(
                "-"
                if risk is None
                else cell + ("" if p["kept"][i] == 1 else f" ({p['kept'][i]:.0%} of folds)")
            )
        lines.append(f"| {r['name']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    files = sys.argv[1:] or sorted(
        map(str, (Path(os.environ["REWARD_ROUTER_DATA"]) / "replay").glob("*.jsonl.gz"))
    )
    results = []
    for path in files:
        start = time.process_time()
        results.append(measured(path))
        print(
            json.dumps(results[-1]),
            f"cpu {time.process_time() - start:.0f}s",
            file=sys.stderr,
            flush=True,
        )
    print(table(results), promises(results), sep="\n\n")


if __name__ == "__main__":
    main()
