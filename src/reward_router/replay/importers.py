"""Files as they come -> :class:`Records`.

They are our own rows, our ledger, and what benchmarks write, one file an arm. RewardBench 1 writes
lines or one JSON of columns (see ``rewardbench1``). RewardBench 2 writes one JSON of columns: id,
subset, num_correct, and scores with one list an item, the correct completions first. JudgeBench
writes lines with the judgments of one judge, RM-Bench an array of items with three chosen and three
rejected scores. Several files of a kind given together become one whose arms are the models. The
first row tells the kind, never the file's name.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from reward_router.errors import InputError
from reward_router.replay import judgebench, reading, rewardbench1, rewardbench2, rmbench
from reward_router.replay.columns import Columns, collect
from reward_router.replay.ledger_rows import ledger_rows
from reward_router.replay.records import Records

Json = dict[str, Any]

_ONE_ARM_A_FILE = ("rewardbench1", "rewardbench2", "judgebench", "rmbench")
_HINT = "; give the files of several models together"


def load_records(
    files: Sequence[str],
    keep_prompts: int | None = None,
    keep_responses: bool = True,
    tags: Sequence[str] = (),
) -> Iterator[Records]:
    """Records of each file, those of one benchmark merged into one set of records.

    Lazy: one file at a time is held.

    Args:
        files: paths or Hub names.
        keep_prompts: keep prompt texts up to so many prompts (None: all, 0: none).
        keep_responses: whether the responses' texts are kept.
        tags: further columns of plain rows to keep.
    """
    kinds = [kind(source) for source in files]
    for source, file_kind in zip(files, kinds, strict=True):
        name = reading.short_name(source)
        if file_kind == "rows":
            yield collect(name, reading.rows(source), keep_prompts, keep_responses, tags)
        elif file_kind == "ledger":
            yield collect(name, ledger_rows(Path(source)), keep_prompts, keep_responses)

    # Files with one arm each are halves of one set: they are merged by benchmark.
    for benchmark in _ONE_ARM_A_FILE:
        together = []
        for source, file_kind in zip(files, kinds, strict=True):
            if file_kind == benchmark:
                together.append(source)
        if together:
            yield _merged(benchmark, together, keep_prompts, keep_responses)


def kind(source: str) -> str:
    """rows | ledger | rewardbench1 | rewardbench2 | judgebench | rmbench.

    It is told from the first row that can be read.
    """
    if reading.is_ledger(source):
        return "ledger"
    row = reading.peek(source)
    if row is None:
        return "rows"
    if isinstance(row.get("judgments"), list):
        return "judgebench"
    if isinstance(row.get("score_chosen"), list) and isinstance(row.get("score_rejected"), list):
        return "rmbench"
    if "scores_chosen" in row or rewardbench1.is_verdict(row) or rewardbench1.is_bare(row):
        return "rewardbench1"
    if "num_correct" in row or (
        "subset" in row and "id" in row and isinstance(row.get("scores"), list)
    ):
        return "rewardbench2"
    if rewardbench1.is_summary(row):
        raise InputError(
            f"{source}: a RewardBench summary (one figure a subset); "
            "give the file of scores, of eval-set-scores"
        )
    return "rows"


def files_by_arm(files: Sequence[str]) -> dict[str, str]:
    """Arm -> file: ``org/model_outputs.jsonl`` is ``model``.

    It is ``org/model`` where two files would share the name. ``InputError`` where they still do:
    scores of two models must never become one arm.
    """
    short = [_arm(file) for file in files]
    arms = []
    for arm, file in zip(short, files, strict=True):
        is_unique = short.count(arm) == 1
        folder = Path(file).resolve().parent.name
        arms.append(arm if is_unique else f"{folder}/{arm}")

    for arm in arms:
        same_name = [file for name, file in zip(arms, files, strict=True) if name == arm]
        if len(same_name) > 1:
            same = ", ".join(same_name)
            raise InputError(f"{same}: two files of one name would be one arm, {arm}; rename one")
    return dict(zip(arms, files, strict=True))


def _arm(file: str) -> str:
    """A model's name out of its file's.

    JudgeBench says it after ``judge_model=``, RewardBench before ``_outputs``.
    """
    name = reading.short_name(file)
    fields = {}
    for part in name.split(","):
        key, equals, value = part.partition("=")
        if equals:
            fields[key] = value

    model = fields.get("judge_model")
    if not model:
        return name.removesuffix("_outputs").removesuffix("_all")
    judge = fields.get("judge_name", "")
    return model if judge in ("", "reward_model") else f"{judge}:{model}"


def _merged(
    benchmark: str, files: Sequence[str], keep_prompts: int | None, keep_responses: bool
) -> Records:
    """All files of one benchmark as one set of records.

    The better response stands on the side that a coin of the item says, or where the benchmark put
    it.
    """
    arms = files_by_arm(files)
    official: Json = {}
    if benchmark == "rewardbench1":
        items, problems, lines = rewardbench1.join_files(arms)
    elif benchmark == "rewardbench2":
        items, problems, lines, official = rewardbench2.join_files(arms)
        # Its files hold no texts, so there are none to keep.
        keep_prompts = 0
        keep_responses = False
    elif benchmark == "judgebench":
        items, problems, lines = judgebench.join_files(arms)
    else:
        items, problems, lines = rmbench.join_files(arms)
    short = {"rewardbench1": "rewardbench"}.get(benchmark, benchmark)
    columns = Columns(short, keep_prompts, keep_responses)
    for where, why in problems:
        columns.broken(where, why)
    for where, row in items.items():
        columns.add(row, where)
    return columns.finish(official, _HINT, lines=lines)
