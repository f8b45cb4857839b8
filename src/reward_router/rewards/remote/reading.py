"""Texts into requests and values out of answers, for users' own formats.

A format is a request template and a path into JSON.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from reward_router.chat import Prompt
from reward_router.errors import InputError
from reward_router.rewards.remote.arm import UnreadableAnswer

_PLACE = re.compile(r"\{(\w+)\}")
_STEP = re.compile(r"\.?([A-Za-z_][\w-]*)|\[(\d+|-1|\*)\]")


def fill(template: Any, values: Mapping[str, Any]) -> Any:
    """A request template with its ``{name}`` replaced.

    They are replaced once: what a value holds is never replaced again. A text that is one place
    alone becomes the value itself (a list stays a list).

    >>> template = {"inputs": "{responses}", "note": "for {prompt}"}
    >>> fill(template, {"responses": ["a", "b"], "prompt": "{responses}"})
    {'inputs': ['a', 'b'], 'note': 'for {responses}'}
    """
    if isinstance(template, Mapping):
        return {key: fill(value, values) for key, value in template.items()}
    if isinstance(template, list | tuple):
        return [fill(value, values) for value in template]
    if not isinstance(template, str):
        return template
    alone = _PLACE.fullmatch(template)
    if alone and alone[1] in values:
        return values[alone[1]]
    return _PLACE.sub(lambda place: str(values.get(place[1], place[0])), template)


def places(template: Any) -> set[str]:
    """The names that a template has places for.

    >>> sorted(places({"a": ["{prompt}", "to {response}"]}))
    ['prompt', 'response']
    """
    if isinstance(template, str):
        return set(_PLACE.findall(template))
    values = template
    if isinstance(template, Mapping):
        values = list(template.values())
    names: set[str] = set()
    if isinstance(values, list | tuple):
        for value in values:
            names |= places(value)
    return names


def parse_path(path: str, what: str) -> list[str | int]:
    """The steps of a path such as ``data[*].score`` or ``$.results[0].value``.

    InputError for what is no path.

    >>> parse_path("$.data[*].score", "answer")
    ['data', '*', 'score']
    """
    text = path.removeprefix("$")
    steps: list[str | int] = []
    at = 0
    while at < len(text):
        step = _STEP.match(text, at)
        if step is None:
            raise InputError(
                f"{what}={path!r}: no path at character {at + 1}; write it as data[*].score"
            )
        steps.append(step[1] or ("*" if step[2] == "*" else int(step[2])))
        at = step.end()
    return steps


def follow(value: Any, steps: Sequence[str | int]) -> Any:
    """What lies at a path; `UnreadableAnswer` names the step that leads nowhere.

    >>> follow({"data": [{"score": 1}, {"score": 2}]}, ["data", "*", "score"])
    [1, 2]
    """
    for number, step in enumerate(steps):
        if step == "*":
            if not isinstance(value, list):
                raise UnreadableAnswer(f"[*] needs a list, found {type(value).__name__}")
            return [follow(each, steps[number + 1 :]) for each in value]
        if isinstance(step, int):
            if not isinstance(value, list) or not -len(value) <= step < len(value):
                raise UnreadableAnswer(f"there is no item [{step}]")
            value = value[step]
        else:
            if not isinstance(value, Mapping) or step not in value:
                raise UnreadableAnswer(f"there is no key {step!r}")
            value = value[step]
    return value


def plain(prompt: Prompt) -> str:
    """A prompt as text: a single message's content, else every message after its role.

    >>> plain([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])
    'system: Be brief.\\n\\nuser: Hi'
    """
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1:
        return str(prompt[0]["content"])
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in prompt)
