"""Seconds of a training step with one row a prompt against one row a response.

It is measured on the embedded policy: the loss is the same, the tokens are fewer.

OMP_NUM_THREADS=1 python benchmarks/packed.py
"""

import argparse
import time

import torch
from accelerate import Accelerator

from reward_router.config import PolicyConfig, TrainConfig
from reward_router.policy import Policy
from reward_router.tasks import generate
from reward_router.training.step import Pair, Trainer

PLACES = ((0, 1), (0, 2), (3, 1), (2, 3))  # which of a prompt's four responses make its pairs


def pairs_of(policy: Policy, prompts: int, per_prompt: int) -> list[Pair]:
    """Pairs of sampled responses, as a run makes them."""
    tasks = generate("train", prompts, seed=3)
    groups = policy.sample([t.prompt for t in tasks], [t.id for t in tasks], 4, 0)
    return [
        Pair(t.prompt, g[a], g[b])
        for t, g in zip(tasks, groups, strict=True)
        for a, b in PLACES[:per_prompt]
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--per-prompt", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    settings = PolicyConfig(
        system="Answer in one short sentence.", n_responses=4, max_new_tokens=56
    )
    policy = Policy(settings, TrainConfig(), 0)
    pairs = pairs_of(policy, args.prompts, args.per_prompt)
    print(f"{len(pairs)} pairs of {args.prompts} prompts, {torch.get_num_threads()} threads")
    for repeat in range(args.repeats):
        for shared in (False, True):
            config = TrainConfig(lr=1e-12, share_prompts=shared)
            trainer = Trainer(policy, config, Accelerator(cpu=True))
            policy.snapshot_reference()
            policy.at_reference = (
                False  # as in every step but the first: the reference needs a forward of its own
            )
            start = time.perf_counter()
            loss = trainer.step(pairs).loss_P.mean()
            what = "a row a prompt" if shared else "a row a response"
            print(
                f"{repeat} {what:18}{time.perf_counter() - start:8.1f} s   mean loss {loss:.6f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
