"""A trained preference model as reward model: one logit of a sequence classifier over prompt and response.

Where a decoder's configuration names a pad token, its own rule (the last token that is not the pad token) pools, and rows
are padded on the right; where it names none, rows are padded on the left, the last place is every row's last token, and
positions are given. Either way a row in a batch scores as it does alone. Encoders (with a [CLS] token and no chat
template) get prompt and response as a text pair.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from reward_router.errors import InputError
from reward_router.rewards import template as chat
from reward_router.types import Float

Row = tuple[tuple[int, ...], tuple[int, ...]]
"""Token ids, and their segment (0 prompt, 1 response) for an encoder that reads it."""

NO_TOKEN = -1
"""A pad id that equals no token, so that a model pools the last place of every row."""


class Classifier:
    """logits[:, ``logit``] of ``AutoModelForSequenceClassification``, higher is better (Bradley-Terry reward models: logit 0).

    ``batch_tokens`` bounds padded positions per forward; a conversation over ``max_length`` tokens is abstained from (NaN).
    Equal conversations are computed once. Deterministic for the same call.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        chat_template: str | None = None,
        logit: int = 0,
        batch_tokens: int = 4096,
        max_length: int | None = None,
    ) -> None:
        """Checks the options; runs nothing. Sets the pad token of a model that has none."""
        if not 0 <= logit < model.config.num_labels:
            raise InputError(f"logit is {logit}; the classifier has {model.config.num_labels}, counted from 0")
        self.model, self.tokenizer, self.logit, self.batch_tokens = model, tokenizer, logit, batch_tokens
        self.pairs = chat_template is None and not tokenizer.chat_template and tokenizer.cls_token is not None
        self.template = (
            None if self.pairs else chat.check_template(tokenizer, chat_template, "the classifier's tokenizer")
        )
        limit = getattr(model.config, "max_position_embeddings", None) or 2**31
        self.max_length = max_length or int(min(limit, tokenizer.model_max_length) if self.pairs else limit)
        self.left = model.config.pad_token_id in (None, NO_TOKEN)
        if self.left:
            model.config.pad_token_id = NO_TOKEN
        self.pad = 0 if self.left else int(model.config.pad_token_id)
        self._takes_positions = "position_ids" in inspect.signature(model.forward).parameters

    def render(self, prompt: chat.Prompt, response: str) -> str:
        """The text that is scored, to look at."""
        if self.pairs:
            return f"{chat.user_text(prompt)} {self.tokenizer.sep_token} {response}"
        conversation = [*chat.messages(prompt), chat.answered(response)]
        return chat.render(self.tokenizer, conversation, self.template, generate=False)

    def score(self, prompts: Sequence[chat.Prompt], responses: Sequence[Sequence[str]]) -> Float:
        """(B, N) logits, NaN where a row is shorter than the longest or a conversation does not fit the model."""
        scores_BN = np.full((len(prompts), max((len(r) for r in responses), default=0)), np.nan)
        places: dict[Row, list[tuple[int, int]]] = {}
        for b, (prompt, row) in enumerate(zip(prompts, responses, strict=True)):
            for n, response in enumerate(row):
                tokens = self._tokens(prompt, response)
                if len(tokens[0]) <= self.max_length:
                    places.setdefault(tokens, []).append((b, n))
        for tokens, value in zip(places, self._logits(list(places)), strict=True):
            for b, n in places[tokens]:
                scores_BN[b, n] = value
        return scores_BN

    def _tokens(self, prompt: chat.Prompt, response: str) -> Row:
        if self.pairs:
            encoded = self.tokenizer(chat.user_text(prompt), response)
            return tuple(encoded["input_ids"]), tuple(encoded.get("token_type_ids", ()))
        return tuple(chat.prompt_tokens(self.tokenizer, self.render(prompt, response))), ()

    def _logits(self, rows: list[Row]) -> list[float]:
        import torch

        from reward_router.rewards.prefix import batches, padded

        out = [np.nan] * len(rows)
        for group in batches([len(ids) for ids, _ in rows], self.batch_tokens):
            ids, mask = padded([rows[r][0] for r in group], left=self.left)
            ids = ids.masked_fill(mask == 0, self.pad)
            inputs = {"input_ids": ids.to(self.model.device), "attention_mask": mask.to(self.model.device)}
            if self.left and self._takes_positions:
                inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0).to(self.model.device)
            if all(rows[r][1] for r in group):
                inputs["token_type_ids"] = padded([rows[r][1] for r in group], left=False)[0].to(self.model.device)
            with torch.inference_mode():
                logits = self.model(**inputs).logits[:, self.logit].double().tolist()
            for r, value in zip(group, logits, strict=True):
                out[r] = value
        return out
