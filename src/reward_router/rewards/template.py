"""From text to a reward model's own tokens: its chat template, its end-of-sequence, its limits.

A prompt is a string (one user message) or a list of chat messages; every reward model renders it
with the template that it was trained on, never with the policy's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from reward_router.chat import Prompt as Prompt  # the metric arms take it from here
from reward_router.chat import Reply, text_of
from reward_router.errors import InputError

PLAIN = "{{ bos_token or '' }}{% for message in messages %}{{ message['content'] }}\n\n{% endfor %}"
"""``chat_template: plain``: for language models that know no chat format."""


def prompt_messages(prompt: Prompt) -> list[dict[str, Any]]:
    """The prompt as chat messages, copied.

    >>> prompt_messages("Hello")
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
    if isinstance(response, Reply):
        return response.message
    return {"role": "assistant", "content": str(response)}


def user_text(prompt: Prompt) -> str:
    """What the user last asked; '' where there is no user message.

    It is the string itself, or the content of the last user message.

    >>> system = {"role": "system", "content": "Be brief."}
    >>> user_text([system, {"role": "user", "content": "Hello"}])
    'Hello'
    """
    if isinstance(prompt, str):
        return prompt
    return next((m["content"] for m in reversed(prompt) if m["role"] == "user"), "")


def check_template(tokenizer: Any, chat_template: str | None, name: str) -> str | None:
    """The template to render with; None is the tokenizer's own.

    InputError where no template is configured and the tokenizer has none.
    """
    if chat_template == "plain":
        return PLAIN
    if chat_template is None and not tokenizer.chat_template:
        raise InputError(
            f"{name} has no chat template; give chat_template: a Jinja template, "
            "or plain for text without roles"
        )
    return chat_template


def render_chat(
    tokenizer: Any, chat: list[dict[str, Any]], template: str | None, *, generate: bool
) -> str:
    """The chat as the model's text; ``generate`` opens the assistant's turn.

    InputError where the template refuses the chat. Tool calls are written as the template writes
    them; where it knows none, they stand in the content as JSON text.
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
    options = {"chat_template": template} if template else {}
    text = tokenizer.apply_chat_template(
        chat, tokenize=False, add_generation_prompt=generate, **options
    )
    return str(text)


def _with_calls_shown(
    tokenizer: Any, chat: list[dict[str, Any]], template: str | None
) -> list[dict[str, Any]]:
    """The chat, its tool calls turned into content where the template does not write them.

    A template may pass over them in silence, or be unable to take them.
    """
    if not any("tool_calls" in message for message in chat):
        return chat
    from jinja2 import TemplateError

    without_calls = [_without_calls(message) for message in chat]
    try:
        with_text = _rendered(tokenizer, chat, template, False)
        without_text = _rendered(tokenizer, without_calls, template, False)
        if with_text != without_text:
            return chat
    except (TemplateError, TypeError, ValueError):
        pass
    shown = []
    for message, bare in zip(chat, without_calls, strict=True):
        shown.append({**bare, "content": text_of(message)})
    return shown


def _without_calls(message: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key != "tool_calls"}


def continuation(
    tokenizer: Any, chat: list[dict[str, Any]], response: str, template: str | None
) -> str:
    """What a language model writes after the prompt for this response.

    It is the response's text, or its tool calls in the template's own words.
    """
    if not isinstance(response, Reply):
        return response
    # With and without the answer: what was added is what the model writes.
    before = render_chat(tokenizer, chat, template, generate=True)
    whole = render_chat(tokenizer, [*chat, answered(response)], template, generate=False)
    if not whole.startswith(before):
        return str(response)

    written = whole[len(before) :].rstrip()
    # The scorer adds the end itself.
    if tokenizer.eos_token:
        written = written.removesuffix(str(tokenizer.eos_token))
    return written


def prompt_tokens(tokenizer: Any, text: str) -> list[int]:
    """Token ids of rendered text, nothing added: its special tokens are the template's own."""
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
    if not responses:
        return []
    texts = [prompt_text + response for response in responses]
    text_ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    prompt_length = len(prompt_ids)
    tokens = []
    for response, ids in zip(responses, text_ids, strict=True):
        begins_alike = list(ids[:prompt_length]) == prompt_ids
        own = list(ids[prompt_length:]) if begins_alike else prompt_tokens(tokenizer, response)
        tokens.append([*own, int(tokenizer.eos_token_id)])
    return tokens
