"""Vectors of sentences and tokens under a frozen encoder.

Arms on one encoder share what it computed: the vectors of the texts that were used last, as many as
fit a fixed memory.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from reward_router.types import Float

SENTENCE_BYTES = 128 * 2**20
"""Memory for vectors of sentences: 43,000 texts under MiniLM."""
TOKEN_BYTES = 128 * 2**20
"""Memory for vectors of tokens: 43,000 tokens, some 2,000 sentences.

What one request needs, and not more: tokens are dozens of times as many as sentences.
"""


class Kept:
    """Arrays by text; those used longest ago go once all together pass a number of bytes."""

    def __init__(self, limit: int) -> None:
        """Nothing is kept yet."""
        self.limit = limit
        self._arrays: OrderedDict[str, Float] = OrderedDict()
        self._bytes = 0

    def known(self, texts: Iterable[str]) -> dict[str, Float]:
        """Those of these texts that are kept; they count as used now."""
        found = {}
        for text in texts:
            array = self._arrays.get(text)
            if array is not None:
                self._arrays.move_to_end(text)
                found[text] = array
        return found

    def keep(self, arrays: dict[str, Float]) -> None:
        """Keep these, and drop the oldest where there is no room."""
        for text, array in arrays.items():
            before = self._arrays.pop(text, None)
            self._bytes += array.nbytes - (0 if before is None else before.nbytes)
            self._arrays[text] = array
        while self._bytes > self.limit:
            _, dropped = self._arrays.popitem(last=False)
            self._bytes -= dropped.nbytes


_sentences: "WeakKeyDictionary[Any, Kept]" = WeakKeyDictionary()
_tokens: "WeakKeyDictionary[Any, Kept]" = WeakKeyDictionary()


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
        self._sentences = _sentences.setdefault(encoder, Kept(SENTENCE_BYTES))
        self._tokens = _tokens.setdefault(encoder, Kept(TOKEN_BYTES))

    def sentences(self, texts: Iterable[str]) -> dict[str, Float]:
        """(E,) unit vector by text; each distinct text is encoded once, all of them in one pass."""
        distinct = list(dict.fromkeys(texts))
        vectors = self._sentences.known(distinct)
        missing = [text for text in distinct if text not in vectors]
        if missing:
            rows_XE = self.encoder.encode(
                missing,
                batch_size=self.batch_size,
                convert_to_numpy=True,
                show_progress_bar=False,
            )
            new = dict(zip(missing, unit(np.asarray(rows_XE, np.float64)), strict=True))
            self._sentences.keep(new)
            vectors |= new
        return vectors

    def tokens(self, texts: Iterable[str]) -> dict[str, Float]:
        """(M, E) unit vectors of a text's M tokens, without the marks at its ends.

        The vectors of the whole texts are kept along the way.
        """
        distinct = list(dict.fromkeys(texts))
        tokens = self._tokens.known(distinct)
        missing = [text for text in distinct if text not in tokens]
        if missing:
            new = self._encoded_tokens(missing)
            self._tokens.keep(new)
            tokens |= new
        return tokens

    def _encoded_tokens(self, texts: list[str]) -> dict[str, Float]:
        encoded = self.encoder.encode(
            texts, batch_size=self.batch_size, output_value=None, show_progress_bar=False
        )
        tokens: dict[str, Float] = {}
        sentences: dict[str, Float] = {}
        for text, one in zip(texts, encoded, strict=True):
            padded_LE = np.asarray(one["token_embeddings"], np.float64)
            # Behind the text's own tokens come as many as the longest text of the batch has.
            is_own_L = np.asarray(one["attention_mask"], bool)
            token_ME = padded_LE[is_own_L]
            # The first and the last stand for [CLS] and [SEP], as ROSCOE's code has it.
            tokens[text] = unit(token_ME[1:-1])
            sentence_E = np.asarray(one["sentence_embedding"], np.float64)
            sentences[text] = unit(sentence_E[None])[0]
        self._sentences.keep(sentences)
        return tokens


def unit(rows_XE: Float) -> Float:
    """The rows at length 1; a row of zeros stays."""
    norm_X1 = np.linalg.norm(rows_XE, axis=-1, keepdims=True)
    unit_XE: Float = rows_XE / np.maximum(norm_X1, 1e-12)
    return unit_XE


def stacked(vectors: dict[str, Float], texts: Sequence[str]) -> Float:
    """(X, E) the vectors of these texts."""
    return np.stack([vectors[text] for text in texts])
