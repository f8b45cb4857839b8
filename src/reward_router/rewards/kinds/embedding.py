"""Relevance as a reward: how near a response stands to its prompt in a sentence encoder's space."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from reward_router.chat import Prompt
from reward_router.kinds import ArmKind
from reward_router.rewards.loading import MINILM
from reward_router.rewards.template import user_text
from reward_router.types import Float


class Embedding:
    """Cosine of prompt and response under a frozen sentence encoder; in [-1, 1].

    The prompt is its last user message. Each distinct text is encoded once, sorted by length (the
    encoder does that); texts beyond the encoder's window (256 tokens for MiniLM) are cut by it. A
    response without text is abstained from.
    """

    def __init__(self, encoder: Any, *, batch_size: int = 64) -> None:
        """``encoder`` is a SentenceTransformer or has its ``encode``."""
        self.encoder = encoder
        self.batch_size = batch_size

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Float:
        """(B, N) cosines, NaN where a row is shorter than the longest or a response is blank."""
        n_responses = max((len(row) for row in responses), default=0)
        scores_BN = np.full((len(prompts), n_responses), np.nan)
        asked = [user_text(prompt) for prompt in prompts]
        answered = [text for text in chain.from_iterable(responses) if text.strip()]

        # Every text is encoded once, however often it stands in the batch.
        texts = list(dict.fromkeys([*asked, *answered]))
        if not texts:
            return scores_BN
        unit_ND = self._unit(texts)
        place = {text: i for i, text in enumerate(texts)}

        for b, row in enumerate(responses):
            prompt_D = unit_ND[place[asked[b]]]
            for n, response in enumerate(row):
                if response.strip():
                    response_D = unit_ND[place[response]]
                    # Both of unit norm: their product is the cosine.
                    scores_BN[b, n] = response_D @ prompt_D
        return scores_BN

    def _unit(self, texts: list[str]) -> Float:
        rows_ND = self.encoder.encode(
            texts, batch_size=self.batch_size, convert_to_numpy=True, show_progress_bar=False
        )
        wide_ND = np.asarray(rows_ND, dtype=np.float64)
        norm_N1 = np.linalg.norm(wide_ND, axis=1, keepdims=True)
        unit_ND: Float = wide_ND / np.maximum(norm_N1, 1e-12)
        return unit_ND


KIND = ArmKind(
    "embedding",
    Embedding,
    "cosine of prompt and response under a sentence encoder",
    loader="encoder",
    default_model=MINILM,
    hidden=("encoder",),
    ragged=True,
)
