"""A judge behind a chat endpoint: what it is asked, and what its answers come to."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_router.errors import InputError
from reward_router.rewards.kinds.judge import Judge, compared_pairs, pair_outcome
from reward_router.rewards.pool import RewardPool
from reward_router.rewards.spec import ArmSpec
from reward_router.testing.transport import FakeTransport

ROW = ["ok", "a longer response", "a response that is longer still"]


def says(text, **more):
    return {"choices": [{"message": {"content": text}, "finish_reason": "stop", **more}]}


def judge(respond, **options):
    fake = FakeTransport(respond)
    return Judge("http://j/v1", "m", calls={"canaries": 0}, transport=fake, **options), fake


def letters(first, second):
    """An answer of one token with these probabilities of A and B."""
    tops = [{"token": t, "logprob": float(np.log(p))} for t, p in (("A", first), (" B", second))]
    return says("A", logprobs={"content": [{"token": "A", "top_logprobs": tops}]})


@pytest.mark.parametrize("mode", ["pointwise", "pairwise", "listwise"])
def test_every_mode_orders_responses_as_the_judge_does(mode, server):
    state, url = server
    spec = ArmSpec(
        "j",
        "judge",
        "judge-1",
        {"url": f"{url}/v1", "mode": mode, "price": {"input": 1, "output": 2}},
    )
    result = RewardPool({"j": spec}).score("j", ["p", "q"], [ROW, ROW[::-1]])
    assert result.error is None
    assert result.notices == ()
    assert (np.diff(result.scores_BN[0]) > 0).all()
    np.testing.assert_array_equal(result.scores_BN[1], result.scores_BN[0][::-1])
    requests = {"pointwise": 3, "pairwise": 6, "listwise": 1}[mode]
    canaries = {"pointwise": 6, "pairwise": 6, "listwise": 3}[mode]
    assert state.posts == 2 * requests + canaries
    np.testing.assert_allclose(result.price_BN.sum(), state.posts * 140e-6)


def test_the_form_is_enforced_by_a_schema_where_there_is_one():
    arm, fake = judge(lambda body: says('{"score": 3}'))
    arm.score(["p"], [["r"]])
    form = fake.bodies[0]["response_format"]["json_schema"]
    assert form["strict"] is True
    assert form["schema"]["properties"]["score"] == {"type": "integer", "minimum": 1, "maximum": 10}
    arm, fake = judge(
        lambda body: says('```json\n{"score": 3}\n```'),
        schema=False,
        extra={"seed": 1, "max_tokens": None},
    )
    assert arm.score(["p"], [["r"]])[0, 0] == 3
    assert "response_format" not in fake.bodies[0]
    assert fake.bodies[0]["seed"] == 1
    assert "max_tokens" not in fake.bodies[0]


def test_criteria_are_weighted():
    arm, _ = judge(
        lambda body: says('{"correct": 8, "wordy": 2}'), criteria={"correct": 3, "wordy": -1}
    )
    assert arm.score(["p"], [["r"]])[0, 0] == pytest.approx((3 * 8 - 2) / 4)


@given(st.lists(st.floats(0.01, 1), min_size=10, max_size=10))
def test_the_expected_score_is_the_mean_under_the_models_own_probabilities(weights):
    p = np.array(weights) / (sum(weights) * 1.25)  # a fifth of the mass lies elsewhere
    tops = [{"token": str(k), "logprob": float(np.log(p[k]))} for k in range(10)] + [
        {"token": "I", "logprob": -1.7}
    ]
    arm, fake = judge(
        lambda body: says("7", logprobs={"content": [{"token": "7", "top_logprobs": tops}]}),
        logprobs=True,
    )
    assert arm.score(["p"], [["r"]])[0, 0] == pytest.approx(float(p @ np.arange(10) / p.sum()))
    assert fake.bodies[0]["logprobs"] is True
    assert fake.bodies[0]["max_tokens"] == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (says("7"), "offers no log-probabilities"),
        (
            says(
                "I",
                logprobs={
                    "content": [{"token": "I", "top_logprobs": [{"token": "I", "logprob": 0.0}]}]
                },
            ),
            "only 0 %|only 0%",
        ),
    ],
)
def test_an_expected_score_needs_probabilities_on_the_scale(answer, said):
    arm, _ = judge(lambda body: answer, logprobs=True)
    with pytest.raises(RuntimeError, match=said):
        arm.score(["p"], [["r"]])


def test_pairs_are_compared_in_both_orders_and_disagreement_is_a_tie():
    arm, fake = judge(lambda body: says('{"better": "A"}'), mode="pairwise")  # always the first
    np.testing.assert_array_equal(arm.score(["p"], [ROW]), [[0.5, 0.5, 0.5]])
    texts = [body["messages"][0]["content"] for body in fake.bodies]
    assert len(set(texts)) == 6
    assert arm.bias.share == 1.0
    assert arm.bias.disagreed == 3
    assert "won 100.0% of the comparisons" in arm.remarks()[0]


def test_a_judge_without_a_position_bias_is_said_to_have_none(server):
    arm, _ = judge(lambda body: says(json.dumps({"better": "tie"})), mode="pairwise")
    arm.score(["p"], [ROW])
    assert arm.bias.share == 0.5
    assert arm.bias.disagreed == 0


def test_probabilities_of_a_pair_are_averaged_over_its_orders():
    arm, _ = judge(lambda body: letters(0.6, 0.2), mode="pairwise", logprobs=True)
    np.testing.assert_allclose(arm.score(["p"], [["x", "y"]]), [[0.5, 0.5]])
    assert arm.bias.share == pytest.approx(0.75)


@given(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.5, 1.0]))
def test_the_outcome_of_a_pair_does_not_depend_on_who_is_named_first(there, back):
    assert pair_outcome(there, back) == 1 - pair_outcome(back, there)
    assert pair_outcome(there, back) == (there if there == 1 - back else 0.5)


@given(st.integers(0, 12), st.integers(1, 12))
def test_rivals_bound_the_comparisons(count, rivals):
    pairs = compared_pairs(count, rivals)
    assert set(pairs) <= set(compared_pairs(count, None))
    assert len(pairs) <= count * rivals
    if 2 * rivals >= count - 1:
        assert pairs == compared_pairs(count, None)
    met = [sum(n in pair for pair in pairs) for n in range(count)]
    assert all(m == met[0] for m in met)


def test_a_list_is_shown_in_an_order_of_its_own_and_read_back_in_place():
    def by_length(body):
        shown = body["messages"][0]["content"].split("<response_")[1:]
        return says(
            json.dumps({f"response_{n + 1}": len(text) % 10 + 1 for n, text in enumerate(shown)})
        )

    arm, fake = judge(by_length, mode="listwise")
    rows = [arm.score(["p"], [row])[0] for row in (ROW, ROW[::-1])]
    np.testing.assert_array_equal(rows[0], rows[1][::-1])
    assert len(fake.bodies) == 1  # the same group is the same question


def test_a_list_with_a_score_too_few_is_a_failure():
    arm, _ = judge(lambda body: says('{"response_1": 5}'), mode="listwise")
    with pytest.raises(RuntimeError, match="scored 1 of 3"):
        arm.score(["p"], [ROW])


def test_prompts_of_one_model_are_several_arms():
    arms = [
        judge(lambda body: says('{"score": 3}'), rubric=rubric)
        for rubric in ("Be brief.", "Be correct.")
    ]
    for arm, _ in arms:
        arm.score(["p"], [["r"]])
    texts = [fake.bodies[0]["messages"][0]["content"] for _, fake in arms]
    assert "Be brief." in texts[0]
    assert "Be correct." in texts[1]


def test_a_response_cannot_fill_the_template():
    arm, fake = judge(lambda body: says('{"score": 3}'), prompt="{prompt} / {response} / {form}")
    arm.score(["{response}"], [["{form} {rubric}"]])
    assert fake.bodies[0]["messages"][0]["content"].startswith(
        "{response} / {form} {rubric} / Answer with JSON only"
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "pointwse"}, "did you mean pointwise"),
        ({"prompt": "no place"}, "needs a place {response}"),
        ({"mode": "pairwise", "prompt": "{a}"}, "needs a place {b}"),
        ({"scale": [3, 3]}, "the lowest and the highest"),
        ({"scale": [1, 10], "logprobs": True}, "one digit"),
        ({"rivals": 2}, "with mode: pairwise"),
        ({"criteria": {}}, "names and weights"),
        ({"criteria": {"a": 1}, "mode": "listwise"}, "belong to mode: pointwise"),
        ({"extra": {"api_key": "abcdefgh"}}, "holds a secret"),
    ],
)
def test_options_that_cannot_be_right_are_refused(options, said):
    with pytest.raises(InputError, match=said.replace("{", r"\{")):
        Judge("http://j/v1", "m", **options)
