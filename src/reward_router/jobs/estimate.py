"""What a run will take, before it starts: memory, calls and time, from the sizes alone.

Nothing is loaded but configurations.

Time on a GPU is floating-point operations over 40 % of the card's peak (training) and 15 %
(sampling, scoring), on a CPU over a share of the speed of a matrix product that is measured now
(`ON_CPU`). It is an estimate of an idle machine: expect a third either way with a small policy on a
CPU, and a factor of two elsewhere.
"""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from reward_router.assemble import (
    arm_names,
    arm_specs,
    build_pool,
    check_arms,
    check_names,
    fitting,
    judge_pool,
    judge_specs,
    prior_warnings,
    steps_of,
)
from reward_router.config import Config
from reward_router.contexts import plain_prompt
from reward_router.examples import Example, load_examples, taken_in_turn
from reward_router.manifest import dev_set
from reward_router.online import online_prior
from reward_router.preflight import (
    answer_one_row,
    at_hand,
    check_disk,
    check_policy,
    check_prompts,
    disk_bytes,
    model_config,
)
from reward_router.progress import duration, say_fact
from reward_router.reporting import check_trackers

BYTES = {"float32": 4, "bfloat16": 2, "auto": 4}
TEMPLATE_TOKENS, CHARACTERS_PER_TOKEN = 15, 4
ON_CPU = {"sample": 0.47, "score": 0.6, "train": 1.25, "evaluate": 0.53}
"""Share of the speed of a matrix product that each phase reaches.

It is fitted to the phases of three runs of a policy of 135 million weights. Training passes 1
because it is reckoned with pairs of full length, and most responses end earlier. The others read
one token of each response at a time, which keeps a CPU waiting for its memory.
"""
LOAD = (10.0, 5.0)
"""Seconds of starting and loading: so many, and so many more for each GiB of weights."""
PROGRAM = 0.7 * 2**30
"""Bytes of the libraries once they are loaded, measured on Linux with a CPU build of torch."""
KEPT_WIDTHS, KEPT_MIDDLES = 12, 4
"""Numbers that a layer keeps of a token for the backward pass: so many times its width (norms,
queries, keys, values, LoRA's inputs, the residual stream), and so many times its middle."""
LONG = 3600.0
"""Seconds above which ``--dry-run`` says what would shorten a run."""
CUTS = {
    "sample": "policy.max_new_tokens, policy.n_responses, train.batch_prompts or "
    "train.batches_per_iteration",
    "score": "policy.n_responses, train.batch_prompts, or smaller reward models (arms)",
    "train": "pairs.per_prompt, policy.max_new_tokens, train.batch_prompts or "
    "train.batches_per_iteration",
    "evaluate": "eval.limit, eval.samples, eval.look or policy.max_new_tokens",
}
"""Phase -> the keys that cut it."""


def estimate(config: Config) -> dict[str, Any]:
    """Steps, responses, calls, tokens, FLOPs, seconds and peak bytes of a whole run."""
    train = config.train
    policy = config.policy
    examples = load_examples(config.data)
    prompts = len(examples)
    characters = sum(len(plain_prompt(example.prompt)) for example in examples)
    prompt_tokens = TEMPLATE_TOKENS + characters / prompts / CHARACTERS_PER_TOKEN
    length = prompt_tokens + policy.max_new_tokens

    # What is sampled, and how many pairs come of it.
    steps = steps_of(config, prompts)
    prompts_seen = steps * min(train.batch_prompts, prompts)
    responses = prompts_seen * policy.n_responses
    pairs = prompts_seen * config.pairs.per_prompt

    # Who scores how much of that.
    arms = arm_specs(config)
    asks_all = config.router.mode == "ensemble" or config.payoff.kind.asks_all_arms
    asked = len(arms) if asks_all else 1
    committee = config.judge.mode == "committee"
    if committee:
        asked = min(config.judge.max_calls, len(arms))
    scored = responses
    if config.router.unit == "pair":
        scored = min(responses, 2 * pairs)
    chosen = best_of_responses(config)
    paid = paying_calls(config, responses)
    compared = win_rate_responses(config)

    # A weight is one multiplication and one addition a token: 2 FLOPs. Responses to one prompt
    # share it.
    size, _ = parameters(policy.model)
    heavy = [parameters(spec.model)[0] for spec in arms if spec.model]
    judge = sum(heavy) / max(1, len(arms))
    shared_length = policy.max_new_tokens + prompt_tokens / policy.n_responses
    arms_work = judge * (scored * asked + chosen) * shared_length
    paying_work = apart_weights(config, config.payoff.arm) * paid * length
    measuring_work = apart_weights(config, config.eval.arm) * compared * length
    # In forwards: two a pass, one for the reference, one more before several mini-batches.
    passes = 1 + 2 * train.steps_per_batch + (train.mini_batch is not None)
    flops = {
        "sample": 2.0 * size * responses * shared_length,
        "score": 2.0 * arms_work + 2.0 * paying_work + 2.0 * measuring_work,
        "train": 2.0 * size * 2 * pairs * length * passes,
        "evaluate": 2.0 * size * evaluated(config, steps) * length,
    }

    speed, device = throughput(config)
    # As many reward models as may stay in memory, the largest of them.
    held = sorted(heavy, reverse=True)[: config.pool.resident]
    memory = {
        "program": PROGRAM,
        "policy": size * (BYTES[policy.dtype] + BYTES[policy.sample_dtype]),
        "reward models": sum(held) * BYTES[config.pool.dtype],
        "training": training_bytes(config, prompt_tokens),
        "evaluation": evaluation_bytes(config, prompt_tokens),
    }
    if config.payoff.arm is not None:
        memory["judge"] = apart_weights(config, config.payoff.arm) * BYTES[config.pool.dtype]

    seconds = {"load": loading_seconds(memory["policy"] + memory["reward models"])}
    for phase, work in flops.items():
        seconds[phase] = work / speed / efficiency(phase, device)
    return {
        "steps": steps,
        "responses": responses,
        "calls": scored * asked,
        "calls_at_most": committee,
        "calls_best_of": chosen,
        "calls_paying": paid,
        "calls_all_arms": scored * len(arms),
        "pairs_at_most": pairs,
        "device": device,
        "seconds": seconds,
        "memory_bytes": memory,
        "disk_bytes": disk_bytes(config, steps, prompts),
        "downloads": downloads(config),
    }


def evaluated(config: Config, steps: int) -> int:
    """Responses that are generated only to be measured.

    These are gold before and after, on held-out and test prompts, and the looks.
    """
    settings = config.eval
    of_prompt = settings.samples + settings.greedy
    total = 0
    for data in (dev_set(config), settings.test):
        if data is not None:
            prompts = len(taken_in_turn(load_examples(data), settings.limit))
            # Twice: before training and after it.
            total += 2 * prompts * of_prompt

    if settings.keep == "best":
        # A look falls due at every so many steps, the start included, and at the end.
        due = [step % settings.look_every == 0 or step == steps for step in range(steps + 1)]
        total += sum(due) * settings.look * settings.look_samples
    return total


def paying_calls(config: Config, responses: int) -> int:
    """Responses that the judge of `payoff.arm` is asked about."""
    return round(responses * config.payoff.fraction) if config.payoff.arm is not None else 0


def win_rate_responses(config: Config) -> int:
    """Responses that `eval.arm` compares at the end: those before training and those after."""
    settings = config.eval
    data = dev_set(config)
    if settings.arm is None or data is None:
        return 0
    prompts = len(taken_in_turn(load_examples(data), settings.limit))
    # Without samples the greedy response is compared.
    of_prompt = max(settings.samples, 1)
    return 2 * prompts * of_prompt


def apart_weights(config: Config, name: str | None) -> float:
    """Weights of an arm that is kept apart from the routed ones.

    0 where there is no such arm, or it has no model.
    """
    models = [arm.model for arm in config.arms if arm.name == name and name is not None]
    return parameters(models[0])[0] if models else 0.0


class ModelShape(NamedTuple):
    """What a language model's memory is reckoned from.

    Args:
        layers: how many.
        hidden: width of the residual stream.
        middle: width of the layers' feed-forward part.
        cached: numbers that a layer keeps of each token, its keys and values.
        vocabulary: tokens that it knows.
    """

    layers: int
    hidden: int
    middle: int
    cached: int
    vocabulary: int


def shape_of(config: Config) -> ModelShape | None:
    """The policy's shape; None where the model is not at hand."""
    if not at_hand(config.policy.model):
        return None
    model = model_config(config.policy.model, config.policy.trust_remote_code).get_text_config()

    def size(name: str, otherwise: int = 0) -> int:
        return int(getattr(model, name, None) or otherwise)

    heads = size("num_attention_heads", 1)
    head_size = size("head_dim", size("hidden_size") // heads)
    return ModelShape(
        layers=size("num_hidden_layers"),
        hidden=size("hidden_size"),
        middle=size("intermediate_size", 4 * size("hidden_size")),
        cached=2 * size("num_key_value_heads", heads) * head_size,
        vocabulary=size("vocab_size"),
    )


def evaluation_bytes(config: Config, prompt_tokens: float) -> float:
    """Keys, values and logits of one batch of responses that are measured.

    0 where the model is not at hand.
    """
    shape = shape_of(config)
    if shape is None:
        return 0.0
    settings = config.eval
    rows = min(settings.batch, evaluated(config, 1) or settings.batch)
    new_tokens = settings.max_new_tokens or config.policy.max_new_tokens
    length = prompt_tokens + new_tokens

    # Keys and values of every layer for every token, in the type that is sampled with.
    cache = shape.layers * shape.cached * length * BYTES[config.policy.sample_dtype]
    logits = 4.0 * 3 * shape.vocabulary  # scores, probabilities, their sum
    return rows * (cache + logits)


def training_bytes(config: Config, prompt_tokens: float) -> float:
    """What a micro-batch of pairs keeps for its backward pass.

    Pairs of one prompt share it, so that a pair brings two responses and half a prompt at most.
    Where the model is not at hand, its shape is guessed from the size in its name.
    """
    shape = shape_of(config)
    if shape is None:
        weights, hidden = parameters(config.policy.model)
        # A layer has about 12 h^2 weights: 4 h^2 of attention and 8 h^2 of its MLP.
        layers = round(weights / (12 * hidden**2)) if hidden else 0
        shape = ModelShape(layers, hidden, 4 * hidden, 0, 0)

    pairs = config.train.micro_batch
    response_tokens = pairs * 2 * config.policy.max_new_tokens
    pairs_of_prompt = min(config.pairs.per_prompt, 2)
    tokens = response_tokens + pairs * prompt_tokens / pairs_of_prompt

    kept_of_token = KEPT_WIDTHS * shape.hidden + KEPT_MIDDLES * shape.middle
    if config.train.gradient_checkpointing:
        # Each layer's input is kept, and one layer at a time is computed again.
        activations = tokens * (shape.layers * shape.hidden + kept_of_token)
    else:
        activations = tokens * shape.layers * kept_of_token
    logits = 2.0 * response_tokens * shape.vocabulary  # and their gradient
    return BYTES[config.policy.dtype] * activations + 4.0 * logits


def downloads(config: Config) -> dict[str, float]:
    """Model -> bytes that have to be fetched from the Hub, in bfloat16.

    0 where the size is unknown.
    """
    named = [config.policy.model, *(arm.model for arm in config.arms), *arms_models(config)]
    wanted = dict.fromkeys(model for model in named if model is not None)
    return {model: 2.0 * parameters(model)[0] for model in wanted if not at_hand(model)}


def arms_models(config: Config) -> list[str | None]:
    """Models of the arms that judge, the packaged ones where none are listed."""
    return [spec.model for spec in arm_specs(config)]


def best_of_responses(config: Config) -> int:
    """Responses to held-out prompts that an arm scores for `eval.best_of`.

    They are scored before training and after.
    """
    settings = config.eval
    data = dev_set(config)
    if not settings.best_of or settings.samples < 2 or data is None:
        return 0
    # Only a router that names single arms can choose among samples.
    routed = config.router.mode == "route" and config.judge.mode == "single"
    if not routed:
        return 0

    prompts = len(taken_in_turn(load_examples(data), settings.limit))
    return 2 * prompts * settings.samples


def loading_seconds(weight_bytes: float) -> float:
    """Until the first prompt is sampled from a disk that holds the weights already."""
    start, for_each_gib = LOAD
    return start + for_each_gib * weight_bytes / 2**30


def efficiency(phase: str, device: str) -> float:
    """Share of the peak that a phase reaches: measured on a CPU, customary on a GPU."""
    if device == "this CPU":
        return ON_CPU[phase]
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
    if config.policy.engine == "vllm":
        return 4e14, "one GPU of 400 TFLOP/s (none found here)"
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
    check_trackers(config.report_to)
    examples = load_examples(config.data)
    check_names(config, examples, arm_names(config))

    # First the arms: those at hand are asked, the others are named.
    specs = arm_specs(config)
    pool = build_pool(config, examples)
    arm_models = [spec.model for spec in (*specs, *judge_specs(config))]
    models = {model for model in (config.policy.model, *arm_models) if model}
    absent = sorted(model for model in models if not at_hand(model))
    if absent:
        say(f"not checked, for not being on this disk: {', '.join(absent)}")
    here = [spec for spec in specs if spec.model not in absent]
    check_arms(here, pool)
    check_judge(config, absent, examples, say)
    prior = online_prior(config.router, config.payoff.name)
    if prior is not None:
        for warning in prior_warnings(config, prior, here):
            say(f"warning: {warning}")

    # Then the prompts, which need the policy's tokenizer, and the disk, which needs their number.
    if config.policy.model not in absent:
        text = check_policy(config)
        examples = fitting(examples, config.data, text, say)
        check_prompts(config, text, examples)
    n_examples = len(examples)
    steps = steps_of(config, n_examples)
    check_disk(out, disk_bytes(config, steps, n_examples))

    # At last one real prompt for every arm that fits into memory now.
    large = [spec.name for spec in here if weight_bytes(spec.model) > free_memory() / 2]
    if large:
        say(f"not asked about a real prompt, for want of memory now: {', '.join(large)}")
    small = [spec for spec in here if spec.name not in large]
    answer_one_row(config, pool, small, examples, say)


def check_judge(
    config: Config, absent: list[str], examples: Sequence[Example], say: Callable[[str], None]
) -> None:
    """Check the arm of `payoff.arm` as the others are checked.

    It is asked about a real prompt, unless it would have to be fetched.
    """
    specs = [spec for spec in judge_specs(config) if spec.model not in absent]
    if not specs:
        return
    pool = judge_pool(config)
    check_arms(specs, pool)
    [judge] = specs
    # Half of what is free: the run itself needs memory, too.
    fits = weight_bytes(judge.model) <= free_memory() / 2
    if fits:
        answer_one_row(config, pool, specs, examples, say)


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
    known = sizes.get("MemAvailable")
    return float(known.split()[0]) * 1024 if known else math.inf


def show_estimate(config: Config, console: Console) -> None:
    """``train --dry-run``."""
    e = estimate(config)
    seconds = e["seconds"]
    total = sum(seconds.values())
    steps = f"steps    {e['steps']}, {e['responses']} responses, at most {e['pairs_at_most']} pairs"
    say_fact(console, steps)

    most = "at most " if e["calls_at_most"] else ""
    more = ""
    if e["calls_best_of"]:
        more += f"; {e['calls_best_of']} more for best of n"
    if e["calls_paying"]:
        more += f"; {e['calls_paying']} more by the judge that pays"
    say_fact(
        console,
        f"calls    {most}{e['calls']} (all arms on every response: {e['calls_all_arms']}){more}",
    )

    parts = ", ".join(f"{phase} {duration(spent)}" for phase, spent in seconds.items())
    say_fact(console, f"time     about {duration(total)} on {e['device']}: {parts}")
    if total > LONG:
        for line in cuts(seconds):
            say_fact(console, line, "yellow")

    memory = e["memory_bytes"]
    shares = ", ".join(f"{name} {gib(size)}" for name, size in memory.items())
    say_fact(console, f"memory   about {gib(sum(memory.values()))}: {shares}")
    say_fact(console, f"disk     about {gib(e['disk_bytes'])} in the run's directory")

    downloads_by_model = e["downloads"]
    if downloads_by_model:
        sizes = []
        for model, size in downloads_by_model.items():
            sizes.append(f"{model} {gib(size) if size else '(size unknown)'}")
        whole = gib(sum(downloads_by_model.values()))
        say_fact(console, f"download about {whole}: {', '.join(sizes)}")


def cuts(seconds: dict[str, float]) -> list[str]:
    """What shortens a run, its dearest phase first.

    Phases under a tenth of it are not worth a line.
    """
    total = sum(seconds.values())
    dearest = sorted(seconds, key=lambda name: -seconds[name])
    lines = ["long     more than an hour. Less of these keys cuts it:"]
    for phase in dearest:
        share = seconds[phase] / total
        if share >= 0.1 and phase in CUTS:
            lines.append(f"         {phase} ({100 * share:.0f} %): {CUTS[phase]}")
    return lines


def gib(count: float) -> str:
    """A size in GiB, or in MiB below a tenth of one."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 / 10 else f"{count / 2**20:.0f} MiB"
