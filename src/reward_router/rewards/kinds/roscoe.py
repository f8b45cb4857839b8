"""ROSCOE's metrics on sentence vectors as a reward model; `roscoe.alignment` has the formulas."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from reward_router.chat import Prompt
from reward_router.errors import InputError
from reward_router.kinds import ArmKind, nearest
from reward_router.rewards.identity import modules_code
from reward_router.rewards.loading import MINILM
from reward_router.rewards.roscoe.alignment import METRICS, Chain
from reward_router.rewards.roscoe.references import check_references, read_references
from reward_router.rewards.roscoe.steps import steps_of
from reward_router.rewards.roscoe.vectors import Vectors, stacked
from reward_router.rewards.template import user_text
from reward_router.types import Float

ELSEWHERE = {
    "perplexity_chain": "roscoe_lm",
    "perplexity_step": "roscoe_lm",
    "self_consistency": "roscoe_classifier",
    "source_consistency": "roscoe_classifier",
    "grammar": "roscoe_classifier",
}
"""Metrics of the suite that another kind computes, because they need another sort of model."""


class Texts(NamedTuple):
    """What one score compares; '' where it is not read."""

    response: str
    source: str
    reference: str


class Roscoe:
    """A metric of `METRICS` on vectors of a frozen sentence encoder; in [0, 1], higher is better.

    The source is the prompt's last user message, a step is a sentence or a line, and the reference
    is the one that ``references`` names for the prompt; without that file the source stands for it.
    A blank response is abstained from (NaN), and so is a prompt that the file does not name. Texts
    beyond the encoder's window (256 tokens for MiniLM) are cut by it. All steps of a request are
    encoded in one pass, and arms on one encoder share the vectors of sentences.
    """

    def __init__(
        self, encoder: Any, *, metric: str, references: str | None = None, batch_size: int = 64
    ) -> None:
        """Reads the references; InputError where the options cannot be right.

        Args:
            encoder: A SentenceTransformer, or what has its ``encode``.
            metric: One of `METRICS`.
            references: A file of rows with ``prompt`` and ``reference``.
            batch_size: How many texts are encoded together.
        """
        _check({"metric": metric, "references": references})
        self.name = metric
        self.metric = METRICS[metric]
        self.vectors = Vectors(encoder, batch_size)
        self.references = None if references is None else read_references(references)

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Float:
        """(B, N) scores; NaN: a row shorter than the longest, a blank response, no reference.

        InputError where a metric compares a response with its source and the prompt has no text.
        """
        scores_BN = np.full((len(prompts), max((len(row) for row in responses), default=0)), np.nan)
        cells: dict[tuple[int, int], Texts] = {}
        for b, (prompt, row) in enumerate(zip(prompts, responses, strict=True)):
            source = self._source(prompt)
            reference = self._reference(source)
            for n, response in enumerate(row):
                if response.strip() and reference is not None:
                    read_source = source if self._reads_source else ""
                    cells[b, n] = Texts(str(response), read_source, reference)
        chains = self._chains(list(dict.fromkeys(cells.values())))
        for (b, n), texts in cells.items():
            scores_BN[b, n] = self.metric.score(chains[texts])
        return scores_BN

    def _source(self, prompt: Prompt) -> str:
        source = user_text(prompt).strip()
        if not source and self._reads_source:
            raise InputError(
                f"metric {self.name} compares a response with its source, and this prompt has no "
                "text in its last user message"
            )
        return source

    @property
    def _reads_source(self) -> bool:
        compares = self.metric.compares
        return "source" in compares or ("reference" in compares and self.references is None)

    def _reference(self, source: str) -> str | None:
        """The reference of a prompt, '' where none is read; None where the file has none for it."""
        if "reference" not in self.metric.compares:
            return ""
        return source if self.references is None else self.references.get(source)

    def _chains(self, cells: list[Texts]) -> dict[Texts, Chain]:
        """The vectors of every response with its source and its reference."""
        reads = self.metric.reads
        texts = [text for cell in cells for text in cell if text]
        steps = {text: steps_of(text) for text in texts}
        every_step = [step for text in steps for step in steps[text]]
        # Tokens come first: sentences are encoded on the way there.
        of_token: dict[str, Float] = {}
        if "tokens" in reads and every_step:
            of_token = self.vectors.tokens(every_step)
        of_step = self.vectors.sentences(every_step) if "steps" in reads else {}
        of_whole = self.vectors.sentences(steps) if "whole" in reads else {}

        def step_vectors(text: str) -> Float | None:
            return stacked(of_step, steps[text]) if text and of_step else None

        def token_vectors(text: str) -> tuple[Float, ...]:
            return tuple(of_token[step] for step in steps.get(text, ())) if of_token else ()

        chains = {}
        for cell in cells:
            chains[cell] = Chain(
                step_NE=step_vectors(cell.response),
                source_TE=step_vectors(cell.source),
                reference_QE=step_vectors(cell.reference),
                whole_E=of_whole.get(cell.response),
                source_E=of_whole.get(cell.source),
                reference_E=of_whole.get(cell.reference),
                step_tokens=token_vectors(cell.response),
                source_tokens=token_vectors(cell.source),
            )
        return chains


def _check(options: Mapping[str, Any]) -> None:
    name = str(options["metric"])
    references = options.get("references")
    if name in ELSEWHERE:
        raise InputError(f"metric {name} is one of kind {ELSEWHERE[name]}; write that as the kind")
    if name not in METRICS:
        raise InputError(f"metric {name!r} is unknown{nearest(name, METRICS)}")
    if references is None:
        if name == "common_sense":
            raise InputError(
                "metric common_sense needs references: a file of rows with prompt and reference "
                "(without one it is 1 for every response; missing_step compares with the source)"
            )
        return
    if "reference" not in METRICS[name].compares:
        raise InputError(f"metric {name} compares no reference; leave references out")
    check_references(references)


_MODULES = (
    "reward_router.rewards.kinds.roscoe",
    "reward_router.rewards.roscoe.alignment",
    "reward_router.rewards.roscoe.steps",
    "reward_router.rewards.roscoe.vectors",
)

KIND = ArmKind(
    "roscoe",
    Roscoe,
    "a ROSCOE metric of step-by-step reasoning on sentence vectors",
    loader="encoder",
    default_model=MINILM,
    hidden=("encoder",),
    ragged=True,
    check=_check,
    code=lambda options: modules_code(_MODULES, options),
)
