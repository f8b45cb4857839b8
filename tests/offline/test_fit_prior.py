"""``fit-prior`` end to end on rows of its own making.

Tested are what it leaves behind, resuming, ablations, and bad input in one line.
"""

import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from reward_router.cli import app
from reward_router.errors import InputError
from reward_router.fit_prior import run as fit_run
from reward_router.fit_prior.pairs import load_pairs
from reward_router.fit_prior.recorded import read_recorded, roles
from reward_router.fit_prior.run import fit_prior
from reward_router.fit_prior.scoring import ScoreStore, score_pairs
from reward_router.offline import settings
from reward_router.offline.encoder import PairEncoder
from reward_router.offline.prior import load_prior
from reward_router.offline.settings import PairSource, PriorConfig
from reward_router.replay.evaluate import ReplaySettings, evaluate_methods
from reward_router.replay.importers import load_records
from reward_router.rewards.fingerprint import fingerprint
from reward_router.rewards.loading import frozen_dtype
from reward_router.rewards.pool import RewardPool
from reward_router.rewards.spec import ArmSpec

SPECS = [
    ArmSpec("short", "metric", options={"metric": "length", "direction": "short"}),
    ArmSpec("thorough", "metric", options={"metric": "length", "direction": "long"}),
    ArmSpec("readable", "metric", options={"metric": "readability"}),
]
ARMS = [{"name": s.name, "kind": s.kind, **s.options} for s in SPECS]
QUIET = Console(quiet=True)


def rows(n: int = 60) -> list[dict[str, str]]:
    """Pairs of three sources: one wants short answers, the other two long ones."""
    made = []
    for i in range(n):
        source = ("brief", "wordy", "essay")[i % 3]
        few, many = f"yes {i}", f"well it may be so {i} " * 3
        chosen, rejected = (few, many) if source == "brief" else (many, few)
        prompt = f"{'Be brief' if source == 'brief' else 'Explain'}: is {i // 2} even?"
        made.append(
            {
                "prompt": prompt,
                "chosen": chosen,
                "rejected": rejected,
                "source": source,
                "category": source,
            }
        )
    return made


def written(path: Path, made: list[dict[str, Any]]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in made)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def config(tmp_path: Path, **change: Any) -> PriorConfig:
    base: dict[str, Any] = {
        "data": [{"source": str(written(tmp_path / "pairs.jsonl", rows()))}],
        "arms": ARMS,
        "holdout_sources": ["essay"],
        "encoder": {"model": "tiny", "tune": "frozen", "max_tokens": 64},
        "strengths": {"dim": 8, "epochs": 4},
        "dev": 0.3,
    }
    return PriorConfig.model_validate(base | change)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWARD_ROUTER_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_what_it_leaves_is_a_prior_scores_for_replay_and_tables(tmp_path: Path) -> None:
    out = tmp_path / "out"
    prior = fit_prior(config(tmp_path), out, console=QUIET)
    again = load_prior(out, arms=[a["name"] for a in ARMS])
    assert again.data_hash == prior.data_hash != ""
    assert again.router().n_arms == 3
    assert PairEncoder.load(out).pairs(["p"], ["a"], ["b"]).shape == (1, 8)
    dtype = again.config["encoder"][
        "dtype"
    ]  # by name: another machine's auto would give other features
    assert dtype == frozen_dtype("auto", "cpu") != "auto"
    assert str(again.encoder(device="cpu").texts.body.dtype) == f"torch.{dtype}"
    level, sd = again.calibration.level or (0.0, 0.0)
    assert 0 < level < 1
    assert 0 < sd < 0.5
    (records,) = load_records([str(out / "scores.jsonl")])
    assert records.arms == ("short", "thorough", "readable")
    assert len(records) == 60
    np.testing.assert_array_equal(records.correct_PK[:, 0], 1 - records.correct_PK[:, 1])
    assert again.fingerprints == {spec.name: fingerprint(spec) for spec in SPECS}
    card = (out / "CARD.md").read_text()
    assert all(f"| {name} | `{value}` |" in card for name, value in again.fingerprints.items())
    assert "60 preference pairs" in card
    assert "brief 20, essay 20, wordy 20" in card
    result = json.loads((out / "result.json").read_text())
    outside = result["sets"]["out of distribution"]
    assert outside["sources"] == ["essay"]
    assert outside["methods"]["thorough"]["accuracy"] == 1.0
    assert "| thorough | 100.0 [100.0, 100.0] | 100 |" in card
    assert set(outside["methods"]) >= {
        "majority",
        "random",
        "w/o CLS",
        "ours",
        "oracle",
        "best single (training)",
    }
    assert result["sets"]["in distribution"]["methods"]["oracle"]["calls"] == 3
    assert sum(result["rows"].values()) <= 60


def test_an_artifact_is_replayed_on_recorded_scores(tmp_path: Path) -> None:
    """The file the prior came from and one of more arms.

    Its strengths choose, an arm that it does not know joins with a warning.
    """
    out = tmp_path / "out"
    fit_prior(config(tmp_path, holdout_sources=[]), out, console=QUIET)
    [records] = load_records([str(out / "scores.jsonl")])
    names = [
        f"bayesian:{key}prior={out}"
        for key in ("", "without=online,", "without=offline,", "trust=1,")
    ]
    found = evaluate_methods(records, ReplaySettings([*names, "uniform"], seeds=3, folds=3))[
        "routers"
    ]
    prior = load_prior(out)
    h_PD = prior.encoder().pairs(
        [records.prompts[g] for g in records.group_P], *zip(*records.responses, strict=True)
    )
    best_P = prior.strengths.scores(h_PD).argmax(axis=1)
    right = records.correct_PK[np.arange(len(records)), best_P].mean()
    assert found[names[1]]["accuracy"] == pytest.approx(right)
    assert found[names[0]]["accuracy"] > found[names[2]]["accuracy"] > found["uniform"]["accuracy"]
    wider = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    for row in wider:
        row["scores"]["newcomer"] = [0.0, 1.0]
    [more] = load_records([str(written(tmp_path / "wider.jsonl", wider))])
    with pytest.warns(UserWarning, match="no strengths of newcomer"):
        told = evaluate_methods(more, ReplaySettings([names[0]], seeds=1, folds=2))["routers"]
    assert 0 < told[names[0]]["accuracy"] < 1


def test_the_same_seed_gives_the_same_prior_and_scores_are_used_as_they_are(tmp_path: Path) -> None:
    first = fit_prior(config(tmp_path), tmp_path / "a", console=QUIET)
    given = config(tmp_path, data=[], arms=[], scores=[str(tmp_path / "a" / "scores.jsonl")])
    second = fit_prior(given, tmp_path / "b", console=QUIET)
    assert first.data_hash == second.data_hash
    for name, value in first.strengths.arrays().items():
        np.testing.assert_array_equal(value, second.strengths.arrays()[name])
    assert not (tmp_path / "b" / "scores.jsonl").exists()


def test_held_out_sources_and_their_prompts_are_never_learned_from(tmp_path: Path) -> None:
    made = [
        {**row, "id": str(i), "label": "a", "response_a": row["chosen"],
         "response_b": row["rejected"], "scores": {"x": [1, 0], "y": [0, 1]}}
        for i, row in enumerate(rows())
    ]  # fmt: skip
    recorded = read_recorded([str(written(tmp_path / "s.jsonl.gz", made))])
    role = roles(recorded, ["essay"], 0.2, 0.2, 0)
    prompts = np.array(recorded.prompts)
    assert set(recorded.source_P[role.out_P]) == {"essay"}
    parts = [role.train_P, role.dev_P, role.test_P, role.out_P]
    assert np.sum(parts, axis=0).max() == 1
    for i, part in enumerate(parts):
        for other in parts[i + 1 :]:
            assert not set(prompts[part]) & set(prompts[other])
    with pytest.raises(InputError, match="no source 'esay'; did you mean essay"):
        roles(recorded, ["esay"], 0.2, 0.2, 0)
    with pytest.raises(InputError, match="holds out every source"):
        roles(recorded, ["essay", "brief", "wordy"], 0.2, 0.2, 0)


class Counting:
    """An arm that counts what it is asked and may die."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.asked, self.fail_at = 0, fail_at

    def score(self, prompts: Any, responses: Any) -> Any:
        self.asked += sum(len(r) for r in responses)
        if self.fail_at is not None and self.asked > self.fail_at:
            raise KeyboardInterrupt
        return np.array([[float(len(text)) for text in row] for row in responses])


def test_scoring_goes_on_after_a_kill_and_never_asks_twice(tmp_path: Path) -> None:
    pairs, _ = load_pairs([PairSource(source=str(written(tmp_path / "p.jsonl", rows())))])
    dying, sound = Counting(fail_at=70), Counting()
    specs = [*SPECS[:1], ArmSpec("mine", "python", options={"path": "json:dumps"})]
    store = tmp_path / "scores"
    with pytest.raises(KeyboardInterrupt):
        score_pairs(
            pairs, specs, RewardPool({"short": SPECS[0]}, models={"mine": dying}), QUIET, store
        )
    torn = next(p for p in store.iterdir() if p.name.startswith("python"))
    torn.write_bytes(torn.read_bytes()[:-9])
    pool = RewardPool({"short": SPECS[0]}, models={"mine": sound})
    scores, failed = score_pairs(pairs, specs, pool, QUIET, store)
    assert not failed
    assert sound.asked == 2 * 60 - 2 * 32 + 2
    np.testing.assert_array_equal(scores["mine"][:, 0], [len(p.chosen) for p in pairs])
    again, _ = score_pairs(pairs, specs, pool, QUIET, store)
    assert sound.asked == 58
    np.testing.assert_array_equal(again["mine"], scores["mine"])


def test_arms_of_one_model_are_asked_about_the_same_pairs_in_turn(tmp_path: Path) -> None:
    asked: list[str] = []

    class Told(Counting):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def score(self, prompts: Any, responses: Any) -> Any:
            asked.append(self.name)
            return super().score(prompts, responses)

    pairs, _ = load_pairs([PairSource(source=str(written(tmp_path / "p.jsonl", rows(40))))])
    step = {"metric": "faithfulness_step"}
    own = {"path": "json:dumps"}
    specs = [
        ArmSpec("first", "roscoe", options=step),
        ArmSpec("second", "roscoe", options={**step, "batch_size": 2}),
        ArmSpec("other", "python", options=own),
    ]
    pool = RewardPool({}, models={spec.name: Told(spec.name) for spec in specs})
    score_pairs(pairs, specs, pool, QUIET, tmp_path / "scores")
    turns = [arm for arm, _ in itertools.groupby(asked)]
    # Three requests of at most 16 pairs; an arm of another model comes afterwards.
    assert turns == [*["first", "second"] * 3, "other"]


def test_a_score_is_kept_by_content_not_by_id(tmp_path: Path) -> None:
    pairs, _ = load_pairs([PairSource(source=str(written(tmp_path / "p.jsonl", rows())))])
    store = ScoreStore(tmp_path / "s.jsonl")
    store.add([(pairs[0], [1.0, float("nan")])])
    again = ScoreStore(tmp_path / "s.jsonl")
    assert again.pair(pairs[0])[0] == 1.0
    assert np.isnan(again.pair(pairs[0])[1])
    assert again.has(pairs[0])
    assert not again.has(pairs[2])


def test_what_cannot_teach_is_counted(tmp_path: Path) -> None:
    made = rows(6)
    made[0]["rejected"] = made[0]["chosen"]
    made[1]["chosen"] = "  "
    made[2]["chosen"] = "x" * 500
    pairs, dropped = load_pairs(
        [PairSource(source=str(written(tmp_path / "p.jsonl", made)), max_chars=300)]
    )
    assert len(pairs) == 3
    assert dict(dropped) == {
        "with identical responses": 1,
        "with an empty side": 1,
        "longer than max_chars": 1,
    }
    few, _ = load_pairs([PairSource(source=str(tmp_path / "p.jsonl"), sample=2, max_chars=300)])
    assert [p.id for p in few] == [p.id for p in pairs if p in few]


def test_an_arm_that_fails_is_told_and_two_arms_must_score(tmp_path: Path) -> None:
    pairs, _ = load_pairs([PairSource(source=str(written(tmp_path / "p.jsonl", rows(6))))])
    broken = ArmSpec("broken", "python", options={"path": "json:dumps"})
    with pytest.raises(InputError, match="2 arms that score pairs, short did; broken: "):
        score_pairs(
            pairs,
            [SPECS[0], broken],
            RewardPool({s.name: s for s in (SPECS[0], broken)}),
            QUIET,
            tmp_path,
        )


@pytest.mark.parametrize("tune", ["full", "lora"])
def test_a_tuned_encoder_is_saved_loaded_and_differs_from_the_untuned(
    tmp_path: Path, tune: str
) -> None:
    encoder = {
        "model": "tiny",
        "tune": tune,
        "max_tokens": 48,
        "max_steps": 8,
        "check_every": 4,
        "lr": 1e-3,
        "lora_r": 2,
    }
    prior = fit_prior(config(tmp_path, encoder=encoder), tmp_path / "out", console=QUIET)
    assert prior.encoder_id.tuned
    again = PairEncoder.load(tmp_path / "out")
    assert again.texts.id == prior.encoder_id
    prompts, first, second = ["Be brief: x"], ["yes"], ["well, it may be so"]
    h = again.pairs(prompts, first, second)
    np.testing.assert_allclose(np.linalg.norm(h), 1.0)
    np.testing.assert_array_equal(h, again.pairs(prompts, second, first))
    frozen = fit_run.TextEncoder("tiny", max_tokens=48).features(prompts, first, second)
    assert np.abs(frozen - again.texts.features(prompts, first, second)).max() > 1e-4


@pytest.mark.slow
def test_two_hundred_steps_of_tuning_learn_what_is_in_the_text(tmp_path: Path) -> None:
    encoder = {
        "model": "tiny",
        "max_tokens": 64,
        "max_steps": 200,
        "epochs": 50,
        "check_every": 50,
        "lr": 1e-3,
    }
    fit_prior(
        config(tmp_path, encoder=encoder, holdout_sources=[]), tmp_path / "out", console=QUIET
    )
    inside = json.loads((tmp_path / "out" / "result.json").read_text())["sets"]["in distribution"][
        "methods"
    ]
    assert inside["ours"]["accuracy"] > inside["best single (training)"]["accuracy"] + 0.1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"without": "cls"}, None),
        ({"balance": True}, None),
        ({"without": "offline"}, "nothing to fit"),
        ({"without": "online"}, "without: online changes nothing here"),
        ({"payoff": "corect"}, "allowed: correct, agreement"),
        ({"encoder": {"model": "no/such-model"}}, "cannot be loaded"),
    ],
)
def test_options_by_name(tmp_path: Path, change: dict[str, Any], said: str | None) -> None:
    if said is None:
        prior = fit_prior(config(tmp_path, **change), tmp_path / "out", console=QUIET)
        assert (
            "ours" in prior.metrics["in distribution"]["methods"] or change.get("without") == "cls"
        )
        assert prior.config["without"] == change.get("without")
        return
    with pytest.raises(InputError, match=said):
        fit_prior(config(tmp_path, **change), tmp_path / "out", console=QUIET)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("without=csl", "without"),
        ("lambda_clss=1", "did you mean 'lambda_cls'"),
        ("encoder.tun=full", "did you mean 'tune'"),
        ("data.0.sampel=3", "did you mean 'sample'"),
        ("dev=1", "less than 1"),
        ("data=[]", "give data .* or scores"),
        ("arms=[{name: a, kind: gold}]", "has no verifier here"),
    ],
)
def test_a_wrong_configuration_is_one_line_and_exit_code_2(setting: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        settings.load_settings("demo", [setting])
    assert "\n" not in str(caught.value)


def test_the_command_resumes_and_refuses_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml

    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(config(tmp_path).model_dump(mode="json")))
    out = tmp_path / "out"
    done = CliRunner().invoke(
        app, ["fit-prior", str(file), "--out", str(out), "--set", "strengths.epochs=2"]
    )
    assert done.exit_code == 0, done.output
    assert "out of distribution" in done.output
    (out / "prior.json").unlink()
    before = (out / "prior.safetensors").read_bytes()
    with pytest.raises(InputError, match="or --resume"):
        fit_prior(settings.load_settings(file, ["strengths.epochs=2"]), out, console=QUIET)
    with pytest.raises(InputError, match="differs from what is asked for"):
        fit_prior(settings.load_settings(file), out, resume=True, console=QUIET)

    def never(*_: Any) -> None:
        raise AssertionError("scored again")

    monkeypatch.setattr(fit_run, "score_pairs", never)
    fit_prior(settings.load_settings(file, ["strengths.epochs=2"]), out, resume=True, console=QUIET)
    assert (out / "prior.safetensors").read_bytes() == before
    with pytest.raises(InputError, match="finished prior"):
        fit_prior(
            settings.load_settings(file, ["strengths.epochs=2"]), out, resume=True, console=QUIET
        )


def test_the_papers_setting_validates_and_says_what_the_paper_says() -> None:
    assert settings.packaged_settings() == ["bayesian-llama3", "demo", "embedded"]
    paper = settings.load_settings("bayesian-llama3")
    assert [a.model for a in paper.arms] == [
        "hendrydong/Mistral-RM-for-RAFT-GSHF-v0",
        "Ray2333/GRM-Llama3.2-3B-rewardmodel-ft",
        "Ray2333/GRM-gemma2-2B-rewardmodel-ft",
        "Skywork/Skywork-Reward-V2-Qwen3-0.6B",
    ]
    RewardPool({a.name: ArmSpec(a.name, a.kind, a.model, a.options) for a in paper.arms})
    assert (
        paper.lambda_cls,
        paper.encoder.lr,
        paper.encoder.batch_pairs,
        paper.encoder.epochs,
    ) == (0.2, 2e-5, 8, 2)
    assert paper.encoder.tune == "full"
    assert paper.data[0].preference == "overall_preference"
    assert set(paper.holdout_sources) < {source.as_source for source in paper.data}
    assert settings.load_settings("demo").encoder.tune == "frozen"


def test_an_arm_that_abstains_nearly_always_is_not_believed(tmp_path: Path) -> None:
    """Right on the 16 of 240 pairs it speaks about.

    That is less use than an arm that is right on two thirds of all.
    """
    draw = np.random.default_rng(0)
    made = [
        {
            "id": str(i), "prompt": f"question {i}", "response_a": f"yes {i}",
            "response_b": f"no {i}", "label": "a",
            "scores": {"rare": [1.0, 0.0] if i % 15 == 0 else [None, None],
                       "fair": [float(draw.random() < 2 / 3), 0.5]},
        }
        for i in range(240)
    ]  # fmt: skip
    scores = written(tmp_path / "scores.jsonl", made)
    settled = config(tmp_path, data=[], arms=[], scores=[str(scores)], holdout_sources=[])
    prior = fit_prior(settled, tmp_path / "prior", console=QUIET)
    h_PD = prior.encoder().pairs([f"question {i}" for i in range(240)], ["yes"] * 240, ["no"] * 240)
    rare, fair = prior.arms.index("rare"), prior.arms.index("fair")
    mean_PK = h_PD @ prior.means(prior.arms)[:, :-1].T + prior.means(prior.arms)[:, -1]
    assert (
        prior.strengths.scores(h_PD)[:, fair].mean() > prior.strengths.scores(h_PD)[:, rare].mean()
    )
    assert (mean_PK[:, fair] >= mean_PK[:, rare]).all()
