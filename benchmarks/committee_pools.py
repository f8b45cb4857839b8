"""The 14 arm pools of recorded scores: margins, labels, groups, categories, sources."""

import gzip
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

POOLS = {
    "alpaca3": ("alpacaeval_human_3judges", lambda arm: True),
    "dna_harm": ("do_not_answer_harm", lambda arm: True),
    "judgebench_rm5": ("judgebench_gpt4o", lambda arm: ":" not in arm),
    "judgebench_all11": ("judgebench_gpt4o", lambda arm: True),
    "rb_math_prm": ("rewardbench_math_prm", lambda arm: True),
    "triviaqa": ("triviaqa_judges", lambda arm: True),
    "merged4": ("merged_4rm", lambda arm: True),
    "rb2_k1": ("rewardbench2_llm_judges", lambda arm: arm.endswith("@k1")),
    "rewardmath_rm13": ("rewardmath", lambda arm: not arm.startswith("judge")),
    "llmbar_case": ("llmbar_casestudy", lambda arm: True),
    "rb2_all18": ("rewardbench2_llm_judges", lambda arm: True),
    "llmbar_nogpt4": ("llmbar", lambda arm: not arm.startswith("GPT-4")),
    "llmbar": ("llmbar", lambda arm: True),
    "rewardmath_all31": ("rewardmath", lambda arm: True),
}
VERDICT = {"a": 1.0, "b": -1.0, "tie": 0.0}


@dataclass
class Pool:
    name: str
    arms: list[str]
    margins_PK: np.ndarray
    label_P: np.ndarray
    group_P: np.ndarray
    category_P: list[str]
    source_P: list[str]
    prompt_P: list[str]

    @property
    def sign_P(self) -> np.ndarray:
        return np.where(self.label_P, 1.0, -1.0)


def data_dir() -> Path:
    if "REWARD_ROUTER_DATA" not in os.environ:
        raise SystemExit("set REWARD_ROUTER_DATA to the folder that holds replay/*.jsonl.gz")
    return Path(os.environ["REWARD_ROUTER_DATA"]) / "replay"


def load(name: str) -> Pool:
    file, keep = POOLS[name]
    with gzip.open(data_dir() / f"{file}.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    arms = sorted(
        {
            arm
            for row in rows
            for part in ("scores", "verdicts")
            for arm in row.get(part) or {}
            if keep(arm)
        }
    )
    group = [
        row["prompt"] if row["prompt"] is not None else row["id"].rsplit("-", 1)[0] for row in rows
    ]
    return Pool(
        name,
        arms,
        margins(rows, arms),
        np.array([row["label"] == "a" for row in rows]),
        np.unique(np.array(group), return_inverse=True)[1],
        [row["category"] for row in rows],
        [row["source"] for row in rows],
        [row["prompt"] or "" for row in rows],
    )


def margins(rows: list[dict], arms: list[str]) -> np.ndarray:
    column = {arm: k for k, arm in enumerate(arms)}
    out = np.full((len(rows), len(arms)), np.nan)
    for p, row in enumerate(rows):
        for arm, pair in (row.get("scores") or {}).items():
            if arm in column and None not in pair:
                out[p, column[arm]] = pair[0] - pair[1]
        for arm, verdict in (row.get("verdicts") or {}).items():
            if arm in column:
                out[p, column[arm]] = VERDICT[verdict]
    return out
