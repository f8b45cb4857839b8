"""GRPOTrainer, RLOOTrainer and OnlineDPOTrainer train on routed rewards."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("trl", reason="needs TRL")

from reward_router.integrations.trl import AsyncRoutedReward, RoutedReward
from reward_router.ledger import Ledger


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.mark.parametrize("kind", [RoutedReward, AsyncRoutedReward])
def test_grpo_trains_with_one_arm_a_group(kind: Any, tmp_path: Path) -> None:
    from tiny_trl import CONFIG, arguments, dataset, model, vowels
    from trl import GRPOConfig, GRPOTrainer

    reward = kind(
        CONFIG, 2, gold=vowels, payoff="probe", ledger=tmp_path / "l.sqlite", name="routed"
    )
    lm, tokenizer = model()
    args = arguments(GRPOConfig, tmp_path, num_generations=2, max_completion_length=8)
    trainer = GRPOTrainer(
        lm, reward, args=args, train_dataset=dataset(), processing_class=tokenizer
    )
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "rewards/routed/mean" in entry]
    assert len(logs) == 2
    for entry in logs:
        shares = [entry[f"router/share/{arm}"] for arm in ("short", "long", "vowels")]
        assert sum(shares) == pytest.approx(1.0)
        assert entry["router/calls"] == 4.0
    decisions = reward.session.dispatcher.ledger.decisions()
    assert decisions.step.tolist() == [0, 0, 1, 1]
    assert np.isfinite([entry["rewards/routed/mean"] for entry in logs]).all()
    reward.session.dispatcher.close()
    with Ledger(tmp_path / "l.sqlite", readonly=True) as ledger:
        assert ledger.check().ok
