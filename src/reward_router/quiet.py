"""What libraries print about themselves is switched off at the command line's door.

That is bars of their own, notes to their callers, and advice.

A run has one display, and what it prints is for its user. `hush` is the only place where others are
silenced; it must come before they are imported, because most of it is environment variables that
they read then. What the user's own code warns of is shown, one line each, and so is what was left
out of the data (`DataWarning`). ``--verbose``, or the variable below, leaves everything on; a
variable that is set already, and ``python -W``, are left as they are.
"""

import logging
import os
import sys
import sysconfig
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from reward_router.errors import DataWarning

VERBOSE = "REWARD_ROUTER_VERBOSE"
QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "HF_HUB_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
LOGGERS = (
    "httpx",
    "httpcore",
    "transformers",
    "huggingface_hub",
    "sentence_transformers",
    "accelerate",
    "peft",
    "datasets",
    "torch",
)


def wanted(verbose: bool = False) -> bool:
    """Whether the user wants to read what libraries print."""
    return verbose or os.environ.get(VERBOSE, "").lower() not in ("", "0", "false", "no")


def hush(note: Callable[[str], None], verbose: bool = False) -> None:
    """Silence the libraries, unless it is ``verbose``.

    ``note`` is given what a user should read, one line each.
    """
    shown = warnings.showwarning
    loud = wanted(verbose) or bool(sys.warnoptions)
    if not wanted(verbose):
        for name, value in QUIET.items():
            # A variable that the user set stays.
            os.environ.setdefault(name, value)
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        _hush_loaded()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if isinstance(message, DataWarning):
            note(str(message))
        elif loud:
            shown(message, category, filename, lineno, file, line)
        elif of_the_user(filename):
            note(f"{filename}:{lineno}: {category.__name__}: {message}")

    # A note about the data is for the user, whatever libraries are told.
    warnings.simplefilter("default", DataWarning)  # once, though a data set may be read twice
    warnings.showwarning = show


def of_the_user(filename: str) -> bool:
    """Whether a source file is neither Python's, nor an installed package's, nor ours."""
    path = Path(filename)
    if not path.is_file():  # made at run time, such as "<string>"
        return False
    place = path.resolve()
    ours = str(Path(__file__).parent)
    for folder in [*sysconfig.get_paths().values(), ours]:
        if place.is_relative_to(Path(folder).resolve()):
            return False
    return True


def _hush_loaded() -> None:
    """The same for a library that read its variables before we came."""
    if "transformers" in sys.modules:
        from transformers.utils import logging as transformers_logging

        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
