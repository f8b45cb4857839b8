"""Verdicts become preference pairs: who beats whom, and whose arm said so.

For payoffs that compare arms, also what every other arm would have said of each pair.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from reward_router import keyed
from reward_router.assemble import RunParts
from reward_router.ledger.rows import Call
from reward_router.pairs import GapScale, fixed_by_the_cut, form_pairs, gaps
from reward_router.payoffs import pair_agreement
from reward_router.responses import finished
from reward_router.training.records import Pair
from reward_router.types import Float, Int
from reward_router.verdicts.batch import Batch, Place
from reward_router.verdicts.single import SingleArm

NOBODY = -1
"""The owner of a pair that no routed arm ordered: a stand-in did, or the rule on cut responses."""
Ordered = tuple[int, int, float]
"""(winner, loser, weight) among the responses of a cell."""


class Pairing:
    """Forms the pairs of a step as the configuration wants them, and counts what gives none.

    Args:
        parts: the run: its configuration, its committee if one judges, its dispatcher and ranks.
        counts: the run's counts by name; this adds to them.
    """

    def __init__(self, parts: RunParts, counts: dict[str, int]) -> None:
        """With ``pairs.tie``, each arm's usual score gap is learned from recorded calls."""
        self.parts = parts
        self.config = parts.config
        self.counts = counts
        self.gap_scale = GapScale()
        if self.config.tie:
            calls = parts.dispatcher.ledger.calls()
            decisions = calls.decision.tolist()
            arms = [calls.arms[k] for k in calls.arm.tolist()]
            scores = calls.score.tolist()
            rows = zip(decisions, arms, calls.status, scores, strict=True)
            self.gap_scale.learn(gaps(rows))

    def learn(self, calls: Iterable[Call]) -> None:
        """Take in the score gaps of calls that were just recorded."""
        if self.config.tie:
            rows = ((call.decision_id, str(call.arm), call.status, call.score) for call in calls)
            self.gap_scale.learn(gaps(rows))

    def pairs(self, batch: Batch) -> tuple[list[Pair], list[int]]:
        """The preference pairs of this process, and whose verdict each is.

        Returns P pairs, and P owners: the number of the unit whose arm ordered the pair, or
        ``NOBODY`` where a stand-in did, or the rule on cut responses.
        """
        pairs: list[Pair] = []
        owner: list[int] = []
        without_pairs: list[Place] = []
        for u, unit in enumerate(batch.units):
            for c, cell in enumerate(unit.cells):
                place = (u, c)
                row, _ = cell
                prompt = batch.prompts[row]
                texts = batch.texts(cell)
                ordered = self._ordered(batch, place)
                if not ordered:
                    without_pairs.append(place)

                # A pair that the unit's own arm did not order says nothing of that arm.
                by_stand_in = batch.verdicts.by_other(place)
                by_rule_NN = fixed_by_the_cut(finished(texts), self.config.pairs.truncated)
                for winner, loser, weight in ordered:
                    pairs.append(Pair(prompt, texts[winner], texts[loser], weight))
                    foreign = by_stand_in or by_rule_NN[winner, loser]
                    owner.append(NOBODY if foreign else u)
        self._count(batch, len(pairs), without_pairs)
        return pairs, owner

    def _ordered(self, batch: Batch, place: Place) -> list[Ordered]:
        """The pairs of one prompt of one unit, as the configuration's limits leave them."""
        u, c = place
        unit = batch.units[u]
        verdicts = batch.verdicts
        limits = self.config.pairs
        cell = unit.cells[c]
        texts = batch.texts(cell)
        prompt_id = batch.ids[cell[0]]
        draw = keyed.rng(self.config.seed, "pairs", batch.step, f"{unit.id}/{prompt_id}")
        if self.parts.committee is not None:
            return self.parts.committee.pairs(verdicts.rankings[place], texts, limits, draw)
        judge = verdicts.stand_in.get(place, batch.decisions[u].name)
        winners_and_losers = form_pairs(
            verdicts.scores[u][c],
            texts,
            limits.per_prompt,
            draw,
            self.margin(judge),
            finished_N=finished(texts),
            truncated=limits.truncated,
            pick=limits.pick,
        )
        return [(winner, loser, 1.0) for winner, loser in winners_and_losers]

    def margin(self, arm: str) -> float:
        """The score gap up to which this arm's verdict is a tie, in the arm's own units.

        It is ``pairs.margin``, or a share of the arm's usual gap, whichever is larger.
        """
        return max(self.config.pairs.margin, self.gap_scale.threshold(arm, self.config.tie))

    def _count(self, batch: Batch, pairs: int, without_pairs: Sequence[Place]) -> None:
        """Count the pairs of all processes, and what gave none."""
        verdicts = batch.verdicts
        judged_responses: set[tuple[int, int]] = set()
        judged_rows: set[int] = set()
        for unit in batch.units:
            for row, columns in unit.cells:
                judged_rows.add(row)
                judged_responses.update((row, n) for n in columns)
        counts = {
            "pairs": pairs,
            "abstained": len(verdicts.abstained),
            "responses": len(judged_responses),
            "truncated": sum(truncated(group) for group in batch.responses),
            "failed_rows": len(verdicts.row_failures),
            "skipped_prompts": len(without_pairs),
        }

        if self.config.router.unit == "pair":
            # A pair with two scores that gave nothing was a tie; a prompt without a candidate
            # pair never became a unit.
            scored = [np.isfinite(verdicts.scores[u][c]).all() for u, c in without_pairs]
            counts["tied_pairs"] = sum(map(bool, scored))
            counts["equal_pairs"] = sum(equal_pairs(group) for group in batch.responses)
            counts["skipped_prompts"] = len(batch.prompts) - len(judged_rows)

        # Every process adds the counts of all, so that each of them has the run's.
        for name, count in self.parts.ranks.gather(list(counts.items())):
            self.counts[name] += count

    # every other arm's opinion, for full_advantage ------------------------------------------------

    def labels(self, batch: Batch, owner: Sequence[int]) -> Int:
        """(P, K) what each arm says of each pair.

        It is 1 where the arm orders the pair as its judge did, -1 where it orders it the other way,
        and 0 where it does neither, or where a stand-in judged the pair. All other arms are asked:
        K - 1 times the calls. For a payoff that does not need their opinions the array is (0, 0)
        and nobody is asked.
        """
        mode = self.parts.session.mode
        if not self.config.payoff.kind.asks_all_arms or not isinstance(mode, SingleArm):
            return np.zeros((0, 0), np.int64)
        judged = [u for u in owner if u != NOBODY]
        mode.compare(batch, judged)

        names = self.parts.dispatcher.arms
        n_pairs = len(owner)
        gap_PK = np.zeros((n_pairs, len(names)))
        own_P = np.zeros(n_pairs, np.int64)
        for p, u in enumerate(owner):
            # A stand-in's pair keeps gaps of 0: it says nothing of the arm that was drawn.
            if u == NOBODY:
                continue
            own_name = batch.decisions[u].name
            own_P[p] = names.index(own_name)
            # Pairs are units of one cell, so a unit's first cell is the pair.
            own_scores = batch.verdicts.own[u][0]
            others = batch.verdicts.others.get(u, {})
            scores = {own_name: own_scores, **others}
            for k, name in enumerate(names):
                if name in scores:
                    first, second = scores[name]
                    gap_PK[p, k] = second - first

        margin_K = np.array([self.margin(name) for name in names])
        return pair_agreement(gap_PK, margin_K, own_P)

    def flipped(self, pairs: Sequence[Pair], label_PK: Int) -> Float:
        """(P,) the loss before the step of each pair with its two responses exchanged.

        NaN where no arm would order the pair that way, or where the payoff does not compare arms.
        """
        loss_P = np.full(len(pairs), np.nan)
        if not self.config.payoff.kind.asks_all_arms:
            return loss_P
        # Only pairs that some arm would turn round: the others never need this loss.
        disputed_P = (label_PK < 0).any(axis=1)
        disputed = np.flatnonzero(disputed_P).tolist()
        exchanged = [_exchanged(pairs[p]) for p in disputed]
        loss_P[disputed] = self.parts.trainer.losses(exchanged, pairs)
        return loss_P


def truncated(group: Sequence[str]) -> int:
    """How many of a prompt's responses the token limit cut."""
    return int((~finished(group)).sum())


def equal_pairs(group: Sequence[str]) -> int:
    """How many pairs of a prompt's responses are of equal text."""
    copies = Counter(map(str, group)).values()
    return sum(math.comb(n, 2) for n in copies)


def _exchanged(pair: Pair) -> Pair:
    return Pair(pair.prompt, pair.rejected, pair.chosen)
