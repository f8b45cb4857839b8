"""Experiments on recorded scores: methods of `replay`, each a job, one pass a seed.

No model is needed. A figure is the accuracy of the chosen arm's verdict against the label; the rows
of one prompt are one observation of the interval.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from reward_router.artifacts import demo_scores
from reward_router.errors import InputError
from reward_router.experiments.kind import Request
from reward_router.experiments.results import Cell, per_prompt
from reward_router.posterior.blas import one_thread
from reward_router.replay import methods
from reward_router.replay.embed import EmbedTexts, RowContexts, build
from reward_router.replay.feedback import Feedback
from reward_router.replay.importers import load_records
from reward_router.replay.joined import Parts
from reward_router.replay.methods import Conditions, MethodPlan
from reward_router.replay.protocols import Run, averaged
from reward_router.replay.records import Records

SEEDS = 5
"""Passes in random orders, where --seeds does not say otherwise."""
FOLDS = 5
ACCURACY = "accuracy"
GPU = (
    "{name} reads recorded scores, which no GPU makes faster: leave --profile out, and give your "
    "own models' with --scores FILE (docs/replay.md says how they are recorded)"
)


@dataclass(frozen=True)
class Recording:
    """One file of recorded scores, with what all methods share."""

    source: str
    records: Records
    encoder: tuple[EmbedTexts, str] | None = None
    """What embeds texts, and its name; None: `replay`'s own."""

    @cached_property
    def contexts(self) -> RowContexts:
        """What routers see of a row: as `replay` has it, ``auto``."""
        return build(self.records, "auto", encoder=self.encoder)

    @cached_property
    def pairs(self) -> RowContexts | None:
        """What strengths are learned from: the pair, where responses are recorded."""
        return build(self.records, "pair", encoder=self.encoder) if self.records.responses else None

    @property
    def subject(self) -> str:
        """Whose figures these are."""
        r = self.records
        return f"here, {len(r):,} recorded pairs of {r.name}, {len(r.arms)} reward models"

    def run(self, method: str, seed: int, records: Records | None = None) -> Run:
        """One run of a method of `replay` by its name; ``records``: the rows in another form."""
        rows = records or self.records
        [plan] = [p for p in methods.plan([method], rows) if p.label == method]
        with one_thread():
            if not plan.cross_fitted:
                return methods.run(plan, rows, self.contexts, self.conditions(rows), seed)
            return self._crossfit([plan], seed, rows)[method]

    def crossfit(self, labels: Sequence[str], seed: int) -> dict[str, Run]:
        """One folding of several methods that learn on other folds; they share what they can."""
        plans = [p for p in methods.plan(labels, self.records) if p.label in labels]
        with one_thread():
            return self._crossfit(plans, seed, self.records)

    def _crossfit(self, plans: list[MethodPlan], seed: int, rows: Records) -> dict[str, Run]:
        judged = methods.run_crossfit(plans, rows, self.contexts, self.conditions(rows), seed)
        return {label: averaged([one]) for label, one in judged.items()}

    def conditions(self, rows: Records, parts: Parts | None = None) -> Conditions:
        """What all runs share; ``parts``: rows to learn from and to judge, instead of folds."""
        return Conditions(
            feedback=Feedback("correct"),
            folds=min(FOLDS, rows.n_groups),
            repeats=1,
            pairs=self.pairs,
            parts=parts,
        )


def recording(request: Request, name: str, usual: str) -> Recording:
    """The one file that an experiment reads.

    It is the user's (``--scores``), else ``usual`` of ``$REWARD_ROUTER_DATA/replay``, else the
    packaged sample. InputError where it has no row, one arm only, or is several sets of rows.
    """
    several = recordings(request, name, usual)
    if len(several) > 1:
        raise InputError(f"--scores: {name} reads one file (or one benchmark's), not several")
    return several[0]


def recordings(request: Request, name: str, usual: str) -> list[Recording]:
    """The files that an experiment reads, as `recording` has them."""
    if request.profile == "gpu":
        raise InputError(GPU.format(name=name))
    files = _files(request, name, usual)
    several = [Recording(", ".join(files), records.select()) for records in load_records(files)]
    if not several:
        raise InputError(f"--scores {', '.join(files)}: no rows of recorded scores")
    return several


def scores_file(request: Request, name: str, usual: str) -> str:
    """The one file that an experiment reads, where it needs more of a row than its scores."""
    files = _files(request, name, usual)
    if len(files) > 1:
        raise InputError(f"--scores: {name} reads one file, not several")
    return files[0]


def _files(request: Request, name: str, usual: str) -> list[str]:
    refuse(request, name, ("config", "responses", "settings"))
    files = list(request.scores) or [_usual(usual)]
    return [str(demo_scores()) if f == "demo" and not Path(f).exists() else f for f in files]


def _usual(name: str) -> str:
    folder = os.environ.get("REWARD_ROUTER_DATA")
    path = Path(folder or "") / "replay" / f"{name}.jsonl.gz"
    return str(path) if folder and path.is_file() else str(demo_scores())


FLAGS = {
    "config": "--config",
    "responses": "--responses",
    "settings": "--set",
    "scores": "--scores",
}


def refuse(request: Request, name: str, options: Sequence[str]) -> None:
    """InputError for an option that this experiment has no use for."""
    for option in options:
        if getattr(request, option):
            raise InputError(
                f"{FLAGS[option]} has no meaning for the experiment {name}; leave it out"
            )


def identity(several: Sequence[Recording]) -> dict[str, str]:
    """A digest of the numbers, by file: a changed file is another experiment."""
    digests = {}
    for recording in several:
        r = recording.records
        total = hashlib.blake2b(digest_size=16)
        for array in (r.first_PK, r.second_PK, r.label_P, r.group_P):
            total.update(np.ascontiguousarray(array).tobytes())
        total.update(repr(r.arms).encode())
        digests[r.name] = total.hexdigest()
    return digests


def accuracy_cell(records: Records, runs: Mapping[str, Run]) -> Cell:
    """Accuracy over all rows, and calls of a row, of some runs by the table's row."""
    values = {}
    calls = {}
    for row, run in runs.items():
        values[row] = {ACCURACY: per_prompt(run.accuracy_P, records.group_P)}
        calls[row] = run.calls
    return Cell(values=values, calls=calls)


LONG_WARMUP = 0.1
"""From this share of the rows on, LASER's forced warm-up is said."""


def warmup_note(records: Records) -> list[str]:
    """How many rows LASER's forced warm-up takes, where they are many."""
    [plan] = [p for p in methods.plan(["laser"], records) if p.label == "laser"]
    forced = methods.forced_rows(plan, len(records.arms))
    if forced < LONG_WARMUP * len(records):
        return []
    return [
        f"LASER asks every reward model about two batches before it chooses: {forced:,} of "
        f"{len(records):,} pairs. On a longer file, or with fewer reward models, it comes to "
        "choose."
    ]


def notes(records: Records) -> list[str]:
    """What was left out of a file, in words."""
    some_right = int((records.correct_PK.max(axis=1) > 0.5).sum())
    lines = [
        f"Some reward model is right on {some_right:,} of the {len(records):,} pairs "
        f"({records.n_groups:,} prompts): no way of choosing one can be right on more."
    ]
    left_out = {
        "broken rows": records.n_broken,
        "pairs of identical responses": records.n_identical,
        "pairs whose label is a tie": records.n_ties,
    }
    some = [f"{count} {what}" for what, count in left_out.items() if count]
    if some:
        lines.append(f"Left out: {', '.join(some)}.")
    return lines
