"""Per-token log-probabilities of many continuations of few prompts, the prompt computed once.

A prompt of P tokens with N continuations of T tokens costs P + N T token-forwards instead of N (P +
T): the prompt runs once with a key/value cache, the cache is copied to its N rows, and only the
continuations run on it. Prompts are padded on the left and continuations on the right, so that the
attended tokens of a row are contiguous; positions are given explicitly and padding is known by its
mask, never by token id (EOS may be the pad token). The output head runs on the positions that are
asked for, a slice at a time, so a (rows, T, vocabulary) tensor never exists.

Which of this a model supports is measured on a probe when the first continuation arrives: a model
whose logits are not its output embedding applied to its last state (Gemma's soft cap) is asked for
logits, and a model without a plain key/value cache (state-space and hybrid models) is scored row by
row, prompt included. Leaves out sharing between prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch

from reward_router.types import Float

Tokens = Sequence[int]
PrefixRow = tuple[int, int]
"""(prompt, continuation) indices."""


@dataclass(frozen=True)
class Abilities:
    """What a model was measured to support.

    Args:
        split: the output head can be run apart from the body.
        cache: one key/value cache serves many continuations.
    """

    split: bool
    cache: bool


class TokenScorer:
    """log p(token | what stands before it) under one causal language model.

    ``token_forwards`` counts the positions run through the model so far, padding included.

    Args:
        model: the language model.
        batch_tokens: the most padded positions held at once, copies of the prompt included.
        head_tokens: the most positions that go through the output head together.
        share: whether a prompt is computed once; False scores every continuation with its own copy
            of the prompt, which is the reference for tests.
    """

    def __init__(
        self, model: Any, batch_tokens: int = 4096, head_tokens: int = 512, share: bool = True
    ) -> None:
        """Nothing runs until the first `logprobs`."""
        self.model = model
        self.batch_tokens = batch_tokens
        self.head_tokens = head_tokens
        self.share = share
        self.token_forwards = 0
        self._abilities: Abilities | None = None

    @property
    def abilities(self) -> Abilities:
        """What the model supports; the first read runs a probe of a few tokens."""
        if self._abilities is None:
            before = self.token_forwards
            with torch.inference_mode():
                self._abilities = self._probe()
            self.token_forwards = before
        return self._abilities

    def logprobs(
        self, prompts: Sequence[Tokens], continuations: Sequence[Sequence[Tokens]]
    ) -> list[list[Float]]:
        """One float64 array a continuation, with one natural log-probability a token.

        An empty continuation gives an empty array.
        ``prompts`` are token ids, at least one each; ``continuations[i]`` belong to ``prompts[i]``.
        Deterministic for the same call; between different batchings equal to 1e-5 in float32, 0.05
        in bfloat16. Cost: sum of P + sum of T token-forwards plus padding.
        """
        out = _blank(continuations)
        nonempty = [i for i, row in enumerate(continuations) if any(map(len, row))]
        if not nonempty:
            return out

        shares_prompts = self.share and self.abilities.cache
        with torch.inference_mode():
            if not shares_prompts:
                rows = [(i, j) for i in nonempty for j in range(len(out[i]))]
                self._alone(rows, prompts, continuations, out)
                return out
            # Prompts of similar length go together; they are padded on the left.
            widths = [len(prompts[i]) for i in nonempty]
            for group in width_batches(widths, self.batch_tokens):
                members = [nonempty[i] for i in group]
                self._group(members, prompts, continuations, out)
        return out

    def _group(
        self,
        group: list[int],
        prompts: Sequence[Tokens],
        continuations: Sequence[Sequence[Tokens]],
        out: list[list[Float]],
    ) -> None:
        """All continuations of a few prompts of similar length.

        One forward runs the prompts, further ones the continuations.
        """
        ids, mask = padded([prompts[i] for i in group], left=True)
        states, cache = self._forward(ids, mask, _positions(mask), _new_cache())

        # A row is (place of the prompt in the group, number of its continuation).
        rows: list[PrefixRow] = []
        for g, i in enumerate(group):
            rows += [(g, j) for j, text in enumerate(continuations[i]) if len(text)]
        texts = {(g, j): continuations[group[g]][j] for g, j in rows}

        # The prompt's last state predicts the first token of every continuation.
        first_tokens = [texts[row][0] for row in rows]
        prompt_rows = [g for g, _ in rows]
        first_logps = self._gather(states[:, -1], prompt_rows, first_tokens)
        for (g, j), logp in zip(rows, first_logps, strict=True):
            out[group[g]][j][0] = logp

        # All further tokens need a forward of their own, on top of the prompt's cache.
        longer = [row for row in rows if len(texts[row]) > 1]
        prompt_width = ids.shape[1]
        widths = [prompt_width + len(texts[row]) - 1 for row in longer]
        for chunk in width_batches(widths, self.batch_tokens):
            chunk_rows = [longer[r] for r in chunk]
            chunk_texts = [texts[row] for row in chunk_rows]
            chunk_prompts = [g for g, _ in chunk_rows]
            later_logps = self._continue(chunk_prompts, chunk_texts, mask, cache)
            for (g, j), logps in zip(chunk_rows, later_logps, strict=True):
                out[group[g]][j][1:] = logps

    def _continue(
        self, prompt_rows: list[int], texts: Sequence[Tokens], mask: torch.Tensor, cache: Any
    ) -> list[list[float]]:
        """Log-probabilities of all but the first token, on copies of the prompts' cache.

        Token t is scored by the state that has read token t - 1.
        """
        # The last token predicts nothing that is asked for.
        ids, own_mask = padded([text[:-1] for text in texts], left=False)
        source = torch.tensor(prompt_rows)
        prompt_mask = mask[source]
        prompt_lengths = prompt_mask.sum(1, keepdim=True)
        positions = prompt_lengths + _positions(own_mask)
        whole_mask = torch.cat([prompt_mask, own_mask], 1)
        states, _ = self._forward(ids, whole_mask, positions, _copied(cache, source))

        # All rows behind each other: padding is left out by its place.
        places = own_mask.flatten().nonzero()[:, 0].tolist()
        targets: list[int] = []
        for text in texts:
            targets += text[1:]
        logps = iter(self._gather(states.flatten(0, 1), places, targets))
        return [list(islice(logps, len(text) - 1)) for text in texts]

    def _alone(
        self,
        rows: list[PrefixRow],
        prompts: Sequence[Tokens],
        continuations: Sequence[Sequence[Tokens]],
        out: list[list[Float]],
    ) -> None:
        """Every continuation with its own copy of the prompt, padded on the right."""
        widths = [len(prompts[i]) + len(continuations[i][j]) - 1 for i, j in rows]
        for chunk in width_batches(widths, self.batch_tokens):
            chunk_rows = [rows[r] for r in chunk]
            # The last token predicts nothing that is asked for.
            inputs = [[*prompts[i], *continuations[i][j]][:-1] for i, j in chunk_rows]
            ids, mask = padded(inputs, left=False)
            states, _ = self._forward(ids, mask, None, None)

            width = ids.shape[1]
            places: list[int] = []
            targets: list[int] = []
            for r, (i, j) in enumerate(chunk_rows):
                continuation = continuations[i][j]
                # The prompt's last token stands here and predicts the continuation's first one.
                start = r * width + len(prompts[i]) - 1
                places += range(start, start + len(continuation))
                targets += continuation

            logps = iter(self._gather(states.flatten(0, 1), places, targets))
            for i, j in chunk_rows:
                n_tokens = len(out[i][j])
                out[i][j][:] = list(islice(logps, n_tokens))

    def _forward(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor | None, cache: Any
    ) -> tuple[Any, Any]:
        """(states or logits, cache): states where the head can be split off, logits otherwise."""
        self.token_forwards += ids.numel()
        device = self.model.device
        inputs: dict[str, Any] = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
        if positions is not None:
            inputs["position_ids"] = positions.to(device)
        if cache is not None:
            inputs["past_key_values"] = cache

        # Without the head no logits are made of positions that nobody asks for.
        body = self.model.get_decoder() if self._splits else self.model
        result = body(**inputs, use_cache=cache is not None)
        states = result.last_hidden_state if body is not self.model else result.logits
        new_cache = getattr(result, "past_key_values", None)
        return states, new_cache

    @property
    def _splits(self) -> bool:
        return self._abilities is not None and self._abilities.split

    def _gather(self, states_RF: torch.Tensor, rows: list[int], targets: list[int]) -> list[float]:
        """log softmax(head(states[row]))[target], ``head_tokens`` rows at a time."""
        if not rows:
            return []
        device = states_RF.device
        logps = []
        # A few rows at a time: the logits of a row are as wide as the vocabulary.
        for start in range(0, len(rows), self.head_tokens):
            part = slice(start, start + self.head_tokens)
            picked = states_RF[torch.tensor(rows[part], device=device)]
            if self._splits:
                picked = self.model.get_output_embeddings()(picked)
            logits_RV = picked.float()

            target_R1 = torch.tensor(targets[part], device=device)[:, None]
            target_logit_R = logits_RV.gather(1, target_R1)[:, 0]
            # log softmax = logit - logsumexp
            logps.append(target_logit_R - logits_RV.logsumexp(1))
        return torch.cat(logps).double().tolist()

    def _probe(self) -> Abilities:
        """Compare both shortcuts with the plain way on a few tokens."""
        prompts = [[1, 2, 3], [4]]
        texts = [[[5, 6, 1], [2]], [[3, 2]]]
        plain = _blank(texts)
        self._abilities = Abilities(split=False, cache=False)
        self._alone([(0, 0), (0, 1), (1, 0)], prompts, texts, plain)
        split = self._head_splits()
        self._abilities = Abilities(split=split, cache=False)
        cache = self._cache_agrees(prompts, texts, _flat(plain))
        return Abilities(split=split, cache=cache)

    def _head_splits(self) -> bool:
        ids, mask = padded([[1, 2, 3, 4]], left=False)
        inputs = {
            "input_ids": ids.to(self.model.device),
            "attention_mask": mask.to(self.model.device),
            "use_cache": False,
        }
        try:
            body = self.model.get_decoder()
            head = self.model.get_output_embeddings()
            if body is self.model or head is None:
                return False
            ours = head(body(**inputs).last_hidden_state)
        except (AttributeError, TypeError, ValueError, RuntimeError):
            return False
        theirs = self.model(**inputs).logits
        if ours.shape != theirs.shape:
            return False
        return bool(torch.allclose(ours.float(), theirs.float(), rtol=1e-5, atol=1e-5))

    def _cache_agrees(
        self, prompts: Sequence[Tokens], texts: Sequence[Sequence[Tokens]], reference: Float
    ) -> bool:
        out = _blank(texts)
        try:
            self._group([0, 1], prompts, texts, out)
        except (AttributeError, TypeError, ValueError, RuntimeError, IndexError):
            return False
        tolerance = 1e-3 if self.model.dtype == torch.float32 else 0.3
        return bool(np.abs(_flat(out) - reference).max() < tolerance)


def _blank(continuations: Sequence[Sequence[Tokens]]) -> list[list[Float]]:
    """Room for one number a token."""
    return [_blank_row(row) for row in continuations]


def _blank_row(continuations: Sequence[Tokens]) -> list[Float]:
    return [np.zeros(len(text)) for text in continuations]


def _flat(logps: Sequence[Sequence[Float]]) -> Float:
    return np.concatenate([text for row in logps for text in row])


def _positions(mask: torch.Tensor) -> torch.Tensor:
    """The place of every token among those of its row that are no padding, from 0."""
    return (mask.cumsum(1) - 1).clamp(min=0)


def width_batches(widths: Sequence[int], limit: int) -> list[list[int]]:
    """Indices grouped by width, widest first.

    The rows of a group times the widest of them stay within ``limit``. A row wider than the limit
    goes alone. Every index appears once; equal widths keep their order. O(n log n).

    >>> width_batches([3, 9, 4, 4], limit=10)
    [[1], [2, 3], [0]]
    """
    widest_first = sorted(range(len(widths)), key=lambda i: -widths[i])
    groups: list[list[int]] = []
    for i in widest_first:
        fits = False
        if groups:
            # The first of a group is its widest, and all others are padded to it.
            widest = widths[groups[-1][0]]
            fits = (len(groups[-1]) + 1) * widest <= limit
        if fits:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def padded(rows: Sequence[Tokens], *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, mask), both (rows, widest) int64.

    The pad id is 0 and carries no meaning: only the mask does.
    """
    n_rows = len(rows)
    width = max(len(row) for row in rows)
    ids = torch.zeros(n_rows, width, dtype=torch.long)
    mask = torch.zeros(n_rows, width, dtype=torch.long)
    for r, row in enumerate(rows):
        start = width - len(row) if left else 0
        stop = start + len(row)
        ids[r, start:stop] = torch.tensor(row, dtype=torch.long)
        mask[r, start:stop] = 1
    return ids, mask


def _new_cache() -> Any:
    from transformers import DynamicCache

    return DynamicCache()


def _copied(cache: Any, rows: torch.Tensor) -> Any:
    """A cache whose row r is row ``rows[r]`` of ``cache``.

    ValueError where a layer keeps more than keys and values.
    """
    from transformers.cache_utils import DynamicLayer

    copy = _new_cache()
    for number, layer in enumerate(cache.layers):
        if type(layer) is not DynamicLayer:
            raise ValueError(
                f"layer {number} keeps a {type(layer).__name__}, "
                "which cannot be shared between rows"
            )
        picked = rows.to(layer.keys.device)
        copy.update(
            layer.keys.index_select(0, picked), layer.values.index_select(0, picked), number
        )
    return copy
