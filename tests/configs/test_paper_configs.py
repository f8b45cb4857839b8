"""The paper's settings as configurations.

Each validates, says what the text says, renders appendix A.1 and trains.
"""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from reward_router import config
from reward_router.data import PromptRecord, load_prompts
from reward_router.grading import grade

TASKS = ("gsm8k", "strategyqa", "mmlu", "wildchat")
POLICIES = {"llama3": "meta-llama/Meta-Llama-3-8B", "mistral": "mistralai/Mistral-7B-Instruct-v0.3"}
NAMES = [f"laser-{policy}-{task}" for policy in POLICIES for task in TASKS]

# Rows with the columns and types of the Hub's data sets (gsm8k main, StrategyQA, mmlu all,
# WildChat).
ROWS: dict[str, list[dict[str, Any]]] = {
    "gsm8k": [
        {
            "question": "Tom has 3 pens and buys 4. How many has he?",
            "answer": "He has 3 + 4 = <<3+4=7>>7 pens.\n#### 7",
        },
        {
            "question": "A box holds 12 eggs. How many do 5 boxes hold?",
            "answer": "5 * 12 = <<5*12=60>>60\n#### 60",
        },
    ],
    "strategyqa": [
        {
            "qid": "a1",
            "term": "Moon",
            "description": "",
            "question": "Is the Moon a star?",
            "answer": False,
            "facts": "",
        },
        {
            "qid": "b2",
            "term": "Rome",
            "description": "",
            "question": "Is Rome in Italy?",
            "answer": True,
            "facts": "",
        },
    ],
    "mmlu": [
        {
            "question": "Which is prime?",
            "subject": "mathematics",
            "choices": ["4", "6", "7", "9"],
            "answer": 2,
        },
        {
            "question": "Which is a gas?",
            "subject": "chemistry",
            "choices": ["iron", "neon", "salt", "clay"],
            "answer": 1,
        },
    ],
    "wildchat": [
        {
            "conversation_id": name,
            "conversation": [
                {
                    "role": "user",
                    "content": text,
                    "language": language,
                    "redacted": False,
                    "toxic": False,
                },
                {
                    "role": "assistant",
                    "content": "Sure.",
                    "language": language,
                    "redacted": False,
                    "toxic": False,
                },
            ],
            "turn": 1,
            "language": language,
        }
        for name, text, language in [
            ("c1", "Write a haiku about {rain}.", "English"),
            ("c2", "Écris un poème.", "French"),
            ("c3", "Explain recursion.", "English"),
        ]
    ],
}

# Typed from appendix A.1 of the paper, independently of the configurations.
REASONING = (
    "Your task is to answer the question below. Give step by step reasoning before you answer, "
    'and when you\'re ready to answer, please use the format "Final answer:..." '
    "**Question:** %s Solution:"
)
INSTRUCTION = (
    "You are an assistant capable of assisting users in various tasks, including creative "
    "writing, analysis of texts and data, coding, providing factual information, and solving math "
    "problems. For creative writing, help users brainstorm ideas and develop their narratives. For "
    "analysis, guide users in breaking down concepts and exploring different perspectives. In "
    "coding, assist with programming questions and debugging. When providing factual information, "
    "ensure accuracy and cite reliable sources. For math reasoning, offer step-by-step solutions "
    "and encourage logical thinking. Maintain a clear, engaging, and supportive tone throughout "
    "your responses to foster "
    "learning and creativity. **Question**: %s\n\nAnswer:"
)
EXPECTED = {
    "gsm8k": [REASONING % "Tom has 3 pens and buys 4. How many has he?"],
    "strategyqa": [REASONING % "Is the Moon a star?"],
    "mmlu": [REASONING % "Which is prime?\n(A) 4\n(B) 6\n(C) 7\n(D) 9"],
    "wildchat": [INSTRUCTION % "Write a haiku about {rain}."],
}


def rows_file(folder: Path, task: str) -> str:
    """A local file with the Hub's columns, every row in every split that a configuration names."""
    path = folder / f"{task}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS[task]), encoding="utf-8")
    return str(path)


def load(data: config.DataConfig, source: str) -> list[PromptRecord]:
    return load_prompts(
        source,
        columns=data.columns,
        template=data.template,
        limit=data.limit,
        categories=data.categories,
    )


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_the_papers(name: str) -> None:
    loaded = config.load(preset=name)
    _, policy, task = name.split("-")
    assert loaded.policy.model == POLICIES[policy]
    assert (loaded.policy.n_responses, loaded.policy.temperature) == (30, 0.8)
    assert loaded.pairs.per_prompt == 10
    train = loaded.train
    assert (train.batch_prompts, train.lr, train.lora_r, train.lora_alpha, train.iterations) == (
        16,
        5e-6,
        16,
        32,
        10,
    )
    assert train.loss == ("dpo" if task == "wildchat" else "dpo+nll")
    assert train.nll_reduction == "response"
    assert (loaded.router.name, loaded.router.unit, loaded.router.mode) == (
        "linucb",
        "batch",
        "route",
    )
    assert (loaded.context.kind, loaded.context.pooling) == ("policy", "last_hidden")
    assert (loaded.payoff.name, loaded.payoff.low, loaded.payoff.high) == ("neg_loss", 0.2, 0.8)
    assert [arm.model for arm in loaded.arms] == [
        "HuggingFaceH4/zephyr-7b-alpha",
        "Qwen/Qwen1.5-7B-Chat",
        "openbmb/Eurus-7b-kto",
        "allenai/OLMo-7B-Instruct-hf",
    ]
    assert all((arm.kind, arm.options) == ("loglik", {"reduction": "sum"}) for arm in loaded.arms)
    assert loaded.pool.resident == 1


def test_every_packaged_configuration_is_tested() -> None:
    assert {
        name for name in config.presets() if name.startswith(("laser-llama3", "laser-mistral"))
    } == set(NAMES)


@pytest.mark.parametrize("task", TASKS)
def test_policies_differ_in_the_model_alone(task: str) -> None:
    llama, mistral = (
        config.load(preset=f"laser-{policy}-{task}").model_dump() for policy in POLICIES
    )
    assert llama["policy"].pop("model") != mistral["policy"].pop("model")
    assert llama == mistral


@pytest.mark.parametrize("name", NAMES)
def test_rendered_prompts_equal_the_appendix(name: str, tmp_path: Path) -> None:
    task = name.split("-")[-1]
    loaded, source = config.load(preset=name), rows_file(tmp_path, task)
    records = load(loaded.data, source)
    assert [record.prompt for record in records][:1] == EXPECTED[task]
    for part in (loaded.eval.data, loaded.eval.test):
        assert part is None or load(part, source) == records
    if task == "wildchat":
        assert [record.answer for record in records] == [
            None,
            None,
        ]  # the French conversation is left out
        assert loaded.eval.data is None


@pytest.mark.parametrize(("task", "right"), [("gsm8k", "7"), ("strategyqa", "no"), ("mmlu", "C")])
def test_gold_of_the_hubs_rows_is_read(task: str, right: str, tmp_path: Path) -> None:
    data = config.load(preset=f"laser-llama3-{task}").data
    first, second = load(data, rows_file(tmp_path, task))
    assert data.answer_kind is not None
    for record, wanted in ((first, True), (second, False)):
        assert (
            grade(data.answer_kind, f"Thinking about it. Final answer: {right}", str(record.answer))
            is wanted
        )


# Rows of the Hub's splits (of MMLU a tenth, of WildChat a stand-in), and what table 3 leads to.
SIZES = {
    "gsm8k": ({"train": 7473, "test": 1319}, (6750, 723, 1000)),
    "strategyqa": ({"train": 1603, "test": 687}, (1603, 229, 458)),
    "mmlu": ({"test": 1404, "validation": 153, "dev": 28}, (1110, 159, 317)),
    "wildchat": ({"train": 3000}, (210,)),
}


@pytest.mark.parametrize("task", TASKS)
def test_splits_are_the_tables_and_share_no_prompt(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    real_load, sizes = datasets.load_dataset, SIZES[task]
    for split, count in sizes[0].items():
        rows = [
            {"question": f"{split} {i}", "choices": ["x"], "answer": 0, "subject": "s"}
            for i in range(count)
        ]
        if task == "wildchat":
            rows = [
                {"conversation": [{"content": f"{i}"}], "language": "English"} for i in range(count)
            ]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{split}.parquet")

    def local(name: str, config_name: str | None, split: str) -> Any:
        files = {split: str(tmp_path / f"{split}.parquet") for split in sizes[0]}
        return real_load(
            "parquet", data_files=files, split=split, cache_dir=str(tmp_path / "cache")
        )

    monkeypatch.setattr(datasets, "load_dataset", local)
    loaded = config.load(preset=f"laser-llama3-{task}")
    parts = [part for part in (loaded.data, loaded.eval.data, loaded.eval.test) if part]
    records = [
        load_prompts(
            p.source,
            split=p.split,
            columns=p.columns,
            template=p.template,
            config_name=p.name,
            categories=p.categories,
        )
        for p in parts
    ]
    assert [len(r) for r in records] == pytest.approx(
        sizes[1], rel=0.2 if task in ("mmlu", "wildchat") else 0.0
    )
    assert len({r.prompt for part in records for r in part}) == sum(map(len, records))


def tiny_settings(task: str, source: str) -> list[str]:
    """The paper's configuration, made small.

    Tiny models stand in place of the big ones, local rows in place of the Hub's, and there are two
    batches of two prompts.
    """
    small = [
        "model=tiny",
        "engine=transformers",
        "dtype=float32",
        "device=cpu",
        "n_responses=2",
        "max_new_tokens=6",
    ]
    settings = [f"policy.{setting}" for setting in small]
    settings += [f"arms.{arm}.model=tiny" for arm in ("zephyr", "qwen", "eurus", "olmo")]
    settings += [
        "pool.dtype=float32",
        "train.iterations=1",
        "train.batches_per_iteration=2",
        "train.batch_prompts=2",
    ]
    parts = ["data"] if task == "wildchat" else ["data", "eval.data", "eval.test"]
    settings += [
        f"{part}.{key}"
        for part in parts
        for key in (f"source={source}", "split=train", "name=null")
    ]
    return settings if task == "wildchat" else [*settings, "eval.max_new_tokens=6"]


@pytest.mark.parametrize("name", NAMES)
def test_two_steps_with_tiny_models(name: str, tmp_path: Path) -> None:
    run = pytest.importorskip("reward_router.run", reason="needs the packages of the extra `train`")
    task = name.split("-")[-1]
    loaded = config.load(preset=name, settings=tiny_settings(task, rows_file(tmp_path, task)))
    summary = run.train(loaded, tmp_path / "run")
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert [line["step"] for line in lines] == [0, 1]
    for line in lines:
        assert sum(line["arms"].values()) == 1  # one arm judged the whole batch
        assert line["pairs"] > 0
        assert math.isfinite(line["loss"])
        assert not line["skipped"]
    assert summary["calls"]["by_status"] == {"ok": summary["calls"]["made"]}
    if (
        task == "wildchat"
    ):  # DPO starts at log 2 whatever the arm said: nothing to learn from the first batch
        assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
        assert [line["payoffs"] for line in lines] == [0, 1]
        assert summary["gold"] is None
    else:
        assert [line["payoffs"] for line in lines] == [1, 1]
        assert summary["gold"]["all"]["n"] == summary["gold_test"]["all"]["n"] == 2
