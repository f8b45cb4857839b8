"""Encoders of several sizes for the offline router of `routing` (BayesianRouter, table 2).

All are frozen; what was learned on them is the head alone. The states of a language model are
computed once for both ways of pooling, and kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from reward_router.features import hash_rows, unit_rows
from reward_router.replay.embed import EmbedTexts, kept
from reward_router.types import Float

HASHED = 256
"""Features of hashed words."""


@dataclass(frozen=True)
class Sized:
    """An encoder of a size.

    Args:
        sentence: what it is, for the page.
        model: the language model whose states are read; None: words are hashed.
        pooling: ``last`` or ``mean`` of its states.
        max_tokens: of a text.
    """

    sentence: str
    model: str | None = None
    pooling: str = "last"
    max_tokens: int = 1024

    def encoder(self) -> tuple[EmbedTexts, str]:
        """What `replay.embed.build` takes. Nothing is loaded before a text is encoded."""
        if self.model is None:
            return partial(hash_rows, dim=HASHED), "hashed words"
        return partial(_states, self.model, self.pooling, self.max_tokens), self.model


SMALL = "smollm2-135m-instruct"
SHORT = 128
"""Tokens of a text on the laptop: its beginning and its end."""
LAPTOP: Mapping[str, Sized] = {
    "hashed words": Sized("256 features of hashed words, no model"),
    "135M, last state": Sized("last state of SmolLM2-135M", SMALL, "last", SHORT),
    "135M, mean of states": Sized("mean state of SmolLM2-135M", SMALL, "mean", SHORT),
}
GPU: Mapping[str, Sized] = {
    "hashed words": Sized("256 features of hashed words, no model"),
    "135M, last state": Sized("last state of SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M-Instruct"),
    "0.5B, last state": Sized("last state of Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B-Instruct"),
}
"""The paper's two sizes, whole texts."""
SIZES = {"laptop": LAPTOP, "gpu": GPU}


def _states(model: str, pooling: str, max_tokens: int, texts: Sequence[str]) -> Float:
    """(B, E) pooled states of unit norm, from the cache where they were computed before."""

    def name(way: str) -> str:
        return f"{model.replace('/', '_')}-{way}-{max_tokens}"

    computed: dict[str, Float] = {}

    def compute(way: str) -> Float:
        if not computed:
            computed.update(_both_poolings(model, max_tokens, texts))
        return computed[way]

    states_BE = kept(name(pooling), texts, lambda: compute(pooling))
    for way in computed:
        # The other way of pooling cost nothing: whoever asks for it next finds it.
        kept(name(way), texts, partial(compute, way))
    return states_BE


def _both_poolings(model: str, max_tokens: int, texts: Sequence[str]) -> dict[str, Float]:
    import torch

    from reward_router.offline.encoder import POOLING, TextEncoder, pooled

    encoder = TextEncoder(model, pooling="last", max_tokens=max_tokens)
    ids = encoder.tokens(texts, [""] * len(texts))
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    rows = {way: np.zeros((len(ids), encoder.dim)) for way in POOLING}
    with torch.inference_mode():
        for start in range(0, len(ids), encoder.batch):
            chunk = order[start : start + encoder.batch]
            states, mask = encoder.hidden([ids[i] for i in chunk])
            for way in POOLING:
                rows[way][chunk] = pooled(states, mask, way).double().cpu().numpy()
    return {way: unit_rows(rows_BE) for way, rows_BE in rows.items()}
