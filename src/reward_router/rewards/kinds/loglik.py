"""A language model as reward model: the log-likelihood of a response given the prompt.

    sum      log pi(y | x) = sum_t log pi(y_t | x, y_<t)
    mean     1/T sum_t log pi(y_t | x, y_<t)
    pmi      1/T sum_t [ log pi(y_t | x, y_<t) - log pi(y_t | o, y_<t) ]
    pmi_sum  sum_t [ ... ] = log pi(y | x) / pi(y | o)

``sum`` is the text of the paper (LASER, section 3.1) and prefers short answers; ``pmi`` controls for
length. t runs over the T response tokens, EOS included, prompt excluded. o is the model's own chat
template around an empty user message, so the difference keeps what the prompt adds and drops what
any answer would get. A response that does not fit the model's context is abstained from (NaN). Each
response costs a prompt's share plus its own tokens; pmi costs twice its own tokens.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reward_router.errors import InputError
from reward_router.kinds import ArmKind, nearest
from reward_router.rewards import template as chat
from reward_router.rewards.weights import context_of
from reward_router.types import Float

REDUCTIONS = ("sum", "mean", "pmi", "pmi_sum")


class LogLik:
    """log pi(response | prompt) under a causal language model.

    The prompt is computed once for its responses. Deterministic; float64 out whatever the model's
    dtype.

    >>> from reward_router.rewards.tiny import tiny_llama
    >>> arm = LogLik(*tiny_llama(), reduction="mean")
    >>> arm.score(["Say hi."], [["hi", "hello"]]).shape
    (1, 2)
    """

    def __init__(  # noqa: PLR0913 (the options of the kind)
        self,
        model: Any,
        tokenizer: Any,
        reduction: str = "mean",
        *,
        chat_template: str | None = None,
        batch_tokens: int = 4096,
        max_length: int | None = None,
        share: bool = True,
    ) -> None:
        """Checks the options; runs nothing.

        Args:
            model: A causal language model.
            tokenizer: Its own.
            reduction: One of `REDUCTIONS`.
            chat_template: None for the tokenizer's own, ``plain``, or Jinja text.
            batch_tokens: Most padded positions a forward pass.
            max_length: Most tokens of prompt, response and EOS together; None: as many as the
                model's configuration says.
            share: Whether the prompt is computed once for its responses.
        """
        from reward_router.rewards.prefix import TokenScorer

        if reduction not in REDUCTIONS:
            raise InputError(
                f"reduction {reduction!r} is unknown; allowed: {', '.join(REDUCTIONS)}"
            )
        if batch_tokens < 1:
            raise InputError(f"batch_tokens is {batch_tokens}; it must be at least 1")
        self.tokenizer = tokenizer
        self.reduction = reduction
        self.template = chat.check_template(
            tokenizer, chat_template, "the log-likelihood arm's tokenizer"
        )
        self.max_length = max_length or (context_of(model.config) or 2**31)
        self._scorer = TokenScorer(model, batch_tokens=batch_tokens, share=share)

    @property
    def token_forwards(self) -> int:
        """Positions run through the model so far, padding included."""
        return self._scorer.token_forwards

    def render(self, prompt: chat.Prompt, response: str) -> str:
        """The text that is scored, to look at: prompt, response, EOS."""
        asked = chat.messages(prompt)
        answer = chat.continuation(self.tokenizer, asked, response, self.template)
        return self._prompt_text(asked) + answer + str(self.tokenizer.eos_token)

    def score(self, prompts: Sequence[chat.Prompt], responses: Sequence[Sequence[str]]) -> Float:
        """(B, N) scores.

        NaN where a row is shorter than the longest, or a response does not fit the model. Prompts
        are strings or chat messages. Equal responses of a prompt are computed once.
        """
        scores_BN = np.full((len(prompts), max((len(r) for r in responses), default=0)), np.nan)
        for (b, n), tokens in self.token_logprobs(prompts, responses).items():
            scores_BN[b, n] = (
                tokens.sum() if self.reduction in ("sum", "pmi_sum") else tokens.mean()
            )
        return scores_BN

    def token_logprobs(
        self, prompts: Sequence[chat.Prompt], responses: Sequence[Sequence[str]]
    ) -> dict[tuple[int, int], Float]:
        """Of every response (b, n) that fits the model, one value a token, EOS last.

        It is the token's log-probability, or for pmi the difference of the two.
        """
        texts = [self._prompt_text(chat.messages(p)) for p in prompts]
        ids = [chat.prompt_tokens(self.tokenizer, text) for text in texts]
        unique = [list(dict.fromkeys(row)) for row in responses]
        written = [
            [chat.continuation(self.tokenizer, chat.messages(p), r, self.template) for r in row]
            for p, row in zip(prompts, unique, strict=True)
        ]
        tokens = [
            chat.response_tokens(self.tokenizer, *row)
            for row in zip(texts, ids, written, strict=True)
        ]
        fits = [
            [len(p) + len(t) <= self.max_length for t in row]
            for p, row in zip(ids, tokens, strict=True)
        ]
        asked = [
            [t if ok else [] for t, ok in zip(*row, strict=True)]
            for row in zip(tokens, fits, strict=True)
        ]
        values = self._scorer.logprobs(ids, asked)
        if self.reduction.startswith("pmi"):
            values = self._minus_unconditional(values, asked)
        return {
            (b, n): values[b][unique[b].index(response)]
            for b, row in enumerate(responses)
            for n, response in enumerate(row)
            if fits[b][unique[b].index(response)]
        }

    def _minus_unconditional(
        self, values: list[list[Float]], tokens: list[list[list[int]]]
    ) -> list[list[Float]]:
        """log pi(y_t | x, y_<t) - log pi(y_t | o, y_<t).

        The empty prompt is one prefix for every response of the call.
        """
        empty = chat.prompt_tokens(self.tokenizer, self._prompt_text(chat.messages("")))
        flat = list(dict.fromkeys(tuple(t) for row in tokens for t in row if t))
        base = dict(zip(flat, self._scorer.logprobs([empty], [flat])[0], strict=True))
        return [
            [v - base[tuple(t)] if t else v for v, t in zip(*row, strict=True)]
            for row in zip(values, tokens, strict=True)
        ]

    def _prompt_text(self, messages: list[dict[str, Any]]) -> str:
        return chat.render(self.tokenizer, messages, self.template, generate=True)


def _check(options: Mapping[str, Any]) -> None:
    reduction = options.get("reduction")
    if reduction is not None and reduction not in REDUCTIONS:
        raise InputError(f"reduction {reduction!r} is unknown{nearest(str(reduction), REDUCTIONS)}")


KIND = ArmKind(
    "loglik",
    LogLik,
    "log-likelihood of the response under a language model",
    loader="causal",
    hidden=("model", "tokenizer", "share"),
    ragged=True,
    check=_check,
)
