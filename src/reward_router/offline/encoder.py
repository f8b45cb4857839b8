"""Pairs of responses to contexts.

A language model's states of both, made symmetric, and the head that was learned on them:

    e = Enc(x, y), e' = Enc(x, y');  features = [(e + e') / 2 ; |e - e'|];
    h = MLP(features) of unit norm

Where the encoder is asked for the prompt's own vector, Enc(x) stands beside them, so that few pairs
are enough to tell kinds of prompts apart. A causal model gives the state of the last non-pad token,
an encoder the mean of its states. Each distinct text is encoded once. Deviation from the paper: e
and e' have unit norm before they are combined, and so have the features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from reward_router.chat import Prompt
from reward_router.errors import InputError
from reward_router.features import pair_rows, unit_rows
from reward_router.offline.strengths import Strengths
from reward_router.offline.text import fit, halves, prompt_text
from reward_router.rewards import loading
from reward_router.types import Float

POOLING = ("last", "mean")


@dataclass(frozen=True)
class EncoderId:
    """Which encoder h was made by.

    Args:
        model: its name.
        weights: their hash.
        pooling: how its states become one vector.
        max_tokens: of prompt and response together.
        tuned: whether its weights were learned with the strengths.
        with_prompt: whether features hold the prompt's own vector.
    """

    model: str
    weights: str
    pooling: str
    max_tokens: int
    tuned: bool = False
    with_prompt: bool = False

    def differs(self, other: "EncoderId") -> str:
        """'' where both give the same features, else which of their properties differ."""
        names: tuple[str, ...] = ("weights", "pooling", "max_tokens", "with_prompt")
        # A tuned encoder lies in the prior's folder, under whatever name.
        names = names if self.tuned else ("model", *names)
        differences = []
        for name in names:
            mine = getattr(self, name)
            theirs = getattr(other, name)
            if mine != theirs:
                differences.append(f"{name} {mine!r} against {theirs!r}")
        return ", ".join(differences)


class TextEncoder:
    """(prompt, response) texts to vectors of unit norm by the states of a frozen or tuned model.

    InputError where the model cannot be loaded or has no token limit left.
    """

    def __init__(  # noqa: PLR0913 - one argument for each key of the encoder's configuration
        self,
        model: str,
        *,
        pooling: str = "auto",
        max_tokens: int = 1024,
        batch: int = 16,
        dtype: str = "auto",
        device: str = "auto",
        trust_remote_code: bool = False,
        name: str | None = None,
        with_prompt: bool = False,
    ) -> None:
        """Loads the model.

        Args:
            model: a name or a folder.
            pooling: last, mean, or auto (by the kind of model).
            max_tokens: of prompt and response together, never more than the model's own limit.
            batch: texts a forward pass.
            dtype: of the weights.
            device: where it runs.
            trust_remote_code: whether code that comes with the model may run.
            name: what it is called where ``model`` is a folder inside a prior.
            with_prompt: whether features of a pair hold the prompt's own vector, too.
        """
        torch_device = loading.torch_device(device)
        self.body: Any = loading.load_body(
            model, dtype=dtype, device=torch_device, trust_remote_code=trust_remote_code
        )
        self.tokenizer: Any = loading.load_tokenizer(model, trust_remote_code=trust_remote_code)
        self.before, self.after = _specials(self.tokenizer)
        limit = int(getattr(self.body.config, "max_position_embeddings", None) or max_tokens)
        self.room = min(max_tokens, limit) - len(self.before) - len(self.after)
        if self.room < 8:
            raise InputError(
                f"encoder {model}: max_tokens={max_tokens} leaves {self.room} tokens for a pair; "
                "give more"
            )
        self.batch = batch
        self.device = torch_device
        self.pooling = _pooling(pooling, model, self.body)
        weights = loading.model_identity(model)
        self.id = EncoderId(
            name or model, weights, self.pooling, max_tokens, name is not None, with_prompt
        )

    @property
    def dim(self) -> int:
        """Width of one text's vector."""
        return int(self.body.config.hidden_size)

    @property
    def width(self) -> int:
        """Features of a pair."""
        return (3 if self.id.with_prompt else 2) * self.dim

    def tokens(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, cut to fit.

        A part that several texts share is tokenised once, all parts in one call.
        """
        texts = [halves(prompt, text) for prompt, text in zip(prompts, responses, strict=True)]
        # A prompt is a part of many texts, and tokenising is most of the time on a CPU.
        parts = list(dict.fromkeys(chain.from_iterable(texts)))
        part_ids: list[list[int]] = []
        if parts:
            encoded = self.tokenizer(parts, add_special_tokens=False, verbose=False)
            part_ids = encoded["input_ids"]
        ids = dict(zip(parts, part_ids, strict=True))

        rows = []
        for prompt_part, response_part in texts:
            inner = fit(ids[prompt_part], ids[response_part], self.room)
            rows.append([*self.before, *inner, *self.after])
        return rows

    def encode(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Float:
        """(B, dim) float64 rows of unit norm, one a prompt and its response.

        One forward of ``batch`` texts at a time.
        """
        import torch

        ids = self.tokens(prompts, responses)
        n_texts = len(ids)
        # Texts of one length together: little padding.
        order = sorted(range(n_texts), key=lambda i: len(ids[i]))

        out_BD = np.zeros((n_texts, self.dim))
        with torch.inference_mode():
            for start in range(0, n_texts, self.batch):
                rows = order[start : start + self.batch]
                states = self.states([ids[i] for i in rows])
                out_BD[rows] = states.double().cpu().numpy()
        return unit_rows(out_BD)

    def states(self, ids: Sequence[Sequence[int]]) -> Any:
        """(B, dim) pooled states of token ids as a float32 tensor.

        They have gradients where those are on.
        """
        return pooled(*self.hidden(ids), self.pooling)

    def hidden(self, ids: Sequence[Sequence[int]]) -> tuple[Any, Any]:
        """(B, T, dim) float32 states of every token, and the (B, T) mask of those that count."""
        import torch

        n_texts = len(ids)
        width = max(len(row) for row in ids)
        tokens = torch.full((n_texts, width), int(self.tokenizer.pad_token_id))
        mask = torch.zeros(n_texts, width, dtype=torch.long)
        for i, row in enumerate(ids):
            tokens[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        tokens = tokens.to(self.device)
        mask = mask.to(self.device)
        states = self.body(input_ids=tokens, attention_mask=mask).last_hidden_state.float()
        return states, mask

    def features(
        self, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
    ) -> Float:
        """(P, width) pair features; swapping ``first`` and ``second`` changes nothing.

        The prompt's vector, if wanted, comes last.
        """
        number_of: dict[tuple[str, str], int] = {}
        texts: list[tuple[Prompt, str]] = []
        numbers: list[int] = []
        both = chain(zip(prompts, first, strict=True), zip(prompts, second, strict=True))
        for prompt, response in both:
            # A response that stands in several pairs is encoded once.
            number = number_of.setdefault(halves(prompt, response), len(texts))
            if number == len(texts):
                texts.append((prompt, response))
            numbers.append(number)

        text_prompts = [prompt for prompt, _ in texts]
        text_responses = [response for _, response in texts]
        rows_XD = self.encode(text_prompts, text_responses)
        # All first responses come before all second ones.
        n_pairs = len(first)
        pairs_PF = pair_rows(rows_XD[numbers[:n_pairs]], rows_XD[numbers[n_pairs:]])
        if not self.id.with_prompt:
            return pairs_PF

        # A prompt is encoded as a text without a response, once for all its pairs.
        prompt_texts = list(map(prompt_text, prompts))
        distinct = list(dict.fromkeys(prompt_texts))
        no_responses = [""] * len(distinct)
        prompt_XD = self.encode(distinct, no_responses)
        number_of_prompt = {text: x for x, text in enumerate(distinct)}
        prompt_PD = prompt_XD[[number_of_prompt[text] for text in prompt_texts]]
        return np.concatenate([pairs_PF, prompt_PD], axis=1)


def pooled(states: Any, mask: Any, pooling: str) -> Any:
    """(B, dim) one vector a row: the last state that counts, or the mean of those that do."""
    import torch

    if pooling == "last":
        return states[torch.arange(len(states)), mask.sum(dim=1) - 1]
    return (states * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)


class PairEncoder:
    """What the router of a prior sees, (P, D) rows of unit norm.

    They are `TextEncoder.features` through the head that was learned.

    `Prior.encoder` and `PairEncoder.load` make one.
    """

    def __init__(self, texts: TextEncoder, strengths: Strengths) -> None:
        """InputError where the head was learned on features of another width."""
        if len(strengths.centre_F) != texts.width:
            raise InputError(
                f"encoder {texts.id.model} gives pair features of {texts.width}, "
                f"the strengths were learned on {len(strengths.centre_F)}"
            )
        self.texts = texts
        self.strengths = strengths

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto") -> "PairEncoder":
        """The encoder of the prior saved in ``folder``.

        InputError where its weights are not those it was learned with.
        """
        from reward_router.offline.prior import load_prior

        return load_prior(folder).encoder(device=device)

    @property
    def dim(self) -> int:
        """D."""
        return self.strengths.dim

    def pairs(
        self, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
    ) -> Float:
        """(P, D) float64 rows h of unit norm, independent of the order of the two responses."""
        if not prompts:
            return np.zeros((0, self.dim))
        return self.strengths.encode(self.texts.features(prompts, first, second))


def _specials(tokenizer: Any) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after a text."""
    # Found by encoding one letter both ways: tokenizers do not say it alike.
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a", add_special_tokens=True)["input_ids"]

    starts = (i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)
    start = next(starts)
    stop = start + len(plain)
    before = list(whole[:start])
    after = list(whole[stop:])
    return before, after


def _pooling(pooling: str, model: str, body: Any) -> str:
    if pooling in POOLING:
        return pooling
    if pooling != "auto":
        raise InputError(f"pooling {pooling!r}; allowed: auto, {', '.join(POOLING)}")
    config = body.config
    # A BERT sees both directions, so that its mean is of whole sentences.
    is_bert = "bert" in str(config.model_type)
    bidirectional = getattr(config, "is_decoder", None) is False and is_bert
    return "mean" if bidirectional or model == loading.MINILM else "last"
