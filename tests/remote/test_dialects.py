"""Every dialect against a server that speaks it.

The scores are the served model's raw scores, in place.
"""

import numpy as np
import pytest

from reward_router.errors import InputError
from reward_router.rewards.pool import RewardPool
from reward_router.rewards.remote.reading import fill, follow, parse_path
from reward_router.rewards.spec import ArmSpec, build_arm

PROMPTS = [
    "Say hi.",
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Bye?"}],
]
RESPONSES = [["hi", "hello there", "good day to you, my friend"], ["bye"]]
TEXT = "{response}"
GENERIC = {"request": {"answers": "{responses}", "for": "{model}"}, "answer": "$.out[*].score"}
DIALECTS = {
    "vllm": {"model": "rm"},
    "vllm rendered": {"dialect": "vllm", "text": TEXT, "model": "rm"},
    "vllm-pooling": {},
    "vllm-pooling by token": {"dialect": "vllm-pooling", "reduction": "last", "text": TEXT},
    "sglang": {"text": TEXT},
    "tei": {"output": "good"},
    "tei rendered": {"dialect": "tei", "text": TEXT, "output": "good"},
    "openrlhf": {"text": TEXT},
    "slime": {"path": "/slime"},
    "generic": {"path": "/generic", **GENERIC},
}


def spec(name, url, **more):
    options = {"dialect": name.split()[0], **DIALECTS[name], **more}
    model = options.pop("model", None)
    return ArmSpec("arm", "http", model, {"url": url + options.pop("path", ""), **options})


@pytest.mark.parametrize("name", DIALECTS)
def test_scores_are_those_of_the_served_model(name, server, worth):
    pool = RewardPool({"arm": spec(name, server[1])})
    result = pool.score("arm", PROMPTS, RESPONSES)
    assert result.error is None
    for b, row in enumerate(RESPONSES):
        np.testing.assert_allclose(result.scores_BN[b, : len(row)], [worth(text) for text in row])
    assert np.isnan(result.scores_BN[1, 1:]).all()
    assert result.notices == ()


@pytest.mark.parametrize("name", ["sglang", "openrlhf"])
def test_a_dialect_of_one_text_asks_how_it_is_rendered(name, server):
    wanted = spec(name, server[1])
    bare = {key: value for key, value in wanted.options.items() if key != "text"}
    with pytest.raises(InputError, match="give tokenizer"):
        build_arm(ArmSpec("arm", "http", None, bare))


def test_batches_hold_what_the_dialect_allows(server):
    state, url = server
    RewardPool({"arm": spec("vllm rendered", url, calls={"canaries": 0})}).score(
        "arm", PROMPTS, RESPONSES
    )
    assert state.posts == 1
    RewardPool({"arm": spec("vllm", url, calls={"canaries": 0})}).score("arm", PROMPTS, RESPONSES)
    assert state.posts == 1 + 4


def test_one_text_that_is_too_long_fails_alone_and_the_rest_of_its_batch_is_scored(server, worth):
    state, url = server
    state.mode = "too long"
    pool = RewardPool({"arm": spec("vllm rendered", url, calls={"canaries": 0})})
    result = pool.score("arm", PROMPTS, [["hi", "hello"], ["x" * 3000]])
    np.testing.assert_allclose(result.scores_BN[0], [worth("hi"), worth("hello")])
    assert list(result.row_errors) == [1]
    assert "maximum context length" in result.row_errors[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "localhost:8000"}, "the address of a server"),
        ({"url": "http://h", "dialect": "vlm"}, "did you mean vllm"),
        (
            {"url": "http://h", "dialect": "generic", "request": {"x": "{reponse}"}, "answer": "a"},
            "has a place {reponse}",
        ),
        ({"url": "http://h", "dialect": "generic"}, "needs request"),
        (
            {"url": "http://h", "dialect": "generic", "request": ["{response}"], "answer": "a..b"},
            "no path at character",
        ),
        ({"url": "http://h", "text": "no place"}, "needs a place"),
        ({"url": "http://h", "batch": 8}, "holds one response"),
        ({"url": "http://h", "calls": {"timout": 3}}, "did you mean timeout"),
        ({"url": "http://h", "calls": {"timeout": 0}}, "allowed a number from 0.001"),
        ({"url": "http://h", "price": {"in": 3}}, "has no key 'in'"),
    ],
)
def test_options_that_cannot_be_right_are_refused_before_anything_is_sent(options, said):
    with pytest.raises(InputError, match=said.replace("{", r"\{")):
        build_arm(ArmSpec("arm", "http", None, options))


def test_a_template_is_filled_once():
    assert fill({"a": "{prompt}"}, {"prompt": "{response}", "response": "no"}) == {
        "a": "{response}"
    }
    assert fill("<{prompt}|{other}>", {"prompt": "{other}"}) == "<{other}|{other}>"


def test_a_path_leads_to_one_value_or_to_all():
    tree = {"data": [{"v": [1, 2]}, {"v": [3, 4]}]}
    assert follow(tree, parse_path("data[*].v[-1]", "answer")) == [2, 4]
    assert follow(tree, parse_path("$.data[0].v[0]", "answer")) == 1
    assert follow(5, parse_path("$", "answer")) == 5
