"""Data sets judged by a router train TRL's own offline trainers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("trl", reason="needs TRL")

from reward_router.errors import InputError
from reward_router.integrations.trl import (
    RoutedDPOTrainer,
    RoutedReward,
    label,
    relabel,
    score,
)


def session() -> Any:
    from tiny_trl import CONFIG

    return RoutedReward(CONFIG).session


def preferences() -> Any:
    from datasets import Dataset

    rows = [("Say hi.", "hi", "hello there"), ("Count.", "one two", "1"), ("Tie.", "xx", "xx")]
    names = ("prompt", "chosen", "rejected")
    return Dataset.from_list([dict(zip(names, row, strict=True)) for row in rows * 2])


def test_relabel_swaps_drops_ties_and_keeps_the_margin() -> None:
    before = preferences()
    judge = session()
    after = relabel(before, judge)
    assert len(after) == 4  # the ties are gone
    arms = {"short": lambda text: -len(text), "long": len}
    for row in after:
        assert row["margin"] > 0
        if row["router_arm"] in arms:
            says = arms[row["router_arm"]]
            assert says(row["chosen"]) > says(row["rejected"])
    assert len(relabel(before, session(), drop_ties=False)) == 6
    margins = score(before, session())["margin"]
    assert len(margins) == 6
    assert margins[2] == 0.0


def test_dpo_hands_the_loss_of_every_pair_to_the_router(tmp_path: Path) -> None:
    import torch
    from tiny_trl import arguments, model
    from trl import DPOConfig

    judge = session()
    data = relabel(preferences(), judge)
    lm, tokenizer = model()
    args = arguments(
        DPOConfig, tmp_path, loss_type=["sigmoid", "sft"], loss_weights=[1.0, 0.5], max_length=64
    )
    trainer = RoutedDPOTrainer(
        lm, model()[0], session=judge, args=args, train_dataset=data, processing_class=tokenizer
    )
    before = {name: value.clone() for name, value in lm.named_parameters()}
    trainer.train()
    assert any(not torch.equal(before[name], value) for name, value in lm.named_parameters())
    paid = judge.dispatcher.ledger.payoffs().raw
    assert len(paid) == 4
    # at the first step policy and reference agree: log 2 plus half the chosen tokens' surprise
    first = trainer.state.log_history[0]["loss"]
    assert -np.mean(paid) == pytest.approx(first, rel=0.05)
    assert (-paid > np.log(2)).all()


def test_kto_trains_on_labels(tmp_path: Path) -> None:
    from datasets import Dataset
    from tiny_trl import arguments, model
    from trl import KTOConfig, KTOTrainer

    texts = [("Say hi.", "hi"), ("Say hi.", "hello there"), ("Count.", "1"), ("Count.", "one two")]
    rows = [{"prompt": prompt, "completion": text} for prompt, text in texts * 2]
    data = label(Dataset.from_list(rows), session())
    assert set(data["label"]) == {True, False}
    lm, tokenizer = model()
    args = arguments(KTOConfig, tmp_path, max_length=64)
    trainer = KTOTrainer(lm, model()[0], args=args, train_dataset=data, processing_class=tokenizer)
    trainer.train()
    assert trainer.state.global_step == 2


def test_bad_data_sets_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="no column 'chosen'"):
        relabel(preferences().remove_columns("chosen"), session())
    with pytest.raises(InputError, match="only completion of its prompt"):
        label(preferences().rename_column("chosen", "completion").select([0]), session())
