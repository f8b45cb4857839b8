"""Tables of everything that has a name in a configuration: routers, payoffs, arms, trackers.

A kind lives in one file: its class, its name, its options (read from its own signature), what it
declares, and its sentence for the report and the docs. The file ends with ``KIND =
RouterKind("epsilon_greedy", EpsilonGreedy, "...")``, or with ``KINDS`` where it holds several. A
table looks into the files of its folder once, at the first question; nothing else lists the names.
Where a name is expected, ``package.module:Class`` is accepted too.
"""

import difflib
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin

from reward_router.errors import InputError


@dataclass(frozen=True)
class Kind:
    """What every kind has.

    Args:
        name: what configurations call it.
        make: what makes it; its keywords are the options.
        sentence: what it does, for the report and the docs.
    """

    name: str
    make: Callable[..., Any]
    sentence: str

    @classmethod
    def imported(cls, path: str, target: Callable[..., Any]) -> "Kind":
        """The kind of a user's own class at ``path``, which declares nothing in a table."""
        return cls(path, target, first_line(target))


@dataclass(frozen=True)
class ArmKind(Kind):
    """A kind of reward model. ``make(*loaded, **options)`` returns the model.

    Args:
        loader: what is loaded for it and given first (``causal``, ``classifier``, ``encoder``);
            None: nothing.
        default_model: the model where the arm names none.
        hidden: parameters of ``make`` that no configuration may set.
        ragged: whether rows of one request may differ in length; false: it is asked once a length.
        needs_gold: whether it is given ``gold``, the known prompts with their rules; then no scores
            of it are kept on disk.
        remote: whether it asks a service, which may be away for a while; then a run that begins
            only warns.
        names_model: whether ``model`` is the name under which a service knows it; then it is an
            option of ``make``.
        check: raises InputError for options that cannot be right, before anything is loaded.
        check_loaded: the same, once the model's own name is known.
        code: a hash of what makes its scores beside weights; None: of the module that defines
            ``make``.
        weights: the file of further weights that its options name.
        places: options that only say where something lies; they are no part of what the arm is.
    """

    loader: str | None = None
    default_model: str | None = None
    hidden: tuple[str, ...] = ()
    ragged: bool = False
    needs_gold: bool = False
    remote: bool = False
    names_model: bool = False
    check: Callable[[Mapping[str, Any]], None] | None = None
    check_loaded: Callable[[Mapping[str, Any], str], None] | None = None
    code: Callable[[Mapping[str, Any]], str | None] | None = None
    weights: Callable[[Mapping[str, Any]], Path | None] | None = None
    places: tuple[str, ...] = ()

    @classmethod
    def imported(cls, path: str, target: Callable[..., Any]) -> "ArmKind":
        """The kind of a user's own class; it may say ``ragged = True`` and ``remote = True``."""
        says: Mapping[str, Any] = vars(target) if inspect.isclass(target) else {}
        return cls(
            path,
            target,
            first_line(target),
            ragged=bool(says.get("ragged", False)),
            remote=bool(says.get("remote", True)),
        )


GIVEN = ("n_arms", "dim", "arms", "seed", "artifact")
"""What a router's constructor is given where it has a parameter of this name.

Every other parameter is an option.
"""


@dataclass(frozen=True)
class RouterKind(Kind):
    """A router by name. ``make`` takes some of `GIVEN`, and the options.

    Args:
        of: a class that ``make`` passes its other keywords on to; its options are options, too.
        given: options that this name sets, and nobody else may.
        in_replay: defaults that hold in `replay` only.
        units: the units it routes.
        learns: whether payoffs change its choice.
        check: raises InputError for options that do not go together.
        own: whether it is a user's own class.
        note: what a reader of the report should know of its probabilities.
    """

    of: Callable[..., Any] | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    in_replay: Mapping[str, Any] = field(default_factory=dict)
    units: tuple[str, ...] = ("batch", "prompt", "pair")
    learns: bool = True
    check: Callable[[Mapping[str, Any]], None] | None = None
    own: bool = False
    note: str = ""

    @classmethod
    def imported(cls, path: str, target: Callable[..., Any]) -> "RouterKind":
        """The kind of a user's own class; it may say ``learns = False``."""
        says: Mapping[str, Any] = vars(target) if inspect.isclass(target) else {}
        return cls(
            path, target, first_line(target), learns=bool(says.get("learns", True)), own=True
        )

    @cached_property
    def options(self) -> dict[str, inspect.Parameter]:
        """The options by name.

        They are the keywords of plain values (numbers, texts, switches, choices), and all keywords
        of a user's own class.
        """
        options: dict[str, inspect.Parameter] = {}
        for function in (self.make, self.of):
            for name, parameter in _parameters(function).items():
                if name in GIVEN or name in self.given:
                    continue
                if self.own or _is_plain(parameter.annotation):
                    options.setdefault(name, parameter)

        return options

    def checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options as values of their types.

        OptionError for one that is unknown, of another type, missing or out of range.
        """
        for name in options:
            if name not in self.options:
                listed = ", ".join(sorted(self.options)) or "none"
                raise OptionError("", f"{name} is no option of {self.name}; it takes {listed}")

        if self.check is not None:
            self.check(options)

        values = {
            name: _of_type(name, self.options[name].annotation, value)
            for name, value in options.items()
        }
        missing = [n for n, p in self.options.items() if p.default is p.empty and n not in values]
        if missing:
            raise OptionError("", f"{self.name} needs the option {missing[0]!r}")

        # built once on a toy, so that a value out of range is found before anything is loaded
        if not self.own:
            self.build([str(values.get("arm", "first")), "second"], 1, values)

        return values

    def build(
        self,
        arms: Sequence[str],
        dim: int,
        options: Mapping[str, Any],
        *,
        seed: int = 0,
        artifact: Any = None,
    ) -> Any:
        """The router for these arms and contexts of ``dim`` features.

        ``artifact`` is a prior that was learned offline.
        """
        offered = {
            "n_arms": len(arms),
            "dim": dim,
            "arms": list(arms),
            "seed": seed,
            "artifact": artifact,
        }
        parameters = inspect.signature(self.make).parameters
        wanted = {name: value for name, value in offered.items() if name in parameters}
        if "n_arms" not in wanted and "arms" not in wanted:
            raise InputError(
                f"router {self.name}: its constructor takes no n_arms, the number of arms"
            )

        return self.make(**wanted, **self.given, **options)


@dataclass(frozen=True)
class PayoffKind(Kind):
    """What a router learns from, by name.

    ``make`` takes what came of one decision and gives its payoff, or None.

    Args:
        raw: whether the payoff is any number, which the dispatcher scales to [0, 1].
        needs_gold: whether the prompts must have a rule or an answer; then payoffs are right or
            wrong, 1 or 0.
        is_gold: whether it is gold itself, so that its correlation with gold says nothing.
        needs_loss: whether it is made of the training losses of the decision's pairs.
        needs_after: whether losses after the step are measured, too: one more pass over the pairs.
        needs_step: whether it takes a training step, or other units of one.
        compares_pairs: whether it needs ``router.unit: pair``.
        asks_all_arms: whether every arm is asked about every pair: K calls for one.
        sampled: whether ``payoff.fraction`` says how many decisions get it.
        needs_path: whether ``payoff.path`` names the function; then ``make`` takes that path and
            gives the function.
        needs_arm: whether ``payoff.arm`` names an arm that judges nothing else; then ``make`` takes
            a pool and that name.
        together: of the payoffs of a batch, those that the router is given; None: they are taken as
            they are.
    """

    raw: bool = False
    needs_gold: bool = False
    is_gold: bool = False
    needs_loss: bool = False
    needs_after: bool = False
    needs_step: bool = False
    compares_pairs: bool = False
    asks_all_arms: bool = False
    sampled: bool = False
    needs_path: bool = False
    needs_arm: bool = False
    together: Callable[[list[float]], list[float]] | None = None


@dataclass(frozen=True)
class TrackerKind(Kind):
    """Where a run's figures are shown while it goes on.

    ``make`` takes a `TrackedRun` and gives a `Tracker` (both in ``reward_router.trackers``).

    Args:
        package: what must be importable for it; '': nothing.
        install: what pip installs for it.
        prefix: what stands before TRL's names of figures there, as transformers writes them.
        replaces: whether it can void what an earlier process told of steps that come again; else
            they are told once.
    """

    package: str = ""
    install: str = ""
    prefix: str = ""
    replaces: bool = False


class OptionError(InputError):
    """An option of a kind that cannot be right.

    ``option`` names the key, '' where the message does.
    """

    def __init__(self, option: str, message: str) -> None:
        """``message``: what is wrong and what is allowed."""
        super().__init__(message)
        self.option = option


def _parameters(function: Callable[..., Any] | None) -> dict[str, inspect.Parameter]:
    if function is None:
        return {}

    try:
        signature = inspect.signature(function, eval_str=True)
    except (NameError, TypeError):  # annotations that only a type checker can read
        signature = inspect.signature(function)

    unnamed = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return {name: p for name, p in signature.parameters.items() if p.kind not in unnamed}


def _is_plain(annotation: Any) -> bool:
    parts = (annotation,)
    if get_origin(annotation) in (Union, UnionType):
        parts = get_args(annotation)

    plain_types = (bool, int, float, str, NoneType)
    for part in parts:
        is_plain = part in plain_types or get_origin(part) is Literal
        if not is_plain:
            return False
    return True


def _of_type(name: str, annotation: Any, value: Any) -> Any:
    if annotation is inspect.Parameter.empty or isinstance(annotation, str):
        return value

    from pydantic import TypeAdapter, ValidationError  # routers alone need numpy and SciPy only

    try:
        return TypeAdapter(annotation).validate_python(value)
    except ValidationError as error:
        raise OptionError(name, f"{error.errors()[0]['msg']} (got {value!r})") from None


SomeKind = TypeVar("SomeKind", bound=Kind)


@dataclass
class KindTable(Generic[SomeKind]):
    """All kinds of one sort, found in the files of a folder.

    Args:
        what: the word for one of them in messages.
        package: the folder, by its import path.
        of: the class of the rows.
    """

    what: str
    package: str
    of: type[SomeKind]
    own: dict[str, SomeKind] = field(default_factory=dict)

    @cached_property
    def rows(self) -> dict[str, SomeKind]:
        """Name -> kind, in the order of the files' names."""
        by_name: dict[str, SomeKind] = {}
        for kind in self._declared():
            if kind.name in by_name:
                raise InputError(
                    f"{self.what} {kind.name!r} is declared by two files of {self.package}"
                )
            by_name[kind.name] = kind

        return by_name

    def _declared(self) -> Iterator[SomeKind]:
        folder = importlib.import_module(self.package)
        # By file name, so that the order is the same on every machine.
        files = sorted(pkgutil.iter_modules(folder.__path__), key=lambda info: info.name)
        for info in files:
            module = importlib.import_module(f"{self.package}.{info.name}")
            declared = (*getattr(module, "KINDS", ()), getattr(module, "KIND", None))
            for kind in declared:
                if isinstance(kind, self.of):
                    yield kind

    def __iter__(self) -> Iterator[SomeKind]:
        return iter(self.rows.values())

    def __contains__(self, name: object) -> bool:
        return name in self.rows

    def names(self) -> list[str]:
        """Every name of the table."""
        return list(self.rows)

    def __getitem__(self, name: str) -> SomeKind:
        """The kind of this name, or of the class at ``package.module:Class``.

        InputError with the nearest name.
        """
        if name in self.rows:
            return self.rows[name]
        if name in self.own:
            return self.own[name]
        if not is_import_path(name):
            raise InputError(
                f"{self.what} {name!r} is unknown{nearest(name, self.rows)}, "
                "or package.module:Class"
            )

        # imported once: the next question finds it in the table
        kind = self.of.imported(name, import_path(name, self.what))
        self.own[name] = kind  # type: ignore[assignment]
        return kind  # type: ignore[return-value]


ROUTERS = KindTable("router", "reward_router.routers", RouterKind)
"""Routers that `train`, `replay` and `bestofn` know by name."""
PAYOFFS = KindTable("payoff", "reward_router.payoffs", PayoffKind)
"""What a router can learn from."""
ARMS = KindTable("kind", "reward_router.rewards.kinds", ArmKind)
"""Kinds of reward model; ``gold`` is the verifier itself, for control runs only."""
TRACKERS = KindTable("tracker", "reward_router.trackers", TrackerKind)
"""Where a training run can report to."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """The end of an error message: ``; did you mean ...? allowed: ...``.

    >>> nearest("lenght", ["length", "regex"])
    '; did you mean length? allowed: length, regex'
    """
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]}?" if close else ";"
    return f"{hint} allowed: {', '.join(names) or 'none'}"


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """The nearest name where there is one, else all of them, in the order given.

    >>> did_you_mean("lenght", ["length"]), did_you_mean("x", ["length", "regex"])
    ("did you mean 'length'?", 'allowed: length, regex')
    """
    names = list(allowed)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"allowed: {', '.join(names)}"


def is_import_path(name: str) -> bool:
    """Whether a name has the form ``package.module:Class``.

    >>> is_import_path("my.routers:Best"), is_import_path("judge-pair:gpt4")
    (True, False)
    """
    module, colon, inside = name.partition(":")
    parts = [*module.split("."), *inside.split(".")]
    return bool(colon) and all(part.isidentifier() for part in parts)


def first_line(target: object) -> str:
    """The first line of something's docstring, '' where it has none."""
    return (inspect.getdoc(target) or "").partition("\n")[0]


def import_path(path: str, what: str) -> Callable[..., Any]:
    """The class or function at ``package.module:name``.

    The current directory is importable meanwhile. A dot in the name goes into a class:
    ``module:Outer.Inner``. InputError says which part is missing.
    """
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise InputError(f"{what} {path!r} is no import path; write package.module:Class")

    try:
        with here_importable():
            target: Any = importlib.import_module(module_name)
    except (ImportError, SyntaxError, ValueError) as error:
        raise InputError(f"{what} {path!r} cannot be imported: {error}") from None
    except Exception as error:
        # the module is the user's: whatever it raises while it is imported is its own
        message = " ".join(str(error).split())
        raise InputError(
            f"{what} {path!r} cannot be imported: {type(error).__name__}: {message}"
        ) from error

    for part in name.split("."):
        target = getattr(target, part, None)
        if target is None:
            raise InputError(f"{what} {path!r}: module {module_name} has no {name!r}")

    if not callable(target):
        raise InputError(
            f"{what} {path!r} is a {type(target).__name__}; a class or a function is expected"
        )

    return target  # type: ignore[no-any-return]


@contextmanager
def here_importable() -> Iterator[None]:
    """The current directory is on the import path in the block."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def rests_on_gold(payoff: str) -> bool:
    """Whether a payoff of this name is made of gold, so that it cannot lead away from it."""
    return payoff in PAYOFFS and PAYOFFS[payoff].needs_gold


def is_gold(payoff: str) -> bool:
    """Whether a payoff of this name is gold itself: its correlation with gold says nothing."""
    return payoff in PAYOFFS and PAYOFFS[payoff].is_gold
