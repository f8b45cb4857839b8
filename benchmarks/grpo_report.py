"""The tables of `grpo_study.py`: gold by variant, and routed against each other one."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reward_router.jobs.study import mean_interval


def report(out: Path, variants: Sequence[str]) -> None:
    """The table of all runs in ``out``, in Markdown, in the order of ``variants``."""
    runs: dict[str, dict[int, Any]] = {}
    for file in sorted(out.glob("*-[0-9].json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        runs.setdefault(result["variant"], {})[result["seed"]] = result
    print(
        "| who judges | seeds | gold before | after | change | seed by seed | calls a completion |"
    )
    print("|---|---|---|---|---|---|---|")
    for variant in [name for name in variants if name in runs]:
        by_seed = runs[variant]
        change_SP = changes(by_seed)
        mean, low, high = mean_interval(change_SP)
        each = " ".join(f"{row.mean():+.3f}" for row in change_SP)
        before = np.mean([r["before"]["right"] for r in by_seed.values()])
        calls = np.mean([r["calls"] / r["completions"] for r in by_seed.values()])
        print(
            f"| {variant} | {len(by_seed)} | {before:.3f} | {before + mean:.3f} | "
            f"{mean:+.3f} [{low:+.3f}, {high:+.3f}] | {each} | {calls:.2f} |"
        )
    if "routed" in runs:
        against(runs)


def against(runs: dict[str, dict[int, Any]]) -> None:
    """Routed less each other variant, on the seeds that both have."""
    print("\n| routed less | seeds | difference |\n|---|---|---|")
    for variant in [name for name in runs if name != "routed"]:
        common = sorted(runs["routed"].keys() & runs[variant].keys())
        if not common:
            continue
        routed_SP = changes({seed: runs["routed"][seed] for seed in common})
        other_SP = changes({seed: runs[variant][seed] for seed in common})
        mean, low, high = mean_interval(routed_SP - other_SP)
        print(f"| {variant} | {len(common)} | {mean:+.3f} [{low:+.3f}, {high:+.3f}] |")


def changes(by_seed: dict[int, Any]) -> Any:
    """(S, P) gold after less before, by seed and held-out prompt."""
    rows = [by_seed[seed] for seed in sorted(by_seed)]
    return np.array([np.subtract(r["after"]["right"], r["before"]["right"]) for r in rows])
