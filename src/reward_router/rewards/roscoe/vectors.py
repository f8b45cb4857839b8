"""Vectors of sentences and tokens under a frozen encoder.

Several arms on one encoder share what it computed: the vectors of the last `KEPT` texts.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from reward_router.types import Float

KEPT = 20_000
"""Texts whose vectors an encoder keeps: 61 MB for MiniLM."""
_kept: "WeakKeyDictionary[Any, OrderedDict[str, Float]]" = WeakKeyDictionary()


class Vectors:
    """Unit vectors of texts, and of their tokens.

    Args:
        encoder: a SentenceTransformer, or what has its ``encode``.
        batch_size: texts encoded together.
    """

    def __init__(self, encoder: Any, batch_size: int = 64) -> None:
        """Nothing is computed yet."""
        self.encoder = encoder
        self.batch_size = batch_size
        self._known = _kept.setdefault(encoder, OrderedDict())

    def sentences(self, texts: Iterable[str]) -> dict[str, Float]:
        """(E,) unit vector by text; each distinct text is encoded once, all of them in one pass."""
        distinct = list(dict.fromkeys(texts))
        missing = [text for text in distinct if text not in self._known]
        vectors = {text: self._known[text] for text in distinct if text in self._known}
        if missing:
            rows_XE = self.encoder.encode(
                missing,
                batch_size=self.batch_size,
                convert_to_numpy=True,
                show_progress_bar=False,
            )
            vectors |= dict(zip(missing, unit(np.asarray(rows_XE, np.float64)), strict=True))
        self._keep(vectors)
        return vectors

    def tokens(self, texts: Iterable[str]) -> dict[str, Float]:
        """(M, E) unit vectors of a text's M tokens, without the marks at its ends.

        The vectors of the whole texts are kept along the way. Those of tokens are not: they are
        dozens of times as many.
        """
        distinct = list(dict.fromkeys(texts))
        encoded = self.encoder.encode(
            distinct, batch_size=self.batch_size, output_value=None, show_progress_bar=False
        )
        tokens: dict[str, Float] = {}
        sentences: dict[str, Float] = {}
        for text, one in zip(distinct, encoded, strict=True):
            token_ME = np.asarray(one["token_embeddings"], np.float64)
            # The first and the last stand for [CLS] and [SEP], as ROSCOE's code has it.
            tokens[text] = unit(token_ME[1:-1])
            sentence_E = np.asarray(one["sentence_embedding"], np.float64)
            sentences[text] = unit(sentence_E[None])[0]
        self._keep(sentences)
        return tokens

    def _keep(self, vectors: dict[str, Float]) -> None:
        for text, vector_E in vectors.items():
            self._known[text] = vector_E
            self._known.move_to_end(text)
        while len(self._known) > KEPT:
            self._known.popitem(last=False)


def unit(rows_XE: Float) -> Float:
    """The rows at length 1; a row of zeros stays."""
    norm_X1 = np.linalg.norm(rows_XE, axis=-1, keepdims=True)
    unit_XE: Float = rows_XE / np.maximum(norm_X1, 1e-12)
    return unit_XE


def stacked(vectors: dict[str, Float], texts: Sequence[str]) -> Float:
    """(X, E) the vectors of these texts."""
    return np.stack([vectors[text] for text in texts])
