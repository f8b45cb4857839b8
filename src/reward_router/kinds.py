"""Tables of everything that has a name in a configuration: routers, payoffs and kinds of arms.

A kind lives in one file: its class, its name, its options (read from its own signature), what it declares, and its sentence
for the report and the docs. The file ends with ``KIND = RouterKind("epsilon_greedy", EpsilonGreedy, "...")``, or with
``KINDS`` where it holds several. A table looks into the files of its folder once, at the first question; nothing else lists
the names. Where a name is expected, ``package.module:Class`` is accepted too.
"""

import difflib
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from reward_router.errors import InputError


@dataclass(frozen=True)
class Kind:
    """What every kind has: its ``name``, what makes it (its keywords are the options), and a sentence about it."""

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
        loader: what is loaded for it and given first (``causal``, ``classifier``, ``encoder``); None: nothing.
        default_model: the model where the arm names none.
        hidden: parameters of ``make`` that no configuration may set.
        ragged: whether rows of one request may differ in length; false: it is asked once a length.
        needs_gold: whether it is given ``gold``, the known prompts with their rules; then no scores of it are kept on disk.
        remote: whether it asks a service, which may be away for a while; then a run that begins only warns.
        names_model: whether ``model`` is the name under which a service knows it; then it is an option of ``make``.
        check: raises InputError for options that cannot be right, before anything is loaded.
        check_loaded: the same, once the model's own name is known.
        code: a hash of what makes its scores beside weights; None: of the module that defines ``make``.
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


SomeKind = TypeVar("SomeKind", bound=Kind)


@dataclass
class Table(Generic[SomeKind]):
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
        found: dict[str, SomeKind] = {}
        for kind in self._declared():
            if kind.name in found:
                raise InputError(f"{self.what} {kind.name!r} is declared by two files of {self.package}")
            found[kind.name] = kind
        return found

    def _declared(self) -> Iterator[SomeKind]:
        folder = importlib.import_module(self.package)
        for info in sorted(pkgutil.iter_modules(folder.__path__), key=lambda info: info.name):
            module = importlib.import_module(f"{self.package}.{info.name}")
            for kind in (*getattr(module, "KINDS", ()), getattr(module, "KIND", None)):
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
        """The kind of this name, or of the class at ``package.module:Class``; InputError with the nearest name."""
        if name in self.rows:
            return self.rows[name]
        if name in self.own:
            return self.own[name]
        if ":" not in name:
            raise InputError(f"{self.what} {name!r} is unknown{nearest(name, self.rows)}, or package.module:Class")
        kind = self.of.imported(name, import_path(name, self.what))
        self.own[name] = kind  # type: ignore[assignment]
        return kind  # type: ignore[return-value]


ARMS = Table("kind", "reward_router.rewards.kinds", ArmKind)
"""Kinds of reward model; ``gold`` is the verifier itself, for control runs only."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """The end of an error message: ``; did you mean ...? allowed: ...``.

    >>> nearest("lenght", ["length", "regex"])
    '; did you mean length? allowed: length, regex'
    """
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=1)
    return f"{f'; did you mean {close[0]}?' if close else ';'} allowed: {', '.join(names) or 'none'}"


def first_line(target: object) -> str:
    """The first line of something's docstring, '' where it has none."""
    return (inspect.getdoc(target) or "").partition("\n")[0]


def import_path(path: str, what: str) -> Callable[..., Any]:
    """The class or function at ``package.module:name``; the current directory is importable meanwhile.

    InputError says which part is missing. A dot in the name goes into a class: ``module:Outer.Inner``.
    """
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise InputError(f"{what} {path!r} is no import path; write package.module:Class")
    try:
        with here_importable():
            target: Any = importlib.import_module(module_name)
    except (ImportError, SyntaxError, ValueError) as error:
        raise InputError(f"{what} {path!r} cannot be imported: {error}") from None
    except Exception as error:  # the module is the user's: whatever it raises while it is imported is its own
        message = " ".join(str(error).split())
        raise InputError(f"{what} {path!r} cannot be imported: {type(error).__name__}: {message}") from error
    for part in name.split("."):
        target = getattr(target, part, None)
        if target is None:
            raise InputError(f"{what} {path!r}: module {module_name} has no {name!r}")
    if not callable(target):
        raise InputError(f"{what} {path!r} is a {type(target).__name__}; a class or a function is expected")
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
