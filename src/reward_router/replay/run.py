"""The one function behind ``reward-router replay``: read, evaluate, print, write JSON.

The HTML is drawn by the layer above.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from reward_router.errors import InputError
from reward_router.progress import counted, plain_console, say
from reward_router.reading import FORMATS
from reward_router.replay import carried, embed, feedback, ledger_log, methods
from reward_router.replay.carried import Carry
from reward_router.replay.evaluate import ReplaySettings, evaluate_methods
from reward_router.replay.importers import kind, load_records
from reward_router.replay.ledger_rows import ledger_rows
from reward_router.replay.offline_stage import NothingToLearn
from reward_router.replay.records import Records
from reward_router.replay.table import show_file, show_sources, show_values
from reward_router.rundir import refuse_folder
from reward_router.strict_json import dumps

SCHEMA = 1
Json = dict[str, Any]
RecordReader = Callable[[Sequence[str]], Iterator[Records]]


@dataclass(frozen=True)
class Selection:
    """Which arms of a file take part: globs, several joined by commas."""

    keep: str | None = None
    drop: str | None = None


def measure(
    files: Sequence[str],
    selection: Selection,
    settings: ReplaySettings,
    console: Console | None = None,
    carry: Carry | None = None,
) -> Json:
    """Evaluate every file in turn; each is printed as soon as it is done.

    The result is {"schema", "settings", "files": [...], "ledgers": [...], "refused": [...]}. A
    ledger gives off-policy values of every arm alone, and a file of its own where its audits have
    gold for each response. A file on which a method that was asked for can learn nothing is named
    in ``refused``, and the others go on; where it is the only one it is an error.

    ``InputError`` for anything a user can put right: a missing or broken file, one arm only, an
    unknown router, key or feature.

    Args:
        files: paths or Hub names.
        selection: which arms take part.
        settings: how to evaluate.
        console: where results are printed; None: nowhere.
        carry: methods learn on some rows and are judged on others (`carried`).
    """
    blocks = embed.parse_contexts(settings.features)
    if settings.by not in (None, "category"):
        raise InputError(f"--by {settings.by}, allowed: category")
    read = _reader(settings, blocks)
    described = {"schema": SCHEMA, "settings": _described(settings, selection)}
    if carry is not None:
        outcome = _carried(read, files, selection, settings, console, carry)
        return {**described, "ledgers": [], **outcome}
    if not files:
        raise InputError(f"no file given, allowed: {FORMATS}")
    ledgers = [f for f in files if kind(f) == "ledger"]
    values = [_valued(Path(f)) for f in ledgers]
    with_rows = [f for f in files if f not in ledgers]
    with_rows += [f for f, v in zip(ledgers, values, strict=True) if "no_rows" not in v]
    narrow = _narrowed(selection)
    show_result = _printed(console, settings)
    results: list[Json] = []
    refused: list[NothingToLearn] = []
    for records in read(with_rows):
        try:
            result = evaluate_methods(narrow(records), settings)
        except NothingToLearn as error:
            refused.append(error)
            if console is not None and len(with_rows) > 1:
                say(console, f"{records.name}: left out. {error}", wrap=False)
                console.line()
            continue
        results.append(result)
        show_result(result)
    if refused and not results:
        raise refused[0]
    if console is not None:
        for entry in values:
            show_values(entry, console)
    reasons = [str(error) for error in refused]
    return {**described, "files": results, "ledgers": values, "refused": reasons}


def _carried(
    read: RecordReader,
    files: Sequence[str],
    selection: Selection,
    settings: ReplaySettings,
    console: Console | None,
    carry: Carry,
) -> Json:
    """What is learned on some files or sources and judged on others, printed."""
    narrow = _narrowed(selection)
    show_result = _printed(console, settings)
    if carry.by_source:
        # Every source in turn is what the others are judged on.
        every_file = list(read(files))
        return carried.by_source(every_file, narrow, settings, carry, show_result)

    train = list(read(carry.train))
    test = list(read(carry.test))
    result = carried.train_test(train, test, narrow, settings, carry)
    show_result(result["files"][0])
    return result


def _reader(settings: ReplaySettings, blocks: Sequence[str]) -> RecordReader:
    """Reads files with what the methods asked for need of them, and no more."""
    routers = settings.routers or ()
    learns_strengths = any(name.startswith(("bayesian", "weighted_score")) for name in routers)
    contexts_read_them = bool({"pair", "lengths"} & set(blocks))
    keep_responses = contexts_read_them or ("auto" in blocks and learns_strengths)

    columns = [methods.column_of(name) for name in routers]
    # Category and source are kept anyway.
    tags = [str(column) for column in columns if column not in (None, "category", "source")]
    limit = _prompt_limit(blocks)
    return lambda files: load_records(files, limit, keep_responses, tags)


def _narrowed(selection: Selection) -> Callable[[Records], Records]:
    return lambda records: records.select(selection.keep, selection.drop)


def _printed(console: Console | None, settings: ReplaySettings) -> Callable[[Json], None]:
    def show_result(result: Json) -> None:
        if console is not None:
            show_file(result, console, settings.by is not None)

    return show_result


def _valued(path: Path) -> Json:
    """Off-policy values of a ledger, and whether its audits give rows to replay.

    ``InputError`` where it gives neither.
    """
    entry = ledger_log.values(path)
    try:
        next(ledger_rows(path))
    except StopIteration:
        entry["no_rows"] = f"{path.name}: no response was scored by two arms"
    except InputError as error:
        entry["no_rows"] = str(error)
    if "no_rows" in entry and "refused" in entry:
        raise InputError(f"{entry['refused']}; and {entry['no_rows']}")
    return entry


def replay(  # noqa: PLR0913 - one argument for each option of the command, passed on as they are
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
    """What the command line calls: measure, print, and write the JSON file.

    Returns the result, from which the report is drawn.

    Args:
        files: paths or Hub names.
        routers: methods by name, with their options; None: the whole table.
        arms: globs of the arms that take part, joined by commas.
        drop_arms: globs of the arms that do not.
        features: blocks of the contexts, see ``embed.build``.
        payoff: what pays online routers, see ``feedback``.
        seeds: runs of each online router.
        folds: folds of the cross-fitted methods.
        by: ``category`` for a table by category.
        json_out: the JSON file.
        report_out: not written here (the report is a layer above); it is only checked before hours
            are spent.
        console: where results are printed.
        workers: processes to run in, which changes no number; more than 1 needs the caller's
            ``if __name__ == "__main__"``.
        train: with ``test`` in the place of ``files``: the files that methods learn on.
        test: the files that they are judged on.
        by_source: each source (the rows' column ``source``, else the file) is left out once and
            judged by what the others taught.
        test_feedback: online routers are paid on the test files as well.
        keep_shared: training rows stay although their prompt is judged.
    """
    if seeds < 1 or folds < 2:
        raise InputError(f"--seeds {seeds} --folds {folds}; allowed: seeds >= 1, folds >= 2")
    # Said now and not after hours.
    for out in (json_out, report_out):
        if out is None:
            continue
        if not out.parent.is_dir():
            raise InputError(f"{out}: the folder {out.parent} does not exist")
        refuse_folder(out)

    pays = feedback.parse_feedback(payoff)
    settings = ReplaySettings(routers or None, features, pays, seeds, folds, by, workers)
    carry = _carry(files, Carry(tuple(train), tuple(test), by_source, test_feedback, keep_shared))
    selection = Selection(arms, drop_arms)
    shown = console or plain_console()
    with counted(shown, "runs of methods") as tick:
        followed = replace(settings, tick=tick)
        result = measure(files, selection, followed, shown, carry)

    if by_source:
        show_sources(result, shown)
    if json_out is not None:
        json_out.write_text(dumps(result, indent=1), encoding="utf-8")
    return result


def _carry(files: Sequence[str], wanted: Carry) -> Carry | None:
    """What was asked for beyond folds of one file, checked; None where nothing was."""
    if bool(wanted.train) != bool(wanted.test):
        one, other = ("--train", "--test") if wanted.train else ("--test", "--train")
        raise InputError(f"{one} needs {other}: files to learn from and files to judge")
    if wanted.train and (files or wanted.by_source):
        what = "--by-source" if wanted.by_source else f"{files[0]} beside --train and --test"
        raise InputError(
            f"{what}: give either files, or --train FILE... --test FILE..., "
            "or files and --by-source"
        )
    if wanted.goes_on and not wanted.train:
        raise InputError("--test-feedback needs --train and --test")
    if wanted.keep_shared and not (wanted.train or wanted.by_source):
        raise InputError("--keep-shared needs --train and --test, or --by-source")
    sources = [*wanted.train, *wanted.test, *(files if wanted.by_source else ())]
    ledgers = [name for name in sources if kind(name) == "ledger"]
    if ledgers:
        raise InputError(
            f"{ledgers[0]}: a ledger is replayed alone, without --train, --test or --by-source"
        )
    if wanted.by_source and not files:
        raise InputError(f"no file given, allowed: {FORMATS}")
    return wanted if wanted.train or wanted.by_source else None


def _prompt_limit(blocks: Sequence[str]) -> int | None:
    """How many prompts' texts to hold while reading.

    None for all; 0 without need; at most 20,000 where nobody asked for them.
    """
    if {"prompt", "pair", "lengths"} & set(blocks):
        return None
    return embed.AUTO_PROMPTS if "auto" in blocks else 0


def _described(settings: ReplaySettings, selection: Selection) -> Json:
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
