"""A resumed run is the run that began.

Prompts, weights, code and versions that changed are refused, or recorded.
"""

import json
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reward_router.config import Config
from reward_router.errors import InputError
from reward_router.ledger import Ledger
from reward_router.rundir import RunDir

run = pytest.importorskip("reward_router.run", reason="needs the packages of the extra `train`")
from reward_router import manifest as manifests  # noqa: E402

Row = dict[str, str]
ROWS: list[Row] = [{"prompt": f"What is {i} + 3?", "answer": str(i + 3)} for i in range(6)]
ARM = (
    "class Arm:\n"
    "    def score(self, prompts, responses):\n"
    "        return [[{worth} * len(r) for r in row] for row in responses]\n"
)


def write(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


SETTINGS = (
    "data={source: prompts.jsonl, answer_kind: number}",
    "arms=[{name: mine, kind: python, path: 'my_arm:Arm'}, "
    "{name: 'rm [v2]', kind: classifier, model: rm}]",
    "train={iterations: 3, batch_prompts: 3, batches_per_iteration: 1}",
)


def go_there(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Relative paths, and modules, are those of this folder."""
    patch.chdir(folder)
    for module in ("my_arm", "my_part"):  # of an earlier test, imported from its own folder
        patch.delitem(sys.modules, module, raising=False)


@pytest.fixture(scope="module")
def begun(
    tiny_anywhere: Callable[..., Config],
    stopped_run: Callable[..., None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A run on files that can change, in ``run``, stopped once checkpoint 1 is written.

    These are prompts, a local reward model, an arm's code, and a module that it imports.
    """
    folder = tmp_path_factory.mktemp("begun")
    write(folder / "prompts.jsonl", ROWS)
    (folder / "my_arm.py").write_text(
        "from my_part import worth\n" + ARM.format(worth="worth"), encoding="utf-8"
    )
    (folder / "my_part.py").write_text("worth = 1.0\n", encoding="utf-8")
    classifier(folder / "rm")
    with pytest.MonkeyPatch.context() as patch:
        go_there(patch, folder)
        stopped_run(tiny_anywhere(*SETTINGS), folder / "run", 1)
    return folder


@pytest.fixture
def set_up(
    tiny: Callable[..., Config], begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Config]:
    """The files of `begun` in a folder of the test's own, and the configuration."""
    no_run = shutil.ignore_patterns("run", "__pycache__")
    shutil.copytree(begun, tmp_path, ignore=no_run, dirs_exist_ok=True)
    go_there(monkeypatch, tmp_path)
    return lambda: tiny(*SETTINGS)


@pytest.fixture
def stopped(set_up: Callable[[], Config], begun: Path, tmp_path: Path) -> Path:
    """A copy of the run of `begun`, beside the test's own files."""
    return shutil.copytree(begun / "run", tmp_path / "run")


def classifier(folder: Path) -> None:
    import torch
    from transformers import LlamaForSequenceClassification

    from reward_router.rewards.tiny import tiny_llama

    model, tokenizer = tiny_llama()
    settings = {**model.config.to_dict(), "num_labels": 1, "pad_token_id": tokenizer.pad_token_id}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = LlamaForSequenceClassification(model.config.__class__(**settings))
    head.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def add_a_prompt(here: Path) -> None:
    write(here / "prompts.jsonl", [*ROWS, {"prompt": "What is 40 + 3?", "answer": "43"}])


def change_an_answer(here: Path) -> None:
    write(here / "prompts.jsonl", [{**ROWS[0], "answer": "99"}, *ROWS[1:]])


def turn_two_prompts_round(here: Path) -> None:
    write(here / "prompts.jsonl", [ROWS[1], ROWS[0], *ROWS[2:]])


def change_a_weight(here: Path) -> None:
    weights = here / "rm" / "model.safetensors"
    held = bytearray(weights.read_bytes())
    held[-1] ^= 1
    weights.write_bytes(bytes(held))


def change_the_template(here: Path) -> None:
    (here / "rm" / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")


def change_the_arm(here: Path) -> None:
    (here / "my_arm.py").write_text(ARM.format(worth="-1.0"), encoding="utf-8")


def change_what_it_imports(here: Path) -> None:
    (here / "my_part.py").write_text("worth = -1.0\n", encoding="utf-8")


CHANGES = [
    (
        add_a_prompt,
        "the train prompts changed since the run began, from 6 prompts, .* to 7 prompts",
    ),
    (change_an_answer, "the train prompts changed since the run began"),
    (turn_two_prompts_round, "the train prompts changed since the run began"),
    (change_a_weight, r"the weights of arm 'rm \[v2\]' changed since the run began"),
    (change_the_template, r"the weights of arm 'rm \[v2\]' changed since the run began"),
    (change_the_arm, "the code of arm 'mine' changed since the run began"),
    (change_what_it_imports, "the code of arm 'mine' changed since the run began"),
]


def files(out: Path) -> dict[str, bytes]:
    return {
        p.name: p.read_bytes()
        for p in sorted(out.rglob("*"))
        if p.is_file() and "ledger" not in p.name
    }


@pytest.mark.parametrize(("change", "said"), CHANGES, ids=[c.__name__ for c, _ in CHANGES])
def test_what_changed_is_named_and_refused_and_nothing_is_touched(
    set_up: Callable[[], Config],
    stopped: Path,
    tmp_path: Path,
    change: Any,
    said: str,
) -> None:
    before = files(stopped)
    change(tmp_path)
    with pytest.raises(InputError, match=said) as refused:
        run.train(set_up(), stopped, resume=True)
    assert "--accept-changes" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 2
    assert files(stopped) == before


def test_a_copy_with_new_time_stamps_is_no_change(
    set_up: Callable[[], Config], stopped: Path, tmp_path: Path
) -> None:
    shutil.copytree(tmp_path / "rm", tmp_path / "copy")
    shutil.rmtree(tmp_path / "rm")
    shutil.move(tmp_path / "copy", tmp_path / "rm")
    write(tmp_path / "prompts.jsonl", ROWS)
    assert run.train(set_up(), stopped, resume=True)["accepted_changes"] == []


def test_another_version_is_refused(
    set_up: Callable[[], Config],
    stopped: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = manifests._version
    monkeypatch.setattr(
        manifests, "_version", lambda name: "9.9" if name == "numpy" else real(name)
    )
    with pytest.raises(
        InputError, match=r"the version of numpy changed since the run began, from \S+ to 9\.9"
    ):
        run.train(set_up(), stopped, resume=True)


def test_accepted_changes_are_in_directory_ledger_summary_and_report(
    set_up: Callable[[], Config], stopped: Path, tmp_path: Path
) -> None:
    from reward_router.report import training

    change_an_answer(tmp_path)
    change_the_arm(tmp_path)
    interrupted = pytest.raises(KeyboardInterrupt)
    with (
        interrupted,
        pytest.MonkeyPatch.context() as patch,
    ):  # stopped again: the second resume has nothing more to accept
        patch.setattr(run, "assemble", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        run.train(set_up(), stopped, resume=True, accept_changes=True)
    summary = run.train(set_up(), stopped, resume=True)
    [accepted] = summary["accepted_changes"]
    assert accepted["step"] == 1
    assert set(accepted["changes"]) == {"data.train", "code.mine"}
    assert json.loads((stopped / "manifest.json").read_text())["accepted"] == [accepted]
    with Ledger(stopped / "ledger.sqlite", readonly=True) as ledger:
        assert ledger.meta("accepted_changes") == [accepted]
    text = training.write(stopped).read_text(encoding="utf-8")
    assert "resumed after step 1 though the train prompts changed since the run began" in text


def test_accept_changes_belongs_to_resume(set_up: Callable[[], Config], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--accept-changes"):
        run.train(set_up(), tmp_path / "run", accept_changes=True)
    assert not (tmp_path / "run").exists()


def test_a_run_from_before_manifests_goes_on_with_a_note(
    set_up: Callable[[], Config], stopped: Path
) -> None:
    from rich.console import Console

    (stopped / "manifest.json").unlink()
    kept = (stopped / "config.yaml").read_text(encoding="utf-8")
    assert (
        "checkpoint_every: 1\n" in kept
    )  # a key at its default, as if a later version had brought it
    (stopped / "config.yaml").write_text(
        kept.replace("checkpoint_every: 1\n", ""), encoding="utf-8"
    )
    console = Console(record=True, width=500, quiet=False)
    run.train(set_up(), stopped, resume=True, console=console)
    assert "began before manifests were kept" in console.export_text()
    assert (stopped / "manifest.json").is_file()


def test_the_manifest_is_there_before_the_first_step(
    set_up: Callable[[], Config], stopped_run: Callable[..., None], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    stopped_run(set_up(), out, 0)
    found = json.loads((out / "manifest.json").read_text())
    assert not (out / "metrics.jsonl").exists()
    assert {"torch", "transformers", "numpy", "reward-router"} <= set(found["versions"])
    assert sqlite3.connect(out / "ledger.sqlite").execute(
        "SELECT count(*) FROM decisions"
    ).fetchone() == (0,)


def test_a_damaged_state_of_the_newest_checkpoint_leaves_the_older_one(
    set_up: Callable[[], Config], stopped_run: Callable[..., None], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    stopped_run(set_up(), out, 2)
    checkpoints = RunDir(out).checkpoints()
    assert [p.name for p in checkpoints] == ["000001", "000002"]
    state = checkpoints[-1] / "state.json"
    for damaged in (b"", state.read_bytes()[:20], b"\xff\xfe", b"[]"):
        state.write_bytes(damaged)
        found = RunDir(out).newest_checkpoint(2**60)
        assert found is not None
        assert found["step"] == 1
    assert run.train(set_up(), out, resume=True)["steps"] == 3


def test_a_configuration_that_cannot_be_read_is_one_line(
    set_up: Callable[[], Config], stopped: Path
) -> None:
    (stopped / "config.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"config\.yaml cannot be read"):
        run.train(set_up(), stopped, resume=True)
