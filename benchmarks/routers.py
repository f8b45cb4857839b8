"""Select and update times of the linear routers against their peers, all in one run.

The floor that memory bandwidth sets is measured beside them.

    python benchmarks/routers.py --peers PYTHON [--out benchmarks/results-routers.md]
        [--only 384x4,1024x4] [--cap 20] [--max-gib 5]

PYTHON is an interpreter with the ``peers`` extra installed (often this one); without it the peers'
columns say so. One BLAS thread; medians of CPU time, because shared machines make wall time
meaningless; the floor is measured in the same run: the time of one dot product that reads K d^2
numbers. Every cell starts from arms that have seen rows; "primal" means every arm is past its dual
form (as after d observations), put there directly. A peer's cell, its import and set-up included,
ends after ``--cap`` seconds of wall time: "over" stands for what was not measured by then. What
needs more memory than ``--max-gib`` (ours) or ``--peer-gib`` is not run and the table says what it
needs. The cells also go, as JSON lines, to standard output: ``--merge`` takes them back. The whole
grid takes about 15 minutes on a quiet core:

    python benchmarks/routers.py --peers PYTHON --seconds 0.3 --cap 12 --max-gib 9 --peer-gib 12
        --out benchmarks/results-routers.md
"""

import argparse
import json
import os
import subprocess
import sys
import time

os.environ.update(
    dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
)

from pathlib import Path

import numpy as np

from reward_router.posterior.gaussian import dual_limit, tail_rows
from reward_router.routers import LinearThompson, LinUCB
from router_peers import NAMES, data, median_ms

SIZES = [(384, 4), (384, 16), (384, 64), (576, 4), (576, 16), (576, 64), (1024, 4), (1024, 16),
         (1024, 64), (4096, 4), (4096, 16), (4096, 64)]  # fmt: skip
OURS = [
    ("LinUCB f64", LinUCB, "f8"),
    ("LinUCB f32", LinUCB, "f4"),
    ("LinearThompson f64", LinearThompson, "f8"),
]
# Bytes per arm and d^2 that a peer holds (measured: resident set at K = 4): what does not fit.
BYTES = {"mabwiser_ucb": 28, "mabwiser_ts": 36, "contextualbandits_ucb32": 4,
         "contextualbandits_ts": 24, "river_ucb": 20, "bayesianbandits_ucb": 20,
         "bayesianbandits_ts": 20, "vw_squarecb": 0}  # fmt: skip


def floor_ms(dim, arms, dtype):
    """One pass over K d^2 numbers: the least that any full-matrix exact router must read."""
    count = min(arms * dim * dim, 2**28)
    block = np.ones(count, dtype)
    return median_ms(lambda i: block.dot(block), 0.3) * (arms * dim * dim / count)


def to_primal(router, x, y):
    """Every arm past its dual form, with half a tail of rows waiting, as in the long run."""
    for arm in router.model.arms:
        component = arm[0]
        if component.base_DD is None:
            component._to_primal()
        count = tail_rows(x.shape[1]) // 2
        component.tail, component.factor_TD[:] = 0, 0.0
        component._reset_cache()
        component.add(x[:count].astype(component.dtype), y[:count, None], np.ones(count))


def stages(router, x, a, y, seconds):
    """Times of one row.

    They are select, update then select, 64 rows in one call, and a bulk update of one arm that
    folds twice.
    """
    rows = len(x)

    def step(i):
        j = i % rows
        router.probs(x[j : j + 1])
        router.update(x[j : j + 1], a[j : j + 1], y[j : j + 1])

    router.probs(x[:1])  # what is made once after a load is no part of a choice
    result = {"select": median_ms(lambda i: router.probs(x[i % rows : i % rows + 1]), seconds)}
    result["pair"] = median_ms(step, seconds)
    result["batch"] = median_ms(lambda i: router.probs(x[:64]), seconds) / 64
    count = 2 * tail_rows(x.shape[1])
    start = time.process_time()
    router.update(x[:count], np.zeros(count, int), y[:count])
    result["bulk"] = 1e3 * (time.process_time() - start) / count
    return result


def ours(dim, arms, seconds, max_gib):
    """{name: {"dual" | "primal": times}}; what does not fit is left out."""
    x, a, y = data(dim, arms, 400 + arms)
    found = {}
    for name, kind, dtype in OURS:
        gib = arms * dim * dim * np.dtype(dtype).itemsize / 2**30
        if gib > max_gib - 0.5:
            found[name] = f"needs {gib:.0f} GiB"
            continue
        router = kind(arms, dim, dtype=dtype)
        rows = min(64 * arms, 4096)
        for part in range(0, rows, len(x)):
            router.update(x[: rows - part], a[: rows - part], y[: rows - part])
        dual = stages(router, x, a, y, seconds / 2) if dual_limit(dim) > 128 else None
        to_primal(router, x, y)
        found[name] = {
            "dual": dual,
            "primal": stages(router, x, a, y, seconds) | {"gib": resident_gib()},
        }
        del router
    return found


def resident_gib():
    """Memory this process holds now."""
    with open("/proc/self/statm") as found:
        return int(found.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**30


def peer(python, name, dim, arms, seconds, cap, max_gib):
    """One peer's cell in its own process, or the reason why there is none."""
    gib = BYTES[name] * arms * dim * dim / 2**30
    if gib > max_gib:
        return f"needs {gib:.0f} GiB: does not fit in {max_gib:.0f}"
    command = [
        python,
        str(Path(__file__).with_name("router_peers.py")),
        name,
        str(dim),
        str(arms),
        str(seconds),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=cap)
    except subprocess.TimeoutExpired as late:
        lines = (late.stdout or b"").decode().split()
        return (
            {"select": json.loads(lines[-1]), "update": f"over {cap:.0f} s"}
            if lines
            else f"over {cap:.0f} s"
        )
    if done.returncode:
        return (
            done.stderr.strip().splitlines()[-1][:60]
            if done.stderr.strip()
            else f"exit {done.returncode}"
        )
    select, update = map(json.loads, done.stdout.split())
    return {"select": select, "update": update}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default=sys.executable)
    parser.add_argument("--only", default="")
    parser.add_argument("--seconds", type=float, default=0.7)
    parser.add_argument("--cap", type=float, default=60.0)
    parser.add_argument("--max-gib", type=float, default=20.0)
    parser.add_argument("--peer-gib", type=float, default=20.0)
    parser.add_argument(
        "--merge", nargs="*", default=[], help="outputs of earlier runs whose cells join the table"
    )
    parser.add_argument("--out")
    given = parser.parse_args()
    sizes = (
        [tuple(map(int, part.split("x"))) for part in given.only.split(",")]
        if given.only
        else SIZES
    )
    rows = [
        tuple(json.loads(line))
        for path in given.merge
        for line in Path(path).read_text().splitlines()
    ]
    for dim, arms in sizes:
        cell = {"floor64": floor_ms(dim, arms, "f8"), "floor32": floor_ms(dim, arms, "f4")}
        cell["ours"] = ours(dim, arms, given.seconds, given.max_gib)
        cell["peers"] = {
            n: peer(given.peers, n, dim, arms, given.seconds, given.cap, given.peer_gib)
            for n in NAMES
        }
        rows.append((dim, arms, cell))
        print(json.dumps([dim, arms, cell]), flush=True)
    if given.out:
        from router_table import markdown

        Path(given.out).write_text(markdown(sorted(rows, key=lambda row: row[:2])))


if __name__ == "__main__":
    main()
