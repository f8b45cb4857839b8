"""The reports in a real browser.

They fit the screen, raise no error, fetch nothing, sort and filter. `make test-browser`. Needs
playwright and a Chromium (`REWARD_ROUTER_CHROMIUM`, or one on the path, or playwright's own);
skipped where there is none. Screenshots are kept where `REWARD_ROUTER_SCREENSHOTS` names a folder.
"""

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reward_router.report import replay, training

pytestmark = pytest.mark.browser
playwright = pytest.importorskip(
    "playwright.sync_api", reason="pip install -r requirements/browser.txt"
)

HERE = Path(__file__).parent


def _made() -> Any:
    """The invented run of the tests of the report."""
    spec = importlib.util.spec_from_file_location(
        "made_run", HERE.parent / "report" / "test_training_report.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["made_run"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for all tests."""
    path = (
        os.environ.get("REWARD_ROUTER_CHROMIUM")
        or shutil.which("chromium")
        or shutil.which("google-chrome")
    )
    with playwright.sync_playwright() as started:
        try:
            opened = started.chromium.launch(
                executable_path=path, args=["--no-sandbox", "--disable-gpu"]
            )
        except playwright.Error as error:
            pytest.skip(f"no Chromium that starts: {str(error).splitlines()[0]}")
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def run_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as large as the default one: seven arms, eight steps, answers that changed."""
    made = _made()
    folder = tmp_path_factory.mktemp("browser") / "run"
    arms = ["likelihood", "relevance", "grammar", "thorough", "marks", "brief", "content"]
    made.Made(folder, arms=arms, steps=8, batch=8, held_out=160, audit=0.0).write()
    made.samples(folder)
    curves = (
        "loss",
        "gold_sampled",
        "margin",
        "pair_accuracy",
        "kl",
        "finished",
        "words",
        "grad_norm",
    )
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    more = [line | dict.fromkeys(curves, 0.1 * i) | {"lr": [1e-4]} for i, line in enumerate(lines)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in more))
    return training.write(folder)


@pytest.fixture(scope="module")
def replay_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A replay of invented scores."""
    from reward_router.replay.run import replay as measure

    folder = tmp_path_factory.mktemp("browser")
    rows = []
    for i in range(60):
        right = "a" if i % 2 else "b"
        scores = {"one": [i % 3, 1], "two": [int(right == "a"), 0.5], "three": [0.1 * i, 3]}
        rows.append(
            {
                "id": str(i),
                "prompt": f"p{i}",
                "category": f"c{i % 3}",
                "label": right,
                "scores": scores,
            }
        )
    (folder / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = measure(
        [str(folder / "scores.jsonl")], ["linucb", "uniform", "committee"], seeds=1, features="none"
    )
    replay.write(result, folder / "replay.html")
    return folder / "replay.html"


def opened(browser: Any, path: Path, width: int, scheme: str) -> tuple[Any, list[str]]:
    """The page as a reader opens it, and what went wrong while it did.

    That is errors, and requests for anything but itself.
    """
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
    )
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on(
        "request", lambda asked: wrong.append(asked.url) if asked.url != path.as_uri() else None
    )
    page.goto(path.as_uri())
    shots = os.environ.get("REWARD_ROUTER_SCREENSHOTS")
    if shots:
        page.screenshot(path=Path(shots) / f"{path.stem}-{width}-{scheme}.png", full_page=True)
    return page, wrong


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("which", ["run_page", "replay_page"])
def test_a_page_fits_the_screen_raises_no_error_and_fetches_nothing(
    browser: Any, request: pytest.FixtureRequest, which: str, width: int, scheme: str
) -> None:
    page, wrong = opened(browser, request.getfixturevalue(which), width, scheme)
    assert wrong == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert (_light(ink) > _light(paper)) == (scheme == "dark")
    page.context.close()


def _light(colour: str) -> int:
    return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))


def test_a_run_of_the_default_s_size_is_shorter_than_4000_pixels(
    browser: Any, run_page: Path
) -> None:
    page, _ = opened(browser, run_page, 1400, "light")
    assert page.evaluate("document.documentElement.scrollHeight") < 4000
    page.context.close()


def test_answers_are_filtered_by_direction_and_category(browser: Any, run_page: Path) -> None:
    page, wrong = opened(browser, run_page, 1400, "light")
    assert page.locator(".answer:visible").count() == 2
    page.select_option("select[name=direction]", "worse")
    assert page.locator(".answer:visible").count() == 1
    assert "facts" in page.locator(".answer:visible").inner_text()
    page.select_option("select[name=category]", "sums")
    assert page.locator(".answer:visible").count() == 0
    assert page.locator(".count").inner_text() == "0 of 0 shown"
    assert wrong == []
    page.context.close()


def test_a_click_on_a_head_sorts(browser: Any, replay_page: Path) -> None:
    page, wrong = opened(browser, replay_page, 1400, "light")
    table = page.locator("table.sortable").first
    column = [h.split("\n")[0] for h in table.locator("th").all_inner_texts()].index("accuracy")
    for order in (True, False):
        table.locator("th").nth(column).click()
        cells = table.locator(f"tbody tr td:nth-child({column + 1})").all_inner_texts()
        numbers = [float(cell.split()[0]) for cell in cells]
        assert numbers == sorted(numbers, reverse=order)
    assert wrong == []
    page.context.close()


def test_the_first_column_stays_in_view_on_a_phone(browser: Any, run_page: Path) -> None:
    page, _ = opened(browser, run_page, 390, "light")
    scroll = page.locator("#gold .scroll").first
    before = scroll.locator("td").first.bounding_box()["x"]
    scroll.evaluate("part => { part.scrollLeft = 200; }")
    assert scroll.locator("td").first.bounding_box()["x"] == pytest.approx(before, abs=1)
    page.context.close()
