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
from typing import Any

import numpy as np
import torch

from reward_router.types import Float

Tokens = Sequence[int]
Row = tuple[int, int]
"""(prompt, continuation) indices."""


@dataclass(frozen=True)
class Abilities:
    """What a model was measured to support: ``split`` head from body, and one ``cache`` for many continuations."""

    split: bool
    cache: bool


class TokenScorer:
    """log p(token | what stands before it) under one causal language model.

    ``batch_tokens`` bounds the padded positions held at once, copies of the prompt included;
    ``head_tokens`` the positions that go through the output head together. ``token_forwards``
    counts the positions run through the model so far, padding included; ``share=False`` scores
    every continuation with its own copy of the prompt (the reference for tests).
    """

    def __init__(
        self, model: Any, batch_tokens: int = 4096, head_tokens: int = 512, share: bool = True
    ) -> None:
        """Nothing runs until the first `logprobs`."""
        self.model = model
        self.batch_tokens, self.head_tokens, self.share = batch_tokens, head_tokens, share
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
        """One float64 array a continuation, one natural log-probability a token; an empty continuation gives an empty array.

        ``prompts`` are token ids, at least one each; ``continuations[i]`` belong to ``prompts[i]``.
        Deterministic for the same call; between different batchings equal to 1e-5 in float32, 0.05
        in bfloat16. Cost: sum of P + sum of T token-forwards plus padding.
        """
        out: list[list[Float]] = [[np.zeros(len(c)) for c in row] for row in continuations]
        asked = [i for i, row in enumerate(continuations) if any(len(c) for c in row)]
        if not asked:
            return out
        shared = self.share and self.abilities.cache
        with torch.inference_mode():
            if not shared:
                self._alone(
                    [(i, j) for i in asked for j in range(len(out[i]))], prompts, continuations, out
                )
                return out
            for group in batches([len(prompts[i]) for i in asked], self.batch_tokens):
                self._group([asked[i] for i in group], prompts, continuations, out)
        return out

    def _group(
        self,
        group: list[int],
        prompts: Sequence[Tokens],
        continuations: Sequence[Sequence[Tokens]],
        out: list[list[Float]],
    ) -> None:
        """All continuations of a few prompts of similar length: one forward for the prompts, then the continuations."""
        ids, mask = padded([prompts[i] for i in group], left=True)
        states, cache = self._forward(ids, mask, (mask.cumsum(1) - 1).clamp(min=0), _new_cache())
        rows = [
            (g, j) for g, i in enumerate(group) for j, c in enumerate(continuations[i]) if len(c)
        ]
        first = [continuations[group[g]][j][0] for g, j in rows]
        heads = self._gather(states[:, -1], [g for g, _ in rows], first)
        for (g, j), value in zip(rows, heads, strict=True):
            out[group[g]][j][0] = value
        longer = [(g, j) for g, j in rows if len(continuations[group[g]][j]) > 1]
        widths = [ids.shape[1] + len(continuations[group[g]][j]) - 1 for g, j in longer]
        for chunk in batches(widths, self.batch_tokens):
            self._continue([longer[r] for r in chunk], group, mask, cache, continuations, out)

    def _continue(
        self,
        rows: list[Row],
        group: list[int],
        mask: torch.Tensor,
        cache: Any,
        continuations: Sequence[Sequence[Tokens]],
        out: list[list[Float]],
    ) -> None:
        """Run continuations on copies of their prompts' cache: token t is scored by the state that has read token t - 1."""
        texts = [continuations[group[g]][j] for g, j in rows]
        ids, own = padded([text[:-1] for text in texts], left=False)
        source = torch.tensor([g for g, _ in rows])
        before = mask[source]
        positions = before.sum(1, keepdim=True) + (own.cumsum(1) - 1).clamp(min=0)
        states, _ = self._forward(
            ids, torch.cat([before, own], 1), positions, _copied(cache, source)
        )
        where = own.flatten().nonzero()[:, 0].tolist()
        values = iter(
            self._gather(states.flatten(0, 1), where, [t for text in texts for t in text[1:]])
        )
        for (g, j), text in zip(rows, texts, strict=True):
            out[group[g]][j][1:] = [next(values) for _ in text[1:]]

    def _alone(
        self,
        rows: list[Row],
        prompts: Sequence[Tokens],
        continuations: Sequence[Sequence[Tokens]],
        out: list[list[Float]],
    ) -> None:
        """Every continuation with its own copy of the prompt, padded on the right, default positions."""
        widths = [len(prompts[i]) + len(continuations[i][j]) - 1 for i, j in rows]
        for chunk in batches(widths, self.batch_tokens):
            pairs = [(prompts[i], continuations[i][j]) for i, j in (rows[r] for r in chunk)]
            ids, mask = padded([[*prompt, *text][:-1] for prompt, text in pairs], left=False)
            states, _ = self._forward(ids, mask, None, None)
            width = ids.shape[1]
            where = [
                r * width + len(p) - 1 + t
                for r, (p, text) in enumerate(pairs)
                for t in range(len(text))
            ]
            values = iter(
                self._gather(states.flatten(0, 1), where, [t for _, text in pairs for t in text])
            )
            for r in chunk:
                i, j = rows[r]
                out[i][j][:] = [next(values) for _ in out[i][j]]

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
        body = (
            self.model.get_decoder()
            if self._abilities is not None and self._abilities.split
            else self.model
        )
        result = body(**inputs, use_cache=cache is not None)
        states = result.last_hidden_state if body is not self.model else result.logits
        return states, getattr(result, "past_key_values", None)

    def _gather(self, states_RF: torch.Tensor, rows: list[int], targets: list[int]) -> list[float]:
        """log softmax(head(states[row]))[target] by gather and logsumexp, ``head_tokens`` rows at a time."""
        split = self._abilities is not None and self._abilities.split
        device, values = states_RF.device, []
        for start in range(0, len(rows), self.head_tokens):
            part = slice(start, start + self.head_tokens)
            picked = states_RF[torch.tensor(rows[part], device=device)]
            logits_RV = (self.model.get_output_embeddings()(picked) if split else picked).float()
            target = torch.tensor(targets[part], device=device)[:, None]
            values.append(logits_RV.gather(1, target)[:, 0] - logits_RV.logsumexp(1))
        return torch.cat(values).double().tolist() if values else []

    def _probe(self) -> Abilities:
        """Compare both shortcuts with the plain way on a few tokens."""
        prompts, texts = [[1, 2, 3], [4]], [[[5, 6, 1], [2]], [[3, 2]]]
        reference = [np.zeros(3), np.zeros(1), np.zeros(2)]
        self._abilities = Abilities(split=False, cache=False)
        self._alone([(0, 0), (0, 1), (1, 0)], prompts, texts, [reference[:2], reference[2:]])
        split = self._head_splits()
        self._abilities = Abilities(split=split, cache=False)
        return Abilities(
            split=split, cache=self._cache_agrees(prompts, texts, np.concatenate(reference))
        )

    def _head_splits(self) -> bool:
        ids, mask = padded([[1, 2, 3, 4]], left=False)
        inputs = {
            "input_ids": ids.to(self.model.device),
            "attention_mask": mask.to(self.model.device),
            "use_cache": False,
        }
        try:
            body, head = self.model.get_decoder(), self.model.get_output_embeddings()
            if body is self.model or head is None:
                return False
            ours = head(body(**inputs).last_hidden_state)
        except (AttributeError, TypeError, ValueError, RuntimeError):
            return False
        theirs = self.model(**inputs).logits
        return ours.shape == theirs.shape and bool(
            torch.allclose(ours.float(), theirs.float(), rtol=1e-5, atol=1e-5)
        )

    def _cache_agrees(
        self, prompts: Sequence[Tokens], texts: Sequence[Sequence[Tokens]], reference: Float
    ) -> bool:
        out = [[np.zeros(len(c)) for c in row] for row in texts]
        try:
            self._group([0, 1], prompts, texts, out)
        except (AttributeError, TypeError, ValueError, RuntimeError, IndexError):
            return False
        tolerance = 1e-3 if self.model.dtype == torch.float32 else 0.3
        return bool(
            np.abs(np.concatenate([c for row in out for c in row]) - reference).max() < tolerance
        )


def batches(widths: Sequence[int], limit: int) -> list[list[int]]:
    """Indices grouped by width, widest first, so that rows times the widest of a group stays within ``limit``.

    A row wider than the limit goes alone. Every index appears once; equal widths keep their order.
    O(n log n).

    >>> batches([3, 9, 4, 4], limit=10)
    [[1], [2, 3], [0]]
    """
    groups: list[list[int]] = []
    for i in sorted(range(len(widths)), key=lambda i: -widths[i]):
        if groups and (len(groups[-1]) + 1) * widths[groups[-1][0]] <= limit:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def padded(rows: Sequence[Tokens], *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, mask), both (rows, widest) int64; the pad id is 0 and carries no meaning: only the mask does."""
    width = max(len(row) for row in rows)
    ids, mask = (
        torch.zeros(len(rows), width, dtype=torch.long),
        torch.zeros(len(rows), width, dtype=torch.long),
    )
    for r, row in enumerate(rows):
        where = slice(width - len(row), width) if left else slice(0, len(row))
        ids[r, where], mask[r, where] = torch.tensor(row, dtype=torch.long), 1
    return ids, mask


def _new_cache() -> Any:
    from transformers import DynamicCache

    return DynamicCache()


def _copied(cache: Any, rows: torch.Tensor) -> Any:
    """A cache whose row r is row ``rows[r]`` of ``cache``; ValueError where a layer keeps more than keys and values."""
    from transformers.cache_utils import DynamicLayer

    copy = _new_cache()
    for number, layer in enumerate(cache.layers):
        if type(layer) is not DynamicLayer:
            raise ValueError(
                f"layer {number} keeps a {type(layer).__name__}, which cannot be shared between rows"
            )
        picked = rows.to(layer.keys.device)
        copy.update(
            layer.keys.index_select(0, picked), layer.values.index_select(0, picked), number
        )
    return copy
