"""What is routed in a step of the main job.

Whole batches, prompts, or pairs of responses, with the contexts the router sees.

Several processes see all contexts in one order; each holds the units of its own prompts.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from reward_router import keyed
from reward_router.config import Config
from reward_router.contexts import Contexts
from reward_router.data import Prompt
from reward_router.features import pool
from reward_router.pairs import form_pairs
from reward_router.responses import finished
from reward_router.types import Float
from reward_router.verdicts.batch import Batch, Unit


class Units:
    """Fills a batch's units, contexts and counts as ``router.unit`` says.

    Args:
        config: the run's.
        contexts: encodes prompts and pairs of responses.
        gather: joins lists over processes.
    """

    def __init__(
        self, config: Config, contexts: Contexts, gather: Callable[[list[Any]], list[Any]]
    ) -> None:
        """Nothing is computed yet."""
        self.config, self.contexts, self.gather = config, contexts, gather

    def fill(self, batch: Batch) -> Float:
        """This process's units, and how many prompts each stands for.

        Returns the contexts of what all processes route.
        """
        unit = self.config.router.unit
        if unit == "pair":
            return self._pairs(batch)
        rows = self.gather(list(self.prompt_rows(batch.prompts, batch.responses)))
        cells = [(b, tuple(range(len(group)))) for b, group in enumerate(batch.responses)]
        if unit == "batch":
            # LASER routes the whole batch by its mean context
            batch.units = [Unit(f"batch-{batch.step}", tuple(cells))]
            batch.n_units = [len(rows)]
            return pool(np.stack(rows))
        batch.units = [Unit(name, (cell,)) for name, cell in zip(batch.ids, cells, strict=True)]
        batch.n_units = [1] * len(rows)
        return np.stack(rows)

    def prompt_rows(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Float:
        """(B, D) what the router sees of whole prompts.

        Each prompt's own row, or the mean over its pairs of responses.

        The latter where the router knows pairs only: ``unit: pair``, or a prior.
        """
        knows_pairs = self.config.router.unit == "pair" or self.contexts.of_pairs is not None
        if knows_pairs:
            return self.contexts.groups(prompts, responses)
        return self.contexts.prompts(prompts)

    def _pairs(self, batch: Batch) -> Float:
        """Candidate pairs first, routed after: two calls a pair.

        A pair of equal responses is no candidate.
        """
        batch.units = []
        prompts, first, second = [], [], []
        for b, name in enumerate(batch.ids):
            texts = batch.responses[b]
            for j, i in self._candidates(batch.step, name, texts):
                keys = sorted(f"{keyed.key(0, 'data', 0, texts[n]):x}"[:12] for n in (i, j))
                batch.units.append(Unit("|".join([name, *keys]), ((b, (j, i)),)))
                prompts.append(batch.prompts[b])
                first.append(texts[j])
                second.append(texts[i])
        mine = list(self.contexts.pairs(prompts, first, second)) if prompts else []
        rows = self.gather(mine)
        batch.n_units = [1] * len(rows)
        return np.array(rows).reshape(len(rows), self.contexts.pair_dim)

    def _candidates(self, step: int, name: str, texts: Sequence[str]) -> list[tuple[int, int]]:
        """(lower, higher) indices of the pairs of one prompt that are looked at."""
        limits = self.config.pairs
        draw = keyed.rng(self.config.seed, "pairs", step, name)
        order = np.arange(
            float(len(texts))
        )  # any strict order makes every distinct pair a candidate
        found = form_pairs(
            order,
            texts,
            limits.per_prompt,
            draw,
            finished_N=finished(texts),
            truncated=limits.truncated,
            pick=limits.pick,
        )
        # a pair is looked at the same way round whoever wins it
        return [(min(pair), max(pair)) for pair in found]
