"""``reward-router export RUN_DIR OUT``: a run's adapter merged into the base weights.

What comes out is a directory that ``AutoModelForCausalLM`` reads. Left out: serving the merged
model, which vLLM and transformers do.
"""

import re
import shutil
from pathlib import Path
from typing import Any

from reward_router.config import Config
from reward_router.errors import InputError
from reward_router.policy import attach_adapters
from reward_router.rewards.loading import load_causal_lm, load_tokenizer
from reward_router.rundir import adapter_tensors, explained, run_config


def export(folder: Path, out: Path) -> Path:
    """Write base weights and adapter, merged, into a new directory, whole or not at all.

    Args:
        folder: a finished run's directory.
        out: a path where nothing is yet.

    Returns ``out``. InputError where ``out`` exists, or where the adapter does not fit the model.
    """
    config = run_config(folder)
    if out.exists():
        raise InputError(f"{out} exists already; give a directory that does not")
    merged = _merged_model(config, folder)
    tokenizer = load_tokenizer(
        config.policy.model, trust_remote_code=config.policy.trust_remote_code
    )
    # The directory gets its name last: an export that was interrupted is not taken for a model.
    partial = out.with_name(out.name + ".partial")
    with explained(out):
        shutil.rmtree(partial, ignore_errors=True)
        merged.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        partial.rename(out)
    return out


def _merged_model(config: Config, folder: Path) -> Any:
    """The base model with the run's adapter added to its weights."""
    policy = config.policy
    base = load_causal_lm(
        policy.model, dtype=policy.dtype, device="cpu", trust_remote_code=policy.trust_remote_code
    )
    train = config.train.model_copy(update={"gradient_checkpointing": False})
    model = attach_adapters(base, train, config.seed)

    # PEFT leaves the adapter's name out of the file's keys; the model in memory has it in them.
    tensors = {}
    for name, tensor in adapter_tensors(folder).items():
        tensors[re.sub(r"(\.lora_[AB])\.", r"\1.policy.", name)] = tensor
    if model.load_state_dict(tensors, strict=False).unexpected_keys:
        raise InputError(f"{folder}: its adapter does not belong to {policy.model}")
    return model.merge_and_unload(adapter_names=["policy"])
