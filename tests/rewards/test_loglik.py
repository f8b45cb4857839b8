"""Log-likelihood arms.

They are equal to scoring each response alone, whatever the batching, padding or sharing.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_router.errors import InputError
from reward_router.rewards.kinds.loglik import LogLik
from reward_router.rewards.tiny import tiny_llama

torch = pytest.importorskip("torch")

from reward_router.rewards.prefix import TokenScorer, padded, width_batches  # noqa: E402

PROMPTS = [
    "What is 2 + 2?",
    "Hi",
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a city."}],
]
RESPONSES = [
    ["4", "", "It is four.", "4"],
    ["hello there, friend"],
    ["Paris", "Rome!", "the city of Lyon, in France"],
]


@pytest.fixture(scope="module")
def tiny():
    return tiny_llama(seed=3)


def brute_force(model, tokenizer, prompt, response):
    """One sequence, one plain forward, full log-softmax."""
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    prefix = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True)[
        "input_ids"
    ]
    ids = [
        *prefix,
        *tokenizer(response, add_special_tokens=False)["input_ids"],
        tokenizer.eos_token_id,
    ]
    with torch.no_grad():
        logp = model(torch.tensor([ids])).logits.double().log_softmax(-1)[0]
    return np.array([logp[t - 1, ids[t]].item() for t in range(len(prefix), len(ids))])


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("batch_tokens", [1, 60, 4096])
def test_tokens_equal_brute_force(tiny, share, batch_tokens):
    arm = LogLik(*tiny, share=share, batch_tokens=batch_tokens)
    got = arm.token_logprobs(PROMPTS, RESPONSES)
    assert sorted(got) == [(b, n) for b, row in enumerate(RESPONSES) for n in range(len(row))]
    for (b, n), values in got.items():
        np.testing.assert_allclose(
            values, brute_force(*tiny, PROMPTS[b], RESPONSES[b][n]), atol=1e-4
        )


def test_reductions_are_sum_mean_and_difference_from_the_empty_prompt(tiny):
    expected = {"sum": [], "mean": [], "pmi": [], "pmi_sum": []}
    for response in RESPONSES[2]:
        given_prompt, given_empty = (brute_force(*tiny, p, response) for p in (PROMPTS[2], ""))
        expected["sum"].append(given_prompt.sum())
        expected["mean"].append(given_prompt.mean())
        expected["pmi"].append((given_prompt - given_empty).mean())
        expected["pmi_sum"].append((given_prompt - given_empty).sum())
    for reduction, values in expected.items():
        got = LogLik(*tiny, reduction=reduction).score([PROMPTS[2]], [RESPONSES[2]])
        np.testing.assert_allclose(got[0], values, atol=1e-3)


def test_ragged_rows_are_padded_with_nan_and_equal_responses_score_equally(tiny):
    scores = LogLik(*tiny).score(PROMPTS, RESPONSES)
    assert scores.shape == (3, 4)
    assert np.isnan(scores).sum() == 4
    assert scores[0, 0] == scores[0, 3]


def test_eos_as_pad_changes_nothing(tiny):
    model, tokenizer = tiny_llama(seed=3)
    tokenizer.pad_token = tokenizer.eos_token
    np.testing.assert_array_equal(
        LogLik(model, tokenizer).score(PROMPTS, RESPONSES), LogLik(*tiny).score(PROMPTS, RESPONSES)
    )


def test_sharing_saves_at_least_four_times(tiny):
    prompt, responses = "p" * 480, [chr(97 + n) * 63 for n in range(16)]
    shared, alone = LogLik(*tiny), LogLik(*tiny, share=False)
    np.testing.assert_allclose(
        shared.score([prompt], [responses]), alone.score([prompt], [responses]), atol=1e-4
    )
    assert alone.token_forwards >= 4 * shared.token_forwards


def test_what_does_not_fit_is_abstained_from(tiny):
    arm = LogLik(*tiny, max_length=60)
    scores = arm.score(["short", "p" * 100], [["fits", "x" * 60], ["never"]])
    assert np.isfinite(scores[0, 0])
    assert np.isnan([scores[0, 1], scores[1, 0]]).all()


@pytest.mark.parametrize("kind", ["mistral-window", "gemma-softcap", "gpt2", "mamba"])
def test_every_architecture_equals_its_own_plain_forward(kind):
    import transformers as hf

    _, tokenizer = tiny_llama()
    size = {"vocab_size": 259, "hidden_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 64}
    torch.manual_seed(0)
    model = {
        "mistral-window": lambda: hf.MistralForCausalLM(
            hf.MistralConfig(**size, **heads, sliding_window=8)
        ),
        "gemma-softcap": lambda: hf.Gemma2ForCausalLM(
            hf.Gemma2Config(
                **size,
                **heads,
                head_dim=16,
                sliding_window=8,
                final_logit_softcapping=0.5,
                pad_token_id=0,
            )
        ),
        "gpt2": lambda: hf.GPT2LMHeadModel(
            hf.GPT2Config(vocab_size=259, n_embd=32, n_layer=2, n_head=2, n_positions=256)
        ),
        "mamba": lambda: hf.MambaForCausalLM(
            hf.MambaConfig(**size, state_size=4, num_hidden_layers_=2)
        ),
    }[kind]().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(3)  # random weights are too small for attention to matter
    arm = LogLik(model, tokenizer)
    for (b, n), values in arm.token_logprobs(PROMPTS, RESPONSES).items():
        np.testing.assert_allclose(
            values, brute_force(model, tokenizer, PROMPTS[b], RESPONSES[b][n]), atol=1e-4
        )
    assert arm._scorer.abilities.cache == (kind != "mamba")
    assert arm._scorer.abilities.split == (kind != "gemma-softcap")


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120))
@settings(max_examples=100, deadline=None)
def test_batches_cover_every_row_once_within_the_limit(widths, limit):
    groups = width_batches(widths, limit)
    assert sorted(i for g in groups for i in g) == list(range(len(widths)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(widths[i] for i in group) <= limit


def test_padding_sides():
    assert padded([[7, 8], [9]], left=True)[0].tolist() == [[7, 8], [0, 9]]
    assert padded([[7, 8], [9]], left=False)[1].tolist() == [[1, 1], [1, 0]]


def test_nothing_to_score_runs_nothing(tiny):
    scorer = TokenScorer(tiny[0])
    assert scorer.logprobs([[1]], [[]]) == [[]]
    assert scorer.token_forwards == 0
    assert LogLik(*tiny).score([], []).shape == (0, 0)


def test_bad_options_are_named(tiny):
    model, tokenizer = tiny_llama()
    with pytest.raises(InputError, match="allowed: sum, mean"):
        LogLik(model, tokenizer, reduction="avg")
    tokenizer.chat_template = None
    with pytest.raises(InputError, match="chat template"):
        LogLik(model, tokenizer)
    assert np.isfinite(LogLik(model, tokenizer, chat_template="plain").score(["a"], [["b"]])).all()


def test_a_template_that_refuses_a_role_says_so(tiny):
    model, tokenizer = tiny_llama()
    refusing = (
        "{% for m in messages %}{% if m['role'] == 'system' %}"
        "{{ raise_exception('no system role') }}{% endif %}{% endfor %}"
    )
    with pytest.raises(InputError, match="no system role"):
        LogLik(model, tokenizer, chat_template=refusing).score([PROMPTS[2]], [["x"]])
