"""What the untrained policy passes on the embedded tasks, and what each arm knows.

`python benchmarks/base_rates.py [--arms]`. Samples SmolLM2-135M-Instruct on train prompts (never
dev or test: those stay fresh), greedy and at temperature 0.8, 48 new tokens, and prints the pass
rate per category with 95 % intervals. `--arms` prints, per arm and category, how often the arm
prefers a response that passes to one of the same prompt that fails. Responses are appended to
`--responses` batch by batch, so an interrupted run goes on where it stopped.
"""

import argparse
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from reward_router.tasks import CATEGORIES, Task, generate, verify

MODEL, NEW_TOKENS, TEMPERATURE, BATCH = "smollm2-135m-instruct", 48, 0.8, 64
Row = dict[str, Any]


def chosen_tasks(per_category: int, categories: list[str], seed: int) -> list[Task]:
    """The first train tasks of each category in the seed's order."""
    by: dict[str, list[Task]] = defaultdict(list)
    for task in generate("train", seed=seed):
        if task.category in categories and len(by[task.category]) < per_category:
            by[task.category].append(task)
    return [task for category in categories for task in by[category]]


def plan(
    greedily: list[Task], tasks: list[Task], samples: int
) -> list[list[tuple[Task, float, int]]]:
    """Batches of (task, temperature, number of the sample), prompts of like length together."""

    def length(task: Task) -> tuple[int, str]:
        return len(task.prompt), task.id

    greedy = [(task, 0.0, 0) for task in sorted(greedily, key=length)]
    sampled = [
        (task, TEMPERATURE, draw) for task in sorted(tasks, key=length) for draw in range(samples)
    ]
    return [
        jobs[start : start + BATCH]
        for jobs in (greedy, sampled)
        for start in range(0, len(jobs), BATCH)
    ]


def respond(
    model: Any, tokenizer: Any, prompts: list[str], temperature: float, seed: int
) -> list[tuple[str, bool]]:
    """(text, ended by itself) for each prompt; the seed makes a batch repeatable on one machine."""
    import torch

    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    texts = [
        tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        for chat in chats
    ]
    inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    how = (
        {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        if temperature
        else {"do_sample": False}
    )
    torch.manual_seed(seed)
    with torch.inference_mode():
        ids = model.generate(
            **inputs, max_new_tokens=NEW_TOKENS, pad_token_id=tokenizer.pad_token_id, **how
        )
    new = ids[:, inputs["input_ids"].shape[1] :]
    return [
        (
            tokenizer.decode(row, skip_special_tokens=True),
            bool((row == tokenizer.eos_token_id).any()),
        )
        for row in new
    ]


def sampled(path: Path, batches: list[list[tuple[Task, float, int]]], dtype: str) -> list[Row]:
    """All rows of the plan, from the file where they are there, else sampled now and appended."""
    import torch

    from reward_router.rewards.loading import load_causal_lm, load_tokenizer

    torch.set_num_threads(1)
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    there = {(row["id"], row["temperature"], row["draw"]) for row in rows}
    missing = [
        [job for job in batch if (job[0].id, job[1], job[2]) not in there] for batch in batches
    ]
    todo = [(n, batch) for n, batch in enumerate(missing) if batch]
    model, tokenizer = (
        (load_causal_lm(MODEL, dtype=dtype), load_tokenizer(MODEL)) if todo else (None, None)
    )
    started = time.perf_counter()
    for done, (n, batch) in enumerate(todo, start=1):
        texts = respond(model, tokenizer, [task.prompt for task, _, _ in batch], batch[0][1], n)
        new = [
            {"id": t.id, "temperature": temp, "draw": draw, "response": text, "finished": finished}
            for (t, temp, draw), (text, finished) in zip(batch, texts, strict=True)
        ]
        rows += new
        with path.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in new)
        print(
            f"sampled {done}/{len(todo)} batches, {time.perf_counter() - started:.0f} s", flush=True
        )
    wanted = {(task.id, temp, draw) for batch in batches for task, temp, draw in batch}
    return [row for row in rows if (row["id"], row["temperature"], row["draw"]) in wanted]


def wilson(passed: int, n: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson 1927)."""
    z2 = 1.96**2
    centre, half = (
        (passed + z2 / 2) / (n + z2),
        1.96 * math.sqrt(passed * (n - passed) / n + z2 / 4) / (n + z2),
    )
    return centre - half, centre + half


def clustered(values_by_prompt: list[list[float]]) -> tuple[float, float, float]:
    """Mean over all values and its 95 % percentile interval.

    Prompts are resampled (2,000 resamples, seed 0).
    """
    sums = np.array([[sum(values), len(values)] for values in values_by_prompt])
    draws = np.random.default_rng(0).integers(len(sums), size=(2000, len(sums)))
    totals = sums[draws].sum(axis=1)
    low, high = np.quantile(totals[:, 0] / totals[:, 1], [0.025, 0.975])
    return float(sums[:, 0].sum() / sums[:, 1].sum()), float(low), float(high)


def rate_lines(tasks: dict[str, Task], rows: list[Row]) -> Iterator[str]:
    """The table of pass rates, one line a category."""
    yield (
        f"| category | greedy | T = {TEMPERATURE} | ended by itself | prompts greedy / sampled |\n"
        "|---|---|---|---|---|"
    )
    for category in CATEGORIES:
        mine = [
            (row, verify(tasks[row["id"]], row["response"]))
            for row in rows
            if tasks[row["id"]].category == category
        ]
        greedy = [passed for row, passed in mine if not row["temperature"]]
        by_prompt: dict[str, list[float]] = defaultdict(list)
        for row, passed in mine:
            if row["temperature"]:
                by_prompt[row["id"]].append(passed)
        if not greedy or not by_prompt:
            continue
        low, high = wilson(sum(greedy), len(greedy))
        mean, below, above = clustered(list(by_prompt.values()))
        ended = float(np.mean([row["finished"] for row, _ in mine]))
        yield (
            f"| {category} | {sum(greedy) / len(greedy):.2f} [{low:.2f}, {high:.2f}] "
            f"| {mean:.2f} [{below:.2f}, {above:.2f}] "
            f"| {ended:.2f} | {len(greedy)} / {len(by_prompt)} |"
        )


def candidate_arms() -> dict[str, Any]:
    """The default arms, and rules that were tried beside them, by name."""
    from reward_router.rewards.defaults import default_arms
    from reward_router.rewards.loading import SMOLLM2
    from reward_router.rewards.spec import ArmSpec

    rules = {
        "overlap": {"metric": "rouge_l"},
        "readable": {"metric": "readability"},
        "ends": {"metric": "regex", "pattern": r"[.!?][\"')*]*\s*$"},
        "digits": {"metric": "regex", "pattern": r"\d"},
        "capitals": {"metric": "regex", "pattern": r"^\W*[A-Z]\w*(\W+([A-Z]\w*|[a-z]{1,4}))*\W*$"},
    }
    plain = [
        ArmSpec("pmi", "loglik", SMOLLM2, {"reduction": "pmi"}),
        ArmSpec("arithmetic", "metric", options={"metric": "arithmetic"}),
        ArmSpec("short", "metric", options={"metric": "length", "direction": "short"}),
    ]
    arms = [
        *default_arms(),
        *plain,
        *(ArmSpec(name, "metric", options=options) for name, options in rules.items()),
    ]
    return {arm.name: arm for arm in arms}


def by_prompt(tasks: dict[str, Task], rows: list[Row]) -> list[tuple[Task, list[str], np.ndarray]]:
    """(task, its different sampled responses, whether each passes) of the useful tasks.

    These are the tasks where some responses pass and some do not.
    """
    texts: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row["temperature"] and row["response"] not in texts[row["id"]]:
            texts[row["id"]].append(row["response"])
    groups = [
        (tasks[i], group, np.array([verify(tasks[i], text) for text in group]))
        for i, group in texts.items()
    ]
    return [
        (task, group, passed) for task, group, passed in groups if 0 < passed.sum() < len(passed)
    ]


def pair_counts(score_N: np.ndarray, passed_N: np.ndarray) -> tuple[int, int, int]:
    """(rightly ordered, ordered, all) pairs of a passing with a failing response.

    Ties and abstentions are not ordered.
    """
    difference = score_N[passed_N][:, None] - score_N[~passed_N][None, :]
    return (
        int((difference > 0).sum()),
        int((difference > 0).sum() + (difference < 0).sum()),
        difference.size,
    )


Counts = dict[str, dict[str, np.ndarray]]


def count_pairs(
    groups: list[tuple[Task, list[str], np.ndarray]],
    score: Callable[..., np.ndarray],
    arms: list[str],
) -> Counts:
    """Per arm and category the (prompts, 3) array of `pair_counts`."""
    counts: Counts = {}
    for arm in arms:
        rows: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        scores_BN = score(
            arm, [task.prompt for task, _, _ in groups], [group for _, group, _ in groups]
        )
        for (task, group, passed), score_N in zip(groups, scores_BN, strict=True):
            rows[task.category].append(pair_counts(np.asarray(score_N)[: len(group)], passed))
        counts[arm] = {name: np.array(rows[name]) for name in CATEGORIES if rows[name]}
    return counts


def credit(counts_P3: np.ndarray) -> float:
    """Pairwise accuracy over prompts; a pair that the arm does not order counts one half."""
    right, ordered, every = counts_P3.sum(axis=0)
    return float((right + (every - ordered) / 2) / every)


def arm_lines(counts: Counts) -> Iterator[str]:
    """Pairwise accuracy, arms by category, on the pairs the arm orders.

    The share it orders stands there where that is under 95 %.
    """
    names = list(next(iter(counts.values())))
    yield f"| arm | {' | '.join(names)} | mean |\n|{'---|' * (len(names) + 2)}"
    for arm, rows in counts.items():
        cells = []
        for name in names:
            right, ordered, every = rows[name].sum(axis=0)
            share = f" ({ordered / every:.0%})" if ordered < 0.95 * every else ""
            cells.append(f"{right / ordered:.2f}{share}" if ordered else "-")
        overall = np.mean([credit(rows[name]) for name in names])
        yield f"| {arm} | {' | '.join(cells)} | {overall:.2f} |"
    first = next(iter(counts.values()))
    pairs = [f"{first[n][:, 2].sum()} ({len(first[n])})" for n in names]
    yield f"| pairs (prompts) | {' | '.join(pairs)} | |"


def held_out(counts: Counts, splits: int = 200) -> tuple[float, float]:
    """(best arm per category, best single arm), means over splits.

    They are chosen on one half of the prompts and measured on the other.
    """
    names, found = list(next(iter(counts.values()))), []
    draw = np.random.default_rng(0)
    for _ in range(splits):
        halves = {name: draw.permutation(len(counts[next(iter(counts))][name])) for name in names}
        seen, fresh = (
            {a: [credit(rows[n][halves[n][part]]) for n in names] for a, rows in counts.items()}
            for part in (slice(None, None, 2), slice(1, None, 2))
        )
        table, other = np.array(list(seen.values())), np.array(list(fresh.values()))
        found.append(
            (
                other[table.argmax(0), np.arange(len(names))].mean(),
                other[table.mean(1).argmax()].mean(),
            )
        )
    routed, single = np.mean(found, axis=0)
    return float(routed), float(single)


def print_arms(tasks: dict[str, Task], rows: list[Row]) -> None:
    """Scores every candidate arm once and prints the table.

    Then it prints what the best arm per category gains, over the default arms.
    """
    from reward_router.rewards.defaults import default_arms
    from reward_router.rewards.pool import RewardPool

    pool = RewardPool(candidate_arms(), dtype="float32")
    counts = count_pairs(
        by_prompt(tasks, rows), lambda *ask: pool.score(*ask).scores_BN, pool.names
    )
    print("\n".join(arm_lines(counts)))
    routed, single = held_out({arm.name: counts[arm.name] for arm in default_arms()})
    print(f"held out, default arms: best per category {routed:.2f}, best single {single:.2f}")


def main() -> None:
    """Parses the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--responses",
        type=Path,
        default=Path("build/base-rates.jsonl"),
        help="JSON lines, kept and reused",
    )
    parser.add_argument(
        "--prompts", type=int, default=12, help="train prompts a category sampled from"
    )
    parser.add_argument(
        "--greedy-prompts", type=int, default=40, help="train prompts a category answered greedily"
    )
    parser.add_argument(
        "--samples", type=int, default=8, help="responses a prompt at the temperature"
    )
    parser.add_argument("--categories", nargs="+", default=list(CATEGORIES), choices=CATEGORIES)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--arms", action="store_true", help="also score the sampled responses with every arm"
    )
    given = parser.parse_args()
    greedily, tasks = (
        chosen_tasks(n, given.categories, given.seed) for n in (given.greedy_prompts, given.prompts)
    )
    given.responses.parent.mkdir(parents=True, exist_ok=True)
    rows = sampled(given.responses, plan(greedily, tasks, given.samples), given.dtype)
    known = {task.id: task for task in greedily + tasks}
    print("\n".join(rate_lines(known, rows)))
    if given.arms:
        print_arms(known, rows)


if __name__ == "__main__":
    main()
