"""The one function behind ``reward-router replay``: read, evaluate, print, write JSON. The HTML is drawn by the layer above."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from reward_router.errors import InputError
from reward_router.replay import embed, feedback, ledger_log
from reward_router.replay.evaluate import Settings, evaluate
from reward_router.replay.importers import kind, load
from reward_router.replay.ledger_rows import ledger_rows
from reward_router.replay.table import show, show_values
from reward_router.rows import FORMATS
from reward_router.show import plain_console
from reward_router.strict_json import dumps

SCHEMA = 1
Json = dict[str, Any]


@dataclass(frozen=True)
class Selection:
    """Which arms of a file take part: globs, several joined by commas."""

    keep: str | None = None
    drop: str | None = None


def measure(files: Sequence[str], selection: Selection, settings: Settings, console: Console | None = None) -> Json:
    """Evaluate every file in turn -> {"schema", "settings", "files": [...], "ledgers": [...]}; printed as soon as it is done.

    A ledger gives off-policy values of every arm alone, and a file of its own where its audits have gold for each response.

    ``InputError`` for anything a user can put right: a missing or broken file, one arm only, an unknown router, key or feature.
    """
    blocks = embed.parse(settings.features)
    if settings.by not in (None, "category"):
        raise InputError(f"--by {settings.by}, allowed: category")
    if not files:
        raise InputError(f"no file given, allowed: {FORMATS}")
    plain, ledgers = [f for f in files if kind(f) != "ledger"], [f for f in files if kind(f) == "ledger"]
    valued = [_valued(Path(f)) for f in ledgers]
    with_rows = plain + [f for f, v in zip(ledgers, valued, strict=True) if "no_rows" not in v]
    strengths = any(name.startswith(("bayesian", "weighted_score")) for name in settings.routers or ())
    keep_responses = bool({"pair", "lengths"} & set(blocks)) or ("auto" in blocks and strengths)
    results = []
    for records in load(with_rows, _prompt_limit(blocks), keep_responses):
        result = evaluate(records.select(selection.keep, selection.drop), settings)
        if console is not None:
            show(result, console, settings.by is not None)
        results.append(result)
    if console is not None:
        for found in valued:
            show_values(found, console)
    return {"schema": SCHEMA, "settings": _described(settings, selection), "files": results, "ledgers": valued}


def _valued(path: Path) -> Json:
    """Off-policy values of a ledger, and whether its audits give rows to replay; ``InputError`` where it gives neither."""
    found = ledger_log.values(path)
    try:
        next(ledger_rows(path))
    except StopIteration:
        found["no_rows"] = f"{path.name}: no response was scored by two arms"
    except InputError as error:
        found["no_rows"] = str(error)
    if "no_rows" in found and "refused" in found:
        raise InputError(f"{found['refused']}; and {found['no_rows']}")
    return found


def replay(
    files: list[str],
    routers: list[str] | None = None,
    arms: str | None = None,
    drop_arms: str | None = None,
    features: str = "auto",
    payoff: str = "correct",
    seeds: int = 20,
    folds: int = 5,
    by: str | None = None,
    json_out: Path | None = None,
    report_out: Path | None = None,
    console: Console | None = None,
    workers: int = 1,
) -> Json:
    """What the command line calls: measure, print, and write the JSON file. Returns the result, from which the report is drawn.

    ``workers``: processes to run in, which changes no number; more than 1 needs the caller's ``if __name__ == "__main__"``.
    ``report_out`` is not written here (the report is a layer above); it is only checked before hours are spent.
    """
    if seeds < 1 or folds < 2:
        raise InputError(f"--seeds {seeds} --folds {folds}; allowed: seeds >= 1, folds >= 2")
    for out in (json_out, report_out):
        if out is not None and not out.parent.is_dir():
            raise InputError(f"{out}: the folder {out.parent} does not exist")
    settings = Settings(routers or None, features, feedback.parse(payoff), seeds, folds, by, workers)
    result = measure(files, Selection(arms, drop_arms), settings, console or plain_console())
    if json_out is not None:
        json_out.write_text(dumps(result, indent=1), encoding="utf-8")
    return result


def _prompt_limit(blocks: Sequence[str]) -> int | None:
    """How many prompts' texts to hold while reading: none without need, at most 20,000 where nobody asked for them."""
    if {"prompt", "pair", "lengths"} & set(blocks):
        return None
    return embed.AUTO_PROMPTS if "auto" in blocks else 0


def _described(settings: Settings, selection: Selection) -> Json:
    rule = settings.feedback
    return {
        "features": settings.features,
        "payoff": {"kind": rule.kind, "fraction": rule.fraction, "delay": rule.delay, "others": rule.others},
        "seeds": settings.seeds,
        "folds": settings.folds,
        "arms": selection.keep,
        "drop_arms": selection.drop,
    }
