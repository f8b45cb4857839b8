"""``experiment NAME --dry-run``: calls, hours and memory of every variant, on 1 and 8 GPUs.

Nothing is loaded but prompts and configurations. Where a data set of the Hub is out of reach, as
many of the embedded prompts are reckoned with instead, and the output says so.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console

from reward_router.config import Config, DataConfig
from reward_router.errors import InputError
from reward_router.experiments.kind import Plan
from reward_router.progress import LiteralTable, duration, say, show_table
from reward_router.reading import is_hub_name
from reward_router.strict_json import dumps

GPUS = 8
"""GPUs of a usual machine: runs are independent, so that each may have one."""
PROMPTS = 7000
"""Prompts of a data set that is out of reach and has no limit: about as many as GSM8K's."""


@dataclass(frozen=True)
class Forecast:
    """What one run takes.

    Args:
        steps: batches.
        calls: reward-model calls.
        seconds: of an idle device.
        memory: bytes at its peak.
        device: whose seconds they are.
        is_guessed: whether the data was out of reach.
    """

    steps: int
    calls: int
    seconds: float
    memory: float
    device: str
    is_guessed: bool = False


def show_forecast(plan: Plan, console: Console) -> None:
    """Print what each variant takes, and all of them together; nothing for plans that train not."""
    if not plan.configs:
        return
    jobs = [job.name for job in plan.jobs if job.name in plan.configs]
    by_job = forecasts({name: plan.configs[name] for name in jobs})
    show_table(console, _table(by_job))
    first = next(iter(by_job.values()))
    calls = plan.seeds * sum(one.calls for one in by_job.values())
    seconds = plan.seeds * sum(one.seconds for one in by_job.values())
    say(console, f"all of it {calls:,} calls, about {duration(seconds)} on {first.device}")
    if first.device != "this CPU":
        longest = max(one.seconds for one in by_job.values())
        shared = max(seconds / GPUS, longest)
        say(console, f"          about {duration(shared)} on {GPUS} of them, a run on each")
    if any(one.is_guessed for one in by_job.values()):
        say(
            console,
            "guessed   the data set cannot be read here: embedded prompts, as many as the "
            f"configuration's limit or {PROMPTS:,}, stand in its place",
            "yellow",
        )


def forecasts(configs: Mapping[str, Config]) -> dict[str, Forecast]:
    """Job -> what one of its runs takes; variants that cost the same are reckoned once."""
    known: dict[str, Forecast] = {}
    by_job = {}
    for name, config in configs.items():
        key = _cost_key(config)
        if key not in known:
            known[key] = forecast(config)
        by_job[name] = known[key]
    return by_job


def forecast(config: Config) -> Forecast:
    """What one run takes; InputError for a file that cannot be read."""
    from reward_router.jobs.estimate import estimate

    is_guessed = False
    try:
        figures = estimate(config)
    except InputError:
        if not is_hub_name(config.data.source):
            raise
        is_guessed = True
        figures = estimate(standing_in(config))
    return Forecast(
        steps=figures["steps"],
        calls=figures["calls"],
        seconds=sum(figures["seconds"].values()),
        memory=sum(figures["memory_bytes"].values()),
        device=figures["device"],
        is_guessed=is_guessed,
    )


def standing_in(config: Config) -> Config:
    """The same run on embedded prompts, with as many steps as the data would give."""
    prompts = config.data.limit or PROMPTS
    steps = math.ceil(prompts / config.train.batch_prompts)
    batches = config.train.batches_per_iteration or steps
    train = config.train.model_copy(update={"batches_per_iteration": batches})
    held_out = DataConfig(split="dev")
    evaluated = {name: held_out for name in ("data", "test") if getattr(config.eval, name)}
    measured = config.eval.model_copy(update=evaluated)
    return config.model_copy(update={"data": DataConfig(), "train": train, "eval": measured})


def _cost_key(config: Config) -> str:
    """What a run's cost depends on: not on which arm is drawn, or by which rule."""
    whole = config.model_dump(mode="json", exclude={"seed", "router", "context", "payoff", "noise"})
    router = config.router
    asks_all = config.payoff.kind.asks_all_arms
    return dumps([whole, router.unit, router.mode, asks_all, config.payoff.arm])


def _table(by_job: Mapping[str, Forecast]) -> LiteralTable:
    table = LiteralTable(box=None, pad_edge=False, header_style="bold")
    for column in ("variant", "steps", "calls a run", "time a run", "memory"):
        table.column(column, justify="left" if column == "variant" else "right")
    for name, one in by_job.items():
        memory = f"{one.memory / 2**30:.1f} GiB"
        table.row(name, f"{one.steps:,}", f"{one.calls:,}", duration(one.seconds), memory)
    return table
