"""The command line: every command is one function below, and calls one function of the package.

Bad input is one line and exit code 2, never a traceback.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from reward_router import __version__, quiet
from reward_router import config as configuration
from reward_router.errors import InputError, RewardRouterError
from reward_router.progress import plain_console, say, say_fact

app = typer.Typer(
    name="reward-router",
    help=(
        "Chooses which reward model judges, learns from what happens, and "
        "trains a policy on the verdicts."
    ),
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
arms_app = typer.Typer(no_args_is_help=True, help="Reward models before a run.")
app.add_typer(arms_app, name="arms")
ledger_app = typer.Typer(no_args_is_help=True, help="The durable record of decisions and payoffs.")
app.add_typer(ledger_app, name="ledger")
MAIN = os.environ.get("RANK", "0") == "0"
"""False on the other processes of an ``accelerate launch``: they say nothing."""
console = plain_console(quiet=not MAIN)

INTERRUPTED = 130
# typer carries its own copy of click's exceptions, or click's itself: the base class is the same.
_UsageError: Any = typer.BadParameter.__bases__[0]

ConfigArgument = Annotated[
    str | None, typer.Argument(metavar="[CONFIG.yaml]", help="none: the embedded default")
]
Preset = Annotated[str | None, typer.Option(help="a packaged configuration, e.g. laser")]
SetOptions = Annotated[
    list[str] | None, typer.Option("--set", metavar="a.b=v", help="change one key; may be repeated")
]


def _version(wanted: bool) -> None:
    if wanted:
        say(console, f"reward-router {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_version, help="print the version and stop"
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", help=f"show what libraries print, too (or {quiet.VERBOSE}=1)"),
    ] = False,
) -> None:
    """Options before the command."""
    quiet.hush(_note, verbose)


@app.command()
def train(  # noqa: PLR0913 - the options of the command
    config: ConfigArgument = None,
    preset: Preset = None,
    set_: SetOptions = None,
    out: Annotated[Path, typer.Option(help="the run's directory")] = Path("runs/latest"),
    resume: Annotated[bool, typer.Option(help="go on from the last checkpoint in --out")] = False,
    accept_changes: Annotated[
        bool,
        typer.Option(
            help=(
                "with --resume: go on though data, weights, code or versions changed, and record it"
            ),
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="only say what it will take")] = False,
    open_: Annotated[
        bool, typer.Option("--open", help="show the report in a browser at the end")
    ] = False,
) -> None:
    """Train a policy on preferences from the reward model that the router picks."""
    # What a command needs is imported inside it: `--help` then answers without loading torch.
    from reward_router import fill

    # The configuration first, so that a wrong key is said before torch is loaded.
    settled = fill.load_filled(config, preset, set_ or [], lambda what: say_fact(console, what))
    name = Path(config).stem if config else preset or "default"
    from reward_router import run
    from reward_router.report import training

    say(console, run.headline(settled, name))
    if dry_run:
        from reward_router.jobs.estimate import check_all, show_estimate

        check_all(settled, out, lambda what: say_fact(console, what))
        show_estimate(settled, console)
        return
    done = run.train(
        settled,
        out,
        resume=resume,
        accept_changes=accept_changes,
        console=console,
        at_checkpoint=training.write,
    )
    if done:  # nothing on the other processes of a launch
        _show_report(training.write(out), open_)


@app.command()
def init(  # noqa: PLR0913 - the options of the command
    data: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="your prompts: a file, a Hub name, or embedded; none: asked"
        ),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]MODEL",
            help="a reward model, my.py:Class or metric:NAME; may be repeated; none: asked",
        ),
    ] = None,
    policy: Annotated[
        str | None, typer.Option(metavar="MODEL", help="the model to train; none: asked")
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="[NAME=]MODEL",
            help="a strong judge that pays the router; for data without answers",
        ),
    ] = None,
    measured_by: Annotated[
        str | None,
        typer.Option(
            metavar="[NAME=]MODEL",
            help="a reward model that only says whether responses got better",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="MY.yaml", help="the configuration to write")] = Path(
        "my.yaml"
    ),
    force: Annotated[bool, typer.Option(help="write over a file that is there")] = False,
) -> None:
    """Write a commented configuration that runs: from flags, or from answers to three questions."""
    from reward_router.jobs import init as first

    # Nobody is asked where a script has no terminal, or said something already.
    asks = sys.stdin.isatty() and data is None and not arm and policy is None
    if asks:
        data = typer.prompt("Prompts (file, Hub name, or embedded)", default="embedded")
        typed = typer.prompt(
            "Reward models, NAME=MODEL, parted by blanks (nothing: the packaged ones)", default=""
        )
        arm = typed.split()
        policy = typer.prompt("Model to train", default="smollm2-135m-instruct")
    if data is None:
        raise InputError(
            "init: give --data FILE (or embedded); then --arm MODEL twice or "
            "more, --policy MODEL, --out MY.yaml"
        )
    path = first.write_config(
        out, first.written(data, arm or [], policy, judge, measured_by), force
    )
    say(console, f"config   {path}")
    say(console, f"next     reward-router train {path} --dry-run", wrap=False)
    say(console, f"         reward-router train {path} --out runs/mine", wrap=False)


@app.command()
def presets() -> None:
    """List the packaged configurations that --preset takes."""
    from reward_router.jobs.init import preset_lines

    for name, what in preset_lines():
        say(console, f"{name:<24} {what}")


@app.command()
def bestofn(  # noqa: PLR0913 - the options of the command
    config: ConfigArgument = None,
    preset: Preset = None,
    set_: SetOptions = None,
    responses: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="rows {prompt, responses, golds?, answer?}; none: the policy samples",
        ),
    ] = None,
    train_file: Annotated[
        str | None, typer.Option("--train", metavar="FILE", help="such rows to learn from")
    ] = None,
    test_file: Annotated[
        str | None, typer.Option("--test", metavar="FILE", help="such rows to choose for")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(metavar="RUN_DIR", help="sample from this finished run's policy")
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="BEST.jsonl", help="the best response to each prompt")
    ] = Path("runs/best.jsonl"),
    json_out: Annotated[
        Path | None, typer.Option("--json", metavar="RESULT.json", help="the table as data")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="runs of the router")] = 1,
    limit: Annotated[
        int | None, typer.Option(min=1, help="prompts to learn from, and to choose for, at most")
    ] = None,
    measure: Annotated[str | None, typer.Option(help="gold, f1, rouge_l or exact")] = None,
    compare: Annotated[
        bool, typer.Option(help="score everything with every arm, for the table")
    ] = True,
) -> None:
    """Best of n: the reward model that the router picks chooses one of n responses to each prompt;
    nobody is trained.
    """
    settings = [*(set_ or []), *([f"measure={measure}"] if measure else [])]
    settled = configuration.load(config, preset, settings)
    from reward_router.bestofn.run import Files
    from reward_router.bestofn.run import bestofn as choose

    files = Files(responses, train_file, test_file)
    choose(
        settled,
        out,
        files=files,
        run=run,
        seeds=seeds,
        limit=limit,
        compared=compare,
        json_out=json_out,
        console=console,
    )


@app.command()
def study(
    out: Annotated[Path, typer.Option(help="a directory; finished runs in it are kept")] = Path(
        "study"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="training seeds of each variant")] = 5,
    only: Annotated[str | None, typer.Option(help="variants whose name matches this glob")] = None,
    part: Annotated[
        str, typer.Option(metavar="I/N", help="this process's share of the runs")
    ] = "0/1",
    set_: SetOptions = None,
) -> None:
    """Routers, single arms, the ensemble and controls at equal steps, with intervals over seeds and
    prompts.
    """
    from reward_router.jobs.study import study as run_study

    number, _, parts = part.partition("/")
    both_whole = number.isdigit() and parts.isdigit()
    if not (both_whole and int(number) < int(parts)):
        raise InputError(f"--part {part!r}: write it as I/N with I below N, e.g. 0/2")

    share = (int(number), int(parts))
    run_study(set_ or [], out, seeds, only, share, console)


@app.command()
def experiment(  # noqa: PLR0913 - the options of the command
    name: Annotated[str, typer.Argument(metavar="NAME", help="an experiment, or `list`")],
    profile: Annotated[
        str, typer.Option(help="laptop: embedded and recorded; gpu: the papers' models")
    ] = "laptop",
    seeds: Annotated[
        int | None, typer.Option(min=1, help="runs of each variant; none: the experiment's own")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="a directory; none: runs/experiments/NAME-PROFILE")
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="go on with what is in --out, or join a process that works there")
    ] = False,
    scores: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="recorded scores of your own, or `demo`"),
    ] = None,
    responses: Annotated[
        str | None, typer.Option(metavar="FILE", help="responses of your own, for best of n")
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="CONFIG.yaml", help="your policy, arms and data, for training; or a preset"
        ),
    ] = None,
    set_: SetOptions = None,
    runs: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="training runs that experiments share; none: in --out, or runs/experiments/trained"
            " without --out",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option(help="only say what it would run, and what one training run takes")
    ] = False,
) -> None:
    """Run an experiment of the two papers: variants by seeds, one table, one page."""
    from reward_router.experiments.command import experiment as run_experiment
    from reward_router.experiments.command import foretold, listed
    from reward_router.experiments.kind import Request

    if name == "list":
        listed(console)
        return
    if runs is None and out is None:
        runs = Path("runs/experiments/trained")
    request = Request(
        profile,
        seeds,
        tuple(scores or ()),
        responses,
        config,
        tuple(set_ or ()),
        str(runs) if runs is not None else None,
    )
    if dry_run:
        foretold(name, request, console)
        return
    place = out or Path("runs/experiments") / f"{name}-{profile}"
    result = run_experiment(name, request, place, resume=resume, console=console)
    if result["failed"]:
        raise typer.Exit(1)


@app.command("gold-pairs")
def gold_pairs(  # noqa: PLR0913 - the options of the command
    config: ConfigArgument = None,
    preset: Preset = None,
    set_: SetOptions = None,
    out: Annotated[Path, typer.Option(metavar="OUT.jsonl", help="the preference file")] = Path(
        "runs/pairs.jsonl"
    ),
    prompts: Annotated[
        str, typer.Option(metavar="NUMBER", help="prompts, from the categories in turn; or `all`")
    ] = "96",
    per_prompt: Annotated[int, typer.Option(min=1, help="pairs of a prompt, at most")] = 2,
    split: Annotated[
        str | None, typer.Option(help="of the data; none: the configuration's")
    ] = None,
) -> None:
    """Preference pairs for fit-prior and fit-arm: the policy's own right answers against its own
    wrong ones.
    """
    from reward_router.jobs.gold_pairs import gold_pairs as write

    is_count = prompts.isdecimal() and int(prompts) >= 1
    if prompts != "all" and not is_count:
        raise InputError(f"--prompts {prompts!r}: a number of 1 or more, or all")
    most = None if prompts == "all" else int(prompts)

    settings = list(set_ or [])
    if split is not None:
        settings.append(f"data.split={split}")
    settled = configuration.load(config, preset, settings)
    write(settled, out, most, per_prompt, console)


@app.command("fit-arm")
def fit_arm(
    data: Annotated[
        list[str],
        typer.Argument(metavar="DATA...", help="preferences: prompt, chosen, rejected, category?"),
    ],
    out: Annotated[
        Path, typer.Option(help="the artifact's directory: weights of an arm of kind head")
    ],
    head: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=category,...",
            help="what a head learns from; may be repeated; none: one, of all",
        ),
    ] = None,
    encoder: Annotated[
        str, typer.Option(metavar="MODEL", help="the frozen sentence encoder")
    ] = "all-minilm-l6-v2",
    seed: Annotated[int, typer.Option(min=0, help="of the folds of prompts")] = 0,
) -> None:
    """Learn small reward models from labelled pairs, in seconds: linear heads on a frozen sentence
    encoder.
    """
    from reward_router.jobs.fit_arm import fit_arm as fit
    from reward_router.jobs.fit_arm import parse_heads

    fit(data, out, parse_heads(head or []), encoder=encoder, seed=seed, console=console)
    say(console, f"heads    {out}")


@app.command("fit-prior")
def fit_prior(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG.yaml", help="a file, or demo, bayesian-llama3")
    ],
    set_: SetOptions = None,
    out: Annotated[Path, typer.Option(help="the prior's directory")] = Path("runs/prior"),
    resume: Annotated[bool, typer.Option(help="go on with what was begun in --out")] = False,
) -> None:
    """Learn from labelled pairs what each reward model is good at: a prior that routers start
    from.
    """
    from reward_router.offline import settings

    settled = settings.load_settings(config, set_ or [])
    from reward_router.fit_prior.run import fit_prior as fit

    fit(settled, out, resume=resume, console=console)


@app.command()
def report(
    folder: Annotated[
        Path, typer.Argument(help="a run's directory: a finished one, or one that goes on")
    ],
    open_: Annotated[bool, typer.Option("--open", help="show it in a browser")] = False,
) -> None:
    """Write a run's report again from what its directory holds."""
    from reward_router.report import training

    _show_report(training.write(folder), open_)


def _show_report(path: Path, opened: bool) -> None:
    say(console, f"report   {path}", wrap=False)
    # One window, however many processes were launched.
    if opened and MAIN:
        import webbrowser

        if not webbrowser.open(path.resolve().as_uri()):
            say(console, "no browser was found here; open the file yourself")


@app.command()
def watch(
    folder: Annotated[
        Path, typer.Argument(metavar="RUN_DIR", help="a run that goes on, or a finished one")
    ],
    every: Annotated[float, typer.Option(min=0.2, help="seconds between two looks")] = 2.0,
    once: Annotated[bool, typer.Option(help="look once and stop")] = False,
) -> None:
    """Show a run live in the terminal, from the files in its directory: how far it is, who judges,
    what it learns.
    """
    from reward_router.jobs.watch import watch as show_live

    show_live(folder, console, every, once)


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN_DIR...", help="two or more runs' directories")
    ],
    out: Annotated[Path, typer.Option(help="the page")] = Path("compare.html"),
    open_: Annotated[bool, typer.Option("--open", help="show it in a browser")] = False,
) -> None:
    """Lay several runs side by side: one table here, and one page."""
    from reward_router.jobs.compare import compare as lay_out

    _show_report(lay_out(runs, out, console), open_)


@app.command("eval")
def evaluate(  # noqa: PLR0913 - the options of the command
    run: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="a finished run's directory")],
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATA]", help="a file, a Hub name or `embedded`; none: the run's dev set"
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="none: train of a file, dev of the embedded prompts")
    ] = None,
    answer_kind: Annotated[
        str | None, typer.Option(help="number, yes_no, letter, math or exact")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(metavar="OURS=THEIRS", help="e.g. prompt=question")
    ] = None,
    template: Annotated[
        str | None, typer.Option(help="prompt template with {column} fields")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="at most so many prompts")] = None,
    name: Annotated[str | None, typer.Option(help="configuration of a Hub data set")] = None,
) -> None:
    """Measure a run's adapter: gold on a data set before and after, sampled and greedy, with
    intervals.
    """
    from reward_router.jobs.evaluate_run import WantedData, held_out
    from reward_router.jobs.evaluate_run import evaluate as measure

    wanted = WantedData(data, split, answer_kind, _column_mapping(column), template, name)
    measure(run, held_out(run, wanted), limit, console)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="a finished run's directory")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="a new directory for the merged model")
    ],
) -> None:
    """Merge a run's adapter into the base weights: safetensors and tokenizer, as
    AutoModelForCausalLM reads them.
    """
    from reward_router.jobs.export import export as merge

    say(console, f"model    {merge(run, out)}")


class _ManyFiles(TyperCommand):
    """Reads ``--train A B --test C`` as ``--train A --train B --test C``.

    Each of these two options takes all words up to the next option.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        option = ""
        repeated: list[str] = []
        for word in args:
            if word in ("--train", "--test"):
                option = word
                continue
            if word.startswith("-"):
                option = ""
            if option:
                repeated.append(option)
            repeated.append(word)
        return super().parse_args(ctx, repeated)


@app.command(cls=_ManyFiles)
def replay(  # noqa: PLR0913 - the options of the command
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE...",
            help="recorded scores: files, Hub names, a ledger, or `demo`, a packaged sample",
        ),
    ] = None,
    router: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[:key=value,...]", help="may be repeated; none: all"),
    ] = None,
    arms: Annotated[
        str | None, typer.Option(help="keep arms that match these globs, joined by commas")
    ] = None,
    drop_arms: Annotated[str | None, typer.Option(help="leave out arms that match")] = None,
    features: Annotated[str, typer.Option(help="what the routers see")] = "auto",
    payoff: Annotated[str, typer.Option(help="what the routers learn from")] = "correct",
    seeds: Annotated[int, typer.Option(help="runs of each online router")] = 20,
    folds: Annotated[int, typer.Option(help="folds of the cross-fitting")] = 5,
    by: Annotated[str | None, typer.Option(help="category: break the table down")] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", metavar="OUT.json", help="the result as data")
    ] = None,
    report_out: Annotated[
        Path | None, typer.Option("--report", metavar="OUT.html", help="the result as a page")
    ] = None,
    train: Annotated[
        list[str] | None, typer.Option(metavar="FILE...", help="learn on these ...")
    ] = None,
    test: Annotated[
        list[str] | None, typer.Option(metavar="FILE...", help="... and judge these")
    ] = None,
    by_source: Annotated[
        bool, typer.Option("--by-source", help="leave out each source (or file) in turn")
    ] = False,
    test_feedback: Annotated[
        bool,
        typer.Option("--test-feedback", help="online routers are paid on the --test files as well"),
    ] = False,
    keep_shared: Annotated[
        bool, typer.Option("--keep-shared", help="learn also from rows whose prompt is judged")
    ] = False,
) -> None:
    """Would routing pay here? Routers, committees and baselines on recorded scores, without a
    model.
    """
    from reward_router.artifacts import demo_scores
    from reward_router.replay.run import replay as run_replay

    sources = []
    for name in files or []:
        is_packaged = name == "demo" and not Path(name).exists()
        sources.append(str(demo_scores()) if is_packaged else name)
    result = run_replay(
        sources,
        router,
        arms,
        drop_arms,
        features,
        payoff,
        seeds,
        folds,
        by,
        json_out,
        report_out,
        console,
        os.cpu_count() or 1,
        train or (),
        test or (),
        by_source,
        test_feedback,
        keep_shared,
    )
    if report_out is not None:
        from reward_router.report.replay import write

        write(result, report_out)
        say(console, f"report   {report_out}")


@app.command()
def serve(  # noqa: PLR0913 - the options of the command
    config: ConfigArgument = None,
    preset: Preset = None,
    set_: SetOptions = None,
    ledger: Annotated[
        Path, typer.Option(metavar="FILE", help="the server's state; it goes on where it is there")
    ] = Path("runs/serve/ledger.sqlite"),
    host: Annotated[str, typer.Option(help="other than loopback needs a token")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one")] = 8000,
    token_env: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="environment variable with the clients' token"),
    ] = None,
    max_body: Annotated[int, typer.Option(min=1, help="bytes of a request, at most")] = 8 * 2**20,
    group_size: Annotated[
        int | None,
        typer.Option(min=1, help="responses to a prompt that one arm judges; none: n_responses"),
    ] = None,
    group_seconds: Annotated[
        float, typer.Option(min=0.001, help="how long such a group waits for its responses")
    ] = 600.0,
    ray: Annotated[
        bool, typer.Option("--ray", help="reward models in Ray Serve, the router in a Ray actor")
    ] = False,
) -> None:
    """Answer trainers over HTTP: prompts and responses in, verdicts out, payoffs back."""
    from reward_router.server.run import Place
    from reward_router.server.run import serve as run_server

    if ray:
        from reward_router.server.ray.run import serve as run_server
    settled = configuration.load(config, preset, set_ or [])
    place = Place(ledger, host, port, token_env, max_body, group_size, group_seconds)
    run_server(settled, place, lambda line: say(console, line, wrap=False))


@arms_app.command("check")
def arms_check(  # noqa: PLR0913 - the options of the command
    config: Annotated[
        str, typer.Argument(metavar="CONFIG.yaml", help="a configuration file or a preset's name")
    ],
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="preferences: prompt, chosen, rejected, category?")
    ],
    split: Annotated[
        str, typer.Option(help="of a Hub data set, or the file's `split` column")
    ] = "train",
    limit: Annotated[int | None, typer.Option(min=1, help="at most so many pairs")] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="the --json of an earlier check: shows drift")
    ] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", metavar="OUT.json", help="the table as data")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(metavar="OURS=THEIRS", help="e.g. chosen=response_0")
    ] = None,
    preference: Annotated[
        str | None, typer.Option(help="the column that says which response is better")
    ] = None,
    name: Annotated[str | None, typer.Option(help="configuration of a Hub data set")] = None,
    set_: SetOptions = None,
) -> None:
    """Score a labelled sample with every arm: accuracy, scale, speed, price, template, drift. Exit
    code 1: an arm failed on all rows.
    """
    from reward_router.jobs.arms_check import LabelledPairs, check_config

    # One argument for both, so a file of a preset's name has to be given with its folder.
    preset = config if config in configuration.presets() else None
    file = None if preset else config
    settled = configuration.load(file, preset, set_ or [])

    mapping = _column_mapping(column)
    pairs = LabelledPairs(data, split, limit, mapping, preference, name)
    checks = check_config(settled, pairs, baseline, json_out, console)
    if any(check.failed == check.pairs for check in checks):
        raise typer.Exit(1)


@ledger_app.command("check")
def ledger_check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a ledger.sqlite")],
) -> None:
    """Read a ledger from end to end; exit code 1 where something in it is not whole."""
    from reward_router.ledger import check_ledger

    state = check_ledger(file)
    say(console, str(state), wrap=False, lines=True)
    if not state.ok:
        raise typer.Exit(1)


@ledger_app.command("export")
def ledger_export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a ledger.sqlite, whole or damaged")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="a file ending in .jsonl or .parquet")],
) -> None:
    """Save every readable event of a ledger."""
    from reward_router.ledger import export_ledger

    say(console, str(export_ledger(file, out)), wrap=False, lines=True)


def _column_mapping(words: Sequence[str] | None) -> dict[str, str]:
    """``OURS=THEIRS`` words as a mapping; InputError for a word of another form."""
    mapping = {}
    for word in words or ():
        ours, _, theirs = word.partition("=")
        if not ours or not theirs:
            raise InputError(f"--column {word!r}: write it as OURS=THEIRS, e.g. prompt=question")
        mapping[ours] = theirs
    return mapping


def main() -> None:
    """Entry point of ``reward-router``."""
    try:
        code = app(standalone_mode=False)
    except RewardRouterError as error:
        _stop(str(error), error.exit_code)
    except _UsageError as error:
        # No command at all is no error: click answers with its help.
        if type(error).__name__ == "NoArgsIsHelpError":
            say(console, str(error), lines=True)
            sys.exit(0)
        _stop(f"{error.format_message()} (see reward-router --help)", 2)
    except OSError as error:
        _stop(f"{error.filename or 'a file'}: {error.strerror or error}", 1)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        _stop(
            "interrupted; a training run goes on from its last checkpoint with "
            "--resume, others go on when run again",
            INTERRUPTED,
        )
    sys.exit(code or 0)


def _note(what: str) -> None:
    """Say on stderr what a user should read, such as what was left out of the data.

    It is one line, from the first process of a launch only.
    """
    if MAIN:
        text = f"reward-router: {' '.join(what.split())}"
        say(plain_console(stderr=True), text, "yellow", wrap=False)


def _stop(message: str, code: int) -> NoReturn:
    """One line on stderr, from the first process of a launch, and the exit code."""
    if MAIN:
        text = f"reward-router: {' '.join(message.split())}"
        say(plain_console(stderr=True), text, "red", wrap=False)
    sys.exit(code)


if __name__ == "__main__":
    main()
