"""From verdicts to preference pairs: who beats whom, whose arm said so, and what every other arm would have said."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from reward_router import keyed
from reward_router.assemble import Parts
from reward_router.ledger.rows import Call
from reward_router.pairs import GapScale, fixed_by_the_cut, form_pairs, gaps
from reward_router.payoffs import agreement
from reward_router.responses import finished
from reward_router.training.records import Pair
from reward_router.types import Float, Int
from reward_router.verdicts.batch import Batch, Place
from reward_router.verdicts.single import SingleArm

NOBODY = -1
Ordered = tuple[int, int, float]
"""(winner, loser, weight) among the responses of a cell."""


class Pairing:
    """Forms the pairs of a step as the configuration wants them, and counts what gives none.

    Args:
        parts: the configuration, the committee (if it judges), the dispatcher and the ranks of the run.
        counts: is added to.
    """

    def __init__(self, parts: Parts, counts: dict[str, int]) -> None:
        """Where ``pairs.tie`` is given, each arm's usual score gap is learned from the calls recorded so far."""
        self.parts, self.config, self.counts = parts, parts.config, counts
        self.gap_scale = GapScale()
        if self.config.tie:
            recorded = parts.dispatcher.ledger.calls()
            arms = [recorded.arms[k] for k in recorded.arm.tolist()]
            rows = zip(recorded.decision.tolist(), arms, recorded.status, recorded.score.tolist(), strict=True)
            self.gap_scale.learn(gaps(rows))

    def learn(self, calls: Iterable[Call]) -> None:
        """Take in the score gaps of calls that were just recorded."""
        if self.config.tie:
            rows = ((call.decision_id, str(call.arm), call.status, call.score) for call in calls)
            self.gap_scale.learn(gaps(rows))

    def pairs(self, batch: Batch) -> tuple[list[Pair], list[int]]:
        """Preference pairs, and the unit whose arm ordered each (``NOBODY``: a stand-in, or the rule on cut responses)."""
        pairs: list[Pair] = []
        owner: list[int] = []
        without: list[Place] = []
        for u, unit in enumerate(batch.units):
            for c, cell in enumerate(unit.cells):
                prompt = batch.prompts[cell[0]]
                texts = batch.texts(cell)
                ordered = self._ordered(batch, (u, c))
                if not ordered:
                    without.append((u, c))
                pairs += [Pair(prompt, texts[w], texts[x], weight) for w, x, weight in ordered]
                # what the fallback ordered, or the rule on cut responses, says nothing of this unit's arm
                by_other = batch.verdicts.by_other((u, c))
                fixed_NN = fixed_by_the_cut(finished(texts), self.config.pairs.truncated)
                owner += [NOBODY if by_other or fixed_NN[w, x] else u for w, x, _ in ordered]
        self._count(batch, len(pairs), without)
        return pairs, owner

    def _ordered(self, batch: Batch, place: Place) -> list[Ordered]:
        """The pairs of one (unit, cell)."""
        u, c = place
        unit, verdicts, limits = batch.units[u], batch.verdicts, self.config.pairs
        cell = unit.cells[c]
        texts = batch.texts(cell)
        draw = keyed.rng(self.config.seed, "pairs", batch.step, f"{unit.id}/{batch.ids[cell[0]]}")
        if self.parts.committee is not None:
            return self.parts.committee.pairs(verdicts.rankings[place], texts, limits, draw)
        judge = verdicts.stand_in.get(place, batch.decisions[u].name)
        found = form_pairs(
            verdicts.scores[u][c],
            texts,
            limits.per_prompt,
            draw,
            self.margin(judge),
            finished_N=finished(texts),
            truncated=limits.truncated,
            pick=limits.pick,
        )
        return [(winner, loser, 1.0) for winner, loser in found]

    def margin(self, arm: str) -> float:
        """The score gap up to which this arm's verdict is a tie: a fixed one, or a share of the arm's own usual gap."""
        return max(self.config.pairs.margin, self.gap_scale.threshold(arm, self.config.tie))

    def _count(self, batch: Batch, pairs: int, without: Sequence[Place]) -> None:
        """Count the pairs of all processes, and what gave none."""
        judged: set[tuple[int, int]] = set()
        prompts: set[int] = set()
        for unit in batch.units:
            for row, columns in unit.cells:
                prompts.add(row)
                judged.update((row, n) for n in columns)
        counted = {
            "pairs": pairs,
            "abstained": len(batch.verdicts.abstained),
            "responses": len(judged),
            "truncated": sum(truncated(group) for group in batch.responses),
            "failed_rows": len(batch.verdicts.row_failures),
            "skipped_prompts": len(without),
        }
        if self.config.router.unit == "pair":
            ties = [np.isfinite(batch.verdicts.scores[u][c]).all() for u, c in without]
            counted["tied_pairs"] = sum(map(bool, ties))
            counted["equal_pairs"] = sum(equal_pairs(group) for group in batch.responses)
            counted["skipped_prompts"] = len(batch.prompts) - len(prompts)
        for name, count in self.parts.ranks.gather(list(counted.items())):
            self.counts[name] += count

    # every other arm's opinion, for full_advantage --------------------------------------------------------

    def labels(self, batch: Batch, owner: Sequence[int]) -> Int:
        """(P, K) 1 where an arm orders the pair as its judge did, -1 the other way, 0 where it does not.

        It asks all other arms: K - 1 times the calls. (0, 0) for every payoff but ``full_advantage``. Pairs that a stand-in
        judged are all 0.
        """
        mode = self.parts.session.mode
        if self.config.payoff.name != "full_advantage" or not isinstance(mode, SingleArm):
            return np.zeros((0, 0), np.int64)
        mode.compare(batch, [u for u in owner if u != NOBODY])
        names = self.parts.dispatcher.arms
        gap_PK = np.zeros((len(owner), len(names)))
        own_P = np.zeros(len(owner), np.int64)
        for p, u in enumerate(owner):
            if u == NOBODY:
                continue
            own = batch.decisions[u].name
            own_P[p] = names.index(own)
            said = {own: batch.verdicts.own[u][0], **batch.verdicts.others.get(u, {})}
            for k, name in enumerate(names):
                if name in said:
                    gap_PK[p, k] = said[name][1] - said[name][0]
        margin_K = np.array([self.margin(name) for name in names])
        return agreement(gap_PK, margin_K, own_P)

    def flipped(self, pairs: Sequence[Pair], label_PK: Int) -> Float:
        """(P,) each pair's loss before the step with its order turned round, NaN where no arm asks for that."""
        loss_P = np.full(len(pairs), np.nan)
        if self.config.payoff.name == "full_advantage":
            some_arm_disagrees_P = np.flatnonzero((label_PK < 0).any(axis=1)).tolist()
            turned = [_turned(pairs[p]) for p in some_arm_disagrees_P]
            loss_P[some_arm_disagrees_P] = self.parts.trainer.losses(turned, pairs)
        return loss_P


def truncated(group: Sequence[str]) -> int:
    """How many of a prompt's responses the token limit cut."""
    return int((~finished(group)).sum())


def equal_pairs(group: Sequence[str]) -> int:
    """How many pairs of a prompt's responses are of equal text."""
    copies = Counter(map(str, group)).values()
    return sum(n * (n - 1) // 2 for n in copies)


def _turned(pair: Pair) -> Pair:
    return Pair(pair.prompt, pair.rejected, pair.chosen)
