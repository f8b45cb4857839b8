"""A training run's HTML report, from its directory alone: what happened to gold first, then who judged, then what it cost.

Nothing is measured again: every figure comes from summary.json, metrics.jsonl, config.yaml and the ledger.
"""

import html
import os
from pathlib import Path
from typing import Any

from reward_router.changes import told
from reward_router.errors import RunError
from reward_router.facts import facts
from reward_router.headline import headline_gold
from reward_router.report import judged, learned, page, panel, spent
from reward_router.report.gather import Evidence, Json, read
from reward_router.report.trust import trust
from reward_router.show import duration
from reward_router.strict_json import dumps

UNITS = {"prompt": "prompt", "batch": "batch of prompts", "pair": "pair of responses"}


def write(folder: Path) -> Path:
    """Write ``report.html`` into a finished run's directory, whole or not at all, and return its path.

    One file, a few hundred KiB, that opens offline. InputError where ``folder`` holds no finished run, LedgerError where its
    ledger cannot be read, RunError where the file cannot be written. O(calls) time and memory.
    """
    folder = Path(folder)
    text, path = render(read(folder)), folder / "report.html"
    partial = path.with_name("report.html.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        why = error.strerror or error
        raise RunError(
            f"{path} cannot be written: {why}; the run itself is whole: `reward-router report {folder}` tries again"
        ) from None
    return path


def render(evidence: Evidence) -> str:
    """The report as HTML text."""
    s = evidence.summary
    sections = [
        ("gold", "Gold before and after", learned.gold(evidence)),
        ("best-of", "Best of n: who is right about the policy's own samples?", learned.best_of(evidence)),
        ("arms", "Who judged", judged.shares(evidence)),
        ("committee", "How the committee judged", panel.committee(evidence)),
        ("payoffs", "What the router was paid", judged.payoffs(evidence)),
        ("posterior", "What the router believes", judged.posterior(evidence)),
        ("trust", "Does the prior hold?", trust(evidence)),
        ("training", "What the policy did", learned.training(evidence)),
        ("truth", "Does the payoff follow gold?", learned.truth(evidence)),
        ("agreement", "Do the arms agree?", judged.agree(evidence)),
        ("cost", "Calls and time", spent.cost(evidence)),
        ("left", "Left out, skipped, failed", spent.left_out(evidence)),
        ("setup", "How to get this run again", _setup(evidence)),
    ]
    there = [(key, title, body) for key, title, body in sections if body]
    nav = "".join(f'<a href="#{key}">{html.escape(title)}</a>' for key, title, _ in there)
    body = [page.verdict(*headline(evidence)), _tiles(s), page.facts(facts(s)), f"<nav>{nav}</nav>"]
    body += [f'<h2 id="{key}">{html.escape(title)}</h2>{text}' for key, title, text in there]
    return page.page(f"Training run: {evidence.folder.resolve().name}", _lead(evidence), [*body, _words()])


def headline(evidence: Evidence) -> tuple[str, list[str]]:
    """What happened to gold, in one sentence; then who judged, what it cost, and what one run cannot say."""
    s = evidence.summary
    sentences = [_who(evidence), _cost(s)]
    sentences += [
        f"The run was resumed after step {accepted['step']} though {told(accepted['changes'])}: it was told to accept that, and figures before and after "
        "are of two different runs."
        for accepted in s.get("accepted_changes") or []
    ]
    if headline_gold(s):
        sentences.append(
            "The interval is over prompts, for this one run: another training seed would give another change, which it does not show."
        )
    return _gold_sentence(headline_gold(s), s["steps"]), [x for x in sentences if x]


def _gold_sentence(gold: Json | None, steps: int) -> str:
    if not gold:
        return f"{steps} steps of training; gold was not measured, because no held-out prompt came with a rule to check answers by."
    row = gold["all"]
    on = f"on {row['n']} held-out prompts"
    stand = f"from {learned.percent(row['before'])} to {learned.percent(row['after'])} right answers {on}"
    low, high = row["ci95"]
    if low is None or high is None:
        return f"Gold went {stand}; so few prompts allow no interval."
    span = f"{100 * row['diff']:+.1f} points, 95 % interval {100 * low:+.1f} to {100 * high:+.1f}"
    if low == high == 0:
        return f"Gold did not move: {learned.percent(row['before'])} right answers {on}, before and after."
    if low > 0 or high < 0:
        return f"Gold {'rose' if low > 0 else 'fell'} {stand} ({span}): more than the choice of prompts explains."
    return f"Gold went {stand} ({span}): the interval holds zero, so no change is shown."


def _who(evidence: Evidence) -> str:
    s, arms = evidence.summary, evidence.summary["arms"]
    if evidence.ensemble:
        return f"All {len(arms)} arms (reward models) judged every response; nothing was routed."
    if s.get("committee"):
        share, counts = s["committee"]["asked_share"], s["committee"]["counts"]
        return (
            f"A committee judged: each of {counts['units']:,} {UNITS.get(s['unit'], s['unit'])}s was scored by one arm (reward model) and by another only "
            f"where that was worth its price; {judged.whole(share['1'])} needed one, {judged.whole(share['2'])} two, {judged.whole(share['3'])} three or more."
        )
    if len(arms) == 1:
        return f"One reward model, «{next(iter(arms))}», judged everything; there was nothing to route."
    total = sum(a["decisions"] for a in arms.values())
    if not total:
        return "No decision was made."
    name = max(arms, key=lambda a: judged.judged_share(s, a) or 0.0)
    even = f"choosing evenly would give each of the {len(arms)} arms {judged.whole(1 / len(arms))}"
    return f"The reward model that judged most is «{name}»: {judged.whole(judged.judged_share(s, name) or 0.0)} of {total:,} decisions by the router ({s['router']}), one for each {UNITS.get(s['unit'], s['unit'])} ({even})."


def _cost(s: Json) -> str:
    calls = s["calls"]
    if not calls["all_arms"]:
        return ""
    if s["n_arms"] == 1 or calls["made"] == calls["all_arms"]:
        return f"That took {calls['made']:,} calls (one arm scoring one response)."
    text = (
        f"That took {calls['made']:,} calls (one arm scoring one response); asking all {s['n_arms']} arms every time would have taken "
        f"{calls['all_arms']:,}, so it cost {judged.whole(calls['made'] / calls['all_arms'])} of that."
    )
    return text + (f" Audits, which only serve this report, took {calls['audit']:,} more." if calls["audit"] else "")


def _tiles(s: Json) -> str:
    tiles, gold, calls = [], (headline_gold(s) or {}).get("all"), s["calls"]
    if gold:
        low, high = gold["ci95"]
        span = f", 95 % interval {100 * low:+.1f} to {100 * high:+.1f}" if low is not None and high is not None else ""
        tiles.append((f"{learned.percent(gold['before'])} → {learned.percent(gold['after'])}", "gold before → after"))
        tiles.append((f"{100 * gold['diff']:+.1f} pp", f"change of gold{span}"))
    of = f", of {calls['all_arms']:,} that all {s['n_arms']} arms would take" if s["n_arms"] > 1 else ""
    tiles.append((f"{calls['made']:,}", f"calls{of}"))
    tiles.append(
        (duration(sum(v or 0.0 for v in s["seconds"].values())), "wall-clock, loading and evaluation included")
    )
    if s.get("peak_memory_gib") is not None:
        tiles.append((f"{s['peak_memory_gib']:.1f} GiB", "peak memory of the process"))
    return page.tiles(tiles)


def _lead(evidence: Evidence) -> str:
    s, c = evidence.summary, evidence.config
    model, loss = _at(c, "policy", "model"), _at(c, "train", "loss")
    return (
        f"Policy {model}, trained by {loss} for {s['steps']} steps on the verdicts of {s['n_arms']} reward model{'s' if s['n_arms'] != 1 else ''}; router {s['router']}, "
        f"unit of routing {s['unit']}, payoff {s['payoff']}"
    )


def _at(tree: Any, *keys: str) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return "(unnamed)" if tree is None else tree


def _setup(evidence: Evidence) -> str:
    manifest = dumps(evidence.summary.get("manifest", {}), indent=2, ensure_ascii=False)
    return (
        '<p class="note">The resolved configuration runs again with <code>reward-router train config.yaml --out NEW</code>; with equal versions, '
        "hashes and thread count the decisions come out equal.</p>"
        f"<details><summary>Resolved configuration (config.yaml)</summary><pre>{html.escape(evidence.config_text)}</pre></details>"
        f"<details><summary>Manifest: versions, seed, hashes</summary><pre>{html.escape(manifest)}</pre></details>"
    )


def _words() -> str:
    return (
        "<h2>Words</h2><p><b>Arm</b>: one reward model. <b>Decision</b>: the router gives one unit (a prompt, a batch, or a pair of responses) to one arm. "
        "<b>Call</b>: one arm scores one response. <b>Payoff</b>: what the router learns from, between 0 and 1 after scaling. <b>Gold</b>: verified truth, "
        "here an answer that passes its prompt's rule. <b>Step</b>: one batch of prompts, one optimiser step.</p>"
    )
