"""A payoff from a strong judge.

An arm that judges no prompt itself says how well the drawn arm ordered the responses. That is for
data without answers, where a loss would only reward agreement with the policy. The judge is asked
about the responses of the decisions that are paid (``payoff.fraction`` of them): N calls each,
which are counted, and which no router and no trainer sees. Several processes ask it each for
itself.

Left out: a judge that is wrong teaches the router to be wrong alike; nothing here finds that out.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from reward_router.kinds import PayoffKind
from reward_router.payoffs.gold import order_accuracy


class Pool(Protocol):
    """What scores responses: a `RewardPool`, or whatever does so alike."""

    def score(self, arm: str, prompts: Sequence[Any], responses: Sequence[Sequence[str]]) -> Any:
        """Scores of each prompt's responses, as a `ScoreResult`."""
        ...


class JudgedDecision(Protocol):
    """What came of one decision, as far as a judge has to know it: one entry a prompt."""

    prompts: list[Any]
    responses: list[list[str]]
    scores: list[Any]


class JudgePayoff:
    """Share of response pairs that the drawn arm orders as the judge does.

    It is in [0, 1]; None where the judge says nothing.

    Args:
        pool: holds the judge.
        arm: its name there.

    ``count`` is told how many responses the judge is asked about, each time.
    """

    def __init__(self, pool: Pool, arm: str) -> None:
        """Nothing is loaded before the first question."""
        self.pool = pool
        self.arm = arm
        self.count: Callable[[int], None] = lambda calls: None

    def __call__(self, outcome: JudgedDecision) -> float | None:
        """The mean over the decision's prompts. One question a prompt."""
        shares = []
        rows = zip(outcome.prompts, outcome.responses, outcome.scores, strict=True)
        for prompt, responses, score_N in rows:
            self.count(len(responses))
            answer = self.pool.score(self.arm, [prompt], [responses])
            if not answer.ok:  # no payoff, which the run counts; never an invented one
                continue
            judge_N = np.asarray(answer.scores_BN, dtype=np.float64)[0]
            share = order_accuracy(score_N, judge_N)
            if share is not None:
                shares.append(share)
        return float(np.mean(shares)) if shares else None


KIND = PayoffKind(
    "judge",
    JudgePayoff,
    "does the arm order responses as a strong judge does, an arm that judges no prompt itself "
    "(`arm` names it)",
    sampled=True,
    needs_arm=True,
)
