"""ROSCOE's perplexities as a reward model: how probable the text is, whatever was asked.

    perplexity_chain   1 / PPL(h)                      PPL(h) = exp(-1/T sum_t log p(h_t | h_<t))
    perplexity_step    1 / [1/N sum_i PPL(h_i)]        each step h_i on its own

Language coherence (LC) of Golovneva et al. (2023, arXiv 2212.07919). In (0, 1], higher is
better. Tokens follow the model's own first token and nothing else: no prompt, no chat template. The
paper's model is GPT-2 large. Its code weighs the steps by their tokens; this follows its text.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reward_router.chat import Prompt
from reward_router.errors import InputError
from reward_router.kinds import ArmKind, nearest
from reward_router.rewards.identity import modules_code
from reward_router.rewards.kinds.roscoe import ELSEWHERE
from reward_router.rewards.loading import SMOLLM2
from reward_router.rewards.roscoe.alignment import METRICS as ON_VECTORS
from reward_router.rewards.roscoe.steps import steps_of
from reward_router.rewards.weights import context_of
from reward_router.types import Float

METRICS = tuple(name for name, kind in ELSEWHERE.items() if kind == "roscoe_lm")


class RoscoeLm:
    """1 / perplexity of a response under a causal language model, in (0, 1]; higher is better.

    A blank response is abstained from (NaN). Each distinct text is computed once.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        metric: str,
        max_tokens: int | None = None,
        batch_tokens: int = 4096,
    ) -> None:
        """Checks the options; runs nothing.

        Args:
            model: A causal language model.
            tokenizer: Its own.
            metric: ``perplexity_chain`` or ``perplexity_step``.
            max_tokens: Tokens of a text that are read, from its beginning; None: as many as the
                model takes.
            batch_tokens: Most padded positions a forward pass.
        """
        from reward_router.rewards.prefix import TokenScorer

        _check({"metric": metric, "max_tokens": max_tokens})
        first = tokenizer.bos_token_id
        if first is None:
            first = tokenizer.eos_token_id
        if first is None:
            raise InputError("the tokenizer has neither a BOS nor an EOS token to begin with")
        self.metric = metric
        self.tokenizer = tokenizer
        self.first_token = int(first)
        # One position is the first token's.
        room = (context_of(model.config) or 2**31) - 1
        self.max_tokens = min(max_tokens or room, room)
        self._scorer = TokenScorer(model, batch_tokens=batch_tokens)

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Float:
        """(B, N) scores, NaN where a row is shorter than the longest or a response is blank."""
        scores_BN = np.full((len(prompts), max((len(row) for row in responses), default=0)), np.nan)
        parts: dict[tuple[int, int], list[str]] = {}
        for b, row in enumerate(responses):
            for n, response in enumerate(row):
                if response.strip():
                    parts[b, n] = self._parts(str(response))
        perplexity = self._perplexities(list(dict.fromkeys(t for p in parts.values() for t in p)))
        for (b, n), texts in parts.items():
            scores_BN[b, n] = 1.0 / float(np.mean([perplexity[text] for text in texts]))
        return scores_BN

    def _parts(self, response: str) -> list[str]:
        return [response] if self.metric == "perplexity_chain" else steps_of(response)

    def _perplexities(self, texts: list[str]) -> dict[str, float]:
        """exp of the mean negative log-probability of a text's tokens, by text."""
        if not texts:
            return {}
        ids = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        cut = [own[: self.max_tokens] for own in ids]
        [logps] = self._scorer.logprobs([[self.first_token]], [cut])
        return {
            text: float(np.exp(-one_T.mean())) for text, one_T in zip(texts, logps, strict=True)
        }


def _check(options: Mapping[str, Any]) -> None:
    name = str(options["metric"])
    most = options.get("max_tokens")
    if name in ON_VECTORS:
        raise InputError(f"metric {name} is one of kind roscoe; write that as the kind")
    if name in ELSEWHERE and name not in METRICS:
        raise InputError(f"metric {name} is one of kind {ELSEWHERE[name]}; write that as the kind")
    if name not in METRICS:
        raise InputError(f"metric {name!r} is unknown{nearest(name, METRICS)}")
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise InputError(f"max_tokens is {most!r}; a whole number from 1 is expected")


_MODULES = ("reward_router.rewards.kinds.roscoe_lm", "reward_router.rewards.roscoe.steps")

KIND = ArmKind(
    "roscoe_lm",
    RoscoeLm,
    "ROSCOE's perplexity of a response under a language model",
    loader="causal",
    default_model=SMOLLM2,
    hidden=("model", "tokenizer"),
    ragged=True,
    check=_check,
    code=lambda options: modules_code(_MODULES, options),
)
