"""What a summary says first: which gold a run is judged by, and which adapter it kept.

It is said in words, and needs no torch.
"""

from collections.abc import Mapping
from typing import Any

GOLD_FIGURE = "gold"
"""Key of a summary: gold of one greedy response to each held-out prompt."""
GOLD_SAMPLED = "gold_sampled"
"""Key of a summary: gold of several sampled responses to each held-out prompt."""
MEASURED = (GOLD_SAMPLED, GOLD_FIGURE)
"""Kinds of gold whose responses a run keeps in samples.jsonl, the one that is shown first."""
BEST_OF = "best_of"
"""Key of a summary: what the frozen router chose among the samples, before and after training."""


def gold_tables(summary: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Every gold table of a run with its title, the headline first.

    Held out comes before test, and sampled before greedy.
    """
    sampled = f"under sampling, {summary.get('samples')} a prompt"
    tables = []
    for key, what in (("gold", "gold on held-out prompts"), ("gold_test", "gold on the test set")):
        for kind, how in ((f"{key}_sampled", sampled), (key, "greedy")):
            if summary.get(kind) is not None:
                tables.append((f"{what}, {how}", summary[kind]))
    return tables


def headline_gold(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """The gold table that a run is judged by; None without held-out gold.

    It is gold under sampling where that was measured, else greedy gold.
    """
    return summary.get(GOLD_SAMPLED) or summary.get(GOLD_FIGURE)


def headline_win_rate(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a run without gold is judged by.

    That is how often `eval.arm` likes the response after training better: {n, rate, ci95} over
    prompts; None where there is gold, or where no arm was kept for evaluation.
    """
    if headline_gold(summary) is not None:
        return None
    return (summary.get("win_rate") or {}).get("all")


def finished_line(table: Mapping[str, Any]) -> str:
    """How many responses of a gold table ended by themselves."""
    row = table["all"]
    return (
        f"         ended by themselves: {row['finished_before']:.0%} before, "
        f"{row['finished_after']:.0%} after"
    )


def best_of_line(figures: Mapping[str, Any], when: str) -> str:
    """Gold of what the frozen router chose among the samples, in a line.

    Beside it stand a random choice and the best one. ``when`` is ``before`` or ``after``.
    """
    ends = f"at random {figures['random']:.3f}, at most {figures['oracle']:.3f}"
    return f"best of {figures['samples']} {when} training: gold {figures['gold']:.3f}, {ends}"


def kept_line(kept: Mapping[str, Any]) -> str:
    """Which step's adapter was kept, and why, in plain words."""
    where = f"a look at {kept['prompts']} train prompts, {kept['samples']} samples each"
    early = f"; stopped early after step {kept['last_step']}" if kept["stopped_early"] else ""
    if kept["step"] == 0:
        return (
            "kept     nothing was gained: the adapter of step 0, the base model, was kept\n"
            f"         ({where}: {kept['base']:.3f} of the base model, no step above it{early})"
        )
    last = (
        ""
        if kept["step"] == kept["last_step"]
        else f", {kept['last']:.3f} of the last step, {kept['last_step']}"
    )
    return (
        f"kept     the adapter of step {kept['step']}\n"
        f"         ({where}: {kept['gold']:.3f}, against {kept['base']:.3f} of "
        f"the base model{last}{early})"
    )
