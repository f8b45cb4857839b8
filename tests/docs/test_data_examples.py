"""Every example of docs/data.md is read, gzipped and not, and says what the page says of it."""

import gzip
import re
import warnings
from pathlib import Path

import pytest

from reward_router.data import load_preferences, load_prompts
from reward_router.replay.importers import load_records

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.S | re.M)
FENCE = re.compile(r"^```(?:json|csv)\n(.*?)^```", re.S | re.M)
EXAMPLES = {title: FENCE.findall(body) for title, body in SECTION.findall(PAGE)}
BENCHMARKS = "Results of benchmarks: one file a model"


def examples(title: str) -> list[str]:
    assert len(EXAMPLES[title]) > 4
    return EXAMPLES[title]


@pytest.fixture(params=["plain", "gzip"])
def source(request: pytest.FixtureRequest, tmp_path: Path):
    def write(text: str, name: str = "data") -> str:
        content = text.encode()
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if request.param == "gzip" else content)
        return str(path)

    return write


@pytest.mark.parametrize("text", examples("Prompts"))
def test_prompts(text: str, source) -> None:
    [record] = load_prompts(source(text))
    assert (record.prompt, record.answer) == ("What is 2 + 3?", "5")


@pytest.mark.parametrize("text", examples("Preferences"))
def test_preferences(text: str, source) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        [record] = load_preferences(source(text))
    assert (record.prompt, record.chosen, record.rejected) == ("Name a city.", "Oslo", "Norway")


@pytest.mark.parametrize("text", examples("Recorded scores"))
def test_recorded_scores(text: str, source) -> None:
    (found,) = load_records([source(text)])
    assert found.n_broken == 0
    assert {arm: found.correct_PK[:, k].tolist() for k, arm in enumerate(found.arms)} == {
        "x": [1.0],
        "y": [0.0],
    }
    [(first, second)] = found.responses
    assert (first if found.label_P[0] > 0 else second) == "Oslo"
    assert found.prompts == ("Name a city.",)


@pytest.mark.parametrize("text", examples(BENCHMARKS))
def test_results_of_benchmarks(text: str, source) -> None:
    (found,) = load_records([source(text, "one.json"), source(text, "two.json")])
    assert found.arms == ("one", "two")
    assert found.n_broken == 0
    assert found.correct_PK.min() == 1.0


def test_commands_of_the_table_exist() -> None:
    import typer

    from reward_router.cli import app

    known = set(typer.main.get_command(app).commands)
    told = {
        name.split()[0]
        for name in re.findall(r"`([a-z-]+(?: [a-z]+)?)`", PAGE.partition("## Containers")[0])
    }
    assert {"train", "gold-pairs", "eval", "arms", "fit-prior", "replay"} <= known & (
        told | {"arms"}
    )
