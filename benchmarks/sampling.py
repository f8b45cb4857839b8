"""Tokens a second of the policy's sampler, and the run's import time.

The sampler is compared with a plain batched `generate` of the same weights.

OMP_NUM_THREADS=1 python benchmarks/sampling.py
"""

import argparse
import subprocess
import sys
import time

import torch

from reward_router.config import PolicyConfig, TrainConfig
from reward_router.policy import Policy
from reward_router.tasks import generate


def plain(policy: Policy, prompts: list[str], n: int, limit: int) -> int:
    """transformers' own sampling, N copies of every prompt; new tokens made."""
    batch = {k: v.repeat_interleave(n, 0) for k, v in policy.tokenize(prompts).items()}
    width = batch["input_ids"].shape[1]
    with torch.inference_mode():
        out = policy.sampler.model.generate(
            **batch, do_sample=True, temperature=0.8, top_k=0, top_p=1.0, max_new_tokens=limit
        )
    return int((out[:, width:] != policy.tokenizer.pad_token_id).sum())


def ours(policy: Policy, prompts: list[str], n: int, step: int) -> int:
    """The policy's sampler; new tokens made."""
    groups = policy.sample(prompts, [str(i) for i in range(len(prompts))], n, step)
    return sum(len(policy.response_ids(r)) for group in groups for r in group)


def timed(work, *args) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    tokens = work(*args)
    return tokens / (time.process_time() - cpu), tokens / (time.perf_counter() - wall)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--responses", type=int, default=6)
    parser.add_argument("--new", type=int, default=40)
    args = parser.parse_args()
    policy = Policy(PolicyConfig(system="", max_new_tokens=args.new), TrainConfig(), 0)
    prompts = [t.prompt for t in generate("train", args.prompts)]
    dtype = next(policy.sampler.model.parameters()).dtype
    print(
        f"{args.prompts} prompts x {args.responses} responses, {args.new} tokens, {dtype}, "
        f"{torch.get_num_threads()} threads"
    )
    print(f"{'':28}{'tok/s CPU':>12}{'tok/s wall':>12}")
    for name, work, last in (("plain generate", plain, args.new), ("policy.sample", ours, 1)):
        cpu, wall = timed(work, policy, prompts, args.responses, last)
        print(f"{name:28}{cpu:12.0f}{wall:12.0f}")
    best = min(float(_import_seconds()) for _ in range(5))
    print(f"import reward_router: {best:.3f} s of CPU")


def _import_seconds() -> str:
    code = (
        "import time; t = time.process_time(); import reward_router; print(time.process_time() - t)"
    )
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


if __name__ == "__main__":
    main()
