"""The committee as the judge of a run: arms are asked in rounds, each unit going on only where another opinion pays; gold teaches it.

In a round every open unit names the arm it wants next, and each arm is asked once about all units that want it, so that a model is
loaded and batched once a round. After the rounds a keyed-random share of the units is labelled: their (right, wrong) responses, scored
by all arms within the stated extra cost, are what the committee refits on. Every process of a run sees all labels and all costs in one
order, so all hold the same committee. Leaves out: labels that are not gold (a human's, a stronger judge's), a label-free start.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router import keyed
from reward_router.committee import OnlineCommittee, Panel, Ranking, Refit, pair_weights
from reward_router.config import JudgeConfig, PairsConfig
from reward_router.examples import Example
from reward_router.judge import Judge, Unit, Verdicts, calls_of, cells_of
from reward_router.ledger.rows import Call
from reward_router.pairs import form_pairs
from reward_router.policy import Prompt
from reward_router.types import Decision, Float, State

COUNTS = ("units", "asked_1", "asked_2", "asked_3", "labelled", "no_pair", "not_scored", "rows", "below")
COMMITTEE = "committee"


@dataclass(frozen=True)
class LabelRow:
    """One (right, wrong) pair of responses with the margins of all K arms, sides drawn by key."""

    margins_K: list[float]
    label: bool
    group: str
    category: str


class CommitteeJudge:
    """Judges units of one cell each (prompts or pairs), learns from gold, and counts what it asked.

    ``names``: the K arms in the order of the committee's columns. ``gather`` joins lists over processes. ``counts``: units judged, by how
    many arms they asked (3: or more); units labelled, drawn in vain (no right-and-wrong pair), not scored by all (budget); label rows; pairs
    below ``min_confidence``.
    """

    def __init__(
        self,
        judge: Judge,
        online: OnlineCommittee,
        names: Sequence[str],
        settings: JudgeConfig,
        seed: int = 0,
        gather: Callable[[list[Any]], list[Any]] = lambda items: items,
    ) -> None:
        """``judge`` asks single arms on this one's behalf."""
        self.asker, self.online, self.names, self.settings = judge, online, list(names), settings
        self.seed, self.gather = seed, gather
        self.counts = dict.fromkeys(COUNTS, 0)
        self.refits: list[Refit] = []
        self._below, self._arms = 0, list[int]()

    def judge(
        self,
        units: Sequence[Unit],
        decisions: Sequence[Decision],
        examples: Sequence[Example],
        responses: Sequence[Sequence[str]],
        step: int,
        audited: frozenset[int] = frozenset(),
    ) -> Verdicts:
        """Calibrated scores for every unit and, per unit, the ranking with its confidences; then labels and refits.

        All processes must call it alike often. One request an arm and round; ``audited`` rows are scored by the other arms, too.
        """
        table = _Table(self, units, decisions, [e.prompt for e in examples], responses)
        table.panels = [self._panel(table, i, examples, step) for i in range(len(units))]
        while wanted := table.wanted():
            table.ask_all(wanted, "ok")
        asked = [tuple(scores) for scores in table.scores]
        table.fall_back(self.asker.fallback)
        table.settle()
        table.ask_all(table.missing(i for i, u in enumerate(units) if u.cells[0][0] in audited), "audit", keep=False)
        self._spend(asked)
        self.refits = self._learn(table, asked, examples, step)
        return table.verdicts

    def _panel(self, table: "_Table", i: int, examples: Sequence[Example], step: int) -> Panel:
        [(b, cols)] = table.units[i].cells
        name = table.decisions[i].name
        first = self.names.index(name) if name in self.names else None
        return self.online.panel(
            len(cols), table.units[i].id, step, examples[b].category, first=first, quorum=self.settings.quorum
        )

    def _spend(self, asked: Sequence[tuple[int, ...]]) -> None:
        """Count who was asked, and let the pacer know what each unit cost."""
        committee = self.online.committee
        mine = [[arm for arm in arms if arm not in committee.vetoes] for arms in asked]
        self._arms = self.gather([len(arms) for arms in asked])
        for voters in self.gather(mine):
            self.counts["units"] += 1
            self.counts[f"asked_{min(max(len(voters), 1), 3)}"] += 1
            self.online.record(float(committee.costs[voters].sum()))

    def _learn(
        self, table: "_Table", asked: Sequence[tuple[int, ...]], examples: Sequence[Example], step: int
    ) -> list[Refit]:
        """Labels of this step's units, those of all processes in one order; the refits they led to."""
        policy = self.online.policy
        drawn = {
            i: self._sides(table, i, examples, step) for i, u in enumerate(table.units) if policy.draws(u.id, step)
        }
        told = {i: sides for i, sides in drawn.items() if sides}
        found = self.gather([(table.units[i].id, asked[i]) for i in told])
        full = {unit for unit, arms in found if self.online.scores_all(arms, unit, step)}
        mine = [i for i in told if table.units[i].id in full]
        table.ask_all(table.missing(mine), "label")
        rows = self.gather([row for i in mine for row in self._rows(table, i, told[i], examples)])
        counted = {"no_pair": len(drawn) - len(told), "labelled": len(mine), "not_scored": len(told) - len(mine)}
        for name, n in self.gather(list(counted.items())):
            self.counts[name] += n
        self.counts["rows"] += len(rows)
        added = [self.online.add_label(r.margins_K, r.label, r.group, step, r.category) for r in rows]
        return [refit for refit in added if refit is not None]

    def _sides(self, table: "_Table", i: int, examples: Sequence[Example], step: int) -> list[tuple[int, int, bool]]:
        """(right, wrong, is right side a) for as many disjoint pairs of different texts as the unit's responses give."""
        [(b, cols)] = table.units[i].cells
        texts = [str(table.responses[b][n]) for n in cols]
        first = {text: n for n, text in reversed(list(enumerate(texts)))}
        gold_N = examples[b].gold(texts)
        draw = keyed.rng(self.seed, "label", step, table.units[i].id)
        right, wrong = ([n for n in first.values() if gold_N[n] == value] for value in (1.0, 0.0))
        draw.shuffle(right)
        draw.shuffle(wrong)
        pairs = list(zip(right, wrong, strict=False))
        return [(r, w, bool(side)) for (r, w), side in zip(pairs, draw.random(len(pairs)) < 0.5, strict=True)]

    def _rows(
        self, table: "_Table", i: int, sides: Sequence[tuple[int, int, bool]], examples: Sequence[Example]
    ) -> list[LabelRow]:
        [(b, cols)] = table.units[i].cells
        scores_KN = np.array([table.scores[i].get(k, np.full(len(cols), np.nan)) for k in range(len(self.names))])
        margins = [(scores_KN[:, r] - scores_KN[:, w]) * (1.0 if side else -1.0) for r, w, side in sides]
        where = examples[b].id, examples[b].category
        return [LabelRow(m.tolist(), side, *where) for m, (_, _, side) in zip(margins, sides, strict=True)]

    # pairs -------------------------------------------------------------------------------------------------------------

    def pairs(
        self, ranking: Ranking, texts: Sequence[str], limits: PairsConfig, draw: np.random.Generator
    ) -> list[tuple[int, int, float]]:
        """(winner, loser, weight) of one unit: `form_pairs` on the calibrated values, unsure pairs left out or weighing less."""
        settings, n = self.settings, len(texts)
        winner, loser = np.divmod(np.arange(n * n), n)
        sure_NN = ranking.confidence(winner, loser).reshape(n, n)
        ordered = form_pairs(ranking.value_N, texts, n * n, draw, limits.margin)
        if settings.below == "drop":
            found = form_pairs(
                ranking.value_N, texts, limits.per_prompt, draw, limits.margin, sure_NN >= settings.min_confidence
            )
            self._below += sum(bool(sure_NN[pair] < settings.min_confidence) for pair in ordered)
            return [(w, x, 1.0) for w, x in found]
        found = form_pairs(ranking.value_N, texts, limits.per_prompt, draw, limits.margin)
        weight_P, low = pair_weights([sure_NN[pair] for pair in found], settings.min_confidence, "weight")
        self._below += low
        return [(w, x, float(weight)) for (w, x), weight in zip(found, weight_P, strict=True)]

    # state and figures -------------------------------------------------------------------------------------------------

    def record(self) -> dict[str, Any]:
        """What the last step was like, for the log. All processes must call it once a step, after its pairs."""
        self.counts["below"] += sum(self.gather([self._below]))
        self._below = 0
        return {
            "calls_per_response": float(np.mean(self._arms)) if self._arms else 0.0,
            "refits": [_known(asdict(refit)) | {"single": self.names[refit.single]} for refit in self.refits],
            **{k: v for k, v in self.describe().items() if k in ("labels", "voting", "playing", "price")},
        }

    def describe(self) -> dict[str, Any]:
        """Where the committee stands: share of units by arms asked, labels, gate, price, order by name."""
        online, committee = self.online, self.online.committee
        units = max(self.counts["units"], 1)
        gate = committee.gate
        return {
            "asked_share": {k: self.counts[f"asked_{k}"] / units for k in ("1", "2", "3")},
            "labels": online.store.n_random,
            "voting": online.voting,
            "playing": committee.playing,
            "order": [self.names[k] for k in committee.order],
            "price": committee.price if online.price is None else online.price,
            "gate": None if gate is None else _known(asdict(gate)),
        }

    def state_dict(self) -> State:
        """Everything learned and counted, as arrays only."""
        return {**self.online.state_dict(), "judged": np.array([self.counts[name] for name in COUNTS])}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore bit for bit."""
        self.online.load_state_dict(state)
        self.counts = dict(zip(COUNTS, state["judged"].tolist(), strict=True))


@dataclass
class _Table:
    """One step's units on the committee's table: who was asked what, and what they said."""

    owner: CommitteeJudge
    units: Sequence[Unit]
    decisions: Sequence[Decision]
    prompts: Sequence[Prompt]
    responses: Sequence[Sequence[str]]
    panels: list[Panel] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.verdicts = Verdicts([[np.full(len(cols), np.nan) for _, cols in u.cells] for u in self.units])
        self.scores: list[dict[int, Float]] = [{} for _ in self.units]

    def wanted(self) -> dict[int, list[int]]:
        """Arm -> the units that want it next; empty where nobody wants more."""
        found: dict[int, list[int]] = {}
        for i, panel in enumerate(self.panels):
            if (arm := panel.next()) is not None:
                found.setdefault(arm, []).append(i)
        return found

    def missing(self, places: Any) -> dict[int, list[int]]:
        """Arm -> those of these units that it was not asked about."""
        found: dict[int, list[int]] = {}
        for i in places:
            for arm in range(len(self.owner.names)):
                if arm not in self.scores[i]:
                    found.setdefault(arm, []).append(i)
        return found

    def ask_all(self, wanted: Mapping[int, Sequence[int]], status: str, keep: bool = True) -> None:
        """One request an arm; the record does not depend on which model was in memory. ``keep``: remember the scores."""
        names, calls, failures = self.owner.names, list[tuple[int, int, list[Call]]](), len(self.verdicts.failures)
        for name in self.owner.asker.pool.order({names[arm] for arm in wanted}):
            arm = names.index(name)
            calls += [(i, arm, made) for i, made in self._ask(name, wanted[arm], status, keep)]
        for _, _, made in sorted(calls, key=lambda c: c[:2]):
            self.verdicts.calls += made
        turn = {d.id: i for i, d in enumerate(self.decisions)}
        self.verdicts.failures[failures:] = sorted(
            self.verdicts.failures[failures:], key=lambda f: (turn[f[0]], names.index(f[1]))
        )

    def _ask(self, name: str, places: Sequence[int], status: str, keep: bool) -> list[tuple[int, list[Call]]]:
        asker, arm, made = self.owner.asker, self.owner.names.index(name), []
        known = self.verdicts.known.setdefault(name, {})
        seen, missing = set(known), cells_of([self.units[i] for i in places], known)
        answer = asker.score(name, missing, self.prompts, self.responses, self.verdicts) if missing else None
        score, result = ({**known, **answer[0]}, answer[1]) if answer else (known, None)
        if result is None or result.ok:
            known.update(score)
        for i in places:
            unit, decision = self.units[i], self.decisions[i]
            kind = status if result is None or result.ok else result.status
            made.append((i, calls_of(decision, name, unit, score, result, asker.costs, kind, seen)))
            if result is not None and not result.ok:
                self.verdicts.failures.append((decision.id, name, f"{result.status}: {result.error}"))
                self.verdicts.failed |= {i} if decision.name == name else set()
            if keep:
                [(b, cols)] = unit.cells
                self.scores[i][arm] = np.array([score[b, n] for n in cols])
                if status == "ok":
                    self.panels[i].tell(arm, self.scores[i][arm])
        return made

    def fall_back(self, fallback: str | None) -> None:
        """Where all who were asked failed or abstained, others judge in turn: the configured fallback first."""
        names, vetoes = self.owner.names, self.owner.online.committee.vetoes
        broken = {name for _, name, _ in self.verdicts.failures}
        for name in dict.fromkeys([*([fallback] if fallback else []), *names]):
            arm = names.index(name)
            todo = [i for i, panel in enumerate(self.panels) if _silent(panel) and arm not in self.scores[i]]
            if not todo or arm in vetoes or name in broken:
                continue
            self.ask_all({arm: todo}, "fallback")
            for i in todo:
                self.panels[i] = self._alone(i, arm)

    def _alone(self, i: int, arm: int) -> Panel:
        committee, old = self.owner.online.committee, self.panels[i]
        panel = Panel(committee, old.n, old.category, ballot=(arm,))
        for veto in committee.vetoes:
            if veto in self.scores[i]:
                panel.tell(veto, self.scores[i][veto])
        panel.tell(arm, self.scores[i][arm])
        return panel

    def settle(self) -> None:
        """Write the rankings into the verdicts; ``own`` is what the router's arm said, or the committee where nobody was drawn."""
        verdicts, names = self.verdicts, self.owner.names
        for i, panel in enumerate(self.panels):
            ranking = panel.ranking()
            verdicts.rankings[i, 0], verdicts.scores[i] = ranking, [ranking.value_N]
            name = self.decisions[i].name
            own = self.scores[i].get(names.index(name)) if name in names else ranking.value_N
            verdicts.own.append([np.full(panel.n, np.nan) if own is None else own.copy()])
            if i not in verdicts.failed and int(np.isfinite(verdicts.own[i][0]).sum()) < 2:
                verdicts.abstained.add((i, 0))


def _known(entry: dict[str, Any]) -> dict[str, Any]:
    """The same with None for what is not a finite number."""
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in entry.items()}


def _silent(panel: Panel) -> bool:
    """Whether the arms asked order nothing: fewer than two responses have a value."""
    return int(np.isfinite(panel.ranking().value_N).sum()) < 2
