"""The session behind a reward function: made in the process that uses it, numbered by the trainer's
steps.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from reward_router.config import Config
from reward_router.errors import InputError
from reward_router.integrations.trl.build import MEMORY, Source, build, read
from reward_router.integrations.trl.processes import Processes
from reward_router.session import Session


class Binding:
    """A configuration or a session, with what a trainer's run adds to it.

    Args:
        source: a configuration, read now and built at first use; or a session.
        ledger: the file that records everything; None: memory, or what a `RouterCallback` says.

    ``base``: the ledger's step at the trainer's step 0, so that a ledger that goes on has no step
    twice. ``policy``: the model in training, by which an evaluation is told from a training step.
    """

    def __init__(self, source: Source | Session, ledger: str | Path | None) -> None:
        """InputError for a configuration that cannot be right, or a ledger that a session has
        already.
        """
        self.config: Config | None = None
        self._session: Session | None = None
        if isinstance(source, Session):
            if ledger is not None:
                raise InputError("ledger: the session has its own; leave the argument out")
            self._session = source
        else:
            self.config = read(source)
        self.ledger = ledger
        self.base: int | None = None
        self.calls = 0
        self.policy: Any = None
        self.prepare: Callable[[Session], None] = lambda _: None
        self._processes: Processes | None = None

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which builds its own session."""
        if self.config is None:
            raise InputError(
                "session: a RoutedReward with a session cannot go to another process; give it a "
                "configuration instead"
            )
        # What belongs to this process alone: its connections, its model, its place in the ledger.
        kept = {"_session": None, "_processes": None, "policy": None, "base": None}
        return self.__dict__ | kept

    @property
    def processes(self) -> Processes:
        """The processes of the run."""
        if self._processes is None:
            self._processes = Processes()
        return self._processes

    @property
    def built(self) -> bool:
        """Whether the session is there already."""
        return self._session is not None and self._processes is not None

    @property
    def session(self) -> Session:
        """The session; the first use makes it ready, on all processes alike."""
        if self._session is not None and self._processes is not None:
            return self._session
        if self._session is None and self.config is not None:
            self._session = build(self.config, self.ledger or MEMORY, self.processes)
        session = self._session
        assert session is not None  # one of the two was given
        session.gather = self.processes.gather
        if self.config is None:
            self._one_ledger_each(session)
        self.prepare(session)
        return session

    def _one_ledger_each(self, session: Session) -> None:
        paths = self.processes.gather([session.dispatcher.ledger.path])
        files = [path for path in paths if path != MEMORY]
        if len(set(files)) < len(files):
            raise InputError(
                f"session: {len(files)} processes write the ledger {files[0]}; give RoutedReward a "
                "configuration, or only the first process this file"
            )

    @property
    def evaluating(self) -> bool:
        """Whether the trainer evaluates; False where no `RouterCallback` has shown us its model."""
        return self.policy is not None and not self.policy.training

    def step(self, global_step: int | None) -> int:
        """The ledger's number of a step of the trainer; without one, calls are counted."""
        if self.base is None:
            steps = self.session.dispatcher.ledger.decisions(contexts=False).step
            self.base = int(steps.max()) + 1 - (global_step or 0) if len(steps) else 0
        if global_step is not None:
            return self.base + global_step
        self.calls += 1
        return self.base + self.calls - 1
