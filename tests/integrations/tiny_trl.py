"""TRL's own trainers on the tiny model, with three arms that cost nothing."""

from pathlib import Path
from typing import Any

CONFIG: dict[str, Any] = {
    "seed": 3,
    "arms": [
        {"name": "short", "kind": "metric", "metric": "length", "direction": "short"},
        {"name": "long", "kind": "metric", "metric": "length", "direction": "long"},
        {"name": "vowels", "kind": "python", "path": "tiny_trl:Vowels"},
    ],
    "router": {"name": "linucb", "unit": "prompt"},
    "context": {"kind": "hashing", "dim": 8},
}
PROMPTS = ["Say hi.", "Count to three.", "Name a colour.", "What is 2 + 2?"]


class Vowels:
    """An arm of the user's: how many vowels a response has."""

    def score(self, prompts: Any, responses: Any) -> list[list[float]]:
        return [[float(sum(c in "aeiou" for c in text)) for text in group] for group in responses]


def vowels(prompts: Any, completions: Any, **columns: Any) -> list[float]:
    """A verifier with the signature of TRL's reward functions."""
    return [float(any(c in "aeiou" for c in text)) for text in completions]


def dataset() -> Any:
    from datasets import Dataset

    return Dataset.from_dict({"prompt": PROMPTS, "answer": ["hi", "three", "red", "4"]})


def arguments(kind: Any, out: Path, **more: Any) -> Any:
    settings = {
        "output_dir": str(out),
        "use_cpu": True,
        "bf16": False,
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "gradient_checkpointing": False,
        "seed": 0,
    }
    return kind(**(settings | more))


def model() -> tuple[Any, Any]:
    from reward_router.rewards.tiny import tiny_llama

    lm, tokenizer = tiny_llama()
    lm.config.pad_token_id = tokenizer.pad_token_id
    return lm.train(), tokenizer
