"""Stand-ins for tests of your own set-up.

An arm, a policy, a trainer and a clock that need no model and no torch.

>>> arm = FakeArm(len)
>>> arm.score(["Say hi."], [["hi", "hello"]]).tolist(), arm.asked
([[2.0, 5.0]], 2)
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from reward_router import keyed
from reward_router.errors import RunError
from reward_router.training.records import Pair, StepResult
from reward_router.types import Float

WORDS = ("yes", "no", "maybe", "fine", "seven", "twelve", "blue", "gold")


class FakeArm:
    """A reward model whose score of a response is a function of its text.

    Args:
        score_of: the text of a response -> its score; None: it abstains.
        fails: prompts (their text) that it cannot answer: it raises on them. True: it never
            answers.

    ``asked``: responses it was asked about so far; ``requests``: how often.
    """

    def __init__(
        self,
        score_of: Callable[[str], float | None],
        fails: bool | Sequence[str] = False,
    ) -> None:
        """An arm that was never asked."""
        self.score_of = score_of
        self.fails = fails
        self.asked = 0
        self.requests = 0

    @classmethod
    def of(cls, scores: Mapping[str, float]) -> "FakeArm":
        """An arm that looks its scores up, and abstains from texts it does not know."""
        return cls(scores.get)

    def score(self, prompts: Sequence[Any], responses: Sequence[Sequence[str]]) -> Float:
        """(B, N) its scores, NaN where it abstains. RuntimeError on what it cannot answer."""
        self.requests += 1
        self.asked += sum(map(len, responses))
        broken = [] if isinstance(self.fails, bool) else [p for p in prompts if p in self.fails]
        if self.fails is True or broken:
            raise RuntimeError(
                f"the fake arm was told to fail{f' on {broken[0]!r}' if broken else ''}"
            )
        rows = []
        for group in responses:
            scores = [self.score_of(str(text)) for text in group]
            rows.append([np.nan if score is None else float(score) for score in scores])
        return np.array(rows, np.float64)


class FakePolicy:
    """A policy that answers with random words by key, and learns nothing.

    ``snapshots``: how often the reference was moved; ``synced``: how often it was told of a step.
    """

    def __init__(self, seed: int = 0, words: int = 6) -> None:
        """``words``: the most words of a response."""
        self.seed = seed
        self.words = words
        self.snapshots = 0
        self.synced = 0

    def sample(
        self, prompts: Sequence[Any], ids: Sequence[str], n_responses: int, step: int
    ) -> list[list[str]]:
        """``n_responses`` to each prompt; the same for the same id and step."""
        return [self._texts(name, n_responses, step) for name in ids[: len(prompts)]]

    def _texts(self, name: str, n_responses: int, step: int) -> list[str]:
        return [self._text(name, step, n) for n in range(n_responses)]

    def _text(self, name: str, step: int, n: int) -> str:
        draw = keyed.rng(self.seed, "sample", step, f"{name}/{n}")
        return " ".join(draw.choice(WORDS, size=int(draw.integers(1, self.words + 1))).tolist())

    def snapshot_reference(self) -> None:
        """The reference becomes this policy."""
        self.snapshots += 1

    def sync(self) -> None:
        """A step was taken."""
        self.synced += 1


class FakeTrainer:
    """A trainer whose loss is a function of the pair, and which every step makes better.

    Args:
        loss_of: a pair -> its loss before training, nats.
        gain: the share of the loss that a step takes off.
        breaks: numbers of batches whose loss is not finite, so that their step is not taken.

    ``batches``: the pairs of every step so far.
    """

    def __init__(
        self,
        loss_of: Callable[[Pair], float] = lambda pair: 1.0 + len(pair.rejected) / 100,
        gain: float = 0.1,
        breaks: Sequence[int] = (),
    ) -> None:
        """Untrained."""
        self.loss_of = loss_of
        self.gain = gain
        self.breaks = breaks
        self.batches: list[list[Pair]] = []
        self.skips = 0

    def step(self, pairs: Sequence[Pair], batch: int = 0) -> StepResult:
        """One step on these pairs.

        RunError after three in a row that were not taken, as `Trainer` does.
        """
        loss_P = self.losses(pairs)
        skipped = batch in self.breaks
        self.skips = self.skips + 1 if skipped else 0
        if self.skips >= 3:
            raise RunError(
                "3 training losses in a row were not finite; the fake trainer was told so"
            )
        if not skipped:
            self.batches.append(list(pairs))
        return StepResult(loss_P, skipped, float("nan") if skipped else 1.0, (1e-3,))

    def losses(self, pairs: Sequence[Pair], batch: Sequence[Pair] | None = None) -> Float:
        """(P,) the pairs' losses after the steps so far."""
        left = (1.0 - self.gain) ** len(self.batches)
        return np.array([self.loss_of(pair) * left for pair in pairs], np.float64)


class FakeClock:
    """A clock on which every phase takes the same time, on every machine.

    >>> clock = FakeClock(tick=2.0)
    >>> with clock.phase("score"):
    ...     pass
    >>> clock.seconds
    {'score': 2.0}
    """

    def __init__(self, tick: float = 1.0) -> None:
        """``tick``: seconds that a phase takes."""
        self.tick = tick
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """The block counts one tick to ``name``."""
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + self.tick
