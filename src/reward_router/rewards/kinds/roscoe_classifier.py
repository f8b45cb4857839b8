"""ROSCOE's metrics of a trained classifier: contradiction (an NLI model) and grammar (a CoLA one).

    self_consistency     1 - max_{i > j} p_contradiction(h_j, h_i)
    source_consistency   1 - max_{i, j} p_contradiction(s_j, h_i)
    grammar              1/N sum_i p_acceptable(h_i)

Logical inference (LI) and language coherence (LC) of Golovneva et al. (2023, arXiv
2212.07919). In [0, 1], higher is better. The paper's models are a DeBERTa-v3-large for NLI and a
RoBERTa-large for CoLA; none is small enough to come with this package, so that ``model`` has no
default. What comes earlier in the chain is the premise.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np

from reward_router.chat import Prompt
from reward_router.errors import InputError
from reward_router.kinds import ArmKind, nearest
from reward_router.rewards.identity import modules_code
from reward_router.rewards.kinds.roscoe import ELSEWHERE
from reward_router.rewards.roscoe.alignment import METRICS as ON_VECTORS
from reward_router.rewards.roscoe.steps import steps_of
from reward_router.rewards.template import user_text
from reward_router.rewards.weights import context_of
from reward_router.types import Float

METRICS = tuple(name for name, kind in ELSEWHERE.items() if kind == "roscoe_classifier")
LABELS = {
    "self_consistency": "contradiction",
    "source_consistency": "contradiction",
    "grammar": "acceptable",
}
"""The label whose probability counts, by metric."""
Asked = tuple[str, ...]
"""What the classifier reads at once: (premise, hypothesis), or one step."""


class RoscoeClassifier:
    """A consistency or grammar of a response's steps under a classifier; in [0, 1].

    A blank response is abstained from (NaN). Cost: N (N - 1) / 2 pairs of steps a response for
    ``self_consistency``, N T for ``source_consistency``, N texts for ``grammar``; each once.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        metric: str,
        label: str | None = None,
        batch_size: int = 16,
    ) -> None:
        """Checks the options; runs nothing.

        Args:
            model: A sequence classifier.
            tokenizer: Its own.
            metric: One of `METRICS`.
            label: Of the classifier's labels the one whose probability counts; None: the one that
                is called ``contradiction``, for grammar ``acceptable``.
            batch_size: Texts a forward pass.
        """
        _check({"metric": metric})
        self.metric = metric
        self.model = model
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.place = _place(model.config, label or LABELS[metric])

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Float:
        """(B, N) scores, NaN where a row is shorter than the longest or a response is blank.

        InputError where ``source_consistency`` has a prompt without text.
        """
        scores_BN = np.full((len(prompts), max((len(row) for row in responses), default=0)), np.nan)
        asked: dict[tuple[int, int], list[Asked]] = {}
        for b, (prompt, row) in enumerate(zip(prompts, responses, strict=True)):
            source = steps_of(user_text(prompt))
            if not source and self.metric == "source_consistency":
                raise InputError(
                    "metric source_consistency compares a response with its source, and this "
                    "prompt has no text in its last user message"
                )
            for n, response in enumerate(row):
                if response.strip():
                    asked[b, n] = self._asked(source, steps_of(str(response)))
        every = [one for some in asked.values() for one in some]
        probability = self._probabilities(list(dict.fromkeys(every)))
        for (b, n), some in asked.items():
            values = [probability[one] for one in some]
            if self.metric == "grammar":
                scores_BN[b, n] = np.mean(values)
            else:
                # A chain of one step contradicts nothing.
                scores_BN[b, n] = 1.0 - max(values, default=0.0)
        return scores_BN

    def _asked(self, source: list[str], steps: list[str]) -> list[Asked]:
        if self.metric == "grammar":
            return [(step,) for step in steps]
        if self.metric == "source_consistency":
            return list(product(source, steps))
        return list(combinations(steps, 2))

    def _probabilities(self, asked: list[Asked]) -> dict[Asked, float]:
        """The probability of the label that counts, by what is asked; longest first."""
        import torch

        probability: dict[Asked, float] = {}
        order = sorted(asked, key=lambda texts: -sum(map(len, texts)))
        for start in range(0, len(order), self.batch_size):
            chunk = order[start : start + self.batch_size]
            inputs = self.tokenizer(
                *map(list, zip(*chunk, strict=True)),
                padding=True,
                # An encoder counts its positions from the left.
                padding_side="right",
                truncation=True,
                max_length=context_of(self.model.config),
                return_tensors="pt",
            ).to(self.model.device)
            with torch.inference_mode():
                logits_RL = self.model(**inputs).logits.float()
            chosen_R = logits_RL.softmax(dim=1)[:, self.place].tolist()
            probability |= dict(zip(chunk, chosen_R, strict=True))
        return probability


def _place(config: Any, label: str) -> int:
    """The output of this label; InputError with the labels that there are."""
    names = getattr(config, "id2label", None) or {}
    by_name = {str(name).lower(): int(place) for place, name in names.items()}
    if str(label).lower() not in by_name:
        raise InputError(
            f"label {label!r} is none of the classifier's; allowed: "
            f"{', '.join(map(str, names.values())) or 'none'}"
        )
    return by_name[str(label).lower()]


def _check(options: Mapping[str, Any]) -> None:
    name = str(options["metric"])
    if name in ON_VECTORS:
        raise InputError(f"metric {name} is one of kind roscoe; write that as the kind")
    if name in ELSEWHERE and name not in METRICS:
        raise InputError(f"metric {name} is one of kind {ELSEWHERE[name]}; write that as the kind")
    if name not in METRICS:
        raise InputError(f"metric {name!r} is unknown{nearest(name, METRICS)}")


_MODULES = ("reward_router.rewards.kinds.roscoe_classifier", "reward_router.rewards.roscoe.steps")

KIND = ArmKind(
    "roscoe_classifier",
    RoscoeClassifier,
    "ROSCOE's consistency and grammar of a response's steps, by a classifier that was trained for "
    "it",
    loader="classifier",
    hidden=("model", "tokenizer"),
    ragged=True,
    check=_check,
    code=lambda options: modules_code(_MODULES, options),
)
