"""What the desk is asked: prompts, with their responses where these are to be judged."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from reward_router.chat import Prompt
from reward_router.types import Float
from reward_router.verdicts.batch import Batch


@dataclass(frozen=True)
class Asked:
    """B prompts, with their responses where they are to be judged.

    Args:
        prompts: texts or lists of messages.
        responses: per prompt, its N responses.
        ids: B names that the caller gives the prompts, none twice.
        step: the caller's step; draws are keyed by it.
        request_id: the caller's name of the request, by which it is recognised when it comes again.
        contexts: (B, D) what the router sees; None: the encoder's.
        gold: per prompt (N,) 1 right, 0 wrong, NaN unknown.
        body: the request's bytes, in one spelling; not needed without a ``request_id``.
    """

    prompts: Sequence[Prompt]
    responses: Sequence[Sequence[str]]
    ids: Sequence[str]
    step: int = 0
    request_id: str | None = None
    contexts: Float | None = None
    gold: Sequence[Float] | None = None
    body: bytes = b""

    def batch(self) -> Batch:
        """As a session takes it: a unit's id begins with that of the request."""
        name = self.request_id if self.request_id is not None else uuid.uuid4().hex
        batch = Batch(
            step=self.step,
            prompts=self.prompts,
            ids=[f"{name}/{each}" for each in self.ids],
            responses=self.responses,
            gold=self.gold,
        )
        if self.contexts is not None:
            batch.contexts = self.contexts
        return batch
