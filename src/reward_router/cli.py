"""The command line: every command calls one function below; bad input is one line and exit code 2, never a traceback."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from reward_router import config as configuration
from reward_router.errors import InputError, RewardRouterError

app = typer.Typer(
    name="reward-router",
    help="Chooses which reward model judges, learns from what happens, and trains a policy on the verdicts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()

Source = Annotated[str | None, typer.Argument(metavar="[CONFIG.yaml]", help="none: the embedded default")]
Preset = Annotated[str | None, typer.Option(help="a packaged configuration, e.g. laser")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="a.b=v", help="change one key; may be repeated")]


@app.command()
def train(
    config: Source = None,
    preset: Preset = None,
    set_: Settings = None,
    out: Annotated[Path, typer.Option(help="the run's directory")] = Path("runs/latest"),
    resume: Annotated[bool, typer.Option(help="go on from the last checkpoint in --out")] = False,
    dry_run: Annotated[bool, typer.Option(help="only say what it will take")] = False,
) -> None:
    """Train a policy on preferences from the reward model that the router picks."""
    settled = configuration.load(config, preset, set_ or [])
    name = Path(config).stem if config else preset or "default"
    from reward_router import run
    from reward_router.report import training

    console.print(run.headline(settled, name), highlight=False)
    if dry_run:
        from reward_router.estimate import show_estimate

        show_estimate(settled, console)
        return
    run.train(settled, out, resume=resume, console=console)
    path = training.write(out)
    console.print(f"report   {path}", highlight=False)


@app.command()
def study(
    out: Annotated[Path, typer.Option(help="a directory; finished runs in it are kept")] = Path("study"),
    seeds: Annotated[int, typer.Option(min=1, help="training seeds of each variant")] = 5,
    only: Annotated[str | None, typer.Option(help="variants whose name matches this glob")] = None,
    part: Annotated[str, typer.Option(metavar="I/N", help="this process's share of the runs")] = "0/1",
    set_: Settings = None,
) -> None:
    """Routers, single arms, the ensemble and controls at equal steps, with intervals over seeds and prompts."""
    from reward_router.study import study as run_study

    mine, _, of = part.partition("/")
    if not (mine.isdigit() and of.isdigit() and int(mine) < int(of)):
        raise InputError(f"--part {part!r}: write it as I/N with I below N, e.g. 0/2")
    run_study(set_ or [], out, seeds, only, (int(mine), int(of)), console)


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="a finished run's directory")]) -> None:
    """Write a run's report again from what its directory holds."""
    from reward_router.report import training

    console.print(f"report   {training.write(folder)}", highlight=False)


def main() -> None:
    """Entry point of ``reward-router``."""
    try:
        app(standalone_mode=False)
    except RewardRouterError as error:
        Console(stderr=True).print(
            f"reward-router: {error}", style="red", highlight=False, soft_wrap=True, markup=False
        )
        sys.exit(error.exit_code)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; the same command with --resume goes on from the last checkpoint")
        sys.exit(130)


if __name__ == "__main__":
    main()
