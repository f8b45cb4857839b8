"""A local language model as judge: how much more likely it answers yes than no to a question.

    score = log P(yes | question) - log P(no | question)

summed over the spellings of either word as the answer's first token. Several questions of one model
are several arms; they share its weights. A response that does not fit the model's context is
abstained from. One forward pass a response, nothing is generated.

Left out: pairs and lists of responses (small models follow their order more than their content).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reward_router.chat import Prompt
from reward_router.errors import InputError
from reward_router.kinds import ArmKind
from reward_router.rewards import template as chat
from reward_router.rewards.remote.reading import fill, places, plain
from reward_router.rewards.weights import context_of
from reward_router.types import Float

QUESTION = "Is the response a good answer to the prompt? Answer yes or no."
LAYOUT = "Prompt: {prompt}\n\nResponse: {response}\n\n{question}"
YES = ("yes", "Yes", " yes", " Yes", "YES")
NO = ("no", "No", " no", " No", "NO")


class LocalJudge:
    """log P(yes) - log P(no) of a causal language model, asked about one response at a time.

    >>> from reward_router.rewards.tiny import tiny_llama
    >>> arm = LocalJudge(*tiny_llama(), question="Is it polite? Answer yes or no.")
    >>> arm.score(["Say hi."], [["hi", "hello"]]).shape
    (1, 2)
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        question: str = QUESTION,
        prompt: str = LAYOUT,
        chat_template: str | None = None,
        batch_tokens: int = 4096,
    ) -> None:
        """Checks the options; runs nothing.

        Args:
            model: A causal language model.
            tokenizer: Its own.
            question: What is asked, to be answered by yes or no.
            prompt: How the question is put, with places {prompt}, {response} and {question}.
            chat_template: None for the tokenizer's own, ``plain``, or Jinja text.
            batch_tokens: Most tokens a forward pass, padding included.
        """
        check_judge_options({"question": question, "prompt": prompt, "batch_tokens": batch_tokens})
        self.model = model
        self.tokenizer = tokenizer
        self.question = question
        self.layout = prompt
        self.batch_tokens = batch_tokens
        self.template = chat.check_template(tokenizer, chat_template, "the judge's tokenizer")
        self.max_length = context_of(model.config) or 2**31
        yes_tokens = _first_tokens(tokenizer, YES)
        no_tokens = _first_tokens(tokenizer, NO)
        # A token that begins both, such as a space alone, says nothing.
        self.yes = sorted(yes_tokens - no_tokens)
        self.no = sorted(no_tokens - yes_tokens)
        if not self.yes or not self.no:
            raise InputError(
                "the judge's tokenizer begins yes and no with the same tokens; "
                "it cannot be asked this way"
            )

    def render(self, prompt: Prompt, response: str) -> str:
        """What the model reads."""
        values = {
            "prompt": plain(prompt),
            "response": str(response),
            "question": self.question,
        }
        text = str(fill(self.layout, values))
        conversation = chat.prompt_messages(text)
        return chat.render_chat(self.tokenizer, conversation, self.template, generate=True)

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Float:
        """(B, N) log-odds of yes.

        NaN where a row is shorter than the longest, or a text does not fit the model.
        """
        n_responses = max((len(row) for row in responses), default=0)
        scores_BN = np.full((len(prompts), n_responses), np.nan)

        tokens_by_cell: dict[tuple[int, int], list[int]] = {}
        for b, (prompt, row) in enumerate(zip(prompts, responses, strict=True)):
            for n, response in enumerate(row):
                text = self.render(prompt, response)
                tokens = chat.prompt_tokens(self.tokenizer, text)
                if len(tokens) <= self.max_length:
                    tokens_by_cell[b, n] = tokens

        for cells in self._batches(tokens_by_cell):
            log_odds = self._odds([tokens_by_cell[cell] for cell in cells])
            for cell, value in zip(cells, log_odds, strict=True):
                scores_BN[cell] = value
        return scores_BN

    def _batches(self, texts: Mapping[tuple[int, int], list[int]]) -> list[list[tuple[int, int]]]:
        """Places of texts of similar length, so that little is padded."""
        # Ties by place, so that batches do not depend on the order of a dictionary.
        shortest_first = sorted(texts, key=lambda place: (len(texts[place]), place))
        batches: list[list[tuple[int, int]]] = []
        for place in shortest_first:
            # The newest text is the longest of its batch, and all are padded to it.
            longest = len(texts[place])
            is_full = bool(batches) and (len(batches[-1]) + 1) * longest > self.batch_tokens
            if not batches or is_full:
                batches.append([])
            batches[-1].append(place)
        return batches

    def _odds(self, tokens: Sequence[list[int]]) -> list[float]:
        """log P(yes) - log P(no) as the next token after each text."""
        import torch

        n_texts = len(tokens)
        width = max(map(len, tokens))
        ids = torch.zeros((n_texts, width), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, text in enumerate(tokens):  # padded behind, so that no position moves
            ids[row, : len(text)] = torch.tensor(text)
            mask[row, : len(text)] = 1

        last = mask.sum(1) - 1
        device = next(self.model.parameters()).device
        with torch.inference_mode():
            output = self.model(
                input_ids=ids.to(device), attention_mask=mask.to(device), **self._last_only(last)
            )
            logits = output.logits
            every_row = torch.arange(n_texts)
            if logits.shape[1] == width:
                places = last
            else:  # only the positions that end a text were kept
                kept = torch.unique(last)
                places = torch.searchsorted(kept, last)
            logits = logits[every_row, places.to(logits.device)]
            # A word has several spellings, and each is a token: their probabilities add up.
            yes = logits[:, self.yes].double().logsumexp(1)
            no = logits[:, self.no].double().logsumexp(1)
        return [float(value) for value in (yes - no).cpu()]

    def _last_only(self, last: Any) -> dict[str, Any]:
        """What lets the output head run on last positions alone, where the model can do that."""
        import inspect

        import torch

        known = inspect.signature(self.model.forward).parameters
        return {"logits_to_keep": torch.unique(last)} if "logits_to_keep" in known else {}


def check_judge_options(options: Mapping[str, Any]) -> None:
    """InputError for options that cannot be right."""
    question = options.get("question", QUESTION)
    layout = options.get("prompt", LAYOUT)
    most = options.get("batch_tokens", 1)
    if not isinstance(question, str) or not question.strip():
        raise InputError(
            f"question is {question!r}; what is to be answered by yes or no is expected"
        )
    missing = ["response"]
    if isinstance(layout, str):
        missing = sorted({"response", "question"} - places(layout))
    if missing:
        raise InputError(f"prompt needs a place {{{missing[0]}}}")
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise InputError(f"batch_tokens is {most!r}; it must be a whole number of at least 1")


def _first_tokens(tokenizer: Any, words: Sequence[str]) -> set[int]:
    """The tokens that the words begin with."""
    return {chat.prompt_tokens(tokenizer, word)[0] for word in words}


KIND = ArmKind(
    "local_judge",
    LocalJudge,
    "a local language model that answers yes or no: the log-odds of yes",
    loader="causal",
    hidden=("model", "tokenizer"),
    ragged=True,
    check=check_judge_options,
)
