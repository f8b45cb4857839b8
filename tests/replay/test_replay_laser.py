"""LASER in replay: one decision and one payoff for a batch of prompts."""

import numpy as np
import pytest

from reward_router.errors import InputError
from reward_router.replay import embed, methods
from reward_router.replay.evaluate import ReplaySettings, evaluate_methods
from reward_router.replay.feedback import Feedback
from reward_router.replay.protocols import online, rows_by_group, visits
from reward_router.replay.records import Records
from reward_router.routers import LinUCB

CORRECT = Feedback("correct")


class Noted(LinUCB):
    """A LinUCB that keeps what it was told."""

    def update(self, context_BD, arm_B, payoff_B, propensity_B=None):
        self.__dict__.setdefault("told", []).append(
            (context_BD.copy(), int(arm_B[0]), payoff_B.tolist())
        )
        super().update(context_BD, arm_B, payoff_B, propensity_B)


def test_a_batch_is_one_decision_with_the_mean_payoff_of_its_rows(records: Records) -> None:
    contexts = embed.build(records, "category")
    router = Noted(4, contexts.width)
    online(records, contexts, router, CORRECT, seed=2, batch=16)
    groups, visit_P = rows_by_group(records.group_P), visits(records, 2)
    assert len(router.told) == -(-len(groups) // 16)
    first_P = visit_P[: 16 * 3]  # 3 rows a prompt
    context_1D, arm, payoff = router.told[0]
    assert payoff == [pytest.approx(records.correct_PK[first_P, arm].mean())]
    assert np.linalg.norm(context_1D) == pytest.approx(1.0)
    mean_D = contexts.fit(np.arange(1))[contexts.unit_P[first_P]].mean(axis=0)
    np.testing.assert_allclose(context_1D[0], mean_D / np.linalg.norm(mean_D))


def test_batches_of_one_prompt_with_one_row_are_linucb(rows: list) -> None:
    from reward_router.replay.columns import collect

    records = collect("single", ((str(i), row) for i, row in enumerate(rows[::3])))
    contexts = embed.build(records, "none")
    one, other = (LinUCB(4, contexts.width) for _ in range(2))
    by_batch = online(records, contexts, one, CORRECT, seed=0, batch=1)
    by_row = online(records, contexts, other, CORRECT, seed=0)
    np.testing.assert_array_equal(by_batch.accuracy_P, by_row.accuracy_P)


def test_sparse_payoffs_and_a_delay_reach_the_batch_late(records: Records) -> None:
    contexts = embed.build(records, "none")
    router = Noted(4, contexts.width)
    online(records, contexts, router, Feedback("correct", fraction=0.5, delay=48), seed=0, batch=16)
    assert (
        len(router.told) == 2
    )  # 60 prompts, 4 batches of 48 rows; the last (36 rows) and the one before it wait


def test_laser_by_name_and_its_batch(records: Records) -> None:
    result = evaluate_methods(
        records, ReplaySettings(["laser", "laser:batch=4,alpha=0.5"], "category", seeds=3)
    )
    assert {"laser", "laser:batch=4,alpha=0.5"} <= set(result["routers"])
    assert result["routers"]["laser"]["kind"] == "online"
    with pytest.raises(InputError, match=r"batch=0.*1 or more"):
        methods.plan(["laser:batch=0"], records)
