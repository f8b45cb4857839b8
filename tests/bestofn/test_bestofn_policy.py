"""Best of n on a policy's own samples, with the tiny model.

Samples are kept, losses pay, a prior's pairs are contexts.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from reward_router.config import Config
from reward_router.errors import InputError

pytest.importorskip("torch", reason="needs the packages of the extra `train`")

from reward_router.bestofn.run import Files, bestofn
from reward_router.bestofn.sampled import OwnLoss
from reward_router.cli import app
from reward_router.policy import Policy

Tiny = Callable[..., Config]


def test_the_policy_samples_once(tiny: Tiny, tmp_path: Path) -> None:
    conf, out = (
        tiny("eval.limit=6", "context.kind=policy", "payoff.name=neg_loss"),
        tmp_path / "best.jsonl",
    )
    first = bestofn(conf, out)
    text = out.read_text(encoding="utf-8")
    [kept] = (tmp_path / "best.kept").glob("samples-*.jsonl")
    before = kept.read_bytes()
    second = bestofn(conf, out)
    assert (out.read_text(encoding="utf-8"), kept.read_bytes()) == (text, before)
    assert sum(second["calls"]["made_now"].values()) == 0
    assert first["prompts"] == {"train": 6, "test": 6, "measured": 6}
    assert first["learned"][0]["payoffs"] == 6  # the policy's own loss pays for every prompt
    assert first["methods"] == second["methods"]
    assert len(text.splitlines()) == 6


def test_other_prompts_under_the_same_ids_are_sampled_anew(tiny: Tiny, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    settings = (
        f"data={{source: {prompts}, answer_kind: number}}",
        "split={train: 0.5}",
        "eval.limit=6",
    )

    def sampled(question: str) -> list[str]:
        rows = [{"id": str(i), "prompt": question.format(i), "answer": i} for i in range(12)]
        prompts.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        bestofn(tiny(*settings), tmp_path / "best.jsonl")
        [kept] = (tmp_path / "best.kept").glob("samples-*.jsonl")
        return kept.read_text(encoding="utf-8").splitlines()

    first = sampled("What is {} + 0?")
    assert sampled("What is {} + 0?") == first
    changed = sampled("Say the number {}, please.")
    assert changed[: len(first)] == first
    assert len(changed) > len(first)


def test_the_loss_is_the_mean_over_the_responses_tokens(tiny: Tiny) -> None:
    import torch

    conf = tiny()
    policy = Policy(conf.policy, conf.train, 0)
    prompt, response = "Say hi.", "hi there"
    ids, tokens = policy.prompt_ids(prompt), policy.response_ids(response)
    with torch.no_grad():
        logits = policy.model(input_ids=torch.tensor([ids + tokens])).logits[0].double()
    logp = torch.log_softmax(logits, -1)
    right = -np.mean([float(logp[len(ids) - 1 + i, token]) for i, token in enumerate(tokens)])
    [loss] = OwnLoss(policy)([prompt], [response])
    assert loss == pytest.approx(right, abs=1e-4)


def test_pairs_are_pooled_for_a_bayesian_router(tiny: Tiny, tmp_path: Path) -> None:
    conf = tiny(
        "router={name: bayesian, unit: pair}",
        "payoff.name=probe",
        "eval.limit=4",
        "split={train: 0.4}",
    )
    result = bestofn(conf, tmp_path / "best.jsonl", limit=6)
    assert result["prompts"] == {"train": 6, "test": 6, "measured": 6}
    assert set(result["methods"]) >= {
        "routed",
        "random",
        "short",
        "long",
        "likely",
        "mean",
        "oracle",
    }


def test_a_run_needs_a_policy(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no policy; leave one out"):
        bestofn(tiny(), tmp_path / "best.jsonl", files=Files("rows.jsonl"), run=tmp_path)


def test_the_command(tiny_yaml: Path, tmp_path: Path) -> None:
    rows = [
        {
            "id": str(i),
            "prompt": f"{i} + 1?",
            "responses": [f"{i + 1}", f"about {i}"],
            "answer": f"{i + 1}",
        }
        for i in range(30)
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = [
        "bestofn",
        str(tiny_yaml),
        "--responses",
        str(file),
        "--out",
        str(tmp_path / "best.jsonl"),
    ]
    words += ["--json", str(tmp_path / "result.json"), "--seeds", "2", "--measure", "exact"]
    words += ["--set", "payoff.name=probe", "--set", "context.kind=hashing"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    methods = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["methods"]
    assert methods["short"]["gold"] == 1.0 == methods["oracle"]["gold"]
    assert methods["long"]["gold"] == 0.0
    assert "committee" in methods
