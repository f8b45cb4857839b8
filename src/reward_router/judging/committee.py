"""The committee as the judge of a run: arms are asked in rounds, each unit going on only where another opinion pays.

In a round every open unit names the arm it wants next, and each arm is asked once about all units that want it, so that a model is
loaded and batched once a round. After the rounds the committee learns from labels (`labels`). Every process of a run sees
all costs in one order, so all hold the same committee.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router.committee import OnlineCommittee, Panel, Ranking, Refit, pair_weights
from reward_router.config import JudgeConfig, PairsConfig
from reward_router.examples import Example
from reward_router.judging.judge import Judge, Unit, Verdicts
from reward_router.judging.labels import Learner
from reward_router.judging.table import Table
from reward_router.pairs import fixed_by_the_cut, form_pairs
from reward_router.responses import finished
from reward_router.types import Decision, State

COUNTS = ("units", "asked_1", "asked_2", "asked_3", "labelled", "no_pair", "not_scored", "rows", "below")
COMMITTEE = "committee"


class CommitteeJudge:
    """Judges units of one cell each (prompts or pairs), learns from labels, and counts what it asked.

    ``names``: the K arms in the order of the committee's columns. ``gather`` joins lists over processes. ``counts``: units judged, by how
    many arms they asked (3: or more); units labelled, drawn in vain (no better-and-worse pair), not scored by all (budget); label rows; pairs
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
        self.gather, self.counts = gather, dict.fromkeys(COUNTS, 0)
        self.learner = Learner(online, settings.labels, self.counts, seed, gather)
        self.refits: list[Refit] = []
        self._below, self._arms = 0, list[int]()
        self._unsure: list[str] = []

    def judge(
        self,
        units: Sequence[Unit],
        decisions: Sequence[Decision],
        examples: Sequence[Example],
        responses: Sequence[Sequence[str]],
        step: int,
        audited: frozenset[int] = frozenset(),
        resting: frozenset[str] = frozenset(),
        learn: bool = True,
    ) -> Verdicts:
        """Calibrated scores for every unit and, per unit, the ranking with its confidences; then, if it is to ``learn``, labels and refits.

        All processes must call it alike often. One request an arm and round; ``audited`` rows are scored by the other arms, too.
        ``resting``: arms that failed lately and are asked by nobody but the decisions that name them.
        """
        prompts = [e.prompt for e in examples]
        table = Table(self.asker, self.online, self.names, units, decisions, prompts, responses, resting)
        table.panels = [self._panel(table, i, examples, step) for i in range(len(units))]
        while wanted := table.wanted():
            table.ask_all(wanted, "ok")
        asked = [tuple(scores) for scores in table.scores]
        table.fall_back(self.asker.fallback)
        table.settle()
        table.ask_all(table.missing(i for i, u in enumerate(units) if u.cells[0][0] in audited), "audit", keep=False)
        self._spend(asked)
        self._unsure = self.gather(self._units_unsure(units, table))
        self.refits = self.learner.learn(table, examples, step) if learn else []
        return table.verdicts

    def _panel(self, table: Table, i: int, examples: Sequence[Example], step: int) -> Panel:
        [(b, cols)] = table.units[i].cells
        name = table.decisions[i].name
        first = self.names.index(name) if name in self.names else None
        return self.online.panel(
            len(cols), table.units[i].id, step, examples[b].category, first=first, quorum=self.settings.quorum
        )

    def _units_unsure(self, units: Sequence[Unit], table: Table) -> list[str]:
        """Ids of units whose best response is not told from every other as surely as promised: what a person could be asked."""
        if self.online.committee.max_error is None:
            return []
        rankings = [panel.ranking() for panel in table.panels]
        rivals = [[n for n in range(len(r.value_N)) if n != r.best] for r in rankings]
        sure = [r.confidence([r.best] * len(others), others) for r, others in zip(rankings, rivals, strict=True)]
        return [u.id for u, p in zip(units, sure, strict=True) if self.online.abstains(p).any()]

    def _spend(self, asked: Sequence[tuple[int, ...]]) -> None:
        """Count who was asked, and let the pacer know what each unit cost."""
        committee = self.online.committee
        mine = [[arm for arm in arms if arm not in committee.vetoes] for arms in asked]
        self._arms = self.gather([len(arms) for arms in asked])
        for voters in self.gather(mine):
            self.counts["units"] += 1
            self.counts[f"asked_{min(max(len(voters), 1), 3)}"] += 1
            self.online.record(float(committee.costs[voters].sum()))

    # pairs -------------------------------------------------------------------------------------------------------------

    def pairs(
        self, ranking: Ranking, texts: Sequence[str], limits: PairsConfig, draw: np.random.Generator
    ) -> list[tuple[int, int, float]]:
        """(winner, loser, weight) of one unit: `form_pairs` on the calibrated values, unsure pairs left out or weighing less.

        A pair of a finished and a cut response needs no confidence where cut ones lose: it weighs 1.
        """
        settings, n = self.settings, len(texts)
        least = max(settings.min_confidence, self.online.certainty)
        winner, loser = np.divmod(np.arange(n * n), n)
        finished_N = finished(texts)
        sure_NN = ranking.confidence(winner, loser).reshape(n, n)
        sure_NN[fixed_by_the_cut(finished_N, limits.truncated)] = 1.0

        def ordered(most: int, allowed_NN: NDArray[np.bool_] | None = None) -> list[tuple[int, int]]:
            return form_pairs(
                ranking.value_N, texts, most, draw, limits.margin, allowed_NN, finished_N, limits.truncated, limits.pick
            )

        if settings.below == "drop":
            every = ordered(n * n)
            found = ordered(limits.per_prompt, sure_NN >= least)
            self._below += sum(bool(sure_NN[pair] < least) for pair in every)
            return [(w, x, 1.0) for w, x in found]
        found = ordered(limits.per_prompt)
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
            **({} if self.online.committee.max_error is None else {"abstained": self._unsure}),
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
            "found": online.summary,
        }

    def state_dict(self) -> State:
        """Everything learned and counted, as arrays only."""
        return {**self.online.state_dict(), "judged": np.array([self.counts[name] for name in COUNTS])}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore bit for bit."""
        self.online.load_state_dict(state)
        self.counts.update(zip(COUNTS, state["judged"].tolist(), strict=True))


def _known(entry: dict[str, Any]) -> dict[str, Any]:
    """The same with None for what is not a finite number."""
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in entry.items()}
