"""``reward-router init``: a commented configuration that runs.

It is made of a data file, reward models and a policy.

Everything that can be found out is: whether the file's prompts can be read, whether its answers are
numbers, letters, or yes and no, what kind of arm a model is. Nothing is loaded but configurations.
Left out: what the schema's defaults say (`reward-router train --dry-run` shows what they come to).
"""

import os
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from reward_router import config as configuration
from reward_router.data import load_prompts
from reward_router.errors import InputError
from reward_router.examples import EMBEDDED_TASKS
from reward_router.grading import grade
from reward_router.preflight import at_hand, model_config
from reward_router.reading import Broken, read_rows
from reward_router.rundir import write_atomically

LOOKED_AT = 200
"""Rows whose answers are looked at."""
FEW = 10
"""Fewer answers than this among the rows that are looked at are taken for an accident."""
WIDE = 100
"""Columns of a comment."""
KINDS = ("number", "yes_no", "letter", "math")
OTHER_NAMES = {
    "prompt": ("question", "problem", "query"),
    "answer": ("solution", "final_answer", "target", "ground_truth"),
}
"""What other data sets call our columns, tried in this order where ours is not there."""


@dataclass(frozen=True)
class Found:
    """What a data file turned out to hold.

    Args:
        prompts: how many of its first rows are prompts.
        answer_kind: how their answers can be compared; None: there are no answers.
        categories: of these rows.
        answers: how many of these rows have an answer.
        columns: our names and the data's, where they differ.
    """

    prompts: int
    answer_kind: str | None
    categories: list[str] = field(default_factory=list)
    answers: int = 0
    columns: dict[str, str] = field(default_factory=dict)


def look(source: str) -> Found:
    """Read the first rows of a data file. InputError where no prompt can be read from it."""
    if source == EMBEDDED_TASKS:
        return Found(0, None)
    columns = _renamed(source)
    records = load_prompts(source, limit=LOOKED_AT, columns=columns)
    if not records:
        raise InputError(f"--data {source}: no prompt can be read from it")

    answers = [record.answer for record in records if record.answer is not None]
    # Labels that were held back for a part of the prompts are enough for the payoff and for the
    # measuring.
    needed = min(FEW, max(1, len(records) / 2))
    kind = answer_kind(answers) if len(answers) >= needed else None
    categories = sorted({record.category for record in records} - {""})
    return Found(len(records), kind, categories, len(answers), columns)


def _renamed(source: str) -> dict[str, str]:
    """Our names and the data's, for the columns of the first row that have another name there."""
    readable = (row for _, row in read_rows(source) if not isinstance(row, Broken))
    there = next(readable, {})
    columns = {}
    for ours, theirs in OTHER_NAMES.items():
        found = [name for name in theirs if name in there]
        if ours not in there and found:
            columns[ours] = found[0]
    return columns


def answer_kind(answers: Sequence[str]) -> str:
    """How these answers are read.

    It is number, yes_no, letter or math where nearly all answers can be read so, else exact.

    >>> answer_kind(["4", "#### 17"]), answer_kind(["yes", "No"])
    ('number', 'yes_no')
    >>> answer_kind(["B", "A"]), answer_kind(["Paris"])
    ('letter', 'exact')
    """
    letters = r"\(?[A-Ja-j]\)?\.?"
    if all(re.fullmatch(letters, answer.strip()) for answer in answers):
        return "letter"

    has_latex = any("\\" in answer for answer in answers)
    # A few odd answers in a hundred do not change what the others are.
    needed = 0.98 * len(answers)
    for kind in KINDS:
        if kind == "math" and not has_latex:
            continue
        if sum(_reads(kind, answer) for answer in answers) >= needed:
            return kind
    return "exact"


def _reads(kind: str, answer: str) -> bool:
    """Whether gold of this kind can be read from the answer.

    Prose that happens to hold a number is no answer.
    """
    short = len(answer.split()) <= 6 or "####" in answer or "\\boxed" in answer
    try:
        return short and bool(grade(kind, answer, answer))
    except InputError:
        return False


def arm(text: str) -> dict[str, Any]:
    """One arm from what a user typed.

    That is ``[NAME=]MODEL``, ``[NAME=]file.py:Class``, ``[NAME=]package.module:Class`` or
    ``[NAME=]metric:NAME``.

    >>> arm("brief=metric:length")
    {'name': 'brief', 'kind': 'metric', 'metric': 'length'}
    >>> arm("rules=my.py:Judge")
    {'name': 'rules', 'kind': 'python', 'path': 'my:Judge'}
    """
    name, given, what = text.partition("=")
    if not given:
        name, what = re.sub(r"\.py:.*$", "", Path(text).name).removeprefix("metric:"), text
    if what.startswith("metric:"):
        return {"name": name, "kind": "metric", "metric": what.removeprefix("metric:")}
    if re.search(r"(\.py|^[\w.]+):[A-Za-z_]\w*$", what):
        return {"name": name, "kind": "python", "path": imported(what)}
    return {"name": name, "kind": arm_kind_of(what), "model": what}


def imported(path: str) -> str:
    """The import path of a class in a file below the present directory.

    InputError for a file elsewhere.

    >>> imported("my.py:Judge"), imported("arms/my.py:Judge"), imported("my.arms:Judge")
    ('my:Judge', 'arms.my:Judge', 'my.arms:Judge')
    """
    module, _, name = path.rpartition(":")
    if not module.endswith(".py"):
        return path
    inside = Path(module)
    if inside.is_absolute():
        inside = Path(os.path.relpath(inside))
    if ".." in inside.parts:
        raise InputError(
            f"--arm {path}: the file has to lie in the present directory or below it, "
            "or be an installed module (package.module:Class)"
        )
    parts = inside.with_suffix("").parts
    return f"{'.'.join(parts)}:{name}"


def arm_kind_of(model: str) -> str:
    """classifier, loglik or embedding.

    The model's own configuration says it where it is on this disk, else its name does.
    """
    name = model.lower()
    is_encoder = (Path(model) / "modules.json").is_file() or "minilm" in name
    if is_encoder:
        return "embedding"

    if at_hand(model) and model != "tiny":
        architectures = getattr(model_config(model), "architectures", None) or []
        classes = " ".join(architectures)
        is_reward = "Classification" in classes or "Reward" in classes
        return "classifier" if is_reward else "loglik"

    # Not on this disk: reward models mostly say in their name what they are.
    reward = re.search(r"reward|classif|(^|[-_/])rm([-_]|$)|deberta|bert", name)
    return "classifier" if reward else "loglik"


def written(
    data: str,
    arms: Sequence[str],
    policy: str | None,
    judge: str | None = None,
    measured_by: str | None = None,
) -> str:
    """The configuration as commented YAML, checked against the schema.

    ``judge``: an arm that pays the router, ``measured_by``: one that compares the responses before
    training and after. Both judge no prompt of the training. InputError for data or arms that
    cannot serve.
    """
    found = look(data)
    routed = [arm(text) for text in arms]
    apart = {
        key: arm(text)
        for key, text in (("payoff", judge), ("eval", measured_by))
        if text is not None
    }
    if apart and not routed:
        raise InputError(
            "--judge and --measured-by stand beside arms of your own; give --arm twice or more"
        )
    tree = _tree(data, found, routed, policy)
    for section, entry in apart.items():
        tree["arms"].append(entry)
        tree[section] = {"arm": entry["name"]}
    configuration.validate(tree, "init")
    return "\n".join(_lines(tree, found)) + "\n"


def _tree(
    data: str, found: Found, arms: list[dict[str, Any]], policy: str | None
) -> dict[str, Any]:
    names = [a["name"] for a in arms]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise InputError(f"--arm: two arms are called {twice[0]!r}; write NAME=MODEL")
    if len(arms) == 1:
        raise InputError(
            f"--arm {arms[0]['name']}: one arm leaves nothing to route; give "
            "two or more, or none for the packaged ones"
        )
    section: dict[str, Any] = {"source": data}
    if found.columns:
        section["columns"] = dict(found.columns)
    if found.answer_kind:
        section["answer_kind"] = found.answer_kind
    tree: dict[str, Any] = {"data": section, "policy": {"model": policy or "smollm2-135m-instruct"}}
    if arms:
        tree["arms"] = list(arms)
    tree["router"] = {"name": "adaptive", "unit": "prompt"}
    return tree


def _lines(tree: dict[str, Any], found: Found) -> list[str]:
    gold = found.answer_kind is not None or tree["data"]["source"] == EMBEDDED_TASKS
    comments = {
        "data": _data_comment(tree, found),
        "policy": "The model that is trained (LoRA). Its answers end after 96 tokens; "
        "reasoning needs more, and more time: max_new_tokens: 256.",
        "arms": "The reward models; each response is scored by the one that the router picks. "
        "What each kind takes: docs/reward-models.md. `cost` is a price a call.",
        "router": "Who picks: adaptive, linucb, thompson, bayesian, exp3, uniform ...; unit: "
        "prompt, batch or pair. Which one when: docs/choosing.md.",
        "payoff": "What the router learns from: this arm's order of the responses. "
        "It judges no prompt itself.",
        "eval": "This arm takes no part in the training. At the end it says how often the "
        "response after training is better than the one before.",
    }
    lines = [
        "# Made by `reward-router init`. What it will take: reward-router "
        "train THIS.yaml --dry-run",
        "# Every key and its default: docs/configuration.md.",
    ]
    for name, section in tree.items():
        text = yaml.safe_dump({name: section}, sort_keys=False, allow_unicode=True).rstrip()
        lines += ["", *_comment(comments[name]), text]
    if "arms" not in tree:
        lines += [
            "",
            *_comment(
                "No arms are named: the seven packaged ones judge (length, grammar, relevance "
                "...). Yours, for example:"
            ),
        ]
        lines += [
            "# arms:",
            "#   - {name: mine, kind: classifier, model: path/or/hub-name}",
            "#   - {name: rules, kind: python, path: my_arm:Judge}",
        ]
    if "payoff" not in tree:
        lines += ["", *_comment(PROBE if gold else NEG_LOSS)]
    if gold and tree["data"]["source"] != EMBEDDED_TASKS:
        lines += _comment(
            "eval: 20 % of the prompts are held out and measured before and after. "
            "eval: {data: null} trains on all of them."
        )
    lines += [
        "",
        "# Eight short steps by default. A longer run, for example:",
        "# train: {batches_per_iteration: 40, batch_prompts: 16, lr: 2e-4}",
    ]
    return lines


PROBE = (
    "payoff: probe, because the data has answers: does the arm put right answers above wrong ones? "
    "A prompt teaches the router only where some of its responses are right and some wrong "
    "(docs/choosing.md)."
)
NEG_LOSS = (
    "payoff: neg_loss, because the data has no answers: it rewards arms that agree with the "
    "policy, not arms that are right. Better: an `answer` column and data.answer_kind; "
    "{arm: NAME}, a strong judge among the arms; or {name: python, path: my_payoff:score}, "
    "a function of yours (docs/choosing.md)."
)


def _comment(text: str) -> list[str]:
    """A comment of YAML in lines of at most 100 columns."""
    return [f"# {line}" for line in textwrap.wrap(text, WIDE - 2, break_long_words=False)]


def _data_comment(tree: dict[str, Any], found: Found) -> str:
    if tree["data"]["source"] == EMBEDDED_TASKS:
        return (
            "The packaged prompts, with rules that verify the answers. Your own: a file with a "
            "column `prompt` (and `answer`)."
        )
    kinds = f"categories {', '.join(found.categories[:6])}" if found.categories else "no categories"
    answers = (
        f"{found.answers} of the first {found.prompts} have answers, "
        f"compared as {found.answer_kind}"
        if found.answer_kind
        else "no answers, so no gold"
    )
    names = (
        ""
        if found.columns
        else " Other column names: columns: {prompt: question, answer: solution}."
    )
    return f"Your prompts: {kinds}; {answers}.{names}"


def write_config(out: Path, text: str, force: bool) -> Path:
    """Put the configuration at ``out``.

    InputError where something is there and ``force`` is not given.
    """
    if out.exists() and not force:
        raise InputError(f"--out {out} exists; give another file, or --force to write over it")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: the folder {out.parent} does not exist")
    write_atomically(out, text)
    return out


def preset_lines() -> list[tuple[str, str]]:
    """Every packaged configuration and the first sentence of the comment it begins with."""
    found = []
    for name in configuration.presets():
        comment = []
        for line in configuration.preset_text(name).splitlines():
            if not line.startswith("#"):
                break
            comment.append(line.lstrip("# "))
        text = " ".join(comment)
        end = re.search(r"[.;:] |\.$", re.sub(r"v\d\.\d", lambda m: "_" * len(m[0]), text))
        found.append((name, text[: end.start()] if end else text))
    return found
