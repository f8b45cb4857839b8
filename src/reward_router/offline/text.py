"""A pair's text as the encoder reads it, and how it is cut where it is too long.

The prompt loses its middle first, the response last. The form is the authors': literal
role names, no chat template, so that one prior serves policies with any template.
"""

from collections.abc import Sequence

from reward_router.chat import Prompt, text_of

# A prompt keeps at least a quarter of the room, however long the response.
_PROMPT_SHARE = 4


def prompt_text(prompt: Prompt) -> str:
    """A prompt as one text: a string as it is, messages one a line with their roles.

    The first user's role is left out.

    >>> turns = [("user", "Hi"), ("assistant", "Yes?"), ("user", "2+2")]
    >>> prompt_text([{"role": role, "content": text} for role, text in turns])
    'Hi\\n<|assistant|>: Yes?\\n<|user|>: 2+2'
    """
    if isinstance(prompt, str):
        return prompt
    lines = "\n".join(f"<|{turn['role']}|>: {text_of(turn)}" for turn in prompt)
    return lines.removeprefix("<|user|>: ")


def halves(prompt: Prompt, response: str) -> tuple[str, str]:
    """What is encoded for one response, in two parts that stand side by side.

    They are the prompt's and the response's.
    """
    text = prompt_text(prompt)
    opening = "" if text.startswith("<|system|>: ") else "<|user|>: "
    return f"{opening}{text}\n", f"<|assistant|>: {response}"


def fit(prompt_ids: Sequence[int], response_ids: Sequence[int], room: int) -> list[int]:
    """Both parts in at most ``room`` tokens.

    The prompt loses its middle first; a response too long for the rest its own.

    >>> fit([1, 2, 3, 4, 5, 6], [7, 8], 6), fit([1, 2, 3, 4], [5, 6, 7, 8], 4)
    ([1, 2, 5, 6, 7, 8], [1, 5, 6, 8])
    """
    least = min(len(prompt_ids), room // _PROMPT_SHARE)
    response = without_middle(response_ids, room - least)
    return without_middle(prompt_ids, room - len(response)) + response


def without_middle(ids: Sequence[int], room: int) -> list[int]:
    """The first and the last tokens, ``room`` in all (one more of the first where it is odd)."""
    if len(ids) <= room:
        return list(ids)
    head = (room + 1) // 2
    return [*ids[:head], *ids[len(ids) - (room - head) :]]
