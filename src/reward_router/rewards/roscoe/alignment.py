"""ROSCOE's metrics on vectors: semantic alignment (SA) and semantic similarity (SS).

Of a step h_i and a text s of sentences s_1..s_T,

    align(h_i -> s) = (1 + max_j cos(h_i, s_j)) / 2                                 in [0, 1]

and so for tokens. The equations stand in the docstrings under the paper's names. Where its code
differs from its text (it scales a cosine twice, and gives a chain of one step the best repetition
score), the text is followed for scales and the code for chains of one step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from reward_router.types import Float

Reads = Literal["steps", "whole", "tokens"]
"""Which vectors a metric needs: of sentences, of whole texts, of the tokens of sentences."""


@dataclass(frozen=True)
class Chain:
    """Unit vectors of a response, its source and its reference; what is not read is None.

    Args:
        step_NE: of the response's N steps.
        source_TE: of the source's T sentences.
        reference_QE: of the reference's Q sentences.
        whole_E: of the whole response.
        source_E: of the whole source.
        reference_E: of the whole reference.
        step_tokens: (M_i, E) of the tokens of each step.
        source_tokens: the same of each sentence of the source.
    """

    step_NE: Float | None = None
    source_TE: Float | None = None
    reference_QE: Float | None = None
    whole_E: Float | None = None
    source_E: Float | None = None
    reference_E: Float | None = None
    step_tokens: tuple[Float, ...] = ()
    source_tokens: tuple[Float, ...] = ()


def align(from_XE: Float | None, to_YE: Float | None) -> Float:
    """(X,) align(x -> y) of every row: (1 + the largest cosine with a row of y) / 2."""
    assert from_XE is not None
    assert to_YE is not None
    cosine_XY = from_XE @ to_YE.T
    aligned_X: Float = np.clip((1.0 + cosine_XY.max(axis=1)) / 2.0, 0.0, 1.0)
    return aligned_X


def cosine(first_E: Float | None, second_E: Float | None) -> float:
    """(1 + cos) / 2 of two whole texts."""
    assert first_E is not None
    assert second_E is not None
    return float(np.clip((1.0 + first_E @ second_E) / 2.0, 0.0, 1.0))


def faithfulness_step(chain: Chain) -> float:
    """SA Faithfulness-Step: 1/N sum_i align(h_i -> s)."""
    return float(align(chain.step_NE, chain.source_TE).mean())


def faithfulness_token(chain: Chain) -> float:
    """SA Faithfulness-Token: 1/(N+M) sum_i [align(h_i -> s) + sum_j align(h_ij -> tokens of s)]."""
    values_N = align(chain.step_NE, chain.source_TE)
    # Some texts have no token of their own: marks that the tokenizer does not know.
    token_ME = np.concatenate(chain.step_tokens)
    source_LE = np.concatenate(chain.source_tokens)
    if not len(token_ME) or not len(source_LE):
        return float(values_N.mean())
    values_M = align(token_ME, source_LE)
    return float(np.concatenate([values_N, values_M]).mean())


def informativeness_step(chain: Chain) -> float:
    """SA Info-Step: [1/T sum_t align(s_t -> h) + 1/N sum_i align(h_i -> s)] / 2."""
    used = align(chain.source_TE, chain.step_NE).mean()
    grounded = align(chain.step_NE, chain.source_TE).mean()
    return float((used + grounded) / 2.0)


def informativeness_chain(chain: Chain) -> float:
    """SS Info-Chain: [1 + cos(h, s)] / 2."""
    return cosine(chain.whole_E, chain.source_E)


def reasoning_alignment(chain: Chain) -> float:
    """SA Reasoning Alignment: 1/N sum_i align(h_i -> r)."""
    return float(align(chain.step_NE, chain.reference_QE).mean())


def hallucination(chain: Chain) -> float:
    """SA External Hallucination: 1 - max_i (1 - align(h_i -> s)) (1 - align(h_i -> r))."""
    apart_from_source_N = 1.0 - align(chain.step_NE, chain.source_TE)
    apart_from_reference_N = 1.0 - align(chain.step_NE, chain.reference_QE)
    return float(1.0 - (apart_from_source_N * apart_from_reference_N).max())


def redundancy(chain: Chain) -> float:
    """SA Redundancy: min_i align(h_i -> r)."""
    return float(align(chain.step_NE, chain.reference_QE).min())


def common_sense(chain: Chain) -> float:
    """SA Common Sense Error: 1 - max_q (1 - align(r_q -> h)) (1 - align(r_q -> s))."""
    lacking_Q = 1.0 - align(chain.reference_QE, chain.step_NE)
    not_in_source_Q = 1.0 - align(chain.reference_QE, chain.source_TE)
    return float(1.0 - (lacking_Q * not_in_source_Q).max())


def missing_step(chain: Chain) -> float:
    """SA Missing Step: min_q align(r_q -> h)."""
    return float(align(chain.reference_QE, chain.step_NE).min())


def semantic_coverage_step(chain: Chain) -> float:
    """SA Semantic Coverage-Step: 1 - |1/Q sum_q align(r_q -> s) - 1/N sum_i align(h_i -> s)|."""
    reference = align(chain.reference_QE, chain.source_TE).mean()
    response = align(chain.step_NE, chain.source_TE).mean()
    return float(1.0 - abs(reference - response))


def semantic_coverage_chain(chain: Chain) -> float:
    """SS Semantic Coverage-Chain: [1 + cos(r, h)] / 2."""
    return cosine(chain.whole_E, chain.reference_E)


def repetition_step(chain: Chain) -> float:
    """SS Repetition-Step: [1 - max_{i > j} cos(h_i, h_j)] / 2; 1 for a chain of one step."""
    step_NE = chain.step_NE
    assert step_NE is not None
    if len(step_NE) < 2:
        return 1.0
    cosine_NN = step_NE @ step_NE.T
    nearest = cosine_NN[np.tril_indices(len(step_NE), -1)].max()
    return float(np.clip((1.0 - nearest) / 2.0, 0.0, 1.0))


def repetition_token(chain: Chain) -> float:
    """SA Repetition-Token: 1 - max_{i > j} 1/M_i sum_l align(h_il -> tokens of h_j).

    1 for a chain of one step. O(M^2 E) for M tokens in all.
    """
    worst = 0.0
    for later, token_ME in enumerate(chain.step_tokens):
        for earlier_LE in chain.step_tokens[:later]:
            if len(token_ME) and len(earlier_LE):
                worst = max(worst, float(align(token_ME, earlier_LE).mean()))
    return 1.0 - worst


def coherence(chain: Chain) -> float:
    """[1 + 1/(N-1) sum_i cos(h_i, h_{i+1})] / 2; 1 for a chain of one step. Not ROSCOE's.

    It is the coherence of neighbours of Foltz, Kintsch and Landauer (1998), and stands in where no
    NLI model is at hand: ROSCOE's own is ``self_consistency`` of the kind ``roscoe_classifier``.
    """
    step_NE = chain.step_NE
    assert step_NE is not None
    if len(step_NE) < 2:
        return 1.0
    cosine_N = (step_NE[1:] * step_NE[:-1]).sum(axis=1)
    return float(np.clip((1.0 + cosine_N.mean()) / 2.0, 0.0, 1.0))


@dataclass(frozen=True)
class VectorMetric:
    """A metric by name: its formula, the vectors it reads, and whether it compares a reference.

    Args:
        score: the formula.
        reads: which vectors.
        compares: ``source``, ``reference``, both, or neither.
    """

    score: Callable[[Chain], float]
    reads: tuple[Reads, ...]
    compares: tuple[Literal["source", "reference"], ...]


METRICS: dict[str, VectorMetric] = {
    "informativeness_step": VectorMetric(informativeness_step, ("steps",), ("source",)),
    "informativeness_chain": VectorMetric(informativeness_chain, ("whole",), ("source",)),
    "faithfulness_step": VectorMetric(faithfulness_step, ("steps",), ("source",)),
    "faithfulness_token": VectorMetric(faithfulness_token, ("steps", "tokens"), ("source",)),
    "reasoning_alignment": VectorMetric(reasoning_alignment, ("steps",), ("reference",)),
    "hallucination": VectorMetric(hallucination, ("steps",), ("source", "reference")),
    "redundancy": VectorMetric(redundancy, ("steps",), ("reference",)),
    "common_sense": VectorMetric(common_sense, ("steps",), ("source", "reference")),
    "missing_step": VectorMetric(missing_step, ("steps",), ("reference",)),
    "semantic_coverage_step": VectorMetric(
        semantic_coverage_step, ("steps",), ("source", "reference")
    ),
    "semantic_coverage_chain": VectorMetric(semantic_coverage_chain, ("whole",), ("reference",)),
    "repetition_step": VectorMetric(repetition_step, ("steps",), ()),
    "repetition_token": VectorMetric(repetition_token, ("tokens",), ()),
    "coherence": VectorMetric(coherence, ("steps",), ()),
}
