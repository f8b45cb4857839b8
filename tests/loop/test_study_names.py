"""Arms with any name are variants of a study: read back from the setting, one folder deep."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reward_router.config import Config, load
from reward_router.errors import InputError
from reward_router.evaluate import GoldMeasured
from reward_router.progress import plain_console

study = pytest.importorskip(
    "reward_router.jobs.study", reason="needs the packages of the extra `train`"
)

NAMES = [
    "judge/v2",
    "it's",
    'say "x"',
    "../up",
    ".hidden",
    "rm [/v2]",
    "a: b",
    "x" * 80,
    "名前",
    "n\nl",
    "100 %",
    "#1",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_variant_names_its_arm_and_one_folder(name: str) -> None:
    arms = [{"name": n, "kind": "metric", "metric": "length"} for n in (name, "other")]
    config = load(None, "study").model_copy(update={"arms": []})
    config = type(config).model_validate({**config.model_dump(), "arms": arms})
    [setting] = study.variants(config)[f"only {name}"]
    assert load(None, "study", ["arms=" + study.json.dumps(arms), setting]).router.arm == name
    folder = study.folder_name(f"only {name}")
    assert "/" not in folder
    assert folder.isprintable()
    assert not folder.startswith(".")
    assert len(folder.encode()) <= 200


def test_a_directory_holds_one_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other settings in the same directory would be averaged with the first ones in one table.

    A run that was finished and not yet marked is marked by the next call, so that it counts.
    """

    def finished(config: Any, folder: Path, *rest: Any) -> None:
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text("{}")

    monkeypatch.setattr(study, "train_and_share", finished)
    monkeypatch.setattr(study, "tabulate_gold", lambda out, console: {})

    def run(*settings: str) -> None:
        study.study(settings, tmp_path, 1, "uniform", (0, 1), plain_console(quiet=True))

    run("eval.limit=4", "train.lr=1e-4")
    marker = tmp_path / "uniform" / "seed-0" / "variant.json"
    marker.unlink()
    run("train.lr=1e-4", "eval.limit=4")
    assert marker.is_file()
    with pytest.raises(InputError, match=r"holds a study with --set eval\.limit=4 --set train"):
        run("eval.limit=8")


def test_gold_before_training_is_measured_anew_on_other_prompts(
    tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs share what the first one measured, as long as the held-out prompts are the same."""
    held_out = tmp_path / "held_out.jsonl"
    config = tiny(f"eval.data={{source: {held_out}, answer_kind: number}}")
    handed_over = []

    def train(config: Config, folder: Path, *, before: Any, **rest: Any) -> dict[str, Any]:
        handed_over.append(before)
        rows = GoldMeasured(["a"], [""], [1.0], [1.0]).to_json()
        return {
            "gold_rows": {"gold": {"before": rows, "after": rows}},
            "manifest": {"model": "tiny"},
        }

    monkeypatch.setattr("reward_router.run.train", train)
    for question in ("What is 1 + 1?", "What is 1 + 1?", "And 0 + 2?", "And 0 + 2?"):
        held_out.write_text(json.dumps({"id": "a", "prompt": question, "answer": 2}) + "\n")
        study.train_and_share(
            config, tmp_path / "run", tmp_path / "before.json", plain_console(quiet=True)
        )
    assert [bool(before) for before in handed_over] == [False, True, False, True]
