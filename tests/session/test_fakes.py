"""A whole step of the main job on fakes.

What it decides and pays does not depend on a model, torch or the machine.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest

from reward_router import Session, config
from reward_router.assemble import (
    RunParts,
    bound_dispatcher,
    build_asker,
    build_mode,
    build_router,
    payoff_rule,
)
from reward_router.contexts import Contexts
from reward_router.errors import RunError
from reward_router.examples import Example
from reward_router.ledger import Ledger
from reward_router.loop import Loop
from reward_router.rewards.pool import RewardPool
from reward_router.testing import FakeArm, FakeClock, FakePolicy, FakeTrainer
from reward_router.training.records import Pair

CONFIG = """
data: {categories: [sums, short, include]}
policy: {model: tiny, n_responses: 3}
arms:
  - {name: short, kind: metric, metric: length, direction: short}
  - {name: long, kind: metric, metric: length, direction: long}
  - {name: letters, kind: metric, metric: length}
router: {name: uniform, unit: prompt}
context: {kind: hashing, dim: 8}
pairs: {per_prompt: 2, pick: random}
train: {warmup: 0, schedule: constant, iterations: 2, batch_prompts: 4, batches_per_iteration: 3}
"""
ARMS = {
    "short": lambda text: -len(text),
    "long": len,
    "letters": lambda text: text.count("e") + text.count("n"),
}

RUNS = {
    "prompts": ("payoff.name=probe",),
    "batches": ("router={name: linucb, unit: batch}", "payoff.name=neg_loss"),
    "pairs": ("router={name: linucb, unit: pair}", "payoff.name=improvement", "pairs.tie=0.4"),
    "ensemble": ("router={name: uniform, mode: ensemble}", "payoff={name: neg_loss, hold_back: 4}"),
    "light advantage": ("router={name: uniform, unit: pair}", "payoff.name=light_advantage"),
    "full advantage": ("router={name: uniform, unit: pair}", "payoff.name=full_advantage"),
}

RECORDED = {
    "prompts": "d1898d0aefae0ce2",
    "batches": "068add4f199dcfb8",
    "pairs": "c8b92f00dd794dc3",
    "ensemble": "c466a4cf9a117cda",
    "light advantage": "68057bc8bb46caae",
    "full advantage": "86dcd150fb4ccffe",
}
"""Recorded before there was a session, when the loop did all of it.

Nothing here depends on the machine.
"""


class Alone:
    """The ranks of a run of one process."""

    main = True

    def shard(self, items: Sequence[Any]) -> list[Any]:
        return list(items)

    def gather(self, items: Sequence[Any]) -> list[Any]:
        return list(items)


def loop(
    tmp_path: Any, *settings: str, fails: tuple[str, ...] = (), breaks: tuple[int, ...] = ()
) -> Loop:
    path = tmp_path / "c.yaml"
    path.write_text(CONFIG)
    given = config.load(path, None, settings)
    examples = [
        Example(f"e{i}", f"count to {i}", "", lambda text: "seven" in text) for i in range(12)
    ]
    models = {name: FakeArm(score_of, fails=name in fails) for name, score_of in ARMS.items()}
    pool = RewardPool({}, models=dict(models))
    asker = build_asker(given, pool)
    mode = build_mode(given, asker, list(ARMS), list)
    contexts = Contexts(given.context, None)
    router = build_router(given.router, list(ARMS), contexts.of_unit(given.router.unit), given.seed)
    dispatcher = bound_dispatcher(given, router, list(ARMS), Ledger(":memory:"))
    session = Session(dispatcher, pool, contexts.prompts, payoff_rule(given), mode)
    ends = cast(Any, FakePolicy()), contexts, cast(Any, FakeTrainer(breaks=breaks))
    parts = RunParts(given, cast(Any, Alone()), examples, *ends, session, asker)
    return Loop(parts, cast(Any, FakeClock()), lambda _: None)


def told(made: Loop) -> list[Any]:
    """Every decision with its propensity and payoff."""
    rows = made.parts.dispatcher.ledger.decisions()
    payoffs = [None if np.isnan(x) else x for x in rows.payoff.tolist()]
    return list(zip(rows.unit, rows.arm.tolist(), rows.propensity.tolist(), payoffs, strict=True))


def digest(what: Any) -> str:
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def test_a_step_from_prompts_to_payoffs(tmp_path: Any) -> None:
    made = loop(tmp_path, "payoff.name=probe")
    lines = [made.step(t) for t in range(6)]
    policy, trainer = cast(Any, made.parts.policy), cast(Any, made.parts.trainer)
    assert (policy.snapshots, policy.synced) == (2, 6)  # the reference moves with every iteration
    assert (
        sum(map(len, trainer.batches))
        == made.counts["pairs"]
        == sum(line["pairs"] for line in lines)
    )
    assert lines[-1]["seconds"] == {
        "sample": 6,
        "embed": 6,
        "route": 12,
        "score": 12,
        "step": 6,
        "payoff": 6,
    }
    for unit, arm, propensity, payoff in told(made):
        assert unit.startswith("e")
        assert (arm in (0, 1, 2), propensity) == (True, 1 / 3)
        assert payoff is None or 0.0 <= payoff <= 1.0
    pairs: list[Pair] = [pair for batch in trainer.batches for pair in batch]
    assert all(pair.chosen != pair.rejected for pair in pairs)


@pytest.mark.parametrize("name", RUNS)
def test_what_fakes_decide_is_what_was_recorded(tmp_path: Any, name: str) -> None:
    made = loop(tmp_path, *RUNS[name])
    for t in range(6):
        made.step(t)
    assert digest(told(made)) == RECORDED[name]


def test_a_step_that_is_not_taken_pays_nothing(tmp_path: Any) -> None:
    made = loop(tmp_path, "payoff.name=neg_loss", breaks=(0,))
    line = made.step(0)
    assert (line["skipped"], line["payoffs"], made.counts["skipped_steps"]) == (True, 0, 1)
    assert made.step(1)["payoffs"] > 0


def test_three_steps_that_are_not_taken_end_a_run(tmp_path: Any) -> None:
    made = loop(tmp_path, breaks=(0, 1, 2))
    made.step(0)
    made.step(1)
    with pytest.raises(RunError, match="3 training losses"):
        made.step(2)


def test_where_nobody_answers_the_loop_stops(tmp_path: Any) -> None:
    made = loop(tmp_path, fails=tuple(ARMS))
    made.step(0)
    with pytest.raises(RunError, match="nobody can judge"):
        made.step(1)
