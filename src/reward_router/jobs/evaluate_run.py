"""``reward-router eval RUN_DIR [DATA]``: gold of a finished run's adapter, before and after.

The run's own held-out prompts are measured again, or any other data set with known answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from rich.console import Console

from reward_router.assemble import fitting
from reward_router.config import Config, DataConfig
from reward_router.distributed import Ranks
from reward_router.errors import InputError
from reward_router.evaluate import GoldMeasured, Measurement, compare_gold, measure_gold
from reward_router.examples import EMBEDDED_TASKS, Example, load_examples, taken_in_turn
from reward_router.grading import AnswerKind
from reward_router.headline import GOLD_FIGURE, GOLD_SAMPLED, finished_line
from reward_router.policy import Policy
from reward_router.progress import say, show_table
from reward_router.rundir import adapter_tensors, run_config
from reward_router.summary import gold_table


@dataclass(frozen=True)
class WantedData:
    """Which data a run's adapter is measured on, as the command line names it.

    Args:
        source: a file, a Hub name or ``embedded``; None: the run's own dev set.
        split: a split of it; None: ``dev`` of the embedded prompts, ``train`` of everything else.
        answer_kind: how answers are compared (``grading.AnswerKind``).
        columns: our name of a column -> the name it has in the data.
        template: a prompt template with ``{column}`` fields.
        name: the configuration of a Hub data set.
    """

    source: str | None = None
    split: str | None = None
    answer_kind: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    template: str | None = None
    name: str | None = None


def held_out(folder: Path, wanted: WantedData) -> DataConfig:
    """The data to measure a run on.

    InputError for an unknown answer kind, or where the run has no dev set of its own and none is
    named.
    """
    answer_kinds = get_args(AnswerKind)
    if wanted.answer_kind is not None and wanted.answer_kind not in answer_kinds:
        raise InputError(
            f"--answer-kind {wanted.answer_kind!r}; allowed: {', '.join(answer_kinds)}"
        )
    config = run_config(folder)
    options: dict[str, Any] = {
        "split": wanted.split,
        "answer_kind": wanted.answer_kind,
        "template": wanted.template,
    }
    if wanted.source is None:
        written = {key: value for key, value in options.items() if value is not None}
        return _own_dev_set(config, folder).model_copy(update=written)
    usual_split = "dev" if wanted.source == EMBEDDED_TASKS else "train"
    options["split"] = wanted.split or usual_split
    return DataConfig(
        source=wanted.source, name=wanted.name, columns=dict(wanted.columns), **options
    )


def _own_dev_set(config: Config, folder: Path) -> DataConfig:
    if config.eval.data is not None:
        return config.eval.data
    if config.data.source == EMBEDDED_TASKS:
        return config.data.model_copy(update={"split": "dev"})
    raise InputError(f"{folder}: the run has no dev set of its own; name a data set")


def evaluate(folder: Path, data: DataConfig, limit: int | None, console: Console) -> dict[str, Any]:
    """Print and return gold of the base model and of the run's adapter, as the run measures it.

    Args:
        folder: a finished run's directory.
        data: prompts with known answers.
        limit: at most so many prompts, evenly from the categories.
        console: where the tables are printed.

    Returns ``gold_sampled`` (``eval.samples`` a prompt) and ``gold`` (greedy), each a table of
    `evaluate.compare`, as far as the run's configuration measures them.
    """
    config = run_config(folder)
    examples = [example for example in load_examples(data) if example.verify]
    if not examples:
        raise InputError(
            f"data {data.source} has no gold: give --answer-kind, and an answer column"
        )
    policy = Policy(config.policy, config.train, config.seed)
    short_enough = fitting(examples, data, policy, lambda note: say(console, note))
    chosen = taken_in_turn(short_enough, limit)

    # The base model first: the adapter is loaded into the same weights.
    ranks = Ranks("cpu" if config.policy.device == "cpu" else "auto")
    before = _gold_by_kind(config, policy, chosen, ranks)
    policy.load_adapter(adapter_tensors(folder))
    policy.sync()
    after = _gold_by_kind(config, policy, chosen, ranks)

    tables = {}
    for kind, gold in after.items():
        table = compare_gold(before[kind], gold)
        tables[kind] = table
        how = "greedy"
        if kind == GOLD_SAMPLED:
            how = f"under sampling, {config.eval.samples} a prompt"
        show_table(console, gold_table(table, f"gold on {data.source}, {data.split}, {how}"))
        say(console, finished_line(table))
    return tables


def _gold_by_kind(
    config: Config, policy: Policy, examples: list[Example], ranks: Ranks
) -> dict[str, GoldMeasured]:
    """Gold under the policy's present weights: sampled, greedy, or both."""
    settings = config.eval
    samples_by_kind = {}
    if settings.samples:
        samples_by_kind[GOLD_SAMPLED] = settings.samples
    if settings.greedy:
        samples_by_kind[GOLD_FIGURE] = 0
    gold = {}
    for kind, samples in samples_by_kind.items():
        how = Measurement(samples, settings.max_new_tokens, settings.batch)
        gold[kind] = measure_gold(policy, examples, ranks, how)
    return gold
