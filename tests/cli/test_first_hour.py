"""From a data file to a run that one can look at.

The steps are init, what is filled in, watch, compare and progress.
"""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from reward_router import artifacts
from reward_router import config as configuration
from reward_router.config import Config
from reward_router.errors import InputError

pytest.importorskip("torch", reason="needs the packages of the extra `train`")
from reward_router import cli, fill, run
from reward_router.jobs import init, watch
from reward_router.jobs.compare import compare, short_names
from reward_router.jobs.estimate import cuts, estimate
from reward_router.outcomes import Outcome
from reward_router.payoffs import order_accuracy
from reward_router.payoffs.judge import JudgePayoff
from reward_router.progress import say_fact
from reward_router.report import training
from reward_router.rewards.request import RequestStatus, ScoreResult
from reward_router.rundir import RunDir
from reward_router.types import Float

ARMS = ("--arm", "brief=metric:length", "--arm", "lm=tiny")


def prompts(path: Path, answers: bool = True, rows: int = 120) -> Path:
    made = [
        {"prompt": f"What is {i} + 1?"} | ({"answer": str(i + 1)} if answers else {})
        for i in range(rows)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


def invoke(*words: object) -> str:
    result = CliRunner().invoke(cli.app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        (["4", "-2.5", "1,000"], "number"),
        (["so it is 3\n#### 3", "#### 17"], "number"),
        (["yes", "No", "true"], "yes_no"),
        (["A", "(C)", "b"], "letter"),
        (["Paris", "the Nile"], "exact"),
        (["a long text that happens to hold the number 4 somewhere in it"], "exact"),
    ],
)
def test_the_kind_of_answer_is_found(answers: list[str], kind: str) -> None:
    assert init.answer_kind(answers) == kind


def test_init_writes_a_configuration_that_is_valid_and_filled_in(tmp_path: Path) -> None:
    data = prompts(tmp_path / "mine.jsonl")
    out = tmp_path / "my.yaml"
    told = invoke("init", "--data", data, *ARMS, "--policy", "tiny", "--out", out)
    assert "--dry-run" in told
    said: list[str] = []
    config = fill.load_filled(out, None, [], said.append)
    assert [(a.name, a.kind) for a in config.arms] == [("brief", "metric"), ("lm", "loglik")]
    assert config.data.answer_kind == "number"
    assert config.payoff.name == "probe"
    assert config.eval.keep == "best"
    assert config.eval.data is not None
    assert config.train.batches_per_iteration == 8
    assert any(line.startswith("held out") for line in said)
    with pytest.raises(InputError, match="exists"):
        init.write_config(out, "x", force=False)


@pytest.mark.parametrize(("prompt", "answer"), [("question", "answer"), ("problem", "solution")])
def test_init_finds_columns_under_other_names(tmp_path: Path, prompt: str, answer: str) -> None:
    data = tmp_path / "mine.jsonl"
    rows = [{prompt: f"What is {i} + 1?", answer: str(i + 1)} for i in range(20)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "my.yaml"
    invoke("init", "--data", data, *ARMS, "--policy", "tiny", "--out", out)
    section = configuration.load(str(out)).data
    found = init.load_prompts(section.source, columns=section.columns)
    assert [record.answer for record in found] == [row[answer] for row in rows]
    assert section.answer_kind == "number"


def test_held_out_prompts_are_in_no_training_batch(tmp_path: Path) -> None:
    from reward_router.examples import load_examples

    data = prompts(tmp_path / "mine.jsonl")
    out = tmp_path / "my.yaml"
    out.write_text(f"data: {{source: {data}, answer_kind: number}}\npolicy: {{model: tiny}}\n")
    config = fill.load_filled(out, None, [], lambda _: None)
    assert config.eval.data is not None
    trained = {str(e.prompt) for e in load_examples(config.data)}
    held_out = {str(e.prompt) for e in load_examples(config.eval.data)}
    assert not trained & held_out
    assert len(trained | held_out) == 120


def test_what_a_configuration_says_stays(tmp_path: Path) -> None:
    data = prompts(tmp_path / "mine.jsonl")
    out = tmp_path / "my.yaml"
    out.write_text(
        f"data: {{source: {data}, answer_kind: number}}\n"
        "payoff: {name: verifier}\n"
        "eval: {data: null, keep: last}\n"
    )
    said: list[str] = []
    config = fill.load_filled(out, None, [], said.append)
    assert (config.payoff.name, config.eval.keep, config.eval.data) == ("verifier", "last", None)
    assert config.data.split == "train"
    assert said == []


def test_without_answers_the_payoff_says_what_it_learns(tmp_path: Path) -> None:
    data = prompts(tmp_path / "mine.jsonl", answers=False)
    out = tmp_path / "my.yaml"
    out.write_text(f"data: {{source: {data}}}\n")
    said: list[str] = []
    assert fill.load_filled(out, None, [], said.append).payoff.name == "neg_loss"
    assert "agrees with the policy" in said[0]


def test_presets_pass_as_they_are_and_are_listed() -> None:
    said: list[str] = []
    for name in configuration.presets():
        assert fill.load_filled(None, name, [], said.append) == configuration.load(preset=name)
    assert said == []
    told = invoke("presets")
    assert all(name in told for name in configuration.presets())


def test_every_fault_is_named_at_once_with_the_nearest_value(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        configuration.load(settings=["router.name=linucbb", "train.lr=-1", "train.lss=2"])
    told = str(caught.value)
    assert "did you mean linucb?" in told
    assert "train.lr" in told
    assert "unknown key 'train.lss'; did you mean 'loss'?" in told
    assert "\n" not in told


@pytest.mark.parametrize("weights", [1e8, 1e9, 7e9, 0.0])
def test_larger_gpus_never_get_less(weights: float) -> None:
    sizes = [
        fill.gpu_sizes(memory, weights)["train.micro_batch"] for memory in (8, 16, 24, 48, 80, 141)
    ]
    assert sizes == sorted(sizes)


def test_a_run_is_seen_while_it_goes_on(tiny: Callable[..., Config], tmp_path: Path) -> None:
    seen: list[tuple[bool, int, str]] = []

    def look(folder: Path) -> None:
        summary = json.loads((folder / "progress.json").read_text())
        page = training.write(folder).read_text(encoding="utf-8")
        seen.append((summary["running"], summary["steps"], page))

    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patch:
        patch.setattr(run, "TELLING", 0)
        run.train(tiny("eval.keep=last"), tmp_path / "run", at_checkpoint=look)
    assert [steps for _, steps, _ in seen] == [0, 1, 2, 3]
    assert all(running for running, _, _ in seen)
    assert "Running: step 2 of 4" in seen[2][2]
    assert not (tmp_path / "run" / "progress.json").exists()
    assert RunDir(tmp_path / "run").summary.is_file()


def test_telling_how_far_it_is_changes_nothing(tiny: Callable[..., Config], tmp_path: Path) -> None:
    for name, tell in (("quiet", None), ("told", training.write)):
        run.train(tiny(), tmp_path / name, at_checkpoint=tell)
    adapters = [
        (tmp_path / n / "policy" / "adapter_model.safetensors").read_bytes()
        for n in ("quiet", "told")
    ]
    assert adapters[0] == adapters[1]


def test_watch_and_compare_read_what_runs_wrote(
    tiny: Callable[..., Config], tmp_path: Path
) -> None:
    run.train(tiny("eval.samples=2"), tmp_path / "one")
    run.train(tiny("eval.samples=2", "router.name=uniform"), tmp_path / "two")
    console = Console(record=True, width=80)
    watch.watch(tmp_path / "one", console, once=True)
    shown = console.export_text()
    assert "finished after 4 steps" in shown
    for word in ("short", "long", "likely", "loss", "reward margin"):
        assert word in shown
    page = compare(
        [tmp_path / "one", tmp_path / "two"], tmp_path / "both.html", console
    ).read_text()
    for word in ("linucb", "uniform", "router.name", "2 runs side by side"):
        assert word in page
    assert "gold does not compare" not in page
    with pytest.raises(InputError, match="two runs"):
        compare([tmp_path / "one"], tmp_path / "x.html", console)
    with pytest.raises(InputError, match="is a folder"):
        compare([tmp_path / "one", tmp_path / "two"], tmp_path, console)

    # A run without samples is judged by its greedy gold, the other one by its sampled gold.
    summary = json.loads((tmp_path / "two" / "summary.json").read_text())
    (tmp_path / "two" / "summary.json").write_text(json.dumps({**summary, "gold_sampled": None}))
    compare([tmp_path / "one", tmp_path / "two"], tmp_path / "both.html", console)
    shown = " ".join(console.export_text().split())
    assert "measured in two ways (one under sampling, two greedy)" in shown
    with pytest.raises(InputError, match="no run here"):
        watch.watch(tmp_path / "nothing", console, once=True)


def test_a_judge_pays_for_ordering_as_it_does() -> None:
    scores = {"a": 3.0, "bb": 2.0, "c": 2.0, "dd": float("nan")}

    class Judge:
        def score(self, arm: str, prompts: list[str], responses: list[list[str]]) -> ScoreResult:
            if prompts == ["away"]:
                return result(np.full((1, 3), np.nan), "timeout")
            return result(np.array([[scores[r] for r in row] for row in responses]), "ok")

    def result(score_BN: Float, status: RequestStatus) -> ScoreResult:
        mask_BN = np.isfinite(score_BN)
        return ScoreResult("judge", score_BN, mask_BN, 0.0, 0.0, status, None, 3, 3)

    asked: list[int] = []
    pay = JudgePayoff(Judge(), "judge")
    pay.count = asked.append
    texts = ["a", "bb", "c"]
    outcome = Outcome("u", "d", scores=[np.array([1.0, 0.5, 2.0])], responses=[texts])
    outcome.prompts = ["p"]
    # a above bb is right, a above c is wrong; bb and c are equal to the judge and say nothing
    assert pay(outcome) == order_accuracy([1.0, 0.5, 2.0], [3.0, 2.0, 2.0]) == 0.5
    assert asked == [3]
    outcome.prompts = ["away"]
    assert pay(outcome) is None
    outcome.prompts = ["p"]
    outcome.responses = [["c", "bb", "c"]]
    assert pay(outcome) is None  # all alike: nothing to learn


def test_the_memory_of_training_goes_with_the_tokens_of_a_micro_batch(tmp_path: Path) -> None:
    data = prompts(tmp_path / "mine.jsonl", answers=True)
    out = tmp_path / "my.yaml"
    invoke("init", "--data", data, *ARMS, "--policy", "tiny", "--out", out)

    def training_bytes(*settings: str) -> float:
        config = fill.load_filled(out, None, settings, lambda line: None)
        return float(estimate(config)["memory_bytes"]["training"])

    two, four = training_bytes("train.micro_batch=2"), training_bytes("train.micro_batch=4")
    assert four == pytest.approx(2 * two)
    assert training_bytes("train.micro_batch=4", "policy.max_new_tokens=200") > 1.5 * four
    lean = training_bytes("train.micro_batch=4", "train.gradient_checkpointing=true")
    assert two < four
    assert lean < four


def test_without_answers_a_judge_pays_and_another_arm_measures(tmp_path: Path) -> None:
    data = prompts(tmp_path / "mine.jsonl", answers=False)
    out = tmp_path / "my.yaml"
    words = ("--judge", "strong=metric:length", "--measured-by", "apart=metric:length")
    told = invoke("init", "--data", data, *ARMS, *words, "--policy", "tiny", "--out", out)
    assert "--dry-run" in told
    assert max(map(len, out.read_text().splitlines())) <= 100
    said: list[str] = []
    sizes = ("train.batches_per_iteration=2", "policy.max_new_tokens=6", "eval.limit=12")
    config = fill.load_filled(
        out, None, [*sizes, "policy.n_responses=3", "eval.greedy=false"], said.append
    )
    assert config.payoff.name == "judge"
    assert any(line.startswith("payoff   judge") for line in said)
    assert any(line.startswith("held out") for line in said)

    found = estimate(config)
    assert found["calls_paying"] == found["responses"]
    assert found["memory_bytes"]["evaluation"] > 0
    assert found["downloads"] == {}

    done = run.train(config, tmp_path / "run")
    assert set(done["arms"]) == {"brief", "lm"}
    assert done["payoff"] == "judge"
    assert done["calls"]["payoff"] > 0
    assert done["gold_sampled"] is None
    assert done["win_rate"]["arm"] == "apart"
    page = training.write(tmp_path / "run").read_text(encoding="utf-8")
    assert "likes the response after training better" in page

    run.train(config, tmp_path / "again")
    console = Console(record=True, width=120)
    compare([tmp_path / "run", tmp_path / "again"], tmp_path / "both.html", console)
    assert "liked better" in console.export_text()
    watch.watch(tmp_path / "run", console, once=True)
    assert "apart likes" in " ".join(console.export_text().split())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["payoff.name=judge"], "belongs to it alone"),
        (["payoff.arm=nobody"], "payoff.arm='nobody' is none of the arms that are free: brief, lm"),
        (["payoff.arm=lm"], "one arm only ('brief')"),
    ],
)
def test_a_judge_that_cannot_pay_is_refused(tmp_path: Path, settings: list[str], told: str) -> None:
    out = tmp_path / "my.yaml"
    invoke("init", "--data", prompts(tmp_path / "mine.jsonl"), *ARMS, "--out", out)
    with pytest.raises(InputError) as caught:
        fill.load_filled(out, None, settings, lambda _: None)
    assert told in str(caught.value)


def test_labels_of_a_part_of_the_prompts_are_enough(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"What is {i} + 1?"} | ({"answer": i + 1} if i < 15 else {}) for i in range(90)
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = init.look(str(path))
    assert (found.answer_kind, found.answers) == ("number", 15)


def test_a_long_run_is_told_what_cuts_it() -> None:
    seconds = {"sample": 4000.0, "score": 10.0, "train": 9000.0, "evaluate": 2000.0}
    lines = cuts(seconds)
    assert [line.split()[0] for line in lines] == ["long", "train", "sample", "evaluate"]
    assert "train.batches_per_iteration" in lines[1]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_facts_hang_under_their_word(width: int) -> None:
    console = Console(record=True, width=width)
    text = "payoff   " + "a sentence of many words " * 9
    say_fact(console, text)
    first, *more = console.export_text().rstrip("\n").split("\n")
    assert first.startswith("payoff   a sentence")
    assert all(line.startswith(" " * 9) and line[9] != " " for line in more)
    assert all(len(line.rstrip()) <= width for line in (first, *more))
    assert " ".join(" ".join([first, *more]).split()) == " ".join(text.split())


def test_names_of_runs_differ() -> None:
    assert short_names([Path("a/x"), Path("b/x")]) == ["a/x", "b/x"]


def test_the_packaged_sample_can_be_replayed() -> None:
    from reward_router.replay.importers import load_records

    [records] = load_records([str(artifacts.demo_scores())], 0, False)
    assert len(records) == 320
    assert len(records.arms) == 7
    with gzip.open(artifacts.demo_scores(), "rt", encoding="utf-8") as file:
        assert all(
            {"prompt", "label", "scores", "category"} <= json.loads(line).keys() for line in file
        )
