"""What a router, a prior and a committee give on recorded files: the table of docs/replay.md.

    python benchmarks/replay_summary.py FILE... --json OUT [--orders 20] [--into docs/replay.md]

Everything with its defaults, in points against the best single arm in hindsight: routers on a cold
stream and its last third, warm (five folds, learned on four from their own decisions), a prior of
the other folds alone and with online learning, and the committee at 1, 1.6 and 3 calls a row. What
OUT holds already is not measured again, so a run that was stopped goes on.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from adaptive import cold, warm
from committee_curves import CALLS, curve
from reward_router.posterior.blas import one_thread
from reward_router.replay import bayesian, methods
from reward_router.replay.embed import build
from reward_router.replay.evaluate import ReplaySettings, run_all
from reward_router.replay.feedback import Feedback
from reward_router.replay.importers import load_records
from reward_router.replay.methods import Conditions

FOLDS = 5
ORDERS = bayesian.ORDERS
LONG = 1000  # rows
ROUTERS = ("adaptive", "linucb")
PRIORS = ("bayesian:without=online", "bayesian")
BEGIN = "<!-- summary: written by benchmarks/replay_summary.py -->"
END = "<!-- end of summary -->"


def parts(records, orders):
    """What there is to measure of a file, by name: functions without arguments."""
    contexts = []

    def auto():
        if not contexts:
            contexts.append(build(records, "auto"))
        return contexts[0]

    found = {}
    for name in ROUTERS:
        found[f"cold {name}"] = lambda name=name: cold(records, auto(), name, orders)
        found[f"warm {name}"] = lambda name=name: warm(records, auto(), name, 1)
    found["prior"] = lambda: with_prior(records)
    found["committee at"] = lambda: committee_at(records)
    found["committee default"] = lambda: committee_default(records)
    return found


def with_prior(records):
    """Gain of the prior alone and with online learning: one folding, five orders a fold.

    One order where a file is long.
    """
    bayesian.ORDERS = 1 if len(records) > LONG else ORDERS
    runs = runs_of(records, PRIORS, "auto")
    return {name: gain_of(records, runs[name]) for name in PRIORS}


def committee_at(records):
    """Gains at 1, 1.6 and 3 calls, without the gate."""
    calls, accuracy = curve(records, "safe")
    best = records.correct_PK.mean(axis=0).max()
    return (np.interp(CALLS, calls, accuracy) - best).tolist()


def committee_default(records):
    """Gain and calls of the default with its gate: one folding."""
    runs = runs_of(records, ("committee",), "none")["committee"]
    return [gain_of(records, runs), float(np.mean([run.calls for run in runs]))]


def runs_of(records, routers, features):
    """One folding of cross-fitted methods by label, without replay's bootstraps and curves."""
    plans = methods.plan(routers, records)
    contexts = build(records, features)
    learned = any(plan.learns_strengths for plan in plans)
    in_pairs = features == "auto" and records.responses and learned
    conditions = Conditions(
        feedback=Feedback("correct"),
        folds=FOLDS,
        repeats=1,
        pairs=build(records, "pair") if in_pairs else None,
    )
    return run_all(plans, records, contexts, conditions, ReplaySettings(seeds=1))


def gain_of(records, runs):
    """Accuracy less that of the best arm."""
    accuracy = np.mean([run.accuracy_P.mean() for run in runs])
    return float(accuracy - records.correct_PK.mean(axis=0).max())


def row(of_file):
    """Numbers of one file, in the order of the table's columns, in points; NaN: not measured."""
    none = float("nan")
    numbers = [100 * of_file["best"]]
    for name in ROUTERS:
        once = of_file.get(f"cold {name}", {})
        numbers += [once.get("cold", none), once.get("last_third", none)]
        numbers.append(of_file.get(f"warm {name}", none))
    prior = of_file.get("prior", {})
    numbers += [100 * prior.get(name, none) for name in PRIORS]
    numbers += [100 * gain for gain in of_file.get("committee at", [none] * len(CALLS))]
    gain, calls = of_file.get("committee default", [none, none])
    return [*numbers, 100 * gain, calls]


def cell(value):
    """A number with its sign, or a dash."""
    return "-" if np.isnan(value) else f"{value:+.1f}"


def line(name, numbers):
    """A row of the table."""
    best, *gains, default, calls = numbers
    at_calls = "-" if np.isnan(default) else f"{default:+.1f} @ {calls:.2f}"
    cells = [name, f"{best:.1f}", *map(cell, gains), at_calls]
    return "| " + " | ".join(cells) + " |"


def table(found):
    """Markdown; a dash is what was not measured."""
    head = ["file", "best arm"]
    for name in ROUTERS:
        head += [f"{name} cold", "last third", "warm"]
    head += ["prior alone", "prior, learning", *(f"committee @ {c:g}" for c in CALLS), "by default"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    rows = {name: row(of_file) for name, of_file in found.items()}
    lines += [line(name, numbers) for name, numbers in rows.items()]
    table_FC = np.array(list(rows.values()))
    # a column with a gap has no mean: means of other files would be compared
    return "\n".join([*lines, line("**mean**", table_FC.mean(axis=0).tolist())])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--orders", type=int, default=20)
    parser.add_argument("--part", action="append", help="only parts whose names begin so")
    parser.add_argument("--into", type=Path, help="put the table between its marks in this page")
    asked = parser.parse_args()
    found = json.loads(asked.json.read_text()) if asked.json.exists() else {}
    for path in asked.files:
        (records,) = load_records([path], 20_000, True)
        of_file = found.setdefault(records.name, {})
        of_file["best"] = float(records.correct_PK.mean(axis=0).max())
        for name, measure in parts(records, asked.orders).items():
            wanted = not asked.part or name.startswith(tuple(asked.part))
            if name in of_file or not wanted:
                continue
            with one_thread():
                of_file[name] = measure()
            print(records.name, name, of_file[name], flush=True)
            asked.json.write_text(json.dumps(found, indent=1))
    text = table(found)
    print(text)
    if asked.into is not None:
        before, _, rest = asked.into.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        asked.into.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    main()
