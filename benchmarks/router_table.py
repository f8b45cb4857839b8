"""The router benchmark's results as Markdown."""

import datetime
import os
import platform

import numpy as np


def ms(value):
    return f"{value:.3g}"


def cell(value):
    if isinstance(value, str):
        return value
    update = value["update"]
    return f"{ms(value['select'])} / {update if isinstance(update, str) else ms(update)}"


def table(head, rows):
    return "\n".join(
        ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(r) + " |" for r in rows)]
    )


def processor():
    with open("/proc/cpuinfo") as lines:
        return next(
            (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor()
        )


def own_rows(rows):
    for dim, arms, found in rows:
        floors = {"f64": found["floor64"], "f32": found["floor32"]}
        for name, value in found["ours"].items():
            if isinstance(value, str):
                yield [f"{dim}", f"{arms}", name, "", value, "", "", "", "", "", ""]
                continue
            for form, t in value.items():
                if t:
                    floor = floors[name[-3:]]
                    yield [f"{dim}", f"{arms}", name, form, ms(floor), ms(t["select"]), f"{t['select'] / floor:.2f}",
                           ms(t["pair"]), f"{ms(t['batch'])} ({t['select'] / t['batch']:.1f}x)", ms(t["bulk"]) if t["bulk"] else "-",
                           f"{t['gib']:.2f}" if "gib" in t else ""]  # fmt: skip


def total(value):
    """Select + update; None where one of them was not measured."""
    return None if isinstance(value, str) or isinstance(value["update"], str) else value["select"] + value["update"]


def ratio(mine, theirs):
    best = min((t for t in theirs if t), default=None)
    return f"{best / mine:.1f}x" if best and mine else "-"


def pair(found, name):
    value = found["ours"][name]
    return None if isinstance(value, str) else value["primal"]["pair"]


def over_floor(found, name):
    value = found["ours"][name]
    return "-" if isinstance(value, str) else f"{value['primal']['select'] / found['floor' + name[-2:]]:.2f}"


def cheaper(found, name):
    """How much cheaper a decision of 64 in one call is than one alone: dual, primal."""
    value = found["ours"][name]
    if isinstance(value, str):
        return "-"
    return ", ".join(f"{t['select'] / t['batch']:.1f}x" for t in value.values() if t)


def ratio_rows(rows):
    for dim, arms, found in rows:
        p = {name: total(value) for name, value in found["peers"].items()}
        f64 = [p[n] for n in ("mabwiser_ucb", "river_ucb", "bayesianbandits_ucb")]
        ucb, ucb32, ts = (pair(found, n) for n in ("LinUCB f64", "LinUCB f32", "LinearThompson f64"))
        batch = {n: v["primal"]["batch"] for n, v in found["ours"].items() if not isinstance(v, str)}
        same = f"{batch['LinearThompson f64'] / batch['LinUCB f64']:.2f}" if "LinearThompson f64" in batch else "-"
        yield [f"{dim}", f"{arms}", over_floor(found, "LinUCB f64"), over_floor(found, "LinUCB f32"), ratio(ucb, [p["mabwiser_ucb"]]),
               ratio(ucb, f64), ratio(ucb32, [p["contextualbandits_ucb32"]]), ratio(ts, [p["mabwiser_ts"]]),
               ratio(ts, [p["contextualbandits_ts"], p["bayesianbandits_ts"]]), same, cheaper(found, "LinUCB f64")]  # fmt: skip


def markdown(rows, date=None):
    names = list(rows[0][2]["peers"])
    head = [
        f"# Linear routers: speed, {date or datetime.date.today()}",
        "",
        f"{processor()}, {os.cpu_count()} vCPU, one BLAS thread, numpy {np.__version__}, Python {platform.python_version()}, load "
        f"average {os.getloadavg()[0]:.1f} at the end. Milliseconds of CPU time, medians, `benchmarks/routers.py`.",
        "",
        "## Ours",
        "`floor`: one pass over K d^2 numbers of that dtype, measured beside it. `pair`: select + update alternating, one row each "
        "(the fold of a full tail is in the bulk figure, not in this median). `batch`: per decision of 64 in one call, and how "
        "much cheaper than alone. `bulk`: per row of one arm's update of two tails, folds included.",
        "",
        table(["d", "K", "router", "form", "floor", "select", "select / floor", "pair", "batch", "bulk", "GiB held"], own_rows(rows)),
        "",
        "## Peers, select / update",
        "Vowpal Wabbit is approximate (SGD, no confidence ellipsoid) and parses text: listed for scale, not compared.",
        "",
        table(["d", "K", *names], ([f"{d}", f"{k}", *(cell(c["peers"][n]) for n in names)] for d, k, c in rows)),
        "",
        "## Ratios of select + update (peer over ours, primal form, same precision)",
        "The first two columns are select over the floor, ours in float64 and float32; the last is how much cheaper one of 64 decisions in "
        "one call is than one alone, in the dual and the primal form. \"-\": a peer that was cut off is not compared with.",
        "",
        table(["d", "K", "x floor, f64", "x floor, f32", "MABWiser LinUCB", "best exact f64 LinUCB", "contextualbandits f32",
               "MABWiser LinTS", "best other exact TS", "Thompson / LinUCB, batch of 64", "64 in one call"], ratio_rows(rows)),
        "",
    ]  # fmt: skip
    return "\n".join(head)
