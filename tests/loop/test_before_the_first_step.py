"""What cannot work is said before the first step.

A run and a dry run say it alike, in one line and with nothing left behind.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the packages of the extra `train`")

from reward_router import preflight, run  # noqa: E402
from reward_router.config import Config  # noqa: E402
from reward_router.errors import InputError  # noqa: E402
from reward_router.jobs import estimate  # noqa: E402
from reward_router.rewards.tiny import tiny_llama  # noqa: E402

NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., str]:
    """``saved(template=..., tokenizer=..., config=...)`` is the tiny model in a folder.

    Its files are changed as the arguments say.
    """

    def make(
        template: str | None = None,
        drop: tuple[str, ...] = (),
        config: dict[str, Any] | None = None,
        **shape: int,
    ) -> str:
        folder = tmp_path / "policy"
        model, tokenizer = tiny_llama(**shape)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if template is not None:
            (folder / "chat_template.jinja").write_text(template)
        for name, changes in (("tokenizer_config.json", {}), ("config.json", config or {})):
            known = json.loads((folder / name).read_text()) | changes
            (folder / name).write_text(
                json.dumps({k: v for k, v in known.items() if k not in drop})
            )
        return str(folder)

    return make


def refused(config: Config, out: Path, says: str) -> None:
    """Both ways refuse it with the same one line; a run leaves no directory behind."""
    said = []
    for attempt in (
        lambda: run.train(config, out),
        lambda: estimate.check_all(config, out, lambda _: None),
    ):
        with pytest.raises(InputError, match=says) as caught:
            attempt()
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "\n" not in said[0]
    assert not out.exists()


def test_a_policy_without_eos(
    tiny: Callable[..., Config], saved: Callable[..., str], tmp_path: Path
) -> None:
    folder = saved(drop=("eos_token", "pad_token"))
    refused(tiny(f"policy.model={folder}", "eval.limit=1"), tmp_path / "run", "no EOS token")


def test_a_template_that_refuses_a_system_turn(
    tiny: Callable[..., Config], saved: Callable[..., str], tmp_path: Path
) -> None:
    folder = saved(template=NO_SYSTEM)
    settings = (f"policy.model={folder}", "eval.limit=1")
    refused(
        tiny(*settings, "policy.system=Be brief."),
        tmp_path / "run",
        "system, user: System role.*policy.system: null",
    )
    estimate.check_all(tiny(*settings), tmp_path / "run", lambda _: None)


def test_a_context_shorter_than_prompt_and_response(
    tiny: Callable[..., Config], saved: Callable[..., str], tmp_path: Path
) -> None:
    folder = saved(max_positions=100)
    config = tiny(f"policy.model={folder}", "eval.limit=1")
    refused(config, tmp_path / "run", r"reads 100, less policy.max_new_tokens=8 that is 92")
    refused(
        tiny(f"policy.model={folder}", "policy.max_new_tokens=200"),
        tmp_path / "run",
        "leaves no room",
    )
    kept: list[str] = []
    skipping = config.data.model_copy(update={"long_prompts": "skip"})
    estimate.check_all(config.model_copy(update={"data": skipping}), tmp_path / "run", kept.append)
    assert "longer than 92 tokens" in kept[0]


def test_learned_positions_are_a_context_too(tiny: Callable[..., Config], tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    from reward_router.rewards.tiny import tiny_tokenizer

    tokenizer, folder = tiny_tokenizer(), tmp_path / "gpt2"
    shape = GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=48)
    GPT2LMHeadModel(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    refused(tiny(f"policy.model={folder}", "eval.limit=1"), tmp_path / "run", "reads 48")


def test_a_policy_that_lacks_weights_or_is_a_reward_model(
    tiny: Callable[..., Config], saved: Callable[..., str], tmp_path: Path
) -> None:
    folder = saved(config={"tie_word_embeddings": False})
    refused(tiny(f"policy.model={folder}"), tmp_path / "run", "lacks the weights lm_head.weight")
    shutil.rmtree(folder)
    folder = saved(config={"architectures": ["LlamaForSequenceClassification"]})
    refused(
        tiny(f"policy.model={folder}"), tmp_path / "run", "saved as LlamaForSequenceClassification"
    )


def test_a_tokenizer_of_another_model(
    tiny: Callable[..., Config], saved: Callable[..., str], tmp_path: Path
) -> None:
    from reward_router.rewards.tiny import tiny_tokenizer

    folder, tokenizer = saved(), tiny_tokenizer()
    tokenizer.add_tokens(["<turn>"])
    tokenizer.chat_template = "<turn>{{ messages[-1]['content'] }}"
    tokenizer.save_pretrained(folder)
    refused(tiny(f"policy.model={folder}"), tmp_path / "run", "do not belong together")


def test_a_pad_token_that_only_the_tokenizer_knows(
    tiny: Callable[..., Config], saved: Callable[..., str], tmp_path: Path
) -> None:
    from reward_router.rewards.tiny import tiny_tokenizer

    folder, tokenizer = saved(), tiny_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    refused(tiny(f"policy.model={folder}"), tmp_path / "run", r"pad token '\[PAD\]' has the number")


@pytest.mark.parametrize(
    "template", ["{{ 1 + messages[0]['content'] }}", "{{ messages[0]['content'].x.y }}", "{% if %}"]
)
def test_a_template_that_fails_in_its_own_way(
    tiny: Callable[..., Config], saved: Callable[..., str], tmp_path: Path, template: str
) -> None:
    folder = saved(template=template)
    refused(tiny(f"policy.model={folder}"), tmp_path / "run", "its chat template refuses a prompt")


def test_an_arm_without_a_head_and_an_arm_that_answers_nothing(
    tiny: Callable[..., Config], saved: Callable[..., str], tmp_path: Path
) -> None:
    folder = saved()
    known = "{name: short, kind: metric, metric: length}"
    headless = tiny(f"arms=[{{name: rm, kind: classifier, model: {folder}}}, {known}]")
    refused(
        headless,
        tmp_path / "run",
        "arm 'rm': .*lacks the weights score.weight|saved as LlamaForCausalLM.*score.weight",
    )
    broken = "{name: broken, kind: python, path: 'misbehaving:Arm', how: HOW}"
    for how, says in (
        ("raise", "RuntimeError: the model server is away"),
        ("short", "shape"),
        ("inf", "inf"),
    ):
        config = tiny(f"arms=[{broken.replace('HOW', how)}, {known}]", "pool={unready: refuse}")
        refused(config, tmp_path / "run", f"arm 'broken' cannot answer a real prompt: .*{says}")


def test_an_arm_whose_server_is_away_is_waited_for(
    tiny: Callable[..., Config], tmp_path: Path
) -> None:
    away = "{name: away, kind: python, path: 'misbehaving:Arm', how: away}"
    config = tiny(
        f"arms=[{away}, {{name: short, kind: metric, metric: length}}]", "pool={unready: refuse}"
    )
    said: list[str] = []
    estimate.check_all(config, tmp_path / "run", said.append)
    assert any("does not answer now: ConnectionError" in line for line in said)


def test_a_full_disk(
    tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        preflight.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6, 1000)
    )
    config = tiny("eval.limit=1")
    assert preflight.adapted_width(config) == 2 * (4 * 64 + 2 * (64 + 32) + 3 * (64 + 128))
    with pytest.raises(InputError, match="are free there"):
        run.train(config, tmp_path / "run")


def test_a_row_that_an_arm_cannot_answer_is_judged_by_another(
    tiny: Callable[..., Config], tmp_path: Path
) -> None:
    """An arm that fails on one prompt in two keeps its scores of the others.

    The fallback judges the rest; nothing is paid for them.
    """
    from reward_router.ledger import Ledger

    arms = (
        "arms=[{name: half, kind: python, path: 'misbehaving:Half'}, "
        "{name: long, kind: metric, metric: length, direction: long}]"
    )
    config = tiny(
        arms,
        "router={name: fixed, arm: half}",
        "payoff.hold_back=0",
        "eval.limit=1",
        "train.batch_prompts=6",
    )
    summary = run.train(config, tmp_path / "run")
    with Ledger(tmp_path / "run" / "ledger.sqlite", readonly=True) as ledger:
        decisions, calls, counts = ledger.decisions(), ledger.calls(), ledger.counts()
    statuses = [
        s
        for s, arm in zip(calls.status, calls.arm.tolist(), strict=True)
        if calls.arms[arm] == "half"
    ]
    failed = statuses.count("failed")
    assert 0 < failed < len(statuses)
    assert summary["counts"]["failed_rows"] == failed / 3
    assert counts["failures"] == summary["counts"]["abstained"] == 0
    assert list(calls.status).count("fallback") == failed
    lost = {d for d, s in zip(calls.decision.tolist(), calls.status, strict=True) if s == "failed"}
    paid = {
        d
        for d, x in zip(decisions.seq.tolist(), decisions.payoff.tolist(), strict=True)
        if np.isfinite(x)
    }
    assert paid
    assert not paid & lost
