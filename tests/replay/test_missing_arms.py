"""An arm without a score on a row is not eligible there.

Whatever decides, it draws nothing on such a row.
"""

from typing import Any

import numpy as np
import pytest

from reward_router.replay import methods
from reward_router.replay.columns import collect
from reward_router.replay.embed import build
from reward_router.replay.feedback import Feedback
from reward_router.replay.protocols import Run
from reward_router.replay.records import Records

ROWS, EVERY = 120, 20
ONE_CALL = (
    "linucb",
    "laser:batch=4",
    "discounted",
    "exp3",
    "thompson",
    "uniform",
    "round_robin",
    "oracle",
)
FITTED = ("best_train", "category_best", "logistic", "ridge")


@pytest.fixture
def sparse() -> Records:
    """Three arms, one of which is recorded on every twentieth row, one missing on the first."""
    draw = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for i in range(ROWS):
        right = [1, 0] if i % 2 else [0, 1]
        scores = {
            "good": right if draw.random() < 0.8 else right[::-1],
            "fair": right if draw.random() < 0.6 else right[::-1],
        }
        scores |= {"rare": right[::-1]} if i % EVERY == 0 else {}
        if i == 1:
            del scores["good"]
        rows.append(
            {
                "id": f"q{i}",
                "prompt": f"question {i}",
                "label": "a" if i % 2 else "b",
                "scores": scores,
            }
        )
    return collect("sparse", ((f"row {i}", row) for i, row in enumerate(rows)))


def shares(records: Records, name: str, **more: Any) -> Run:
    [found] = [p for p in methods.plan([name], records) if p.kind != "arm"]
    protocol = methods.Conditions(Feedback("correct", **more), 3, 1)
    contexts = build(records, "category")
    if found.cross_fitted:
        judged = methods.run_crossfit([found], records, contexts, protocol, 0)[found.label]
        return Run(judged.accuracy_P, judged.calls_K / len(records), judged.cost, 1.0)
    return methods.run(found, records, contexts, protocol, 0)


@pytest.mark.parametrize("name", [*ONE_CALL, *FITTED])
@pytest.mark.parametrize("delay", [0, 25])
def test_an_arm_draws_nothing_where_it_has_no_score(sparse: Records, name: str, delay: int) -> None:
    run = shares(sparse, name, delay=delay)
    rare = sparse.arms.index("rare")
    assert run.share_K.sum() == pytest.approx(1.0)
    assert run.share_K[rare] <= 1 / EVERY + 1e-9
    # Right or wrong counts 1 or 0 on every row: half a point would come from an arm that was not
    # there.
    if name in ("oracle", *FITTED):
        assert set(np.unique(run.accuracy_P)) <= {0.0, 1.0}


def test_where_all_arms_are_recorded_nothing_is_masked(sparse: Records) -> None:
    whole = sparse.select(keep="good,fair")
    assert sparse.present_PK is not None
    assert whole.present_PK is not None
    assert (~whole.present_PK).sum() == 1
    assert sparse.present_PK.any(axis=1).all()
