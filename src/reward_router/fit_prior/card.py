"""The card of a prior.

What it was learned from, which arms it knows, and how often each was right on prompts it had not
seen.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from reward_router.offline.prior import Prior

Json = Mapping[str, Any]
LEFT_OUT = ("majority", "random", "oracle", "w/o CLS", "prior with intercepts")
"""Rows of the tables that are no arm and not the prior's own choice."""


def prior_card_text(prior: Prior, result: Json, category_of_rows: Sequence[str]) -> str:
    """Markdown.

    Args:
        prior: what was learned.
        result: the tables of ``fit-prior``.
        category_of_rows: the category of every pair that was read.
    """
    counts = Counter(category_of_rows)
    by_category = ", ".join(f"{name} {n}" for name, n in sorted(counts.items()))
    rows = result["rows"]
    encoder = prior.encoder_id
    lines = [
        "# A prior for routing",
        "",
        "Strengths of reward models, learned by `reward-router fit-prior`: "
        "what each arm is good at, before a run has paid for it.",
        "",
        "## Data",
        "",
        f"{len(category_of_rows)} preference pairs, digest {prior.data_hash[:12]}; "
        f"{rows['train']} to learn from, {rows['dev']} to stop and calibrate, "
        f"{rows['test']} held out{_outside(rows)}. No prompt is on two sides.",
        "",
        f"Pairs by category: {by_category}.",
        "",
        "## Arms",
        "",
        *_arms(prior),
        "",
        f"Encoder: `{encoder.model}` "
        f"(weights {encoder.weights[:12]}, pooling {encoder.pooling}); "
        f"h has {prior.strengths.dim} dimensions.",
        "",
        "## Accuracy on held-out prompts",
        "",
        "How often the arm orders a pair rightly, in per cent; a tie or an abstention counts one "
        "half. `ours` is the arm that the prior names",
        "for each pair, `best single (training)` the one arm that was best on the pairs to learn "
        "from.",
    ]
    for name, part in result["sets"].items():
        lines += [
            "",
            f"{name.capitalize()}: {part['rows']} pairs of {part['prompts']} prompts.",
            "",
            *_accuracy(part),
        ]
    return "\n".join([*lines, "", "## Calibration", "", _calibration(prior), ""])


def _outside(rows: Json) -> str:
    return f", {rows['out']} of sources that took no part" if rows["out"] else ""


def _arms(prior: Prior) -> list[str]:
    if not prior.fingerprints:
        unknown = "Their scores were recorded, and what they were is not known: no fingerprints."
        return [f"{', '.join(prior.arms)}. {unknown}"]
    table = [f"| {name} | `{prior.fingerprints.get(name, '-')}` |" for name in prior.arms]
    return ["| arm | fingerprint |", "|---|---|", *table]


def _accuracy(part: Json) -> list[str]:
    sizes = part["categories"]
    categories = sorted(sizes)
    heads = [f"{name} ({sizes[name]})" for name in categories]
    lines = [f"| | all [95 %] | {' | '.join(heads)} |", "|---|---|" + "---|" * len(categories)]
    for name, method in part["methods"].items():
        if name in LEFT_OUT:
            continue
        accuracy = 100 * method["accuracy"]
        low, high = (100 * end for end in method["ci95"])
        by_category = method["by_category"]
        cells = " | ".join(f"{100 * by_category[category]:.0f}" for category in categories)
        lines.append(f"| {name} | {accuracy:.1f} [{low:.1f}, {high:.1f}] | {cells} |")
    return lines


def _calibration(prior: Prior) -> str:
    c = prior.calibration
    level = ""
    if c.level is not None:
        mean, sd = c.level
        level = f" Mean payoff of the mean arm: {mean:.3f} (known to {sd:.3f})."
    return (
        f"Scale {c.scale:.3g}, lambda0 {c.precision:.3g}, sigma {c.noise_sd:.3g}: "
        f"the prior is worth {c.worth:.0f} pairs; log evidence per payoff of the {c.rows} "
        f"to calibrate {c.gain:+.4f} over no strengths.{level}"
    )
