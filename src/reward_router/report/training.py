"""A training run's HTML report, from its directory alone.

It says what happened to gold first, then who judged, then what it cost. Nothing is measured again:
every figure comes from summary.json, metrics.jsonl, config.yaml and the ledger.
"""

import html
import os
from pathlib import Path
from typing import Any

from reward_router.changes import first_change
from reward_router.errors import RunError
from reward_router.facts import cause, facts, same_calls, tone, win_rate_fact
from reward_router.headline import headline_gold, headline_win_rate
from reward_router.kinds import ROUTERS, rests_on_gold
from reward_router.progress import duration
from reward_router.report import answers, curves, judged, learned, page, panel, spent
from reward_router.report.gather import Evidence, Json, read_evidence
from reward_router.report.page import interval, percent, points
from reward_router.report.trust import trust
from reward_router.strict_json import dumps

UNITS = {"prompt": "prompt", "batch": "batch of prompts", "pair": "pair of responses"}


def write(folder: Path) -> Path:
    """Write ``report.html`` into a finished run's directory, and return its path.

    It is written whole or not at all: one file, a few hundred KiB, that opens offline. InputError
    where ``folder`` holds no finished run, LedgerError where its ledger cannot be read, RunError
    where the file cannot be written. O(calls) time and memory.
    """
    folder = Path(folder)
    text = render(read_evidence(folder))
    path = folder / "report.html"
    partial = path.with_name("report.html.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        why = error.strerror or error
        raise RunError(
            f"{path} cannot be written: {why}; the run itself is whole: "
            f"`reward-router report {folder}` tries again"
        ) from None
    return path


def render(evidence: Evidence) -> str:
    """The report as HTML text."""
    s = evidence.summary
    sections = [
        ("gold", "Gold before and after", learned.gold_by_category(evidence)),
        ("responses", "Responses that changed", answers.changed_answers(evidence)),
        ("arms", "Who judged", judged.arm_shares(evidence)),
        ("committee", "How the committee judged", panel.committee_panel(evidence)),
        ("posterior", "What the router believes", judged.posterior(evidence)),
        ("payoffs", "What the router was paid", judged.payoffs_section(evidence)),
        (
            "best-of",
            "Best of n: who is right about the policy's own samples?",
            learned.best_of_section(evidence),
        ),
        ("training", "What the policy did", curves.training(evidence)),
        ("agreement", "Do the arms agree?", judged.agree(evidence)),
        ("cost", "Calls and time", spent.cost(evidence)),
    ]
    left = ("left", "Left out, skipped, failed", spent.left_out(evidence))
    truth = ("truth", "Does the payoff follow gold?", learned.truth(evidence))
    by_gold = rests_on_gold(s["payoff"])
    if not by_gold:
        # Whether the router was steered by truth decides how to read the sections after it.
        sections.insert(2, truth)
    if evidence.failures:
        sections.append(left)
    there = [(key, title, body) for key, title, body in sections if body]
    aside = [
        left if not evidence.failures else ("", "", ""),
        truth if by_gold else ("", "", ""),
        ("trust", "Does the prior hold?", trust(evidence)),
        ("setup", "How to get this run again", _setup(evidence)),
        ("words", "Words", _words(evidence)),
    ]
    linked = [*((key, title) for key, title, _ in there), ("words", "Words")]
    nav = " ".join(f'<a href="#{key}">{html.escape(title)}</a>' for key, title in linked)
    told, sentences = report_headline(evidence)
    body = [page.verdict(told, sentences, "" if evidence.running else tone(s)), _tiles(s)]
    body += [
        page.folded("The same in figures, as on the terminal", page.facts_list(facts(s))),
        f"<nav>{nav}</nav>",
    ]
    body += _side_by_side([_section(*section) for section in there])
    body.append('<h2 class="screen">More</h2>')
    # paper has no folded details, and its reader needs the words all the same
    body.append(f'<section class="paper"><h2>Words</h2>{_words(evidence)}</section>')
    body += [
        f'<div id="{key}">{page.folded(title, text)}</div>' for key, title, text in aside if text
    ]
    name = evidence.folder.resolve().name
    return page.page(f"Training run: {name}", _lead(evidence), body, _made(s))


def _section(key: str, title: str, text: str) -> str:
    return f'<section id="{key}"><h2>{html.escape(title)}</h2>{text}</section>'


def _side_by_side(sections: list[str]) -> list[str]:
    """The same sections, two of them side by side.

    What the router believes stands beside what it was paid, where both are there.
    """
    narrow = [
        s for s in sections if s.startswith(('<section id="posterior"', '<section id="payoffs"'))
    ]
    if len(narrow) < 2:
        return sections
    at = sections.index(narrow[0])
    return [*sections[:at], page.grid(narrow), *(s for s in sections[at:] if s not in narrow)]


def report_headline(evidence: Evidence) -> tuple[str, list[str]]:
    """What happened to gold, in one sentence, and the sentences behind it.

    These say its likely cause, who judged, what it cost, and what one run cannot say.
    """
    s = evidence.summary
    why = cause(s, curves.length_change(evidence))
    sentences = [
        _cause(s, why),
        _against(evidence),
        _who(evidence),
        _cost(s),
    ]
    sentences += [
        f"The run was resumed after step {accepted['step']} though "
        f"{first_change(accepted['changes'])}: "
        "it was told to accept that, and figures before and after are of two different runs."
        for accepted in s.get("accepted_changes") or []
    ]
    if headline_gold(s):
        sentences.append(_one_run(headline_gold(s)))
    if evidence.running:
        return _running(s), [x for x in sentences if x]
    if not headline_gold(s) and s.get("win_rate"):
        return f"{s['steps']} steps of training without gold: {win_rate_fact(s)}.", [
            x for x in sentences if x
        ]
    return _gold_sentence(headline_gold(s), s["steps"]), [x for x in sentences if x]


_FEW_PROMPTS = 30
"""Below so many held-out prompts the interval of the change is itself a rough one."""


def _cause(s: Json, why: str) -> str:
    """What probably moved gold, or held it back; empty where nothing stands out."""
    if not why:
        return ""
    lead = "What may have held gold back" if tone(s) == "neither" else "Likely cause"
    return f"{lead}: {why}."


def _one_run(gold: Json | None) -> str:
    """What a single run cannot say."""
    n = (gold or {}).get("all", {}).get("n", _FEW_PROMPTS)
    few = f" {n} prompts are few, so the interval itself is rough." if n < _FEW_PROMPTS else ""
    return (
        "What one run cannot say: another training seed would give another change. The interval "
        f"covers only the choice of held-out prompts.{few}"
    )


def _running(s: Json) -> str:
    looks = (s.get("kept") or {}).get("looks") or []
    looked = ""
    if len(looks) > 1:
        first = percent(looks[0]["gold"])
        last = percent(looks[-1]["gold"])
        looked = (
            f"; on a few train prompts gold went from {first} to {last} by step {looks[-1]['step']}"
        )
    return (
        f"Running: step {s['steps']} of {s.get('planned_steps', '?')}, "
        f"as of its last checkpoint{looked}."
    )


def _against(evidence: Evidence) -> str:
    """What others make of as many calls: from the shipped study, or how to find out."""
    s = evidence.summary
    if len(s["arms"]) < 2 or evidence.running or not headline_gold(s):
        return ""
    if same_calls(s):
        return _in_the_study(s["study"])
    return (
        "What arms drawn at random, or the best single arm, would have made of as many calls was "
        "not measured: train again with --set 'router={name: uniform}', and lay the runs side by "
        "side with reward-router compare."
    )


def _in_the_study(study: Json) -> str:
    """What as many calls brought in the study that comes with the package, in points."""
    variants = study["variants"]
    single = [name for name in variants if name.startswith("only ")]
    best = max(single, key=lambda name: float(variants[name]["change"]), default="")
    who = [
        ("this set-up", "default"),
        ("arms drawn at random", "uniform"),
        (f"the best single arm ({best.removeprefix('only ')})", best),
        ("labels drawn at random", "random labels (control)"),
    ]
    told = [f"{words} {_study_change(variants[name])}" for words, name in who if name in variants]
    return (
        "To compare, with as many calls in the study that comes with the package, gold changed by "
        f"so many points: {', '.join(told)}."
    )


def _study_change(variant: Json) -> str:
    details = []
    span = interval(variant.get("ci95"), "")
    if span:
        details.append(f"95 % {span}")
    seeds = variant.get("seeds")
    if seeds:
        plural = "" if seeds == 1 else "s"
        details.append(f"{seeds} seed{plural}")

    change = points(variant["change"])
    if not details:
        return change
    return f"{change} ({', '.join(details)})"


def _gold_sentence(gold: Json | None, steps: int) -> str:
    if not gold:
        return (
            f"{steps} steps of training; gold was not measured, because no held-out prompt "
            "came with a rule to check answers by."
        )
    row = gold["all"]
    on = f"on {row['n']} held-out prompts"
    stand = f"from {percent(row['before'])} to {percent(row['after'])} right answers {on}"
    low, high = row["ci95"]
    if low is None or high is None:
        return f"Gold went {stand}; so few prompts allow no interval."
    span = f"{points(row['diff'])} points, 95 % interval {interval(row['ci95'])}"
    if low == high == 0:
        return f"Gold did not move: {percent(row['before'])} right answers {on}, before and after."
    if low > 0 or high < 0:
        moved = "rose" if low > 0 else "fell"
        return f"Gold {moved} {stand} ({span}): more than the choice of prompts explains."
    return f"Gold went {stand} ({span}): the interval holds zero."


def _who(evidence: Evidence) -> str:
    s = evidence.summary
    arms = s["arms"]
    if evidence.ensemble:
        return f"All {len(arms)} arms (reward models) judged every response; nothing was routed."
    if s.get("committee"):
        share = s["committee"]["asked_share"]
        counts = s["committee"]["counts"]
        unit = UNITS.get(s["unit"], s["unit"])
        percent = {n_asked: judged.whole_percent(share[n_asked]) for n_asked in ("1", "2", "3")}
        return (
            f"A committee judged: each of {counts['units']:,} {unit}s "
            "was scored by one arm (reward model) and by another only where that was worth its "
            f"price; {percent['1']} needed one, {percent['2']} two, {percent['3']} three or more."
        )
    if len(arms) == 1:
        only = next(iter(arms))
        return f"One reward model, {only}, judged everything; there was nothing to route."
    total = sum(a["decisions"] for a in arms.values())
    if not total:
        return "No decision was made."
    name = max(arms, key=lambda a: judged.judged_share(s, a) or 0.0)
    even_share = judged.whole_percent(1 / len(arms))
    even = f"choosing evenly would give each of the {len(arms)} arms {even_share}"
    share_of = judged.whole_percent(judged.judged_share(s, name) or 0.0)
    return (
        f"The arm (reward model) that judged most is {name}: {share_of} of {total:,} decisions "
        f"by the router ({s['router']}), one for each {UNITS.get(s['unit'], s['unit'])} ({even})."
    )


def _cost(s: Json) -> str:
    """Calls, seconds and price, beside those of asking every arm."""
    calls = s["calls"]
    if not calls["all_arms"]:
        return ""
    seconds = (s.get("seconds") or {}).get("score")
    spent_on = f" and {duration(seconds)} of the reward models" if seconds else ""
    price = calls.get("price")
    # A price that only counts the calls says nothing new.
    priced = price is not None and price != calls["made"]
    paid = f", at a price of {price:,.4g}" if priced else ""
    took = f"That took {calls['made']:,} calls (one arm scoring one response){spent_on}{paid}"
    if s["n_arms"] == 1 or calls["made"] == calls["all_arms"]:
        return f"{took}."
    text = (
        f"{took}; asking all {s['n_arms']} arms every time would have taken "
        f"{calls['all_arms']:,} calls, "
        f"so routing took {judged.whole_percent(calls['made'] / calls['all_arms'])} of that."
    )
    return text + (
        f" Audits, which only serve this report, took {calls['audit']:,} more."
        if calls["audit"]
        else ""
    )


def _tiles(s: Json) -> str:
    gold = (headline_gold(s) or {}).get("all")
    calls = s["calls"]
    tiles = []
    if gold:
        span = interval(gold["ci95"], "")
        tiles.append(
            (
                f"{percent(gold['before'])} → {percent(gold['after'])}",
                "gold: right answers, before → after",
            )
        )
        tiles.append(
            (f"{points(gold['diff'])} pp", f"change of gold{', 95 % ' + span if span else ''}")
        )
    won = headline_win_rate(s)
    if won:
        tiles.append(
            (
                percent(won["rate"]),
                f"of prompts: {s['win_rate']['arm']} likes the response after training better "
                "(win rate)",
            )
        )
    of = (
        f", of {calls['all_arms']:,} that all {s['n_arms']} arms would take"
        if s["n_arms"] > 1
        else ""
    )
    tiles.append((f"{calls['made']:,}", f"calls{of}"))
    tiles.append((duration(sum(v or 0.0 for v in s["seconds"].values())), "wall-clock in all"))
    if s.get("peak_memory_gib") is not None:
        tiles.append((f"{s['peak_memory_gib']:.1f} GiB", "peak memory"))
    return page.tiles(tiles)


def _lead(evidence: Evidence) -> str:
    s = evidence.summary
    c = evidence.config
    model = _at(c, "policy", "model")
    loss = _at(c, "train", "loss")
    steps = f"{s['steps']} of {s.get('planned_steps')}" if evidence.running else f"{s['steps']}"
    models = f"{s['n_arms']} reward model{'s' if s['n_arms'] != 1 else ''} (arms)"
    trained = (
        f"The policy, the language model that is trained, is {model}. "
        f"It was trained by {loss} for {steps} steps on the verdicts of {models}."
    )
    if evidence.ensemble or s.get("committee") or s["n_arms"] == 1:
        return (
            f"{trained} Who judges: {s['router']}; unit of routing {s['unit']}; "
            f"payoff {s['payoff']}."
        )
    each = UNITS.get(s["unit"], s["unit"])
    return (
        f"{trained} A router ({s['router']}) chose which of them judges each {each}, "
        f"and learned from the payoff ({s['payoff']}), a number from 0 to 1 for each decision."
    )


def _made(s: Json) -> str:
    """Date, duration, machine, version, commit and hashes, in one line.

    What a run did not keep is left out.
    """
    m = s.get("manifest") or {}
    hardware = m.get("hardware") or {}
    versions = m.get("versions") or {}
    seconds = sum(v or 0.0 for v in s["seconds"].values())
    cores = f", {hardware['cores']} cores" if hardware.get("cores") else ""
    memory = f", {hardware['memory_gib']:g} GiB" if hardware.get("memory_gib") else ""
    machine = f"{hardware['cpu']}{cores}{memory}" if hardware.get("cpu") else m.get("machine")
    version = versions.get("reward-router")
    parts = [
        str(m["began"]).replace("T", " ").replace("+00:00", " UTC") if m.get("began") else None,
        duration(seconds),
        machine,
        hardware.get("gpu"),
        f"reward-router {version}" if version else None,
        f"commit {m['commit'][:12]}" if m.get("commit") else None,
        f"config {m['config'][:12]}" if m.get("config") else None,
        f"weights {m['policy'][:12]}" if isinstance(m.get("policy"), str) else None,
        f"seed {m['seed']}" if m.get("seed") is not None else None,
    ]
    return " · ".join(part for part in parts if part)


def _at(tree: Any, *keys: str) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return "(unnamed)" if tree is None else tree


def _setup(evidence: Evidence) -> str:
    manifest = dumps(evidence.summary.get("manifest", {}), indent=2, ensure_ascii=False)
    return (
        '<p class="note">The resolved configuration runs again with '
        "<code>reward-router train config.yaml --out NEW</code>; with equal versions, "
        "hashes and thread count the decisions come out equal.</p>"
        "<details><summary>Resolved configuration (config.yaml)</summary>"
        f"<pre>{html.escape(evidence.config_text)}</pre></details>"
        "<details><summary>Manifest: versions, seed, hashes</summary>"
        f"<pre>{html.escape(manifest)}</pre></details>"
    )


_LOSSES = {
    "dpo": "direct preference optimisation, which raises the chosen response against the rejected "
    "one, measured from the model before training",
    "nll": "the negative log-likelihood of the chosen response",
}


def _words(evidence: Evidence) -> str:
    router = evidence.summary["router"]
    how = ""
    if router in ROUTERS:
        sentence = ROUTERS[router].sentence.replace("`", "")
        how = f" {html.escape(router)}: {html.escape(sentence)}."
    parts = str(_at(evidence.config, "train", "loss")).split("+")
    losses = "; ".join(f"{part} is {_LOSSES[part]}" for part in parts if part in _LOSSES)
    loss = f"<b>Loss</b>: what training lowers; {losses}. " if losses else ""
    return (
        "<p><b>Policy</b>: the language model that is trained. <b>Arm</b>: one reward model. "
        f"<b>Router</b>: chooses the arm that judges.{how} "
        "<b>Decision</b>: the router gives one unit (a prompt, a "
        "batch, or a pair of responses) to one arm. <b>Call</b>: one arm scores one response. "
        f"{loss}<b>pp</b>: percentage points. <b>95 % interval</b>: the changes that these prompts "
        "allow, found by drawing them again and again (bootstrap). "
        "<b>Payoff</b>: what the router learns from, between 0 and 1 after scaling. <b>Gold</b>: "
        "verified truth, here an answer that passes its prompt's rule. <b>Step</b>: one batch of "
        "prompts, one optimiser step.</p>"
    )
