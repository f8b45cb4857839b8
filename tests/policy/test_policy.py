"""The policy: keyed sampling, the merged sampler, the reference.

Also tested are the ends of responses, and prompts of models without a template.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the packages of the extra `train`")

from reward_router.config import PolicyConfig, TrainConfig  # noqa: E402
from reward_router.errors import InputError  # noqa: E402
from reward_router.policy import Policy  # noqa: E402
from reward_router.responses import Response  # noqa: E402

PROMPTS = ["Say hi.", "Name three fruits that grow on trees."]


@pytest.fixture
def policy() -> Callable[..., Policy]:
    def make(**settings: object) -> Policy:
        settings = {
            "model": "tiny",
            "device": "cpu",
            "sample_dtype": "float32",
            "max_new_tokens": 12,
        } | settings
        return Policy(PolicyConfig(**settings), TrainConfig(), 0)  # type: ignore[arg-type]

    return make


def disturb(policy: Policy, scale: float = 0.3) -> None:
    """An adapter that changes the logits."""
    generator = torch.Generator().manual_seed(1)
    state = {
        k: torch.randn(v.shape, generator=generator) * scale
        for k, v in policy.adapter_state().items()
    }
    policy.load_adapter(state)
    policy.sync()


def test_the_same_step_draws_the_same_responses(policy: Callable[..., Policy]) -> None:
    p = policy()
    first = p.sample(PROMPTS, ["a", "b"], 3, 7)
    assert p.sample(PROMPTS, ["a", "b"], 3, 7) == first
    assert p.sample(PROMPTS, ["a", "b"], 3, 8) != first
    assert p.sample(PROMPTS, ["a", "c"], 3, 7)[1] != first[1]
    assert p.sample(PROMPTS[1:], ["b"], 3, 7) == first[1:]  # whatever else is in the batch
    assert len(set(first[0])) > 1


def test_the_sampler_is_the_adapted_model(policy: Callable[..., Policy]) -> None:
    p = policy()
    batch = p.tokenize(PROMPTS)
    with torch.no_grad():
        base = p.sampler.model(**batch).logits  # type: ignore[union-attr]
        disturb(p)
        wanted = p.model(**batch).logits
        got = p.sampler.model(**batch).logits  # type: ignore[union-attr]
    real = batch["attention_mask"].bool()
    assert torch.allclose(wanted[real], got[real], atol=1e-4)
    assert not torch.allclose(base[real], got[real], atol=1e-2)


def test_the_reference_is_a_snapshot(policy: Callable[..., Policy]) -> None:
    p = policy()
    disturb(p)
    p.snapshot_reference()
    kept = p.adapter_state("policy")
    disturb(p, 0.1)
    reference = p.adapter_state("reference")
    assert all(torch.equal(reference[k], kept[k]) for k in kept)
    batch = p.tokenize(PROMPTS)
    with torch.no_grad(), p.using("reference"):
        under_reference = p.model(**batch).logits
    p.load_adapter(kept)
    with torch.no_grad():
        assert torch.equal(p.model(**batch).logits, under_reference)
    assert all(x.requires_grad for n, x in p.model.named_parameters() if ".policy." in n)


def test_a_response_knows_whether_it_ended(policy: Callable[..., Policy]) -> None:
    p = policy(max_new_tokens=60, temperature=3.0)
    flat = [r for group in p.sample(PROMPTS, ["a", "b"], 30, 0) for r in group]
    assert {r.finished for r in flat} == {
        True,
        False,
    }  # near uniform over 259 ids: about one in five ends
    for r in flat:
        own = p.tokenizer(str(r), add_special_tokens=False)["input_ids"]
        assert p.response_ids(r) == ([*own, p.eos] if r.finished else own)
    assert p.response_ids("plain text")[-1] == p.eos
    assert Response("x", finished=False) == "x"


def test_a_base_model_reads_the_prompt_as_it_is(policy: Callable[..., Policy]) -> None:
    p = policy(system="")
    p.tokenizer.chat_template = None
    prompt = "**Question:** Is it so? Solution:"
    assert p.render(prompt) == prompt
    plain = p.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    assert p.prompt_ids(prompt) == plain  # this tokenizer adds nothing of its own
    from tokenizers.processors import TemplateProcessing

    bos = p.tokenizer.bos_token
    p.tokenizer._tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, p.tokenizer.bos_token_id)]
    )
    assert p.prompt_ids(prompt) == [p.tokenizer.bos_token_id, *plain]


def test_long_prompts(policy: Callable[..., Policy]) -> None:
    p = policy(max_prompt_tokens=60)
    assert p.takes("short")
    assert not p.takes("long " * 60)
    with pytest.raises(InputError, match="max_prompt_tokens allows 60"):
        p.prompt_ids("long " * 60)


def test_embeddings_of_no_prompts(policy: Callable[..., Policy]) -> None:
    p = policy()
    assert p.embed([], "last_hidden").shape == (0, 64)
    rows = p.embed(PROMPTS, "last_hidden")
    assert np.allclose(rows[0], p.embed(PROMPTS[:1], "last_hidden")[0], atol=1e-5)


def test_a_saved_adapter_is_peft_s(policy: Callable[..., Policy], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    p = policy()
    disturb(p)
    p.save_pretrained(tmp_path / "policy")
    assert sorted(f.name for f in (tmp_path / "policy").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    saved = load_file(tmp_path / "policy" / "adapter_model.safetensors")
    assert saved.keys() == p.adapter_state().keys()


def test_no_token_of_probability_0_is_drawn() -> None:
    """A uniform that rounds to 1, one that is 0, and mass at either end of the vocabulary."""
    from reward_router.policy import draw_tokens

    p_BV = torch.tensor(
        [[0.25, 0.75, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.5, 0.5, 0.0], [0.1, 0.2, 0.3, 0.4]]
    )
    for u, wanted in ((1.0 - 2.0**-53, [1, 2, 2, 3]), (0.0, [0, 2, 1, 0]), (0.5, [1, 2, 2, 2])):
        u_B = torch.full((4,), u, dtype=torch.float64)
        token_B = draw_tokens(p_BV, p_BV.cumsum(-1), u_B)[:, 0]
        assert token_B.tolist() == wanted
    generator = torch.Generator().manual_seed(0)
    p_BV = torch.softmax(torch.randn(2000, 50, generator=generator) * 20, -1)
    u_B = torch.rand(2000, dtype=torch.float64, generator=generator)
    u_B[::2] = 1.0 - 2.0**-53
    token_B = draw_tokens(p_BV, p_BV.cumsum(-1), u_B)
    assert (p_BV.gather(1, token_B) > 0).all()
    inside = (u_B * p_BV.cumsum(-1)[:, -1]).float()[
        1::2
    ]  # elsewhere the draw is the plain inverse of the distribution
    plain = torch.searchsorted(p_BV.cumsum(-1)[1::2], inside[:, None], right=True)
    assert (token_B[1::2] == plain).float().mean() > 0.999


def test_responses_leave_the_batch_when_they_end_and_nothing_else_changes(
    policy: Callable[..., Policy],
) -> None:
    """Against one forward over the whole text for every token.

    There is no cache, no batch, and no response that leaves.
    """
    from reward_router.keyed import rng

    p = policy(max_new_tokens=30)
    model = p.sampler.model  # type: ignore[union-attr]
    bias = torch.zeros(model.get_output_embeddings().out_features)
    bias[p.eos] = 1.5  # so that responses end at different places
    layer = model.get_output_embeddings()
    layer.bias = torch.nn.Parameter(bias)
    groups = p.sample(PROMPTS, ["a", "b"], 8, 3)
    assert 0 < sum(response.finished for group in groups for response in group) < 16

    for prompt, name, group in zip(PROMPTS, ["a", "b"], groups, strict=True):
        for n, response in enumerate(group):
            uniforms = rng(0, "sample", 3, f"{name}/{n}").random(30)
            ids = p.prompt_ids(prompt)
            made: list[int] = []
            for u in uniforms:
                with torch.no_grad():
                    logits_V = model(input_ids=torch.tensor([[*ids, *made]])).logits[0, -1]
                cdf_V = torch.softmax(logits_V.double() / p.config.temperature, -1).cumsum(-1)
                made.append(
                    int(torch.searchsorted(cdf_V, torch.tensor(u * float(cdf_V[-1])), right=True))
                )
                if made[-1] == p.eos:
                    break
            assert response == p.tokenizer.decode(made, skip_special_tokens=True)
            assert response.finished == (made[-1] == p.eos)
