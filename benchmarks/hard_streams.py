"""Online routers where a stream is not kind: late labels, batches, few labels, gaps, drift.

    python benchmarks/hard_streams.py FILE... [--router NAME ...] [--orders 10] [--json OUT]
    python benchmarks/hard_streams.py table OUT [--into benchmarks/results-replay.md]

Every file of recorded scores is one stream in ``--orders`` seeded orders, as `replay` has it. The
conditions:

- ``plain``: every prompt is decided with all payoffs before it.
- ``delay N``: a payoff comes N rows late.
- ``batch N``: N prompts are decided with the state before the first of them, row by row.
- ``labels 10 %``: a tenth of the rows pays.
- ``missing``: the best arm has no score on a third of the rows, drawn by key.
- ``drift``: half-way the best and the worst arm exchange their verdicts.

Figures are accuracies less that of the best arm of the whole stream (where it is missing, the next
best that is there), in points; "share" is the largest share that one arm had of the first batch.
"""

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from adaptive import plan_of
from reward_router.keyed import rng
from reward_router.posterior.blas import one_thread
from reward_router.replay import methods
from reward_router.replay.embed import build
from reward_router.replay.feedback import Feedback
from reward_router.replay.importers import load_records
from reward_router.replay.protocols import passage
from reward_router.replay.stream import play

ROUTERS = ["adaptive", "linucb", "adaptive:discount=0.99"]
MISSING = 1 / 3
BEGIN = "<!-- hard streams: written by benchmarks/hard_streams.py table -->"
END = "<!-- end of hard streams -->"


@dataclass(frozen=True)
class Condition:
    """What is unkind about a stream."""

    name: str
    delay: int = 0
    batch: int = 1
    fraction: float = 1.0
    missing: bool = False
    drift: bool = False


CONDITIONS = [
    Condition("plain"),
    Condition("delay 50", delay=50),
    Condition("delay 200", delay=200),
    Condition("batch 16", batch=16),
    Condition("batch 64", batch=64),
    Condition("batch 256", batch=256),
    Condition("labels 10 %", fraction=0.1),
    Condition("missing", missing=True),
    Condition("drift", drift=True),
]


@dataclass(frozen=True)
class Stream:
    """One order of a file under a condition: blocks of rows, what they pay, and what is right."""

    blocks: list
    paid: object
    correct_PK: np.ndarray

    @property
    def visit_P(self):
        """Rows in the order in which they come."""
        return np.concatenate(self.blocks)


def stream_of(records, condition, seed):
    """The stream of a seed; the same for every router."""
    feedback = Feedback("correct", fraction=condition.fraction, delay=condition.delay)
    way = passage(records, feedback, seed)
    correct_PK = records.correct_PK.copy()
    payoff_PK = way.paid.payoff_PK.copy()
    present_PK = way.paid.present_PK
    mean_K = correct_PK.mean(axis=0)
    best = int(mean_K.argmax())

    if condition.missing:
        gone_P = rng(seed, "sample", 0, "missing").random(len(records)) < MISSING
        present_PK = np.ones(correct_PK.shape, bool) if present_PK is None else present_PK.copy()
        present_PK[gone_P, best] = False
        payoff_PK[gone_P, best] = np.nan
        correct_PK[gone_P, best] = 0.5  # an arm that is not there is a coin, and is never drawn

    if condition.drift:
        worst = int(mean_K.argmin())
        visit_P = np.concatenate(way.blocks)
        late_P = visit_P[len(visit_P) // 2 :]
        for table_PK in (correct_PK, payoff_PK):
            table_PK[late_P, best], table_PK[late_P, worst] = (
                table_PK[late_P, worst].copy(),
                table_PK[late_P, best].copy(),
            )

    groups = [
        way.blocks[i : i + condition.batch] for i in range(0, len(way.blocks), condition.batch)
    ]
    blocks = [np.concatenate(part) for part in groups]
    paid = replace(way.paid, payoff_PK=payoff_PK, present_PK=present_PK)
    return Stream(blocks, paid, correct_PK)


def fixed_best(stream):
    """(P,) what the best arm of the whole stream gets, the next best where it is missing."""
    order_K = np.argsort(-stream.correct_PK.mean(axis=0), kind="stable")
    if stream.paid.present_PK is None:
        return stream.correct_PK[:, order_K[0]]
    there_PK = stream.paid.present_PK[:, order_K]
    arm_P = order_K[there_PK.argmax(axis=1)]
    return stream.correct_PK[np.arange(len(arm_P)), arm_P]


def drawn_evenly(stream):
    """(P,) what an arm drawn evenly from those that are there gets."""
    there_PK = stream.paid.present_PK
    weight_PK = np.ones(stream.correct_PK.shape) if there_PK is None else there_PK.astype(float)
    return (weight_PK * stream.correct_PK).sum(axis=1) / np.maximum(weight_PK.sum(axis=1), 1)


def routed(records, contexts, name, stream, seed):
    """(P, K) the router's probabilities on every row of the stream."""
    plan = plan_of(name, records)
    router = methods.router_of(plan.name, records.arms, contexts.width, dict(plan.options), seed)
    unit_V = contexts.unit_P[stream.visit_P]
    _, first_U = np.unique(unit_V, return_index=True)
    context_UD = contexts.online(unit_V[np.sort(first_U)])
    probs_PK = np.zeros(stream.correct_PK.shape)
    context_of = lambda row_B: context_UD[contexts.unit_P[row_B]]  # noqa: E731
    play(stream.blocks, router, context_of, stream.paid, probs_PK)
    return probs_PK


def measured(records, contexts, names, condition, seeds):
    """{router: {whole, late, share, se}} of one file under one condition."""
    found = {name: [] for name in [*names, "random"]}
    for seed in seeds:
        stream = stream_of(records, condition, seed)
        visit_P = stream.visit_P
        best_V = fixed_best(stream)[visit_P]
        first_B = stream.blocks[0]
        for name in found:
            if name == "random":
                got_V = drawn_evenly(stream)[visit_P]
                share = 1 / stream.correct_PK.shape[1]
            else:
                probs_PK = routed(records, contexts, name, stream, seed)
                got_V = (probs_PK * stream.correct_PK).sum(axis=1)[visit_P]
                share = float(probs_PK[first_B].mean(axis=0).max())
            late = slice(-(len(visit_P) // 3), None)
            lead = 100 * (got_V - best_V)
            found[name].append([lead.mean(), lead[late].mean(), share])

    rows = {}
    for name, values in found.items():
        whole_S, late_S, share_S = np.array(values).T
        error = whole_S.std(ddof=1) / np.sqrt(len(seeds)) if len(seeds) > 1 else float("nan")
        rows[name] = {
            "whole": float(whole_S.mean()),
            "late": float(late_S.mean()),
            "share": float(share_S.mean()),
            "se": float(error),
        }
    return rows


def run(asked):
    """Measure every file under every condition, and keep what is known after each."""
    found = json.loads(asked.json.read_text()) if asked.json and asked.json.exists() else {}
    names = asked.router or ROUTERS
    seeds = range(asked.first, asked.first + asked.orders)
    for records in load_records(asked.files, 20_000, False):
        contexts = build(records, "auto")
        of_file = found.setdefault(records.name, {})
        for condition in CONDITIONS:
            wanted = not asked.condition or condition.name in asked.condition
            if condition.name in of_file or not wanted:
                continue
            with one_thread():
                of_file[condition.name] = measured(records, contexts, names, condition, seeds)
            print(records.name, condition.name, of_file[condition.name], flush=True)
            if asked.json:
                asked.json.write_text(json.dumps(found, indent=1))
    print(table(found))


def table(found):
    """Markdown: a condition and file a row, whole / last third of each router."""
    names = list(next(iter(next(iter(found.values())).values())))
    head = ["stream", "file", *names, "share of one arm in the first batch: " + names[0]]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for condition in CONDITIONS:
        rows = {
            file: found[file][condition.name] for file in found if condition.name in found[file]
        }
        for file, row in rows.items():
            cells = [f"{row[n]['whole']:+.1f} / {row[n]['late']:+.1f}" for n in names]
            lines.append(
                f"| {condition.name} | {file} | "
                + " | ".join(cells)
                + f" | {row[names[0]]['share']:.2f} |"
            )
        if rows:
            means = [
                " / ".join(
                    f"{np.mean([row[n][key] for row in rows.values()]):+.1f}"
                    for key in ("whole", "late")
                )
                for n in names
            ]
            lines.append(f"| {condition.name} | **mean** | " + " | ".join(means) + " | |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+")
    parser.add_argument("--router", action="append")
    parser.add_argument("--condition", action="append", choices=[c.name for c in CONDITIONS])
    parser.add_argument("--orders", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="number of the first order")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--into", type=Path)
    asked = parser.parse_args()
    if asked.files[0] != "table":
        run(asked)
        return
    text = table(json.loads(Path(asked.files[1]).read_text()))
    if asked.into is None:
        print(text)
        return
    page = asked.into.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    asked.into.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    main()
