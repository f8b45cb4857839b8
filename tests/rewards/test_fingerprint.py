"""What tells an arm from another: its kind, options and content, not its name, price or place."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reward_router.rewards import identity
from reward_router.rewards.fingerprint import fingerprint
from reward_router.rewards.spec import ArmSpec

save_file = pytest.importorskip(
    "safetensors.numpy", reason="needs the packages of the extra `train`"
).save_file


def heads(folder: Path, value: float) -> Path:
    folder.mkdir()
    save_file({"one": np.full(6, value, np.float32)}, folder / "heads.safetensors")
    return folder


def test_name_and_price_do_not_count_and_options_do() -> None:
    one = ArmSpec("one", "metric", options={"metric": "length"})
    assert fingerprint(one) == fingerprint(
        ArmSpec("other", "metric", options={"metric": "length"}, cost=9.0)
    )
    assert fingerprint(one) != fingerprint(
        ArmSpec("one", "metric", options={"metric": "length", "direction": "long"})
    )
    assert fingerprint(one) != fingerprint(
        ArmSpec("one", "metric", options={"metric": "readability"})
    )


def test_heads_count_by_their_weights_and_not_by_their_place(tmp_path: Path) -> None:
    first = heads(tmp_path / "first", 1.0)
    moved = shutil.copytree(first, tmp_path / "moved")
    other = heads(tmp_path / "other", 2.0)

    def of(folder: Path, **more: Any) -> str:
        options: Mapping[str, Any] = {"weights": str(folder), **more}
        return fingerprint(ArmSpec("learned", "head", "tiny", options))

    assert of(first) == of(moved)
    assert of(first) != of(other)
    assert of(first, head="one") != of(first, head="two")


def test_a_local_model_counts_by_its_weights_and_not_by_its_place(tmp_path: Path) -> None:
    for name, value in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        (tmp_path / name).mkdir()
        save_file({"w": np.full(3, value, np.float32)}, tmp_path / name / "model.safetensors")
    a, b, c = (fingerprint(ArmSpec("m", "loglik", str(tmp_path / name))) for name in "abc")
    assert a == b != c


def test_a_packaged_model_counts_by_the_file_it_is_made_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by its conversion, which another version of the converter writes otherwise."""
    file, moved = tmp_path / "model.gguf", tmp_path / "elsewhere.gguf"
    file.write_bytes(b"weights")
    monkeypatch.setattr(identity, "packaged_source", lambda name: file)
    monkeypatch.setattr(
        identity, "resolve_model", lambda name: pytest.fail("the conversion was asked for")
    )
    spec = ArmSpec("m", "loglik", "smollm2-135m-instruct")
    before = fingerprint(spec)
    shutil.copy(file, moved)
    monkeypatch.setattr(identity, "packaged_source", lambda name: moved)
    assert fingerprint(spec) == before
    moved.write_bytes(b"Weights")
    assert fingerprint(spec) != before
