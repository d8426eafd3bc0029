"""Gram matrix, its eigenbasis, and the rotation of factors into it."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from recsys_fast._numba.blas import BLOCK, BLOCK_WORK, add_outer, pack
from recsys_fast._numba.parallel import inputs, parallel, serial, threads

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_PART_FLOATS = 1 << 21  # all partial sums together, so that wide factors do not multiply their own size by 8
_MAX_SWEEPS = 40  # 6 to 12 are what it takes
_ORTHOGONAL = 1e-10  # cosine of two rows that are left as they are
_CONVERGED = 1e-7  # convergence is quadratic: the sweep that meets no larger cosine leaves about 1e-14


def gram(out: F32, y: F32, n_threads: int) -> None:
    """out = y^T y, out ``(d, d)``, y ``(n, d)``; overwrites; the tree of the sum depends on the shapes only."""
    n, d = y.shape
    n_parts = max(1, min(8, _PART_FLOATS // max(1, d * d), -(-n // BLOCK)))
    parts = np.zeros((n_parts, d, d))
    (table,) = inputs(y)
    with threads(n_threads):
        _gram_parts(parts, table, -(-n // n_parts))
    _gram_sum(out, parts)


@parallel
def _gram_parts(parts: F64, y: F32, rows: int) -> None:
    """parts[p] = y_p^T y_p, on and above the diagonal, over the p-th run of ``rows`` rows."""
    n, d = y.shape
    for part in prange(len(parts)):
        packed, product = np.empty(BLOCK * d, np.float32), np.empty(BLOCK * BLOCK, np.float32)
        stop = min(n, (part + 1) * rows)
        for start in range(part * rows, stop, BLOCK):
            tile = y[start : min(start + BLOCK, stop)]
            pack(packed, tile)
            add_outer(parts[part], 0, packed, packed, len(tile), 1.0, product)


@serial
def _gram_sum(out: F32, parts: F64) -> None:
    """out = sum of parts in order, exactly symmetric."""
    n_parts, d, _ = parts.shape
    for i in range(d):
        for j in range(i, d):
            total = 0.0
            for part in range(n_parts):
                total += parts[part, i, j]
            out[i, j] = total
            out[j, i] = total


def gram_eigen(vectors: F32, values: F32, gram: F32, n_threads: int) -> None:
    """gram = vectors diag(values) vectors^T by one-sided Jacobi on the Cholesky factor, in float64.

    vectors ``(d, d) float32`` (columns), values ``(d,) float32`` descending, not negative; both overwritten. Serial,
    whatever ``n_threads``: disjoint pairs could run at once, but are done in less time than threads need to start.
    Veselic, Hari 1989.
    """
    a = (gram.astype(np.float64) + gram.T) / 2.0
    shift = _factor_shifted(a)
    squares = np.zeros(len(a))
    for _ in range(_MAX_SWEEPS):
        if _orthogonalise(a, squares) <= _CONVERGED:
            break
    _sorted_pairs(vectors, values, a, shift)


@serial
def _factor_shifted(a: F64) -> float:
    """a <- the upper factor u of a + shift I = u^T u, zeros below the diagonal; return the shift.

    It moves no eigenvector, and leaves a rank-deficient matrix with a factor whose rows all have a direction.
    """
    d = len(a)
    shift = 1e-100
    for i in range(d):
        shift += 1e-6 * max(0.0, a[i, i])
    for i in range(d):
        a[i, i] += shift
    for k in range(d):
        inverse = 1.0 / np.sqrt(max(a[k, k], 1e-200))
        for j in range(k, d):
            a[k, j] *= inverse
        for j in range(k):
            a[k, j] = 0.0
        for i in range(k + 1, d):
            factor = a[k, i]
            for j in range(i, d):
                a[i, j] -= factor * a[k, j]
    return shift


@serial
def _orthogonalise(w: F64, squares: F64) -> float:
    """Rotate every pair of rows once, so that they are orthogonal; return the largest |cosine| met.

    Scratch: squares (d,).
    """
    d = len(w)
    largest = 0.0
    for p in range(d):
        squares[p] = np.dot(w[p], w[p])
    for p in range(d):
        for q in range(p + 1, d):
            product = np.dot(w[p], w[q])
            cosine = abs(product) / np.sqrt(max(squares[p] * squares[q], 1e-300))
            if cosine <= _ORTHOGONAL:
                continue
            largest = max(largest, cosine)
            tau = (squares[q] - squares[p]) / (2.0 * product)
            tangent = 1.0 / (abs(tau) + np.sqrt(1.0 + tau * tau))
            tangent = tangent if tau >= 0.0 else -tangent
            c = 1.0 / np.sqrt(1.0 + tangent * tangent)
            s = tangent * c
            for k in range(d):
                u, v = w[p, k], w[q, k]
                w[p, k] = c * u - s * v
                w[q, k] = s * u + c * v
            squares[p] -= tangent * product
            squares[q] += tangent * product
    return largest


@serial
def _sorted_pairs(vectors: F32, values: F32, w: F64, shift: float) -> None:
    """Write eigenpairs by descending value; the component of largest magnitude (the first of equals) is positive."""
    d = len(w)
    found = np.empty(d)
    for p in range(d):
        found[p] = np.dot(w[p], w[p])
    ranked = np.argsort(-found, kind="mergesort")
    for k in range(d):
        row = w[ranked[k]]
        values[k] = max(0.0, found[ranked[k]] - shift)
        largest = 0
        for j in range(1, d):
            if abs(row[j]) > abs(row[largest]):
                largest = j
        scale = 1.0 / np.sqrt(max(found[ranked[k]], 1e-300))
        scale = -scale if row[largest] < 0.0 else scale
        for j in range(d):
            vectors[j, k] = scale * row[j]


def rows_rotate(x: F32, q: F32, n_threads: int) -> None:
    """x <- x q in place for x ``(n, d) float32``, q ``(d, d) float32``."""
    packed = np.empty(q.size, np.float32)
    pack(packed, q)
    with threads(n_threads):
        _rotate_rows(x, packed, max(1, BLOCK_WORK // (BLOCK * q.shape[0])))


@parallel
def _rotate_rows(x: F32, packed: F32, step: int) -> None:
    """x <- x q, ``step`` rows at a time."""
    n, d = x.shape
    for part in prange((n + step - 1) // step):
        tile = x[part * step : min(n, (part + 1) * step)]
        before = tile.copy()
        for first in range(0, d, BLOCK):
            width = min(BLOCK, d - first)
            tile[:, first : first + width] = np.dot(before, packed[d * first : d * (first + width)].reshape(d, width))
