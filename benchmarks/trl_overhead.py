"""What a RoutedReward costs in TRL: the same GRPO run with it and with a plain reward function.

    python benchmarks/trl_overhead.py --model tiny
    python benchmarks/trl_overhead.py --model embedded --steps 3 --repeats 2

The plain function asks one reward model about every completion; the routed one does so for every
prompt group, with a router over two arms that are that same reward model, a ledger on disk and a
payoff for each decision. The arms' work is therefore equal. Runs alternate, and the first step of
each, which loads the arms, is not counted. The overhead is the time in the routed function less the
time in the plain one, as a share of a whole step with the plain one.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from grpo_study import ON_ONE_CORE
from reward_router.assemble import build_pool
from reward_router.config import PolicyConfig, TrainConfig, validate
from reward_router.rewards.defaults import default_arms

PROMPTS = 4
GENERATIONS = 4
ARMS = ("first", "second")


class Timed:
    """A reward function with the seconds and the processor's seconds of each call."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__name__ = "timed"
        self.began: list[float] = []
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def __call__(self, prompts: Any, completions: Any, **columns: Any) -> Any:
        began, busy = time.perf_counter(), time.process_time()
        rewards = self.function(prompts=prompts, completions=completions, **columns)
        self.began.append(began)
        self.wall.append(time.perf_counter() - began)
        self.cpu.append(time.process_time() - busy)
        return rewards


def settings(arm: str, context: str) -> Any:
    """Two arms that are the same reward model, and a router between them."""
    [spec] = [spec for spec in default_arms() if spec.name == arm]
    model = {"model": spec.model} if spec.model else {}
    arms = [{"name": name, "kind": spec.kind, **model, **spec.options} for name in ARMS]
    tree = {
        "arms": arms,
        "router": {"name": "linucb", "unit": "prompt"},
        "context": {"kind": context},
        "pool": {"resident": 2},
    }
    return validate(tree, "trl_overhead")


def plain(config: Any) -> Callable[..., list[float]]:
    """One reward model, asked about each prompt's completions as the router's pool asks it."""
    pool = build_pool(config, [])

    def reward(prompts: Any, completions: Any, **columns: Any) -> list[float]:
        starts = range(0, len(prompts), GENERATIONS)
        groups = [completions[start : start + GENERATIONS] for start in starts]
        texts = [[completion[0]["content"] for completion in group] for group in groups]
        result = pool.score(ARMS[0], [prompts[start] for start in starts], texts)
        return np.asarray(result.scores_BN).ravel().tolist()

    return reward


def has_even_length(prompts: Any, completions: Any, **columns: Any) -> list[float]:
    """Gold that costs nothing: there is something to pay with at every decision."""
    return [float(len(text["content"]) % 2 == 0) for [text] in completions]


def routed(config: Any, folder: str) -> Any:
    from reward_router.integrations.trl import RoutedReward

    ledger = Path(folder) / "ledger.sqlite"
    return RoutedReward(config, GENERATIONS, gold=has_even_length, payoff="probe", ledger=ledger)


def trained(name: str) -> tuple[Any, Any]:
    """The model in training and its tokenizer."""
    if name == "tiny":
        from reward_router.rewards.tiny import tiny_llama

        model, tokenizer = tiny_llama()
        model.config.pad_token_id = tokenizer.pad_token_id
        return model.train(), tokenizer
    from reward_router.policy import Policy

    policy = Policy(PolicyConfig(), TrainConfig(), 0)
    return policy.model, policy.tokenizer


def run(name: str, function: Any, steps: int, tokens: int, folder: str) -> dict[str, Any]:
    """One GRPO run: seconds and processor's seconds a step and in the reward function."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    model, tokenizer = trained(name)
    rows = [
        {"prompt": [{"role": "user", "content": f"Tell me something about the number {n}."}]}
        for n in range(PROMPTS * (steps + 1))
    ]
    timed = Timed(function)
    args = GRPOConfig(
        folder,
        max_steps=steps + 1,
        num_generations=GENERATIONS,
        per_device_train_batch_size=PROMPTS * GENERATIONS,
        max_completion_length=tokens,
        beta=0.0,
        logging_steps=1,
        **ON_ONE_CORE,
    )
    trainer = GRPOTrainer(
        model, timed, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )
    busy = time.process_time()
    trainer.train()
    return {
        # From one call to the next is one whole step.
        "step": np.diff(timed.began[1:]).tolist(),
        "reward": timed.wall[1:],
        "reward_cpu": timed.cpu[1:],
        "run_cpu": time.process_time() - busy,
    }


def main() -> None:
    """Read the command line, run in turns, print a row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=("tiny", "embedded"), default="tiny")
    parser.add_argument("--arm", default="brief", choices=[spec.name for spec in default_arms()])
    parser.add_argument("--context", default="hashing", choices=("hashing", "sentence"))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=24)
    given = parser.parse_args()
    config = settings(given.arm, given.context)
    found: dict[str, list[dict[str, Any]]] = {"plain": [], "routed": []}
    for repeat in range(given.repeats):
        # Now one of them comes first, now the other.
        order = ("plain", "routed") if repeat % 2 == 0 else ("routed", "plain")
        for who in order:
            with TemporaryDirectory() as folder:
                function = plain(config) if who == "plain" else routed(config, folder)
                found[who].append(run(given.model, function, given.steps, given.tokens, folder))
                if who == "routed":
                    function.session.dispatcher.close()
    print_row(given, found)


def print_row(given: Any, found: dict[str, list[dict[str, Any]]]) -> None:
    """Medians over all counted steps of all repeats."""

    def median(who: str, what: str) -> float:
        return float(np.median([value for run in found[who] for value in run[what]]))

    step = median("plain", "step")
    more = median("routed", "reward") - median("plain", "reward")
    more_cpu = median("routed", "reward_cpu") - median("plain", "reward_cpu")
    cpu = [np.mean([run["run_cpu"] for run in found[who]]) for who in ("plain", "routed")]
    print("| model | arm | contexts | steps | step, s | plain, ms | routed, ms | more, ms (CPU) |"
          " share of a step | CPU of a run, s |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|")
    print(
        f"| {given.model} | {given.arm} | {given.context} | {given.steps} x {given.repeats} | "
        f"{step:.2f} | {1e3 * median('plain', 'reward'):.1f} | "
        f"{1e3 * median('routed', 'reward'):.1f} | {1e3 * more:.1f} ({1e3 * more_cpu:.1f}) | "
        f"{more / step:.2%} | {cpu[0]:.1f}, {cpu[1]:.1f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
