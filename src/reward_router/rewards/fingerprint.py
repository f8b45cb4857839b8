"""What an arm is, as one short hash: kept scores go by it, and a prior names the arms it was learned with.

It says the same on every machine: a directory counts by what it holds, not by where it lies, and the packaged language model
by the file it is made from, not by its conversion. An arm's name and cost do not count.
"""

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

from reward_router.rewards.head import heads_digest
from reward_router.rewards.loading import model_identity, packaged_source
from reward_router.rewards.python import here_importable
from reward_router.rewards.spec import ArmSpec, Source, source_of

MEBIBYTE = 1 << 20


def fingerprint(spec: ArmSpec) -> str:
    """A hash of what an arm is: kind, options, and its model's weights or its own code."""
    source = source_of(spec)
    what = json.dumps([spec.kind, _model(source), _options(spec), _content(spec, source)], sort_keys=True, default=str)
    return f"{spec.kind}-{hashlib.blake2b(what.encode(), digest_size=12).hexdigest()}"


def _model(source: Source | None) -> str:
    """The model's name; '' for a directory, which counts by its weights alone."""
    return "" if source is None or Path(source.model).is_dir() else source.model


def _options(spec: ArmSpec) -> dict[str, Any]:
    """The arm's options, with the heads of a learned arm by their content."""
    options = dict(spec.options)
    if spec.kind == "head":
        options["weights"] = heads_digest(str(options.get("weights")))
    return options


def _content(spec: ArmSpec, source: Source | None) -> str:
    """The weights of an arm with a model, the code of a python arm, '' for others."""
    if source is not None:
        file = packaged_source(source.model)
        return model_identity(source.model) if file is None else _file(file)
    if spec.kind != "python":
        return ""
    with here_importable():
        module = importlib.util.find_spec(str(spec.options.get("path", "")).partition(":")[0])
    return Path(module.origin).read_text(encoding="utf-8") if module and module.origin else ""


def _file(path: Path) -> str:
    """A hash of a file's size and first MiB."""
    with path.open("rb") as handle:
        start = handle.read(MEBIBYTE)
    return hashlib.blake2b(f"{path.stat().st_size}:".encode() + start, digest_size=16).hexdigest()
