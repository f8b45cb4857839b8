"""``reward-router arms check CONFIG DATA``: every arm of a configuration on labelled pairs.

The table says how often an arm is right, on which scale it scores, what it costs, and how far its
scores moved since an earlier check.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from reward_router import strict_json
from reward_router.assemble import arm_specs
from reward_router.config import Config
from reward_router.data import PreferenceRecord, load_preferences
from reward_router.errors import InputError
from reward_router.progress import LiteralTable, say, show_table
from reward_router.reading import Broken, read_rows
from reward_router.rewards.check import ArmCheck, check_on_sample
from reward_router.rewards.configured import arm_pool, eval_specs
from reward_router.rewards.spec import needs_gold
from reward_router.rundir import write_atomically

PAIR_COLUMNS = ("id", "prompt", "chosen", "rejected", "source", "category")
"""Columns that a preference pair has; a configuration's mapping may hold others."""
TABLE_COLUMNS = (
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
SHOWN_TEMPLATE = 300
"""Characters of an arm's rendered prompt that are printed."""


@dataclass(frozen=True)
class LabelledPairs:
    """Which preference pairs the arms are checked on.

    Args:
        source: a file or a Hub name.
        split: of a Hub data set, or of the file's ``split`` column.
        limit: at most so many pairs; None: all.
        columns: our name of a column -> its name in the data; the rest is the configuration's.
        preference: the column that says which response is better; None: the configuration's.
        name: the configuration of a Hub data set.
    """

    source: str
    split: str = "train"
    limit: int | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    preference: str | None = None
    name: str | None = None


def check_config(
    config: Config,
    pairs: LabelledPairs,
    baseline: Path | None,
    json_out: Path | None,
    console: Console,
) -> list[ArmCheck]:
    """Score labelled pairs with every arm of a configuration (kind gold left out), and print it.

    Args:
        config: its arms, and how its data is read where ``pairs`` does not say.
        pairs: what is scored.
        baseline: the ``json_out`` of an earlier check, for the drift; None: no drift is shown.
        json_out: where the table is written as data; None: nowhere.
        console: where the table is printed.

    InputError, after the table, where an arm cannot be had as it is configured: its weights are
    missing, or one of several outputs has to be chosen.
    """
    rows = _labelled_rows(config, pairs)
    every_spec = [*arm_specs(config), *eval_specs(config.arms)]
    specs = [spec for spec in every_spec if not needs_gold(spec)]
    earlier_quantiles = _baseline(baseline)
    checks = check_on_sample(
        arm_pool(every_spec, config.pool, config.policy.device),
        rows,
        arms=[spec.name for spec in specs],
        costs={spec.name: spec.cost for spec in specs},
        baseline=earlier_quantiles,
    )
    show_table(console, _table(checks))
    for check in checks:
        _say_remarks(check, console)
    if json_out is not None:
        as_data = [asdict(check) for check in checks]
        write_atomically(json_out, strict_json.dumps(as_data, indent=1) + "\n")
    _refuse_unusable(checks)
    return checks


def _labelled_rows(config: Config, pairs: LabelledPairs) -> list[dict[str, Any]]:
    configured = _columns_in_data(config.data.columns, pairs)
    records = load_preferences(
        pairs.source,
        split=pairs.split,
        limit=pairs.limit,
        columns={**configured, **pairs.columns},
        preference=pairs.preference or config.data.preference,
        config_name=pairs.name,
    )
    return [_row(record) for record in records]


def _row(record: PreferenceRecord) -> dict[str, Any]:
    return {
        "prompt": record.prompt,
        "chosen": record.chosen,
        "rejected": record.rejected,
        "category": record.category,
    }


def _columns_in_data(columns: Mapping[str, str], pairs: LabelledPairs) -> dict[str, str]:
    """The configuration's mapping as far as these pairs have its columns.

    The mapping may be meant for the prompts that a run trains on, which have other columns.
    """
    of_pairs = {ours: theirs for ours, theirs in columns.items() if ours in PAIR_COLUMNS}
    if not of_pairs:
        return {}
    rows = read_rows(pairs.source, pairs.split, pairs.name)
    readable = (row for _, row in rows if not isinstance(row, Broken))
    first_row = next(readable, {})

    def in_data(column: str) -> bool:
        # ``message.content`` reads a field inside the column ``message``
        outermost = column.split(".")[0]
        return column in first_row or outermost in first_row

    return {ours: theirs for ours, theirs in of_pairs.items() if in_data(theirs)}


def _say_remarks(check: ArmCheck, console: Console) -> None:
    """What the table has no column for."""
    if check.error:
        some_failed = ""
        if check.failed < check.pairs:
            some_failed = f"{check.failed} of {check.pairs} rows failed, e.g. "
        say(console, f"{check.arm}: {some_failed}{check.error}")
    for remark in check.remarks:
        say(console, f"{check.arm}: {remark}")
    if check.template:
        say(console, f"{check.arm} reads {check.template[:SHOWN_TEMPLATE]!r}")


def _refuse_unusable(checks: Sequence[ArmCheck]) -> None:
    refused = [f"arm {check.arm!r}: {check.error}" for check in checks if check.refused]
    if not refused:
        return
    more = ""
    if len(refused) > 1:
        more = f" [and {len(refused) - 1} more]"
    raise InputError(refused[0] + more)


def _baseline(path: Path | None) -> dict[str, list[float]] | None:
    """Quantiles of each arm's scores at an earlier check."""
    if path is None:
        return None
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return {row["arm"]: row["quantiles"] for row in rows if None not in row["quantiles"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"--baseline {path}: not the --json of an arms check ({error})") from None


def _table(checks: Sequence[ArmCheck]) -> LiteralTable:
    table = LiteralTable(f"arms on {checks[0].pairs} labelled pairs")
    for column in TABLE_COLUMNS:
        table.column(column, justify="left" if column == "arm" else "right")
    for check in checks:
        low, _, median, _, high = check.quantiles
        table.row(
            check.arm,
            f"{check.accuracy:.2f} [{check.low:.2f}, {check.high:.2f}]",
            f"{check.ties:.0%}",
            f"{check.abstained:.0%}",
            f"{check.longer:.2f}",
            f"{low:.3g} / {median:.3g} / {high:.3g}",
            f"{1000 * check.seconds_per_call:.1f}",
            f"{check.price:.4g}",
            "-" if check.drift is None else f"{check.drift:+.2f}",
        )
    return table
