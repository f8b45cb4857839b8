"""The study: routers, single arms, the ensemble and two controls.

All of them take equal steps on equal prompts, with several seeds each.

Every run is a directory of its own under ``out``; finished ones are kept, unfinished ones go on, so
an interrupted study is resumed by the same command. Gold before training is the same for all and is
measured once. Two processes may share the work with ``part=(0, 2)`` and ``part=(1, 2)``.
"""

import fnmatch
import hashlib
import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from rich.console import Console

from reward_router import config as configuration
from reward_router.assemble import arm_names
from reward_router.config import Config
from reward_router.errors import InputError
from reward_router.evaluate import GoldMeasured
from reward_router.examples import load_examples
from reward_router.headline import GOLD_FIGURE, GOLD_SAMPLED
from reward_router.kinds import is_gold
from reward_router.manifest import data_digest, dev_set
from reward_router.progress import LiteralTable, heading, show_table
from reward_router.rewards.identity import weights_identity
from reward_router.rundir import make_folder, write_atomically
from reward_router.strict_json import dumps
from reward_router.types import Float

LABELS = (
    "labels: {fraction: 1.0, extra_calls: 400}"  # the gold that the other variants' payoff reads
)
LINUCB = (
    "router={name: linucb, unit: prompt, alpha: 0.05, ridge: 0.1, warmup: 1, "
    "center: true, intercept: 1.0}"
)
ON = "measured_on"
EQUAL_CALLS = "train.batches_per_iteration=20"
"""With one arm a prompt, this makes about as many calls as the committee's eight steps."""


def variants(config: Config) -> dict[str, list[str]]:
    """Name -> settings on top of the study's configuration."""
    table = {
        "default": [],
        "uniform": ["router={name: uniform, unit: prompt}"],
        "verifier (control)": [
            "arms=[{name: gold, kind: gold}]",
            "router={name: fixed, arm: gold}",
        ],
        "random labels (control)": [
            "arms=[{name: random, kind: python, path: 'reward_router.rewards.chance:Chance'}]",
            "router={name: fixed, arm: random}",
        ],
        "no prior": ["router.prior=none"],
        "default, Thompson's width": ["router.width=1"],
        "linucb": [LINUCB],
        "ensemble": ["router={name: uniform, mode: ensemble}"],
        "linucb, a quarter labelled": [LINUCB, "payoff={name: probe, fraction: 0.25}"],
        "linucb, neg_loss": [LINUCB, "payoff={name: neg_loss}"],
        "committee": [f"judge={{mode: committee, {LABELS}}}"],
        "committee, gate mean": [f"judge={{mode: committee, gate: mean, {LABELS}}}"],
        "default, equal calls": [EQUAL_CALLS],
        "ensemble, equal calls": [
            "router={name: uniform, mode: ensemble}",
            "train.batch_prompts=3",
        ],  # three of eight
        "thompson": ["router={name: thompson, unit: prompt, noise_sd: 0.4, center: true}"],
        "cut responses judged as any": ["pairs.truncated=keep"],
        "pairs drawn": ["pairs.pick=random"],
        "no warm-up, constant rate": ["train.warmup=0", "train.schedule=constant"],
        "last adapter": ["eval.keep=last"],
    }
    single = {
        f"only {arm}": [f"router={{name: fixed, arm: {json.dumps(arm)}}}"]
        for arm in arm_names(config)
    }
    return (
        table
        | single
        | {f"{name}, equal calls": [*settings, EQUAL_CALLS] for name, settings in single.items()}
    )


def study(
    settings: Sequence[str],
    out: Path,
    seeds: int,
    only: str | None,
    part: tuple[int, int],
    console: Console,
) -> dict[str, Any]:
    """Run what is missing, then tabulate all that is there; returns what ``study.json`` holds."""
    base = configuration.load(None, "study", settings)
    every_variant = variants(base)
    pattern = "*" if only is None else only
    table = {name: s for name, s in every_variant.items() if fnmatch.fnmatch(name, pattern)}
    if not table:
        raise InputError(f"--only {only!r} matches none of {', '.join(every_variant)}")

    _keep_settings(settings, out)
    # Seed by seed, so that a study that is interrupted has every variant.
    jobs = [(name, seed) for seed, name in itertools.product(range(seeds), table)]
    number, parts = part
    for name, seed in jobs[number::parts]:
        _run_one(name, [*settings, *table[name], f"seed={seed}"], out, console)
    return tabulate_gold(out, console)


def _keep_settings(settings: Sequence[str], out: Path) -> None:
    """Note the settings that all runs of ``out`` share; InputError where it has others.

    Runs of other settings are another study: one table of both would compare what does not compare.
    """
    kept = out / "settings.json"
    if kept.is_file():
        before = json.loads(kept.read_text(encoding="utf-8"))
        if sorted(before) != sorted(settings):
            there = " ".join(f"--set {setting}" for setting in before) or "no --set"
            raise InputError(f"--out {out} holds a study with {there}; give another --out")
        return
    make_folder(out)
    write_atomically(kept, dumps(list(settings)) + "\n")


def _run_one(name: str, settings: Sequence[str], out: Path, console: Console) -> None:
    config = configuration.load(None, "study", settings)
    folder = out / folder_name(name) / f"seed-{config.seed}"
    # Finished in an earlier call of the same command.
    if not (folder / "summary.json").is_file():
        heading(console, f"{name}, seed {config.seed}")
        train_and_share(config, folder, out / "before.json", console)
    # Last, so that the table counts no run that was cut.
    marker = dumps({"variant": name, "seed": config.seed})
    write_atomically(folder / "variant.json", marker)


def train_and_share(config: Config, folder: Path, before: Path, console: Console) -> dict[str, Any]:
    """Train into a folder, or go on there; gold before training is shared through ``before``.

    The first run that measures the base model saves it for all others.
    """
    from reward_router.run import train

    resume = (folder / "config.yaml").is_file()
    measured_on = _measured_on(config)
    known = _before(before, measured_on)
    summary = train(config, folder, resume=resume, console=console, before=known)

    # Kinds of gold that nobody had measured yet are kept for the runs that follow.
    gold_rows = summary["gold_rows"]
    new_kinds = gold_rows.keys() - (known or {}).keys()
    if new_kinds:
        first = {kind: rows["before"] for kind, rows in gold_rows.items()}
        model = summary["manifest"]["model"]
        write_atomically(before, dumps({**first, "model": model, ON: measured_on}))
    return summary


def folder_name(variant: str) -> str:
    """A folder for a variant.

    It is one level deep whatever the arms are called, and short enough for any file system.

    >>> folder_name("linucb, equal calls"), folder_name("only judge/v2")
    ('linucb-equal-calls', 'only-judge%2Fv2')
    """
    plain = variant.replace(" ", "-")
    for mark in (",", "(", ")"):
        plain = plain.replace(mark, "")

    characters = []
    for character in plain:
        allowed = character.isprintable() and character not in "/\\%"
        characters.append(character if allowed else quote(character, safe="", errors="replace"))
    name = "".join(characters)

    # Most file systems take 255 bytes, and a name that begins with a dot is hidden.
    if len(name.encode()) <= 200 and not name.startswith("."):
        return name
    digest = hashlib.blake2b(variant.encode(errors="replace"), digest_size=8).hexdigest()
    return f"{name.strip('.')[:40]}-{digest}"


def _measured_on(config: Config) -> dict[str, str | None]:
    """What gold before training depends on beside the options: prompts and weights."""
    held_out = dev_set(config)
    prompts = None if held_out is None else data_digest(load_examples(held_out))
    return {"held_out": prompts, "policy": weights_identity(config.policy.model)}


def _before(path: Path, measured_on: Mapping[str, Any]) -> dict[str, GoldMeasured] | None:
    """What an earlier run measured of the base model, by kind of gold.

    None where nothing was, or it was measured on other prompts or weights.
    """
    if not path.is_file():
        return None
    kinds = json.loads(path.read_text(encoding="utf-8"))
    # Files of earlier versions do not say it.
    if kinds.get(ON, measured_on) != measured_on:
        return None
    return {kind: GoldMeasured(**rows) for kind, rows in kinds.items() if kind not in ("model", ON)}


def tabulate_gold(out: Path, console: Console) -> dict[str, Any]:
    """Gold change of each variant over its seeds, with 95 % intervals.

    It is taken against the base model and against uniform.
    """
    # The marker is written last: a run without one was interrupted.
    runs: dict[str, dict[int, dict[str, Any]]] = {}
    for marker in sorted(out.glob("*/seed-*/variant.json")):
        who = json.loads(marker.read_text(encoding="utf-8"))
        summary_file = marker.with_name("summary.json")
        summary = json.loads(summary_file.read_text(encoding="utf-8"))
        of_variant = runs.setdefault(who["variant"], {})
        of_variant[who["seed"]] = summary

    changes = {name: changes_SP(by_seed) for name, by_seed in runs.items()}
    rows = {name: row(by_seed, changes[name], runs, changes) for name, by_seed in runs.items()}
    best_first = sorted(rows.items(), key=lambda item: -item[1]["after"])
    result = {"variants": dict(best_first)}

    text = dumps(result, indent=2)
    write_atomically(out / "study.json", text + "\n")
    show_table(console, _table(result["variants"]))
    return result


def changes_SP(by_seed: Mapping[int, dict[str, Any]]) -> Float:
    """(S, P) gold after minus before, per seed and held-out prompt.

    It is sampled gold where every seed has it, else greedy gold.
    """
    kind = _kind(by_seed.values())
    rows = [s["gold_rows"][kind] for _, s in sorted(by_seed.items())]
    return np.array([np.subtract(r["after"]["right"], r["before"]["right"]) for r in rows])


def _kind(summaries: Collection[Mapping[str, Any]]) -> str:
    """The kind of gold that all of these runs measured: sampled where they can all show it."""
    return GOLD_SAMPLED if all(GOLD_SAMPLED in s["gold_rows"] for s in summaries) else GOLD_FIGURE


def row(
    by_seed: Mapping[int, dict[str, Any]],
    change_SP: Float,
    runs: Mapping[str, Mapping[int, dict[str, Any]]],
    changes: Mapping[str, Float],
) -> dict[str, Any]:
    """One line of the study's table."""
    summaries = list(by_seed.values())
    kind = _kind(summaries)
    gold = [summary[kind]["all"] for summary in summaries]
    seconds = [sum(summary["seconds"].values()) for summary in summaries]
    # Gold as the payoff goes with gold by itself: such a correlation says nothing.
    correlations = []
    for summary in summaries:
        pays_gold = is_gold(summary["payoff"])
        correlations.append(None if pays_gold else summary["payoff_gold"]["r"])
    result = {
        "seeds": len(summaries),
        "kind": kind,
        "before": float(np.mean([of_run["before"] for of_run in gold])),
        "after": float(np.mean([of_run["after"] for of_run in gold])),
        **_named("change", mean_interval(change_SP)),
        "calls": float(np.mean([summary["calls"]["made"] for summary in summaries])),
        "seconds": float(np.mean(seconds)),
        "finished_after": float(np.mean([of_run["finished_after"] for of_run in gold])),
        "payoff_gold_r": _mean(correlations),
        "shares": _mean_shares(summaries),
    }

    if "uniform" in runs and _kind(runs["uniform"].values()) == kind:
        common = sorted(by_seed.keys() & runs["uniform"].keys())
        # Rows of both arrays are in the order of their seeds; equal seeds are set against another.
        own_seeds = sorted(by_seed)
        uniform_seeds = sorted(runs["uniform"])
        own_SP = change_SP[[own_seeds.index(seed) for seed in common]]
        uniform_SP = changes["uniform"][[uniform_seeds.index(seed) for seed in common]]
        result |= _named("vs_uniform", mean_interval(own_SP - uniform_SP))
    return result


def _mean_shares(summaries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Each arm's share of decisions, the mean over seeds."""
    shares = {}
    for arm in summaries[0]["arms"]:
        shares[arm] = float(np.mean([summary["arms"][arm]["share"] for summary in summaries]))
    return shares


def mean_interval(value_SP: Float) -> tuple[float, float, float]:
    """Mean of (seeds, prompts) with a 95 % interval over both: t sqrt(SE_seeds^2 + SE_prompts^2).

    The degrees of freedom are Satterthwaite's.
    One seed: prompts only (the interval then says nothing of training seeds). No seed: NaN.
    """
    from scipy.special import stdtrit

    if value_SP.size == 0:
        return (float("nan"),) * 3
    n_seeds, n_prompts = value_SP.shape
    mean = float(value_SP.mean())

    # Squared standard errors of the mean, over prompts and over seeds.
    prompts = 0.0
    if n_prompts > 1:
        prompts = value_SP.mean(axis=0).var(ddof=1) / n_prompts
    seeds = 0.0
    if n_seeds > 1:
        seeds = value_SP.mean(axis=1).var(ddof=1) / n_seeds

    # Satterthwaite: nu = (v1 + v2)^2 / (v1^2 / nu1 + v2^2 / nu2)
    spread = prompts**2 / max(n_prompts - 1, 1) + seeds**2 / max(n_seeds - 1, 1)
    freedom = (prompts + seeds) ** 2 / max(spread, 1e-300)
    quantile = float(stdtrit(max(freedom, 1.0), 0.975))
    half = quantile * float(np.sqrt(prompts + seeds))
    return mean, mean - half, mean + half


def _named(name: str, interval: tuple[float, float, float]) -> dict[str, Any]:
    return {name: interval[0], f"{name}_ci95": list(interval[1:])}


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [v for v in values if v is not None]
    return float(np.mean(numbers)) if numbers else None


def _table(rows: Mapping[str, dict[str, Any]]) -> LiteralTable:
    kinds = {r["kind"] for r in rows.values()}
    how = {GOLD_SAMPLED: "under sampling", GOLD_FIGURE: "greedy"}
    title = (
        f"gold on held-out prompts, {' or '.join(how[kind] for kind in sorted(kinds))}"
        if kinds
        else "no runs"
    )
    table = LiteralTable(title)
    for column in (
        "variant",
        "seeds",
        "before",
        "after",
        "change [95 %]",
        "against uniform [95 %]",
        "calls",
        "payoff~gold",
    ):
        table.column(column, justify="left" if column == "variant" else "right")
    for name, r in rows.items():
        r_gold = "-" if r["payoff_gold_r"] is None else f"{r['payoff_gold_r']:+.2f}"
        against = (
            _interval_text(r, "vs_uniform") if "vs_uniform" in r and name != "uniform" else "-"
        )
        table.row(
            name,
            str(r["seeds"]),
            f"{r['before']:.3f}",
            f"{r['after']:.3f}",
            _interval_text(r, "change"),
            against,
            f"{r['calls']:.0f}",
            r_gold,
        )
    return table


def _interval_text(r: Mapping[str, Any], name: str) -> str:
    low, high = r[f"{name}_ci95"]
    return f"{r[name]:+.3f} [{low:+.3f}, {high:+.3f}]"
