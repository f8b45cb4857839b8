"""What TRL hands to a reward function, as rows, and the prompt groups that the rows make.

All rows of one prompt in one call are one group, wherever they stand: GRPO and RLOO put them side
by side, OnlineDPO half a batch apart, and several processes may share one group.
"""

import json
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any

from reward_router import chat, keyed
from reward_router.chat import Prompt
from reward_router.dispatch.inputs import decision_key
from reward_router.errors import InputError
from reward_router.ledger.protocol import Store


@dataclass(frozen=True)
class Row:
    """One completion with its prompt; ``gold``: 1 right, 0 wrong, NaN unknown."""

    prompt: Prompt
    response: str
    gold: float


@dataclass
class Group:
    """One prompt with the numbers of its rows among those of all processes.

    ``owner``: the process that has it judged, the one that holds its first row.
    """

    id: str
    prompt: Prompt
    owner: int
    rows: list[int] = field(default_factory=list)


def check_columns(
    prompts: Sequence[Any], completions: Sequence[Any], columns: Mapping[str, Any]
) -> None:
    """InputError where there are no prompts, or a column of another length than ``prompts``."""
    for name, rows in (("prompts", prompts), ("completions", completions)):
        if isinstance(rows, str) or not isinstance(rows, Sequence):
            raise InputError(
                f"{name}: {type(rows).__name__}; allowed a list with one text or one list of "
                "messages for each completion"
            )
    if len(prompts) == 0:
        raise InputError("prompts: none were given; allowed one or more, one for each completion")
    named = {"completions": completions, **columns}
    for name, values in named.items():
        is_column = isinstance(values, Sized) and not isinstance(values, str | bytes | Mapping)
        if is_column and len(values) != len(prompts):
            raise InputError(
                f"{name}: {len(values)} values, and prompts has {len(prompts)}; allowed one value "
                "for each prompt (TRL repeats a prompt for each of its completions)"
            )


def prompt_of(value: Any) -> Prompt:
    """A prompt of TRL: a text, or its messages."""
    return value if isinstance(value, str) else _messages(value, "prompts")


def response_of(value: Any) -> str:
    """A completion of TRL as text: it is one, or it is a list of messages."""
    if isinstance(value, str):
        return value
    turns = _messages(value, "completions")
    if len(turns) == 1:
        return chat.Reply(turns[0])
    return "\n".join(chat.text_of(turn) for turn in turns)


def _messages(value: Any, argument: str) -> list[chat.Message]:
    try:
        return chat.messages(value, argument)
    except chat.Unreadable as error:
        raise InputError(str(error)) from None


def groups_of(rows_by_rank: Sequence[Sequence[Row]]) -> list[Group]:
    """One group a distinct prompt, in the order of their first rows."""
    groups: dict[str, Group] = {}
    number = 0
    for rank, rows in enumerate(rows_by_rank):
        for row in rows:
            name = prompt_id(row.prompt)
            group = groups.setdefault(name, Group(name, row.prompt, rank))
            group.rows.append(number)
            number += 1
    return list(groups.values())


def prompt_id(prompt: Prompt) -> str:
    """A name that equal prompts share, on every machine."""
    text = prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True)
    return f"{keyed.key(0, 'data', 0, text):032x}"[:16]


def check_groups(groups: Sequence[Group], num_generations: int | None) -> None:
    """InputError where a prompt's completions do not divide into groups of ``num_generations``.

    None: where they are no runs of one length, as when some processes' rows are missing.
    """
    sizes = [len(group.rows) for group in groups]
    size = num_generations if num_generations is not None else min(sizes)
    if size < 2:
        raise InputError(
            "num_generations=1 (inferred): a prompt came with one completion, and one alone cannot "
            "be compared; allowed 2 or more completions of each prompt in a call"
        )
    for group in groups:
        if len(group.rows) % size:
            raise InputError(
                f"num_generations={num_generations or f'{size} (inferred)'}: a prompt came with "
                f"{len(group.rows)} completions, which do not divide into groups of {size}; give "
                "RoutedReward the num_generations of the trainer, and pass whole groups"
            )


def distinguish(groups: Sequence[Group], ledger: Store, step: int) -> None:
    """Give a prompt that comes again in one step (a second generation batch) a name of its own:
    another decision.
    """
    for group in groups:
        name, turn = group.id, 1
        while ledger.find([decision_key(step, group.id)]):
            turn += 1
            group.id = f"{name}#{turn}"


def in_halves(prompts: Sequence[Any]) -> bool:
    """Whether the rows are OnlineDPO's: all prompts, and then all of them again."""
    half = len(prompts) // 2
    return len(prompts) % 2 == 0 and list(prompts[:half]) == list(prompts[half:])
