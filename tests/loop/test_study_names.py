"""Arms with any name are variants of a study: read back from the setting, one folder deep."""

import pytest

from reward_router.config import load

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
