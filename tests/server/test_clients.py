"""The clients that trainers call as Python, against a server that runs.

SkyRL's environments and AReaL's wrapper are asked themselves where they are installed. slime and
ms-swift call as here, with objects of the shapes that their sources show.
"""

import asyncio
import importlib.util
import logging
import math
import pickle
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from running import CONFIG, Running

from reward_router.errors import InputError
from reward_router.integrations import areal
from reward_router.integrations.client import RouterClient, sample, shared_client, without_end
from reward_router.integrations.ms_swift import RoutedORM
from reward_router.integrations.slime import routed_rm
from reward_router.ledger import Ledger
from reward_router.ledger.columns import Decisions

PROMPT = [{"role": "user", "content": "What is 3 + 4?"}]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clients")
    path = folder / "serve.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    ledger = folder / "ledger.sqlite"
    with Running(path, ledger, "--group-size", "2") as server:
        yield server, ledger


@pytest.fixture
def ledger(place, monkeypatch):
    """The ledger of a server whose address the environment names, as users do."""
    server, path = place
    monkeypatch.setenv("REWARD_ROUTER_URL", server.url)
    shared_client.cache_clear()
    yield path
    shared_client.cache_clear()


def decisions(path: Path) -> Decisions:
    with Ledger(path, readonly=True) as store:
        return store.decisions(contexts=False)


def payoffs(path: Path) -> int:
    with Ledger(path, readonly=True) as store:
        return store.counts()["payoffs"]


def test_rewards_come_in_the_order_of_their_samples(ledger, monkeypatch):
    client = RouterClient()
    before = len(decisions(ledger).id)
    told = [sample(PROMPT, text, group="order", size=3) for text in ("7", "It is 8.", "No.")]
    given = client.rewards(told)
    assert len({each.decision_id for each in given}) == 1
    assert len(decisions(ledger).id) == before + 1
    assert client.rewards([]) == []
    # Whoever is answered first: the last one here, since each waits for the one after it.
    answered = [threading.Event() for _ in range(4)]
    answered[3].set()

    def backwards(one):
        answered[one + 1].wait(60)
        answered[one].set()
        return one

    monkeypatch.setattr(client, "reward", backwards)
    assert client.rewards([0, 1, 2]) == [0, 1, 2]


def test_only_what_the_server_reads_is_sent():
    told = sample(
        [{"role": "user", "content": "Hi?", "token_ids": [1]}], "Hi.", {"a": 1}, step=None
    )
    assert told == {"prompt": [{"role": "user", "content": "Hi?"}], "response": "Hi."}
    assert sample("p", "r", 7, group="g") == {
        "prompt": "p",
        "response": "r",
        "label": 7,
        "group": "g",
    }
    assert without_end("7.<|im_end|>\n") == "7."
    assert without_end("7.\n") == "7.\n"


def slime_sample(response: str, group_index: int | None) -> SimpleNamespace:
    """slime/utils/types.py, class Sample: what the function reads of it."""
    return SimpleNamespace(prompt=PROMPT, response=response, label="7", group_index=group_index)


def test_slime_groups_by_its_own_count(ledger):
    args = SimpleNamespace(n_samples_per_prompt=2)
    before, paid = len(decisions(ledger).id), payoffs(ledger)
    # Two visits of one prompt, their samples mixed: two groups, each paid when it is whole.
    samples = [slime_sample("7", 1), slime_sample("It is 8.", 2)]
    samples += [slime_sample("I say 8.", 1), slime_sample("7", 2)]
    rewards = asyncio.run(routed_rm(args, samples))
    assert all(isinstance(reward, float) and math.isfinite(reward) for reward in rewards)
    assert len(decisions(ledger).id) == before + 2
    assert payoffs(ledger) == paid + 2
    # Where slime evaluates, a sample has no group.
    assert isinstance(asyncio.run(routed_rm(args, slime_sample("7", None))), float)
    assert len(decisions(ledger).id) == before + 3


def swift_call(orm: RoutedORM, step: int, question: str) -> list[float]:
    """swift/rl_core/grpo_algorithm.py, compute_rewards_per_func: completions, then keywords."""
    completions = ["7", "I think 8."]
    turn = {"role": "user", "content": question}
    rows = [[turn, {"role": "assistant", "content": text}] for text in completions]
    return asyncio.run(
        orm(
            completions,
            trainer_state=SimpleNamespace(global_step=step),
            messages=rows,
            prompt_id=["prompt_0"] * 2,
            request_id=["chatcmpl-1", "chatcmpl-2"],
            finish_reason=["stop"] * 2,
            is_truncated=[False] * 2,
            rollout_infos=[{}] * 2,
            response_token_ids=[[], []],
            solution=["7", "7"],
        )
    )


def test_ms_swift_begins_its_count_anew_with_every_generation(ledger):
    orm = RoutedORM(args=SimpleNamespace(num_generations=2))
    assert asyncio.iscoroutinefunction(orm.__call__)  # all that ms-swift looks at
    before, paid = len(decisions(ledger).id), payoffs(ledger)
    assert len(swift_call(orm, 1, "3 + 4?")) == 2
    assert len(swift_call(orm, 2, "2 + 5?")) == 2
    made = decisions(ledger)
    assert made.step[before:].tolist() == [1, 2]
    assert payoffs(ledger) == paid + 2
    with pytest.raises(InputError, match="messages"):
        asyncio.run(orm(["7"]))


def test_areal_has_an_answer_in_its_time(ledger, monkeypatch, caplog):
    reward = pickle.loads(pickle.dumps(areal.routed_reward))
    row = {"messages": PROMPT, "answer": "7", "task": "gsm8k"}
    values = [reward("<s>3 + 4?", text, [1], [2], **row) for text in ("7<|im_end|>", "It is 8.")]
    assert all(map(math.isfinite, values))
    with Ledger(ledger, readonly=True) as store:
        assert not [call for call in store.calls().response if "<|im_end|>" in call]
    monkeypatch.setenv("REWARD_ROUTER_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(areal, "SECONDS", 0.4)
    shared_client.cache_clear()
    assert areal.routed_reward("p", "r") == 0.0
    assert "no verdict, 0 in its place" in caplog.text
    assert areal.SECONDS < 15


def areal_wrapper(monkeypatch: pytest.MonkeyPatch) -> type:
    """AReaL's own AsyncRewardWrapper. Its module needs nothing of AReaL but a logger; the package
    around it needs a hundred others.
    """
    found = importlib.util.find_spec("areal")
    if found is None or found.origin is None:
        pytest.skip("needs AReaL (make test-trainers)")
    for name in ("areal", "areal.utils"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["areal.utils"].logging = logging  # type: ignore[attr-defined]
    file = Path(found.origin).parent / "api" / "reward_api.py"
    spec = importlib.util.spec_from_file_location("areal_reward_api", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.AsyncRewardWrapper


def test_areals_own_wrapper_asks_in_another_process(ledger, monkeypatch):
    wrapper = areal_wrapper(monkeypatch)(areal.routed_reward, max_workers=1)
    before, paid = len(decisions(ledger).id), payoffs(ledger)
    row = {"messages": [{"role": "user", "content": "For AReaL: 3 + 4?"}], "answer": "7"}

    async def both() -> list[float]:
        # areal/workflow/rlvr.py, _compute_rewards: four positions, then the row.
        texts = ("7<|im_end|>", "Perhaps 8.<|im_end|>")
        return [await wrapper("<s>3 + 4?", text, [1], [2], **row) for text in texts]

    rewards = asyncio.run(both())
    type(wrapper)._atexit_shutdown_all()
    assert all(map(math.isfinite, rewards))
    assert len(decisions(ledger).id) == before + 1
    assert payoffs(ledger) == paid + 1


def test_skyrl_makes_the_environment_by_its_name(ledger):
    skyrl_gym = pytest.importorskip("skyrl_gym", reason="needs skyrl-gym (make test-trainers)")
    page = Path(__file__).parents[2] / "docs" / "trainers" / "skyrl.md"
    code = page.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    exec(compile(code, page.name, "exec"), {})
    before, paid = len(decisions(ledger).id), payoffs(ledger)
    told = []
    for text in ("7", "Perhaps it is 8."):
        extras = {"reward_spec": {"ground_truth": "7"}, "max_turns": 1}
        env = skyrl_gym.make("router", env_config={}, extras=extras)
        prompt, info = env.init([{"role": "user", "content": "For SkyRL: 3 + 4?"}])
        assert prompt[0]["role"] == "user"
        assert info == {}
        told.append(env.step(text))
    assert all(step["done"] and math.isfinite(step["reward"]) for step in told)
    assert len({step["metadata"]["router_decision"] for step in told}) == 1
    assert len(decisions(ledger).id) == before + 1
    assert payoffs(ledger) == paid + 1
    with pytest.raises(InputError, match="init"):
        skyrl_gym.make("router", env_config={}, extras={}).step("7")
