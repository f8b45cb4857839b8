"""Arms that are scored on a share of the prompts and never judge, train or pay.

They are an outside view of where a run is going. A reward model that the policy is not trained on
shows what training on the others does to it: its mean score should rise with theirs, and its
agreement with the verdicts should not fall. Its calls stand in metrics.jsonl and not in the ledger,
whose calls belong to arms that a router may draw.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from reward_router import keyed
from reward_router.rewards.pool import RewardPool
from reward_router.rewards.request import ScoreResult
from reward_router.types import Float
from reward_router.verdicts.batch import Batch


@dataclass
class ArmTally:
    """What one arm said of one step, as sums that add up over processes.

    Args:
        prompts: prompts it was asked about.
        calls: responses among them.
        scored: responses with a score.
        total: the sum of their scores.
        pairs: pairs of responses that both it and the verdict order.
        agreed: those of them that both order alike.
        failed: prompts it could not answer.
        seconds: wall time.
        price: what it cost, in the unit of ``cost``.
    """

    prompts: int = 0
    calls: int = 0
    scored: int = 0
    total: float = 0.0
    pairs: int = 0
    agreed: int = 0
    failed: int = 0
    seconds: float = 0.0
    price: float = 0.0

    def add(self, other: "ArmTally") -> "ArmTally":
        """Both together."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return ArmTally(*(mine + theirs for mine, theirs in pairs))

    def figures(self) -> dict[str, Any]:
        """For metrics.jsonl: means in place of sums."""
        return {
            "prompts": self.prompts,
            "calls": self.calls,
            "failed": self.failed,
            "mean_score": self.total / self.scored if self.scored else None,
            "agreement": self.agreed / self.pairs if self.pairs else None,
            "seconds": self.seconds,
            "price": self.price,
        }


class EvalOnly:
    """Asks the arms that only look.

    Args:
        pool: these arms and no others.
        shares: arm -> the share of prompts it is asked about, drawn by key.
        costs: arm -> the price of a call where it measures none.
        seed: the run's.
    """

    def __init__(
        self, pool: RewardPool, shares: Mapping[str, float], costs: Mapping[str, float], seed: int
    ) -> None:
        """Asks nothing yet."""
        self.pool = pool
        self.shares = dict(shares)
        self.costs = dict(costs)
        self.seed = seed
        self.gather: Callable[[list[Any]], list[Any]] = list
        self.warn: Callable[[str], None] = lambda _: None

    def look(self, batch: Batch) -> dict[str, dict[str, Any]]:
        """What every arm says of its share of a judged batch, by arm.

        An arm that fails is warned of and changes nothing.
        """
        judged = _judged(batch)
        tallies: list[tuple[str, ArmTally]] = []
        for arm in self.pool.order(self.pool.names):
            rows = [row for row, name in enumerate(batch.ids) if self._drawn(arm, batch.step, name)]
            if rows:
                tally = self._ask(arm, rows, batch, judged)
                tallies.append((arm, tally))

        # Sums and not means travel between processes: those add up.
        totals = {arm: ArmTally() for arm in self.pool.names}
        for arm, tally in self.gather(tallies):
            totals[arm] = totals[arm].add(tally)
        return {arm: tally.figures() for arm, tally in totals.items()}

    def _drawn(self, arm: str, step: int, name: str) -> bool:
        return keyed.uniform(self.seed, "audit", step, f"{arm}\x1f{name}") < self.shares[arm]

    def _ask(
        self, arm: str, rows: Sequence[int], batch: Batch, judged: Mapping[int, Float]
    ) -> ArmTally:
        responses = [list(batch.responses[b]) for b in rows]
        result = self.pool.score(arm, [batch.prompts[b] for b in rows], responses)
        notices = list(result.notices)
        if result.error:
            notices.append(result.error)
        for notice in notices:
            self.warn(f"warning: arm {arm!r} (eval_only): {notice}")
        scores = result.scores_BN[np.isfinite(result.scores_BN)]
        tally = ArmTally(
            prompts=len(rows),
            calls=sum(map(len, responses)),
            scored=len(scores),
            total=float(scores.sum()),
            failed=len(result.row_errors) if result.ok else len(rows),
            seconds=result.seconds,
            price=self._price(arm, result, responses),
        )
        for i, b in enumerate(rows):
            verdict_N = judged.get(b)
            if verdict_N is not None:
                pairs, agreed = _agreement(result.scores_BN[i, : len(verdict_N)], verdict_N)
                tally.pairs += pairs
                tally.agreed += agreed
        return tally

    def _price(self, arm: str, result: ScoreResult, responses: Sequence[Sequence[str]]) -> float:
        total = 0.0
        for i, row in enumerate(responses):
            for j in range(len(row)):
                # NaN: the arm measures no price of its own.
                price = result.bill(i, j)[1]
                total += self.costs.get(arm, 1.0) if math.isnan(price) else price
        return total


def _judged(batch: Batch) -> dict[int, Float]:
    """Row -> the verdict on its responses, NaN where there is none.

    Of a row with several units (pairs) each pair counts alone.
    """
    verdicts: dict[int, Float] = {}
    for unit, cells in zip(batch.units, batch.verdicts.scores, strict=True):
        for (row, columns), score_N in zip(unit.cells, cells, strict=True):
            # A pair is no verdict on a row of more than two responses.
            n_responses = len(batch.responses[row])
            if len(columns) == n_responses:
                verdict_N = np.full(n_responses, np.nan)
                verdict_N[list(columns)] = score_N
                verdicts[row] = verdict_N
    return verdicts


def _agreement(first_N: Float, second_N: Float) -> tuple[int, int]:
    """Pairs that both order, and those that both order alike."""
    one_NN = np.sign(first_N[:, None] - first_N[None, :])
    two_NN = np.sign(second_N[:, None] - second_N[None, :])

    # 1 alike, -1 contrary, 0 where one of them ties or says nothing; each pair once.
    product_NN = np.nan_to_num(one_NN * two_NN)
    both_NN = np.triu(product_NN, 1)
    n_ordered = int(np.abs(both_NN).sum())
    n_alike = int((both_NN > 0).sum())
    return n_ordered, n_alike
