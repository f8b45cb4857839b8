"""`RoutedReward`: one reward function for TRL behind which a router chooses who judges.

One callable, not one reward function an arm: TRL evaluates every reward function on every
completion, so K of them would cost K calls a completion. Every group is judged whole by one
process, also where its rows lie on several.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reward_router import keyed
from reward_router.errors import InputError, LedgerError
from reward_router.integrations.trl.binding import Binding
from reward_router.integrations.trl.build import Source
from reward_router.integrations.trl.gold import Gold, GoldSource, rows_with_gold
from reward_router.integrations.trl.judging import evaluate, judge
from reward_router.integrations.trl.numbers import broken_ties, payoffs_of, rewards_of
from reward_router.integrations.trl.payoffs import Payoffs, PayoffSource
from reward_router.integrations.trl.rows import (
    Row,
    check_groups,
    distinguish,
    groups_of,
    in_halves,
)
from reward_router.integrations.trl.telling import tell
from reward_router.session import Session
from reward_router.types import RewardModel


class RoutedReward:
    """A reward function for GRPOTrainer, RLOOTrainer, AsyncGRPO and OnlineDPOTrainer.

    All completions of a prompt in one call are judged by one arm. What is returned is calibrated:
    how many standard deviations a score is above the arm's mean so far.

    Args:
        source: a configuration (file, mapping or `Config`) as ``reward-router train`` takes it, or
            a `Session`. A configuration is read now and built at the first call, so that it can be
            pickled and every process can build its own.
        num_generations: the trainer's; checked. None: the smallest number of completions that a
            prompt comes with.
        gold: a column with the right answer to each prompt, or a verifier called like a reward
            function of TRL.
        payoff: what the router learns from, see `Payoffs`; None: the configuration's or the
            session's.
        audit: the reward model that audits (``payoff="audit"``); no arm of the router.
        audit_share: the share of groups it audits.
        ledger: the file that records everything; None: ``ledger.sqlite`` in the trainer's output
            folder where there is a `RouterCallback`, else memory.
        failed: ``mean``: a completion that nobody could score has its group's mean, so its
            advantage is zero; ``none``: None, and TRL prints such a row's prompt and completion
            into its log.
        name: ``__name__``, under which TRL logs the reward.
    """

    def __init__(  # noqa: PLR0913 - the signature is public
        self,
        source: Source | Session,
        num_generations: int | None = None,
        *,
        gold: GoldSource = None,
        payoff: PayoffSource = None,
        audit: RewardModel | None = None,
        audit_share: float = 1.0,
        ledger: str | Path | None = None,
        failed: str = "mean",
        name: str = "routed_reward",
    ) -> None:
        """InputError for a configuration or an argument that cannot be right."""
        is_number = isinstance(num_generations, int) and not isinstance(num_generations, bool)
        if num_generations is not None and not (is_number and num_generations >= 2):
            raise InputError(
                f"num_generations={num_generations!r}; allowed a whole number from 2, or None"
            )
        if failed not in ("mean", "none"):
            raise InputError(f"failed={failed!r}; allowed mean or none")
        self.__name__ = name
        self.num_generations = num_generations
        self.failed = failed
        self.payoffs = Payoffs(payoff, audit, audit_share)
        self.binding = Binding(source, ledger)
        self.binding.prepare = self.payoffs.bind
        config = self.binding.config
        self.gold = Gold(gold, (config.data.answer_kind if config else None) or "exact")

    @property
    def session(self) -> Session:
        """What judges and learns; its ``dispatcher`` has the router and the ledger."""
        return self.binding.session

    def learn(self, payoffs: Mapping[str, float]) -> None:
        """Payoffs in [0, 1] from user code, by the decision ids of the column ``router_decision``.

        InputError for a decision that is not there or has another payoff already; then nothing is
        changed.
        """
        given = payoffs_of(payoffs)
        try:
            self.session.dispatcher.feedback_many(given, source="user")
        except LedgerError as error:
            raise InputError(f"payoffs: {error}") from None

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> list[float | None]:
        """One reward a completion; TRL calls it."""
        return self.judge(prompts, completions, columns)

    def judge(
        self, prompts: Sequence[Any], completions: Sequence[Any], columns: dict[str, Any]
    ) -> list[float | None]:
        """What ``__call__`` does."""
        state = columns.pop("trainer_state", None)
        reporters = columns.pop("log_metric", None), columns.pop("log_extra", None)
        session, rank = self.session, self.binding.processes.rank
        parts = self.binding.processes.together(lambda: self._rows(prompts, completions, columns))
        groups = groups_of(parts)
        rows = [row for part in parts for row in part]
        mine = [group for group in groups if group.owner == rank]
        global_step = getattr(state, "global_step", None)
        step = self.binding.step(global_step)
        paid: dict[str, float] = {}
        if self.binding.evaluating:
            judged = evaluate(session, mine, rows, step)
        else:
            check_groups(groups, self.num_generations)
            distinguish(groups, session.dispatcher.ledger, step)
            paid |= self.payoffs.logged(session, getattr(state, "log_history", ()))
            judged = judge(session, mine, rows, step)
            if judged.batch is not None:
                paid |= self.payoffs.judged(session, judged.batch, global_step or 0)
        first = sum(map(len, parts[:rank]))
        local = range(first, first + len(prompts))
        tell(reporters, judged, session, paid, local)
        rewards = rewards_of(judged.answers, len(rows), self.failed == "none")[first : local.stop]
        if reporters[0] is not None or not in_halves(prompts):  # OnlineDPO passes no reporters
            return rewards
        coin = [keyed.uniform(session.dispatcher.seed, "order", step, f"{i}") for i in local]
        return broken_ties(rewards, coin)

    def _rows(
        self, prompts: Sequence[Any], completions: Sequence[Any], columns: Mapping[str, Any]
    ) -> list[Row]:
        if self.payoffs.needs_gold and self.gold.source is None:
            raise InputError(
                f"payoff: {self.payoffs.source} needs gold; give RoutedReward gold= a column of "
                "the data set or a verifier"
            )
        return rows_with_gold(prompts, completions, columns, self.gold)
