"""Whole data sets through a session, and judged columns back into them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reward_router.errors import InputError
from reward_router.integrations.trl.build import MEMORY, Source, build, read
from reward_router.integrations.trl.processes import Processes
from reward_router.integrations.trl.rows import prompt_of, response_of
from reward_router.session import Session
from reward_router.types import Float
from reward_router.verdicts.batch import Batch

CHUNK = 64
"""Rows that are routed and scored together."""


def session_of(source: Source | Session) -> Session:
    """A session as it is, or the one of a configuration, with its ledger in memory."""
    if isinstance(source, Session):
        return source
    return build(read(source), MEMORY, Processes())


def pairs(dataset: Any, session: Session) -> Iterator[tuple[Float, str, str]]:
    """Scores of (chosen, rejected), arm and decision of every row."""
    rows = list(rows_of(dataset, ("prompt", "chosen", "rejected")))
    prompts = [row["prompt"] for row in rows]
    yield from judged_prompts(session, prompts, [[row["chosen"], row["rejected"]] for row in rows])


def rows_of(dataset: Any, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """The rows of a data set; InputError where a column is missing or there are none."""
    missing = [name for name in names if name not in dataset.column_names]
    if missing:
        raise InputError(
            f"dataset: no column {missing[0]!r}; it has {', '.join(dataset.column_names)}, and "
            f"{', '.join(names)} are needed (trl.extract_prompt makes an implicit prompt explicit)"
        )
    if len(dataset) == 0:
        raise InputError("dataset: no rows; allowed one or more")
    yield from dataset


def judged_prompts(
    session: Session, prompts: Sequence[Any], responses: Sequence[Sequence[Any]]
) -> list[tuple[Float, str, str]]:
    """Per prompt the calibrated scores, arm and decision.

    All are judged before the first is calibrated, so that every row of an arm is set against the
    same mean.
    """
    steps = session.dispatcher.ledger.decisions(contexts=False).step
    first = int(steps.max()) + 1 if len(steps) else 0
    judged = []
    for start in range(0, len(prompts), CHUNK):
        part = range(start, min(start + CHUNK, len(prompts)))
        batch = Batch(
            step=first + start // CHUNK,
            prompts=[prompt_of(prompts[n]) for n in part],
            ids=[f"row-{n}" for n in part],
            responses=[[response_of(text) for text in responses[n]] for n in part],
        )
        judged.append(session.judge(batch))
    answers = []
    for batch in judged:
        judgements = session.judgements(batch)
        answers += [(said.calibrated, said.arm, said.decision_id) for said in judgements]
    return answers


def with_columns(dataset: Any, columns: Mapping[str, list[Any]]) -> Any:
    """A data set with these columns, in place of its own of the same names."""
    table = dataset.remove_columns([name for name in columns if name in dataset.column_names])
    for name, values in columns.items():
        table = table.add_column(name, values)
    return table
