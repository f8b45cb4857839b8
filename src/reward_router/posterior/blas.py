"""Linear algebra on one thread and on one triangle.

A matrix-vector product is bound by memory, and a second thread only spins: measured on a busy
two-core machine, two OpenBLAS threads turn a 0.1 ms product into 8 ms of CPU time. One thread also
makes results repeat bit for bit whatever ``OPENBLAS_NUM_THREADS`` says. The count is set through
the OpenBLAS that the wheels of NumPy and SciPy carry; builds against another BLAS are left alone
(set that library's own variable, e.g. MKL_NUM_THREADS=1).

Symmetric matrices are Fortran-ordered and only their lower triangle is read or written: half the
memory traffic.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Threads = tuple[Callable[[], int], Callable[[int], None]]


@cache
def _openblas() -> tuple[Threads, ...]:
    """(get, set) of the thread count of every OpenBLAS that NumPy and SciPy carry."""
    site = Path(np.__file__).parent.parent
    parts = ("numpy.libs", "scipy.libs", "numpy/.dylibs", "scipy/.dylibs")
    folders = [site / part for part in parts]
    paths: list[Path] = []
    for folder in folders:
        if folder.is_dir():
            paths += folder.glob("*openblas*")

    setters = [_threads(ctypes.CDLL(str(path))) for path in sorted(paths)]
    return tuple(setter for setter in setters if setter is not None)


def _threads(library: ctypes.CDLL) -> Threads | None:
    # NumPy's and SciPy's wheels rename the symbols of the OpenBLAS they carry
    for prefix, suffix in (("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", "")):
        get = getattr(library, f"{prefix}openblas_get_num_threads{suffix}", None)
        put = getattr(library, f"{prefix}openblas_set_num_threads{suffix}", None)
        # another BLAS has neither, and is left alone
        if get is not None and put is not None:
            return get, put
    return None


class one_thread:
    """Run the block with one BLAS thread and restore the counts after it. A few microseconds."""

    def __enter__(self) -> None:
        """Remember the counts and set 1 where they differ."""
        counts = [(put, get()) for get, put in _openblas()]
        self._before = [(put, count) for put, count in counts if count != 1]
        for put, _ in self._before:
            put(1)

    def __exit__(self, *error: object) -> None:
        """Restore."""
        for put, count in self._before:
            put(count)


@cache
def _routines(letter: str) -> tuple[Callable[..., Array], ...]:
    from scipy.linalg import blas

    return tuple(getattr(blas, letter + name) for name in ("symv", "symm", "trmm", "syrk", "gemv"))


def _letter(a_DD: Array) -> str:
    return "s" if a_DD.dtype.char == "f" else "d"


def symmetric_vector(a_DD: Array, x_D: Array) -> Array:
    """A x, reading D^2 / 2 numbers."""
    return _routines(_letter(a_DD))[0](1.0, a_DD, x_D, lower=1)


def symmetric_vectors(a_KDD: Array, x_D: Array) -> Array:
    """A x of each of K C-ordered matrices that hold their upper triangle: (K, D).

    The numbers are bit for bit those of ``symmetric_vector``.
    """
    symv = _routines(_letter(a_KDD))[0]
    out_KD = np.empty(a_KDD.shape[:2], a_KDD.dtype)
    for out_D, a_DD in zip(out_KD, a_KDD, strict=True):
        out_D[:] = symv(1.0, a_DD.T, x_D, lower=1)
    return out_KD


def symmetric_rows(a_DD: Array, x_ND: Array) -> Array:
    """(A X')' for C-ordered rows X: (N, D)."""
    return _routines(_letter(a_DD))[1](1.0, a_DD, x_ND.T, side=0, lower=1).T


def quadratic_rows(a_DD: Array, x_ND: Array, square_ND: Array) -> Array:
    """x'Ax of each row as 2 x'Lx - sum A_ii x_i^2 with L the lower triangle.

    That takes half the flops of A X'.
    """
    product_ND = _routines(_letter(a_DD))[2](2.0, a_DD, x_ND.T, side=0, lower=1).T
    return np.asarray(np.einsum("nd,nd->n", product_ND, x_ND) - square_ND @ np.diagonal(a_DD))


def subtract_gram(a_DD: Array, y_ND: Array) -> Array:
    """A - Y'Y in place, lower triangle only; returns A."""
    return _routines(_letter(a_DD))[3](-1.0, y_ND.T, beta=1.0, c=a_DD, lower=1, overwrite_c=1)


def subtract_rows(y_D: Array, a_TD: Array, z_T: Array) -> None:
    """y - A'z in place, for contiguous y and C-ordered A."""
    _routines(_letter(a_TD))[4](-1.0, a_TD.T, z_T, beta=1.0, y=y_D, overwrite_y=1)


def packed(a_DD: Array) -> Array:
    """The lower triangle of a Fortran-ordered matrix, column after column: (D (D + 1) / 2,)."""
    # rows of the transpose are columns of the matrix
    columns = [row_D[i:] for i, row_D in enumerate(a_DD.T[: len(a_DD)])]
    return np.concatenate([np.empty(0, a_DD.dtype), *columns])


def unpacked(packed_P: Array, dim: int) -> Array:
    """The Fortran-ordered matrix of ``packed``; its upper triangle is zeros."""
    a_DD = np.zeros((dim, dim), packed_P.dtype)
    start = 0
    for i in range(dim):
        stop = start + dim - i
        a_DD[i, i:] = packed_P[start:stop]
        start = stop

    return a_DD.T
