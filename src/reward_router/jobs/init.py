"""``reward-router init``: a commented configuration that runs.

It is made of a data file, reward models and a policy.

Everything that can be found out is: whether the file's prompts can be read, whether its answers are
numbers, letters, or yes and no, what kind of arm a model is. Nothing is loaded but configurations.
Left out: what the schema's defaults say (`reward-router train --dry-run` shows what they come to).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from reward_router import config as configuration
from reward_router.data import load_prompts
from reward_router.errors import InputError
from reward_router.examples import EMBEDDED
from reward_router.grading import grade
from reward_router.preflight import at_hand, model_config
from reward_router.rundir import write_atomically

LOOKED_AT = 200
"""Rows whose answers are looked at."""
KINDS = ("number", "yes_no", "letter", "math")


@dataclass(frozen=True)
class Found:
    """What a data file turned out to hold.

    Args:
        prompts: how many of its first rows are prompts.
        answer_kind: how their answers can be compared; None: there are no answers.
        categories: of these rows.
    """

    prompts: int
    answer_kind: str | None
    categories: list[str] = field(default_factory=list)


def look(source: str) -> Found:
    """Read the first rows of a data file. InputError where no prompt can be read from it."""
    if source == EMBEDDED:
        return Found(0, None)
    records = load_prompts(source, limit=LOOKED_AT)
    if not records:
        raise InputError(f"--data {source}: no prompt can be read from it")
    answers = [r.answer for r in records if r.answer is not None]
    kind = answer_kind(answers) if len(answers) > len(records) / 2 else None
    categories = sorted({r.category for r in records} - {""})
    return Found(len(records), kind, categories)


def answer_kind(answers: Sequence[str]) -> str:
    """How these answers are read.

    It is number, yes_no, letter or math where nearly all answers can be read so, else exact.

    >>> answer_kind(["4", "#### 17"]), answer_kind(["yes", "No"])
    ('number', 'yes_no')
    >>> answer_kind(["B", "A"]), answer_kind(["Paris"])
    ('letter', 'exact')
    """
    if all(re.fullmatch(r"\(?[A-Ja-j]\)?\.?", a.strip()) for a in answers):
        return "letter"
    for kind in KINDS:
        # Every number is also mathematics: math needs a sign of LaTeX.
        if kind == "math" and not any("\\" in a for a in answers):
            continue
        if sum(_reads(kind, a) for a in answers) >= 0.98 * len(answers):
            return kind
    return "exact"


def _reads(kind: str, answer: str) -> bool:
    """Whether gold of this kind can be read from the answer.

    Prose that happens to hold a number is no answer.
    """
    # A final answer is short, or marked as one.
    short = len(answer.split()) <= 6 or "####" in answer or "\\boxed" in answer
    try:
        return short and bool(grade(kind, answer, answer))
    except InputError:
        return False


def arm(text: str) -> dict[str, Any]:
    """One arm from what a user typed.

    Forms are ``[NAME=]MODEL``, ``[NAME=]file.py:Class`` and ``[NAME=]metric:NAME``.

    >>> arm("brief=metric:length")
    {'name': 'brief', 'kind': 'metric', 'metric': 'length'}
    >>> arm("rules=my.py:Judge")
    {'name': 'rules', 'kind': 'python', 'path': 'my.py:Judge'}
    """
    name, has_name, what = text.partition("=")
    if not has_name:
        what = text
        name = re.sub(r"\.py:.*$", "", Path(text).name).removeprefix("metric:")
    if what.startswith("metric:"):
        return {"name": name, "kind": "metric", "metric": what.removeprefix("metric:")}
    if re.search(r"(\.py|^[\w.]+):[A-Za-z_]\w*$", what):
        return {"name": name, "kind": "python", "path": what}
    return {"name": name, "kind": kind_of(what), "model": what}


def kind_of(model: str) -> str:
    """classifier, loglik or embedding.

    The model's own configuration says it where it is on this disk, else its name does.
    """
    if (Path(model) / "modules.json").is_file() or "minilm" in model.lower():
        return "embedding"
    if at_hand(model) and model != "tiny":
        names = " ".join(getattr(model_config(model), "architectures", None) or [])
        return "classifier" if "Classification" in names or "Reward" in names else "loglik"
    reward = re.search(r"reward|classif|(^|[-_/])rm([-_]|$)|deberta|bert", model.lower())
    return "classifier" if reward else "loglik"


def written(data: str, arms: Sequence[str], policy: str | None) -> str:
    """The configuration as commented YAML, checked against the schema.

    InputError for data or arms that cannot serve.
    """
    contents = look(data)
    tree = _tree(data, contents, [arm(text) for text in arms], policy)
    configuration.validate(tree, "init")
    return "\n".join(_lines(tree, contents)) + "\n"


def _tree(
    data: str, contents: Found, arms: list[dict[str, Any]], policy: str | None
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
    if contents.answer_kind:
        section["answer_kind"] = contents.answer_kind
    tree: dict[str, Any] = {"data": section, "policy": {"model": policy or "smollm2-135m-instruct"}}
    if arms:
        tree["arms"] = arms
    tree["router"] = {"name": "linucb", "unit": "prompt"}
    return tree


def _lines(tree: dict[str, Any], contents: Found) -> list[str]:
    gold = contents.answer_kind is not None or tree["data"]["source"] == EMBEDDED
    comments = {
        "data": _data_comment(tree, contents),
        "policy": (
            "The model that is trained (LoRA). Its answers end after 96 tokens; reasoning needs "
            "more, and more time: max_new_tokens: 256."
        ),
        "arms": (
            "The reward models; each response is scored by the one that the router picks. kind: "
            "docs/rewards.md. `cost` is a price a call."
        ),
        "router": (
            "Who picks: linucb, thompson, bayesian, exp3, uniform ...; unit: prompt, batch or pair."
        ),
    }
    dry_run = "reward-router train THIS.yaml --dry-run"
    lines = [
        f"# Made by `reward-router init`. What it will take: {dry_run}",
        "# Every key and its default: docs/configuration.md.",
    ]
    for name, section in tree.items():
        lines += [
            "",
            f"# {comments[name]}",
            yaml.safe_dump({name: section}, sort_keys=False, allow_unicode=True).rstrip(),
        ]
    if "arms" not in tree:
        packaged = "# No arms are named: the seven packaged ones judge"
        lines += [
            "",
            f"{packaged} (length, grammar, relevance ...). Yours, for example:",
            "# arms:",
            "#   - {name: mine, kind: classifier, model: path/or/hub-name}",
            "#   - {name: rules, kind: python, path: my_arm.py:Judge}",
        ]
    payoff = (
        "# payoff: neg_loss, because the data has no answers: it rewards arms that agree with the "
        "policy. An `answer` column and data.answer_kind\n"
        "# make it probe; {name: python, path: my_payoff.py:score} is a function of yours."
    )
    if gold:
        payoff = (
            "# payoff: probe, because the data has answers: does the arm put right answers above "
            "wrong ones? (docs/training.md)"
        )
    lines += ["", payoff]
    if gold and tree["data"]["source"] != EMBEDDED:
        lines.append(
            "# eval: 20 % of the prompts are held out and measured before and after. eval: {data: "
            "null} trains on all of them."
        )
    lines += [
        "",
        "# Eight short steps by default. A longer run, for example:",
        "# train: {batches_per_iteration: 40, batch_prompts: 16, lr: 2e-4}",
    ]
    return lines


def _data_comment(tree: dict[str, Any], contents: Found) -> str:
    if tree["data"]["source"] == EMBEDDED:
        return (
            "The packaged prompts, with rules that verify the answers. Your own: a file with a "
            "column `prompt` (and `answer`)."
        )
    kinds = (
        f"categories {', '.join(contents.categories[:6])}"
        if contents.categories
        else "no categories"
    )
    answers = (
        f"answers compared as {contents.answer_kind}"
        if contents.answer_kind
        else "no answers, so no gold"
    )
    return (
        f"Your prompts: {kinds}; {answers}. Other column names: columns: "
        f"{{prompt: question, answer: solution}}."
    )


def write(out: Path, text: str, force: bool) -> Path:
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
    lines = []
    for name in configuration.presets():
        comment = []
        for line in configuration.preset_text(name).splitlines():
            if not line.startswith("#"):
                break
            comment.append(line.lstrip("# "))
        text = " ".join(comment)
        end = re.search(r"[.;:] |\.$", re.sub(r"v\d\.\d", lambda m: "_" * len(m[0]), text))
        lines.append((name, text[: end.start()] if end else text))
    return lines
