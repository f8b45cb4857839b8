"""The configuration reference, docs/configuration.md, made from `reward_router.config`.

    python docs/site/configuration.py            write the page
    python docs/site/configuration.py --check    end with 1 where the page is out of date

Keys, defaults and ranges come from the schema. Sentences and examples come from keys.yaml beside
this file.
"""

import argparse
import inspect
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import annotated_types
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from reward_router import config
from reward_router.kinds import ROUTERS, RouterKind

HERE = Path(__file__).parent
PAGE = HERE.parent / "configuration.md"
SEVERAL = {"eval.data": "data", "eval.test": "data"}
"""Keys whose sections have the keys of another one, and are not written out again."""

HEAD = """# Configuration

<!-- Made from the schema and docs/site/keys.yaml by `python docs/site/configuration.py`. -->

A run is described by one YAML file. Every key may be left out; what is missing takes the default
of this page. `reward-router train my.yaml --dry-run` says what a file will do and take, and
`--set section.key=value` changes one key from the command line. An unknown key is refused, and the
message names the nearest one.

A packaged configuration (`--preset NAME`) sets keys of its own: `default`, which is what
`reward-router train` runs without a file, fits a laptop, and `laser` is the paper's. In the tables
`null` is YAML's word for nothing, and "-" means that there is no default: the key is needed.
"""


class KeysError(Exception):
    """keys.yaml and the schema do not say the same."""


@dataclass(frozen=True)
class Key:
    """One key of the configuration: its place, and what the schema says of it."""

    section: str
    name: str
    field: FieldInfo

    @property
    def path(self) -> str:
        """Where it stands: `policy.model`."""
        return f"{self.section}.{self.name}" if self.section else self.name


def main(arguments: list[str]) -> int:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description="Write docs/configuration.md from the schema.")
    parser.add_argument("--check", action="store_true")
    wanted = parser.parse_args(arguments)
    text = page()
    if not wanted.check:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.read_text(encoding="utf-8") == text:
        return 0
    message = f"{PAGE} is not what the schema says; python docs/site/configuration.py writes it"
    print(message, file=sys.stderr)
    return 1


def page() -> str:
    """The whole page as Markdown."""
    words = yaml.safe_load((HERE / "keys.yaml").read_text(encoding="utf-8"))
    keys = list(schema_keys(config.Config))
    check(keys, words)
    parts = [HEAD]
    sections = list(dict.fromkeys(key.section for key in keys))
    for section in sections:
        of_routers = words["router_options"] if section == "router" else {}
        shown = [key for key in keys if key.section == section]
        parts.append(section_text(section, shown, words))
        if of_routers:
            parts.append(router_options(of_routers))
    return "\n".join(parts)


def schema_keys(model: type[BaseModel], section: str = "") -> Iterator[Key]:
    """Every key of a model and of the models inside it; keys of a section before its parts."""
    inside: list[tuple[str, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        path = f"{section}.{name}" if section else name
        part = model_of(field.annotation)
        is_list = "list" in str(field.annotation)
        if part is None or path in SEVERAL or is_list:
            yield Key(section, name, field)
        if part is not None and path not in SEVERAL:
            inside.append((path, part))
    for path, part in inside:
        yield from schema_keys(part, path)


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation holds, be it optional or in a list."""
    for choice in (annotation, *get_args(annotation)):
        if isinstance(choice, type) and issubclass(choice, BaseModel):
            return choice
    return None


def check(keys: list[Key], words: Mapping[str, Any]) -> None:
    """KeysError where a key is not explained, or an explanation has no key."""
    paths = {key.path for key in keys}
    unexplained = [key for key in keys if key.path not in words["keys"]]
    silent = [key.path for key in unexplained if not key.field.description]
    if silent:
        raise KeysError(f"docs/site/keys.yaml: {', '.join(silent)}: give a sentence and an example")
    stale = sorted(set(words["keys"]) - paths)
    if stale:
        raise KeysError(f"docs/site/keys.yaml: {', '.join(stale)}: no such key; take it out")
    options = {name for router in ROUTERS for name in router.options}
    differing = sorted(options ^ set(words["router_options"]))
    if differing:
        raise KeysError(
            f"docs/site/keys.yaml: router_options and the routers differ in {', '.join(differing)}"
        )
    missing = [key.section for key in keys if key.section not in words["sections"]]
    if missing:
        raise KeysError(f"docs/site/keys.yaml: section {missing[0]!r}: give a sentence")


def section_text(section: str, keys: list[Key], words: Mapping[str, Any]) -> str:
    """A heading, its sentence and the table of its keys."""
    title = f"## `{section}`" if section else "## Outside every section"
    rows = ["| key | default | allowed | what it does | example |", "|---|---|---|---|---|"]
    for key in keys:
        entry = words["keys"].get(key.path, {})
        text = entry.get("text") or key.field.description
        cells = [f"`{key.name}`", default(key.field), allowed(key.field), text, example(entry, key)]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([title, "", wrapped(words["sections"][section]), "", *rows, ""])


def wrapped(text: str, width: int = 100) -> str:
    """Prose in lines of at most `width` columns."""
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


def default(field: FieldInfo) -> str:
    """What a key is where it is left out."""
    if field.default_factory is not None:
        return written(field.default_factory())  # type: ignore[call-arg]
    if field.default is PydanticUndefined:
        return "-"
    return written(field.default)


def written(value: Any) -> str:
    """A value as YAML writes it, as code."""
    if isinstance(value, float):
        text = f"{value:g}"
    else:
        text = yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()
    return f"`{text}`"


def example(entry: Mapping[str, Any], key: Key) -> str:
    """The example of keys.yaml, else the default."""
    value = entry.get("example")
    if "example" not in entry and not key.field.is_required():
        value = key.field.get_default(call_default_factory=True)
    text = value if isinstance(value, str) else written(value).strip("`")
    return f"`{key.name}: {text}`"


def allowed(field: FieldInfo) -> str:
    """The range of a key in words."""
    return in_words(field.annotation, tuple(field.metadata))


def in_words(annotation: Any, metadata: tuple[Any, ...]) -> str:
    """The values that an annotation and its bounds allow."""
    if hasattr(annotation, "__metadata__"):  # Annotated[...]
        return in_words(annotation.__origin__, (*flat(annotation.__metadata__), *metadata))
    choices = get_args(annotation)
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in choices)
    if NoneType in choices:
        others = [in_words(choice, metadata) for choice in choices if choice is not NoneType]
        return f"{' or '.join(others)}; `null`"
    if get_origin(annotation) is None:
        return plain(annotation, metadata)
    if annotation in (str | list[str],):
        return "text, or a list of texts"
    return {list: "a list", dict: "a mapping"}.get(get_origin(annotation), "a list or text")


def plain(annotation: Any, metadata: tuple[Any, ...]) -> str:
    """A plain type with its bounds in words."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "a section"
    names = {int: "a whole number", float: "a number", bool: "`true`, `false`", str: "text"}
    name = names[annotation]
    limits = " and ".join(bound(limit) for limit in metadata if bound(limit))
    return f"{name}, {limits}" if limits else name


def flat(metadata: tuple[Any, ...]) -> list[Any]:
    """Bounds, where pydantic's Field holds several."""
    bounds: list[Any] = []
    for item in metadata:
        bounds += item.metadata if isinstance(item, FieldInfo) else [item]
    return bounds


def bound(limit: Any) -> str:
    """One bound in words; empty where it says nothing of a range."""
    if isinstance(limit, annotated_types.Ge):
        return f"at least {limit.ge}"
    if isinstance(limit, annotated_types.Gt):
        return f"above {limit.gt}"
    if isinstance(limit, annotated_types.Le):
        return f"at most {limit.le}"
    if isinstance(limit, annotated_types.Lt):
        return "below 2^63" if limit.lt == 2**63 else f"below {limit.lt}"
    if isinstance(limit, annotated_types.MinLen) and limit.min_length:
        return f"at least {limit.min_length} character"
    if isinstance(limit, annotated_types.MaxLen):
        return f"at most {limit.max_length}"
    return ""


def router_options(words: Mapping[str, Any]) -> str:
    """The table of options that only some routers take."""
    rows = ["| option of a router | routers | left out | what it does | example |"]
    rows.append("|---|---|---|---|---|")
    for name, entry in words.items():
        takers = sorted((r for r in ROUTERS if name in r.options), key=lambda router: router.name)
        names = ", ".join(f"`{taker.name}`" for taker in takers)
        shown = f"`{name}: {entry['example']}`"
        cells = [f"`{name}`", names, left_out(name, takers), entry["text"], shown]
        rows.append("| " + " | ".join(cells) + " |")
    intro = (
        "These keys stand in the section `router`, too. Each belongs to some routers only, is "
        "refused for the others, and takes the router's own default where it is left out. Left "
        "out under `bayesian`, payoffs are centred, an intercept is there, and precisions and "
        "noise are those that the prior was calibrated to; `trust` is 0.95."
    )
    return "\n".join([wrapped(intro), "", *rows, ""])


def left_out(name: str, takers: list[RouterKind]) -> str:
    """The default of an option, as the routers that take it declare it."""
    defaults = {taker.name: taker.options[name].default for taker in takers}
    shown = {
        taker: "-" if value is inspect.Parameter.empty else written(value)
        for taker, value in defaults.items()
    }
    values = list(dict.fromkeys(shown.values()))
    if len(values) > 1:
        return ", ".join(f"{value} ({taker})" for taker, value in shown.items())
    return values[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
