"""Ledgers go on in which an ensemble or a committee decided under the name of an arm."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from reward_router.dispatch.dispatcher import Dispatcher
from reward_router.ledger import Store
from reward_router.types import By, Decision


class NamedDecider(Dispatcher):
    """A dispatcher over the K arms and a last one that is none.

    The last one is the name under which nobody was routed, and its router is ``Fixed`` on that
    name. Callers see decisions without an arm, as in a ledger of today.
    """

    def route(
        self,
        contexts: ArrayLike,
        unit_ids: Sequence[str],
        step: int,
        *,
        n_units: int | Sequence[int] = 1,
        by: By | str = By.ROUTER,
    ) -> list[Decision]:
        """Decisions without an arm; in the ledger they bear the invented one."""
        # Written as such ledgers were begun, so that an old ledger stays of one kind.
        recorded = super().route(contexts, unit_ids, step, n_units=n_units)

        # What the caller sees is a decision without an arm, as new ledgers have it.
        no_probs_K = np.zeros(len(self.arms))
        decider = By(by)
        return [
            replace(decision, arm=-1, name="", probs_K=no_probs_K, by=decider)
            for decision in recorded
        ]

    @property
    def arms(self) -> list[str]:
        """Names of the arms, without the one that is none."""
        return super().arms[:-1]


def names_its_decider(ledger: Store, arms: Sequence[str], by: By) -> bool:
    """Whether this ledger was begun with an arm of the name ``by`` beside these."""
    binding = ledger.meta("binding") or {}
    return binding.get("arms") == [*arms, str(by)] and binding.get("router") == "Fixed"
