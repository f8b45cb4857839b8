"""Prompts of a run with their gold: a rule, a known answer, or none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from reward_router.chat import Prompt
from reward_router.column_names import fill_template, template_fields
from reward_router.config import DataConfig, nearest_key
from reward_router.data import PromptRecord, load_prompts
from reward_router.errors import InputError
from reward_router.grading import grade
from reward_router.math_equal import check_package
from reward_router.reading import RowTally
from reward_router.tasks import SPLITS, Task, TaskSplit, generate, verify
from reward_router.types import Float

EMBEDDED_TASKS = "embedded"


@dataclass(frozen=True)
class Example:
    """One prompt; ``verify(response)`` says whether a response is right, None: nothing can tell.

    ``truth``: what it goes by, as text: two prompts that differ in it alone are different prompts.
    """

    id: str
    prompt: Prompt
    category: str
    verify: Callable[[str], bool] | None
    truth: str = ""

    def gold(self, responses: Sequence[str]) -> Float:
        """(N,) 1.0 right, 0.0 wrong, NaN where there is no gold."""
        if self.verify is None:
            return np.full(len(responses), np.nan)
        return np.array([float(self.verify(r)) for r in responses])


def load_examples(config: DataConfig, split: str | None = None) -> list[Example]:
    """The prompts that a section ``data`` names.

    InputError where there are none, for an unknown category, or for an id that stands twice.
    """
    if config.answer_kind == "math":
        check_package("data.answer_kind: math")
    if config.source == EMBEDDED_TASKS:
        _only_what_embedded_prompts_have(config)
        examples = [
            _of_task(t, config.template) for t in generate(_embedded_split(split or config.split))
        ]
    else:
        examples = _of_file(config, split)
    if config.categories is not None and config.source == EMBEDDED_TASKS:
        known = sorted({e.category for e in examples})
        for name in config.categories:
            if name not in known:
                raise InputError(
                    f"data.categories: {name!r} is no category of {config.source}; "
                    f"{nearest_key(name, known)}"
                )
        examples = [e for e in examples if e.category in config.categories]
    if config.source == EMBEDDED_TASKS and config.limit is not None:
        examples = examples[: config.limit]
    if not examples:
        raise InputError(
            f"data.source={config.source}: no prompts are left; a run needs at least one"
        )
    return examples


def _embedded_split(split: str) -> TaskSplit:
    for known in SPLITS:
        if split == known:
            return known
    raise InputError(
        f"data.split={split!r}: the embedded prompts have the splits {', '.join(SPLITS)}"
    )


def _only_what_embedded_prompts_have(config: DataConfig) -> None:
    """InputError for keys that say how to read a data set.

    The embedded prompts are made and not read, and they have rules of their own.
    """
    for key in ("columns", "answer_kind", "name", "preference"):
        if getattr(config, key):
            raise InputError(
                f"data.{key}: the embedded prompts bring their own columns and rules; "
                "leave it out, or give data.source"
            )


def _of_file(config: DataConfig, split: str | None) -> list[Example]:
    """The prompts of a file or a Hub data set.

    A prompt whose gold cannot be read is lost, as is a row that cannot be read.
    """
    tally = RowTally(config.source)
    examples = []
    for record in _records(config, split, tally):
        try:
            examples.append(_of_record(record, config))
        except InputError as error:
            tally.broken(str(error))
    tally.check()
    tally.tell()
    return examples


def _records(config: DataConfig, split: str | None, tally: RowTally) -> list[PromptRecord]:
    return load_prompts(
        config.source,
        split=split or config.split,
        columns=config.columns,
        template=config.template,
        limit=config.limit,
        config_name=config.name,
        categories=config.categories,
        tally=tally,
    )


def _of_task(task: Task, template: str | None) -> Example:
    prompt = task.prompt
    if template is not None:
        template_fields(template)
        row = {"prompt": task.prompt, "category": task.category, "id": task.id}
        place = f"prompt {task.id}"
        prompt = fill_template(template, row, {}, task.prompt, place)
    # The rule belongs to the task; a template changes only how it is put.
    return Example(task.id, prompt, task.category, partial(verify, task), repr(task))


def _of_record(record: PromptRecord, config: DataConfig) -> Example:
    if config.answer_kind is None or record.answer is None:
        return Example(record.id, record.prompt, record.category, None)
    kind = config.answer_kind
    answer = record.answer
    try:
        grade(kind, "", answer)  # gold that cannot be read is found now, not in the middle of a run
    except InputError as error:
        raise InputError(f"data {config.source}, prompt {record.id}: {error}") from None
    return Example(
        record.id,
        record.prompt,
        record.category,
        partial(_graded, kind, answer),
        f"{kind}: {answer}",
    )


def _graded(kind: str, answer: str, response: str) -> bool:
    return grade(kind, response, answer)


def taken_in_turn(examples: Sequence[Example], limit: int | None) -> list[Example]:
    """The first ``limit`` examples, taken from the categories in turn.

    So a small sample holds all of the categories.
    """
    if limit is None or limit >= len(examples):
        return list(examples)
    by_category: dict[str, list[Example]] = {}
    for example in examples:
        by_category.setdefault(example.category, []).append(example)

    # One of every category, then a second one of each, and so on.
    ordered: list[Example] = []
    for turn in range(len(examples)):
        ordered += [queue[turn] for queue in by_category.values() if turn < len(queue)]
        if len(ordered) >= limit:
            break
    return ordered[:limit]
