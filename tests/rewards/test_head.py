"""Learned heads: the weights solve their problem.

Unseen prompts are judged rightly, and what does not belong is refused.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy.optimize import minimize
from typer.testing import CliRunner

pytest.importorskip("torch", reason="needs the packages of the extra `train`")

from reward_router.cli import app
from reward_router.config import Config
from reward_router.errors import InputError
from reward_router.features import hash_rows
from reward_router.jobs import fit_arm as fitting
from reward_router.jobs.fit_arm import fit_arm, fit_weights, parse_heads
from reward_router.rewards import loading
from reward_router.rewards.check import check_on_sample
from reward_router.rewards.kinds.head import FittedHead, features, read_heads
from reward_router.rewards.pool import RewardPool
from reward_router.rewards.spec import ArmSpec, build_arm, check_spec

QUIET = Console(quiet=True)
WORDS = ("rain", "tea", "river", "stone", "music", "bread", "winter", "garden")


class Hashing:
    """Stands where a sentence encoder stands: a hash of the words."""

    def __init__(self, dim: int = 128) -> None:
        self.dim = dim

    def encode(self, texts: Sequence[str], **_: Any) -> Any:
        return hash_rows(texts, self.dim)


@pytest.fixture(autouse=True)
def encoder(monkeypatch: pytest.MonkeyPatch) -> Hashing:
    found = Hashing()
    monkeypatch.setattr(fitting, "load_encoder", lambda name: found)
    monkeypatch.setattr(loading, "load_encoder", lambda name, **_: found)
    return found


def pairs(path: Path, prompts: int = 40) -> str:
    """Category polite wants `please`, category curt does not; two pairs a prompt."""
    draw, rows = np.random.default_rng(0), []
    for i in range(prompts):
        category = ("polite", "curt")[i % 2]
        for _ in range(2):
            plain = " ".join(draw.choice(WORDS, size=4))
            sides = (
                (f"{plain} please", plain) if category == "polite" else (plain, f"{plain} please")
            )
            row = {
                "prompt": f"Number {i}: say it.",
                "chosen": sides[0],
                "rejected": sides[1],
                "category": category,
            }
            rows.append(json.dumps(row))
    path.write_text("\n".join(rows) + "\n")
    return str(path)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    heads = {"kind": ["polite"], "brisk": ["curt"]}
    fit_arm(
        [pairs(tmp_path / "pairs.jsonl")], tmp_path / "heads", heads, encoder="tiny", console=QUIET
    )
    return tmp_path / "heads"


@pytest.mark.parametrize("ridge", [0.01, 1.0])
def test_the_weights_solve_the_convex_problem(ridge: float) -> None:
    """The objective as the module states it, written again.

    It is solved from another start and to a tighter end.
    """
    draw = np.random.default_rng(1)
    gap_PF = draw.normal(size=(60, 5)) * [1.0, 10.0, 0.1, 1.0, 3.0] + 0.3
    prompt_P = draw.integers(12, size=60)
    scale_F = np.sqrt((gap_PF**2).mean(axis=0)) + 1e-6
    z_PF = gap_PF / scale_F
    share_P = np.array([1 / (prompt_P == prompt).sum() for prompt in prompt_P]) / len(
        set(prompt_P.tolist())
    )

    def objective(weight_F: Any) -> float:
        return float(share_P @ np.log1p(np.exp(-z_PF @ weight_F)) + ridge * (weight_F**2).sum() / 2)

    best = minimize(objective, draw.normal(size=5), method="BFGS", options={"gtol": 1e-8})
    found_F = fit_weights(gap_PF, prompt_P, ridge) * scale_F
    assert objective(found_F) - best.fun < 1e-6
    np.testing.assert_allclose(found_F, best.x, atol=5e-3)
    step = 1e-5
    slope_F = [
        (objective(found_F + step * e) - objective(found_F - step * e)) / (2 * step)
        for e in np.eye(5)
    ]
    np.testing.assert_allclose(slope_F, 0, atol=1e-3)


def test_a_prompt_counts_alike_however_many_pairs_it_has() -> None:
    gap_PF = np.array(
        [[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0]]
    )  # whichever is repeated, the features keep their scale
    once_F = fit_weights(gap_PF, np.array([0, 1, 2]), 0.1)
    many_F = fit_weights(np.repeat(gap_PF, [4, 1, 2], axis=0), np.repeat([0, 1, 2], [4, 1, 2]), 0.1)
    np.testing.assert_allclose(once_F, many_F, atol=1e-4)
    assert np.abs(once_F).max() > 0.1


def test_what_can_be_told_apart_is_learned_and_the_card_says_how_well(artifact: Path) -> None:
    about = json.loads((artifact / "heads.json").read_text())
    own = {name: head["accuracy_on_unseen_prompts"] for name, head in about["heads"].items()}
    assert own["kind"]["polite"]["accuracy"] > 0.9
    assert own["kind"]["curt"]["accuracy"] < 0.2  # the opposite is asked for there
    assert own["brisk"]["curt"]["accuracy"] > 0.9
    assert own["kind"]["polite"]["prompts"] == 20
    card = (artifact / "CARD.md").read_text()
    assert f"| kind | polite | {own['kind']['curt']['accuracy']:.2f} (20) |" in card
    assert "80 preference pairs" in card


def test_an_artifact_scores_as_its_weights_say(artifact: Path, encoder: Hashing) -> None:
    rows, _ = read_heads(str(artifact))
    prompts, responses = ["Say it.", "And that."], [["tea please", "tea", " "], ["rain"]]
    scores_BN = build_arm(
        ArmSpec("k", "head", "tiny", {"weights": str(artifact), "head": "kind"})
    ).score(prompts, responses)
    expected = features(encoder, ["Say it."] * 2, ["tea please", "tea"]) @ rows["kind"]
    np.testing.assert_allclose(scores_BN[0, :2], expected)
    assert np.isnan(scores_BN[0, 2])
    assert np.isnan(scores_BN[1, 1:]).all()
    assert scores_BN[0, 0] > scores_BN[0, 1]
    alone = FittedHead(encoder, weights=str(artifact), head="kind").score(["And that."], [["rain"]])
    np.testing.assert_allclose(alone[0, 0], scores_BN[1, 0])


def test_heads_of_one_encoder_share_it_and_are_checked_like_other_arms(artifact: Path) -> None:
    options = {"weights": str(artifact)}
    specs = {
        name: ArmSpec(name, "head", "tiny", {**options, "head": name}) for name in ("kind", "brisk")
    }
    pool = RewardPool(specs)
    sample = [
        {"prompt": "Say it.", "chosen": "stone please", "rejected": "stone", "category": "polite"}
    ]
    kind, brisk = check_on_sample(pool, sample)
    assert (kind.accuracy, brisk.accuracy) == (1.0, 0.0)
    assert pool.loads == 1


def test_the_command_and_a_single_head_of_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data, out = pairs(tmp_path / "mine.jsonl"), str(tmp_path / "heads")
    again = ["fit-arm", data, "--out", out, "--encoder", "tiny"]
    assert CliRunner().invoke(app, again).exit_code == 0
    first = (tmp_path / "heads" / "heads.safetensors").read_bytes()
    assert list(read_heads(out)[0]) == ["mine"]
    assert CliRunner().invoke(app, again).exit_code == 0  # its own folder is written again
    assert (tmp_path / "heads" / "heads.safetensors").read_bytes() == first
    assert build_arm(ArmSpec("m", "head", "tiny", {"weights": out})).score(
        ["x"], [["tea"]]
    ).shape == (
        1,
        1,
    )


BAD = {
    "no equals sign": (["kind"], "NAME=category,category"),
    "no category": (["kind="], "NAME=category,category"),
    "no name": (["=polite"], "NAME=category,category"),
    "twice": (["kind=polite", "kind=curt"], "given twice"),
    "unknown category": (["kind=polit"], "no pair has the category 'polit'; did you mean polite"),
}


def test_pairs_that_say_nothing_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(pairs(tmp_path / "p.jsonl"))
    empty = json.dumps({"prompt": "x", "chosen": "yes", "rejected": "", "category": "polite"})
    path.write_text(path.read_text(encoding="utf-8") + f"{empty}\n" * 3, encoding="utf-8")
    fit_arm([str(path)], tmp_path / "out", {}, encoder="tiny", console=Console(width=120))
    assert "left out 3 pairs: a response is empty" in capsys.readouterr().out


@pytest.fixture
def no_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading the encoder and encoding every text takes minutes: not before all input was seen."""

    def loads(name: str) -> None:
        raise AssertionError("the encoder was loaded")

    monkeypatch.setattr(fitting, "load_encoder", loads)


@pytest.mark.usefixtures("no_encoder")
@pytest.mark.parametrize("name", BAD)
def test_bad_heads_are_one_line(tmp_path: Path, name: str) -> None:
    given, says = BAD[name]
    with pytest.raises(InputError, match=says) as caught:
        fit_arm(
            [pairs(tmp_path / "p.jsonl")],
            tmp_path / "out",
            parse_heads(given),
            encoder="tiny",
            console=QUIET,
        )
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_encoder")
def test_too_few_prompts_and_a_folder_of_something_else(tmp_path: Path) -> None:
    few = pairs(tmp_path / "few.jsonl", prompts=8)
    with pytest.raises(InputError, match=r"head 'kind': 4 prompts have pairs; at least 10"):
        fit_arm([few], tmp_path / "out", {"kind": ["polite"]}, encoder="tiny", console=QUIET)
    with pytest.raises(InputError, match="holds something else"):
        fit_arm([few], tmp_path, {}, encoder="tiny", console=QUIET)
    with pytest.raises(InputError, match="holds something else"):
        fit_arm([few], Path(few), {}, encoder="tiny", console=QUIET)
    left_over = tmp_path / "killed"
    left_over.mkdir()
    (left_over / "heads.safetensors.partial").write_bytes(b"half")
    with pytest.raises(InputError, match="at least 10"):  # and not: something else
        fit_arm([few], left_over, {"kind": ["polite"]}, encoder="tiny", console=QUIET)
    (tmp_path / "none.jsonl").write_text('{"prompt": "x", "chosen": "same", "rejected": "same"}\n')
    with pytest.raises(InputError, match="identical responses"):
        fit_arm([str(tmp_path / "none.jsonl")], tmp_path / "out", {}, encoder="tiny", console=QUIET)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"weights": "nowhere"}, "neither a folder that fit-arm wrote nor a packaged one"),
        ({"head": "kynd"}, "no head 'kynd'; did you mean kind"),
        ({"head": None}, "several heads; give head: one of brisk, kind"),
        ({"weights": "."}, "not a whole artifact of fit-arm"),
        ({"weights": 3}, "a folder or a packaged name"),
        ({"wieghts": "x"}, "no option 'wieghts'"),
    ],
)
def test_a_spec_that_cannot_be_right_is_one_line(
    artifact: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"weights": str(artifact), "head": "kind"} | options
    with pytest.raises(InputError, match=says) as caught:
        check_spec(ArmSpec("learned", "head", "tiny", given))
    assert "arm 'learned'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_encoder_is_refused(
    artifact: Path, encoder: Hashing, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = ArmSpec("learned", "head", "tiny", {"weights": str(artifact), "head": "kind"})
    monkeypatch.setattr(loading, "model_identity", lambda name: "retrained")
    with pytest.raises(
        InputError,
        match=r"learned on the encoder 'tiny' with weights tiny.*has the weights retrained",
    ):
        build_arm(spec)
    monkeypatch.undo()
    encoder.dim = 16
    model = FittedHead(encoder, weights=str(artifact), head="kind")
    with pytest.raises(InputError, match=r"gives 48 features and the head was learned on 384"):
        model.score(["x"], [["y"]])


@pytest.mark.parametrize("harm", ["torn", "format", "other heads", "no tensors"])
def test_a_broken_artifact_is_one_clear_line(artifact: Path, harm: str) -> None:
    about, tensors = artifact / "heads.json", artifact / "heads.safetensors"
    if harm == "torn":
        about.write_text(about.read_text()[:50])
    elif harm == "format":
        about.write_text(about.read_text().replace('"format": 1', '"format": 9'))
    elif harm == "other heads":
        about.write_text(about.read_text().replace('"brisk"', '"quick"'))
    else:
        tensors.unlink()
    with pytest.raises(InputError, match="heads") as caught:
        read_heads(str(artifact))
    assert "\n" not in str(caught.value)


def test_a_run_routes_to_a_learned_arm(tiny: Callable[..., Config], artifact: Path) -> None:
    from reward_router.assemble import arm_specs, build_pool

    arms = (
        f"[{{name: a, kind: head, model: tiny, weights: {artifact}, head: kind}}, "
        "{name: b, kind: metric, metric: length}]"
    )
    config = tiny(f"arms={arms}")
    assert arm_specs(config)[0].options == {"weights": str(artifact), "head": "kind"}
    assert build_pool(config, []).score("a", ["x"], [["tea please", "tea"]]).ok
