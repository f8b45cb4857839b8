"""Report sections about what came of it: gold, the policy's training, and whether the payoff follows gold."""

import math
from html import escape

import numpy as np

from reward_router.headline import BEST_OF, gold_tables, kept_line
from reward_router.report import charts, page
from reward_router.report.dots import Change, changes, ranked, trend
from reward_router.report.frame import cut
from reward_router.report.gather import Evidence, Json, gold_orders, thin, trailing
from reward_router.report.judged import figure, note


def percent(value: float) -> str:
    """A share as a reader sees it."""
    return f"{100 * value:.1f} %"


def gold(e: Evidence) -> str:
    """Gold before and after per category, on the held-out and on the test prompts."""
    tables = gold_tables(e.summary)
    one = len(tables) == 1
    parts = [("" if one else f"<h3>{escape(title)}</h3>") + _gold(table, title) for title, table in tables]
    kept = e.summary.get("kept")
    parts += [note(escape(kept_line(kept).removeprefix("kept ").strip()))] if kept and tables else []
    return "".join(parts) or note("Not measured: no held-out prompts that come with a rule to check answers by.")


def _gold(table: Json, title: str) -> str:
    order = ["all", *(name for name in table if name != "all")]
    rows = [
        Change(f"{n} ({table[n]['n']})", table[n]["before"], table[n]["after"], table[n]["diff"], *table[n]["ci95"])
        for n in order
    ]
    many = len(rows) > 2
    answers = (
        "Greedy answers" if title.endswith("greedy") else "Answers as the policy is used, several samples a prompt,"
    )
    what = (
        f"{answers} to prompts never trained on, checked by each prompt's own rule; number of prompts in brackets. The bar on the right is a paired 95 % bootstrap "
        "interval over these prompts: green or orange where it leaves zero out, grey where it holds it."
    )
    luck = (
        " Each row has its own interval, so about one category in twenty would look like a change by luck alone."
        if many
        else ""
    )
    cells = [
        [
            n,
            str(table[n]["n"]),
            percent(table[n]["before"]),
            percent(table[n]["after"]),
            f"{100 * table[n]['diff']:+.1f}",
            _span(table[n]["ci95"]),
        ]
        for n in order
    ]
    classes = [_class(table[n]["ci95"]) for n in order]
    done = table["all"]
    ended = ""
    if done.get("finished_before") is not None:
        ended = f"{percent(done['finished_before'])} of the answers ended by themselves within the token limit before training, {percent(done['finished_after'])} after."
    header = ["category", "prompts", "before", "after", "change, points", "95 % interval"]
    return (
        note(what + luck)
        + figure(changes(rows))
        + page.table(header, cells, 1, classes)
        + (note(ended) if ended else "")
    )


def best_of(e: Evidence) -> str:
    """What the frozen router chose among the policy's own samples, before training and after; who it trusted for what."""
    found = e.summary.get(BEST_OF)
    if not found:
        return ""
    samples = next(iter(found.values()))["samples"]
    what = (
        f"Each held-out prompt has {samples} sampled answers. The router, frozen, named one arm a prompt, and that arm picked one of them: one call an answer, "
        "nobody learned from it. A random pick is right as often as the samples are on average; no pick can beat the best of them. The bar is the paired 95 % interval over prompts."
    )
    rows = [
        Change(f"{when} training", row["random"], row["gold"], row["diff"], *row["ci95"]) for when, row in found.items()
    ]
    drawn = changes(
        rows,
        ("a random pick", "the arm's pick"),
        "gold of the arm's pick against a random one, before and after training",
    )
    header = [
        "",
        "prompts",
        "random pick",
        "the arm's pick",
        "best possible",
        "difference, points",
        "95 % interval",
        "calls",
    ]
    cells = [
        [
            f"{when} training",
            str(row["prompts"]),
            percent(row["random"]),
            percent(row["gold"]),
            percent(row["oracle"]),
            f"{100 * row['diff']:+.1f}",
            _span(row["ci95"]),
            f"{row['calls']:,}",
        ]
        for when, row in found.items()
    ]
    classes = [_class(row["ci95"]) for row in found.values()]
    return note(what) + figure(drawn) + page.table(header, cells, 1, classes) + _chosen(found)


def _chosen(found: Json) -> str:
    """The arms' shares by category, before and after."""
    parts = []
    for when, row in found.items():
        groups = row["by_category"]
        arms = [arm for arm, share in groups["all"]["shares"].items() if share]
        shares = [[group["shares"][arm] for arm in arms] for group in groups.values()]
        parts.append(f"<h3>Who picked, {when} training</h3>")
        parts.append(figure(charts.heatmap(shares, list(groups), arms, 0.0, 1.0, percent=True)))
    return "".join(parts)


def _span(ci: list[float | None]) -> str:
    low, high = ci
    return "too few prompts" if low is None or high is None else f"{100 * low:+.1f} to {100 * high:+.1f}"


def _class(ci: list[float | None]) -> str:
    """The colour of a row: better, worse, or neither beyond its interval."""
    low, high = ci
    if low is None or high is None:
        return ""
    return "best" if low > 0 else "worse" if high < 0 else ""


def training(e: Evidence) -> str:
    """Training loss, gold of what was sampled, and length of responses over steps."""
    loss = str((e.config.get("train") or {}).get("loss", ""))
    start = {
        "dpo": " It starts near log 2 = 0.693 in every iteration, because the reference moves up to the policy."
    }.get(loss, "")
    parts = [
        (
            "Training loss",
            "loss",
            "loss, nats a pair",
            f"The loss ({loss}) of each step's pairs.{start} A falling loss says the policy agrees with its judges, not that they are right.",
            False,
        ),
        (
            "Gold of the sampled responses",
            "gold_sampled",
            "share of right answers",
            "Responses sampled for training, checked by their prompts' rules; never shown to the router unless it is the payoff. Each step has other prompts, hence the noise. Dots: steps; line: over many steps their trailing mean, in these three charts.",
            True,
        ),
        (
            "Length of the sampled responses",
            "words",
            "words a response",
            "A drift here often means that a judge rewards length instead of content.",
            False,
        ),
    ]
    drawn = [
        f"<h3>{title}</h3>{note(what)}{figure(chart, fit=True)}"
        for title, key, y, what, share in parts
        if (chart := _curve(e, key, y, share))
    ]
    return "".join(drawn) or note("No step was logged.")


def _curve(e: Evidence, key: str, y_label: str, share: bool) -> str:
    points = [(r["step"] + 1, float(r[key])) for r in e.records if r.get(key) is not None]
    if not points:
        return ""
    window = max(1, min(len(points) // 8, 50))
    mean = trailing([y for _, y in points], window)
    kept = thin([(x, y, m) for (x, y), m in zip(points, mean, strict=True)])
    x, y, m = (list(column) for column in zip(*kept, strict=True))
    return trend((x, y), m, "training step", y_label, percent=share)


def truth(e: Evidence) -> str:
    """The correlation of the payoff with gold, in words, and arm by arm."""
    found, name = e.summary.get("payoff_gold") or {}, e.summary["payoff"]
    order_B = gold_orders(e)
    both = np.isfinite(order_B) & np.isfinite(e.decisions.payoff)
    points = []
    for arm, its_B in e.decisions.deciders().items():
        mine = both & its_B
        if n := int(mine.sum()):
            paid, right = float(e.decisions.payoff[mine].mean()), float(order_B[mine].mean())
            points.append(charts.Point(paid, right, *_wilson(right, n), f"{cut(arm, 20)} ({n})", arm))
    parts = [f"<p>{escape(_correlation(found, name))}</p>"]
    if len(points) > 1:
        what = (
            "One point an arm: its mean payoff and how often it put a right answer above a wrong one (50 % is chance), with a 95 % bar and the number of decisions that have "
            "both. Points that rise from left to right: the payoff ranks the arms as truth would. Points that fall: it pays the wrong ones."
        )
        parts += [
            note(what),
            figure(ranked(points, e.decisions.arms, "mean payoff, 0 to 1", "right answer above wrong")),
        ]
    return "".join(parts)


def _wilson(mean: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval; for values within [0, 1] that are not all 0 or 1 it is wider than need be."""
    z2 = 1.96**2
    centre, half = mean + z2 / (2 * n), 1.96 * math.sqrt(max(mean * (1 - mean), 0.0) / n + z2 / (4 * n * n))
    return max(0.0, (centre - half) / (1 + z2 / n)), min(1.0, (centre + half) / (1 + z2 / n))


def _correlation(found: Json, name: str) -> str:
    r, n = found.get("r"), found.get("n", 0)
    if r is None:
        return f"No correlation can be given: {n} decisions have both a payoff and gold (right and wrong answers among their responses), or all are alike."
    low, high = found.get("ci95") or (None, None)
    if name == "probe":
        return (
            f"This run's payoff is gold itself on a sample of training prompts (probe), so their correlation is {r:+.2f} by construction over {n:,} decisions; with a payoff "
            "that is not truth, this figure says how far to trust it."
        )
    size = next(
        w
        for limit, w in ((0.1, "hardly at all"), (0.3, "weakly"), (0.5, "moderately"), (2.0, "strongly"))
        if abs(r) < limit
    )
    way = "with" if r >= 0 else "against"
    span = "" if low is None or high is None else f", 95 % interval {low:+.2f} to {high:+.2f}"
    known = low is not None and high is not None and (low > 0 or high < 0)
    text = f"Over {n:,} decisions the payoff ({name}) moves {way} gold {size}: correlation {r:+.2f}{span}. "
    if not known:
        return (
            text
            + "The interval holds zero: this run cannot tell the payoff from one that has nothing to do with the truth."
        )
    if abs(r) < 0.1:
        return text + "That is more than nothing and too little to steer by."
    return text + (
        "The router was paid for something that goes with the truth."
        if r > 0
        else "The router was paid for being wrong: learning from this payoff makes its choices worse."
    )
