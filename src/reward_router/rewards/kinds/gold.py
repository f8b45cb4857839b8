"""The verifier as an arm, for control runs: what is learned if one arm is always right."""

from collections.abc import Iterable, Sequence

import numpy as np

from reward_router import chat
from reward_router.chat import Prompt
from reward_router.examples import Example
from reward_router.kinds import ArmKind
from reward_router.types import Float


class Gold:
    """1 where a response is right by its prompt's rule, 0 where it is wrong.

    NaN where the prompt has no rule or is unknown.
    """

    def __init__(self, gold: "KnownPrompts") -> None:
        """``gold``: the prompts it can judge; more may be added to them later."""
        self.known = gold

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Float:
        """(B, N) gold."""
        width = max((len(row) for row in responses), default=0)
        scores_BN = np.full((len(prompts), width), np.nan)
        for b, (prompt, row) in enumerate(zip(prompts, responses, strict=True)):
            example = self.known.find(prompt)
            # Of a prompt that is not in the data nobody knows what is right.
            if example is not None:
                scores_BN[b, : len(row)] = example.gold(row)
        return scores_BN


class KnownPrompts:
    """Prompts with their rules, found by their text."""

    def __init__(self, examples: Iterable[Example] = ()) -> None:
        """``examples``: the first of them."""
        self._examples: dict[str, Example] = {}
        self.add(examples)

    def add(self, examples: Iterable[Example]) -> None:
        """More prompts; one of the same text is replaced."""
        self._examples |= {_text(example.prompt): example for example in examples}

    def find(self, prompt: Prompt) -> Example | None:
        """The example of this prompt, None where it is unknown."""
        return self._examples.get(_text(prompt))


def _text(prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return prompt
    return "\n".join(chat.text_of(message) for message in prompt)


KIND = ArmKind(
    "gold",
    Gold,
    "the verifier itself, for control runs: no user has such an arm",
    hidden=("gold",),
    ragged=True,
    needs_gold=True,
)
