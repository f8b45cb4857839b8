"""Laws of the generated instructions.

Splits share no content, ids are stable, checks are data, gold answers pass.
"""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_router.errors import InputError
from reward_router.tasks import (
    CATEGORIES,
    SPLITS,
    Task,
    facts,
    generate,
    sentences,
    topics,
    verify,
    verify_check,
)
from reward_router.tasks.generator import split_of

TASKS = {split: generate(split) for split in SPLITS}
EVERY = [task for split in SPLITS for task in TASKS[split]]


def test_enough_tasks_in_every_category_and_split():
    for split, least, least_each in (
        ("train", 400, 50),
        ("fit", 160, 20),
        ("dev", 160, 20),
        ("test", 160, 20),
    ):
        assert len(TASKS[split]) >= least
        for category in CATEGORIES:
            assert sum(task.category == category for task in TASKS[split]) >= least_each, (
                split,
                category,
            )


def test_ids_and_prompts_are_unique_over_all_splits():
    assert len({task.id for task in EVERY}) == len(EVERY)
    assert len({" ".join(task.prompt.lower().split()) for task in EVERY}) == len(EVERY)


def contents(table):
    return [
        line.split("|")[0].strip() if "[" not in line else line
        for line in table.strip().splitlines()
    ]


@pytest.mark.parametrize("table", [facts.TABLE, topics.TABLE, sentences.TABLE])
def test_no_content_item_occurs_outside_its_split(table):
    items = contents(table)
    assert len({item.lower() for item in items}) == len(items)
    for item in items:
        if "[" in item:
            continue
        homes = {
            split
            for split in SPLITS
            for task in TASKS[split]
            if f" {item.rstrip('?.')}" in f" {task.prompt}"
        }
        assert homes <= {split_of(item)}, item


def test_sums_of_two_splits_share_no_pair_in_either_order():
    pairs = {
        split: {
            frozenset(
                number for number in "".join(c if c.isdigit() else " " for c in task.prompt).split()
            )
            for task in TASKS[split]
            if task.category == "sums"
        }
        for split in SPLITS
    }
    for one, other in itertools.combinations(SPLITS, 2):
        assert pairs[one].isdisjoint(pairs[other]), (one, other)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(SPLITS), st.integers(1, 300), st.integers(0, 2**31))
def test_a_seed_chooses_and_orders_but_never_changes_a_task(split, n, seed):
    chosen = generate(split, n, seed)
    assert chosen == generate(split, n, seed)
    assert len(chosen) == n
    assert set(chosen) <= set(TASKS[split])
    assert [task.category for task in chosen[: len(CATEGORIES)]] == list(CATEGORIES[:n])


def test_checks_survive_json_and_empty_responses_pass_nothing():
    for task in EVERY:
        stored = json.loads(json.dumps(task.check))
        assert stored == task.check
        for response in ("", "  \n", "word", "Paris.", "Is it 7?"):
            assert verify_check(stored, response) == verify(task, response)
        assert not verify(task, "")
        assert not verify(task, " \n ")


def test_the_canonical_answer_passes_and_another_tasks_answer_does_not():
    answered = [task for task in EVERY if task.answer is not None]
    for task in answered:
        assert verify(task, task.answer), task
    wrong = [
        (task, other)
        for task in answered
        for other in answered[::37]
        if other.answer not in (task.answer, "")
    ]
    assert sum(verify(task, other.answer) for task, other in wrong) < 0.02 * len(wrong)


@pytest.mark.parametrize("bad", [{"n": 0}, {"n": -3}, {"n": 10**6}])
def test_impossible_sizes_are_refused_with_the_limit(bad):
    with pytest.raises(InputError, match=r"allowed: 1 to \d+"):
        generate("dev", **bad)


def test_an_unknown_split_is_refused():
    with pytest.raises(InputError, match="train, fit, dev, test"):
        generate("valid")


def test_a_task_is_hashable_and_frozen():
    task = EVERY[0]
    assert isinstance(task, Task)
    assert hash(task) == hash(generate("train")[0])
    with pytest.raises(AttributeError):
        task.prompt = "other"


@pytest.mark.parametrize("split", SPLITS)
def test_the_rule_of_every_task_accepts_its_solution(split: str) -> None:
    for task in TASKS[split]:
        assert verify(task, task.solution), task
        # A task is what it was before it had one: runs that began without it go on.
        assert "solution" not in repr(task)
