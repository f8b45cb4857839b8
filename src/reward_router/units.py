"""What is routed in a step of the main job: whole batches, prompts, or pairs of responses.

Each comes with the context that the router sees. Several processes see all contexts in one order;
each of them holds the units of its own prompts.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from reward_router import keyed
from reward_router.chat import Prompt
from reward_router.config import Config
from reward_router.contexts import Contexts
from reward_router.features import pool
from reward_router.pairs import form_pairs
from reward_router.responses import finished
from reward_router.types import Float
from reward_router.verdicts.batch import Batch, Unit


class UnitFiller:
    """Fills a batch's units, contexts and counts as ``router.unit`` says.

    Args:
        config: of the run.
        contexts: encodes prompts and pairs of responses.
        gather: joins lists over processes.
    """

    def __init__(
        self, config: Config, contexts: Contexts, gather: Callable[[list[Any]], list[Any]]
    ) -> None:
        """Nothing is computed yet."""
        self.config = config
        self.contexts = contexts
        self.gather = gather

    def fill(self, batch: Batch) -> Float:
        """Set ``batch.units`` of this process, and ``batch.n_units``, the prompts each stands for.

        Returns (U, D) the contexts of what all processes route.
        """
        unit = self.config.router.unit
        if unit == "pair":
            return self._pairs(batch)

        own_rows_BD = self.prompt_rows(batch.prompts, batch.responses)
        # All processes see all contexts: the router's decision must be the same everywhere.
        rows = self.gather(list(own_rows_BD))
        context_UD = np.stack(rows)

        cells = []
        for row, group in enumerate(batch.responses):
            every_response = tuple(range(len(group)))
            cells.append((row, every_response))

        if unit == "batch":
            # LASER routes the whole batch by its mean context
            batch.units = [Unit(f"batch-{batch.step}", tuple(cells))]
            batch.n_units = [len(rows)]
            return pool(context_UD)
        batch.units = [Unit(name, (cell,)) for name, cell in zip(batch.ids, cells, strict=True)]
        batch.n_units = [1] * len(rows)
        return context_UD

    def prompt_rows(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Float:
        """(B, D) what the router sees of whole prompts.

        Usually it is the prompt's own row. A router that knows pairs only (``unit: pair``, or a
        prior, which was learned on pairs) sees the mean over the prompt's pairs of responses.
        """
        knows_pairs = self.config.router.unit == "pair" or self.contexts.of_pairs is not None
        if knows_pairs:
            return self.contexts.groups(prompts, responses)
        return self.contexts.prompts(prompts)

    def _pairs(self, batch: Batch) -> Float:
        """Form candidate pairs first, to be routed after: two calls a pair.

        A pair of equal responses is no candidate.
        """
        batch.units = []
        prompts: list[Prompt] = []
        first: list[str] = []
        second: list[str] = []
        for row, prompt_id in enumerate(batch.ids):
            texts = batch.responses[row]
            for lower, higher in self._candidates(batch.step, prompt_id, texts):
                first_text = texts[lower]
                second_text = texts[higher]
                # The id holds both texts in one order, so that it does not depend on which of
                # them was sampled first.
                marks = sorted([_mark(first_text), _mark(second_text)])
                unit_id = "|".join([prompt_id, *marks])
                cell = (row, (lower, higher))
                batch.units.append(Unit(unit_id, (cell,)))
                prompts.append(batch.prompts[row])
                first.append(first_text)
                second.append(second_text)

        # All pairs of the batch in one call of the encoder.
        own_rows = []
        if prompts:
            own_rows = list(self.contexts.pairs(prompts, first, second))
        rows = self.gather(own_rows)
        batch.n_units = [1] * len(rows)
        # Reshaped, because no rows at all would have no width.
        return np.array(rows).reshape(len(rows), self.contexts.pair_dim)

    def _candidates(self, step: int, prompt_id: str, texts: Sequence[str]) -> list[tuple[int, int]]:
        """(lower, higher) indices of the pairs of one prompt that are looked at."""
        limits = self.config.pairs
        draw = keyed.rng(self.config.seed, "pairs", step, prompt_id)
        # Nobody has scored yet: any strict order makes every pair of different texts a candidate.
        any_order_N = np.arange(float(len(texts)))
        candidates = form_pairs(
            any_order_N,
            texts,
            limits.per_prompt,
            draw,
            finished_N=finished(texts),
            truncated=limits.truncated,
            pick=limits.pick,
        )
        # A pair is looked at the same way round whoever wins it.
        return [(min(pair), max(pair)) for pair in candidates]


def _mark(text: str) -> str:
    """Twelve hexadecimal digits of a text's hash: 48 bits tell the responses of a prompt apart."""
    return f"{keyed.key(0, 'data', 0, text):x}"[:12]
