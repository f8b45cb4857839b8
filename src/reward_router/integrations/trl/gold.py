"""What is right, from a column of the data set or a verifier with the signature of TRL's reward
functions.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from reward_router.errors import InputError
from reward_router.grading import grade
from reward_router.integrations.trl.rows import Row, check_columns, prompt_of, response_of

Verifier = Callable[..., Sequence[float | None]]
GoldSource = str | Verifier | None


class Gold:
    """Gold of every completion: 1 right, 0 wrong, NaN unknown.

    Args:
        source: a column with the right answer to each prompt; or a function that is called as TRL
            calls a reward function and returns one number or None a completion; None: nothing is
            known.
        kind: how answers are read (``number``, ``yes_no``, ``letter``, ``math``, ``exact``).
    """

    def __init__(self, source: GoldSource, kind: str = "exact") -> None:
        """Nothing is graded yet. InputError for a source that is none of these."""
        if not (source is None or isinstance(source, str) or callable(source)):
            raise InputError(f"gold={source!r}; allowed the name of a column, a function, or None")
        self.source = source
        self.kind = kind

    def __call__(
        self,
        given: tuple[Sequence[Any], Sequence[Any]],
        responses: Sequence[str],
        columns: Mapping[str, Any],
    ) -> list[float]:
        """One number a completion. ``given``: prompts and completions as TRL passed them."""
        if self.source is None:
            return [math.nan] * len(responses)
        if isinstance(self.source, str):
            return self._of_column(self.source, responses, columns)
        prompts, completions = given
        returned = self.source(prompts=prompts, completions=completions, **columns)
        values = list(returned) if isinstance(returned, Iterable) else None
        if values is None or len(values) != len(responses):
            what = type(returned).__name__ if values is None else f"{len(values)} values"
            raise InputError(
                f"gold: the function returned {what} for {len(responses)} "
                "completions; allowed one number or None for each"
            )
        return [_gold_of(value) for value in values]

    def _of_column(
        self, name: str, responses: Sequence[str], columns: Mapping[str, Any]
    ) -> list[float]:
        if name not in columns:
            known = ", ".join(sorted(columns)) or "none"
            raise InputError(f"gold={name!r} is no column of the data set; its columns: {known}")
        values = []
        for response, answer in zip(responses, columns[name], strict=True):
            if answer is None:
                values.append(math.nan)
            else:
                values.append(float(grade(self.kind, response, str(answer))))
        return values


def _gold_of(value: Any) -> float:
    """What a verifier said of one completion; NaN where it does not know."""
    if value is None:
        return math.nan
    try:
        gold = float(value)
    except (TypeError, ValueError):
        gold = math.inf  # refused below, with the value as it is
    if not (math.isnan(gold) or 0.0 <= gold <= 1.0):
        raise InputError(
            f"gold: the function returned {value!r}; allowed a number from 0, wrong, to 1, right, "
            "or None"
        )
    return gold


def rows_with_gold(
    prompts: Sequence[Any], completions: Sequence[Any], columns: Mapping[str, Any], gold: Gold
) -> list[Row]:
    """What TRL passed, row by row; InputError where it does not fit together."""
    check_columns(prompts, completions, columns)
    read_prompts = [prompt_of(prompt) for prompt in prompts]
    responses = [response_of(completion) for completion in completions]
    golds = gold((prompts, completions), responses, columns)
    rows = zip(read_prompts, responses, golds, strict=True)
    return [Row(prompt, response, value) for prompt, response, value in rows]
