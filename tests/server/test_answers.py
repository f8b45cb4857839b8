"""Answers under request ids: the newest are kept, in the order in which they were given."""

import pytest
from inside import Inside

from reward_router.ledger import Ledger
from reward_router.ledger.rows import Changed
from reward_router.server.answers import Answers


class Counting:
    """Work that says how often it was done; every piece is an event, as in the server."""

    def __init__(self, ledger):
        self.ledger, self.done = ledger, 0

    def __call__(self):
        self.done += 1
        self.ledger.append([Changed(self.ledger.last_seq + 1, "scaler_reset", "")])
        return {"number": self.done}


@pytest.mark.parametrize("restarts", [False, True])
def test_the_newest_answers_of_a_kind_are_kept(tmp_path, restarts):
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    answers, work = Answers(ledger, keep=3), Counting(ledger)
    # names whose order is not that of time
    for name in ("z", "b", "y", "a"):
        answers.once("judge", name, b"", work)
        answers.once("score", name, b"", work)
    if restarts:
        ledger.close()
        ledger = Ledger(path)
        answers, work.ledger = Answers(ledger, keep=3), ledger
    for kind in ("judge", "score"):
        assert ledger.named(f"answer/{kind}/", "at") == [f"answer/{kind}/{n}" for n in "bya"]
    before = work.done
    assert answers.once("judge", "a", b"", work) == {"number": 7}
    assert work.done == before
    answers.once("judge", "z", b"", work)
    assert work.done == before + 1
    assert ledger.named("answer/judge/", "at") == [f"answer/judge/{n}" for n in "yaz"]
    assert len(ledger.named("answer/", "at")) == 6
    ledger.close()


def test_a_request_whose_answer_made_room_asks_no_arm_again(config, tmp_path):
    server = Inside(config, tmp_path / "ledger.sqlite")
    server.desk.answers = Answers(server.desk.ledger, keep=1)
    body = {"prompts": ["Say hi."], "responses": [["hi", "hello there"]]}
    first = server.post("/v1/judge", {**body, "request_id": "first"}).json()
    server.post("/v1/judge", {**body, "request_id": "second"})
    before = server.events
    again = server.post("/v1/judge", {**body, "request_id": "first"}).json()
    assert server.events == before
    for key in ("decision_id", "arm", "scores", "ranking"):
        assert again["verdicts"][0][key] == first["verdicts"][0][key]
    server.close()
