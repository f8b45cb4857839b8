"""The papers' data sets as files of ``$REWARD_ROUTER_DATA/prompts``, read in place of the Hub's.

They are smaller than the Hub's, and GSM8K has the final number alone, without the worked solution.
"""

import os
from pathlib import Path

from reward_router.strict_json import dumps

TEMPLATE = (
    "Your task is to answer the question below. Give step by step reasoning before you answer, and "
    'when you are ready to answer, please use the format "Final answer:..." '
    "**Question:** {prompt} Solution:"
)
SPLITS: dict[str, tuple[str, str, str, str, str]] = {
    "StrategyQA": ("strategyqa.jsonl.gz", "yes_no", "train[:1268]", "train[1268:]", "dev"),
    "GSM8K": ("gsm8k.jsonl.gz", "number", "train[:4690]", "train[4690:]", "test"),
    "MMLU": (
        "mmlu.jsonl.gz",
        "letter",
        "test+val+dev#0:70",
        "test+val+dev#70:80",
        "test+val+dev#80:100",
    ),
}
"""Data set -> file, kind of answer, and its splits to train on, to hold out and to test on."""


def prompts_file(name: str) -> Path | None:
    """A file of ``$REWARD_ROUTER_DATA/prompts``; None where it is not there."""
    folder = os.environ.get("REWARD_ROUTER_DATA")
    path = Path(folder or "") / "prompts" / name
    return path if folder and path.is_file() else None


def settings_of(name: str) -> tuple[str, ...]:
    """Settings that read this data set from its file; none where the Hub's is to be read."""
    file, kind, train, held_out, test = SPLITS[name]
    path = prompts_file(file)
    if path is None:
        return ()
    section = {"source": str(path), "answer_kind": kind, "template": TEMPLATE}

    def of(split: str) -> str:
        return dumps({**section, "split": split})

    return (f"data={of(train)}", f"eval.data={of(held_out)}", f"eval.test={of(test)}")
