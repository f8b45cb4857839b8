"""LASER, table 2 and figure 7: routed best of n on long contexts, without training."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from reward_router import config as configuration
from reward_router.config import Config
from reward_router.errors import InputError
from reward_router.experiments.kind import (
    ExperimentKind,
    Job,
    Part,
    Place,
    Plan,
    Published,
    Request,
)
from reward_router.experiments.recorded import refuse
from reward_router.experiments.results import Cell, Results
from reward_router.manifest import file_digest
from reward_router.report.page import interval, points

SEEDS = 5
DATA = "prompts/longbench_mini.jsonl.gz"
ROWS = {
    "routed": "LASER (frozen, greedy)",
    "committee": "committee",
    "random": "random",
    "mean": "ensemble (mean of z-scores)",
    "no judge": "base model (any response)",
    "perfect router": "bound: perfect router",
    "oracle": "bound: oracle",
}
"""Row of `bestofn` -> row here; every other row is a reward model alone."""
BEST = "best single, named beforehand"
TASKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Single-Doc QA": ("f1", ("single-doc-qa/multifieldqa_en", "single-doc-qa/qasper")),
    "Multi-Doc QA": (
        "f1",
        ("multi-doc-qa/2wikimqa", "multi-doc-qa/hotpotqa", "multi-doc-qa/musique"),
    ),
    "Summarization": (
        "rouge_l",
        ("summarization/gov_report", "summarization/multi_news", "summarization/qmsum"),
    ),
    "Few-shot": ("f1", ("few-shot/triviaqa", "few-shot/samsum")),
}
"""Column -> its measure and the data sets of LongBench that are in it."""
NO_DATA = (
    "long-context needs prompts: set REWARD_ROUTER_DATA to a folder with {path}, or give "
    "--responses FILE (prompts with responses and answers), or --config CONFIG.yaml; LongBench on "
    "the Hub is a script, which `datasets` no longer runs"
)


@dataclass(frozen=True)
class Column:
    """One task: its name, its configuration, and a file of responses in the place of a policy."""

    name: str
    config: Config
    responses: str | None = None


def columns(request: Request) -> list[Column]:
    """The tasks; InputError where there is nothing to read."""
    router = (
        "router={name: linucb, unit: prompt, alpha: 1.0, ridge: 1.0, center: true, intercept: 1.0}"
    )
    if request.responses is not None:
        own = ["payoff={name: probe}"] if request.config is None else []
        config = configuration.load(request.config, None, [router, *own, *request.settings])
        return [Column(Path(request.responses).stem, config, request.responses)]
    if request.config is not None:
        config = configuration.load(request.config, None, request.settings)
        return [Column(Path(request.config).stem, config)]
    folder = os.environ.get("REWARD_ROUTER_DATA")
    path = Path(folder or "") / DATA
    if not folder or not path.is_file():
        raise InputError(NO_DATA.format(path=DATA))
    return [
        Column(name, _packaged(request, router, path, measure, sets))
        for name, (measure, sets) in TASKS.items()
    ]


def _packaged(
    request: Request, router: str, path: Path, measure: str, sets: Sequence[str]
) -> Config:
    """The embedded policy and arms, or the paper's, on some data sets of LongBench."""
    categories = ", ".join(f"longcontext/{name}" for name in sets)
    data = f"data={{source: {path}, long_prompts: skip, categories: [{categories}]}}"
    tokens = 256 if measure == "rouge_l" else 48
    settings = [
        data,
        router,
        f"measure={measure}",
        "split={train: 0.5}",
        "context={kind: policy, pooling: last_hidden}",
        "payoff={name: neg_loss, low: 0.2, high: 0.8}",
        "eval={data: null}",
        f"policy.max_new_tokens={tokens}",
        "policy.max_prompt_tokens=7900",
        "pairs.truncated=keep",
    ]
    is_small = request.profile == "laptop"
    preset = "study" if is_small else "laser-llama3-gsm8k"
    settings += ["policy.n_responses=6", "policy.system=null"] if is_small else []
    return configuration.load(None, preset, [*settings, *request.settings])


def plan(request: Request) -> Plan:
    """One best of n a task; its own table gives the rows."""
    refuse(request, "long-context", ("scores",))
    chosen = columns(request)
    seeds = request.seeds or SEEDS
    jobs = []
    for column in chosen:
        sentence = f"best of n on {column.name}, {seeds} runs of the router"
        jobs.append(Job(column.name, sentence, partial(_work, column, seeds), seeded=False))
    first = chosen[0].config
    who = first.policy.model if chosen[0].responses is None else "responses of a file"
    measures = {column.name: column.config.measure or "gold" for column in chosen}
    shown = ", ".join(f"{name} {measure}" for name, measure in measures.items())
    return Plan(
        jobs=jobs,
        seeds=1,
        runs=seeds,
        subject=f"here, {who} on {', '.join(column.name for column in chosen)}",
        metric=(
            f"What the chosen response is worth, in % ({shown}), on prompts that nothing was "
            f"learned from; {seeds} runs of the router; calls: reward-model calls a response."
        ),
        columns=[column.name for column in chosen],
        average=len(chosen) > 1,
        identity=_identity(chosen) | {"seeds": seeds},
        parts=drawn,
    )


def _identity(chosen: Sequence[Column]) -> dict[str, Any]:
    """What the figures depend on: each task's configuration, and the responses of a file."""
    identity: dict[str, Any] = {}
    for column in chosen:
        identity[column.name] = configuration.dump(column.config)
        path = Path(column.responses or "")
        if path.is_file():
            identity["the file of responses"] = file_digest(path)
    return identity


def _work(column: Column, seeds: int, place: Place) -> Cell:
    from reward_router.bestofn.run import Files, bestofn

    # Samples and scores are kept beside this file: a killed run goes on.
    out = place.folder / "best.jsonl"
    result = bestofn(
        column.config,
        out,
        files=Files(column.responses),
        seeds=seeds,
        console=place.console,
    )
    methods = result["methods"]
    if not methods:
        raise InputError(f"{column.name}: no prompt with known gold is left to choose for")
    ready: dict[str, dict[str, list[float]]] = {}
    calls: dict[str, float] = {}
    gaps: dict[str, list[float]] = {}
    for name, method in methods.items():
        row = ROWS.get(name, f"only {name}")
        ready[row] = {column.name: [method["gold"], *method["ci95"]]}
        calls[row] = float(method["calls_per_response"])
        gaps[row] = [method["vs_best_single"], *method["vs_best_single_ci95"]]
    named = result["best_single"]["train"]
    if named is not None:
        ready[BEST] = ready[f"only {named}"]
        calls[BEST] = calls[f"only {named}"]
    facts = {
        "gaps": gaps,
        "named": named,
        "shares": result["arms"]["all"],
        "prompts": result["prompts"],
        "calls": result["calls"],
    }
    return Cell(ready=ready, calls=calls, facts=facts)


def drawn(results: Results) -> list[Part]:
    """Differences to the best single arm, the arms' shares (figure 7), and what it cost."""
    cells = {name: cell for (name, _), cell in results.cells.items()}
    gaps = {name: cell.facts["gaps"] for name, cell in cells.items()}
    rows = []
    for row in results.rows:
        numbers = [gaps[name].get(row) for name in cells]
        if row != BEST and any(number is not None for number in numbers):
            rows.append([row, *map(_gap, numbers)])
    named = "; ".join(f"{name}: {cell.facts['named']}" for name, cell in cells.items())
    parts = [
        Part(
            "Less the best single reward model",
            f"In points with 95 % intervals. It is named by the train part ({named}).",
            ["who judges", *cells],
            rows,
        )
    ]
    arms = list(dict.fromkeys(arm for cell in cells.values() for arm in cell.facts["shares"]))
    shares = []
    for arm in arms:
        cells_of_arm = [
            f"{100 * cell.facts['shares'].get(arm, 0.0):.0f}" for cell in cells.values()
        ]
        shares.append([arm, *cells_of_arm])
    caption = "Share of the test prompts that the router gave to each reward model, in %, seed 0."
    parts.append(Part("Who was asked", caption, ["reward model", *cells], shares))
    costs = [_cost_row(name, cell.facts) for name, cell in cells.items()]
    header = ["task", "train prompts", "test prompts", "calls to learn", "to choose", "to compare"]
    caption = "The comparison with every reward model asks all of them about everything."
    parts.append(Part("Prompts and calls", caption, header, costs))
    return parts


def _gap(numbers: Sequence[float] | None) -> str:
    return "-" if numbers is None else f"{points(numbers[0])} [{interval(numbers[1:])}]"


def _cost_row(name: str, facts: Mapping[str, Any]) -> list[str]:
    prompts = facts["prompts"]
    calls = facts["calls"]
    counts = [prompts["train"], prompts["measured"], calls["learning"], calls["choosing"]]
    return [name, *map(str, [*counts, calls["comparison"]])]


KIND = ExperimentKind(
    "long-context",
    plan,
    "routed best of n on long contexts, learned on one part and frozen on the other, against "
    "random, "
    "each single one, ensemble and the bounds",
    paper="LASER, table 2 and figure 7",
    published=tuple(
        Published.of(
            "LASER, table 2 (section 4.2): F1, summarization ROUGE-L",
            f"published, {model}",
            text,
        )
        for model, text in (
            (
                "Llama-3-8B",
                """
                method | Single-Doc QA | Multi-Doc QA | Summarization | Few-shot Learning
                Base model | 33.89 | 32.96 | 29.54 | 70.23
                Best RM | 35.12 | 35.83 | 34.26 | 71.79
                Avg. RM | 34.96 | 35.39 | 31.71 | 71.28
                Random RM Selection | 34.83 | 35.19 | 31.57 | 70.91
                LASER (Ours) | 37.47 | 36.94 | 34.13 | 73.31
                """,
            ),
            (
                "Mistral-7B",
                """
                method | Single-Doc QA | Multi-Doc QA | Summarization | Few-shot Learning
                Base model | 26.01 | 24.06 | 26.47 | 64.93
                Best RM | 28.93 | 27.93 | 30.42 | 68.34
                Avg. RM | 27.47 | 26.38 | 27.34 | 66.94
                Random RM Selection | 27.44 | 25.38 | 27.19 | 66.72
                LASER (Ours) | 29.14 | 27.80 | 30.08 | 68.47
                """,
            ),
        )
    ),
    deviations=(
        "The prompts are those of a small excerpt of LongBench (MiniLongBench) that fit 7,900 "
        "tokens, "
        "halved into train and test; the paper has 5,000 a task, 70/10/20. Of few-shot learning "
        "TriviaQA "
        "and SAMSum are in it (TREC is measured by accuracy).",
        "`random` is the expectation over a uniform choice, so that it is the average reward model "
        "(Avg. RM) as well; the paper's two rows differ by the luck of one draw.",
        "Best single: the reward model that leads on the train part, not on RewardBench.",
        "Every prompt has its own decision; with --responses the payoff is the order of "
        "responses by "
        "gold (probe), because a file has no policy whose loss could pay.",
        "laptop: the embedded 135M policy with 6 samples and seven small reward models.",
    ),
    unknown=(
        "alpha of LinUCB: 1 here.",
        "Limit of new tokens, and what was done to prompts that are too long: they are skipped "
        "here.",
        "Number of seeds, and intervals: the paper reports neither.",
    ),
    cost={
        "laptop": "hours with the embedded policy; seconds to minutes with --responses FILE",
        "gpu": "30 samples of 8k-token prompts, 4 reward models: hours on one GPU",
    },
)
