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

CHUNK = 16  # pairs between two writes


def score_pairs(
    pairs: Sequence[SourcedPair],
    specs: Sequence[ArmSpec],
    pool: RewardPool,
    console: Console,
    folder: Path | None = None,
) -> tuple[dict[str, Float], dict[str, str]]:
    """Scores (P, 2) of chosen and rejected by arm, and the errors of arms that failed.

    NaN where an arm abstained. Arms of one model follow each other, so that each model is loaded
    once. What is in the cache ``folder`` is not scored again; what an arm failed on is NaN and not
    kept. InputError where fewer than two arms scored anything.
    """
    by_name = {spec.name: spec for spec in specs}
    scores_folder = folder or cache_dir() / "scores"
    scores: dict[str, Float] = {}
    failed: dict[str, str] = {}
    with bar(console, TextColumn("{task.description}", markup=False)) as progress:
        for arm in pool.order(by_name):
            spec = by_name[arm]
            store = ScoreStore(scores_folder / f"{fingerprint(spec)}.jsonl")
            task = progress.add_task(visible(f"scoring {arm}"), total=len(pairs))
            has_weights = source_of(spec) is not None
            error = _fill(store, pairs, arm, pool, partial(_show, progress, task), has_weights)
            if error:
                failed[arm] = error
            rows = [store.pair(pair) for pair in pairs]
            scores[arm] = np.array(rows, dtype=np.float64).reshape(-1, 2)

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


def _fill(
    store: "ScoreStore",
    pairs: Sequence[SourcedPair],
    arm: str,
    pool: RewardPool,
    done: Callable[[int], None],
    has_weights: bool = False,
) -> str:
    """Score what the store has not; '' or why the arm failed.

    An arm is not asked further after a request that failed as a whole. Rows that it failed on are
    not kept: they are asked again next time. InputError where its checkpoint cannot be used.
    """
    todo = [pair for pair in pairs if not store.has(pair)]
    kept = len(pairs) - len(todo)
    lost: Counter[str] = Counter()
    done(kept)
    for start in range(0, len(todo), CHUNK):
        chunk = todo[start : start + CHUNK]
        prompts = [pair.prompt for pair in chunk]
        responses = [[pair.chosen, pair.rejected] for pair in chunk]
        result = pool.score(arm, prompts, responses)
        if result.refused and has_weights:
            raise InputError(f"arm {arm!r}: {result.error}")
        if not result.ok:
            return result.error or result.status

        # Kept chunk by chunk: what was scored is not lost when a later request fails.
        rows = zip(chunk, result.scores_BN.tolist(), strict=True)
        store.add(row for b, row in enumerate(rows) if b not in result.row_errors)
        lost.update(result.row_errors.values())
        done(kept + start + len(chunk))

    if lost:
        reason, _ = lost.most_common(1)[0]
        return f"{lost.total()} of {len(pairs)} rows, e.g. {reason}"
    return ""


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
