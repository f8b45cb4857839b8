"""What tells an arm from another: weights and code, not names, prices or time stamps."""

import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from reward_router.fit_prior.scoring import fingerprint
from reward_router.rewards import identity
from reward_router.rewards.spec import ArmSpec

SOURCE = (
    "class Arm:\n"
    "    def score(self, prompts, responses):\n"
    "        return [[1.0 for r in row] for row in responses]\n"
)


@pytest.fixture
def arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArmSpec:
    package = tmp_path / "mine_for_identity"
    package.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "arm.py").write_text(
        "import json\nfrom .part import deep\n" + SOURCE, encoding="utf-8"
    )
    (package / "part.py").write_text("from mine_for_identity import deep\n", encoding="utf-8")
    (package / "deep.py").write_text(
        "from mine_for_identity import arm\nvalue = 1\n", encoding="utf-8"
    )  # a circle
    (tmp_path / "table.txt").write_text("1", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for module in [name for name in sys.modules if name.startswith("mine_for_identity")]:
        monkeypatch.delitem(sys.modules, module)  # of an earlier test, found in its own folder
    options = {
        "path": "mine_for_identity.arm:Arm",
        "table": "table.txt",
        "long": "x" * 5000,
        "null": "a\0b",
    }
    return ArmSpec("mine", "python", None, options)


@pytest.mark.parametrize("changed", ["arm.py", "part.py", "deep.py", "../table.txt"])
def test_a_change_of_code_or_of_a_named_file_is_another_arm(
    arm: ArmSpec, tmp_path: Path, changed: str
) -> None:
    before = fingerprint(arm)
    assert fingerprint(arm) == before
    file = tmp_path / "mine_for_identity" / changed
    file.write_text(file.read_text() + "# changed\n", encoding="utf-8")
    assert fingerprint(arm) != before


def test_time_stamps_names_and_costs_do_not_count(arm: ArmSpec, tmp_path: Path) -> None:
    os.utime(tmp_path / "mine_for_identity" / "arm.py", (1, 1))
    assert fingerprint(ArmSpec("another", arm.kind, None, arm.options, 9.0)) == fingerprint(arm)


def test_a_metric_goes_by_its_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec = ArmSpec("short", "metric", options={"metric": "length"})
    packaged = fingerprint(spec)
    copy = tmp_path / "changed_metric.py"
    copy.write_text("def count(text):\n    return len(text)\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(identity, "_METRIC_MODULES", ("changed_metric",))
    before = fingerprint(spec)
    assert before != packaged
    commented = (
        '"""A module."""\n\n\n'
        'def count(text):\n    """Count."""\n'
        "    return len(  # all\n        text\n    )\n"
    )
    copy.write_text(commented, encoding="utf-8")
    assert fingerprint(spec) == before  # comments, docstrings and line breaks do nothing
    copy.write_text("def count(text):\n    return len(text) + 1\n", encoding="utf-8")
    assert fingerprint(spec) != before


def test_any_byte_of_a_small_file_and_the_ends_of_a_large_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "w.safetensors"
    held = bytearray(range(256)) * 40
    file.write_bytes(held)
    whole = identity.file_identity(file)
    for at in (0, 5000, len(held) - 1):
        file.write_bytes(bytes([*held[:at], held[at] ^ 1, *held[at + 1 :]]))
        assert identity.file_identity(file) != whole
    monkeypatch.setattr(identity, "WHOLE", 100)
    monkeypatch.setattr(identity, "SAMPLE", 16)
    file.write_bytes(held)
    sampled = identity.file_identity(file)
    for at in (0, len(held) - 1):
        file.write_bytes(bytes([*held[:at], held[at] ^ 1, *held[at + 1 :]]))
        assert identity.file_identity(file) != sampled


def test_a_head_goes_by_its_own_weights_too(tmp_path: Path) -> None:
    import json

    import numpy as np
    from safetensors.numpy import save_file

    folder = tmp_path / "heads"
    spec = ArmSpec("mine", "head", "tiny", {"weights": str(folder)})
    nowhere = identity.arm_identity(spec)
    folder.mkdir()
    (folder / "heads.json").write_text(json.dumps({"format": 1}), encoding="utf-8")
    save_file({"mine": np.zeros(3, np.float32)}, folder / "heads.safetensors")
    before = identity.arm_identity(spec)
    save_file({"mine": np.ones(3, np.float32)}, folder / "heads.safetensors")
    assert len({found["weights"] for found in (nowhere, before, identity.arm_identity(spec))}) == 3
