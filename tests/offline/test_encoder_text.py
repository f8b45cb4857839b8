"""Laws of the encoder.

It is symmetric and free of padding, the response is kept where the prompt is cut, and messages are
as the authors write them.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_router.errors import InputError
from reward_router.offline.encoder import TextEncoder
from reward_router.offline.text import fit, halves, prompt_text, without_middle

IDS = st.lists(st.integers(0, 9), max_size=60)


@given(IDS, IDS, st.integers(8, 60))
def test_what_fits_is_whole_and_what_does_not_loses_its_middle(
    prompt: list[int], response: list[int], room: int
) -> None:
    got = fit(prompt, response, room)
    assert len(got) == min(room, len(prompt) + len(response))
    if len(prompt) + len(response) <= room:
        assert got == prompt + response
    if len(response) <= room - min(len(prompt), room // 4):
        assert got[len(got) - len(response) :] == response
        kept = got[: len(got) - len(response)]
        assert kept == without_middle(prompt, len(kept))
    else:
        assert got[-1] == response[-1]


def test_messages_and_text_are_the_authors_form() -> None:
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "2 + 2"},
    ]
    assert (
        "".join(halves(turns, "4"))
        == "<|user|>: Hi\n<|assistant|>: Yes?\n<|user|>: 2 + 2\n<|assistant|>: 4"
    )
    assert halves(turns, "4") == halves(prompt_text(turns), "4")
    system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert halves(system, "x")[0] == "<|system|>: Be brief.\n<|user|>: Hi\n"


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_padding_and_company_change_nothing(pooling: str) -> None:
    encoder = TextEncoder("tiny", pooling=pooling, max_tokens=64, batch=3)
    prompts, responses = (
        ["Say hi", "Count to a rather large number", "x"],
        ["hi", "one two three four", "y z"],
    )
    together = encoder.encode(prompts, responses)
    alone = np.vstack([encoder.encode([p], [r]) for p, r in zip(prompts, responses, strict=True)])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0)


def test_features_are_symmetric_and_tell_responses_apart() -> None:
    encoder = TextEncoder("tiny", max_tokens=64)
    forth = encoder.features(["p", "q"], ["a", "bb"], ["cc", "d"])
    np.testing.assert_array_equal(forth, encoder.features(["p", "q"], ["cc", "d"], ["a", "bb"]))
    assert not np.allclose(forth, encoder.features(["p", "q"], ["a", "bb"], ["a", "d"]))


def test_long_texts_fit_the_model_and_keep_the_response() -> None:
    encoder = TextEncoder("tiny", max_tokens=40)
    ids = encoder.tokens(["a" * 500], ["the answer"])[0]
    assert len(ids) == 40
    assert encoder.tokenizer.decode(ids).endswith("<|assistant|>: the answer")


def test_bad_options_are_one_clear_line() -> None:
    with pytest.raises(InputError, match="pooling 'max'; allowed: auto, last, mean"):
        TextEncoder("tiny", pooling="max")
    with pytest.raises(InputError, match="leaves 4 tokens"):
        TextEncoder("tiny", max_tokens=4)
    with pytest.raises(InputError, match="cannot be loaded"):
        TextEncoder("no/such-model-anywhere")
