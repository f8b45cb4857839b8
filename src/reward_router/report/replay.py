"""The replay's HTML report, drawn from the JSON result alone: verdict first, then the evidence.

Nothing is recomputed.
"""

import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from reward_router.replay.verdict import (
    at_most,
    in_training,
    next_commands,
    next_lead,
    standing,
)
from reward_router.report import charts, marks, page
from reward_router.report.frame import cut
from reward_router.report.page import figure

Json = dict[str, Any]
_GROUPS = {
    "arm": "one arm",
    "one call": "one call, chosen",
    "online": "online router",
    "committee": "committee",
    "K calls": "all arms asked",
    "bound": "bound",
}
_ORDER = list(_GROUPS)
_HEAT_ARMS = 24
_FEW = 20
"""Below so many labelled pairs a category is grey."""
_ARMS_SHOWN = 8
_CURVES = ("uniform", "round_robin")


def write(result: Json, out: Path) -> None:
    """Write the report of a whole replay as one file that opens offline."""
    out.write_text(render(result), encoding="utf-8")


def render(result: Json) -> str:
    """The report as HTML text; ``result`` is what ``reward_router.replay.run.replay`` returns."""
    files = result["files"]
    settings = result["settings"]
    plural = "s" if len(files) != 1 else ""
    lead = (
        f"{len(files)} file{plural}; "
        f"payoff, what the routers learn from: {settings['payoff']['kind']}; "
        f"{settings['seeds']} runs of each online router; "
        f"{settings['folds']}-fold cross-fitting by prompt; "
        "intervals are 95 % bootstraps over prompts"
    )
    body = [_contents(files)] if len(files) > 1 else []
    body += [_file(f, i) for i, f in enumerate(files)]
    body += [_ledger(values) for values in result["ledgers"]]
    body.append(_reading())
    title = "Does routing pay here? Replay of recorded reward-model scores"
    return page.page(title, lead, body)


def _contents(files: list[Json]) -> str:
    rows = []
    for f in files:
        v = f["verdict"]
        accuracy = _percent(f["routers"][v["best_single"]]["accuracy"])
        rows.append(
            [
                f["name"],
                v["best_single"],
                _DO[v["action"]],
                v["method"] if v["action"] != "arm" else "",
                f"{f['rows']:,}",
                str(len(f["arms"])),
                accuracy,
                _points(v["headroom"]),
                _gain(v),
            ]
        )
    header = [
        "file",
        "best single arm",
        "do",
        "with",
        "rows",
        "arms",
        "its accuracy",
        "at most",
        "gain now [95 %]",
    ]
    return "<h2>All files</h2>" + page.table(header, rows, 4, sortable=True)


_DO = {"arm": "one arm alone", "route": "route", "committee": "ask a committee"}


def _gain(v: Json) -> str:
    return "-" if v["action"] == "arm" else f"{_points(v['gain'])} {_range(v['ci95'], True)}"


def _file(f: Json, index: int) -> str:
    parts = [
        f'<h2 id="file{index}">{escape(f["name"])}</h2>',
        page.verdict(*_three_lines(f), _words(f)),
        _next(f),
        _notes(f),
        figure("Accuracy against calls", _FRONTIER, _frontier(f), "wide"),
        f"<h3>All methods</h3>{_table(f)}",
        _heat(f),
        _online(f),
        _official(f),
    ]
    return "".join(parts)


def _words(f: Json) -> dict[str, str]:
    """The first words of the verdict, by its tone."""
    pays = f["verdict"]["action"] != "arm"
    neither = "Pays on recorded scores only." if pays else "Routing is not shown to pay."
    return {"better": "\u25b2 Routing pays.", "neither": f"\u25a0 {neither}"}


def _three_lines(f: Json) -> tuple[str, list[str], str]:
    """Headline, sentences and tone.

    They say which arm is best alone, what could be gained at most, and what to do in training.
    """
    v = f["verdict"]
    best = f["routers"][v["best_single"]]
    alone = (
        f"Best single arm: {v['best_single']}, right on {page.percent(best['accuracy'])} of "
        f"{f['rows']:,} labelled pairs ({f['prompts']:,} prompts), "
        f"at {_amount(best['cost_per_row'])} a pair."
    )
    most = (
        "At most: an oracle that always picks an arm that is right would gain "
        f"{page.points(at_most(v, f))} points."
    )
    headline, tone = _do(f)
    cautions = [f"Caution: {caution}." for caution in v["cautions"]]
    sentences = [alone, *map(_minus, standing(v, f)), most, *cautions]
    return headline, sentences, tone


def _minus(text: str) -> str:
    """The same sentence with real minus signs before its figures."""
    return re.sub(r"(?<=[\[ ])-(?=\d)", page.MINUS, text)


def _do(f: Json) -> tuple[str, str]:
    v = f["verdict"]
    method = v["method"]
    if v["action"] == "arm":
        alone = f"Judge with {v['best_single']} alone"
        return f"{alone}: no router and no committee here beats it reliably.", "neither"
    entry = f["routers"][method]
    gain = f"{page.points(v['gain'])} points (95 % {page.interval(v['ci95'])})"
    if not in_training(f, method):
        return (
            f"On recorded scores {method} gains {gain} over {v['best_single']} alone, "
            "but no training run can judge so.",
            "neither",
        )
    verb = "Route with" if v["action"] == "route" else "Ask the"
    price = _price_of_a_point(f, entry)
    return f"{verb} {method}, which gains {gain} over the best arm alone{price}.", "better"


def _price_of_a_point(f: Json, entry: Json) -> str:
    more = entry["cost_per_row"] - f["routers"][f["best_single"]]["cost_per_row"]
    gain = 100 * entry["vs_best_single"]["diff"]
    if more <= 1e-9:
        return " and costs no more" if more > -1e-9 else f" and saves {_amount(-more)} a pair"
    return f"; each point costs {_amount(more / gain)} a pair"


def _amount(price: float) -> str:
    """A price in the arms' units: calls where every arm costs one."""
    return f"{price:.3g} call{'' if price == 1 else 's'}"


def _next(f: Json) -> str:
    """The commands that do it."""
    return page.note(next_lead(f)) + f"<pre>{escape(chr(10).join(next_commands(f)))}</pre>"


def _notes(f: Json) -> str:
    blocks = "+".join(f["features"]["blocks"])
    encoder = f" ({f['features']['encoder']})" if f["features"]["encoder"] else ""
    text = [
        f"The routers see: {blocks}{encoder}. "
        f"Some arm is right on {f['some_right_rows']:,} of {f['rows']:,} pairs."
    ]
    if f["broken_rows"]:
        problems = "; ".join(f["problems"][:5])
        text.append(f"{f['broken_rows']} broken rows were left out: {problems}.")
    if f["missing"]:
        arm, share = max(f["missing"].items(), key=lambda item: item[1])
        text.append(
            f"Arms missing on some rows, where they count as half right: {len(f['missing'])} "
            f"(most: {arm}, {_percent(share)})."
        )
    in_full = page.folded("The verdict in full", f"<p>{escape(f['verdict']['text'])}</p>")
    return page.note(" ".join(text)) + in_full


def _ordered(f: Json) -> list[tuple[str, Json]]:
    def place(item: tuple[str, Json]) -> tuple[int, float]:
        return _ORDER.index(item[1]["kind"]), -item[1]["accuracy"]

    return sorted(f["routers"].items(), key=place)


_FRONTIER = (
    "Up is better, left is cheaper. Every mark is one arm or method with its 95 % interval; "
    "its shape and colour say what kind it is. "
    "The three best arms and all methods carry their names."
)


def _frontier(f: Json) -> str:
    """Every method and arm but the bound; the methods and the three best arms carry their names."""
    entries = [(label, e) for label, e in _ordered(f) if e["kind"] != "bound"]
    best = [label for label, e in entries if e["kind"] == "arm"][:3]
    points = []
    for label, e in entries:
        named = e["kind"] != "arm" or label in best
        low, high = e["ci95"]
        group = _GROUPS[e["kind"]]
        mark = charts.Point(e["calls_per_row"], e["accuracy"], low, high, label, group, named)
        points.append(mark)
    curve = f.get("price_curve")
    committee = _GROUPS["committee"]
    curves: dict[str, charts.Series] = {}
    if curve and any(p.group == committee for p in points):
        curves[committee] = (curve["calls"], curve["accuracy"])
    most = max(p.x for p in points)
    if curves:
        most = max(most, *curves[committee][0])
    label = "calls a pair (one call: one arm judges one pair)"
    drawn = charts.scatter(points, label, "accuracy", log_x=most > 4, curves=curves)
    if not curves:
        return drawn
    return drawn + page.note(
        "The line is the committee at every price, its gate off: "
        "from one call (a second opinion never pays) to free calls."
    )


def _table(f: Json) -> str:
    """The best arms and every method, sortable; weaker arms in a second, folded table."""
    entries = _ordered(f)
    weak = [label for label, e in entries if e["kind"] == "arm"][_ARMS_SHOWN:]
    drawn = [_lines(f, [(label, e) for label, e in entries if label not in weak])]
    if weak:
        rest = _lines(f, [(label, f["routers"][label]) for label in weak])
        drawn.append(page.folded(f"{len(weak)} weaker arms", rest))
    text = (
        "Against the best single arm: green with \u25b2 better, orange with \u25bc worse beyond "
        "its own interval, grey: may be noise. Price: the arms' cost a pair; per point: what "
        "one percentage point above the best arm costs. Some right: on the pairs where some arm is "
        "right, which flatters everybody. Regret: pairs lost against the best arm. "
        "A click on a head sorts."
    )
    return page.note(text) + "".join(drawn) + _methods(f)


_DOES = {
    "best_train": "the best arm of the training folds, everywhere",
    "category_best": "the best arm of each category, learned on the training folds",
    "by": "a table from the values of a column to arms, learned on the training folds",
    "logistic": "predicts from the context whether each arm is right; the likeliest judges",
    "ridge": "as logistic, by a linear regression",
    "uniform": "draws every arm alike often and learns nothing",
    "round_robin": "takes the arms in turn and learns nothing",
    "adaptive": "learns overall strengths first, and contexts as far as payoffs speak for them",
    "linucb": "takes the arm of the highest upper confidence bound",
    "discounted": "linucb that forgets old payoffs",
    "laser": "linucb with one decision a batch of prompts",
    "exp3": "draws arms by exponential weights of their payoffs",
    "thompson": "draws each arm with the probability that it is the best",
    "epsilon_greedy": "takes the arm of the best mean payoff, at times any arm",
    "bayesian": "strengths learned on the other folds are the prior of Thompson sampling",
    "weighted_score": "mixes strengths learned before with those learned on the way",
    "committee": "asks one arm, then another only where that is worth its price",
    "majority": "one vote for each arm",
    "weighted_vote": "votes, weighted by the arms' accuracies on the other folds",
    "stacking": "a logistic regression on all arms' scores",
    "mean": "the mean of all arms' scores",
    "median": "the median of all arms' scores",
    "wco": "the lowest of all arms' scores (worst case)",
    "uwo": "the mean of all arms' scores less their variance",
    "oracle": "no method but a bound: an arm that is right wherever some arm is",
}
"""What each method does, in a few words."""


def _methods(f: Json) -> str:
    """What the methods of the table do, folded away."""
    bases = dict.fromkeys(str(label).split(":")[0].split("(")[0] for label, _ in _ordered(f))
    rows = [(base, _DOES[base]) for base in bases if base in _DOES and base not in f["arms"]]
    if not rows:
        return ""
    raw = (
        "Scores of different arms are made comparable first; scores=raw leaves that out, to show "
        "what it costs."
    )
    return page.folded("What each method does", page.facts_list(rows) + page.note(raw))


def _lines(f: Json, entries: list[tuple[str, Json]]) -> str:
    differences = []
    for _, entry in entries:
        versus = entry["vs_best_single"]
        differences += [abs(v) for v in (versus["diff"], *versus["ci95"])]
    reach = 1.05 * max([*differences, 0.02])
    scale = marks.Scale(-reach, reach, factor=100.0, zero=0.0)
    head = marks.head(scale, "vs best single arm, pp")
    # Figures first: a narrow screen shows them before the drawing.
    header = [
        "method",
        "accuracy",
        "pp",
        "95 %",
        head,
        "kind",
        "calls",
        "price",
        "per point",
        "some right",
        "regret",
    ]
    rows = []
    classes = []
    for label, entry in entries:
        tone = _tone(entry)
        rows.append(_cells(f, label, entry, scale, tone))
        classes.append("" if label == f["best_single"] else tone)
    return page.table(header, rows, 1, classes, sortable=True)


def _tone(entry: Json) -> str:
    """Whether a method is better or worse than the best arm beyond its own interval."""
    low, high = entry["vs_best_single"]["ci95"]
    if entry["kind"] == "bound":
        return ""
    return "best" if low > 0 else "worse" if high < 0 else "dim"


def _cells(f: Json, label: str, e: Json, scale: marks.Scale, tone: str) -> list[str]:
    versus = e["vs_best_single"]
    difference = page.points(versus["diff"])
    interval = page.interval(versus["ci95"])
    ink = {"best": "var(--better)", "worse": "var(--worse)"}.get(tone, "var(--faint)")
    words = f"{label}: {difference} points, 95 % {interval}"
    more = e["cost_per_row"] - f["routers"][f["best_single"]]["cost_per_row"]
    point = "-"
    if versus["diff"] > 0 and more > 1e-9 and e["kind"] != "bound":
        point = f"{more / (100 * versus['diff']):.2g}"
    some = e["accuracy_some_right"]
    return [
        cut(label, 30),
        _percent(e["accuracy"]),
        difference,
        interval,
        marks.value(scale, versus["diff"], versus["ci95"], ink=ink, what=words),
        _GROUPS[e["kind"]],
        f"{e['calls_per_row']:.2f}",
        f"{e['cost_per_row']:.3g}",
        point,
        "-" if some is None else f"{100 * some:.1f}",
        f"{e['regret']:.0f}".replace("-", page.MINUS),
    ]


def _heat(f: Json) -> str:
    arms = sorted(f["arms"], key=lambda a: -f["routers"][a]["accuracy"])[:_HEAT_ARMS]
    parts = []
    if len(f["by"]) > 1:
        parts.append(_by_category(f, arms))
    index = [f["arms"].index(a) for a in arms]
    caption = (
        "1: two copies of one judge; 0: no more alike than chance. Routing needs arms that differ."
    )
    for key, name in (("kappa", "Cohen's kappa"), ("f1", 'F1 of "a is better"')):
        matrix = []
        for i in index:
            row = f["agreement"][key][i]
            matrix.append([row[j] for j in index])
        drawn = charts.heatmap(matrix, arms, arms, charts.Shade(0.0, 1.0))
        shown = figure("", caption, drawn, "wide")
        parts.append(page.folded(f"Agreement of the arms: {name}", shown))
    if len(f["arms"]) > _HEAT_ARMS:
        text = f"The {_HEAT_ARMS} most accurate of {len(f['arms'])} arms are drawn."
        parts.append(f'<p class="note">{text}</p>')
    return "".join(parts)


def _accuracies(categories: list[Json], arm: str) -> list[float]:
    return [part["accuracy"][arm] for part in categories]


def _by_category(f: Json, arms: list[str]) -> str:
    """Accuracy of the arms by category."""
    categories = list(f["by"].values())
    columns = [f"{name} ({part['rows']})" for name, part in f["by"].items()]
    values = [_accuracies(categories, arm) for arm in arms]
    caption = (
        "Rows: arms, the best first; columns: categories with their number of labelled pairs. "
        "Darker is better; grey: too few to tell."
    )
    few = [j for j, part in enumerate(categories) if part["rows"] < _FEW]
    shade = charts.Shade(0.3, 1.0, percent=True, few=few)
    drawn = charts.heatmap(values, arms, columns, shade)
    return figure("Accuracy of the arms by category, in %", caption, drawn, "wide")


def _online(f: Json) -> str:
    rows = f["curve_rows"]
    routers = {label: e for label, e in f["routers"].items() if "share_over_time" in e}
    if not routers:
        return ""
    regret = {label: (rows, e["regret_over_time"]) for label, e in routers.items()}
    learning = [label for label in routers if label not in _CURVES]
    learning.sort(key=lambda label: -routers[label]["accuracy"])
    what = (
        "Pairs lost so far against the best arm in hindsight; "
        "a line that flattens has learned, one that falls has beaten that arm."
    )
    lines = charts.line(regret, "pairs seen", "regret, in pairs")
    drawn = [figure("Regret of the online routers", what, lines, "half")]
    folded = []
    for place, label in enumerate(learning):
        title = f"Shares of the arms: {label}"
        bands = charts.shares(rows, _shares(routers[label], f["arms"]), "pairs seen")
        if place == 0:
            caption = "Whom the most accurate online router chose as it went on, mean over runs."
            drawn.append(figure(title, caption, bands, "half"))
        else:
            folded.append(page.folded(title, figure("", "", bands, "half")))
    return page.grid(drawn) + "".join(folded)


def _shares(entry: Json, arms: list[str]) -> Mapping[str, list[float]]:
    """The seven most chosen arms by name, the rest together."""
    over_time = entry["share_over_time"]
    of_arm = list(zip(*over_time, strict=True))
    most_chosen_first = sorted(range(len(arms)), key=lambda k: -sum(of_arm[k]))
    top = most_chosen_first[:7]
    shares = {arms[k]: list(of_arm[k]) for k in top}

    n_others = len(arms) - len(top)
    if n_others:
        # What is left to 1; rounding must not make it negative.
        named = [sum(row) for row in zip(*shares.values(), strict=True)]
        shares[f"{n_others} others"] = [max(0.0, 1.0 - share) for share in named]
    return shares


def _official(f: Json) -> str:
    if not f["official"]:
        return ""
    subsets = sorted(set().union(*f["official"].values()))
    rows = []
    for arm, scores in f["official"].items():
        cells = [_percent(scores[s]) if s in scores else "-" for s in subsets]
        rows.append([arm, *cells])
    return "<h3>The benchmark's own metric</h3>" + page.table(["arm", *subsets], rows)


def _ledger(values: Json) -> str:
    head = f"<h2>{escape(values['name'])}: what other routers would have earned</h2>"
    if "refused" in values:
        return head + f"<p>{escape(values['refused'])}</p>"
    header = [
        "target, frozen",
        "doubly robust [95 %]",
        "self-normalised [95 %]",
        "always valid",
        "ESS",
        "rows",
        "left out",
    ]
    rows = []
    for target, v in values["targets"].items():
        estimates = [f"{v[m]['value']:.3f} {_bounds(v[m]['ci95'])}" for m in ("dr", "snips")]
        counts = [f"{v['ess']:.0f}", str(v["rows"]), str(v["left_out"])]
        rows.append([target, *estimates, _bounds(v["cs"]["ci95"]), *counts])
    note = (
        "Mean payoff over the logged contexts, from the recorded propensities. "
        "Below an effective sample size (ESS) of 100 take it as a hint only."
    )
    return head + page.table(header, rows) + f'<p class="note">{note}</p>'


def _bounds(ends: tuple[float, float]) -> str:
    return f"[{ends[0]:.3f}, {ends[1]:.3f}]"


def _reading() -> str:
    return (
        "<h2>How to read this</h2><p>Accuracy: right 1, tie 1/2, wrong 0, on all rows; "
        "some right leaves out the rows on which every arm errs. "
        "Cross-fitted methods are judged on prompts they did not learn from. "
        "Online routers see only the payoff of the arm they chose, in a random order of prompts; "
        "their accuracy is a mean over runs, and their interval includes the spread between runs. "
        "The best single arm is chosen in hindsight, again in every bootstrap replicate, "
        "so its luck is part of each difference. "
        "The verdict's confidence is corrected for all methods that replay knows (Bonferroni), "
        "whichever were listed; those listed with --router count as named beforehand. "
        "The bound is not a method: it knows the label.</p>"
    )


def _percent(x: float) -> str:
    return f"{100 * x:.1f} %"


def _points(x: float) -> str:
    return f"{100 * x:+.1f} pp"


def _range(ends: tuple[float, float], signed: bool = False) -> str:
    low, high = (100 * end for end in ends)
    return f"[{low:+.1f}, {high:+.1f}]" if signed else f"[{low:.1f}, {high:.1f}]"
