"""The experiment `metrics`: scored once, every row by hand, and arms of no use counted."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reward_router.errors import InputError
from reward_router.experiments import metric_arms
from reward_router.experiments.command import experiment
from reward_router.experiments.kind import EXPERIMENTS, Request
from reward_router.experiments.metric_parts import ADDED
from reward_router.rewards.pool import RewardPool
from reward_router.rewards.spec import check_spec

pytest.importorskip("torch", reason="needs the packages of the extra `train`")


def length(direction: str) -> dict[str, object]:
    return {"kind": "metric", "metric": "length", "direction": direction}


@pytest.fixture(autouse=True)
def cheap_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics of text in place of those that need models; what is of no use stays as it is."""
    monkeypatch.setenv("REWARD_ROUTER_CACHE", str(tmp_path / "cache"))
    overlap: dict[str, object] = {"kind": "metric", "metric": "rouge_l"}
    metrics = {"long": length("long"), "short": length("short"), "overlap": overlap}
    monkeypatch.setattr(metric_arms, "METRICS", metrics)
    useless = {name: metric_arms.IRRELEVANT[name] for name in ("readability", "coin")}
    useless |= {f"coin {n}": {**useless["coin"], "noise_seed": n} for n in range(3)}
    monkeypatch.setattr(metric_arms, "IRRELEVANT", useless)


def a_row(i: int) -> dict[str, Any]:
    """The longer response is right in four of five rows."""
    draw = np.random.default_rng(i)
    right = "a" if draw.random() < 0.5 else "b"
    longer = right if i % 5 else "ab".replace(right, "")
    texts = {"a": f"I say so {i}.", "b": f"I do say so {i}."}
    texts[longer] += " And here is why it is so."
    sign = 1.0 if right == "a" else -1.0
    scores = {"model": [sign * (1 if i % 4 else -1), 0.0], "other": [float(draw.normal()), 0.0]}
    row = {"id": str(i), "prompt": f"Question {i}?", "label": right, "scores": scores}
    return {**row, "response_a": texts["a"], "response_b": texts["b"]}


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    rows = [a_row(i) for i in range(80)]
    rows += [{**a_row(i), "response_a": None} for i in range(80, 85)]
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_metrics_are_arms_beside_reward_models(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(scores=(str(texts),), seeds=2)
    result = experiment("metrics", request, tmp_path / "out")
    assert not result["failed"]
    accuracy = {name: row["figures"]["accuracy"]["mean"] for name, row in result["rows"].items()}
    assert accuracy["only long"] == pytest.approx(0.8)
    assert accuracy["only short"] == pytest.approx(0.2)
    assert accuracy["only model"] == pytest.approx(0.75)
    single = [accuracy[f"only {name}"] for name in ("long", "short", "overlap")]
    assert accuracy["average of the single metrics"] == pytest.approx(np.mean(single))
    assert accuracy["metrics, random"] == pytest.approx(np.mean(single))
    every = [*single, accuracy["only model"], accuracy["only other"]]
    assert accuracy["both, random"] == pytest.approx(np.mean(every))
    # Whoever learns finds the long one; who asks in turn does not.
    assert accuracy["metrics, adaptive"] > accuracy["metrics, sequential"]

    cells = sorted((tmp_path / "out" / "runs").glob("*/seed-0/cell.json"))
    shares: dict[str, dict[str, float]] = {}
    for cell in cells:
        shares |= json.loads(cell.read_text())["facts"]["shares"]
    for count in ADDED:
        added = list(metric_arms.IRRELEVANT)[:count]
        by_arm = shares[f"metrics + {count}, sequential"]
        wasted = sum(by_arm[arm] for arm in added)
        assert wasted == pytest.approx(count / (3 + count), abs=count / 80)
        row = result["rows"][f"metrics + {count}, sequential"]
        drop = row["figures"]["accuracy"]["mean"] - accuracy["metrics, sequential"]
        assert row["versus"]["mean"] == pytest.approx(drop)
        assert row["reference"] == "metrics, sequential"
    table = (tmp_path / "out" / "table.md").read_text()
    assert "Are they left?" in table
    assert "5 rows whose texts are not recorded" in table

    # Scores are kept: another directory asks nobody.
    monkeypatch.setattr(RewardPool, "score", None)
    again = experiment("metrics", request, tmp_path / "again")
    assert again["rows"] == result["rows"]


def test_some_pairs_are_drawn_and_said(texts: Path) -> None:
    make = EXPERIMENTS["metrics"].make
    few = Request(scores=(str(texts),), settings=("pairs=30",))
    assert "Drawn at random: 30 of the 80 pairs." in make(few).notes
    # The same ones again; as many as there are is all of them.
    assert make(few).identity == make(few).identity
    every = make(Request(scores=(str(texts),)))
    assert make(Request(scores=(str(texts),), settings=("pairs=80",))).identity == every.identity
    rows = metric_arms.drawn_rows(80, 30)
    assert len(set(rows.tolist())) == 30
    assert (np.diff(rows) > 0).all()


@pytest.mark.parametrize("setting", ["pairs=3", "pairs=many", "rows=30", "pairs=-30"])
def test_a_setting_that_cannot_be_right_is_one_line(texts: Path, setting: str) -> None:
    with pytest.raises(InputError, match="takes pairs=N alone") as error:
        EXPERIMENTS["metrics"].make(Request(scores=(str(texts),), settings=(setting,)))
    assert setting in str(error.value)


def test_an_arm_that_cannot_be_asked_is_named_and_asked_once(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(metric_arms.METRICS, "long", {"kind": "metric", "metric": "lenght"})
    asked = []
    ask = metric_arms.with_metrics
    monkeypatch.setattr(metric_arms, "with_metrics", lambda *given: asked.append(1) or ask(*given))
    result = experiment("metrics", Request(scores=(str(texts),), seeds=1), tmp_path / "out")
    assert not result["rows"]
    assert (
        "arm 'long': metric 'lenght' is unknown; did you mean length?" in result["failed"][0]["why"]
    )
    assert len(asked) == 1


def test_files_that_cannot_be_scored_are_refused(scores: Path, texts: Path, tmp_path: Path) -> None:
    make = EXPERIMENTS["metrics"].make
    with pytest.raises(InputError, match="no row has its prompt"):
        make(Request(scores=(str(scores),)))
    with pytest.raises(InputError, match="reads one file"):
        make(Request(scores=(str(scores), str(texts))))
    path = tmp_path / "clash.jsonl"
    path.write_text(texts.read_text().replace('"other"', '"long"'))
    with pytest.raises(InputError, match="an arm is called 'long', as a metric is"):
        make(Request(scores=(str(path),)))


def test_the_arms_as_they_are_written_can_be_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    arms = metric_arms.specs()
    assert len(arms) == len(metric_arms.METRICS) + len(metric_arms.IRRELEVANT) == 13
    for arm in arms:
        check_spec(arm)


def test_training_has_the_metrics_as_its_arms(
    tiny_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    plan = EXPERIMENTS["metrics"].make(Request(config=str(tiny_yaml)))
    names = {job.name for job in plan.jobs}
    alone = {"only perplexity", "only informativeness", "random", "sequential", "LASER"}
    assert alone <= names
    assert {f"LASER + {count} of no use" for count in ADDED} <= names


def test_metrics_of_no_use_are_tried_on_one_of_the_paper_s_sets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    names = [job.name for job in EXPERIMENTS["metrics"].make(Request(profile="gpu")).jobs]
    assert len(names) == 5 * 3 + 10
    useless = [name for name in names if "of no use" in name]
    assert len(useless) == 9
    assert all(name.endswith(" on GSM8K") for name in useless)


@pytest.mark.slow
def test_a_policy_is_trained_on_metrics(
    tiny_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = {"perplexity": length("long"), "informativeness": length("short")}
    monkeypatch.setattr(metric_arms, "METRICS", metrics)
    request = Request(config=str(tiny_yaml), seeds=1)
    result = experiment("metrics", request, tmp_path / "out")
    assert not result["failed"]
    [column] = result["columns"]
    row = result["rows"]["sequential + 3 of no use"]
    assert row["reference"] == "sequential"
    drop = row["figures"][column]["mean"]
    drop -= result["rows"]["sequential"]["figures"][column]["mean"]
    assert row["versus"]["mean"] == pytest.approx(drop)
    # Arms of no use are asked in turn like all others.
    table = (tmp_path / "out" / "table.md").read_text()
    assert "readability" in table.partition("Who judged")[2]
