"""verl's own managers and data against the server; without verl, the client that they use."""

import asyncio

import pytest
from running import CONFIG, Running

from reward_router.errors import InputError, RunError
from reward_router.integrations.client import RouterClient


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verl")
    path = folder / "serve.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    with Running(path, folder / "ledger.sqlite") as server:
        yield server.url


def test_the_client_sends_again_and_counts_once(url):
    client = RouterClient(url)
    sample = {"prompt": "p", "response": "r", "group": "g", "size": 2, "request_id": "same"}
    assert client.reward(sample) == client.reward(sample)
    with pytest.raises(InputError, match="response"):
        client.reward({"prompt": "p"})


def test_without_a_server_nothing_is_invented(monkeypatch):
    with pytest.raises(RunError, match="nothing was invented"):
        RouterClient("http://127.0.0.1:9", seconds=0.5).reward({"prompt": "p", "response": "r"})
    monkeypatch.delenv("REWARD_ROUTER_URL", raising=False)
    with pytest.raises(InputError, match="REWARD_ROUTER_URL"):
        RouterClient()


def test_compute_score_needs_the_prompt(url):
    from reward_router.integrations.verl.score import compute_score

    with pytest.raises(InputError, match="extra_info"):
        asyncio.run(compute_score("d", "r", "7", {}, url=url))
    info = {"prompt": [{"role": "user", "content": "3 + 4?"}]}
    said = asyncio.run(compute_score("d", "7", "7", info, url=url))
    assert set(said) == {"score", "acc", "router_arm", "router_decision"}
    assert asyncio.iscoroutinefunction(compute_score)  # else verl would not await it


class Tokens:
    """All that verl's managers need of a tokenizer."""

    def decode(self, ids, skip_special_tokens=True):
        return " ".join(f"w{int(i)}" for i in ids)


def rollout(verl, uid: str, length: int):
    import numpy as np
    import torch

    tensors = {
        "prompts": torch.ones(1, 2, dtype=torch.long),
        "responses": torch.arange(length)[None],
        "attention_mask": torch.ones(1, 2 + length, dtype=torch.long),
    }

    def column(value):
        made = np.empty(1, dtype=object)
        made[0] = value
        return made

    columns = {
        "uid": column(uid),
        "raw_prompt": column([{"role": "user", "content": "3 + 4?"}]),
        "data_source": column("test"),
        "reward_model": column({"ground_truth": "7"}),
        "extra_info": column({"prompt": "3 + 4?"}),
        "global_steps": column(5),
    }
    return verl.DataProto.from_dict(tensors=tensors, non_tensors=columns)


def test_verls_own_managers(url, monkeypatch):
    pytest.importorskip("ray", reason="needs verl (make test-trainers)")
    verl = pytest.importorskip("verl", reason="needs verl (make test-trainers)")
    from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager
    from verl.utils.import_utils import load_extern_object

    from reward_router.integrations.verl.score import compute_score

    monkeypatch.setenv("REWARD_ROUTER_URL", url)
    config = {"actor_rollout_ref": {"rollout": {"n": 2}}}
    manager_class = load_extern_object(
        "pkg://reward_router.integrations.verl.manager", "RoutedRewardManager"
    )
    manager = manager_class(config, Tokens(), None)

    async def both():
        first = await manager.run_single(rollout(verl, "uid-1", 3))
        second = await manager.run_single(rollout(verl, "uid-1", 5))
        other = await manager.run_single(rollout(verl, "uid-2", 4))
        naive = NaiveRewardManager(None, Tokens(), compute_score)
        return first, second, other, await naive.run_single(rollout(verl, "uid-3", 4))

    first, second, other, naive = asyncio.run(both())
    told = [answer["reward_extra_info"] for answer in (first, second, other)]
    assert told[0]["router_decision"] == told[1]["router_decision"] != told[2]["router_decision"]
    assert told[0]["router_arm"] == told[1]["router_arm"]
    assert all(set(each) == set(told[0]) for each in told)
    assert isinstance(naive["reward_score"], float)
    assert naive["reward_extra_info"]["router_arm"] in ("short", "long")
