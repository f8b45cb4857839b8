"""Experiments on recorded scores, against independent computations and against replay."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from reward_router.experiments.command import experiment
from reward_router.experiments.kind import EXPERIMENTS, Request
from reward_router.experiments.results import per_prompt
from reward_router.replay.run import replay


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def says(row: dict, arm: str) -> float:
    """+1 where the arm prefers a, -1 where b, 0 where it has no score."""
    first, second = row["scores"].get(arm, (0.0, 0.0))
    return float(np.sign(first - second))


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=40
    )
)
def test_the_mean_of_a_value_for_every_prompt_is_the_weighted_mean_of_rows(
    rows: list[tuple[float, int, int]],
) -> None:
    value_P, group_P, weight_P = (np.array(column) for column in zip(*rows, strict=True))
    numbers = per_prompt(value_P, group_P, weight_P.astype(float))
    if weight_P.sum() == 0:
        assert numbers == []
    else:
        assert len(numbers) == len(set(group_P.tolist()))
        assert np.mean(numbers) == pytest.approx(np.average(value_P, weights=weight_P), abs=1e-9)


def test_agreement_is_f1_with_a_cluster_robust_interval(scores: Path, tmp_path: Path) -> None:
    result = experiment("agreement", Request(scores=(str(scores),)), tmp_path / "out")
    rows = rows_of(scores)
    for arm in ("good", "fair", "poor", "gappy"):
        for other in {"good", "fair", "poor", "gappy"} - {arm}:
            both, either, weight = Counter(), Counter(), 0
            for row in rows:
                if {arm, other} <= row["scores"].keys():
                    a, b = says(row, arm) > 0, says(row, other) > 0
                    both[row["prompt"]] += 2 * (a and b)
                    either[row["prompt"]] += a + b
                    weight += a + b
            f1 = both.total() / weight
            figure = result["rows"][arm]["figures"][other]
            assert figure["mean"] == pytest.approx(f1, abs=1e-9)
            # The variance of a ratio of sums over prompts, by the delta method.
            prompts = sorted({row["prompt"] for row in rows})
            residuals = np.array([both[p] - f1 * either[p] for p in prompts]) / weight
            n = len(prompts)
            half = student.ppf(0.975, n - 1) * np.sqrt(n * residuals.var(ddof=1))
            assert figure["ci95"][1] - figure["mean"] == pytest.approx(half, rel=1e-6)


def test_pairs_equal_votes_counted_by_hand_and_replay(
    scores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reward_router.experiments import pairs

    monkeypatch.setattr(pairs, "TOGETHER", {"by category": "category_best"})
    quick = {"committee": ("committee:gate=off,weights=safe", "the weights are given")}
    monkeypatch.setattr(pairs, "ONE_BY_ONE", pairs.ONE_BY_ONE | quick)
    request = Request(scores=(str(scores),), seeds=2)
    rows = experiment("pairs", request, tmp_path / "out")["rows"]

    def accuracy(name: str) -> float:
        return rows[name]["figures"]["accuracy"]["mean"]

    recorded = rows_of(scores)
    sign = {"a": 1.0, "b": -1.0}
    right = {
        arm: np.mean([0.5 + 0.5 * says(row, arm) * sign[row["label"]] for row in recorded])
        for arm in ("good", "fair", "poor", "gappy")
    }
    for arm, share in right.items():
        assert accuracy(f"only {arm}") == pytest.approx(share, abs=1e-9)
    majority = []
    for row in recorded:
        vote = np.sign(sum(says(row, arm) for arm in right))
        majority.append(0.5 + 0.5 * vote * sign[row["label"]])
    assert accuracy("majority vote") == pytest.approx(np.mean(majority), abs=1e-9)

    methods = ["uniform", "laser", "linucb"]
    [file] = replay([str(scores)], routers=methods, seeds=2)["files"]
    for row, method in {
        "random": "uniform",
        "LASER": "laser",
        "LinUCB, by prompt": "linucb",
    }.items():
        assert accuracy(row) == pytest.approx(file["routers"][method]["accuracy"], abs=1e-9)
    # A difference is that of the two accuracies.
    versus = rows["majority vote"]["versus"]["mean"]
    assert versus == pytest.approx(accuracy("majority vote") - accuracy("random"), abs=1e-9)
    asked = np.mean([len(row["scores"]) for row in recorded])
    assert rows["majority vote"]["calls"] == pytest.approx(asked)


def test_noise_of_sigma_zero_is_the_file_itself(scores: Path, tmp_path: Path) -> None:
    request = Request(scores=(str(scores),), seeds=2)
    rows = experiment("noise", request, tmp_path / "out")["rows"]
    [file] = replay([str(scores)], routers=["laser", "exp3", "round_robin"], seeds=2)["files"]
    for row, method in {
        "LASER (LinUCB)": "laser",
        "LASER (Exp3)": "exp3",
        "sequential": "round_robin",
    }.items():
        clean = rows[f"{row}, sigma 0"]["figures"]["accuracy"]["mean"]
        assert clean == pytest.approx(file["routers"][method]["accuracy"], abs=1e-9)
        noisy = rows[f"{row}, sigma 0.4"]
        drop = noisy["figures"]["accuracy"]["mean"] - clean
        assert noisy["versus"]["mean"] == pytest.approx(drop, abs=1e-9)
        assert noisy["reference"] == f"{row}, sigma 0"


def test_noise_has_the_arm_s_own_scale() -> None:
    from reward_router.experiments.noise import noisy
    from reward_router.replay.columns import collect

    draw = np.random.default_rng(0)
    rows = []
    for i in range(2000):
        a, b = draw.normal(size=2)
        arms = {"small": [a / 100, b / 100], "large": [100 * a, 100 * b]}
        rows.append((f"{i}", {"prompt": f"{i}", "label": "a", "scores": arms}))
    records = collect("made", rows)
    added_PK = noisy(records, 0.3, 1).first_PK - records.first_PK
    sd_K = np.std(np.stack([records.first_PK, records.second_PK]), axis=(0, 1))
    np.testing.assert_allclose(added_PK.std(axis=0) / sd_K, 0.3, rtol=0.06)
    assert noisy(records, 0.0, 1).first_PK == pytest.approx(records.first_PK)


def test_arms_draws_nested_sets(scores: Path, tmp_path: Path) -> None:
    from reward_router.experiments.arms import subset
    from reward_router.replay.importers import load_records

    [records] = load_records([str(scores)])
    for seed in range(5):
        assert set(subset(records, 2, seed)) < set(subset(records, 4, seed))
    assert len({tuple(subset(records, 2, seed)) for seed in range(20)}) > 1


def test_every_published_table_is_whole() -> None:
    for kind in EXPERIMENTS:
        assert kind.paper, kind.name
        assert kind.deviations, kind.name
        assert kind.unknown, kind.name
        assert kind.cost.keys() == {"laptop", "gpu"}, kind.name
        for table in kind.published:
            assert "published" in table.setting
            for row in table.rows:
                assert len(row) == len(table.header), (kind.name, row)


@pytest.mark.parametrize(
    ("name", "table", "columns"), [("reasoning", 0, 3), ("reasoning", 1, 3), ("losses", 0, 3)]
)
def test_published_averages_are_those_of_their_rows(name: str, table: int, columns: int) -> None:
    """A digit that was copied wrongly would show: the papers print the average of every row."""
    for row in EXPERIMENTS[name].published[table].rows:
        numbers = [float(cell) for cell in row[1 : columns + 1]]
        assert float(row[columns + 1]) == pytest.approx(np.mean(numbers), abs=0.0101), row
