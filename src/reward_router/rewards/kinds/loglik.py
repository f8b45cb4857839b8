"""A language model as reward model: the log-likelihood of a response given the prompt.

    sum      log pi(y | x) = sum_t log pi(y_t | x, y_<t)
    mean     1/T sum_t log pi(y_t | x, y_<t)
    pmi      1/T sum_t [ log pi(y_t | x, y_<t) - log pi(y_t | o, y_<t) ]
    pmi_sum  sum_t [ ... ] = log pi(y | x) / pi(y | o)

``sum`` is the text of the paper (LASER, section 3.1) and prefers short answers; ``pmi`` controls
for length. t runs over the T response tokens, EOS included, prompt excluded. o is the model's own
chat template around an empty user message, so the difference keeps what the prompt adds and drops
what any answer would get. A response that does not fit the model's context is abstained from (NaN).
Each response costs a prompt's share plus its own tokens; pmi costs twice its own tokens.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reward_router.chat import Prompt
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

    def render(self, prompt: Prompt, response: str) -> str:
        """The text that is scored, to look at: prompt, response, EOS."""
        conversation = chat.prompt_messages(prompt)
        prompt_text = self._prompt_text(conversation)
        answer = self._continuation(conversation, response)
        return prompt_text + answer + str(self.tokenizer.eos_token)

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Float:
        """(B, N) scores.

        NaN where a row is shorter than the longest, or a response does not fit the model. Prompts
        are strings or chat messages. Equal responses of a prompt are computed once.
        """
        n_responses = max((len(row) for row in responses), default=0)
        scores_BN = np.full((len(prompts), n_responses), np.nan)
        is_sum = self.reduction in ("sum", "pmi_sum")
        logps_by_cell = self.token_logprobs(prompts, responses)
        for (b, n), logps_T in logps_by_cell.items():
            score = logps_T.sum() if is_sum else logps_T.mean()
            scores_BN[b, n] = score
        return scores_BN

    def token_logprobs(
        self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]
    ) -> dict[tuple[int, int], Float]:
        """Of every response (b, n) that fits the model, one value a token, EOS last.

        It is the token's log-probability, or for pmi the difference of the two.
        """
        prompt_ids: list[list[int]] = []
        places: list[dict[str, int]] = []
        tokens: list[list[list[int]]] = []
        for prompt, row in zip(prompts, responses, strict=True):
            conversation = chat.prompt_messages(prompt)
            text = self._prompt_text(conversation)
            # The prompt is tokenised alone, as the policy sees it before it writes.
            ids = chat.prompt_tokens(self.tokenizer, text)
            distinct = list(dict.fromkeys(row))
            written = [self._continuation(conversation, response) for response in distinct]
            row_tokens = chat.response_tokens(self.tokenizer, text, ids, written)
            room = self.max_length - len(ids)
            prompt_ids.append(ids)
            # Equal responses share a place: they are computed once and read as often as they occur.
            places.append({response: place for place, response in enumerate(distinct)})
            # No tokens stand for a response that does not fit; every other one has its EOS.
            tokens.append([own if len(own) <= room else [] for own in row_tokens])

        values = self._scorer.logprobs(prompt_ids, tokens)
        if self.reduction.startswith("pmi"):
            values = self._minus_unconditional(values, tokens)
        by_cell: dict[tuple[int, int], Float] = {}
        for b, row in enumerate(responses):
            for n, response in enumerate(row):
                place = places[b][response]
                # Without tokens it did not fit: no value at all, which `score` turns into NaN.
                if tokens[b][place]:
                    by_cell[b, n] = values[b][place]
        return by_cell

    def _continuation(self, conversation: list[dict[str, Any]], response: str) -> str:
        return chat.continuation(self.tokenizer, conversation, response, self.template)

    def _minus_unconditional(
        self, values: list[list[Float]], tokens: list[list[list[int]]]
    ) -> list[list[Float]]:
        """log pi(y_t | x, y_<t) - log pi(y_t | o, y_<t).

        The empty prompt is one prefix for every response of the call.
        """
        empty_prompt = self._prompt_text(chat.prompt_messages(""))
        empty_ids = chat.prompt_tokens(self.tokenizer, empty_prompt)
        texts: list[tuple[int, ...]] = []
        for row in tokens:
            texts += [tuple(text) for text in row if text]
        # Under the empty prompt a text has one value, whichever prompts it answers.
        distinct = list(dict.fromkeys(texts))
        [unconditional] = self._scorer.logprobs([empty_ids], [distinct])
        base_T_of = dict(zip(distinct, unconditional, strict=True))

        differences: list[list[Float]] = []
        for row_values, row_tokens in zip(values, tokens, strict=True):
            row_differences = []
            for value_T, text in zip(row_values, row_tokens, strict=True):
                # What did not fit has no tokens, and nothing to subtract.
                row_differences.append(value_T - base_T_of[tuple(text)] if text else value_T)
            differences.append(row_differences)
        return differences

    def _prompt_text(self, messages: list[dict[str, Any]]) -> str:
        return chat.render_chat(self.tokenizer, messages, self.template, generate=True)


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
