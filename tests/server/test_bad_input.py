"""Bad input is refused with one line that names the field; nothing is written; never a 5xx."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inside import Inside
from running import CONFIG, Running

from reward_router.ledger import Ledger

JUDGE = {"prompts": ["Say hi."], "responses": [["hi", "hello there"]]}
UNKNOWN = "0" * 32


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inside")
    path = folder / "serve.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    inside = Inside(path, folder / "ledger.sqlite")
    yield inside
    inside.close()


def refused(server, answer, status, field, *words):
    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert set(problem) == {"error", "field"}
    assert "\n" not in problem["error"]
    assert problem["field"] == field, problem
    for word in words:
        assert word in problem["error"]


JUDGED_BADLY = [
    ({**JUDGE, "prompts": []}, "prompts", "1 item"),
    ({**JUDGE, "prompts": [7]}, "prompts.0", "allowed a text"),
    ({**JUDGE, "prompts": [[{"role": "wizard", "content": "x"}]]}, "prompts.0", "wizard"),
    ({**JUDGE, "prompts": [[{"role": "user", "content": "\ud83d"}]]}, "prompts", "surrogate"),
    ({**JUDGE, "prompts": ["\ud83d"]}, "prompts", "surrogate"),
    ({**JUDGE, "responses": []}, "responses", "0 rows for 1 prompts"),
    ({**JUDGE, "responses": [[]]}, "responses.0", "1 item"),
    ({**JUDGE, "responses": [["a", 3]]}, "responses.0.1", "string"),
    ({**JUDGE, "responses": [["a", "\ud83d"]]}, "responses", "surrogate"),
    ({**JUDGE, "ids": ["a", "b"]}, "ids", "2 rows for 1 prompts"),
    ({**JUDGE, "step": -1}, "step", "greater than or equal to 0"),
    ({**JUDGE, "step": 2**60}, "step", "less than"),
    ({**JUDGE, "step": "3"}, "step", "integer"),
    ({**JUDGE, "contexts": [[1.0, 2.0]]}, "contexts", "allowed (B, 16)"),
    ({**JUDGE, "contexts": [[]]}, "contexts.0", "0 numbers"),
    ({**JUDGE, "gold": [[1]]}, "gold.0", "1 values for 2 responses"),
    ({**JUDGE, "gold": [[1, 0.5]]}, "gold.0.1", "allowed 1, 0 or null"),
    ({**JUDGE, "request_id": ""}, "request_id", ""),
    ({**JUDGE, "promts": []}, "promts", "not permitted"),
    ([JUDGE], "", "body"),
    (
        {"prompts": ["a", "b"], "responses": [["x"], ["y"]], "ids": ["same", "same"]},
        "ids.1",
        "occurs twice",
    ),
]


@pytest.mark.parametrize(("body", "field", "word"), JUDGED_BADLY)
def test_a_bad_request_to_judge_names_its_field(server, body, field, word):
    before = server.events
    content = json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    answer = server.post("/v1/judge", content=content, headers=headers)
    refused(server, answer, 422, field, word)
    assert server.events == before


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(server, number):
    before = server.events
    text = json.dumps({**JUDGE, "contexts": [["X"] * 16]}).replace('"X"', number)
    answer = server.post("/v1/judge", content=text, headers={"content-type": "application/json"})
    refused(server, answer, 422, "contexts.0.0", "finite")
    assert server.events == before


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[" * 5000, b"\xff\xfe", b'{"prompts": ["a"]', b"null", b"nul"]
)
def test_what_is_no_json_is_refused(server, content):
    before = server.events
    for path in ("/v1/judge", "/get_reward", "/slime", "/verify"):
        answer = server.post(path, content=content, headers={"content-type": "application/json"})
        assert answer.status_code in (400, 422), answer.text
        assert set(answer.json()) == {"error", "field"}
    assert server.events == before


def test_payoffs_that_cannot_be_given(server):
    made = server.post("/v1/route", {"prompts": ["a", "b"]}).json()["decisions"]
    one, two = [decision["decision_id"] for decision in made]
    give = {"payoffs": [{"decision_id": one, "value": 0.5}]}
    assert server.post("/v1/payoffs", give).json() == {"new": [True]}
    before = server.events

    def paying(*pairs, **more):
        payoffs = [{"decision_id": name, "value": value} for name, value in pairs]
        return server.post("/v1/payoffs", {"payoffs": payoffs, **more})

    other = paying((two, 0.1), (one, 0.6))
    refused(server, other, 409, "payoffs.1.value", "has the payoff 0.5 already")
    refused(server, paying((one, 0.5), raw=True), 409, "payoffs.0.value", "raw")
    unknown = paying((two, 0.1), (UNKNOWN, 0.1))
    refused(server, unknown, 404, "payoffs.1.decision_id", UNKNOWN)
    refused(server, paying(("not-an-id", 0.1)), 404, "payoffs.0.decision_id", "not-an-id")
    refused(server, paying((two, 1.5)), 422, "payoffs.0.value", "allowed 0 to 1")
    refused(server, paying(), 422, "payoffs", "1 item")
    twice = paying((two, 0.1), (two, 0.2))
    refused(server, twice, 409, "payoffs.0.value", "already")
    assert server.events == before
    assert paying((two, 0.1)).json() == {"new": [True]}


def test_scores_that_nobody_can_be_asked_for(server):
    before = server.events
    answer = server.post("/v1/score", JUDGE)
    refused(server, answer, 422, "arm", "either arm or decision_ids")
    refused(server, server.post("/v1/score", {**JUDGE, "arm": "no"}), 422, "arm", "short, long")
    by_unknown = {**JUDGE, "decision_ids": [UNKNOWN]}
    refused(server, server.post("/v1/score", by_unknown), 404, "decision_ids.0", UNKNOWN)
    assert server.events == before


def test_a_unit_that_comes_again_with_another_prompt(server):
    body = {"request_id": "again", "prompts": ["a"], "step": 5}
    assert server.post("/v1/route", body).status_code == 200
    before = server.events
    other = server.post("/v1/route", {**body, "prompts": ["something else"]})
    refused(server, other, 409, "prompts", "decided once")
    judged = {**JUDGE, "request_id": "judged"}
    assert server.post("/v1/judge", judged).status_code == 200
    before = server.events
    changed = server.post("/v1/judge", {**judged, "responses": [["hi", "bye"]]})
    refused(server, changed, 409, "request_id", "another body")
    assert server.events == before


def test_dialects_name_the_field(server):
    before = server.events
    openrlhf = {"query": ["a", "b"], "prompts": ["a"], "labels": ["", ""]}
    refused(server, server.post("/get_reward", openrlhf), 422, "prompts", "2 queries")
    nemo = {"responses_create_params": {"input": "x"}, "response": {"output": []}}
    refused(server, server.post("/verify", nemo), 422, "response.output", "message")
    refused(server, server.post("/slime", {"prompt": "x"}), 422, "response", "required")
    both = {"state": {"question": "q", "response": "r"}, "input": "x", "questions": []}
    assert server.post("/v1/decisions", both).status_code == 422
    assert server.events == before


def test_a_body_that_is_too_large_is_refused(server):
    before = server.events
    large = {**JUDGE, "responses": [["x" * 30_000, "y"]]}
    refused(server, server.post("/v1/judge", large), 413, "", "20000 bytes")

    async def parts():
        for _ in range(30):
            yield b" " * 1000

    streamed = server.post("/v1/judge", content=parts())
    refused(server, streamed, 413, "", "20000 bytes")
    assert server.events == before


def test_json_that_is_sent_as_something_else_is_told_so(server):
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = server.post("/v1/judge", content=json.dumps(JUDGE).encode(), headers=form)
    refused(server, answer, 422, "", "content-type", "application/json")
    nothing = server.post("/v1/judge", content=b"{}", headers={})
    refused(server, nothing, 422, "", "content-type", "application/json")


def test_unknown_paths_and_methods(server):
    assert server.ask("GET", "/v1/nothing").status_code == 404
    assert server.ask("GET", "/v1/judge").status_code == 405
    assert set(server.ask("GET", "/v1/judge").json()) == {"error", "field"}


PATHS = ["/v1/judge", "/v1/route", "/v1/score", "/v1/payoffs", "/get_reward", "/slime"]
PATHS += ["/llamafactory", "/v1/decisions", "/verify", "/v1/reward"]
KEYS = ["prompts", "responses", "ids", "step", "contexts", "gold", "request_id", "arm", "payoffs"]
KEYS += ["decision_ids", "raw", "source", "query", "labels", "prompt", "response", "label", "group"]
KEYS += ["size", "messages", "state", "input", "questions", "responses_create_params", "output"]
KEYS += ["decision_id", "value", "type", "choices", "levels", "role", "content", "question"]
TEXTS = st.text(max_size=6) | st.sampled_from(["user", "short", "score", "choice", UNKNOWN])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=12,
)


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(path=st.sampled_from(PATHS), body=VALUES)
def test_no_body_breaks_the_server(server, path, body):
    before = server.events
    content = json.dumps(body).encode()
    answer = server.post(path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code < 500, answer.text
    if answer.status_code != 200:
        assert server.events == before
        problem = answer.json()
        assert set(problem) == {"error", "field"}
        assert "\n" not in problem["error"]


@pytest.mark.slow
def test_schemathesis_finds_nothing(tmp_path):
    schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis")
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    config, ledger = tmp_path / "serve.yaml", tmp_path / "ledger.sqlite"
    config.write_text(CONFIG, encoding="utf-8")

    def written() -> int:
        with Ledger(ledger, readonly=True) as store:
            return store.last_seq

    with Running(config, ledger) as server:
        schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
        for operation in schema.get_all_operations():

            @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
            @given(case=operation.ok().as_strategy())
            def holds(case):
                before = written()
                # That columns have equal lengths is no part of a JSON schema.
                answer = case.call_and_validate(excluded_checks=[positive_data_acceptance])
                if answer.status_code >= 400:
                    assert written() == before

            holds()
