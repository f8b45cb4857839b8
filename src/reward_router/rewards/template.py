"""From text to a reward model's own tokens: its chat template, its end-of-sequence, its limits.

A prompt is a string (one user message) or a list of chat messages; every reward model renders it with the template that it
was trained on, never with the policy's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from reward_router.errors import InputError

Prompt = str | Sequence[Mapping[str, str]]
"""One user message, or messages with ``role`` and ``content``."""

PLAIN = "{{ bos_token or '' }}{% for message in messages %}{{ message['content'] }}\n\n{% endfor %}"
"""``chat_template: plain``: for language models that know no chat format."""


def messages(prompt: Prompt) -> list[dict[str, str]]:
    """The prompt as chat messages, copied.

    >>> messages("Hello")
    [{'role': 'user', 'content': 'Hello'}]
    """
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [{"role": str(m["role"]), "content": str(m["content"])} for m in prompt]


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


def render(tokenizer: Any, chat: list[dict[str, str]], template: str | None, *, generate: bool) -> str:
    """The chat as the model's text; ``generate`` opens the assistant's turn. InputError where the template refuses it."""
    from jinja2 import TemplateError

    try:
        text = tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=generate, **({"chat_template": template} if template else {})
        )
    except TemplateError as error:
        roles = [m["role"] for m in chat]
        raise InputError(f"the chat template refuses messages with roles {roles}: {error}") from error
    return str(text)


def prompt_tokens(tokenizer: Any, text: str) -> list[int]:
    """Token ids of rendered text, nothing added: the template has written its own special tokens."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def response_tokens(
    tokenizer: Any, prompt_text: str, prompt_ids: list[int], responses: Sequence[str]
) -> list[list[int]]:
    """Token ids of each response as it stands after the prompt, EOS appended.

    Tokenized in place, because some tokenizers (SentencePiece) put a space before text that stands alone; where prompt and
    response merge over the boundary, the response is tokenized alone, as a policy that generates would have produced it.
    Cost O(N (prompt + response)) characters.
    """
    if tokenizer.eos_token_id is None:
        raise InputError("the tokenizer has no EOS token, so the end of a response cannot be scored")
    whole = tokenizer([prompt_text + r for r in responses], add_special_tokens=False)["input_ids"] if responses else []
    cut, out = len(prompt_ids), []
    for response, ids in zip(responses, whole, strict=True):
        same = list(ids[:cut]) == prompt_ids
        own = list(ids[cut:]) if same else prompt_tokens(tokenizer, response)
        out.append([*own, int(tokenizer.eos_token_id)])
    return out
