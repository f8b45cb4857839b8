"""A run's directory: what is in it, and its checkpoints.

A checkpoint is whole or absent, and a run is resumed from the last one.

``summary.json`` is written last: a directory without it is an unfinished run, whatever else lies
there. A checkpoint is written beside its place, flushed, and renamed; events after it leave the
ledger (`Ledger.rewind`) when a run resumes.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reward_router import config as configuration
from reward_router.config import Config
from reward_router.errors import InputError, RunError
from reward_router.strict_json import dumps
from reward_router.types import State

KEEP = 2
"""Checkpoints that stay: one more than is needed, because the newest may be torn."""
ADAPTER_FILE = "adapter_model.safetensors"
"""PEFT's name of the adapter's weights."""


class RunDir:
    """Paths and checkpoints of one run."""

    def __init__(self, path: Path) -> None:
        """Touches nothing; see :meth:`begin`."""
        self.path = path
        self.ledger = path / "ledger.sqlite"
        self.metrics = path / "metrics.jsonl"
        self.summary = path / "summary.json"
        self.report = path / "report.html"
        self.samples = path / "samples.jsonl"
        self.progress = path / "progress.json"
        self.manifest = path / "manifest.json"
        self.trackers = path / "trackers.json"
        self.adapter = path / "policy"
        self.router = path / "router.npz"
        self._made: list[Path] | None = None

    def check(self, config: Config, resume: bool) -> None:
        """Check that a run of ``config`` can begin here, or go on.

        InputError where it cannot, which says what to do; nothing is touched.
        """
        kept = self.path / "config.yaml"
        if resume:
            if self.summary.is_file():
                raise InputError(
                    f"--resume {self.path}: this run is finished; its figures are in {self.summary}"
                )
            if not kept.is_file():
                raise InputError(
                    f"--resume {self.path}: there is no run here (no "
                    "config.yaml); leave --resume out"
                )
            try:
                before = kept.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(
                    f"--resume {self.path}: {kept.name} cannot be read: {error}"
                ) from None
            self._same(before, configuration.dump(config))
        elif self._is_occupied():
            hint = ""
            if self.summary.is_file():
                what = "a finished run"
            elif kept.is_file():
                what = "an unfinished run"
                hint = ", or --resume to go on with it"
            else:
                what = "something else"
            raise InputError(f"--out {self.path} holds {what}; give another --out{hint}")

    def _is_occupied(self) -> bool:
        """Whether the path holds anything but what an interrupted write has left behind."""
        if not self.path.exists():
            return False
        if not self.path.is_dir():
            return True
        return any(entry.suffix != ".partial" for entry in self.path.iterdir())

    def begin(self, config: Config, manifest: Mapping[str, Any] | None = None) -> None:
        """Make the directory, with the resolved configuration in it.

        ``manifest`` is what the run begins with, and is kept beside it.
        """
        # What was made here is what `abandon` takes back, and nothing else.
        self._made = [p for p in (self.path, *self.path.parents) if not p.exists()]
        with explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path / "config.yaml", configuration.dump(config))
        if manifest is not None:
            self.write_manifest(manifest)

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Keep what the run is made of beside its options."""
        write_atomically(self.manifest, dumps(manifest, indent=2) + "\n")

    def read_manifest(self) -> dict[str, Any] | None:
        """What `write_manifest` kept; None for a run that began before there were manifests.

        InputError for no JSON.
        """
        if not self.manifest.is_file():
            return None
        try:
            manifest = json.loads(self.manifest.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(
                f"{self.manifest}: not JSON ({error}); the manifest of a run is expected"
            ) from None
        if not isinstance(manifest, dict):
            raise InputError(
                f"{self.manifest}: a JSON object is expected, found {type(manifest).__name__}"
            )
        return manifest

    def write_trackers(self, told: Mapping[str, Any]) -> None:
        """Keep by which name each tracker knows this run, and what it was told last."""
        write_atomically(self.trackers, dumps(told) + "\n")

    def read_trackers(self) -> dict[str, Any]:
        """What `write_trackers` kept; nothing where it is absent or torn: a new run is begun."""
        with contextlib.suppress(OSError, ValueError):
            kept = json.loads(self.trackers.read_text(encoding="utf-8"))
            if isinstance(kept, dict):
                return kept
        return {}

    def abandon(self) -> None:
        """Take back what :meth:`begin` made, because the run never started.

        Does nothing where this object began no run.
        """
        if self._made is None:
            return
        shutil.rmtree(self.path, ignore_errors=True)
        if self.path not in self._made:
            self.path.mkdir()  # it was there before, empty
        for parent in self._made[1:]:
            with contextlib.suppress(OSError):  # by now it holds something else
                parent.rmdir()

    def _same(self, before: str, now: str) -> None:
        old = _flat(self._with_defaults(before))
        new = _flat(configuration.parse_yaml(now, "config"))
        # Where figures are shown is no part of what a run is: a tracker may come or go.
        keys = {key for key in old.keys() | new.keys() if key.split(".")[0] != "report_to"}
        changed = sorted(key for key in keys if old.get(key) != new.get(key))
        if not changed:
            return

        # One key is enough for one line.
        key = changed[0]
        more = ""
        if len(changed) > 1:
            more = f" (and {len(changed) - 1} more)"
        raise InputError(
            f"--resume {self.path}: {key} is {old.get(key)!r} in its config.yaml, "
            f"{new.get(key)!r} here{more}; a run goes on unchanged"
        )

    def _with_defaults(self, before: str) -> Any:
        """The options a run began with.

        Keys that came with a later version of this program stand at their defaults.
        """
        tree = configuration.parse_yaml(before, "config.yaml")
        try:
            whole = configuration.validate(tree, "config.yaml")
        except (InputError, TypeError, ValueError):
            # Written by hand, or with a key that is gone: it is compared as it stands.
            return tree
        return configuration.parse_yaml(configuration.dump(whole), "config.yaml")

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        with explained(self.metrics), self.metrics.open("a", encoding="utf-8") as file:
            file.write(dumps(record) + "\n")

    def read_log(self) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl; a torn last line is left out."""
        return _json_lines(self.metrics)

    def read_samples(self) -> list[dict[str, Any]]:
        """Lines of samples.jsonl (see `reward_router.samples`); none where a run kept none."""
        return _json_lines(self.samples)

    def write_samples(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep ``rows`` in samples.jsonl.

        They take the place of earlier ones of the same ``when`` and ``kind``.
        """
        # A resumed run measures again: its rows replace those of the run that was cut.
        fresh = {(row["when"], row["kind"]) for row in rows}
        kept = []
        for row in self.read_samples():
            measured = (row.get("when"), row.get("kind"))
            if measured not in fresh:
                kept.append(row)
        lines = [dumps(row) + "\n" for row in [*kept, *rows]]
        write_atomically(self.samples, "".join(lines))

    def trim_log(self, step: int) -> None:
        """Drop what was logged after a checkpoint: those steps are run again."""
        kept = [r for r in self.read_log() if r.get("step", -1) < step]
        write_atomically(self.metrics, "".join(dumps(r) + "\n" for r in kept))

    def save_checkpoint(
        self, step: int, tensors: dict[str, dict[str, Any]], state: dict[str, Any]
    ) -> None:
        """Write checkpoint ``step`` (steps done) whole or not at all.

        RunError where the disk is full, the older ones stay.
        """
        from safetensors.torch import save_file

        folder = self.path / "checkpoints"
        final = folder / f"{step:06d}"
        partial = folder / f"{step:06d}.partial"
        with explained(final):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            try:
                for name, tree in tensors.items():
                    save_file(
                        {k: v.contiguous() for k, v in tree.items()},
                        partial / f"{name}.safetensors",
                    )
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
            sums = {p.name: _digest(p) for p in sorted(partial.glob("*.safetensors"))}
            write_atomically(partial / "state.json", dumps({**state, "step": step, "sums": sums}))
            for file in partial.iterdir():
                _sync(file)
            shutil.rmtree(final, ignore_errors=True)
            partial.rename(final)
            _sync(final.parent)
        # Only now: until the new one is whole, the older ones may be needed.
        for old in self.checkpoints()[:-KEEP]:
            shutil.rmtree(old)

    def checkpoints(self) -> list[Path]:
        """Finished checkpoints, oldest first."""
        return sorted(
            p
            for p in (self.path / "checkpoints").glob("[0-9]*")
            if p.suffix == "" and (p / "state.json").is_file()
        )

    def newest_checkpoint(self, last_seq: int) -> dict[str, Any] | None:
        """State of the newest checkpoint that is whole; None where there is none.

        It must not be ahead of the ledger's event ``last_seq``.
        """
        for folder in reversed(self.checkpoints()):
            state = read_state(folder)
            if state is None:
                continue
            # Ahead of the ledger, it would have learned from payoffs that nobody recorded.
            if state["seq"] > last_seq:
                continue
            # A file can be torn although it was renamed whole, on a disk that lies about flushing.
            sums = {folder / name: digest for name, digest in state["sums"].items()}
            if all(p.is_file() and _digest(p) == digest for p, digest in sums.items()):
                return state
        return None

    def load_tensors(self, state: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """The tensors of a checkpoint."""
        from safetensors.torch import load_file

        folder = self.path / "checkpoints" / f"{state['step']:06d}"
        return {
            name.removesuffix(".safetensors"): load_file(folder / name) for name in state["sums"]
        }

    def write_progress(self, summary: Mapping[str, Any]) -> None:
        """Keep what summary.json would say at this checkpoint.

        The report of a run that goes on is made of it.
        """
        write_atomically(self.progress, dumps({**summary, "running": True}) + "\n")

    def finish(self, summary: dict[str, Any]) -> None:
        """Write summary.json: from now on this directory is a finished run.

        Its checkpoints are no longer needed and go.
        """
        write_atomically(self.summary, dumps(summary, indent=2) + "\n")
        self.progress.unlink(missing_ok=True)
        shutil.rmtree(self.path / "checkpoints", ignore_errors=True)


def run_config(folder: Path) -> Config:
    """The configuration of a finished run; InputError where ``folder`` holds none."""
    run = RunDir(folder)
    if not (run.adapter / ADAPTER_FILE).is_file() or not run.summary.is_file():
        raise InputError(
            f"{folder}: no finished run (summary.json and policy/ are expected); "
            "train --resume finishes one"
        )
    return configuration.load(folder / "config.yaml")


def adapter_tensors(folder: Path) -> dict[str, Any]:
    """The tensors of a run's adapter, by parameter name as PEFT writes it."""
    from safetensors.torch import load_file

    tensors: dict[str, Any] = load_file(RunDir(folder).adapter / ADAPTER_FILE)
    return tensors


def _json_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file, one a line; what is torn is left out."""
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            records.append(json.loads(line))
    return records


def read_state(checkpoint: Path) -> dict[str, Any] | None:
    """What a checkpoint says of itself.

    None where its state.json is damaged, so that an older one may serve.
    """
    try:
        state = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    # Written by an interrupted process, it may be valid JSON and still not be a state.
    whole = isinstance(state, dict) and {"step", "seq", "sums"} <= state.keys()
    return state if whole else None


def as_tensors(state: State) -> dict[str, Any]:
    """Arrays as tensors for a checkpoint, bit for bit.

    Texts become their code points under ``text:NAME``.
    """
    import torch

    tensors = {}
    for name, array in state.items():
        text = array.dtype.kind == "U"
        whole = (
            np.ascontiguousarray(array).view(np.int32).reshape(*array.shape, array.itemsize // 4)
            if text
            else array
        )
        tensors[f"text:{name}" if text else name] = torch.from_numpy(np.array(whole))
    return tensors


def as_arrays(tensors: Mapping[str, Any]) -> State:
    """What `as_tensors` was given."""
    state: State = {}
    for name, tensor in tensors.items():
        array = tensor.numpy()
        text = name.startswith("text:")
        state[name.removeprefix("text:")] = (
            array.view(f"<U{array.shape[-1]}")[..., 0] if text else array
        )
    return state


def write_atomically(path: Path, text: str) -> None:
    """The whole text or the file as it was. RunError where the disk is full."""
    partial = path.with_name(path.name + ".partial")
    with explained(path):
        partial.write_text(text, encoding="utf-8")
        _sync(partial)
        # Renamed only after the bytes are on the disk: a power cut leaves one whole file.
        partial.replace(path)


def make_folder(folder: Path) -> None:
    """Make a folder and those it lies in; what is there already stays. Errors of `explained`."""
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)


def refuse_folder(path: Path, named: str = "") -> None:
    """InputError where a folder stands in the place of a file to write.

    ``named``: what the message calls the path after, such as ``--out``.
    """
    if path.is_dir():
        raise InputError(f"{named} {path} is a folder; name a file in it".lstrip())


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """RunError that names the file and what to do, where the block cannot write it.

    InputError where the path itself cannot be right.
    """
    try:
        yield
    except _disk_errors() as error:
        why = getattr(error, "strerror", None) or error
        # No room will help where a file stands in the place of a folder, or the other way round.
        if isinstance(error, NotADirectoryError | FileExistsError | IsADirectoryError):
            raise InputError(f"{path} cannot be written: {why}; give another path") from None
        raise RunError(
            f"{path} cannot be written: {why}; nothing before it is lost: make room and run the "
            "command again (with --resume, where it has that option)"
        ) from None


def _disk_errors() -> tuple[type[BaseException], ...]:
    try:
        from safetensors import SafetensorError
    except ImportError:
        return (OSError,)
    return OSError, SafetensorError


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _flat(tree: Any, path: str = "") -> dict[str, Any]:
    """Every plain value of nested data by its path, as in ``a.b.0``."""
    items: list[tuple[Any, Any]]
    if isinstance(tree, dict) and tree:
        items = list(tree.items())
    elif isinstance(tree, list) and tree:
        items = list(enumerate(tree))
    else:
        return {path: tree}
    flat: dict[str, Any] = {}
    for key, value in items:
        flat |= _flat(value, f"{path}.{key}" if path else str(key))
    return flat
