"""Does routing help inside TRL? GRPO on the embedded policy, judged by whom, and what gold does.

    python benchmarks/grpo_study.py --out runs/grpo --variant routed --seed 0  # one run
    python benchmarks/grpo_study.py --out runs/grpo --seeds 3               # whatever is missing
    python benchmarks/grpo_study.py --out runs/grpo --report                # the table

TRL's own GRPOTrainer trains the LoRA adapter that our loop trains, on the demo's prompts. For one
core, ``--model`` takes the small model of `grpo_base.py`. Every variant of a seed has the same
prompts, the same first weights and equally many steps; only the reward differs. Gold is the
embedded tasks' own rules on held-out prompts, before and after, sampled with the same uniforms, so
that two adapters differ by what they learned. A run is a JSON file in ``--out``; one that is there
already is not made again.
"""

import argparse
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from grpo_report import report
from reward_router.chat import Prompt
from reward_router.config import Config, DataConfig, PolicyConfig, TrainConfig, validate
from reward_router.distributed import Ranks
from reward_router.evaluate import GoldMeasured, Measurement, measure_gold
from reward_router.examples import Example, load_examples
from reward_router.keyed import rng, uniform
from reward_router.rewards.defaults import default_arms

SYSTEM = "Answer in one short sentence."
CATEGORIES = ["facts", "include", "question", "exclaim", "past", "number", "short", "title"]
LINUCB = {"name": "linucb", "alpha": 0.05, "ridge": 0.1, "warmup": 1, "center": True}
ARMS = ("marks", "brief", "grammar", "thorough")
"""Those of the demo that one core can ask for every completion of a run: the heads `marks`
(question, exclaim) and `brief` (short, title), the grammar tagger, and the bad arm."""
SINGLES = ("brief", "marks", "thorough")
"""`brief`, the best arm by its card, was named beforehand as the single to compare with."""
VARIANTS = ("routed", "uniform", *(f"only {arm}" for arm in SINGLES), "mean of all")
CONTROLS = ("verifier", "random")
ON_ONE_CORE = {
    "report_to": "none",
    "save_strategy": "no",
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "disable_tqdm": True,
}
"""What GRPOConfig is told wherever a run is only measured."""
Reward = Callable[..., list[float | None]]


@dataclass(frozen=True)
class Settings:
    """What all variants share.

    ``labelled``: the share of prompts whose gold pays the router. ``held_out`` and ``samples``: the
    prompts of the split ``split`` that gold is measured on, and the responses to each.
    """

    model: str = "smollm2-135m-instruct"
    steps: int = 60
    prompts: int = 4
    generations: int = 4
    new_tokens: int = 40
    lr: float = 1e-3
    temperature: float = 0.8
    labelled: float = 0.5
    held_out: int = 240
    samples: int = 4
    split: str = "test"


def examples_of(split: str) -> list[Example]:
    """The demo's prompts of one split; categories take turns."""
    return load_examples(DataConfig(source="embedded", split=split, categories=CATEGORIES))


class Verifier:
    """Gold of a completion by its prompt's own rule, with the signature of a reward function.

    ``share``: of the prompts that have gold, drawn by ``seed``; None for the others.
    """

    __name__ = "verifier"

    def __init__(self, examples: Sequence[Example], share: float = 1.0, seed: int = 0) -> None:
        known = [e for e in examples if uniform(seed, "label", 0, e.id) < share]
        self.rules = {example.id: example.gold for example in known}

    def __call__(
        self, prompts: Any, completions: Any, task: Sequence[str], **columns: Any
    ) -> list[float | None]:
        gold: list[float | None] = []
        for [message], name in zip(completions, task, strict=True):
            rule = self.rules.get(name)
            gold.append(None if rule is None else float(rule([message["content"]])[0]))
        return gold


class Chance:
    """A reward that says nothing: the control."""

    __name__ = "random"

    def __init__(self, seed: int) -> None:
        self.draws = np.random.default_rng(seed)

    def __call__(self, prompts: Any, completions: Any, **columns: Any) -> list[float]:
        return self.draws.random(len(completions)).tolist()


def router_config(variant: str, seed: int) -> Config:
    """The configuration of a `RoutedReward` for one variant."""
    arms = []
    for spec in default_arms():
        if spec.name in ARMS:
            model = {"model": spec.model} if spec.model else {}
            arms.append({"name": spec.name, "kind": spec.kind, **model, **spec.options})
    routers: dict[str, dict[str, Any]] = {
        "routed": LINUCB,
        "uniform": {"name": "uniform"},
        "mean of all": {"name": "uniform", "mode": "ensemble"},
        **{f"only {arm}": {"name": "fixed", "arm": arm} for arm in SINGLES},
    }
    settings = {
        "seed": seed,
        "arms": arms,
        "router": {**routers[variant], "unit": "prompt"},
        "context": {"kind": "sentence"},
        "pool": {"resident": len(arms)},
    }
    return validate(settings, "grpo_study")


def reward_of(variant: str, seed: int, examples: Sequence[Example], labelled: float) -> Any:
    """The reward function of a variant: a `RoutedReward`, or a control."""
    from reward_router.integrations.trl import RoutedReward

    if variant == "verifier":
        return Verifier(examples)
    if variant == "random":
        return Chance(seed)
    config = router_config(variant, seed)
    if variant == "routed":
        return RoutedReward(config, gold=Verifier(examples, labelled, seed), payoff="probe")
    return RoutedReward(config, payoff="user")


def messages(prompt: Prompt, system: str | None) -> list[dict[str, str]]:
    """A prompt as TRL takes conversations."""
    turns = [{"role": "system", "content": system}] if system else []
    return [*turns, {"role": "user", "content": str(prompt)}]


def train(
    policy: Any, reward: Any, examples: Sequence[Example], setup: "Settings", seed: int
) -> Any:
    """GRPO over the examples, in their order; the policy's adapter is trained in place."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    rows = [{"prompt": messages(e.prompt, policy.config.system), "task": e.id} for e in examples]
    with TemporaryDirectory() as folder:
        args = GRPOConfig(
            folder,
            seed=seed,
            max_steps=setup.steps,
            num_generations=setup.generations,
            per_device_train_batch_size=setup.prompts * setup.generations,
            max_completion_length=setup.new_tokens,
            temperature=setup.temperature,
            learning_rate=setup.lr,
            warmup_steps=1,
            lr_scheduler_type="linear",
            max_grad_norm=1.0,
            beta=0.0,
            shuffle_dataset=False,
            logging_steps=5,
            **ON_ONE_CORE,
        )
        trainer = GRPOTrainer(
            policy.model,
            reward,
            args=args,
            train_dataset=Dataset.from_list(rows),
            processing_class=policy.tokenizer,
        )
        trainer.train()
    return trainer


def run(variant: str, seed: int, setup: Settings, out: Path) -> dict[str, Any]:
    """One run: measure (once for all runs), train, measure."""
    from reward_router.policy import Policy

    config = PolicyConfig(
        model=setup.model,
        system=SYSTEM if setup.model == PolicyConfig().model else None,
        temperature=setup.temperature,
        max_new_tokens=setup.new_tokens,
    )
    started, busy = time.perf_counter(), time.process_time()
    policy = Policy(config, TrainConfig(), seed)
    held_out = examples_of(setup.split)[: setup.held_out]
    how = Measurement(samples=setup.samples, batch=128)
    before_file = out / "before.json"
    if before_file.is_file():
        before = GoldMeasured(**json.loads(before_file.read_text(encoding="utf-8")))
    else:
        before = measure_gold(policy, held_out, Ranks("cpu"), how)
        before_file.write_text(json.dumps(before.to_json()), encoding="utf-8")
    pool = examples_of("train")
    order = rng(seed, "data", 0).permutation(len(pool))
    examples = [pool[order[i % len(pool)]] for i in range(setup.steps * setup.prompts)]
    reward = reward_of(variant, seed, examples, setup.labelled)
    training = time.perf_counter()
    trainer = train(policy, reward, examples, setup, seed)
    trained = time.perf_counter()
    policy.sync()
    after = measure_gold(policy, held_out, Ranks("cpu"), how)
    logs = [log for log in trainer.state.log_history if "reward" in log]
    completions = setup.steps * setup.prompts * setup.generations
    return {
        "variant": variant,
        "seed": seed,
        "settings": asdict(setup),
        "before": before.to_json(),
        "after": after.to_json(),
        "calls": calls_of(reward),
        "completions": completions,
        "shares": shares_of(reward),
        "payoffs": payoffs_of(reward),
        "reward": [log["reward"] for log in logs],
        "length": [log["completions/mean_length"] for log in logs],
        "seconds": {
            "all": time.perf_counter() - started,
            "training": trained - training,
            "cpu": time.process_time() - busy,
        },
    }


def calls_of(reward: Any) -> int:
    """Completions that reward models scored; a control asks none."""
    session = getattr(reward, "session", None)
    if session is None:
        return 0
    statuses = session.dispatcher.ledger.calls().status
    return sum(status != "shared" for status in statuses)


def shares_of(reward: Any) -> dict[str, float]:
    """Each arm's share of the decisions."""
    session = getattr(reward, "session", None)
    if session is None:
        return {}
    decisions = session.dispatcher.ledger.decisions(contexts=False)
    return {name: float(np.mean(decisions.arm == k)) for k, name in enumerate(decisions.arms)}


def payoffs_of(reward: Any) -> int:
    """How many decisions were paid."""
    session = getattr(reward, "session", None)
    return 0 if session is None else int(session.dispatcher.counts()["payoffs"])


def main() -> None:
    """Read the command line; run what is missing, or show what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--variant", action="append", choices=[*VARIANTS, *CONTROLS])
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--report", action="store_true")
    for name, value in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if not given.report:
        logging.getLogger("transformers").setLevel(logging.ERROR)
        setup = Settings(**{name: getattr(given, name) for name in asdict(Settings())})
        seeds = range(given.seeds) if given.seed is None else [given.seed]
        for seed in seeds:
            for variant in given.variant or VARIANTS:
                run_once(variant, seed, setup, given.out)
    report(given.out, (*CONTROLS, *VARIANTS))


def run_once(variant: str, seed: int, setup: Settings, out: Path) -> None:
    """A run, unless its file is there."""
    file = out / f"{variant.replace(' ', '-')}-{seed}.json"
    if file.is_file():
        return
    result = run(variant, seed, setup, out)
    file.write_text(json.dumps(result), encoding="utf-8")
    gain = np.mean(result["after"]["right"]) - np.mean(result["before"]["right"])
    seconds = result["seconds"]["all"]
    print(f"{variant}, seed {seed}: gold {gain:+.3f} in {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
