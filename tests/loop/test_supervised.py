"""Training on the data's own answers (``train.loss: sft``): what is trained, and nobody judges."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reward_router.config import Config
from reward_router.errors import InputError
from reward_router.examples import load_examples
from reward_router.ledger import Ledger
from reward_router.run import train

torch = pytest.importorskip("torch", reason="needs the packages of the extra `train`")

Tiny = Callable[..., Config]
SFT = "train.loss=sft"


def _log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_the_loss_is_that_of_the_answers_and_nobody_is_asked(tiny: Tiny, tmp_path: Path) -> None:
    from reward_router.policy import Policy

    config = tiny(SFT, "train.iterations=1", "train.batches_per_iteration=1")
    out = tmp_path / "out"
    summary = train(config, out)
    [record] = _log(out)
    # The first batch of the run, by the same key as any other run's.
    preferred = tmp_path / "preferred"
    train(tiny("train.iterations=1", "train.batches_per_iteration=1"), preferred)
    with Ledger(preferred / "ledger.sqlite") as ledger:
        ids = ledger.decisions(contexts=False).unit
    solutions = {e.id: (e.prompt, e.solution) for e in load_examples(config.data)}
    # By hand: the mean negative log-likelihood of each answer's tokens, EOS with them.
    policy = Policy(config.policy, config.train, config.seed)
    means = []
    for prompt, solution in (solutions[name] for name in ids):
        prompt_ids = list(policy.prompt_ids(prompt))
        answer_ids = list(policy.response_ids(solution))
        with torch.no_grad():
            logits_TV = policy.model(torch.tensor([prompt_ids + answer_ids])).logits[0]
        logp_TV = torch.log_softmax(logits_TV.double(), -1)
        places = range(len(prompt_ids) - 1, len(prompt_ids) + len(answer_ids) - 1)
        taken = [-logp_TV[t, token].item() for t, token in zip(places, answer_ids, strict=True)]
        means.append(np.mean(taken))
    assert record["pairs"] == len(ids)
    assert record["loss"] == pytest.approx(np.mean(means), rel=1e-4)
    assert summary["calls"]["made"] == 0
    assert summary["router"] == "nobody"
    with Ledger(out / "ledger.sqlite") as ledger:
        assert len(ledger.decisions(contexts=False).unit) == 0


def test_many_steps_make_the_answers_likely(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(SFT, "train.lr=0.02", "train.batches_per_iteration=10", "data.categories=[sums]")
    train(config, tmp_path / "out")
    losses = [record["loss"] for record in _log(tmp_path / "out")]
    assert losses[-1] < losses[0] - 0.5


def test_a_stopped_run_goes_on_as_if_it_had_not_been(
    tiny: Tiny, tmp_path: Path, stopped_run: Callable[[Config, Path, int], None]
) -> None:
    config = tiny(SFT)
    train(config, tmp_path / "whole")
    stopped_run(config, tmp_path / "cut", 2)
    train(config, tmp_path / "cut", resume=True)
    losses = [[record["loss"] for record in _log(tmp_path / name)] for name in ("whole", "cut")]
    assert losses[0] == losses[1]
    whole = (tmp_path / "whole" / "policy" / "adapter_model.safetensors").read_bytes()
    assert whole == (tmp_path / "cut" / "policy" / "adapter_model.safetensors").read_bytes()


def test_a_report_can_be_made_of_it(tiny: Tiny, tmp_path: Path) -> None:
    from reward_router.report import training

    train(tiny(SFT), tmp_path / "out")
    page = training.write(tmp_path / "out").read_text(encoding="utf-8")
    assert "own answer" in page


def test_data_without_answers_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    data = tmp_path / "prompts.jsonl"
    data.write_text('{"prompt": "Say hi."}\n{"prompt": "Say no."}\n')
    config = tiny(SFT, f"data={{source: {data}}}")
    with pytest.raises(InputError, match=r"data\.columns\.answer"):
        train(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_answers_of_a_file_are_trained_on(tiny: Tiny, tmp_path: Path) -> None:
    data = tmp_path / "prompts.jsonl"
    rows = [{"prompt": "1 + 1?", "answer": "One and one. #### 2"}, {"prompt": "2 + 2?"}]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = tiny(SFT, f"data={{source: {data}, answer_kind: number}}", "train.batch_prompts=2")
    summary = train(config, tmp_path / "out")
    # A prompt without an answer is left out and counted.
    assert [record["pairs"] for record in _log(tmp_path / "out")] == [1] * summary["steps"]
    assert summary["counts"]["skipped_prompts"] == summary["steps"]


def test_the_committee_has_nothing_to_judge(tiny: Tiny) -> None:
    with pytest.raises(InputError, match="nobody judges"):
        tiny(SFT, "judge=committee")
