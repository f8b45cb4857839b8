"""`RouterCallback`: the router in a trainer's checkpoints, its payoffs from the trainer's log and
evaluations.
"""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback

from reward_router.errors import InputError
from reward_router.integrations.trl.reward import RoutedReward

STATE = "reward_router.json"
ARRAYS = "reward_router.npz"
LEDGER = "ledger.sqlite"
log = logging.getLogger(__name__)


class RouterCallback(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Keeps router and ledger in step with a trainer's checkpoints.

    Each checkpoint gets the ledger's position and the router's state. On resume the ledger is
    rewound to that position (what came after is put aside, not deleted), so that the run goes on as
    if it had never stopped. The first process writes, all read. It also tells an evaluation from a
    training step, so that evaluations are recorded nowhere.

    Args:
        reward: the routed reward that the trainer has, too.
        gain: the metric of an evaluation whose gain is the payoff (``payoff="eval_gain"``), as
            ``eval_rewards/gold/mean``.
        resume_from: the checkpoint to read where it is not the one of this step in the trainer's
            output folder.
    """

    def __init__(
        self, reward: RoutedReward, gain: str | None = None, resume_from: str | Path | None = None
    ) -> None:
        """InputError where a gain is asked for and no metric is named, or the reverse."""
        if (reward.payoffs.source == "eval_gain") != (gain is not None):
            raise InputError(
                "gain: payoff='eval_gain' needs the name of an evaluation's metric, and no other "
                f"payoff takes one; payoff={reward.payoffs.source!r}, gain={gain!r}"
            )
        self.reward = reward
        self.gain = gain
        self.resume_from = resume_from

    def on_init_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Know the trainer's model: its mode tells an evaluation."""
        self.reward.binding.policy = model

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **_: Any
    ) -> None:
        """Take the ledger of the output folder where none was named, and go back to the
        checkpoint's state.
        """
        binding = self.reward.binding
        binding.policy = model
        if binding.config is not None and binding.ledger is None and not binding.built:
            binding.ledger = Path(args.output_dir) / LEDGER
        session = self.reward.session
        if state.global_step > 0:
            folder = self.resume_from or _checkpoint(args, state)
            self._restore(Path(folder))
        elif session.dispatcher.ledger.last_seq > 0 and binding.base is None:
            path = session.dispatcher.ledger.path
            log.warning("%s holds events of earlier runs; the router goes on from them", path)
        binding.step(state.global_step)  # the first step's number is fixed now

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A loss was logged: it is the payoff of the steps it covers, where losses are payoffs."""
        self.reward.payoffs.logged(self.reward.session, state.log_history)

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any
    ) -> None:
        """An evaluation ended: its gain over the one before is the payoff, where gains are."""
        if self.gain is None:
            return
        measured = dict(metrics or {})
        if state.log_history:  # TRL puts the metrics of rewards there, and nowhere else
            measured |= state.log_history[-1]
        if self.gain not in measured:
            names = ", ".join(sorted(measured))
            raise InputError(f"gain={self.gain!r} is no metric of the evaluation: {names}")
        self.reward.payoffs.evaluated(self.reward.session, float(measured[self.gain]))

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the ledger's position and the router beside the checkpoint that was just saved."""
        if not state.is_world_process_zero:
            return
        reward, dispatcher = self.reward, self.reward.session.dispatcher
        folder = _checkpoint(args, state)
        folder.mkdir(parents=True, exist_ok=True)
        dispatcher.snapshot()
        kept = {
            "seq": dispatcher.ledger.last_seq,
            "base": reward.binding.base,
            "calls": reward.binding.calls,
            "waiting": reward.payoffs.waiting,
            "last_gain": reward.payoffs.last_gain,
        }
        arrays: dict[str, Any] = dict(dispatcher.state_dict())
        np.savez(folder / ARRAYS, **arrays)
        (folder / STATE).write_text(json.dumps(kept), encoding="utf-8")

    def _restore(self, folder: Path) -> None:
        """Rewind the ledger and check that its events make the router that the checkpoint holds."""
        reward = self.reward
        dispatcher = reward.session.dispatcher
        try:
            kept = json.loads((folder / STATE).read_text(encoding="utf-8"))
        except OSError:
            raise InputError(
                f"resume_from: {folder} holds no {STATE}; allowed a checkpoint that was saved with "
                "a RouterCallback"
            ) from None
        ledger = dispatcher.ledger
        if kept["seq"] > ledger.last_seq:
            raise InputError(
                f"ledger: {ledger.path} ends at event {ledger.last_seq}, and {folder} was saved at "
                f"event {kept['seq']}; allowed the ledger file of that run"
            )
        ledger.rewind(kept["seq"], f"resumed from {folder.name}")
        reward.session.reread()
        with np.load(folder / ARRAYS) as saved:
            for name, value in dispatcher.state_dict().items():
                if name not in saved or not _same(value, saved[name]):
                    raise InputError(
                        f"ledger: {ledger.path} does not make the router that {folder} holds "
                        f"({name} differs); allowed the ledger file of that run"
                    )
        reward.binding.base, reward.binding.calls = kept["base"], kept["calls"]
        reward.payoffs.waiting = [(step, ids) for step, ids in kept["waiting"]]
        reward.payoffs.last_gain = kept["last_gain"]


def _same(value: Any, saved: Any) -> bool:
    """Whether two arrays of a state are equal; numbers to 1e-9, for another number of threads."""
    if np.shape(value) != np.shape(saved):
        return False
    if np.issubdtype(np.asarray(value).dtype, np.number):
        return np.allclose(value, saved, rtol=1e-9, atol=1e-9, equal_nan=True)
    return np.array_equal(value, saved)


def _checkpoint(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"
