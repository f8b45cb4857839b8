"""What a run will take, before it starts: memory, calls and time, from the sizes alone.

Nothing is loaded but configurations.

Time on a GPU is floating-point operations over 40 % of the card's peak (training) and 15 %
(sampling, scoring), on a CPU over 80 % of the speed of a matrix product measured now. It is an
estimate of an idle machine: expect a factor of two either way.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from reward_router.assemble import (
    arm_names,
    arm_specs,
    build_pool,
    check_arms,
    check_names,
    fitting,
    prior_warnings,
    steps_of,
)
from reward_router.config import Config
from reward_router.contexts import text_of
from reward_router.examples import balanced, load_examples
from reward_router.manifest import dev_set
from reward_router.online import online_prior
from reward_router.preflight import (
    answer_one_row,
    at_hand,
    check_disk,
    check_policy,
    check_prompts,
    disk_bytes,
)
from reward_router.progress import duration, say

BYTES = {"float32": 4, "bfloat16": 2, "auto": 4}
TEMPLATE_TOKENS = 15
"""What a chat template adds to a prompt."""
CHARACTERS_PER_TOKEN = 4
LONG = 3600.0
"""Seconds above which ``--dry-run`` says what would shorten a run."""
CUTS = {
    "sample": (
        "policy.max_new_tokens, policy.n_responses, train.batch_prompts or "
        "train.batches_per_iteration"
    ),
    "score": "policy.n_responses, train.batch_prompts, or smaller reward models (arms)",
    "train": (
        "pairs.per_prompt, policy.max_new_tokens, train.batch_prompts or "
        "train.batches_per_iteration"
    ),
    "evaluate": "eval.limit, eval.samples, eval.look or policy.max_new_tokens",
}
"""Phase -> the keys that cut it."""


def estimate(config: Config) -> dict[str, Any]:
    """Steps, responses, calls, tokens, FLOPs, seconds and peak bytes of a whole run."""
    examples = load_examples(config.data)
    prompts = len(examples)
    characters = sum(len(text_of(example.prompt)) for example in examples)
    prompt_tokens = TEMPLATE_TOKENS + characters / prompts / CHARACTERS_PER_TOKEN
    train = config.train
    policy = config.policy
    steps = steps_of(config, prompts)
    responses = steps * min(train.batch_prompts, prompts) * policy.n_responses
    arms = arm_specs(config)
    committee = config.judge.mode == "committee"
    arms_per_response = 1  # arms that score a response
    if committee:
        arms_per_response = min(config.judge.max_calls, len(arms))
    elif config.router.mode == "ensemble" or config.payoff.kind.asks_all_arms:
        arms_per_response = len(arms)
    length = prompt_tokens + policy.max_new_tokens
    pairs = steps * min(train.batch_prompts, prompts) * config.pairs.per_prompt
    scored = min(responses, 2 * pairs) if config.router.unit == "pair" else responses
    chosen = best_of_responses(config)
    size, width = parameters(policy.model)
    heavy = [parameters(a.model)[0] for a in arms if a.model]
    judge = sum(heavy) / max(1, len(arms))
    # A forward pass takes two operations a weight and token. A prompt is read once for all of its
    # responses; a step reads both responses of a pair, and backward costs two forward passes.
    response_tokens = policy.max_new_tokens + prompt_tokens / policy.n_responses
    passes = 1 + 2 * train.steps_per_batch + (train.mini_batch is not None)
    flops = {
        "sample": 2.0 * size * responses * response_tokens,
        "score": 2.0 * judge * (scored * arms_per_response + chosen) * response_tokens,
        "train": 2.0 * size * 2 * pairs * length * passes,
        "evaluate": 2.0 * size * evaluated(config, steps) * length,
    }
    speed, device = throughput(config)
    # The largest that can be in memory together.
    held = sorted(heavy, reverse=True)[: config.pool.resident]
    memory = {
        "policy": size * (BYTES[policy.dtype] + BYTES[policy.sample_dtype]),
        "reward models": sum(held) * BYTES[config.pool.dtype],
        "training activations": train.micro_batch * 2 * length * width * 4 * 40,
    }
    return {
        "steps": steps,
        "responses": responses,
        "calls": scored * arms_per_response,
        "calls_at_most": committee,
        "calls_best_of": chosen,
        "calls_all_arms": scored * len(arms),
        "pairs_at_most": pairs,
        "device": device,
        "seconds": {
            phase: work / speed / efficiency(phase, device) for phase, work in flops.items()
        },
        "memory_bytes": memory,
    }


def evaluated(config: Config, steps: int) -> int:
    """Responses that are generated only to be measured.

    These are gold before and after, on held-out and test prompts, and the looks.
    """
    settings = config.eval
    total = 0
    for data in (dev_set(config), settings.test):
        if data is not None:
            prompts = len(balanced(load_examples(data), settings.limit))
            total += 2 * prompts * (settings.samples + settings.greedy)
    if settings.keep == "best":
        looks = sum(step % settings.look_every == 0 or step == steps for step in range(steps + 1))
        total += looks * settings.look * settings.look_samples
    return total


def best_of_responses(config: Config) -> int:
    """Responses to held-out prompts that an arm scores for `eval.best_of`.

    They are scored before training and after.
    """
    settings = config.eval
    data = dev_set(config)
    routed = config.router.mode == "route" and config.judge.mode == "single"
    if not settings.best_of or settings.samples < 2 or data is None or not routed:
        return 0
    return 2 * len(balanced(load_examples(data), settings.limit)) * settings.samples


def efficiency(phase: str, device: str) -> float:
    """Share of the peak that a phase reaches: measured on a CPU, customary on a GPU."""
    if device == "this CPU":
        return 0.8
    return 0.4 if phase == "train" else 0.15


def parameters(model: str | None) -> tuple[float, int]:
    """(weights, hidden size) of a model, from its configuration or the size in its name.

    (0, 0) where it is unknown.
    """
    import re

    from reward_router.rewards.loading import resolve_model

    if model is None:
        return 0.0, 0
    if model == "tiny":
        return 9e4, 64
    named = re.search(r"(\d+(?:\.\d+)?)\s*([bm])(?![a-z])", model.lower().rsplit("/", 1)[-1])
    if named:
        count = float(named[1]) * (1e9 if named[2] == "b" else 1e6)
        return count, max(256, round((count / 12 / 32) ** 0.5 / 64) * 64)
    if "minilm" in resolve_model(model).lower():
        return 2.3e7, 384
    return 0.0, 0


def throughput(config: Config) -> tuple[float, str]:
    """FLOP/s to reckon with, and whose they are."""
    import torch

    if config.policy.device != "cpu" and torch.cuda.is_available():
        return 4e14, torch.cuda.get_device_name()
    # vLLM runs on a GPU: the estimate is then for one that is not here.
    if config.policy.engine == "vllm":
        return 4e14, "one GPU of 400 TFLOP/s (none found here)"
    # The fastest of twenty: others may use the processor meanwhile.
    a = torch.randn(512, 1024)
    best = math.inf
    threads = torch.get_num_threads()
    for _ in range(20):
        start = time.perf_counter()
        spent = time.process_time()
        a @ a.T @ a
        # Where others share the processor, the time of its own that the product took is nearer to
        # an idle machine's.
        idle = (time.process_time() - spent) / threads
        best = min(best, time.perf_counter() - start, idle if idle > 0 else math.inf)
    return 4 * 512 * 512 * 1024 / best, "this CPU"


def check_all(config: Config, out: Path, say: Callable[[str], None]) -> None:
    """Check what `assemble` checks before the first step, without loading the policy.

    InputError where the run could not start.

    Models that are not on this disk, and arms too large for half of its free memory, are named and
    not asked.
    """
    examples = load_examples(config.data)
    check_names(config, examples, arm_names(config))
    specs = arm_specs(config)
    pool = build_pool(config, examples)
    models = {config.policy.model, *[spec.model for spec in specs]}
    absent = sorted(model for model in models if model and not at_hand(model))
    if absent:
        say(f"not checked, for not being on this disk: {', '.join(absent)}")
    here = [s for s in specs if s.model not in absent]
    check_arms(here, pool)
    if (prior := online_prior(config.router, config.payoff.name)) is not None:
        for warning in prior_warnings(config, prior, here):
            say(f"warning: {warning}")
    if config.policy.model not in absent:
        text = check_policy(config)
        examples = fitting(examples, config.data, text, say)
        check_prompts(config, text, examples)
    check_disk(out, disk_bytes(config, steps_of(config, len(examples)), len(examples)))
    large = [s.name for s in here if weight_bytes(s.model) > free_memory() / 2]
    if large:
        say(f"not asked about a real prompt, for want of memory now: {', '.join(large)}")
    answer_one_row(config, pool, [s for s in here if s.name not in large], examples, say)


def weight_bytes(model: str | None) -> int:
    """Bytes of a local model's safetensors; 0 where there are none."""
    from reward_router.rewards.loading import resolve_model

    folder = Path(resolve_model(model)) if model else None
    return (
        sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        if folder and folder.is_dir()
        else 0
    )


def free_memory() -> float:
    """Bytes of main memory that programs can have now; no limit where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return math.inf
    sizes = dict(line.split(":", 1) for line in lines if ":" in line)
    available = sizes.get("MemAvailable")
    return float(available.split()[0]) * 1024 if available else math.inf


def show_estimate(config: Config, console: Console) -> None:
    """``train --dry-run``."""
    e = estimate(config)
    total = sum(e["seconds"].values())
    parts = ", ".join(f"{k} {duration(v)}" for k, v in e["seconds"].items())
    memory = ", ".join(f"{k} {v / 2**30:.1f} GiB" for k, v in e["memory_bytes"].items())
    say(
        console,
        f"steps    {e['steps']}, {e['responses']} responses, at most {e['pairs_at_most']} pairs",
    )
    most = "at most " if e["calls_at_most"] else ""
    more = f"; {e['calls_best_of']} more for best of n" if e["calls_best_of"] else ""
    say(
        console,
        f"calls    {most}{e['calls']} (all arms on every response: {e['calls_all_arms']}){more}",
    )
    say(console, f"time     about {duration(total)} on {e['device']}: {parts}")
    if total > LONG:
        phase = max(e["seconds"], key=lambda name: e["seconds"][name])
        say(
            console,
            f"long     more than an hour; most of it goes into {phase}: less of "
            f"{CUTS[phase]} cuts it",
            "yellow",
        )
    say(console, f"memory   about {sum(e['memory_bytes'].values()) / 2**30:.1f} GiB: {memory}")
