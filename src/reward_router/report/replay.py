"""The replay's HTML report, drawn from the JSON result alone: verdict first, then the evidence. Nothing is recomputed."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from reward_router.report import charts, page
from reward_router.report.judged import figure

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
_ARMS_SHOWN = 8
_CURVES = ("uniform", "round_robin")


def write(result: Json, out: Path) -> None:
    """Write the report of a whole replay as one file that opens offline."""
    out.write_text(render(result), encoding="utf-8")


def render(result: Json) -> str:
    """The report as HTML text; ``result`` is what ``reward_router.replay.run.replay`` returns."""
    files, settings = result["files"], result["settings"]
    lead = (
        f"{len(files)} file{'s' if len(files) != 1 else ''}, payoff {settings['payoff']['kind']}, {settings['seeds']} runs of each online router, "
        f"{settings['folds']}-fold cross-fitting by prompt; intervals are 95 % bootstraps over prompts"
    )
    body = [_contents(files)] if len(files) > 1 else []
    body += [_file(f, i) for i, f in enumerate(files)]
    body += [_ledger(found) for found in result["ledgers"]]
    return page.page("Does routing pay here? Replay of recorded reward-model scores", lead, [*body, _reading()])


def _contents(files: list[Json]) -> str:
    rows = []
    for f in files:
        v = f["verdict"]
        accuracy = _percent(f["routers"][v["best_single"]]["accuracy"])
        what = [f["name"], v["best_single"], _DO[v["action"]], v["method"] if v["action"] != "arm" else ""]
        rows.append([*what, f"{f['rows']:,}", str(len(f["arms"])), accuracy, _points(v["headroom"]), _gain(v)])
    header = ["file", "best single arm", "do", "with", "rows", "arms", "its accuracy", "at most", "gain now [95 %]"]
    return "<h2>All files</h2>" + page.table(header, rows, 4)


_DO = {"arm": "one arm alone", "route": "route", "committee": "ask a committee"}


def _gain(v: Json) -> str:
    return "-" if v["action"] == "arm" else f"{_points(v['gain'])} {_range(v['ci95'], True)}"


def _file(f: Json, index: int) -> str:
    v = f["verdict"]
    head, *rest = v["text"].split(". ")
    parts = [
        f'<h2 id="file{index}">{escape(f["name"])}</h2>',
        page.verdict(head + ".", [". ".join(rest)]),
        _tiles(f),
        _notes(f),
    ]
    parts += ["<h3>Accuracy against calls</h3>", _frontier(f), "<h3>All methods</h3>", _table(f), _heat(f)]
    parts += [_online(f), _official(f)]
    return "".join(parts)


def _tiles(f: Json) -> str:
    v = f["verdict"]
    best = f["routers"][v["best_single"]]
    tiles = [(_percent(best["accuracy"]), f"best single arm: {v['best_single']}")]
    tiles.append((_points(v["headroom"]), "at most, by always picking a right arm"))
    for key, what in (("best_router", "best one-call router"), ("best_committee", "best committee")):
        if v[key] is not None:
            tiles.append((_points(f["routers"][v[key]]["vs_best_single"]["diff"]), f"{what}: {v[key]}"))
    tiles.append((f"{f['prompts']:,}", f"prompts, {f['rows']:,} labelled pairs"))
    return page.tiles(tiles)


def _notes(f: Json) -> str:
    blocks = "+".join(f["features"]["blocks"])
    encoder = f" ({f['features']['encoder']})" if f["features"]["encoder"] else ""
    text = [f"Features: {blocks}{encoder}. Some arm is right on {f['some_right_rows']:,} of {f['rows']:,} rows."]
    if f["broken_rows"]:
        text.append(f"{f['broken_rows']} broken rows were left out: " + "; ".join(f["problems"][:5]) + ".")
    if f["missing"]:
        worst = max(f["missing"].items(), key=lambda item: item[1])
        text.append(
            f"Arms missing on some rows, where they count 1/2: {len(f['missing'])} (most: {worst[0]}, {_percent(worst[1])})."
        )
    return f'<p class="note">{escape(" ".join(text))}</p>'


def _ordered(f: Json) -> list[tuple[str, Json]]:
    return sorted(f["routers"].items(), key=lambda item: (_ORDER.index(item[1]["kind"]), -item[1]["accuracy"]))


def _frontier(f: Json) -> str:
    """Every method and arm but the bound; the methods and the three best arms carry their names."""
    entries = [(label, e) for label, e in _ordered(f) if e["kind"] != "bound"]
    best = [label for label, e in entries if e["kind"] == "arm"][:3]
    points = []
    for label, e in entries:
        low, high = e["ci95"]
        named = e["kind"] != "arm" or label in best
        points.append(charts.Point(e["calls_per_row"], e["accuracy"], low, high, label, _GROUPS[e["kind"]], named))
    curve, group = f.get("price_curve"), _GROUPS["committee"]
    curves = {group: (curve["calls"], curve["accuracy"])} if curve and any(p.group == group for p in points) else {}
    most = max([p.x for p in points] + [x for xs, _ in curves.values() for x in xs])
    label = "calls a row (one call: one arm judges one pair)"
    note = (
        '<p class="note">The line is the committee at every price, its gate off: from one call (a second opinion never pays) to free calls.</p>'
        if curves
        else ""
    )
    return figure(charts.scatter(points, label, "accuracy", log_x=most > 4, curves=curves)) + note


_HEADER = [
    *("method", "kind", "accuracy, % [95 %]", "some right", "calls", "cost"),
    *("vs best single, pp [95 %]", "", "vs uniform", "regret"),
]


def _table(f: Json) -> str:
    """The best arms and every method; weaker arms in a second table that opens on demand."""
    entries = _ordered(f)
    weak = [label for label, e in entries if e["kind"] == "arm"][_ARMS_SHOWN:]
    drawn = [_lines([(label, e) for label, e in entries if label not in weak], f["best_single"])]
    if weak:
        rest = _lines([(label, f["routers"][label]) for label in weak], f["best_single"])
        drawn.append(f"<details><summary>{len(weak)} weaker arms</summary>{rest}</details>")
    note = (
        '<p class="note">Green: better than the best single arm beyond its own interval. «inside»: the interval of the difference holds '
        "zero, so it may be noise. Some right: on the rows where some arm is right, which flatters everybody. Regret in rows, against the best single arm.</p>"
    )
    return "".join(drawn) + note


def _lines(entries: list[tuple[str, Json]], best_single: str) -> str:
    rows, classes = [], []
    for label, e in entries:
        best, point = e["vs_best_single"], e["kind"] != "bound"
        some = "-" if e["accuracy_some_right"] is None else f"{100 * e['accuracy_some_right']:.1f}"
        sizes = [
            f"{100 * e['accuracy']:.1f} {_range(e['ci95'])}",
            some,
            f"{e['calls_per_row']:.2f}",
            f"{e['cost_per_row']:.3g}",
        ]
        gain = f"{100 * best['diff']:+.1f} {_range(best['ci95'], True)}"
        rest = ["inside" if best["inside"] else "", f"{100 * e['vs_uniform']['diff']:+.1f}", f"{e['regret']:.0f}"]
        rows.append([label, _GROUPS[e["kind"]], *sizes, gain, *rest])
        weak = "dim" if e["kind"] == "arm" and label != best_single else ""
        classes.append("best" if point and best["diff"] > 0 and not best["inside"] else weak)
    return page.table(_HEADER, rows, 2, classes)


def _heat(f: Json) -> str:
    arms = sorted(f["arms"], key=lambda a: -f["routers"][a]["accuracy"])[:_HEAT_ARMS]
    parts = []
    if len(f["by"]) > 1:
        columns = [f"{c} ({p['rows']})" for c, p in f["by"].items()]
        values = [[p["accuracy"][a] for p in f["by"].values()] for a in arms]
        parts += [
            "<h3>Accuracy of the arms by category, in %</h3>",
            figure(charts.heatmap(values, arms, columns, 0.3, 1.0, percent=True)),
        ]
    index = [f["arms"].index(a) for a in arms]
    for key, name in (("kappa", "Cohen's kappa"), ("f1", "F1 of «a is better»")):
        matrix = [[f["agreement"][key][i][j] for j in index] for i in index]
        drawn = figure(charts.heatmap(matrix, arms, arms, 0.0, 1.0))
        parts.append(
            f"<details{' open' if key == 'kappa' and len(arms) <= 18 else ''}><summary>Agreement of the arms: {escape(name)}</summary>{drawn}</details>"
        )
    if len(f["arms"]) > _HEAT_ARMS:
        parts.append(f'<p class="note">The {_HEAT_ARMS} most accurate of {len(f["arms"])} arms are drawn.</p>')
    return "".join(parts)


def _online(f: Json) -> str:
    rows = f["curve_rows"]
    routers = {label: e for label, e in f["routers"].items() if "share_over_time" in e}
    if not routers:
        return ""
    regret = {label: (rows, e["regret_over_time"]) for label, e in routers.items()}
    parts = [
        "<h3>Regret of the online routers</h3>",
        figure(charts.line(regret, "rows seen", "regret against the best arm, in rows"), fit=True),
    ]
    learning = sorted((x for x in routers if x not in _CURVES), key=lambda x: -routers[x]["accuracy"])
    for i, label in enumerate(learning):
        drawn = figure(charts.shares(rows, _shares(routers[label], f["arms"]), "rows seen"), fit=True)
        opened = " open" if i == 0 else ""
        parts.append(
            f"<details{opened}><summary>Shares of the arms over time: {escape(label)}</summary>{drawn}</details>"
        )
    return "".join(parts)


def _shares(entry: Json, arms: list[str]) -> Mapping[str, list[float]]:
    """The seven most chosen arms by name, the rest together."""
    over_time = entry["share_over_time"]
    top = sorted(range(len(arms)), key=lambda k: -sum(row[k] for row in over_time))[:7]
    found = {arms[k]: [row[k] for row in over_time] for k in top}
    if len(arms) > len(top):
        found[f"{len(arms) - len(top)} others"] = [max(0.0, 1.0 - sum(row[k] for k in top)) for row in over_time]
    return found


def _official(f: Json) -> str:
    if not f["official"]:
        return ""
    subsets = sorted({s for scores in f["official"].values() for s in scores})
    rows = [
        [arm, *(_percent(scores[s]) if s in scores else "-" for s in subsets)] for arm, scores in f["official"].items()
    ]
    return "<h3>The benchmark's own metric</h3>" + page.table(["arm", *subsets], rows)


def _ledger(found: Json) -> str:
    head = f"<h2>{escape(found['name'])}: what other routers would have earned</h2>"
    if "refused" in found:
        return head + f"<p>{escape(found['refused'])}</p>"
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
    for target, v in found["targets"].items():
        values = [f"{v[m]['value']:.3f} [{v[m]['ci95'][0]:.3f}, {v[m]['ci95'][1]:.3f}]" for m in ("dr", "snips")]
        sequence = f"[{v['cs']['ci95'][0]:.3f}, {v['cs']['ci95'][1]:.3f}]"
        rows.append([target, *values, sequence, f"{v['ess']:.0f}", str(v["rows"]), str(v["left_out"])])
    note = "Mean payoff over the logged contexts, from the recorded propensities. Below an effective sample size (ESS) of 100 take it as a hint only."
    return head + page.table(header, rows) + f'<p class="note">{note}</p>'


def _reading() -> str:
    return (
        "<h2>How to read this</h2><p>Accuracy: right 1, tie 1/2, wrong 0, on all rows; «where some arm is right» leaves out the rows on which every arm errs. "
        "Cross-fitted methods are judged on prompts they did not learn from. Online routers see only the payoff of the arm they chose, in a random order of prompts; "
        "their accuracy is a mean over runs, and their interval includes the spread between runs. The best single arm is chosen in hindsight, again in every bootstrap "
        "replicate, so its luck is part of each difference. The verdict's confidence is corrected for all methods that replay knows (Bonferroni), whichever were listed; those listed with --router count as named beforehand. The bound is not a method: it knows the label.</p>"
    )


def _percent(x: float) -> str:
    return f"{100 * x:.1f} %"


def _points(x: float) -> str:
    return f"{100 * x:+.1f} pp"


def _range(pair: tuple[float, float], signed: bool = False) -> str:
    return f"[{100 * pair[0]:+.1f}, {100 * pair[1]:+.1f}]" if signed else f"[{100 * pair[0]:.1f}, {100 * pair[1]:.1f}]"
