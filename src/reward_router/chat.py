"""Chat messages as people write them, in the one form that templates read.

Taken: a list of messages, one message alone, both also as JSON text; ``role``/``content`` or
``from``/``value``; content as parts of text; the roles of other projects (human, gpt, model,
developer, ...). A part that is no text is refused by name: an arm would read a hole in its place.
Left out: reasoning kept beside the content.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from reward_router.reading.json_rows import half_surrogate

Message = dict[str, Any]
Prompt = str | Sequence[Mapping[str, Any]]
"""One user message as text, or messages with ``role`` and ``content``, and perhaps tool calls."""
"""``role`` and ``content``, both text.

``tool_calls``, ``name`` and ``tool_call_id`` stand beside them where the data has them.
"""

ROLES = ("system", "user", "assistant", "tool")
_ALIASES = {
    "human": "user",
    "prompter": "user",
    "customer": "user",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "ai": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "developer": "system",
    "function": "tool",
    "function_response": "tool",
    "tool_response": "tool",
    "observation": "tool",
    "ipython": "tool",
}
_CALLING = ("function_call", "tool_call")
_TEXT_PARTS = ("text", "input_text", "output_text", "refusal")
MEDIA = ("images", "image", "videos", "video", "audios", "audio")
"""Columns whose content no arm here can read."""
SHAPE = f"a text or a list of {{role: {'|'.join(ROLES)}, content: text}}"
_SHOWN = 60


class Unreadable(ValueError):
    """Why something is no message; the caller knows the place."""


class Reply(str):
    """A response as text, with the ``message`` that an arm with a chat template renders.

    Its text is the content and, behind it, the tool calls as JSON: what an arm without a template
    reads.
    """

    message: Message

    def __new__(cls, message: Message) -> "Reply":
        """The text of ``message``."""
        made = super().__new__(cls, text_of(message))
        made.message = message
        return made


def text_of(message: Mapping[str, Any]) -> str:
    """A message's content, its tool calls behind it as JSON text.

    >>> calls = [{"function": {"name": "f", "arguments": {"x": 1}}}]
    >>> text_of({"role": "assistant", "content": "", "tool_calls": calls})
    '{"name": "f", "arguments": {"x": 1}}'
    """
    calls = message.get("tool_calls") or ()
    texts = [json.dumps(call["function"], ensure_ascii=False) for call in calls]
    # A turn that only calls tools has no content to put in front.
    if message["content"] or not texts:
        texts.insert(0, message["content"])
    return "\n".join(texts)


def messages(value: Any, what: str) -> list[Message]:
    """The messages that ``value`` is, at least one; `Unreadable` says what is wrong with ``what``.

    >>> messages('[{"from": "human", "value": "Hi"}]', "prompt")
    [{'role': 'user', 'content': 'Hi'}]
    """
    turns = parsed(value)
    if _is_message(turns):
        turns = [turns]
    if not _is_list(turns) or not turns:
        raise Unreadable(f"{what} must be {SHAPE}, found {shown(turns)!r}")
    return [_message(turn, what) for turn in turns]


def is_messages(value: Any) -> bool:
    """Whether ``value`` is a message, a list that begins with one, or either as JSON text."""
    turns = parsed(value)
    first = turns[0] if _is_list(turns) and turns else turns
    return _is_message(first)


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and ("role" in value or "from" in value)


def parsed(value: Any) -> Any:
    """Messages that were given as JSON text as objects; everything else as it is.

    >>> parsed('{"role": "user", "content": "Hi"}'), parsed("[1, 2]")
    ({'role': 'user', 'content': 'Hi'}, '[1, 2]')
    """
    # Cheap tests first: nearly all prompts are plain text.
    begins_like_json = isinstance(value, str) and value[:1] in "[{ \n"
    if not begins_like_json:
        return value
    names_a_speaker = '"role"' in value or '"from"' in value
    if not names_a_speaker:
        return value

    turns = _json(value)
    first = turns[0] if isinstance(turns, list) and turns else turns
    return turns if _is_message(first) else value


def _message(turn: Any, what: str) -> Message:
    if not isinstance(turn, Mapping):
        raise Unreadable(f"{what} must be {SHAPE}, found the turn {shown(turn)!r}")
    # `or` would not do: an empty role is wrong, and not a reason to look at `from`.
    speaker = turn.get("role") if turn.get("role") is not None else turn.get("from")
    name = speaker.strip().casefold() if isinstance(speaker, str) else ""
    role = _ALIASES.get(name, name)
    if role not in ROLES:
        raise Unreadable(f"{what} must be {SHAPE}, found the turn {shown(turn)!r}")
    _no_media(turn, what)
    content = turn.get("content") if turn.get("content") is not None else turn.get("value")
    calls = _calls(turn.get("tool_calls") or turn.get("function_call"), what)
    # Such a turn holds its call in the place of the content.
    if name in _CALLING and not calls:
        calls = _calls(content, what)
        content = None
    if content is None and not calls:
        raise Unreadable(f"{what} must be {SHAPE}, found the turn {shown(turn)!r}")
    message: Message = {
        "role": role,
        "content": "" if content is None else content_text(content, what),
    }
    if calls:
        message["tool_calls"] = calls
    for key in ("name", "tool_call_id"):
        if isinstance(turn.get(key), str):
            message[key] = turn[key]
    return message


def content_text(content: Any, what: str) -> str:
    """A message's content as text; `Unreadable` names a part that is none.

    >>> parts = [{"type": "text", "text": "Name "}, {"type": "text", "text": "a city"}]
    >>> content_text(parts, "prompt")
    'Name a city'
    """
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        return _part(content, what)
    if _is_list(content):
        return "".join(_part(part, what) for part in content)
    raise Unreadable(f"{what} must be {SHAPE}, found the content {shown(content)!r}")


def _part(part: Any, what: str) -> str:
    if isinstance(part, str):
        return part
    kind = None
    text = None
    if isinstance(part, Mapping):
        kind = part.get("type")
        text = part.get("text", part.get("refusal"))
    is_text = kind is None or kind in _TEXT_PARTS
    if is_text and isinstance(text, str):
        return text

    # Named and refused, because an arm would read a hole in its place.
    named = f"of type {kind!r}" if isinstance(kind, str) else f"{shown(part)!r}"
    raise Unreadable(f"{what} has a part {named}, which no arm here can read")


def no_media(row: Mapping[str, Any]) -> None:
    """`Unreadable` where a row has images, videos or sound: its text alone is another question."""
    _no_media(row, "the row")


def _no_media(holder: Mapping[str, Any], what: str) -> None:
    for column in MEDIA:
        value = holder.get(column)
        # Data sets with some images have an empty cell in the other rows. Compared one by one,
        # because a value may be unhashable, and 0 may be an image's number.
        is_absent = value is None or value is False
        is_empty = value == "" or value == [] or value == "[]" or value == {}
        if not is_absent and not is_empty:
            raise Unreadable(f"{what} has {column}, which no arm here can read")


def _calls(value: Any, what: str) -> list[dict[str, Any]]:
    """Tool calls as templates read them: {type: function, function: {name, arguments}}."""
    calls = _json(value) if isinstance(value, str) else value
    if calls is None or calls == [] or calls == "":
        return []
    # The older form, `function_call`, holds one call alone.
    calls = [calls] if isinstance(calls, Mapping) else calls
    if not _is_list(calls):
        raise Unreadable(f"{what} has tool calls that are none: {shown(value)!r}")
    return [_call(call, what) for call in calls]


def _call(call: Any, what: str) -> dict[str, Any]:
    function = None
    if isinstance(call, Mapping):
        function = call.get("function", call)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise Unreadable(f"{what} has a tool call without a name: {shown(call)!r}")

    # OpenAI writes arguments as JSON text, templates read them as an object.
    arguments = function.get("arguments", function.get("parameters"))
    if isinstance(arguments, str):
        arguments = _json(arguments)
    made: dict[str, Any] = {
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments or {}},
    }
    if isinstance(call.get("id"), str):
        made["id"] = call["id"]
    return made


def _json(text: str) -> Any:
    """What the text says as JSON, else the text itself.

    `Unreadable` where an escape in it is half a surrogate pair.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if "\\u" in text and half_surrogate(value) is not None:
        raise Unreadable("JSON text holds half a surrogate pair (a cut emoji?), which is no text")
    return value


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def shown(value: Any) -> str:
    """The start of a value, for a message."""
    # Python refuses to write an integer of thousands of digits.
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**_SHOWN:
        return f"an integer of {value.bit_length()} bits"
    try:
        return str(value)[:_SHOWN]
    except (ValueError, RecursionError):
        return type(value).__name__
