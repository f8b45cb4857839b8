"""Fields of requests, and the checks of columns that no type can say.

Axes as everywhere: B prompts, N responses to each, D features of a context.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, WithJsonSchema

from reward_router import chat
from reward_router.chat import Prompt
from reward_router.dispatch.inputs import MAX_STEP
from reward_router.server.refusal import Refused
from reward_router.types import Float

MOST = 1024
"""Most prompts of a request, most responses of a prompt, and most payoffs of a request."""


def read_prompt(value: Any) -> Prompt:
    """A prompt as a template reads it; ValueError where it is none."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise ValueError(f"allowed {chat.SHAPE}, found {chat.shown(value)!r}")
    return chat.messages(value, "a prompt")


_MESSAGE = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {
        "role": {"type": "string", "enum": list(chat.ROLES)},
        "content": {"type": "string"},
    },
}
_PROMPT = {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": _MESSAGE}]}

PromptField = Annotated[Any, BeforeValidator(read_prompt), WithJsonSchema(_PROMPT)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Step = Annotated[int, Field(ge=0, lt=MAX_STEP, description="your step; draws are keyed by it")]
RequestId = Annotated[
    Name | None,
    Field(description="your name of this request: sent again, it has the same answer"),
]
Ids = Annotated[
    list[Name] | None,
    Field(max_length=MOST, description="your names of the prompts, none twice; none: 0, 1, ..."),
]
Prompts = Annotated[
    list[PromptField], Field(min_length=1, max_length=MOST, description="texts, or messages")
]
Responses = Annotated[
    list[Annotated[list[str], Field(min_length=1, max_length=MOST)]],
    Field(max_length=MOST, description="for each prompt, its responses"),
]
Rows = Annotated[
    list[list[Finite]] | None,
    Field(max_length=MOST, description="for each prompt, what the router sees; none: computed"),
]
DecisionId = Annotated[str, Field(max_length=64, description="32 hexadecimal digits")]


def check_length(field: str, count: int, prompts: int) -> None:
    """Refused where a column has not one row a prompt."""
    if count != prompts:
        raise Refused(
            422, f"{field}: {count} rows for {prompts} prompts; allowed one for each", field
        )


def names(ids: Sequence[str] | None, prompts: int) -> list[str]:
    """The prompts' names, their numbers where there are none; Refused where one occurs twice."""
    if ids is None:
        return [str(i) for i in range(prompts)]
    check_length("ids", len(ids), prompts)
    seen: set[str] = set()
    for i, name in enumerate(ids):
        if name in seen:
            raise Refused(422, f"ids.{i}: {name!r} occurs twice; allowed different ids", f"ids.{i}")
        seen.add(name)
    return list(ids)


def contexts(rows: list[list[float]] | None, prompts: int) -> Float | None:
    """(B, D); Refused where rows differ in length."""
    if rows is None:
        return None
    check_length("contexts", len(rows), prompts)
    width = len(rows[0])
    for i, row in enumerate(rows):
        if len(row) != width or not row:
            field = f"contexts.{i}"
            raise Refused(
                422, f"{field}: {len(row)} numbers; allowed one length of at least 1", field
            )
    return np.array(rows, np.float64)


def gold_row(row: Sequence[float | None], responses: int, field: str) -> Float:
    """(N,) with NaN for what is unknown; Refused for what is neither right nor wrong."""
    if len(row) != responses:
        raise Refused(
            422, f"{field}: {len(row)} values for {responses} responses; allowed one each", field
        )
    for n, value in enumerate(row):
        if value not in (None, 0.0, 1.0):
            where = f"{field}.{n}"
            raise Refused(422, f"{where}: {value!r}; allowed 1, 0 or null", where)
    return np.array([np.nan if value is None else value for value in row], np.float64)
