"""``reward-router experiment``: runs what is missing, seed by seed, and writes the table.

Every (job, seed) has a folder with a lock, which ends with its process, and a cell, which is
written whole or not at all. So a command may be killed anywhere and go on, and several processes
share one directory: each takes what nobody holds. The table is made of the cells that are there,
and is the same bytes however often the work was interrupted. A job that fails is counted and named;
the others go on.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from reward_router import __version__
from reward_router.errors import InputError, RewardRouterError
from reward_router.experiments import page
from reward_router.experiments.claims import claimed
from reward_router.experiments.forecast import show_forecast
from reward_router.experiments.kind import (
    EXPERIMENTS,
    PROFILES,
    ExperimentKind,
    Job,
    Place,
    Plan,
    Request,
)
from reward_router.experiments.results import Cell, Results, tabulate
from reward_router.jobs.study import folder_name
from reward_router.kinds import nearest
from reward_router.progress import LiteralTable, plain_console, say, show_table
from reward_router.rundir import make_folder, write_atomically
from reward_router.strict_json import dumps, finite

SCHEMA = 1
MARKER = "experiment.json"
"""What a directory of an experiment is known by: which one, of which version, on what."""
CELL = "cell.json"
FAILED = "failed.json"
Key = tuple[str, int]


def find(name: str) -> ExperimentKind:
    """The experiment of this name; InputError with the nearest one."""
    if name not in EXPERIMENTS:
        raise InputError(f"experiment {name!r} is unknown{nearest(name, EXPERIMENTS.names())}")
    return EXPERIMENTS[name]


def listed(console: Console) -> None:
    """Print every experiment with its paper, what it compares and what it takes."""
    table = LiteralTable(box=None, pad_edge=False, header_style="bold")
    for column in ("experiment", "paper", "what it compares", "laptop"):
        table.column(column, no_wrap=column == "experiment")
    for kind in EXPERIMENTS:
        table.row(kind.name, kind.paper, kind.sentence, kind.cost.get("laptop", "-"))
    show_table(console, table)
    say(console, "reward-router experiment NAME --out DIR runs one; docs/experiments.md says more")


def experiment(
    name: str,
    request: Request,
    out: Path,
    *,
    resume: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Run an experiment into ``out``; returns what ``result.json`` there holds.

    InputError for an unknown name, input that cannot be right, and a directory that holds something
    else, before anything is computed.
    """
    console = console or plain_console(quiet=True)
    kind = _kind(name, request)
    _check_place(out, kind, request, resume)
    plan: Plan = kind.make(request)
    _begin(out, kind, request, plan)
    work = list(_work(plan))
    runs = Path(request.runs) if request.runs is not None else None
    for done, (job, seed) in enumerate(work, 1):
        place = Place(seed, _folder(out, job.name, seed), out, console, runs)
        _run_one(job, place, f"{done}/{len(work)}")
    results = read(plan, out)
    return _write(kind, request, plan, results, out, console)


def foretold(name: str, request: Request, console: Console) -> None:
    """Say what an experiment would run, and what its training runs take. Writes nothing."""
    plan: Plan = _kind(name, request).make(request)
    runs = list(_work(plan))
    say(console, f"{name}: {plan.subject}")
    for job in plan.jobs:
        say(console, f"  {job.name}: {job.sentence}, {plan.seeds if job.seeded else 1} x")
    say(console, f"runs     {len(runs)}; they are independent: as many processes may share them")
    show_forecast(plan, console)


def _kind(name: str, request: Request) -> ExperimentKind:
    """The experiment, its profile checked."""
    kind = find(name)
    if request.profile not in PROFILES:
        raise InputError(f"--profile {request.profile!r}{nearest(request.profile, PROFILES)}")
    return kind


def _work(plan: Plan) -> Iterator[tuple[Job, int]]:
    """Seed by seed, so that an experiment that is interrupted has every variant."""
    for seed in range(plan.seeds):
        for job in plan.jobs:
            if job.seeded or seed == 0:
                yield job, seed


def _folder(out: Path, job: str, seed: int) -> Path:
    return out / "runs" / folder_name(job) / f"seed-{seed}"


# The directory


def _asked(kind: ExperimentKind, request: Request) -> dict[str, Any]:
    """What must be the same for a directory to go on; more seeds may be added."""
    options = {k: value for k, value in asdict(request).items() if k not in ("seeds", "runs")}
    return finite(  # type: ignore[no-any-return]
        {"schema": SCHEMA, "experiment": kind.name, "version": __version__, **options}
    )


def _check_place(out: Path, kind: ExperimentKind, request: Request, resume: bool) -> None:
    """InputError unless ``out`` is free, or holds this very experiment and is to go on."""
    if request.runs is not None and Path(request.runs).is_file():
        raise InputError(f"--runs {request.runs} is a file; give a directory")
    # A write that was killed leaves a `.partial` behind, and nothing else yet.
    is_free = not out.exists() or (
        out.is_dir() and all(entry.suffix == ".partial" for entry in out.iterdir())
    )
    if is_free:
        return
    marker = out / MARKER
    if not out.is_dir() or not marker.is_file():
        raise InputError(f"--out {out} holds something else than an experiment; give another --out")
    held = _read_json(marker)
    asked = _asked(kind, request)
    for key, value in asked.items():
        if held.get(key) != value:
            raise InputError(
                f"--out {out} holds {key} {held.get(key)!r}, and this is {key} {value!r}; "
                "give another --out"
            )
    if not resume:
        raise InputError(
            f"--out {out} holds this experiment already; --resume goes on with it "
            "(or joins a process that works there), or give another --out"
        )


def _begin(out: Path, kind: ExperimentKind, request: Request, plan: Plan) -> None:
    """Mark the directory as this experiment's; InputError where its data has changed."""
    marker = out / MARKER
    identity = json.loads(dumps(plan.identity))
    if marker.is_file():
        held = _read_json(marker).get("data", {})
        changed = [key for key in identity if held.get(key) != identity[key]]
        if changed:
            raise InputError(
                f"--resume {out}: {changed[0]} is not what the experiment began with; "
                "put it back, or give another --out"
            )
        return
    make_folder(out)
    asked = {**_asked(kind, request), "data": identity}
    write_atomically(marker, dumps(asked, indent=2) + "\n")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}; give another --out") from None
    if not isinstance(held, dict):
        raise InputError(f"{path}: a JSON object is expected; give another --out")
    return held


# One variant, one seed


def _run_one(job: Job, place: Place, count: str) -> None:
    folder = place.folder
    seed = place.seed
    console = place.console
    if (folder / CELL).is_file():
        return
    if any(not (_folder(place.shared, name, seed) / CELL).is_file() for name in job.needs):
        return
    make_folder(folder)
    with claimed(folder / "lock") as is_mine:
        # Another process may have finished it since.
        if not is_mine or (folder / CELL).is_file():
            return
        say(console, f"{count:<8} {job.name}, seed {seed}", "dim", wrap=False)
        try:
            cell = job.work(place)
        except Exception as error:
            # Whatever a variant dies of is its own: the others go on, and the table names it.
            reason = " ".join(f"{_kind_of(error)}{error}".split())
            write_atomically(folder / FAILED, dumps({"variant": job.name, "why": reason}))
            say(console, f"failed: {reason}", "red")
            return
        write_atomically(folder / CELL, dumps(asdict(cell)))
        (folder / FAILED).unlink(missing_ok=True)


def _kind_of(error: Exception) -> str:
    """The error's class, where its message was not written for a user."""
    return "" if isinstance(error, RewardRouterError) else f"{type(error).__name__}: "


# What came of it


def read(plan: Plan, out: Path) -> Results:
    """The results of all cells that are there."""
    cells: dict[Key, Cell] = {}
    failed: dict[Key, str] = {}
    missing: list[Key] = []
    for job, seed in _work(plan):
        folder = _folder(out, job.name, seed)
        key = (job.name, seed)
        if (folder / CELL).is_file():
            cells[key] = Cell(**_read_json(folder / CELL))
        elif (folder / FAILED).is_file():
            failed[key] = str(_read_json(folder / FAILED).get("why"))
        else:
            missing.append(key)
    return tabulate(plan, cells, failed, missing)


def _write(
    kind: ExperimentKind,
    request: Request,
    plan: Plan,
    results: Results,
    out: Path,
    console: Console,
) -> dict[str, Any]:
    result = {**_asked(kind, request), **_as_data(results)}
    shown = page.Shown(kind, request, plan, results)
    write_atomically(out / "result.json", dumps(result, indent=1) + "\n")
    write_atomically(out / "table.md", page.markdown(shown))
    write_atomically(out / "report.html", page.html(shown))
    show_table(console, page.terminal(shown, console.width))
    say(console, plan.metric)
    for line in page.state(shown):
        say(console, line, "yellow")
    say(console, f"table    {out / 'table.md'}", wrap=False)
    say(console, f"report   {out / 'report.html'}", wrap=False)
    return result


def _as_data(results: Results) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name, row in results.rows.items():
        rows[name] = {
            "figures": {column: _figure(figure) for column, figure in row.figures.items()},
            "versus": _figure(row.versus) if row.versus else None,
            "reference": row.reference,
            "calls": row.calls,
            "seconds": row.seconds,
            "seeds": row.seeds,
        }
    return {
        "columns": list(results.columns),
        "rows": rows,
        "failed": _by_name(results.failed),
        "missing": [{"variant": name, "seed": seed} for name, seed in results.missing],
    }


def _by_name(failed: Mapping[Key, str]) -> list[dict[str, Any]]:
    return [{"variant": name, "seed": seed, "why": why} for (name, seed), why in failed.items()]


def _figure(figure: Any) -> dict[str, Any]:
    return {"mean": figure.mean, "ci95": [figure.low, figure.high]}
