"""TRL's own online trainers train on routed rewards."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("trl", reason="needs TRL")

from reward_router.integrations.trl import (
    AsyncRoutedReward,
    RoutedReward,
    RouterCallback,
)
from reward_router.ledger import Ledger


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


def run_rloo(out: Path, steps: int, resume: bool = False) -> list[tuple[Any, ...]]:
    """Decisions and payoffs of a run that learns from the lagged loss and saves every step."""
    from tiny_trl import CONFIG, arguments, dataset, model
    from trl import RLOOConfig, RLOOTrainer

    reward = RoutedReward(CONFIG, 2, payoff="lagged_loss")
    lm, tokenizer = model()
    args = arguments(
        RLOOConfig,
        out,
        num_generations=2,
        max_completion_length=8,
        max_steps=steps,
        save_strategy="steps",
        save_steps=1,
        lr_scheduler_type="constant",
        beta=0.0,  # no reference model, which TRL would load by a name
    )
    trainer = RLOOTrainer(
        lm,
        reward,
        args=args,
        train_dataset=dataset(),
        processing_class=tokenizer,
        callbacks=[RouterCallback(reward)],
    )
    trainer.train(resume_from_checkpoint=resume or None)
    ledger = reward.session.dispatcher.ledger
    decisions, payoffs = ledger.decisions(), ledger.payoffs()
    rows = list(zip(decisions.unit, decisions.step, decisions.arm, strict=True))
    found = [(*map(str, row), p.tobytes()) for row, p in zip(rows, decisions.probs_BK, strict=True)]
    found.append(np.asarray(payoffs.raw).tobytes())
    reward.session.dispatcher.close()
    return found


def test_rloo_resumes_to_the_same_decisions(tmp_path: Path) -> None:
    whole = run_rloo(tmp_path / "whole", 3)
    run_rloo(tmp_path / "parts", 2)
    # a step that was taken after the checkpoint and then lost: its events are put aside
    import shutil

    shutil.rmtree(tmp_path / "parts" / "checkpoint-2")
    resumed = run_rloo(tmp_path / "parts", 3, resume=True)
    assert resumed == whole


def test_online_dpo_judges_a_pair_by_one_arm(tmp_path: Path) -> None:
    from tiny_trl import CONFIG, arguments, dataset, model, vowels
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    calls: list[tuple[list[Any], list[float | None]]] = []

    class Watched(RoutedReward):
        def judge(self, prompts: Any, completions: Any, columns: Any) -> list[float | None]:
            rewards = super().judge(prompts, completions, columns)
            calls.append((prompts, rewards))
            return rewards

    reward = Watched(CONFIG, gold=vowels, payoff="verifier")
    lm, tokenizer = model()
    args = arguments(OnlineDPOConfig, tmp_path, max_new_tokens=8, per_device_train_batch_size=2)
    trainer = OnlineDPOTrainer(
        lm, reward_funcs=reward, args=args, train_dataset=dataset(), processing_class=tokenizer
    )
    trainer.train()
    assert len(calls) == 2
    for prompts, rewards in calls:
        assert prompts[:2] == prompts[2:]
        assert all(rewards[i] != rewards[i + 2] for i in range(2))  # no tie reaches TRL
    decisions = reward.session.dispatcher.ledger.decisions()
    assert len(decisions.unit) == 4
    per_decision = np.bincount(reward.session.dispatcher.ledger.calls().decision)
    assert set(per_decision[per_decision > 0]) == {2}


def test_an_evaluation_is_recorded_nowhere_and_its_gain_pays(tmp_path: Path) -> None:
    from tiny_trl import CONFIG, arguments, dataset, model, vowels
    from trl import GRPOConfig, GRPOTrainer

    reward = RoutedReward(CONFIG, 2, payoff="eval_gain")
    lm, tokenizer = model()
    args = arguments(
        GRPOConfig,
        tmp_path,
        num_generations=2,
        max_completion_length=8,
        eval_strategy="steps",
        eval_steps=1,
        per_device_eval_batch_size=4,
    )
    trainer = GRPOTrainer(
        lm,
        [reward, vowels],
        args=args,
        train_dataset=dataset(),
        eval_dataset=dataset(),
        processing_class=tokenizer,
        callbacks=[RouterCallback(reward, gain="eval_rewards/vowels/mean")],
    )
    trainer.train()
    ledger = reward.session.dispatcher.ledger
    golds = [
        entry["eval_rewards/vowels/mean"]
        for entry in trainer.state.log_history
        if "eval_rewards/vowels/mean" in entry
    ]
    assert ledger.decisions().step.tolist() == [0, 0, 1, 1]
    assert ledger.payoffs().raw.tolist() == pytest.approx([golds[1] - golds[0]] * 2)
