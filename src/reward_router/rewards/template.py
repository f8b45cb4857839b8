"""From text to a reward model's own tokens: its chat template, its end-of-sequence, its limits.

A prompt is a string (one user message) or a list of chat messages; every reward model renders it
with the template that it was trained on, never with the policy's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from reward_router.chat import Reply, text_of
from reward_router.errors import InputError

Prompt = str | Sequence[Mapping[str, Any]]
"""One user message, or messages with ``role`` and ``content``, and tool calls where they were made."""

PLAIN = "{{ bos_token or '' }}{% for message in messages %}{{ message['content'] }}\n\n{% endfor %}"
"""``chat_template: plain``: for language models that know no chat format."""


def messages(prompt: Prompt) -> list[dict[str, Any]]:
    """The prompt as chat messages, copied.

    >>> messages("Hello")
    [{'role': 'user', 'content': 'Hello'}]
    """
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [{**m, "role": str(m["role"]), "content": str(m["content"])} for m in prompt]


def answered(response: str) -> dict[str, Any]:
    """A response as the assistant's message, with the tool calls of a `Reply`.

    >>> answered("Oslo")
    {'role': 'assistant', 'content': 'Oslo'}
    """
    return (
        response.message
        if isinstance(response, Reply)
        else {"role": "assistant", "content": str(response)}
    )


def user_text(prompt: Prompt) -> str:
    """What the user last asked: the string itself, or the content of the last user message ('' where there is none).

    >>> user_text([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}])
    'Hello'
    """
    if isinstance(prompt, str):
        return prompt
    return next((m["content"] for m in reversed(prompt) if m["role"] == "user"), "")


def check_template(tokenizer: Any, chat_template: str | None, name: str) -> str | None:
    """The template to render with: the one given, ``plain``, or None for the tokenizer's own; InputError where it has none."""
    if chat_template == "plain":
        return PLAIN
    if chat_template is None and not tokenizer.chat_template:
        raise InputError(
            f"{name} has no chat template; give chat_template: a Jinja template, or plain for text without roles"
        )
    return chat_template


def render(
    tokenizer: Any, chat: list[dict[str, Any]], template: str | None, *, generate: bool
) -> str:
    """The chat as the model's text; ``generate`` opens the assistant's turn. InputError where the template refuses it.

    Tool calls are written as the template writes them; where it knows none, they stand in the
    content as JSON text.
    """
    from jinja2 import TemplateError

    try:
        return _rendered(
            tokenizer, _with_calls_shown(tokenizer, chat, template), template, generate
        )
    except TemplateError as error:
        roles = [m["role"] for m in chat]
        raise InputError(
            f"the chat template refuses messages with roles {roles}: {error}"
        ) from error


def _rendered(
    tokenizer: Any, chat: list[dict[str, Any]], template: str | None, generate: bool
) -> str:
    given = {"chat_template": template} if template else {}
    return str(
        tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=generate, **given)
    )


def _with_calls_shown(
    tokenizer: Any, chat: list[dict[str, Any]], template: str | None
) -> list[dict[str, Any]]:
    """The chat, its tool calls turned into content where the template passes over them or cannot take them."""
    if not any("tool_calls" in message for message in chat):
        return chat
    from jinja2 import TemplateError

    silent = [
        {key: value for key, value in message.items() if key != "tool_calls"} for message in chat
    ]
    try:
        if _rendered(tokenizer, chat, template, False) != _rendered(
            tokenizer, silent, template, False
        ):
            return chat
    except (TemplateError, TypeError, ValueError):
        pass
    return [{**bare, "content": text_of(whole)} for bare, whole in zip(silent, chat, strict=True)]


def continuation(
    tokenizer: Any, chat: list[dict[str, Any]], response: str, template: str | None
) -> str:
    """What a language model writes after the prompt for this response: its text, or its tool calls in the template's own words."""
    if not isinstance(response, Reply):
        return response
    before = render(tokenizer, chat, template, generate=True)
    whole = render(tokenizer, [*chat, answered(response)], template, generate=False)
    if not whole.startswith(before):
        return str(response)
    written = whole[len(before) :].rstrip()
    return written.removesuffix(str(tokenizer.eos_token)) if tokenizer.eos_token else written


def prompt_tokens(tokenizer: Any, text: str) -> list[int]:
    """Token ids of rendered text, nothing added: the template has written its own special tokens."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def response_tokens(
    tokenizer: Any, prompt_text: str, prompt_ids: list[int], responses: Sequence[str]
) -> list[list[int]]:
    """Token ids of each response as it stands after the prompt, EOS appended.

    Tokenized in place, because some tokenizers (SentencePiece) put a space before text that stands
    alone; where prompt and response merge over the boundary, the response is tokenized alone, as a
    policy that generates would have produced it. Cost O(N (prompt + response)) characters.
    """
    if tokenizer.eos_token_id is None:
        raise InputError(
            "the tokenizer has no EOS token, so the end of a response cannot be scored"
        )
    whole = (
        tokenizer([prompt_text + r for r in responses], add_special_tokens=False)["input_ids"]
        if responses
        else []
    )
    cut, out = len(prompt_ids), []
    for response, ids in zip(responses, whole, strict=True):
        same = list(ids[:cut]) == prompt_ids
        own = list(ids[cut:]) if same else prompt_tokens(tokenizer, response)
        out.append([*own, int(tokenizer.eos_token_id)])
    return out
