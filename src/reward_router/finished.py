"""What is done with a run or a configuration outside training: measure an adapter, merge it, check the arms.

Each function is one command of the command line. Left out: serving the merged model (vLLM and transformers do that).
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from rich.console import Console

from reward_router import config as configuration
from reward_router import strict_json
from reward_router.assemble import arm_specs, fitting
from reward_router.config import Config, DataConfig
from reward_router.data import load_preferences
from reward_router.distributed import Ranks
from reward_router.errors import InputError
from reward_router.evaluate import Gold, compare, measure
from reward_router.examples import EMBEDDED, balanced, load_examples
from reward_router.grading import AnswerKind
from reward_router.headline import GOLD, GOLD_SAMPLED, finished_line
from reward_router.policy import Policy, attach_adapters
from reward_router.progress import Table, say, show_table
from reward_router.reading import Broken, read_rows
from reward_router.rewards.check import ArmCheck, check_arms
from reward_router.rewards.configured import arm_pool, eval_specs
from reward_router.rewards.loading import load_causal_lm, load_tokenizer
from reward_router.rewards.spec import needs_gold
from reward_router.rundir import RunDir, explained, write_atomically
from reward_router.summary import gold_table

_PAIR_COLUMNS = ("id", "prompt", "chosen", "rejected", "source", "category")


def run_config(folder: Path) -> Config:
    """The configuration of a finished run; InputError where there is none."""
    run = RunDir(folder)
    if not (run.adapter / "adapter_model.safetensors").is_file() or not run.summary.is_file():
        raise InputError(
            f"{folder}: no finished run (summary.json and policy/ are expected); train --resume finishes one"
        )
    return configuration.load(folder / "config.yaml")


def held_out(
    folder: Path,
    source: str | None,
    *,
    split: str | None = None,
    answer_kind: str | None = None,
    columns: Sequence[str] = (),
    template: str | None = None,
    name: str | None = None,
) -> DataConfig:
    """The data to measure a run on: its own dev set where ``source`` is None, else a file, a Hub name or ``embedded``.

    ``columns``: OURS=THEIRS. InputError for an unknown answer kind, or an option without a data set.
    """
    given: dict[str, Any] = {"split": split, "answer_kind": answer_kind, "template": template}
    mapping = column_mapping(columns)
    if answer_kind is not None and answer_kind not in get_args(AnswerKind):
        raise InputError(
            f"--answer-kind {answer_kind!r}; allowed: {', '.join(get_args(AnswerKind))}"
        )
    config = run_config(folder)
    if source is None:
        dev = (
            config.data.model_copy(update={"split": "dev"})
            if config.data.source == EMBEDDED
            else None
        )
        own = config.eval.data or dev
        if own is None:
            raise InputError(f"{folder}: the run has no dev set of its own; name a data set")
        return own.model_copy(update={k: v for k, v in given.items() if v is not None})
    given["split"] = split or ("dev" if source == EMBEDDED else "train")
    return DataConfig(source=source, name=name, columns=mapping, **given)


def column_mapping(columns: Sequence[str]) -> dict[str, str]:
    """``OURS=THEIRS`` words as a mapping; InputError for a word of another form."""
    mapping = dict(pair.partition("=")[::2] for pair in columns)
    if not all(mapping.values()):
        raise InputError(f"--column {columns[0]!r}: write it as OURS=THEIRS, e.g. prompt=question")
    return mapping


def evaluate(folder: Path, data: DataConfig, limit: int | None, console: Console) -> dict[str, Any]:
    """Gold of the base model and of the run's adapter on ``data``, as the run measured its own, printed and returned.

    Keys ``gold_sampled`` (``eval.samples`` a prompt) and ``gold`` (greedy), each a table of `evaluate.compare`.
    """
    config = run_config(folder)
    examples = [e for e in load_examples(data) if e.verify]
    if not examples:
        raise InputError(
            f"data {data.source} has no gold: give --answer-kind, and an answer column"
        )
    policy = Policy(config.policy, config.train, config.seed)
    chosen = balanced(fitting(examples, data, policy, lambda note: say(console, note)), limit)
    ranks, settings = Ranks("cpu" if config.policy.device == "cpu" else "auto"), config.eval
    kinds = {GOLD_SAMPLED: settings.samples} if settings.samples else {}
    kinds |= {GOLD: 0} if settings.greedy else {}

    def gold() -> dict[str, Gold]:
        return {
            kind: measure(
                policy, chosen, ranks, settings.max_new_tokens, settings.batch, samples=samples
            )
            for kind, samples in kinds.items()
        }

    before = gold()
    policy.load_adapter(adapter_tensors(folder))
    policy.sync()
    tables = {kind: compare(before[kind], after) for kind, after in gold().items()}
    for kind, table in tables.items():
        how = f"under sampling, {settings.samples} a prompt" if kind == GOLD_SAMPLED else "greedy"
        show_table(console, gold_table(table, f"gold on {data.source}, {data.split}, {how}"))
        say(console, finished_line(table))
    return tables


def adapter_tensors(folder: Path) -> dict[str, Any]:
    """The tensors of a run's adapter."""
    from safetensors.torch import load_file

    tensors: dict[str, Any] = load_file(RunDir(folder).adapter / "adapter_model.safetensors")
    return tensors


def export(folder: Path, out: Path) -> Path:
    """Write base weights + adapter into the new directory ``out``, whole or not at all; returns ``out``."""
    config = run_config(folder)
    if out.exists():
        raise InputError(f"{out} exists already; give a directory that does not")
    policy = config.policy
    base = load_causal_lm(
        policy.model, dtype=policy.dtype, device="cpu", trust_remote_code=policy.trust_remote_code
    )
    model = attach_adapters(
        base, config.train.model_copy(update={"gradient_checkpointing": False}), config.seed
    )
    named = {
        re.sub(r"(\.lora_[AB])\.", r"\1.policy.", k): v for k, v in adapter_tensors(folder).items()
    }
    if model.load_state_dict(named, strict=False).unexpected_keys:
        raise InputError(f"{folder}: its adapter does not belong to {policy.model}")
    merged = model.merge_and_unload(adapter_names=["policy"])
    partial = out.with_name(out.name + ".partial")
    with explained(out):
        shutil.rmtree(partial, ignore_errors=True)
        merged.save_pretrained(partial)
        load_tokenizer(policy.model, trust_remote_code=policy.trust_remote_code).save_pretrained(
            partial
        )
        partial.rename(out)
    return out


def check_config(
    config: Config,
    source: str,
    split: str,
    limit: int | None,
    baseline: Path | None,
    json_out: Path | None,
    console: Console,
    *,
    columns: Mapping[str, str] | None = None,
    preference: str | None = None,
    name: str | None = None,
) -> list[ArmCheck]:
    """Every arm of a configuration (kind gold left out) on labelled pairs: prints `rewards.check.check_arms`'s table.

    ``columns`` and ``preference`` say how the pairs are read; what they leave out is taken from the configuration's data section.
    InputError, after the table, where an arm cannot be had as it is configured: weights that are missing, an output to be chosen.
    """
    records = load_preferences(
        source,
        split=split,
        limit=limit,
        columns={**_columns_there(config.data.columns, source, split, name), **(columns or {})},
        preference=preference or config.data.preference,
        config_name=name,
    )
    rows = [
        {"prompt": r.prompt, "chosen": r.chosen, "rejected": r.rejected, "category": r.category}
        for r in records
    ]
    every = [*arm_specs(config), *eval_specs(config.arms)]
    specs = [spec for spec in every if not needs_gold(spec)]
    before = _baseline(baseline)
    names, costs = [s.name for s in specs], {s.name: s.cost for s in specs}
    checks = check_arms(
        arm_pool(every, config.pool, config.policy.device),
        rows,
        arms=names,
        costs=costs,
        baseline=before,
    )
    show_table(console, _checks(checks))
    for check in checks:
        if check.error:
            some = (
                f"{check.failed} of {check.pairs} rows failed, e.g. "
                if check.failed < check.pairs
                else ""
            )
            say(console, f"{check.arm}: {some}{check.error}")
        for remark in check.remarks:
            say(console, f"{check.arm}: {remark}")
        if check.template:
            say(console, f"{check.arm} reads {check.template[:300]!r}")
    if json_out is not None:
        found = [asdict(check) for check in checks]
        write_atomically(json_out, strict_json.dumps(found, indent=1) + "\n")
    refused = [f"arm {check.arm!r}: {check.error}" for check in checks if check.refused]
    if refused:
        more = f" [and {len(refused) - 1} more]" if len(refused) > 1 else ""
        raise InputError(refused[0] + more)
    return checks


def _columns_there(
    columns: Mapping[str, str], source: str, split: str, name: str | None
) -> dict[str, str]:
    """The configuration's mapping as far as these pairs have its columns: it may speak of the prompts a run trains on."""
    known = {ours: theirs for ours, theirs in columns.items() if ours in _PAIR_COLUMNS}
    if not known:
        return {}
    first = next(
        (row for _, row in read_rows(source, split, name) if not isinstance(row, Broken)), {}
    )
    return {
        ours: theirs
        for ours, theirs in known.items()
        if theirs in first or theirs.split(".")[0] in first
    }


def _baseline(path: Path | None) -> dict[str, list[float]] | None:
    if path is None:
        return None
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return {row["arm"]: row["quantiles"] for row in rows if None not in row["quantiles"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"--baseline {path}: not the --json of an arms check ({error})") from None


def _checks(checks: Sequence[ArmCheck]) -> Table:
    table = Table(f"arms on {checks[0].pairs} labelled pairs")
    columns = (
        "arm",
        "accuracy [95 %]",
        "ties",
        "abstained",
        "likes longer",
        "5 % / median / 95 %",
        "ms a call",
        "price",
        "drift",
    )
    for column in columns:
        table.column(column, justify="left" if column == "arm" else "right")
    for c in checks:
        low, middle, high = c.quantiles[0], c.quantiles[2], c.quantiles[4]
        table.row(
            c.arm, f"{c.accuracy:.2f} [{c.low:.2f}, {c.high:.2f}]", f"{c.ties:.0%}", f"{c.abstained:.0%}", f"{c.longer:.2f}",
            f"{low:.3g} / {middle:.3g} / {high:.3g}", f"{1000 * c.seconds_per_call:.1f}", f"{c.price:.4g}",
            "-" if c.drift is None else f"{c.drift:+.2f}",
        )  # fmt: skip
    return table
