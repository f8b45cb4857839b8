"""Every pair scored by every arm once, kept by content.

A run that was killed, or another run, goes on where it stopped. There is one append-only file an
arm in the cache directory, named by a hash of what the arm is (kind, weights, options, code) and
holding lines [hash of prompt and response, score]. Scores are written in replay's own format.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress, TaskID, TextColumn

from reward_router.cache import cache_dir
from reward_router.errors import InputError
from reward_router.fit_prior.pairs import SourcedPair
from reward_router.progress import bar, visible
from reward_router.replay.fields import side
from reward_router.rewards.fingerprint import fingerprint
from reward_router.rewards.pool import RewardPool
from reward_router.rewards.spec import ArmSpec, source_of
from reward_router.rundir import write_atomically
from reward_router.strict_json import dumps
from reward_router.types import Float

CHUNK = 16
"""Pairs of a request, and between two writes."""


def score_pairs(
    pairs: Sequence[SourcedPair],
    specs: Sequence[ArmSpec],
    pool: RewardPool,
    console: Console,
    folder: Path | None = None,
) -> tuple[dict[str, Float], dict[str, str]]:
    """Scores (P, 2) of chosen and rejected by arm, and the errors of arms that failed.

    NaN where an arm abstained. Arms of one model are asked together, so that each model is loaded
    once and computes a text once for all of them. What is in the cache ``folder`` is not scored
    again; what an arm failed on is NaN and not kept. InputError where fewer than two arms scored
    anything.
    """
    by_name = {spec.name: spec for spec in specs}
    scores_folder = folder or cache_dir() / "scores"
    scores: dict[str, Float] = {}
    failed: dict[str, str] = {}
    with bar(console, TextColumn("{task.description}", markup=False)) as progress:
        for together in _on_one_model([by_name[arm] for arm in pool.order(by_name)]):
            scorings = []
            for spec in together:
                store = ScoreStore(scores_folder / f"{fingerprint(spec)}.jsonl")
                task = progress.add_task(visible(f"scoring {spec.name}"), total=len(pairs))
                scorings.append(_Scoring(spec, store, pool, partial(_show, progress, task)))
            _in_turn(scorings, pairs)
            for scoring in scorings:
                arm = scoring.spec.name
                rows = [scoring.store.pair(pair) for pair in pairs]
                scores[arm] = np.array(rows, dtype=np.float64).reshape(-1, 2)
                error = scoring.failure(len(pairs))
                if error:
                    failed[arm] = error

    # An arm teaches only where it scored both responses of some pair.
    useful = []
    for arm, score_P2 in scores.items():
        if np.isfinite(score_P2).all(axis=1).any():
            useful.append(arm)
    if len(useful) < 2:
        why = "".join(f"; {arm}: {error}" for arm, error in failed.items())
        raise InputError(
            f"routing needs 2 arms that score pairs, {', '.join(useful) or 'none'} did{why}"
        )
    return {arm: scores[arm] for arm in by_name}, failed


def _on_one_model(specs: Sequence[ArmSpec]) -> list[list[ArmSpec]]:
    """Neighbours that load the same model, together; an arm that loads none is alone."""
    groups: list[list[ArmSpec]] = []
    for spec in specs:
        source = source_of(spec)
        if groups and source is not None and source == source_of(groups[-1][0]):
            groups[-1].append(spec)
        else:
            groups.append([spec])
    return groups


def _in_turn(scorings: Sequence["_Scoring"], pairs: Sequence[SourcedPair]) -> None:
    """Every arm is asked about a few pairs before any is about the next.

    What their model computed of the texts is still at hand then.
    """
    for start in range(0, len(pairs), CHUNK):
        for scoring in scorings:
            scoring.take(pairs[start : start + CHUNK])


class _Scoring:
    """One arm on its way through the pairs: what its store lacks is asked, and kept at once."""

    def __init__(
        self,
        spec: ArmSpec,
        store: "ScoreStore",
        pool: RewardPool,
        show: Callable[[int], None],
    ) -> None:
        self.spec = spec
        self.store = store
        self._pool = pool
        self._show = show
        self._passed = 0
        self._lost: Counter[str] = Counter()
        self._error = ""

    def take(self, chunk: Sequence[SourcedPair]) -> None:
        """Score what the store has not, unless the arm failed before.

        An arm is not asked further after a request that failed as a whole. Rows that it failed on
        are not kept: they are asked again next time. InputError where its checkpoint cannot be
        used.
        """
        if self._error:
            return
        todo = [pair for pair in chunk if not self.store.has(pair)]
        if todo:
            self._ask(todo)
        if not self._error:
            self._passed += len(chunk)
            self._show(self._passed)

    def _ask(self, todo: Sequence[SourcedPair]) -> None:
        arm = self.spec.name
        prompts = [pair.prompt for pair in todo]
        responses = [[pair.chosen, pair.rejected] for pair in todo]
        result = self._pool.score(arm, prompts, responses)
        if result.refused and source_of(self.spec) is not None:
            raise InputError(f"arm {arm!r}: {result.error}")
        if not result.ok:
            self._error = result.error or result.status
            return

        # Kept request by request: what was scored is not lost when a later one fails.
        rows = zip(todo, result.scores_BN.tolist(), strict=True)
        self.store.add(row for b, row in enumerate(rows) if b not in result.row_errors)
        self._lost.update(result.row_errors.values())

    def failure(self, total: int) -> str:
        """Why the arm failed, on some rows or altogether; '' where it did not."""
        if self._error or not self._lost:
            return self._error
        reason, _ = self._lost.most_common(1)[0]
        return f"{self._lost.total()} of {total} rows, e.g. {reason}"


class ScoreStore:
    """One arm's scores by content.

    A line that a kill cut short is dropped when the file is read again.
    """

    def __init__(self, path: Path) -> None:
        """Reads what is there."""
        self.path = path
        self._known: dict[str, float] = {}
        if path.is_file():
            self._known = dict(_whole_lines(path))

    def has(self, pair: SourcedPair) -> bool:
        """Whether both responses are known."""
        return all(content_key(pair.prompt, r) in self._known for r in (pair.chosen, pair.rejected))

    def pair(self, pair: SourcedPair) -> tuple[float, float]:
        """Scores of chosen and rejected, NaN where unknown or abstained."""
        first, second = (
            self._known.get(content_key(pair.prompt, r), math.nan)
            for r in (pair.chosen, pair.rejected)
        )
        return first, second

    def add(self, scored: Iterable[tuple[SourcedPair, Sequence[float]]]) -> None:
        """Keep scores of [chosen, rejected], appended and flushed."""
        lines = []
        for pair, scores in scored:
            texts = (pair.chosen, pair.rejected)
            for response, score in zip(texts, scores, strict=True):
                name = content_key(pair.prompt, response)
                self._known[name] = score
                lines.append(dumps([name, score]))

        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A process that was killed may have left half a line, which must not swallow the next one.
        torn = self.path.is_file() and self.path.read_bytes()[-1:] not in (b"\n", b"")
        start = "\n" if torn else ""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(start + "\n".join(lines) + "\n")


def _whole_lines(path: Path) -> Iterator[tuple[str, float]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            name, score = json.loads(line)
        except ValueError:
            continue
        yield name, math.nan if score is None else float(score)


def content_key(prompt: str, response: str) -> str:
    """What a score is kept by."""
    return hashlib.blake2b(f"{len(prompt)}:{prompt}{response}".encode(), digest_size=16).hexdigest()


def write_rows(pairs: Sequence[SourcedPair], scores: dict[str, Float], path: Path) -> None:
    """The recorded-scores file that ``reward-router replay`` reads.

    The side of the better response is a coin of the id.
    """
    lines = []
    for i, pair in enumerate(pairs):
        label = side(pair.id)
        turn = 1 if label == "a" else -1
        first, second = (pair.chosen, pair.rejected)[::turn]
        of_pair = {arm: scores_P2[i, ::turn] for arm, scores_P2 in scores.items()}
        finite = {arm: s_2.tolist() for arm, s_2 in of_pair.items() if np.isfinite(s_2).all()}
        row = {
            "id": pair.id,
            "source": pair.source,
            "category": pair.category,
            "prompt": pair.prompt,
            "response_a": first,
            "response_b": second,
            "label": label,
            "scores": finite,
        }
        lines.append(dumps(row, ensure_ascii=False))
    write_atomically(path, "\n".join(lines) + "\n")


def _show(progress: Progress, task: TaskID, done: int) -> None:
    progress.update(task, completed=done)
