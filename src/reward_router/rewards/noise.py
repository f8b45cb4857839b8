"""Gaussian noise on an arm's scores (LASER's noisy-reward analysis), keyed by what is scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reward_router.chat import Prompt
from reward_router.errors import InputError
from reward_router.keyed import rng
from reward_router.rewards.answer import NotScores, read_score_rows
from reward_router.rewards.metered import Answer, Metered
from reward_router.types import Float, RewardModel


def noisy(model: RewardModel, sd: float, seed: int, name: str) -> RewardModel:
    """The arm with noise; where it keeps a bill, the bill stays."""
    wrapped = Noisy(model, sd, seed, name)
    return NoisyBill(wrapped, model) if isinstance(model, Metered) else wrapped


class NoisyBill:
    """A noisy arm that runs elsewhere: noise on its scores, the rest of its answer as it is."""

    def __init__(self, noise: Noisy, model: Metered) -> None:
        """``noise`` is what is put on the scores of ``model``."""
        self.noise = noise
        self.model = model
        self.groupwise = model.groupwise

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Float:
        """The arm's (B, N) scores with noise."""
        return self.noise.score(prompts, responses)

    def score_with_bill(
        self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]
    ) -> Answer:
        """The arm's answer with noise on its scores."""
        answer = self.model.score_with_bill(prompts, responses)
        # A copy, because `add` writes in place and the arm may keep what it answered.
        noisy_BN = self.noise.add(answer.scores_BN.copy(), prompts, responses)
        return replace(answer, scores_BN=noisy_BN)


class Noisy:
    """An arm plus N(0, sd^2) on every score, in the arm's own units.

    The noise of a (prompt, response) is a function of ``seed``, the arm's ``name`` and the two
    texts: scoring again, in another order or in another batch gives the same number, and two arms
    with the same seed err independently.

    >>> from reward_router.rewards.metric import Metric
    >>> arm = Noisy(Metric("length"), sd=0.5, seed=0, name="short")
    >>> bool((arm.score(["p"], [["a", "a b"]]) == arm.score(["p"], [["a", "a b"]])).all())
    True
    """

    def __init__(self, model: RewardModel, sd: float, seed: int = 0, name: str = "") -> None:
        """InputError unless ``sd`` >= 0."""
        if not sd >= 0:
            raise InputError(f"noise is {sd}; a standard deviation of at least 0 is expected")
        self.model = model
        self.sd = sd
        self.seed = seed
        self.name = name

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Float:
        """The arm's (B, N) scores with noise; NaN stays NaN."""
        n_responses = max((len(row) for row in responses), default=0)
        answer = self.model.score(prompts, responses)
        # The arm's answer is read before noise is put on it: an array of text or of the wrong
        # shape would fail inside the sum with a message about the noise.
        scores_BN, wrong_rows = read_score_rows(answer, len(prompts), n_responses)
        if wrong_rows:
            first_reason = next(iter(wrong_rows.values()))
            raise NotScores(first_reason)
        return self.add(scores_BN, prompts, responses)

    def add(
        self, scores_BN: Float, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]
    ) -> Float:
        """The scores with noise, in place."""
        for b, (prompt, row) in enumerate(zip(prompts, responses, strict=True)):
            for n, response in enumerate(row):
                # Keyed by the texts and not by (b, n): a place in a batch is no property of the
                # response. The separator keeps ("a", "bc") and ("ab", "c") apart.
                unit = f"{self.name}\x1f{prompt!r}\x1f{response}"
                standard_noise = rng(self.seed, "noise", 0, unit).standard_normal()
                scores_BN[b, n] += self.sd * standard_noise
        return scores_BN
