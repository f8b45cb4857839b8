"""What a finished run says in a few lines.

The lines stand on the terminal and at the top of the report. They are made of the summary alone,
and need no torch.
"""

from collections.abc import Mapping
from typing import Any

from reward_router.headline import BEST_OF, GOLD_SAMPLED, headline_gold, headline_win_rate
from reward_router.kinds import rests_on_gold
from reward_router.progress import duration

Json = Mapping[str, Any]
NEXT_DEFAULT = (
    "with your own prompts, policy and arms (the README has a my.yaml):\n"
    "  reward-router train my.yaml --out runs/mine\n"
    "would routing pay on scores that you have?\n"
    "  reward-router replay scores.jsonl --report replay.html"
)
NEXT_OWN = (
    "was it the router? The same, with arms drawn at random:\n"
    "  reward-router train CONFIG --out OTHER \\\n"
    "    --set 'router={name: uniform}'\n"
    "  reward-router compare RUN OTHER"
)
NEXT_UNIFORM = (
    "would routing do better? The same, with arms that are chosen by what they earn:\n"
    "  reward-router train CONFIG --out OTHER \\\n"
    "    --set 'router={name: adaptive}'\n"
    "  reward-router compare RUN OTHER"
)
NEXT_MODEL = "the adapter and its policy as one model:\n  reward-router export RUN merged/"
HARDLY_EVER = 0.05
"""Gold before training below which a payoff that is made of gold has next to nothing to compare."""


def what_next(summary: Json) -> str:
    """What a user does next: after the default set-up its own data, after own data a comparison."""
    if summary.get("study"):
        return NEXT_DEFAULT
    compared = NEXT_UNIFORM if summary.get("router") == "uniform" else NEXT_OWN
    return f"{compared}\n{NEXT_MODEL}"


def too_hard(before: float, payoff: str) -> str:
    """What to do where the policy is hardly ever right, so that gold teaches nobody; else ''.

    Args:
        before: gold before training, in [0, 1].
        payoff: what the router learns from.
    """
    if before >= HARDLY_EVER or not rests_on_gold(payoff):
        return ""
    return (
        f"the policy is hardly ever right on these prompts ({100 * before:.0f} % before training), "
        f"so the payoff {payoff} finds no right response to compare: easier prompts, a larger "
        "policy, more tokens (policy.max_new_tokens) or more responses a prompt "
        "(policy.n_responses) give it some"
    )


def facts(summary: Json) -> list[tuple[str, str]]:
    """(what, in words) rows, in the order in which a reader asks.

    What a run does not know is left out.
    """
    rows = [
        ("gold", gold_fact(summary)),
        ("win rate", win_rate_fact(summary)),
        ("likely cause", cause(summary)),
        ("kept", kept_fact(summary)),
        ("same calls", same_calls(summary)),
        ("trusted", trusted_arms_fact(summary)),
        (f"best of {summary.get('samples')}", best_of_fact(summary)),
        ("calls", calls_fact(summary)),
        ("time", time(summary)),
    ]
    return [(name, text) for name, text in rows if text]


def gold_fact(summary: Json) -> str:
    """Gold before and after with its interval, and what that means."""
    table = headline_gold(summary)
    if table is None:
        return ""
    row = table["all"]
    how = "greedy"
    if summary.get(GOLD_SAMPLED):
        how = f"{summary.get('samples')} samples each"

    moved = f"from {row['before']:.3f} to {row['after']:.3f} on {row['n']} held-out prompts, {how}"
    interval = row["ci95"]
    return f"{moved}: {row['diff']:+.3f}{span(interval)}, {meaning(summary, interval)}"


def win_rate_fact(summary: Json) -> str:
    """How often the arm that took no part in training likes the response after it better."""
    found = summary.get("win_rate")
    if not found:
        return ""
    row = found["all"]
    low, high = row["ci95"]
    if low is None or high is None or low != low:
        ends = ""
        word = "too few prompts to tell"
    else:
        ends = f" [{low:.0%}, {high:.0%}]"
        word = (
            "better by its lights"
            if low > 0.5
            else "worse by its lights"
            if high < 0.5
            else "no difference shown"
        )
    return (
        f"{found['arm']} likes the response after training better in {row['rate']:.0%}{ends} of "
        f"{row['n']} prompts: {word}"
    )


def tone(summary: Json) -> str:
    """``better``, ``worse`` or ``neither``, going by the interval of the change.

    Empty where gold was not measured, or not yet: a run may still go on.
    """
    table = headline_gold(summary)
    found = headline_win_rate(summary)
    if found:
        low, high = found["ci95"]
        if low is None or high is None:
            return "neither"
        return "better" if low > 0.5 else "worse" if high < 0.5 else "neither"
    if table is None:
        return ""
    word = meaning(summary, table["all"]["ci95"])
    return word if word in ("better", "worse") else "neither"


MOVED = 0.1
"""How much the share of answers that end by themselves must move before it is named as a cause."""
LONGER = 1.5
"""How many times as long, or as short, responses must become before that is named."""


def cause(summary: Json, words: tuple[float, float] | None = None) -> str:
    """What probably brought a change of gold about, or kept one away.

    Empty where nothing stands out.

    ``words``: mean words of a response at the beginning and at the end of training, where they are
    known.
    """
    table = headline_gold(summary)
    if table is None:
        return ""
    row = table["all"]
    better = tone(summary) == "better"
    before = row.get("finished_before")
    after = row.get("finished_after")
    hopeless = "" if better else too_hard(row["before"], str(summary.get("payoff")))
    found = [hopeless] if hopeless else []
    if (
        before is not None
        and after is not None
        and abs(after - before) >= MOVED
        and (after > before) == better
    ):
        # Answers that end can be right where they were cut before, but no more of them than that.
        gained = row.get("diff") or 0.0
        part = "in part that " if better and after - before < gained / 2 else ""
        fewer = "more" if better else "fewer"
        advice = (
            "" if better else " (a larger policy.max_new_tokens, or a shorter training, would tell)"
        )
        found.append(
            f"{part}{fewer} answers end by themselves within the token limit: "
            f"{_whole(before)} before, {_whole(after)} after{advice}"
        )
    if words is not None and not better and min(words) > 0:
        ratio = words[1] / words[0]
        if ratio >= LONGER or ratio <= 1 / LONGER:
            taste = "length" if ratio > 1 else "brevity"
            found.append(
                f"responses went from {words[0]:.0f} to {words[1]:.0f} words "
                f"(a judge may reward {taste})"
            )
    r = summary.get("payoff_gold") or {}
    _, high = r.get("ci95") or (None, None)
    if (
        not better
        and not rests_on_gold(str(summary.get("payoff")))
        and high is not None
        and high < 0
    ):
        found.append(
            "the router was paid against the truth: its payoff has correlation "
            f"{r['r']:+.2f} with gold"
        )
    found.append(_no_pairs(summary.get("counts") or {}))
    return "; ".join(reason for reason in found if reason)


def _no_pairs(counts: Json) -> str:
    """Why no pair was trained on; empty where there were some."""
    if counts.get("pairs") != 0:
        return ""
    if counts.get("responses") and counts.get("truncated") == counts["responses"]:
        return (
            "no pair was trained on: the token limit cut every response, and two cut ones make no "
            "pair (a larger policy.max_new_tokens, or pairs.truncated: keep)"
        )
    return "no pair was trained on: the arms told no two responses apart"


def _whole(share: float) -> str:
    return f"{100 * share:.0f} %"


def time(summary: Json) -> str:
    """Wall-clock in all, and how much of it went into judging."""
    seconds = {name: v or 0.0 for name, v in summary["seconds"].items()}
    text = duration(sum(seconds.values()))
    return (
        f"{text}, {duration(seconds['score'])} of it for the reward models"
        if "score" in seconds
        else text
    )


def meaning(summary: Json, ci95: list[float | None]) -> str:
    """Better, worse, or neither, in words."""
    low, high = ci95
    if summary.get("kept") and summary["kept"]["step"] == 0:
        return "nothing was gained, so the base model was kept"
    if low is None or high is None or not (low > 0 or high < 0):
        return "no difference shown"
    return "better" if low > 0 else "worse"


def span(ci95: list[float | None] | None) -> str:
    """A 95 % interval in brackets, nothing where there is none."""
    if ci95 is None or any(end is None or end != end for end in ci95):
        return ""
    return f" [{ci95[0]:+.3f}, {ci95[1]:+.3f}]"


def kept_fact(summary: Json) -> str:
    """Which adapter the run ends with."""
    found = summary.get("kept")
    if not found:
        return f"the adapter of the last step, {summary['steps']}"
    if found["step"] == 0:
        return (
            f"the base model: no step of {found['last_step']} looked better on "
            f"{found['prompts']} train prompts"
        )
    looked = (
        f"{found['gold']:.3f} on {found['prompts']} train prompts, "
        f"{found['base']:.3f} of the base model"
    )
    return f"the adapter of step {found['step']} of {found['last_step']} ({looked})"


def same_calls(summary: Json) -> str:
    """What others make of as many calls, from the study that comes with the package.

    It is said of the default set-up only.
    """
    study = summary.get("study")
    if not study:
        return ""
    variants = study["variants"]
    single = [name for name in variants if name.startswith("only ")]
    best = max(single, key=lambda name: float(variants[name]["change"]), default=None)
    told = [
        ("this set-up", "default"),
        ("arms drawn at random", "uniform"),
        (f"the best single arm ({(best or '').removeprefix('only ')})", best),
        ("labels drawn at random", "random labels (control)"),
    ]
    parts = [f"{words} {_change(variants[name])}" for words, name in told if name in variants]
    return (
        f"{', '.join(parts)} (in the shipped study: {study['seeds']} seeds, {study['machine']})"
        if parts
        else ""
    )


def _change(variant: Json) -> str:
    return f"{variant['change']:+.3f}{span(variant.get('ci95'))}"


def trusted_arms_fact(summary: Json) -> str:
    """By category the arm that judged most, with its share; nothing where all judge together."""
    arms = summary["arms"]
    share, by_category = share_keys(summary)
    anybody_decided = any(row.get("decisions") for row in arms.values())
    if len(arms) < 2 or not anybody_decided:
        return ""

    shares_by_category: dict[str, dict[str, float]] = {}
    for category in sorted({name for row in arms.values() for name in row[by_category]}):
        shares_by_category[category] = {
            arm: row[by_category].get(category) or 0.0 for arm, row in arms.items()
        }
    # Data without categories is one category.
    if not shares_by_category:
        shares_by_category["all"] = {arm: row[share] for arm, row in arms.items()}

    facts_of_categories = []
    for category, shares in shares_by_category.items():
        if any(shares.values()):
            first = max(shares, key=lambda arm: shares[arm])
            facts_of_categories.append(f"{category}: {first} {shares[first]:.0%}")
    return ", ".join(facts_of_categories)


def share_keys(summary: Json) -> tuple[str, str]:
    """Keys of an arm's share that tables show, in all and by category.

    The share is of the units that the arm judged, or was asked about in a committee.
    """
    rows = summary["arms"].values()
    if summary.get("committee") or any("judged_share" not in row for row in rows):
        return "share", "share_by_category"
    return "judged_share", "judged_share_by_category"


def best_of_fact(summary: Json) -> str:
    """Who is right about the policy's own samples, before training and after."""
    found = summary.get(BEST_OF) or {}
    parts = [
        f"{when} training {row['gold']:.3f} by one arm a prompt, {row['random']:.3f} at random "
        f"({row['diff']:+.3f}{span(row['ci95'])}), {row['oracle']:.3f} at most"
        for when, row in found.items()
    ]
    return "; ".join(parts)


def calls_fact(summary: Json) -> str:
    """Calls made, against those of asking every arm."""
    made = summary["calls"]
    text = f"{made['made']:,}" + (
        f" ({made['label']:,} of them for labels)" if made.get("label") else ""
    )
    if made["all_arms"] and summary["n_arms"] > 1:
        share = made["made"] / made["all_arms"]
        text += (
            f", {share:.0%} of the {made['all_arms']:,} that all "
            f"{summary['n_arms']} arms would take"
        )
    price = made.get("price")
    text += f", at a price of {price:,.4g}" if price is not None and price != made["made"] else ""
    more = [
        f"{made[key]:,} {words}"
        for key, words in (
            ("audit", "for audits"),
            (BEST_OF, "for best of n"),
            ("payoff", "by the judge that pays"),
        )
        if made.get(key)
    ]
    return text + (f"; {' and '.join(more)} on top" if more else "")
