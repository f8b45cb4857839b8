"""One step's units on the committee's table: who was asked about what, and what they said."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from reward_router.committee import OnlineCommittee, PromptEvidence
from reward_router.ledger.rows import Call
from reward_router.types import Float
from reward_router.verdicts.asking import ArmReply, Asker, note_rows, silent
from reward_router.verdicts.batch import Batch, Verdicts


class ScoreTable:
    """Units of one cell each before the K arms ``names``.

    ``scores``: per unit, arm -> (N,) scores. ``panels``: per unit, who is asked next. Arms that
    rest are asked by nobody but the decisions that name them; to the others they have nothing to
    say.
    """

    def __init__(
        self, asker: Asker, online: OnlineCommittee, names: Sequence[str], batch: Batch
    ) -> None:
        """Nobody is asked yet."""
        self.asker = asker
        self.online = online
        self.names = list(names)
        self.batch = batch
        self.units = batch.units
        self.decisions = batch.decisions
        self.verdicts = batch.verdicts = Verdicts.silent(batch.units)
        self.scores: list[dict[int, Float]] = [{} for _ in batch.units]
        self.panels: list[PromptEvidence] = []

    def row(self, i: int) -> int:
        """The row of the batch that unit i is about."""
        [(row, _)] = self.units[i].cells
        return row

    def texts(self, i: int) -> list[str]:
        """The N responses of unit i."""
        [cell] = self.units[i].cells
        return [str(text) for text in self.batch.texts(cell)]

    def gold(self, i: int) -> Float:
        """(N,) gold of the responses of unit i."""
        [cell] = self.units[i].cells
        return self.batch.gold_of(cell)

    def scores_KN(self, i: int) -> Float:
        """(K, N) what the arms said of unit i, NaN where they were not asked."""
        unasked = np.full(len(self.texts(i)), np.nan)
        return np.array([self.scores[i].get(k, unasked) for k in range(len(self.names))])

    def wanted(self) -> dict[int, list[int]]:
        """Arm -> the units that want it next; empty where nobody wants more."""
        units_by_arm: dict[int, list[int]] = {}
        for i, panel in enumerate(self.panels):
            # An arm that rests counts as one that had nothing to say.
            while (arm := panel.next()) is not None and self._rests(i, arm):
                nothing_N = np.full(panel.n, np.nan)
                panel.tell(arm, nothing_N)
            if arm is not None:
                units_by_arm.setdefault(arm, []).append(i)
        return units_by_arm

    def missing(self, places: Iterable[int]) -> dict[int, list[int]]:
        """Arm -> those of these units that it was not asked about."""
        every_arm = range(len(self.names))
        units_by_arm: dict[int, list[int]] = {}
        for i in places:
            for arm in every_arm:
                was_asked = arm in self.scores[i]
                if not was_asked and not self._rests(i, arm):
                    units_by_arm.setdefault(arm, []).append(i)
        return units_by_arm

    def _rests(self, i: int, arm: int) -> bool:
        name = self.names[arm]
        return name in self.batch.resting and self.decisions[i].name != name

    def ask_all(self, wanted: Mapping[int, Sequence[int]], status: str, keep: bool = True) -> None:
        """One request an arm; the record does not depend on which model was in memory.

        ``keep``: remember the scores.
        """
        calls: list[tuple[int, int, list[Call]]] = []
        earlier = len(self.verdicts.failures)
        for name in self.asker.pool.order({self.names[arm] for arm in wanted}):
            arm = self.names.index(name)
            for i, made, score_N in self._ask(name, wanted[arm], status):
                # Sorted below: the ledger must not depend on the order of the requests.
                calls.append((i, arm, made))
                if keep:
                    self._remember(i, arm, score_N, status)

        # By unit and arm.
        calls.sort(key=lambda call: call[:2])
        for _, _, made in calls:
            self.verdicts.calls += made

        turn = {decision.id: i for i, decision in enumerate(self.decisions)}

        def place(failure: tuple[str, str, str]) -> tuple[int, int]:
            decision_id, name, _ = failure
            return turn[decision_id], self.names.index(name)

        new_failures = self.verdicts.failures[earlier:]
        self.verdicts.failures[earlier:] = sorted(new_failures, key=place)

    def _remember(self, i: int, arm: int, score_N: Float, status: str) -> None:
        self.scores[i][arm] = score_N
        if status == "ok":
            self.panels[i].tell(arm, score_N)

    def labels(self, name: str, places: Sequence[int]) -> dict[int, Float]:
        """Unit -> (N,) scores of an arm outside the committee; calls of status ``label``.

        NaN where it failed or abstained.
        """
        if name in self.batch.resting:
            return {i: np.full(len(self.texts(i)), np.nan) for i in places}
        score_by_unit: dict[int, Float] = {}
        # A request without a unit would be a call of nothing.
        if not places:
            return score_by_unit
        for i, made, score_N in self._ask(name, places, "label"):
            self.verdicts.calls += made
            score_by_unit[i] = score_N
        return score_by_unit

    def _ask(
        self, name: str, places: Sequence[int], status: str
    ) -> list[tuple[int, list[Call], Float]]:
        """(unit, its calls, its scores) of one request to one arm."""
        units = [self.units[i] for i in places]
        reply = self.asker.ask_the_rest(self.batch, name, units)
        said = []
        for i, unit in zip(places, units, strict=True):
            calls = reply.calls(self.decisions[i], unit, status)
            self._note_failures(reply, i)
            [(row, columns)] = unit.cells
            score_N = np.array([reply.score[row, n] for n in columns])
            said.append((i, calls, score_N))
        return said

    def _note_failures(self, reply: ArmReply, i: int) -> None:
        """Whether the request failed, or this unit's row of it.

        It counts as the unit's where its own arm failed.
        """
        verdicts = self.verdicts
        decision = self.decisions[i]
        note_rows(self.batch, decision, reply.arm, self.units[i])
        if not reply.ok:
            verdicts.failures.append((decision.id, reply.arm, reply.reason))

        # What another arm failed on is no failure of the decision.
        if decision.name != reply.arm:
            return
        row_failed = self.row(i) in reply.failed
        if row_failed:
            verdicts.failed_cells.add((i, 0))
        if row_failed or not reply.ok:
            verdicts.failed.add(i)

    def fall_back(self, fallback: str | None) -> None:
        """Where all who were asked failed or abstained, others judge in turn.

        The configured fallback first.
        """
        names = self.names
        vetoes = self.online.committee.vetoes
        broken = {name for _, name, _ in self.verdicts.failures} | self.batch.resting
        for name in dict.fromkeys([*([fallback] if fallback else []), *names]):
            arm = names.index(name)
            unjudged = [
                i
                for i, panel in enumerate(self.panels)
                if _undecided(panel) and arm not in self.scores[i]
            ]
            if not unjudged or arm in vetoes or name in broken:
                continue
            self.ask_all({arm: unjudged}, "fallback")
            for i in unjudged:
                self.panels[i] = self._alone(i, arm)

    def _alone(self, i: int, arm: int) -> PromptEvidence:
        committee = self.online.committee
        old = self.panels[i]
        scores = self.scores[i]
        panel = PromptEvidence(committee, old.n, old.category, ballot=(arm,))
        # A veto keeps its say, whoever judges.
        for veto in committee.vetoes:
            if veto in scores:
                panel.tell(veto, scores[veto])
        panel.tell(arm, scores[arm])
        return panel

    def settle(self) -> None:
        """Write the rankings into the verdicts.

        ``own`` is what the router's arm said, or the committee where nobody was drawn.
        """
        verdicts = self.verdicts
        names = self.names
        for i, panel in enumerate(self.panels):
            ranking = panel.ranking()
            verdicts.rankings[i, 0] = ranking
            verdicts.scores[i] = [ranking.value_N]

            # Where the router drew an arm, the payoff is about what that arm said.
            name = self.decisions[i].name
            own_N: Float | None = ranking.value_N
            if name in names:
                own_N = self.scores[i].get(names.index(name))
            verdicts.own.append([np.full(panel.n, np.nan) if own_N is None else own_N.copy()])
            if i not in verdicts.failed and silent(verdicts.own[i][0]):
                verdicts.abstained.add((i, 0))


def _undecided(panel: PromptEvidence) -> bool:
    """Whether the arms asked order nothing: fewer than two responses have a value."""
    return silent(panel.ranking().value_N)
