"""Gram matrix of sparse items and the inverse of a positive definite matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.parallel import inputs, serial
from recsys_fast._numba.pieces import run_pieces

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_ROWS = 32  # of a Gram matrix that a thread makes at once
_MIRROR = 512  # side of the squares that are mirrored at once
_NOISE = 2e-7  # a pivot that lost all but this share of its diagonal is rounding noise


def csr_gram(
    out: F32, t_row_ptr: I64, t_col_idx: I32, t_values: F32, row_ptr: I64, col_idx: I32, values: F32,
    regularization: float, n_threads: int,
) -> None:  # fmt: skip
    """out ``(n, n)`` = x^T x + regularization I for the sparse x ``(m, n)``, t its transpose; overwrites.

    Sums in float64, rounded before the regularization is added.
    """
    n = len(t_row_ptr) - 1
    arrays: Any = inputs(t_row_ptr, t_col_idx, t_values, row_ptr, col_idx, values)

    def worker() -> Callable[[int, int], object]:
        sums = np.empty(n)

        def run(begin: int, end: int) -> None:
            given: tuple[Any, ...] = (out, *arrays, sums, begin, end)
            _gram_rows(*given)

        return run

    if n:
        run_pieces([*range(0, n, _ROWS), n], n_threads, worker)
    _mirror(out)
    diagonal = np.einsum("ii->i", out)
    diagonal += np.float32(regularization)


@serial
def _gram_rows(
    out: F32, t_row_ptr: I64, t_col_idx: I32, t_values: F32, row_ptr: I64, col_idx: I32, values: F32, sums: F64,
    begin: int, end: int,
) -> None:  # fmt: skip
    """Rows begin .. end - 1 up to the diagonal."""
    for i in range(begin, end):
        sums[: i + 1] = 0.0
        for e in range(t_row_ptr[i], t_row_ptr[i + 1]):
            u = t_col_idx[e]
            factor = np.float64(t_values[e]) if len(t_values) else 1.0
            for p in range(row_ptr[u], row_ptr[u + 1]):
                j = col_idx[p]
                if j > i:
                    break
                sums[j] += factor * values[p] if len(values) else factor
        for j in range(i + 1):
            out[i, j] = sums[j]


def _mirror(a: F32) -> None:
    """Copy the lower triangle to the upper one."""
    n = len(a)
    for i in range(0, n, _MIRROR):
        rows = slice(i, min(n, i + _MIRROR))
        for j in range(0, i, _MIRROR):
            a[j : j + _MIRROR, rows] = a[rows, j : j + _MIRROR].T
        square = a[rows, rows]
        square[:] = np.tril(square) + np.tril(square, -1).T


def spd_invert(a: F32, n_threads: int) -> int:
    """a ``(n, n)`` <- a^-1 in place by LAPACK; reads the lower triangle. Returns -1, or a row that failed."""
    from scipy.linalg import lapack

    if not len(a):
        return -1
    diagonal = a.diagonal().copy()
    # To LAPACK, which counts columns first, the lower triangle is the upper one of the same memory.
    _, failed = lapack.spotrf(a.T, lower=0, clean=0, overwrite_a=1)
    if failed > 0:
        return int(failed) - 1
    lost = ~(np.square(a.diagonal()) > _NOISE * diagonal)  # true for NaN, too
    if lost.any():
        return int(np.argmax(lost))
    lapack.spotri(a.T, lower=0, overwrite_c=1)
    _mirror(a)
    return -1
