"""The committee as the judge of a run.

Arms are asked in rounds, each unit going on only where another opinion pays.

In a round every open unit names the arm it wants next, and each arm is asked once about all units
that want it, so that a model is loaded and batched once a round. After the rounds the committee
learns from labels (`labels`). Every process of a run sees all costs in one order, so all hold the
same committee.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_router.committee import OnlineCommittee, PromptEvidence, Ranking, Refit, pair_weights
from reward_router.config import JudgeConfig, PairsConfig
from reward_router.pairs import fixed_by_the_cut, form_pairs
from reward_router.responses import finished
from reward_router.types import By, State
from reward_router.verdicts.asking import Asker
from reward_router.verdicts.batch import Batch, Verdicts
from reward_router.verdicts.labels import CommitteeLearner
from reward_router.verdicts.table import ScoreTable

COUNTS = (
    "units",
    "asked_1",
    "asked_2",
    "asked_3",
    "labelled",
    "no_pair",
    "not_scored",
    "rows",
    "below",
)


class CommitteeOfArms:
    """Judges units of one cell each (prompts, pairs), learns from labels, counts what it asked.

    ``names``: the K arms in the order of the committee's columns. ``gather`` joins lists over
    processes. ``counts``: units judged, by how many arms they asked (3: or more); units labelled,
    drawn in vain (no better-and-worse pair), not scored by all (budget); label rows; pairs below
    ``min_confidence``.
    """

    def __init__(
        self,
        asker: Asker,
        online: OnlineCommittee,
        names: Sequence[str],
        settings: JudgeConfig,
        gather: Callable[[list[Any]], list[Any]] = lambda items: items,
    ) -> None:
        """``asker``: how single arms are asked.

        Where ``settings.first`` is a router, it names each unit's first arm.
        """
        self.asker = asker
        self.online = online
        self.names = list(names)
        self.settings = settings
        self.gather = gather
        self.counts = dict.fromkeys(COUNTS, 0)
        self.by = By.COMMITTEE if settings.first == "order" else By.ROUTER
        self.learner = CommitteeLearner(online, settings.labels, self.counts, asker.seed, gather)
        self.refits: list[Refit] = []
        self._below = 0
        self._arms = list[int]()
        self._unsure: list[str] = []

    def judge(self, batch: Batch) -> Verdicts:
        """Calibrated scores for every unit and, per unit, the ranking with its confidences.

        Then labels and refits.

        All processes must call it alike often. One request an arm and round; the audited rows are
        scored by the other arms, too. Nothing is learned where the batch says so.
        """
        n_units = len(batch.units)
        table = ScoreTable(self.asker, self.online, self.names, batch)
        table.panels = [self._panel(table, i) for i in range(n_units)]

        # In rounds: all units that want an arm next share one request to it.
        while wanted := table.wanted():
            table.ask_all(wanted, "ok")
        arms_asked = [tuple(scores) for scores in table.scores]
        table.fall_back(self.asker.fallback)
        table.settle()

        # After the verdicts stand, so that no audit can change one.
        audited = [i for i in range(n_units) if table.row(i) in batch.audited]
        table.ask_all(table.missing(audited), "audit", keep=False)
        self._spend(arms_asked)
        self._unsure = self.gather(self._units_unsure(table))
        self.refits = []
        if batch.learn:
            self.refits = self.learner.learn(table)
        return table.verdicts

    def _panel(self, table: ScoreTable, i: int) -> PromptEvidence:
        """Who is asked about unit i, and in which order; a router's arm first."""
        batch = table.batch
        unit = table.units[i]
        [(row, columns)] = unit.cells
        name = table.decisions[i].name
        first = self.names.index(name) if name in self.names else None
        return self.online.panel(
            len(columns),
            unit.id,
            batch.step,
            batch.category(row),
            first=first,
            quorum=self.settings.quorum,
        )

    def _units_unsure(self, table: ScoreTable) -> list[str]:
        """Ids of units whose best response is not told from every other as surely as promised.

        A person could be asked about these.
        """
        if self.online.committee.max_error is None:
            return []
        unsure = []
        for unit, panel in zip(table.units, table.panels, strict=True):
            ranking = panel.ranking()
            others = [n for n in range(len(ranking.value_N)) if n != ranking.best]
            sure = ranking.confidence([ranking.best] * len(others), others)
            if self.online.abstains(sure).any():
                unsure.append(unit.id)
        return unsure

    def _spend(self, asked: Sequence[tuple[int, ...]]) -> None:
        """Count who was asked, and let the pacer know what each unit cost."""
        committee = self.online.committee
        self._arms = self.gather([len(arms) for arms in asked])
        # A veto has no vote: it does not count as another opinion.
        own_voters = [_without(arms, committee.vetoes) for arms in asked]
        for voters in self.gather(own_voters):
            # The table of the report has one, two, and three or more.
            opinions = min(max(len(voters), 1), 3)
            self.counts["units"] += 1
            self.counts[f"asked_{opinions}"] += 1
            cost = float(committee.costs[voters].sum())
            self.online.record(cost)

    # pairs --------------------------------------------------------------------------------------

    def pairs(
        self, ranking: Ranking, texts: Sequence[str], limits: PairsConfig, draw: np.random.Generator
    ) -> list[tuple[int, int, float]]:
        """(winner, loser, weight) of one unit.

        `form_pairs` on the calibrated values, unsure pairs left out or weighing less.

        A pair of a finished and a cut response needs no confidence where cut ones lose: it weighs
        1.
        """
        settings = self.settings
        n = len(texts)
        least = max(settings.min_confidence, self.online.certainty)
        winner, loser = np.divmod(np.arange(n * n), n)
        finished_N = finished(texts)
        sure_NN = ranking.confidence(winner, loser).reshape(n, n)
        sure_NN[fixed_by_the_cut(finished_N, limits.truncated)] = 1.0

        def ordered(
            most: int, allowed_NN: NDArray[np.bool_] | None = None
        ) -> list[tuple[int, int]]:
            return form_pairs(
                ranking.value_N,
                texts,
                most,
                draw,
                limits.margin,
                allowed_NN,
                finished_N,
                limits.truncated,
                limits.pick,
            )

        if settings.below == "drop":
            every = ordered(n * n)
            sure = ordered(limits.per_prompt, sure_NN >= least)
            self._below += sum(bool(sure_NN[pair] < least) for pair in every)
            return [(better, worse, 1.0) for better, worse in sure]
        formed = ordered(limits.per_prompt)
        confidence = [sure_NN[pair] for pair in formed]
        weight_P, low = pair_weights(confidence, settings.min_confidence, "weight")
        self._below += low
        weighted = zip(formed, weight_P, strict=True)
        return [(better, worse, float(weight)) for (better, worse), weight in weighted]

    # state and figures ---------------------------------------------------------------------------

    def record(self) -> dict[str, Any]:
        """What the last step was like, for the log.

        All processes must call it once a step, after its pairs.
        """
        self.counts["below"] += sum(self.gather([self._below]))
        self._below = 0
        state = self.describe()

        calls_per_response = 0.0
        if self._arms:
            calls_per_response = float(np.mean(self._arms))
        record: dict[str, Any] = {"calls_per_response": calls_per_response}
        if self.online.committee.max_error is not None:
            record["abstained"] = self._unsure
        # The best single arm by its name: its number would change with the arms.
        record["refits"] = [
            _finite(asdict(refit)) | {"single": self.names[refit.single]} for refit in self.refits
        ]
        for key in ("labels", "voting", "playing", "price"):
            record[key] = state[key]
        return record

    def describe(self) -> dict[str, Any]:
        """Where the committee stands.

        Share of units by arms asked, labels, gate, price, order by name.
        """
        online = self.online
        committee = self.online.committee
        units = max(self.counts["units"], 1)
        gate = committee.gate
        return {
            "asked_share": {k: self.counts[f"asked_{k}"] / units for k in ("1", "2", "3")},
            "labels": online.store.n_random,
            "voting": online.voting,
            "playing": committee.playing,
            "order": [self.names[k] for k in committee.order],
            "price": committee.price if online.price is None else online.price,
            "gate": None if gate is None else _finite(asdict(gate)),
            "found": online.summary,
        }

    def state_dict(self) -> State:
        """Everything learned and counted, as arrays only."""
        return {
            **self.online.state_dict(),
            "judged": np.array([self.counts[name] for name in COUNTS]),
        }

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore bit for bit."""
        self.online.load_state_dict(state)
        self.counts.update(zip(COUNTS, state["judged"].tolist(), strict=True))


def _without(arms: Sequence[int], left_out: Container[int]) -> list[int]:
    return [arm for arm in arms if arm not in left_out]


def _finite(entry: dict[str, Any]) -> dict[str, Any]:
    """The same with None for what is not a finite number."""
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in entry.items()}
