"""The one function behind ``reward-router replay``: read, evaluate, print, write JSON. The HTML is drawn by the layer above."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from reward_router.errors import InputError
from reward_router.progress import plain_console, say
from reward_router.reading import FORMATS
from reward_router.replay import carried, embed, feedback, ledger_log, methods
from reward_router.replay.carried import Carry
from reward_router.replay.evaluate import Settings, evaluate
from reward_router.replay.importers import kind, load
from reward_router.replay.ledger_rows import ledger_rows
from reward_router.replay.offline_stage import NothingToLearn
from reward_router.replay.records import Records
from reward_router.replay.table import show, show_sources, show_values
from reward_router.strict_json import dumps

SCHEMA = 1
Json = dict[str, Any]


@dataclass(frozen=True)
class Selection:
    """Which arms of a file take part: globs, several joined by commas."""

    keep: str | None = None
    drop: str | None = None


def measure(
    files: Sequence[str],
    selection: Selection,
    settings: Settings,
    console: Console | None = None,
    carry: Carry | None = None,
) -> Json:
    """Evaluate every file in turn -> {"schema", "settings", "files": [...], "ledgers": [...]}; printed as soon as it is done.

    A ledger gives off-policy values of every arm alone, and a file of its own where its audits have gold for each response.
    With ``carry`` methods learn on some rows and are judged on others (`carried`). A file on which a method that was asked for can
    learn nothing is named in ``refused``, and the others go on; where it is the only one it is an error.

    ``InputError`` for anything a user can put right: a missing or broken file, one arm only, an unknown router, key or feature.
    """
    blocks = embed.parse(settings.features)
    if settings.by not in (None, "category"):
        raise InputError(f"--by {settings.by}, allowed: category")
    read = _reader(settings, blocks)
    if carry is not None:
        if carry.by_source:
            told = _narrowed(selection), settings, carry, _printed(console, settings)
            found = carried.by_source(list(read(files)), *told)
        else:
            train, test = list(read(carry.train)), list(read(carry.test))
            found = carried.train_test(train, test, _narrowed(selection), settings, carry)
            _printed(console, settings)(found["files"][0])
        return {
            "schema": SCHEMA,
            "settings": _described(settings, selection),
            "ledgers": [],
            **found,
        }
    if not files:
        raise InputError(f"no file given, allowed: {FORMATS}")
    plain, ledgers = (
        [f for f in files if kind(f) != "ledger"],
        [f for f in files if kind(f) == "ledger"],
    )
    valued = [_valued(Path(f)) for f in ledgers]
    with_rows = plain + [f for f, v in zip(ledgers, valued, strict=True) if "no_rows" not in v]
    results, refused = [], list[NothingToLearn]()
    for records in read(with_rows):
        try:
            results.append(evaluate(_narrowed(selection)(records), settings))
        except NothingToLearn as error:
            refused.append(error)
            if console is not None and len(with_rows) > 1:
                say(console, f"{records.name}: left out. {error}", wrap=False)
                console.line()
            continue
        _printed(console, settings)(results[-1])
    if refused and not results:
        raise refused[0]
    if console is not None:
        for values in valued:
            show_values(values, console)
    described = _described(settings, selection)
    found = {"schema": SCHEMA, "settings": described, "files": results, "ledgers": valued}
    return found | {"refused": [str(error) for error in refused]}


def _reader(
    settings: Settings, blocks: Sequence[str]
) -> Callable[[Sequence[str]], Iterator[Records]]:
    """Reads files with what the methods asked for need of them, and no more."""
    named = settings.routers or ()
    strengths = any(name.startswith(("bayesian", "weighted_score")) for name in named)
    keep_responses = bool({"pair", "lengths"} & set(blocks)) or ("auto" in blocks and strengths)
    tags = [
        column
        for column in map(methods.column_of, named)
        if column not in (None, "category", "source")
    ]
    return lambda files: load(
        files, _prompt_limit(blocks), keep_responses, [str(tag) for tag in tags]
    )


def _narrowed(selection: Selection) -> Callable[[Records], Records]:
    return lambda records: records.select(selection.keep, selection.drop)


def _printed(console: Console | None, settings: Settings) -> Callable[[Json], None]:
    return lambda result: (
        None if console is None else show(result, console, settings.by is not None)
    )


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
    train: Sequence[str] = (),
    test: Sequence[str] = (),
    by_source: bool = False,
    test_feedback: bool = False,
    keep_shared: bool = False,
) -> Json:
    """What the command line calls: measure, print, and write the JSON file. Returns the result, from which the report is drawn.

    ``workers``: processes to run in, which changes no number; more than 1 needs the caller's ``if __name__ == "__main__"``.
    ``train`` and ``test`` take the place of ``files``: methods learn on the first and are judged on the others. ``by_source``: each source
    (the rows' column ``source``, else the file) is left out once and judged by what the others taught. ``test_feedback``: online routers
    are paid on the test files as well. ``keep_shared``: training rows stay although their prompt is judged.
    ``report_out`` is not written here (the report is a layer above); it is only checked before hours are spent.
    """
    if seeds < 1 or folds < 2:
        raise InputError(f"--seeds {seeds} --folds {folds}; allowed: seeds >= 1, folds >= 2")
    for out in (json_out, report_out):
        if out is not None and not out.parent.is_dir():
            raise InputError(f"{out}: the folder {out.parent} does not exist")
    settings = Settings(
        routers or None, features, feedback.parse(payoff), seeds, folds, by, workers
    )
    carry = _carry(files, Carry(tuple(train), tuple(test), by_source, test_feedback, keep_shared))
    shown = console or plain_console()
    result = measure(files, Selection(arms, drop_arms), settings, shown, carry)
    if by_source:
        show_sources(result, shown)
    if json_out is not None:
        json_out.write_text(dumps(result, indent=1), encoding="utf-8")
    return result


def _carry(files: Sequence[str], wanted: Carry) -> Carry | None:
    """What was asked for beyond folds of one file, checked; None where nothing was."""
    if bool(wanted.train) != bool(wanted.test):
        given, other = ("--train", "--test") if wanted.train else ("--test", "--train")
        raise InputError(f"{given} needs {other}: files to learn from and files to judge")
    if wanted.train and (files or wanted.by_source):
        what = "--by-source" if wanted.by_source else f"{files[0]} beside --train and --test"
        raise InputError(
            f"{what}: give either files, or --train FILE... --test FILE..., or files and --by-source"
        )
    if wanted.goes_on and not wanted.train:
        raise InputError("--test-feedback needs --train and --test")
    if wanted.keep_shared and not (wanted.train or wanted.by_source):
        raise InputError("--keep-shared needs --train and --test, or --by-source")
    ledgers = [
        name
        for name in (*wanted.train, *wanted.test, *(files if wanted.by_source else ()))
        if kind(name) == "ledger"
    ]
    if ledgers:
        raise InputError(
            f"{ledgers[0]}: a ledger is replayed alone, without --train, --test or --by-source"
        )
    if wanted.by_source and not files:
        raise InputError(f"no file given, allowed: {FORMATS}")
    return wanted if wanted.train or wanted.by_source else None


def _prompt_limit(blocks: Sequence[str]) -> int | None:
    """How many prompts' texts to hold while reading: none without need, at most 20,000 where nobody asked for them."""
    if {"prompt", "pair", "lengths"} & set(blocks):
        return None
    return embed.AUTO_PROMPTS if "auto" in blocks else 0


def _described(settings: Settings, selection: Selection) -> Json:
    rule = settings.feedback
    return {
        "features": settings.features,
        "payoff": {
            "kind": rule.kind,
            "fraction": rule.fraction,
            "delay": rule.delay,
            "others": rule.others,
        },
        "seeds": settings.seeds,
        "folds": settings.folds,
        "arms": selection.keep,
        "drop_arms": selection.drop,
    }
