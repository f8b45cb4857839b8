"""Contexts as arrays: normalising, pooling a batch, pair features, and a hashing encoder.

It needs numpy only.

A router sees these rows and never the text. Encoders that need a language model live beside it
(``policy.py``, ``rewards/embedding.py``); what they return passes through :func:`unit_rows`.
"""

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from reward_router.types import AnyFloat, Float

_WORD = re.compile(r"\w+")


def unit_rows(context_BD: AnyFloat) -> Float:
    """Rows in float64 with unit L2 norm; a zero row stays zero. O(B D).

    LinUCB's exploration width is alpha |x| / sqrt(ridge): rows of one length explore alike.
    """
    rows_BD = np.asarray(context_BD, dtype=np.float64)
    # scaled by a power of two before squaring
    _, power_B = np.frexp(np.abs(rows_BD).max(axis=1, keepdims=True, initial=0.0))
    # a power of two is exact, and squares of very small or large numbers stay in range
    rows_BD = np.asarray(np.ldexp(rows_BD, -power_B))
    norm_B = np.linalg.norm(rows_BD, axis=1, keepdims=True)
    out_BD: Float = np.zeros(rows_BD.shape)
    np.divide(rows_BD, norm_B, out=out_BD, where=norm_B > 0)

    return out_BD


def pool(context_BD: AnyFloat) -> Float:
    """One (1, D) context for a whole batch: the mean of its rows, then unit norm.

    Source: LASER, c(t) = mean of e_m(x).
    """
    mean_1D = np.asarray(context_BD, dtype=np.float64).mean(axis=0, keepdims=True)
    return unit_rows(mean_1D)


def pair_rows(first_PD: AnyFloat, second_PD: AnyFloat) -> Float:
    """(P, 2D) features of response pairs, [(e + e') / 2 ; |e - e'|], unit norm (BayesianRouter).

    They are symmetric in the two.
    """
    first_PD = np.asarray(first_PD, np.float64)
    second_PD = np.asarray(second_PD, np.float64)

    # Neither block changes when the two are exchanged: the router need not know who came first.
    middle_PD = (first_PD + second_PD) / 2
    distance_PD = np.abs(first_PD - second_PD)
    both_P2D = np.concatenate([middle_PD, distance_PD], axis=1)
    return unit_rows(both_P2D)


def hash_rows(texts: Sequence[str], dim: int) -> Float:
    """(B, dim) signed feature hashing of lower-cased words, unit norm. O(characters).

    It needs no model, and serves tests and dry runs.

    >>> bool(np.allclose(hash_rows(["two words"], 64), hash_rows(["Words two"], 64)))
    True
    """
    rows_BD = np.zeros((len(texts), dim))
    for row_D, text in zip(rows_BD, texts, strict=True):
        words = _WORD.findall(text.lower())
        for word in words:
            hashed = hashlib.blake2b(word.encode(), digest_size=8).digest()
            number = int.from_bytes(hashed, "little")
            # the lowest bit is the sign, the others choose the feature
            sign = 1.0 if number & 1 else -1.0
            feature = (number >> 1) % dim
            row_D[feature] += sign

    return unit_rows(rows_BD)
