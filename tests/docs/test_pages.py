"""The form of the pages: lines, links, entries of the log, and the configuration reference."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import yaml

import reward_router
from reward_router import config

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")])
AS_THEY_WERE = {"2026-11.md", "2026-11-committee.md"}
"""Old entries of the log stay as they were written."""

WIDTH = 100
FENCE = re.compile(r"^```.*?^```", re.S | re.M)
LINK = re.compile(r"\]\(([^)\s:]*)\)")
ENTRY = re.compile(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", re.S | re.M)
PARTS = ("**Question.**", "**Tried.**", "**Result.**", "**Kept.**")


def names(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> list[tuple[int, str]]:
    """The numbered lines of a page that are neither code nor rows of a table."""
    text = page.read_text(encoding="utf-8")
    without_code = FENCE.sub(lambda fence: "\n" * fence.group().count("\n"), text)
    numbered = enumerate(without_code.splitlines(), 1)
    return [(n, line) for n, line in numbered if not line.lstrip().startswith("|")]


@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in AS_THEY_WERE], ids=names)
def test_lines_are_short(page: Path) -> None:
    long = [f"line {n}: {len(line)}" for n, line in prose(page) if len(line) > WIDTH]
    assert not long, f"{names(page)}: more than {WIDTH} columns: {', '.join(long)}"


def slug(heading: str) -> str:
    """The anchor of a heading, as the forge and the site make it."""
    words = re.sub(r"[^\w\- ]", "", heading.lower().strip())
    return words.replace(" ", "-")


def anchors(page: Path) -> set[str]:
    lines = [line for _, line in prose(page) if line.startswith("#")]
    return {slug(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line.lstrip("# "))) for line in lines}


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        lost = anchor and place.suffix == ".md" and place.exists() and anchor not in anchors(place)
        if lost or not place.exists():
            broken.append(target)
    assert not broken, f"{names(page)}: {broken}"


def pages_of(nav: list | str) -> set[str]:
    """The pages that a part of the site's navigation names."""
    if isinstance(nav, str):
        return {nav}
    return set().union(*(pages_of(page) for part in nav for page in part.values()))


def test_every_page_is_in_the_navigation() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    written = [*DOCS.glob("*.md"), *DOCS.glob("trainers/*.md")]
    assert {str(page.relative_to(DOCS)) for page in written} <= pages_of(site["nav"])


def test_every_public_name_is_in_the_reference() -> None:
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    names = set(reward_router.__all__) - {"__version__"}
    assert names <= set(re.findall(r"^::: reward_router\.(\w+)$", text, re.M))


ENTRIES = ENTRY.findall((DOCS / "log.md").read_text(encoding="utf-8"))


def test_the_log_has_entries() -> None:
    assert ENTRIES


@pytest.mark.parametrize(("heading", "body"), ENTRIES, ids=[heading for heading, _ in ENTRIES])
def test_an_entry_of_the_log_has_its_form(heading: str, body: str) -> None:
    assert len(heading) <= 60, f"{len(heading)} characters, allowed 60: {heading}"
    dated = re.match(r"\d{4}-\d\d-\d\d · \S", heading)
    assert dated, f"write it as `DATE · what came out`: {heading}"
    places = [body.find(part) for part in PARTS]
    assert min(places) >= 0, f"{heading}: every entry has {', '.join(PARTS)}"
    assert places == sorted(places), f"{heading}: in the order {', '.join(PARTS)}"


def script(name: str):
    """A script of docs/site as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_site_{name}", DOCS / "site" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


LONG = " ".join(["word"] * 40)
PAGE = f"""# A heading that is much longer than a line may be {LONG}

{LONG} 95 % - and | more {LONG}

- {LONG}
- short

| a | table {LONG} |
|---|---|

```text
{LONG}
```

    {LONG}
"""


def test_wrapping_keeps_words_code_and_tables() -> None:
    wrap = script("wrap")
    page = wrap.wrapped(PAGE)
    assert page.split() == PAGE.split()
    assert wrap.wrapped(page) == page
    long = [line for line in page.splitlines() if len(line) > wrap.WIDTH]
    assert len(long) == 4  # heading, table, fenced and indented code
    assert not [line for line in page.splitlines() if line.startswith(("%", "- and", "| more"))]


@pytest.fixture(scope="module")
def reference():
    """The script that makes the configuration reference."""
    return script("configuration")


def test_the_configuration_reference_is_up_to_date(reference) -> None:
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")
    assert text == reference.page(), "run `python docs/site/configuration.py` and commit the page"


def test_every_key_of_the_schema_is_in_the_reference(reference) -> None:
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")
    for key in reference.schema_keys(config.Config):
        assert f"| `{key.name}` |" in text, key.path


NEEDS = {
    "router.arm": {"name": "fixed"},
    "router.per": {"name": "round_robin"},
    "payoff.path": {"name": "python"},
    "payoff.name": {},
}
"""What else a section has to say for an example to be valid."""


def test_examples_of_keys_are_valid(reference) -> None:
    words = yaml.safe_load((DOCS / "site" / "keys.yaml").read_text(encoding="utf-8"))
    for path, entry in words["keys"].items():
        if "example" not in entry or path.startswith("arms."):
            continue
        *section, name = path.split(".")
        value = entry["example"]
        if isinstance(value, str):
            value = config.parse_yaml(value, path)
        tree = {**NEEDS.get(path, {}), name: value}
        if section[:1] == ["judge"]:
            tree = {"mode": "committee", **tree} if section == ["judge"] else tree
        for part in reversed(section):
            tree = {part: tree}
        if section == ["judge", "labels"]:
            tree["judge"]["mode"] = "committee"
        if path == "pairs.tie":
            tree["router"] = {"unit": "pair"}
        config.validate(tree, path)
