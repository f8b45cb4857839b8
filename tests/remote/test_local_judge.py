"""The local judge: log-odds of yes over no.

They are the same whatever shares the batch, and are those computed by hand.
"""

import numpy as np
import pytest

from reward_router.errors import InputError
from reward_router.rewards.kinds.local_judge import LocalJudge
from reward_router.rewards.pool import RewardPool
from reward_router.rewards.spec import ArmSpec, check_spec
from reward_router.rewards.tiny import tiny_llama

PROMPTS = ["Say hi.", "What is 2 + 2?"]
RESPONSES = [["hi", "hello there, friend", ""], ["4"]]


def test_scores_are_the_log_odds_of_the_next_token():
    import torch

    model, tokenizer = tiny_llama()
    arm = LocalJudge(model, tokenizer)
    scores = arm.score(PROMPTS, RESPONSES)
    for b, row in enumerate(RESPONSES):
        for n, response in enumerate(row):
            ids = tokenizer(
                arm.render(PROMPTS[b], response), add_special_tokens=False, return_tensors="pt"
            ).input_ids
            with torch.inference_mode():
                p = model(input_ids=ids).logits[0, -1].double().softmax(0)
            assert scores[b, n] == pytest.approx(
                float(p[arm.yes].sum().log() - p[arm.no].sum().log()), abs=1e-4
            )
    assert np.isnan(scores[1, 1:]).all()


@pytest.mark.parametrize("batch_tokens", [1, 200, 100_000])
def test_a_response_scores_in_a_batch_as_it_does_alone(batch_tokens):
    arm = LocalJudge(*tiny_llama(), batch_tokens=batch_tokens)
    np.testing.assert_allclose(
        arm.score(PROMPTS, RESPONSES),
        LocalJudge(*tiny_llama()).score(PROMPTS, RESPONSES),
        atol=1e-4,
    )


def test_what_does_not_fit_is_abstained_from():
    arm = LocalJudge(*tiny_llama(max_positions=400))
    scores = arm.score(["p"], [["short", "long " * 200]])
    assert np.isfinite(scores[0, 0])
    assert np.isnan(scores[0, 1])


def test_questions_are_arms_that_share_one_copy_of_the_weights():
    specs = {
        name: ArmSpec(name, "local_judge", "tiny", {"question": question})
        for name, question in {
            "polite": "Is it polite? Answer yes or no.",
            "brief": "Is it brief? Answer yes or no.",
        }.items()
    }
    pool = RewardPool(specs, resident=1)
    scores = [pool.score(name, PROMPTS, RESPONSES).scores_BN for name in specs]
    assert pool.loads == 1
    assert not np.allclose(scores[0], scores[1], equal_nan=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"question": " "}, "yes or no"),
        ({"prompt": "{response}"}, "place {question}"),
        ({"batch_tokens": 0}, "at least 1"),
    ],
)
def test_options_that_cannot_be_right_are_refused(options, said):
    with pytest.raises(InputError, match=said.replace("{", r"\{")):
        check_spec(ArmSpec("j", "local_judge", "tiny", options))
