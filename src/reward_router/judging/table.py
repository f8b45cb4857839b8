"""One step's units on the committee's table: who was asked about what, and what they said."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from reward_router.committee import OnlineCommittee, Panel
from reward_router.data import Prompt
from reward_router.judging.judge import Judge, Unit, Verdicts, calls_of, cells_of, note_rows
from reward_router.ledger.rows import Call
from reward_router.types import Decision, Float


@dataclass
class Table:
    """Units of one cell each before the K arms ``names``; ``scores``: per unit, arm -> (N,) scores; ``panels``: per unit, who is next.

    ``resting``: arms that are asked by nobody but the decisions that name them; to the others they have nothing to say.
    """

    asker: Judge
    online: OnlineCommittee
    names: Sequence[str]
    units: Sequence[Unit]
    decisions: Sequence[Decision]
    prompts: Sequence[Prompt]
    responses: Sequence[Sequence[str]]
    resting: frozenset[str] = frozenset()
    panels: list[Panel] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Nobody is asked yet."""
        self.verdicts = Verdicts([[np.full(len(cols), np.nan) for _, cols in u.cells] for u in self.units])
        self.scores: list[dict[int, Float]] = [{} for _ in self.units]

    def wanted(self) -> dict[int, list[int]]:
        """Arm -> the units that want it next; empty where nobody wants more."""
        found: dict[int, list[int]] = {}
        for i, panel in enumerate(self.panels):
            while (arm := panel.next()) is not None and self._rests(i, arm):
                panel.tell(arm, np.full(panel.n, np.nan))
            if arm is not None:
                found.setdefault(arm, []).append(i)
        return found

    def _rests(self, i: int, arm: int) -> bool:
        name = self.names[arm]
        return name in self.resting and self.decisions[i].name != name

    def missing(self, places: Iterable[int]) -> dict[int, list[int]]:
        """Arm -> those of these units that it was not asked about."""
        found: dict[int, list[int]] = {}
        for i in places:
            for arm in range(len(self.names)):
                if arm not in self.scores[i] and not self._rests(i, arm):
                    found.setdefault(arm, []).append(i)
        return found

    def texts(self, i: int) -> list[str]:
        """The N responses of unit i."""
        [(b, cols)] = self.units[i].cells
        return [str(self.responses[b][n]) for n in cols]

    def scores_KN(self, i: int) -> Float:
        """(K, N) what the arms said of unit i, NaN where they were not asked."""
        silent = np.full(len(self.texts(i)), np.nan)
        return np.array([self.scores[i].get(k, silent) for k in range(len(self.names))])

    def ask_all(self, wanted: Mapping[int, Sequence[int]], status: str, keep: bool = True) -> None:
        """One request an arm; the record does not depend on which model was in memory. ``keep``: remember the scores."""
        calls, failures = list[tuple[int, int, list[Call]]](), len(self.verdicts.failures)
        for name in self.asker.pool.order({self.names[arm] for arm in wanted}):
            arm = self.names.index(name)
            for i, made, score_N in self._ask(name, wanted[arm], status):
                calls.append((i, arm, made))
                if keep:
                    self.scores[i][arm] = score_N
                    if status == "ok":
                        self.panels[i].tell(arm, score_N)
        for _, _, made in sorted(calls, key=lambda c: c[:2]):
            self.verdicts.calls += made
        turn = {d.id: i for i, d in enumerate(self.decisions)}
        self.verdicts.failures[failures:] = sorted(
            self.verdicts.failures[failures:], key=lambda f: (turn[f[0]], self.names.index(f[1]))
        )

    def labels(self, name: str, places: Sequence[int]) -> dict[int, Float]:
        """Unit -> (N,) scores of an arm outside the committee; calls of status ``label``. NaN where it failed or abstained."""
        if name in self.resting:
            return {i: np.full(len(self.texts(i)), np.nan) for i in places}
        found = self._ask(name, places, "label") if places else []
        for _, made, _ in found:
            self.verdicts.calls += made
        return {i: score_N for i, _, score_N in found}

    def _ask(self, name: str, places: Sequence[int], status: str) -> list[tuple[int, list[Call], Float]]:
        asker, said = self.asker, []
        known = self.verdicts.known.setdefault(name, {})
        seen, missing = set(known), cells_of([self.units[i] for i in places], known)
        answer = asker.score(name, missing, self.prompts, self.responses, self.verdicts) if missing else None
        score, result = ({**known, **answer[0]}, answer[1]) if answer else (known, None)
        if result is None or result.ok:
            known.update(score)
        failed = self.verdicts.failed_rows.get(name, {})
        for i in places:
            unit, decision = self.units[i], self.decisions[i]
            kind = status if result is None or result.ok else result.status
            made = calls_of(
                decision, name, unit, score, result, asker.costs, kind, seen, failed, self.verdicts.bills.get(name)
            )
            note_rows(self.verdicts, decision, name, unit)
            if result is not None and not result.ok:
                self.verdicts.failures.append((decision.id, name, f"{result.status}: {result.error}"))
                self.verdicts.failed |= {i} if decision.name == name else set()
            [(b, cols)] = unit.cells
            if b in failed and decision.name == name:
                self.verdicts.failed_cells.add((i, 0))
                self.verdicts.failed.add(i)
            said.append((i, made, np.array([score[b, n] for n in cols])))
        return said

    def fall_back(self, fallback: str | None) -> None:
        """Where all who were asked failed or abstained, others judge in turn: the configured fallback first."""
        names, vetoes = self.names, self.online.committee.vetoes
        broken = {name for _, name, _ in self.verdicts.failures} | self.resting
        for name in dict.fromkeys([*([fallback] if fallback else []), *names]):
            arm = names.index(name)
            todo = [i for i, panel in enumerate(self.panels) if _silent(panel) and arm not in self.scores[i]]
            if not todo or arm in vetoes or name in broken:
                continue
            self.ask_all({arm: todo}, "fallback")
            for i in todo:
                self.panels[i] = self._alone(i, arm)

    def _alone(self, i: int, arm: int) -> Panel:
        committee, old = self.online.committee, self.panels[i]
        panel = Panel(committee, old.n, old.category, ballot=(arm,))
        for veto in committee.vetoes:
            if veto in self.scores[i]:
                panel.tell(veto, self.scores[i][veto])
        panel.tell(arm, self.scores[i][arm])
        return panel

    def settle(self) -> None:
        """Write the rankings into the verdicts; ``own`` is what the router's arm said, or the committee where nobody was drawn."""
        verdicts, names = self.verdicts, self.names
        for i, panel in enumerate(self.panels):
            ranking = panel.ranking()
            verdicts.rankings[i, 0], verdicts.scores[i] = ranking, [ranking.value_N]
            name = self.decisions[i].name
            own = self.scores[i].get(names.index(name)) if name in names else ranking.value_N
            verdicts.own.append([np.full(panel.n, np.nan) if own is None else own.copy()])
            if i not in verdicts.failed and int(np.isfinite(verdicts.own[i][0]).sum()) < 2:
                verdicts.abstained.add((i, 0))


def _silent(panel: Panel) -> bool:
    """Whether the arms asked order nothing: fewer than two responses have a value."""
    return int(np.isfinite(panel.ranking().value_N).sum()) < 2
