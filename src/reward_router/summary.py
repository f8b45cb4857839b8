"""What a finished run says of itself: summary.json, and the table on the terminal."""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from reward_router.assemble import RunParts
from reward_router.changes import first_change
from reward_router.facts import facts, share_keys, what_next
from reward_router.headline import finished_line, gold_tables, kept_line
from reward_router.kinds import is_gold
from reward_router.ledger.columns import Calls, Decisions
from reward_router.ledger.rows import Failed
from reward_router.progress import LiteralTable, duration, say, show_box, show_table

TRUNCATED = {
    "lose": "each loses to every finished one",
    "drop": "they make no pairs",
    "keep": "they are judged as any other (pairs.truncated: keep)",
}


def model_hash(model: Any) -> str:
    """One hash of the base weights, adapters left out.

    It covers the shape and every 1,009th value of each tensor.
    """
    total = hashlib.blake2b(digest_size=16)
    for name, parameter in sorted(model.state_dict().items()):
        # An adapter is what training changes: with it no two runs would have one base.
        if ".lora_" in name:
            continue
        total.update(f"{name}{tuple(parameter.shape)}".encode())
        sample = parameter.detach().flatten()[::1009]
        total.update(sample.float().cpu().numpy().tobytes())
    return total.hexdigest()


def arms_table(parts: RunParts) -> dict[str, Any]:
    """What each arm did, overall and by category.

    A row has the arm's share of decisions and of units judged, its mean payoff, its calls, its
    failures, and how often it rested.

    ``asked``: units it was asked about in any role. ``judged``: units whose verdict is (or holds)
    its own, a fallback's too. ``failed``: its failures. ``rested``: decisions that were made while
    it rested.
    """
    ledger = parts.dispatcher.ledger
    decisions = ledger.decisions(contexts=False)
    calls = ledger.calls()
    failures = Counter(arm for _, arm in ledger.fields(Failed, ("arm",)))
    rested = parts.dispatcher.rested
    judges = who_judged(decisions, calls)

    unit_category = np.array(_categories(parts, decisions.unit))
    categories = sorted(set(unit_category.tolist()) - {""})
    unshared = np.array([status != "shared" for status in calls.status], dtype=bool)
    judged = ~np.isin(calls.status, ("audit", "label"))

    def by_category(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> dict[str, float]:
        return {name: _share(mask[unit_category == name]) for name in categories}

    table: dict[str, Any] = {}
    for k, name in enumerate(parts.pool.names):
        its_calls = calls.arm == k
        own_calls = its_calls & unshared
        drawn = decisions.arm == k
        decided = drawn
        if parts.committee is not None:  # several arms a decision: shares are of being asked
            decided = np.isin(decisions.seq, calls.decision[its_calls & judged])
        payoffs = decisions.payoff[drawn]
        is_paid = np.isfinite(payoffs)
        ordered = np.isin(decisions.seq, sorted(judges.get(k, ())))
        table[name] = {
            "decisions": int(decided.sum()),
            "share": _share(decided),
            "share_by_category": by_category(decided),
            "mean_payoff": float(np.nanmean(payoffs)) if is_paid.any() else None,
            "payoffs": int(is_paid.sum()),
            "calls": int(own_calls.sum()),
            "asked": len(set(calls.decision[own_calls].tolist())),
            "judged": int(ordered.sum()),
            "judged_share": _share(ordered),
            "judged_share_by_category": by_category(ordered),
            "failed": failures[k],
            "rested": rested.get(name, 0),
        }
    return table


def _share(which: np.ndarray[Any, np.dtype[np.bool_]]) -> float:
    """The share of True; 0 where there is nothing."""
    return float(which.mean()) if len(which) else 0.0


def _categories(parts: RunParts, units: Sequence[str]) -> list[str]:
    """The category of each unit; '' where it has none, or covers a whole batch."""
    category_of_prompt = {example.id: example.category for example in parts.examples}
    kind = parts.config.router.unit
    return [category_of_prompt.get(prompt_of(unit, kind), "") for unit in units]


def units_by_category(parts: RunParts) -> dict[str, int]:
    """How many decisions each category has.

    Empty where a decision covers a batch, or prompts carry no category.
    """
    units = parts.dispatcher.ledger.decisions(contexts=False).unit
    decisions_by_category = Counter(_categories(parts, units))
    del decisions_by_category[""]
    return dict(sorted(decisions_by_category.items()))


def total_price(parts: RunParts) -> float:
    """Price of all calls, audits left out.

    A call costs the arm's ``cost``, which is one where the configuration gives none.
    """
    calls = parts.dispatcher.ledger.calls()
    judged = ~np.isin(calls.status, ("audit", "shared"))
    return float(np.nansum(calls.price[judged]))


def who_judged(decisions: Decisions, calls: Calls) -> dict[int, set[int]]:
    """Arm -> the decisions (by seq) whose responses it put in order.

    That is the arm that was drawn, or the one that stood in for it.

    An arm orders the responses to a prompt where at least two of its scores are numbers. Where all
    arms judge together, or a committee does, every arm asked that did so has judged. O(calls).
    """
    # A cell is one prompt of one decision.
    statuses: dict[tuple[int, str], dict[int, set[str]]] = {}
    n_scores: Counter[tuple[int, str, int]] = Counter()
    is_number = np.isfinite(calls.score).tolist()
    rows = zip(
        calls.decision.tolist(),
        calls.response,
        calls.arm.tolist(),
        calls.status,
        is_number,
        strict=True,
    )
    for decision, response, arm, status, has_score in rows:
        if has_score and status in ("ok", "fallback", "shared"):
            prompt_id = response.rpartition("/")[0]
            cell = (decision, prompt_id)
            statuses.setdefault(cell, {}).setdefault(arm, set()).add(status)
            n_scores[*cell, arm] += 1

    drawn_arm = dict(zip(decisions.seq.tolist(), decisions.arm.tolist(), strict=True))
    scoring_arms = set(calls.arm.tolist())
    judged: dict[int, set[int]] = {}
    for cell, by_arm in statuses.items():
        decision = cell[0]
        able = {arm: by_arm[arm] for arm in by_arm if n_scores[*cell, arm] >= 2}
        drawn = drawn_arm.get(decision)
        for arm in _judges(able, drawn, routed=drawn in scoring_arms):
            judged.setdefault(arm, set()).add(decision)
    return judged


def _judges(able: Mapping[int, set[str]], drawn: int | None, *, routed: bool) -> list[int]:
    """Which of the arms that could order the responses did so.

    Args:
        able: arm -> the statuses of its calls.
        drawn: the arm of the decision.
        routed: whether that is an arm that scores; else nobody was drawn, and all judge together.
    """
    asked_beside_it = any("ok" in able[arm] for arm in able if arm != drawn)
    if not routed or asked_beside_it:
        return list(able)
    if drawn is not None and drawn in able:
        return [drawn]
    stand_ins = [arm for arm in able if "fallback" in able[arm]]
    # Where every call of the stand-in was shared, none of them says "fallback".
    only_shared = [arm for arm in able if "ok" not in able[arm]]
    return (stand_ins or only_shared)[:1]


def prompt_of(unit: str, kind: str) -> str:
    """The id of the prompt that a unit belongs to.

    A pair's id ends in the marks of its two responses; prompt ids may hold ``|``.

    >>> prompt_of("a|b|0f3c|77aa", "pair"), prompt_of("a|b", "prompt")
    ('a|b', 'a|b')
    """
    return unit.rsplit("|", 2)[0] if kind == "pair" else unit


def payoff_gold_correlation(parts: RunParts) -> dict[str, Any]:
    """Correlation of the payoff used with gold, over decisions that have both.

    Gold says here whether the arm ordered right above wrong.
    """
    ledger = parts.dispatcher.ledger
    decisions = ledger.decisions(contexts=False)
    labels = ledger.labels()
    gold_of_unit = {}
    for unit, step, value in zip(labels.unit, labels.step, labels.value, strict=True):
        gold_of_unit[unit, int(step)] = value

    payoffs = []
    golds = []
    for unit, step, payoff in zip(decisions.unit, decisions.step, decisions.payoff, strict=True):
        key = (unit, int(step))
        if key in gold_of_unit and np.isfinite(payoff):
            payoffs.append(payoff)
            golds.append(gold_of_unit[key])

    n = len(payoffs)
    # Where one of the two does not vary there is no correlation.
    if n < 3 or np.ptp(payoffs) == 0 or np.ptp(golds) == 0:
        return {"n": n, "r": None, "ci95": None}
    both_2N = np.column_stack((payoffs, golds)).T
    r = float(np.corrcoef(both_2N)[0, 1])

    # Fisher's z: arctanh(r) is about normal, with variance 1 / (n - 3).
    z = np.arctanh(np.clip(r, -0.999999, 0.999999))
    half = 1.96 / np.sqrt(max(n - 3, 1))
    low, high = np.tanh(z + np.array([-half, half]))
    return {"n": n, "r": r, "ci95": [float(low), float(high)]}


def show_summary(summary: dict[str, Any], console: Console) -> None:
    """The tables a run ends with, and the box under them."""
    show_table(console, _arms(summary))
    for title, table in gold_tables(summary):
        show_table(console, gold_table(table, title))
        say(console, finished_line(table))
    if summary.get("kept") is not None:
        say(console, kept_line(summary["kept"]), lines=True)
    seconds = summary["seconds"]
    total = sum(seconds.values())
    shares = " · ".join(
        f"{k} {v:.0f} s ({v / total:.1%})"
        for k, v in sorted(seconds.items(), key=lambda x: -x[1])
        if v >= 0.05
    )
    say(console, f"time     {duration(total)}: {shares}")
    if summary["committee"]:
        say(console, committee_line(summary["committee"]), lines=True)
    left_out = [
        f"{v} {k.replace('_', ' ')}"
        for k, v in summary["counts"].items()
        if v and k not in ("pairs", "responses", "truncated", "payoff_calls")
    ]
    say(console, f"left out {', '.join(left_out) or 'nothing'}")
    if cut := summary["counts"]["truncated"]:
        say(
            console,
            f"cut      {cut} sampled responses by the token limit; "
            f"{TRUNCATED[summary['truncated']]}",
        )
    for accepted in summary.get("accepted_changes", []):
        change = first_change(accepted["changes"])
        say(console, f"changed  resumed after step {accepted['step']} though {change}", "yellow")
    if summary.get("trust") is not None:
        say(console, f"prior    believed at the end: {summary['trust']:.0%}")
    r = summary["payoff_gold"]
    if r["r"] is not None and not is_gold(summary["payoff"]):
        low, high = r["ci95"]
        say(
            console,
            f"payoff   correlation with gold {r['r']:+.2f} [{low:+.2f}, "
            f"{high:+.2f}] over {r['n']} decisions",
        )
    show_facts(summary, console)


def show_facts(summary: dict[str, Any], console: Console) -> None:
    """The box that a run ends with: what came of it, and what to do next."""
    show_box(console, "what came of it", [*facts(summary), ("next", what_next(summary))])


def committee_line(c: dict[str, Any]) -> str:
    """How the committee judged, in two lines."""
    share = c["asked_share"]
    counts = c["counts"]
    gate = c["gate"]
    first = (
        f"{c['calls_per_response']:.2f} calls a response; one arm {share['1']:.0%}, two "
        f"{share['2']:.0%}, three or more {share['3']:.0%}"
    )
    state = (
        "votes, not fitted yet" if c["voting"] else f"plays, in the order {', '.join(c['order'])}"
    )
    if not c["voting"] and not c["playing"]:
        state = f"gated: {c['order'][-1]} judges alone"
    if gate:
        state += (
            f" (gain out of fold {100 * gate['gain']:+.1f} pp, lower bound "
            f"{100 * gate['lower']:+.1f})"
        )
    low = f"; {counts['below']} pairs below min_confidence" if counts["below"] else ""
    return (
        f"committee {first}\n          {counts['rows']} labels from {counts['labelled']} units, "
        f"{len(c['refits'])} refits; {state}; "
        f"price {c['price']:.3g}{low}"
    )


def _arms(summary: dict[str, Any]) -> LiteralTable:
    rows = summary["arms"].values()
    names: set[str] = set()
    for row in rows:
        names |= row["share_by_category"].keys()
    categories = sorted(names)
    failing = any(row.get("failed") or row.get("rested") for row in rows)
    share, by_category = share_keys(summary)
    what = "share of units in which it was asked" if summary["committee"] else "share of units"
    title = (
        f"who judged ({summary['router']}, unit {summary['unit']}): {what}, in all and by category"
    )
    table = LiteralTable(title, box=None, padding=(0, 1, 0, 0))  # fits 80 columns with 8 categories
    counts = ("asked", "judged", "failed", "rested") if failing else ()
    for column in ("arm", "all", *categories, "payoff", "calls", *counts):
        table.column(column, justify="left" if column == "arm" else "right")
    for name, row in summary["arms"].items():
        payoff = "-" if row["mean_payoff"] is None else f"{row['mean_payoff']:.2f}"
        by = [f"{row[by_category].get(c, 0.0):.0%}" for c in categories]
        table.row(
            name,
            f"{row[share]:.0%}",
            *by,
            payoff,
            str(row["calls"]),
            *(str(row[c]) for c in counts),
        )
    return table


def gold_table(gold: dict[str, Any], title: str) -> LiteralTable:
    """Gold before and after by category, with the interval of the change."""
    table = LiteralTable(title, box=None, padding=(0, 2, 0, 0))
    for column in ("category", "n", "before", "after", "change", "95 % interval"):
        table.column(column, justify="left" if column == "category" else "right")
    for name, row in gold.items():
        low, high = row["ci95"]
        # Of one prompt there is no interval.
        known = low is not None and math.isfinite(low) and math.isfinite(high)
        table.row(
            name,
            str(row["n"]),
            f"{row['before']:.2f}",
            f"{row['after']:.2f}",
            f"{row['diff']:+.2f}",
            f"[{low:+.2f}, {high:+.2f}]" if known else "-",
        )
    return table
