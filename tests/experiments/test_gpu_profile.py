"""The GPU profile: a few steps of every experiment with tiny models in the place of the papers'."""

import gzip
import json
from pathlib import Path

import pytest

from reward_router.experiments.command import experiment, foretold
from reward_router.experiments.kind import EXPERIMENTS, Request
from reward_router.experiments.trained import BEFORE
from reward_router.progress import plain_console

torch = pytest.importorskip("torch", reason="needs the packages of the extra `train`")

NAMES = ("zephyr", "qwen", "eurus", "olmo")
JUDGE = "{name: judge, kind: local_judge, model: tiny}"
SMALL = (
    "policy.model=tiny",
    "policy.engine=transformers",
    "policy.dtype=float32",
    "policy.sample_dtype=float32",
    "policy.device=cpu",
    "policy.n_responses=2",
    "policy.max_new_tokens=4",
    "policy.max_prompt_tokens=400",
    "pairs.per_prompt=1",
    "pool.unready=warn",
    "train.iterations=2",
    "train.batches_per_iteration=1",
    "train.batch_prompts=2",
    "eval.limit=2",
    "eval.max_new_tokens=4",
)
TRAINED = ("efficiency", "losses", "noise", "reasoning", "transfer", "utilisation")
ANSWERS = {
    "strategyqa": ("train", "dev", "yes"),
    "gsm8k": ("train", "test", "12"),
    "mmlu": ("test", "dev", "B"),
    "commonsenseqa": ("train", "dev", "C"),
    "math500": ("train", "train", "12"),
}


def arms(*more: str) -> str:
    listed = [f"{{name: {name}, kind: loglik, model: tiny, reduction: sum}}" for name in NAMES]
    return f"arms=[{', '.join([*listed, *more])}]"


@pytest.fixture
def papers_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files in the form of the papers' data sets, long enough for all of their slices."""
    folder = tmp_path / "data" / "prompts"
    folder.mkdir(parents=True)
    for name, (train, test, answer) in ANSWERS.items():
        n_train = {"strategyqa": 1271, "gsm8k": 4693, "mmlu": 200}.get(name, 24)
        rows = []
        for i in range(n_train + 4):
            split = train if i < n_train else test
            row = {"id": f"{name}-{i}", "prompt": f"{name} {i}?", "answer": answer, "split": split}
            rows.append(json.dumps(row) + "\n")
        with gzip.open(folder / f"{name}.jsonl.gz", "wt") as file:
            file.write("".join(rows))
    monkeypatch.setenv("REWARD_ROUTER_DATA", str(tmp_path / "data"))
    return folder


def conversations(folder: Path, *more: str) -> tuple[str, ...]:
    """A file in the place of WildChat."""
    path = folder / "gsm8k.jsonl.gz"
    data = f"{{source: {path}, limit: 8, categories: null, columns: {{}}, answer_kind: number}}"
    held_out = f"{{source: {path}, split: test, answer_kind: number}}"
    return (f"data={data}", f"eval.data={held_out}", *more)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TRAINED, "instructions"])
def test_every_variant_takes_its_steps_and_has_a_row(
    name: str, papers_data: Path, tmp_path: Path
) -> None:
    if name == "transfer":
        pytest.importorskip("math_verify", reason="MATH is graded by math-verify")
    settings = (*SMALL, arms(JUDGE) if name == "instructions" else arms())
    if name in ("utilisation", "instructions"):
        settings = conversations(papers_data, *settings)
    request = Request("gpu", seeds=1, settings=settings, runs=str(tmp_path / "runs"))
    result = experiment(name, request, tmp_path / "out")
    assert not result["failed"]
    assert not result["missing"]
    plan = EXPERIMENTS[name].make(request)
    rows = set(result["rows"])
    if name in ("efficiency", "losses", "noise"):
        # A row holds a variant on all tasks; a job is one on one of them.
        assert rows == {BEFORE, *(job.name.partition(" on ")[0] for job in plan.jobs)}
    if name == "reasoning":
        assert {"SFT", "LASER", *(f"only {arm}" for arm in NAMES)} <= rows
        assert result["rows"]["SFT"]["calls"] == 0
    # Two steps; the paper's 25 iterations for random and sequential selection.
    cells = [json.loads(p.read_text()) for p in (tmp_path / "out").glob("runs/*/seed-0/cell.json")]
    steps = {cell["facts"]["steps"] for cell in cells if "steps" in cell["facts"]}
    assert steps <= {2, 25}


def test_a_second_experiment_reads_the_runs_of_the_first(tiny_yaml: Path, tmp_path: Path) -> None:
    request = Request(config=str(tiny_yaml), seeds=1, runs=str(tmp_path / "runs"))
    first = experiment("utilisation", request, tmp_path / "one")
    trained = sorted(p.stat().st_mtime_ns for p in (tmp_path / "runs").glob("*/summary.json"))
    assert len(trained) == 1
    again = experiment("utilisation", request, tmp_path / "two")
    assert again == first
    assert trained == [p.stat().st_mtime_ns for p in (tmp_path / "runs").glob("*/summary.json")]
    # Another configuration is another run.
    other = Request(**{**vars(request), "settings": ("train.lr=2e-3",)})
    experiment("utilisation", other, tmp_path / "three")
    assert len(list((tmp_path / "runs").glob("*/summary.json"))) == 2


def test_a_shared_run_on_other_prompts_is_a_failure_that_says_so(
    tiny_yaml: Path, tmp_path: Path
) -> None:
    data = tmp_path / "prompts.jsonl"
    rows = [json.dumps({"prompt": f"{i} + 1?", "answer": str(i + 1)}) + "\n" for i in range(9)]
    data.write_text("".join(rows))
    settings = (f"data={{source: {data}, answer_kind: number}}",)
    runs = str(tmp_path / "runs")
    request = Request(config=str(tiny_yaml), seeds=1, settings=settings, runs=runs)
    assert not experiment("utilisation", request, tmp_path / "one")["failed"]
    data.write_text("".join(rows[::-1]))
    [failed] = experiment("utilisation", request, tmp_path / "two")["failed"]
    assert "the train prompts changed" in failed["why"]
    assert "--runs" in failed["why"]


# One law for all of them; the others reckon more runs, some for twenty seconds.
@pytest.mark.parametrize(
    "name",
    [
        name if name == "efficiency" else pytest.param(name, marks=pytest.mark.slow)
        for name in TRAINED
    ],
)
def test_the_forecast_adds_up(
    name: str,
    papers_data: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from reward_router.experiments.forecast import forecasts

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    request = Request("gpu", seeds=2)
    plan = EXPERIMENTS[name].make(request)
    by_job = forecasts(plan.configs)
    assert by_job.keys() == {job.name for job in plan.jobs}
    for job, one in by_job.items():
        config = plan.configs[job]
        responses = one.steps * min(config.train.batch_prompts, 24) * config.policy.n_responses
        asked = len(NAMES) if config.router.mode == "ensemble" else 1
        if config.train.supervised:
            assert one.calls == 0
        elif not one.is_guessed:
            assert one.calls <= asked * responses * 16 / min(config.train.batch_prompts, 24)
            assert one.calls % asked == 0
        assert one.seconds > 0
        assert one.memory > 16e9  # the policy's weights in bfloat16
    foretold(name, request, plain_console())
    told = " ".join(capsys.readouterr().out.split())
    assert f"all of it {2 * sum(one.calls for one in by_job.values()):,} calls" in told
    assert "8 of them" in told
