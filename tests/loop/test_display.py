"""What a run shows while it runs.

It is one display as wide as the terminal, with an honest estimate, and nothing of other libraries.
"""

import io
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from reward_router import progress, quiet
from reward_router.config import Config
from reward_router.errors import DataWarning

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Fake:
    """A clock that goes when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(progress.time, "perf_counter", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Fake:
    return Fake(monkeypatch)


def shown(plan: dict[str, int], costs: dict[str, float] | None = None) -> progress.Show:
    return progress.Show(Console(quiet=True), plan, progress.Clock(), costs)


def test_long_work_says_a_line_every_half_minute_where_there_is_no_terminal(clock: Fake) -> None:
    file = io.StringIO()
    with progress.counted(Console(file=file, width=80), "runs") as tick:
        for done in range(1, 11):
            clock.now += 12.0
            tick(done, 10)
        clock.now += 100.0
        # The next file: what it takes is reckoned from its own beginning.
        tick(1, 4)
        clock.now += 31.0
        tick(2, 4)
    lines = file.getvalue().splitlines()
    assert lines[0] == "runs: 3 of 10, about 1 min 24 s left"
    assert len(lines) == 3 + 2
    assert lines[-1] == "runs: 2 of 4, about 31 s left"


def test_short_work_says_nothing(clock: Fake) -> None:
    file = io.StringIO()
    with progress.counted(Console(file=file, width=80), "runs") as tick:
        for done in range(1, 11):
            clock.now += 1.0
            tick(done, 10)
    assert file.getvalue() == ""


def test_what_is_left_is_reckoned_by_kind_of_work(clock: Fake) -> None:
    display = shown({"step": 4, "gold": 2, "look": 1}, {"step": 10.0, "gold": 25.0, "look": 5.0})
    for kind, seconds in (("gold", 30.0), ("step", 18.0), ("step", 12.0)):
        clock.now += seconds
        display.advance("", kind)
    look = 5.0 * (30.0 + 12.0) / (25.0 + 10.0)
    assert display.remaining() == pytest.approx(2 * 12 + 30 + look)
    display.skip("look")
    assert display.remaining() == pytest.approx(2 * 12 + 30)


def test_models_that_were_loaded_once_are_left_out(clock: Fake) -> None:
    display = shown({"step": 3})
    clock.now += 20.0
    display.advance("", once=15.0)
    assert display.remaining() == pytest.approx(2 * 5.0)


STEPS = [45.9, 44.2, 62.5, 59.7, 40.0, 49.2, 62.0, 69.9]
"""Seconds of each step of a run of the embedded default.

They were measured on one core of a busy AMD EPYC; the run's other pieces are beside them.
"""
RUN = [
    ("gold", 105.0, 0.0),
    ("best_of", 52.0, 12.0),
    ("look", 28.2, 0.0),
    ("step", STEPS[0] + 9.0, 9.0),
]
RUN += [*(("step", s, 0.0) for s in STEPS[1:4]), ("look", 28.4, 0.0)]
RUN += [
    *(("step", s, 0.0) for s in STEPS[4:]),
    ("look", 27.3, 0.0),
    ("gold", 92.0, 0.0),
    ("best_of", 43.0, 0.0),
]


@pytest.mark.parametrize("known", [(), ("gold",), ("look",), ("gold", "best_of", "look")], ids=str)
def test_the_estimate_is_right_within_a_third_from_the_second_step_on(
    clock: Fake, known: tuple[str, ...]
) -> None:
    """A run as the display sees it.

    ``known``: what was measured before the run, so that no piece of its kind is seen before the
    first step.
    """
    from reward_router import config
    from reward_router.examples import load_examples
    from reward_router.reckon import chosen_cost, measured_cost, step_cost

    default = config.load()
    train, held_out = load_examples(default.data), load_examples(default.eval.data)[:160]
    costs = {"step": step_cost(default, train), "look": measured_cost(default, 40, 2)}
    costs |= {"gold": measured_cost(default, 160, 3), "best_of": chosen_cost(default, held_out)}
    first = next(i for i, (kind, *_) in enumerate(RUN) if kind == "step")
    pieces = [piece for i, piece in enumerate(RUN) if i >= first or piece[0] not in known]
    kinds = [kind for kind, *_ in pieces]
    display = shown({kind: kinds.count(kind) for kind in kinds}, costs)
    steps = 0
    for i, (kind, seconds, once) in enumerate(pieces):
        clock.now += seconds
        display.advance("", kind, once)
        steps += kind == "step"
        true = sum(s for _, s, _ in pieces[i + 1 :])
        if steps >= 2:
            assert abs(display.remaining() - true) <= true / 3, (kind, steps)


def test_the_pieces_of_a_run_have_costs_in_their_proportion(tiny: Callable[..., Config]) -> None:
    from reward_router.examples import load_examples
    from reward_router.reckon import chosen_cost, measured_cost, step_cost

    config = tiny("eval.samples=3")
    examples = load_examples(config.data)
    assert (
        measured_cost(config, 10, 3) == measured_cost(config, 30, 0) == measured_cost(config, 30, 1)
    )
    assert measured_cost(config, 256, 1) == 2 * measured_cost(
        config, 128, 1
    )  # two rounds of policy.sample_batch
    assert chosen_cost(config, examples[:20]) == pytest.approx(
        2 * chosen_cost(config, examples[:10]), rel=0.1
    )
    assert (
        step_cost(config, examples)
        < step_cost(tiny("train.batch_prompts=6"), examples)
        < 2 * step_cost(config, examples)
    )
    assert step_cost(tiny("train.steps_per_batch=2"), examples) > step_cost(config, examples)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int, clock: Fake) -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=width, markup=False, highlight=False)
    display = progress.Show(console, {}, progress.Clock())
    with display:
        display.begin(
            "loading a model with a rather long name of an organisation/"
            "and-a-long-name-of-a-model-7b-instruct"
        )
        display.expect({"step": 12, "gold": 2}, {})
        clock.now += 4000.0
        display.advance(
            "gold before training: 0.250 of 160 held-out prompts, 3 samples each", "gold"
        )
        for _ in range(12):
            display.say(
                "scoring 48 responses with an arm of a rather long name, "
                "such as people give to arms"
            )
            display.progress.refresh()
            clock.now += 400.0
            display.advance(
                "step 1: 16 pairs, loss 1.978, payoff +0.55; "
                f"{', '.join(f'arm-{k} 3' for k in range(20))}"
            )
    text = file.getvalue()
    lines = [CONTROL.sub("", line) for line in re.split(r"[\r\n]", text)]
    assert max(cell_len(line.rstrip()) for line in lines) <= width
    if width >= 80:
        assert "scoring 48 responses with" in text
        assert re.search(r"gone, about \d+:\d\d", text)


def test_lines_without_a_terminal_are_whole(clock: Fake) -> None:
    file = io.StringIO()
    display = progress.Show(
        Console(file=file, width=80, markup=False, highlight=False), {"step": 2}, progress.Clock()
    )
    with display:
        display.begin("loading it")
        display.say("not shown")
        clock.now += 5.0
        display.advance("step 1: " + "x" * 200)
    assert file.getvalue().splitlines() == [
        "loading it",
        "step 1: " + "x" * 200 + "  5 s gone, about 5 s left",
    ]


def test_whose_warning_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (quiet.VERBOSE, *quiet.QUIET):
        monkeypatch.delenv(name, raising=False)
    mine = tmp_path / "mine.py"
    mine.write_text("import warnings\nwarnings.warn('look at this', stacklevel=1)\n")
    said: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        monkeypatch.setattr(quiet.sys, "warnoptions", [])
        quiet.hush(said.append)
        warnings.warn_explicit("old", FutureWarning, str(Path(pytest.__file__)), 1)
        warnings.warn_explicit("old", UserWarning, str(Path(quiet.__file__)), 1)
        warnings.warn_explicit("old", DeprecationWarning, str(Path(re.__file__)), 1)
        assert said == []
        warnings.warn(DataWarning("data x: 3 rows left out"), stacklevel=1)
        exec(compile(mine.read_text(), str(mine), "exec"))
    assert said == ["data x: 3 rows left out", f"{mine}:2: UserWarning: look at this"]
    assert os.environ["TRANSFORMERS_VERBOSITY"] == "error"


def test_verbose_leaves_everything_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in quiet.QUIET:
        monkeypatch.delenv(name, raising=False)
    assert not quiet.wanted()
    assert quiet.wanted(True)
    with warnings.catch_warnings():
        quiet.hush(lambda _: None, verbose=True)
    assert not any(name in os.environ for name in quiet.QUIET)
    monkeypatch.setenv(quiet.VERBOSE, "1")
    assert quiet.wanted()
    monkeypatch.setenv(quiet.VERBOSE, "0")
    assert not quiet.wanted()


def test_the_output_of_a_run_is_its_own(tiny_yaml: Path, tmp_path: Path) -> None:
    pytest.importorskip("reward_router.run", reason="needs the packages of the extra `train`")
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in quiet.QUIET and name != "PYTHONWARNINGS"
    }
    command = [
        sys.executable,
        "-m",
        "reward_router.cli",
        "train",
        str(tiny_yaml),
        "--out",
        str(tmp_path / "run"),
    ]
    settings = ["--set", "eval.samples=2", "--set", "train.gradient_checkpointing=true"]
    done = subprocess.run(
        [*command, *settings], capture_output=True, text=True, env=env, check=True
    )
    assert done.stderr == ""
    for foreign in ("Warning", "Loading weights", "it/s", "huggingface", "tokenizers"):
        assert foreign not in done.stdout
