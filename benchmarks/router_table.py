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
        [
            "| " + " | ".join(head) + " |",
            "|" + "---|" * len(head),
            *("| " + " | ".join(r) + " |" for r in rows),
        ]
    )


def processor():
    with open("/proc/cpuinfo") as lines:
        return next(
            (line.split(":")[1].strip() for line in lines if line.startswith("model name")),
            platform.processor(),
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
                    yield [f"{dim}", f"{arms}", name, form, ms(floor), ms(t["select"]),
                           f"{t['select'] / floor:.2f}", ms(t["pair"]),
                           f"{ms(t['batch'])} ({t['select'] / t['batch']:.1f}x)",
                           ms(t["bulk"]) if t["bulk"] else "-",
                           f"{t['gib']:.2f}" if "gib" in t else ""]  # fmt: skip


def total(value):
    """Select + update; None where one of them was not measured."""
    return (
        None
        if isinstance(value, str) or isinstance(value["update"], str)
        else value["select"] + value["update"]
    )


def ratio(mine, theirs):
    best = min((t for t in theirs if t), default=None)
    return f"{best / mine:.1f}x" if best and mine else "-"


def pair(found, name):
    value = found["ours"][name]
    return None if isinstance(value, str) else value["primal"]["pair"]


def over_floor(found, name):
    value = found["ours"][name]
    return (
        "-"
        if isinstance(value, str)
        else f"{value['primal']['select'] / found['floor' + name[-2:]]:.2f}"
    )


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
        ucb, ucb32, ts = (
            pair(found, n) for n in ("LinUCB f64", "LinUCB f32", "LinearThompson f64")
        )
        batch = {
            n: v["primal"]["batch"] for n, v in found["ours"].items() if not isinstance(v, str)
        }
        same = (
            f"{batch['LinearThompson f64'] / batch['LinUCB f64']:.2f}"
            if "LinearThompson f64" in batch
            else "-"
        )
        yield [f"{dim}", f"{arms}", over_floor(found, "LinUCB f64"),
               over_floor(found, "LinUCB f32"), ratio(ucb, [p["mabwiser_ucb"]]), ratio(ucb, f64),
               ratio(ucb32, [p["contextualbandits_ucb32"]]), ratio(ts, [p["mabwiser_ts"]]),
               ratio(ts, [p["contextualbandits_ts"], p["bayesianbandits_ts"]]), same,
               cheaper(found, "LinUCB f64")]  # fmt: skip


def sizes(found):
    """(met, missed) in words, from [(size, figure, whether it is met)]; None: not measured."""
    words = [
        ", ".join(
            f"{size} ({figure:.{figure < 10:d}f})" for size, figure, met in found if met is side
        )
        for side in (True, False)
    ]
    return (
        [w or "none" for w in words]
        if any(met for *_, met in found) or words[1]
        else ["not measured", ""]
    )


def target_rows(rows):
    """Each speed target, where it is met and where it is missed, with the figure."""
    columns = list(zip(*ratio_rows(rows), strict=True))
    names = [f"{d} x {k}" for d, k in zip(*columns[:2], strict=True)]
    dims = [int(d) for d in columns[0]]

    def judged(column, fits, keep=lambda d: True):
        read = [c.rstrip("x") for c in columns[column]]
        return sizes(
            [
                (n, float(c), fits(float(c)))
                for n, d, c in zip(names, dims, read, strict=True)
                if c != "-" and keep(d)
            ]
        )

    def alone(form):
        parts = [c.split(", ") for c in columns[10]]
        read = [
            (n, float(p[form].rstrip("x")))
            for n, p in zip(names, parts, strict=True)
            if len(p) == 2
        ]
        return sizes([(n, x, x >= 4) for n, x in read])

    dual = [(n, d, c["floor64"] / c["ours"]["LinUCB f64"]["dual"]["select"]) for n, d,
            (*_, c) in zip(names, dims, rows, strict=True)
            if not isinstance(c["ours"]["LinUCB f64"],
                              str) and c["ours"]["LinUCB f64"]["dual"]]  # fmt: skip
    yield ["LinUCB, select + update: 20x MABWiser", *judged(4, lambda x: x >= 20)]
    yield ["LinUCB: 4x the best exact peer, float64", *judged(5, lambda x: x >= 4)]
    yield ["LinUCB: 4x the best exact peer, float32", *judged(6, lambda x: x >= 4)]
    yield ["Thompson: 4x the best exact peer but MABWiser", *judged(8, lambda x: x >= 4)]
    yield ["Thompson: 20x MABWiser", *judged(7, lambda x: x >= 20)]
    yield ["LinUCB, select at most 1.5x the floor, float64", *judged(2, lambda x: x <= 1.5)]
    yield ["the same, float32", *judged(3, lambda x: x <= 1.5)]
    yield [
        "dual form under the floor: 5x at 1024, 30x at 4096",
        *sizes([(n, x, x >= (5 if d == 1024 else 30)) for n, d, x in dual if d >= 1024]),
    ]
    yield ["64 in one call 4x cheaper each, dual form", *alone(0)]
    yield ["64 in one call 4x cheaper each, primal form", *alone(-1)]
    yield [
        "Thompson at LinUCB's cost within 1.3x, batch of 64, d >= 1024",
        *judged(9, lambda x: x <= 1.3, lambda d: d >= 1024),
    ]


def markdown(rows, date=None):
    names = list(rows[0][2]["peers"])
    head = [
        f"# Linear routers: speed, {date or datetime.date.today()}",
        "",
        f"{processor()}, {os.cpu_count()} vCPU, one BLAS thread, numpy {np.__version__}, "
        f"Python {platform.python_version()}, load average {os.getloadavg()[0]:.1f} at the end. "
        "Milliseconds of CPU time, medians, `benchmarks/routers.py`.",
        "",
        "## Against the targets",
        table(["target", "met at d x K", "missed at d x K"], target_rows(rows)),
        "",
        "## Ours",
        "`floor`: one pass over K d^2 numbers of that dtype, measured beside it. `pair`: select + "
        "update alternating, one row each (the fold of a full tail is in the bulk figure, not in "
        "this median). `batch`: per decision of 64 in one call, and how much cheaper than alone. "
        "`bulk`: per row of one arm's update of two tails, folds included.",
        "",
        table(["d", "K", "router", "form", "floor", "select", "select / floor", "pair", "batch",
               "bulk", "GiB held"], own_rows(rows)),
        "",
        "## Peers, select / update",
        "Vowpal Wabbit is approximate (SGD, no confidence ellipsoid) and parses text: "
        "listed for scale, not compared.",
        "",
        table(["d", "K", *names],
              ([f"{d}", f"{k}", *(cell(c["peers"][n]) for n in names)] for d, k, c in rows)),
        "",
        "## Ratios of select + update (peer over ours, primal form, same precision)",
        "The first two columns are select over the floor, ours in float64 and float32; the last is "
        "how much cheaper one of 64 decisions in one call is than one alone, in the dual and the "
        "primal form. \"-\": a peer that was cut off is not compared with.",
        "",
        table(["d", "K", "x floor, f64", "x floor, f32", "MABWiser LinUCB", "best exact f64 LinUCB",
               "contextualbandits f32", "MABWiser LinTS", "best other exact TS",
               "Thompson / LinUCB, batch of 64", "64 in one call"], ratio_rows(rows)),
        "",
    ]  # fmt: skip
    return "\n".join(head)
