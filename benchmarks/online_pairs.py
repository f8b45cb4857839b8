"""What the online stage adds to a pair besides encoding, sampling, scoring and training.

Decision, ledger, payoff, update.

    OMP_NUM_THREADS=1 python benchmarks/online_pairs.py [--pairs 32] [--steps 40]

One BLAS thread; CPU milliseconds a pair: routing (exact probabilities, the draw, the decision's
row), recording two calls, feedback (row and posterior update), the tie scale. Ledger in a file,
durability as in a run. A prior with trust doubles the posteriors.
"""

import argparse
import os
import tempfile
import time

os.environ.update(
    dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
)

from pathlib import Path

import numpy as np

from reward_router import Dispatcher, Ledger, LinearThompson
from reward_router.features import unit_rows
from reward_router.ledger.rows import Call
from reward_router.pairs import GapScale, gaps
from reward_router.routers.trusted import NO_PRIOR, trusted


def measure(arms, dim, trust, pairs, steps):
    """CPU ms a pair by stage, and wall ms in all."""
    draw = np.random.default_rng(0)
    prior = 0.1 * draw.normal(size=(arms, dim + 1))
    router = (
        trusted(prior, 200.0, 0.4, 50.0, level=(0.6, 0.1))
        if trust
        else LinearThompson(arms, dim, **NO_PRIOR)
    )
    names, scale, spent = [f"arm {k}" for k in range(arms)], GapScale(), np.zeros(4)
    with tempfile.TemporaryDirectory() as folder:
        dispatcher = Dispatcher(router, names, ledger=Ledger(Path(folder) / "ledger.sqlite"))
        start = time.perf_counter()
        for t in range(steps):
            x = unit_rows(draw.normal(size=(pairs, dim)))
            marks = [time.process_time()]
            decisions = dispatcher.route(x, [f"{t}/{i}" for i in range(pairs)], t)
            marks.append(time.process_time())
            score = draw.normal(size=(pairs, 2))
            calls = [Call(d.id, f"{d.unit}/{n}", d.name, score[i, n], "ok", 0.01, 1.0) for i,
                     d in enumerate(decisions) for n in (0, 1)]  # fmt: skip
            dispatcher.record_calls(calls)
            marks.append(time.process_time())
            scale.learn(gaps((c.decision_id, c.arm, c.status, c.score) for c in calls))
            [scale.threshold(d.name, 0.1) for d in decisions]
            marks.append(time.process_time())
            dispatcher.feedback_many(
                [(d.id, float(draw.random() < 0.6)) for d in decisions], source="bench"
            )
            marks.append(time.process_time())
            spent += np.diff(marks)
        wall = time.perf_counter() - start
    return 1000 * spent / (pairs * steps), 1000 * wall / (pairs * steps)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=32, help="pairs a step")
    parser.add_argument("--steps", type=int, default=40)
    args = parser.parse_args()
    print(
        "| arms | D | prior | route | calls | tie scale | feedback "
        "| CPU ms a pair | wall ms a pair |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for arms, dim, trust in (
        (4, 64, True),
        (7, 64, True),
        (7, 576, True),
        (7, 768, False),
        (7, 768, True),
    ):
        spent, wall = measure(arms, dim, trust, args.pairs, args.steps)
        cells = " | ".join(f"{v:.3f}" for v in spent)
        print(
            f"| {arms} | {dim} | {'with trust' if trust else 'none'} | {cells} "
            f"| {spent.sum():.3f} | {wall:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
