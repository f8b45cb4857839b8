"""Encoders of what is routed: the policy itself, a frozen sentence encoder, or a hash.

Text goes in, arrays come out.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from reward_router import chat
from reward_router.chat import Prompt
from reward_router.config import ContextConfig
from reward_router.errors import InputError
from reward_router.features import hash_rows, pair_rows, unit_rows
from reward_router.rewards.loading import MINILM, load_encoder
from reward_router.types import Float

if TYPE_CHECKING:
    from reward_router.policy import Policy

NO_POLICY = "context.kind: policy needs the policy, and there is none here; use sentence or hashing"


class Hashing:
    """Hashed words as contexts: no model, no download. Prompts -> (B, ``dim``) rows of unit norm.

    >>> Hashing(8)(["Say hi.", "Count to three."]).shape
    (2, 8)
    """

    def __init__(self, dim: int = 64) -> None:
        """``dim`` is D, how many features a prompt has."""
        self.dim = dim

    def __call__(self, prompts: Sequence[Prompt]) -> Float:
        """(B, D); equal prompts have equal rows."""
        return hash_rows([plain_prompt(prompt) for prompt in prompts], self.dim)


class PairRows(Protocol):
    """What makes rows of pairs, and how long they are."""

    @property
    def dim(self) -> int:
        """D."""
        ...

    def pairs(
        self, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
    ) -> Float:
        """(P, D) rows of unit norm, independent of the order of the two responses."""
        ...


class Contexts:
    """Encodes prompts, or pairs of responses, as rows of unit norm.

    Args:
        config: which encoder.
        policy: embeds prompts where ``config.kind`` is ``policy``; None where there is none.
        of_pairs: a prior's own encoder of pairs, in place of the configured one.
        device: where the sentence encoder goes if there is no policy whose device it could share.
    """

    def __init__(
        self,
        config: ContextConfig,
        policy: "Policy | None",
        of_pairs: PairRows | None = None,
        device: str = "auto",
    ) -> None:
        """Load the sentence encoder where one is configured.

        InputError where the policy itself is to embed and there is none.
        """
        if policy is None and config.kind == "policy" and of_pairs is None:
            raise InputError(NO_POLICY)
        self.config = config
        self._policy = policy
        self.of_pairs = of_pairs
        self.encoder: Any = None
        if config.kind == "sentence" and of_pairs is None:
            where = policy.config.device if policy else device
            self.encoder = load_encoder(config.model or MINILM, device=where)

    @property
    def policy(self) -> "Policy":
        """The policy that embeds; InputError where there is none."""
        if self._policy is None:
            raise InputError(NO_POLICY)
        return self._policy

    @property
    def dim(self) -> int:
        """Features of one prompt; a pair has twice as many."""
        if self.config.kind == "policy":
            return int(self.policy.model.config.hidden_size)
        if self.encoder is None:
            return self.config.dim
        return int(self.encoder.get_embedding_dimension())

    def of_unit(self, unit: str) -> int:
        """Features of what a router sees for ``unit``.

        A prior was learned on pairs: it sees a prompt through its pairs of responses.
        """
        return self.pair_dim if unit == "pair" or self.of_pairs is not None else self.dim

    @property
    def pair_dim(self) -> int:
        """Features of a pair of responses."""
        return 2 * self.dim if self.of_pairs is None else self.of_pairs.dim

    def prompts(self, prompts: Sequence[Prompt]) -> Float:
        """(B, dim)."""
        if not prompts:
            return np.zeros((0, self.dim))
        # Unit norm whoever encodes: a router's exploration must not depend on a row's length.
        if self.config.kind == "policy":
            embedded_BD = self.policy.embed(prompts, self.config.pooling)
            return unit_rows(embedded_BD)
        texts = [plain_prompt(prompt) for prompt in prompts]
        if self.encoder is None:
            return hash_rows(texts, self.config.dim)
        encoded_BD = self.encoder.encode(texts, batch_size=64, show_progress_bar=False)
        return unit_rows(np.asarray(encoded_BD))

    def groups(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Float:
        """(B, pair_dim) of prompts with their responses: the mean over pairs that differ.

        A linear router's forecast at the mean is the mean of its forecasts for the pairs, so a
        prior learned on pairs says of a prompt what it says of its pairs on average. The mean is
        not brought to unit norm: that would change the forecast. Where all responses are equal,
        the one response with itself is the pair.
        """
        n_prompts = len(prompts)
        rows_BD = np.zeros((n_prompts, self.pair_dim))
        # Each prompt is encoded by itself, so that its row does not depend on its neighbours.
        for row, (prompt, texts) in enumerate(zip(prompts, responses, strict=True)):
            different = list(dict.fromkeys(texts))
            only = different[0]
            pairs = list(combinations(different, 2)) or [(only, only)]
            first = [pair[0] for pair in pairs]
            second = [pair[1] for pair in pairs]
            same_prompt = [prompt] * len(pairs)
            pair_rows_PD = self.pairs(same_prompt, first, second)
            rows_BD[row] = pair_rows_PD.mean(axis=0)
        return rows_BD

    def pairs(
        self, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
    ) -> Float:
        """(P, pair_dim) rows that do not depend on the order of the two responses.

        Each different text is encoded once.
        """
        if self.of_pairs is not None:
            return self.of_pairs.pairs(prompts, first, second)

        # All first responses, then all second ones.
        n_pairs = len(first)
        both_sides = [*zip(prompts, first, strict=True), *zip(prompts, second, strict=True)]
        number_of: dict[tuple[str, str], int] = {}
        # A prompt with a response is embedded as the conversation that the two make.
        conversations: list[Prompt] = []
        places = []
        for prompt, response in both_sides:
            key = (plain_prompt(prompt), response)
            if key not in number_of:
                number_of[key] = len(conversations)
                conversations.append(_answered(prompt, response))
            places.append(number_of[key])

        rows_XD = self.prompts(conversations)
        first_PD = rows_XD[places[:n_pairs]]
        second_PD = rows_XD[places[n_pairs:]]
        return pair_rows(first_PD, second_PD)


def plain_prompt(prompt: Prompt) -> str:
    """A prompt as plain text."""
    return prompt if isinstance(prompt, str) else "\n".join(chat.text_of(m) for m in prompt)


def _answered(prompt: Prompt, response: str) -> Prompt:
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    return [*messages, {"role": "assistant", "content": response}]
