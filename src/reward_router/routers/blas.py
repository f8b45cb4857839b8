"""Keeps linear algebra on one thread: a matrix-vector product is bound by memory, and a second thread only spins.

Measured on a loaded two-core machine: two OpenBLAS threads turn a 0.07 ms product into 56 ms. One thread also makes
results repeat bit for bit whatever ``OPENBLAS_NUM_THREADS`` says. The count is set through the OpenBLAS that NumPy's
wheel carries; a NumPy built against another BLAS is left alone (set that library's own variable, e.g. MKL_NUM_THREADS).
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

Threads = tuple[Callable[[], int], Callable[[int], None]]


@cache
def _openblas() -> Threads | None:
    """(get, set) of the thread count of the OpenBLAS in ``numpy.libs``, or None where NumPy carries none."""
    package = Path(np.__file__).parent
    folders = (package.parent / "numpy.libs", package / ".dylibs")
    for path in sorted(p for folder in folders if folder.is_dir() for p in folder.glob("*openblas*")):
        library = ctypes.CDLL(str(path))
        for prefix, suffix in (("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", "")):
            get = getattr(library, f"{prefix}openblas_get_num_threads{suffix}", None)
            put = getattr(library, f"{prefix}openblas_set_num_threads{suffix}", None)
            if get is not None and put is not None:
                return get, put
    return None


@contextmanager
def one_thread() -> Iterator[None]:
    """Run the block with one BLAS thread and restore the count after it. About 1 us; nothing where it is 1 already."""
    library = _openblas()
    before = library[0]() if library else 1
    if library is None or before == 1:
        yield
        return
    library[1](1)
    try:
        yield
    finally:
        library[1](before)
