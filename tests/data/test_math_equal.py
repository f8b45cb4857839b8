"""Mathematics is compared in a process that may die over it.

Nothing that a response holds stops the run, and the next question is answered.
"""

import math
import os
import threading
import time

import pytest

from reward_router import math_equal
from reward_router.errors import InputError

pytest.importorskip("math_verify", reason="needs math-verify")
ENDLESS = [r"$9^{9^{9}}$", r"$10^{1000000000}$", r"$(10^{10^{10}})!$"]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(math_equal, "SECONDS", 1)


@pytest.mark.parametrize("given", ENDLESS)
@pytest.mark.usefixtures("hurried")
def test_what_would_take_for_ever_is_not_equal_and_the_next_question_is_answered(
    given: str,
) -> None:
    start = time.monotonic()
    assert math_equal.equal("$5$", given) == 0.0
    assert math_equal.equal("$5$", "It is $5$") == 1.0
    assert time.monotonic() - start < 30  # "for ever" is hours; the bound is no timing of ours


@pytest.mark.usefixtures("hurried")
def test_another_thread_is_held_up_no_longer() -> None:
    found: list[float] = []
    thread = threading.Thread(
        target=lambda: found.extend(math_equal.equal("$5$", g) for g in (ENDLESS[0], "$5$"))
    )
    thread.start()
    thread.join(60)
    assert found == [0.0, 1.0]


def test_a_gold_that_cannot_be_read_or_is_no_number_is_told_apart_from_a_wrong_answer() -> None:
    assert math.isnan(math_equal.equal("nothing", "$5$"))
    assert math.isnan(math_equal.equal("$x + 1$", "$5$", number=True))
    assert math_equal.equal("$x + 1$", "$1 + x$") == 1.0
    assert math_equal.equal("$5$", 'line\nbreaks and "quotes" $5$') == 1.0


def test_a_process_that_was_killed_between_two_questions_is_started_again() -> None:
    assert math_equal.equal("$5$", "$5$") == 1.0
    before = math_equal._ask._process
    assert before is not None
    before.kill()
    before.wait()
    assert math_equal.equal("$5$", "$5$") == 1.0
    assert math_equal._ask._process is not before


def test_an_interrupt_between_question_and_answer_leaves_no_answer_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask = math_equal._Asked()
    assert ask({"gold": "$5$", "given": "$5$", "number": False, "seconds": 5}) is True

    def interrupted() -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ask, "_read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ask({"gold": "$5$", "given": "$5$", "number": False, "seconds": 5})
    assert ask({"gold": "$5$", "given": "$6$", "number": False, "seconds": 5}) is False
    ask._end()


def test_a_package_that_is_missing_or_broken_is_an_input_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:  # type: ignore[no-untyped-def]
    question = {"gold": "$5$", "given": "$5$", "number": False, "seconds": 5}
    with monkeypatch.context() as patch:
        patch.setattr(math_equal, "find_spec", lambda name: None)
        with pytest.raises(InputError, match="pip install"):
            math_equal._Asked()(question)
    (tmp_path / "math_verify.py").write_text("raise ImportError('half installed')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    with pytest.raises(InputError, match="says why"):
        math_equal._Asked()(question)
