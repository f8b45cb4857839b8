"""Learning rates and mini-batches.

Tested are laws of the schedule, and a whole run against a loop written by hand.
"""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the packages of the extra `train`")

from reward_router import keyed  # noqa: E402
from reward_router.config import Config, PolicyConfig, TrainConfig  # noqa: E402
from reward_router.distributed import Ranks  # noqa: E402
from reward_router.policy import Policy  # noqa: E402
from reward_router.responses import Response  # noqa: E402
from reward_router.training.schedule import Schedule  # noqa: E402
from reward_router.training.step import Pair, Trainer  # noqa: E402

WORDS = ["fig", "apple", "pear", "plum", "date", "lime", "kiwi", "nut"]
BATCHES = [
    [
        Pair(
            f"Name fruit number {i}.",
            f"{WORDS[(i + b) % 8]} {i}",
            Response(f"a {WORDS[(3 * i + b) % 8]}, a", i % 3 > 0),
        )
        for i in range(n)
    ]
    for b, n in enumerate((6, 0, 5, 2))
]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.floats(0, 0.99),
    st.sampled_from(["constant", "linear", "cosine"]),
    st.integers(1, 9),
    st.integers(1, 9),
)
def test_rates_rise_then_fall_between_zero_and_lr(
    warmup: float, kind: Any, batches: int, per_batch: int
) -> None:
    schedule = Schedule(2.0, warmup, kind, batches, per_batch)
    rates = [schedule.rate(b, k / per_batch) for b in range(batches) for k in range(per_batch)]
    warm = schedule.warm_steps
    assert warm == math.ceil(warmup * (batches * per_batch))
    assert all(0 < r <= 2.0 for r in rates)
    assert rates[:warm] == pytest.approx([2.0 * (n + 1) / warm for n in range(warm)])
    assert all(
        later <= earlier + 1e-12
        for earlier, later in zip(rates[warm:], rates[warm + 1 :], strict=False)
    )
    if kind == "constant":
        assert set(rates[warm:]) <= {2.0}


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_rates_are_those_of_transformers_one_step_on(kind: str) -> None:
    """Ours begins at lr / W where transformers begins at 0; after the warm-up both are one."""
    transformers = pytest.importorskip("transformers")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3.0)
    theirs = transformers.get_scheduler(kind, optimizer, num_warmup_steps=4, num_training_steps=20)
    schedule = Schedule(3.0, 4, kind, 10, 2)  # type: ignore[arg-type]
    for n in range(20):
        if n >= 4:
            assert schedule.rate(n // 2, n % 2 / 2) == pytest.approx(
                optimizer.param_groups[0]["lr"]
            )
        optimizer.step()
        theirs.step()


def test_a_warm_up_is_a_share_or_whole_steps() -> None:
    with pytest.raises(ValueError, match=r"neither a share below 1 nor a whole number"):
        Config.model_validate({"train": {"warmup": 2.5}})
    assert Schedule(1.0, 3, batches=10).warm_steps == 3
    assert Schedule(1.0, 0.25, batches=10).warm_steps == 3


def logps(policy: Policy, adapter: str, prompt: Any, response: str) -> Any:
    """(sum, mean) log-probability of one response, the plain way.

    That is all logits, one text at a time, and no padding.
    """
    start, own = policy.prompt_ids(prompt), policy.response_ids(response)
    policy.model.set_adapter(adapter, inference_mode=adapter != "policy")
    logits = policy.model(input_ids=torch.tensor([start + own])).logits[0]
    policy.model.set_adapter("policy")
    every = torch.log_softmax(logits.float(), -1)
    picked = torch.stack([every[len(start) + i - 1, token] for i, token in enumerate(own)])
    return picked.sum(), picked.mean()


def by_hand(policy: Policy, pairs: list[Pair], reference: list[Any], beta: float) -> list[Any]:
    losses = []
    for pair, (ref_won, ref_lost) in zip(pairs, reference, strict=True):
        won, mean = logps(policy, "policy", pair.prompt, pair.chosen)
        lost, _ = logps(policy, "policy", pair.prompt, pair.rejected)
        margin = beta * ((won - ref_won) - (lost - ref_lost))
        losses.append(torch.log1p(torch.exp(-margin)) - mean)
    return losses


@pytest.mark.parametrize("new_reference", [True, False])
def test_a_run_equals_a_loop_written_by_hand(new_reference: bool) -> None:
    """Two passes in mini-batches of four over batches of six, no, five and two pairs.

    There is a warm-up of three steps, then cosine.
    """
    config = TrainConfig(
        loss="dpo+nll",
        lr=2e-3,
        warmup=3,
        schedule="cosine",
        steps_per_batch=2,
        mini_batch=4,
        micro_batch=2,
    )
    ours, hand = (Policy(PolicyConfig(model="tiny", device="cpu"), config, 0) for _ in range(2))
    schedule = Schedule(config.lr, 3, "cosine", batches=4, per_batch=4)
    trainer = Trainer(ours, config, Ranks("cpu").accelerator, schedule, seed=5)
    parameters = [p for p in hand.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=0.0)
    for t, pairs in enumerate(BATCHES):
        if new_reference or t == 0:
            ours.snapshot_reference()
            hand.snapshot_reference()
        result = trainer.step(pairs, t)

        with torch.no_grad():
            reference = [
                [logps(hand, "reference", p.prompt, text)[0] for text in (p.chosen, p.rejected)]
                for p in pairs
            ]
            first = [float(x) for x in by_hand(hand, pairs, reference, config.beta)]
        rates, parts = [], math.ceil(len(pairs) / 4)
        for epoch in range(2 if pairs else 0):
            order = keyed.rng(5, "minibatch", t, str(epoch)).permutation(len(pairs))
            for part in np.array_split(order if parts > 1 else np.arange(len(pairs)), parts):
                before = 4 * (t + len(rates) / (2 * parts))  # planned steps before this one
                left = (16 - before) / (16 - 3)
                rise, fall = (before + 1) / 3, (1 + math.cos(math.pi * (1 - left))) / 2
                rates.append(config.lr * (rise if before < 3 else fall))
                rows = [int(i) for i in part]
                loss = by_hand(
                    hand, [pairs[i] for i in rows], [reference[i] for i in rows], config.beta
                )
                optimizer.zero_grad()
                (sum(loss) / len(loss)).backward()
                torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
                optimizer.param_groups[0]["lr"] = rates[-1]
                optimizer.step()
        assert result.lr_S == pytest.approx(rates)
        assert result.loss_P == pytest.approx(first, abs=1e-4)
    mine, other = ours.adapter_state(), hand.adapter_state()
    assert all(torch.allclose(mine[k], other[k], atol=2e-5) for k in mine)
    assert any(not torch.equal(mine[k], other[k] * 0) for k in mine if "lora_B" in k)


def test_sixteen_pairs_twice_in_fours_are_eight_steps() -> None:
    config = TrainConfig(lr=1e-3, steps_per_batch=2, mini_batch=4, micro_batch=8)
    policy = Policy(PolicyConfig(model="tiny", device="cpu"), config, 0)
    trainer = Trainer(policy, config, Ranks("cpu").accelerator)
    policy.snapshot_reference()
    pairs = [Pair(f"Count to {i}.", f"{i} ok", f"no {i}") for i in range(16)]
    before = trainer.losses(pairs)
    policy.at_reference = True
    result = trainer.step(pairs)
    assert len(result.lr_S) == 8
    assert np.allclose(result.loss_P, before, atol=1e-5)
    plan = trainer._plan(16, 16, 0)
    for epoch in (plan[:4], plan[4:]):
        assert sorted(i for part in epoch for i in part.rows) == list(range(16))
    assert [p.rows for p in plan[:4]] != [p.rows for p in plan[4:]]
