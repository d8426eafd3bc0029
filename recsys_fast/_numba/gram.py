"""Gram matrix, its eigenbasis, and the rotation of factors into it."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from recsys_fast._numba.parallel import parallel, serial, threads

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_TILE = 128  # rows of y per product: long enough for the product's rate, short enough to stay in L2
_PART_FLOATS = 1 << 21  # all partial sums together, so that wide factors do not multiply their own size by 8
_MAX_SWEEPS = 40  # cyclic Jacobi converges quadratically; 6 to 12 sweeps are what it takes


def gram(out: F32, y: F32, n_threads: int) -> None:
    """out = y^T y, out ``(d, d)``, y ``(n, d)``; overwrites; the tree of the sum depends on the shapes only."""
    n, d = y.shape
    n_parts = max(1, min(8, _PART_FLOATS // max(1, d * d), -(-n // _TILE)))
    parts = np.zeros((n_parts, d, d))
    with threads(n_threads):
        _gram_parts(parts, y, -(-n // n_parts))
    _gram_sum(out, parts)


@parallel
def _gram_parts(parts: F64, y: F32, rows: int) -> None:
    """parts[p] = y_p^T y_p over the p-th run of ``rows`` rows."""
    n, d = y.shape
    for part in prange(len(parts)):
        product = np.empty((d, d), np.float32)
        stop = min(n, (part + 1) * rows)
        for start in range(part * rows, stop, _TILE):
            tile = y[start : min(start + _TILE, stop)]
            np.dot(tile.T, tile, product)
            for i in range(d):
                for j in range(d):
                    parts[part, i, j] += product[i, j]


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
    """gram = vectors diag(values) vectors^T by cyclic Jacobi in float64, pairs taken round robin.

    vectors ``(d, d) float32`` (columns), values ``(d,) float32`` descending, not negative; both overwritten. Each round
    rotates d / 2 disjoint pairs, so the rounds run in parallel and the result is the same for any number of threads.
    Golub, Van Loan: Matrix Computations, section 8.5.
    """
    d = len(values)
    size = d + d % 2  # an odd size gets an empty row and column, which no rotation touches
    a, spare = np.zeros((size, size)), np.zeros((size, size))
    a[:d, :d] = (gram.astype(np.float64) + gram.T) / 2.0
    basis, basis_spare = np.eye(size), np.zeros((size, size))
    order = np.arange(size)
    with threads(n_threads):
        for _ in range(_MAX_SWEEPS):
            if _off_diagonal(a) <= 1e-11:
                break
            a, spare, basis, basis_spare, order = _jacobi_sweep(a, spare, basis, basis_spare, order)
    _sorted_pairs(vectors, values, a, basis, order)


@serial
def _off_diagonal(a: F64) -> float:
    """Return the Frobenius norm of a's off-diagonal part over that of a (0 for a zero matrix)."""
    off, total = 0.0, 0.0
    for i in range(len(a)):
        for j in range(len(a)):
            total += a[i, j] * a[i, j]
            if i != j:
                off += a[i, j] * a[i, j]
    return np.sqrt(off / total) if total > 0.0 else 0.0


@serial
def _jacobi_sweep(a: F64, spare: F64, basis: F64, basis_spare: F64, order: I64) -> tuple[F64, F64, F64, F64, I64]:
    """Rotate every pair of rows and columns once; return the arrays in their new roles."""
    size = len(a)
    half = size // 2
    cos, sin = np.ones(half), np.zeros(half)
    target = np.empty(size, np.int64)  # circle method: position 0 stays, all others move on by one
    for i in range(size):
        target[i] = i + 1 if i < half else i - 1
    target[0] = 0
    if half > 1:
        target[half - 1] = size - 1
        target[half] = 1
    else:
        target[1] = 1
    for _ in range(size - 1):
        _angles(cos, sin, a)
        _rotate_round(spare, basis_spare, a, basis, cos, sin, target)
        a, spare = spare, a
        basis, basis_spare = basis_spare, basis
        moved = np.empty_like(order)
        moved[target] = order
        order = moved
    return a, spare, basis, basis_spare, order


@serial
def _angles(cos: F64, sin: F64, a: F64) -> None:
    """The rotations that annihilate a[i, half + i]; none where it is zero already."""
    half = len(cos)
    for i in range(half):
        cos[i], sin[i] = 1.0, 0.0
        off = a[i, half + i]
        if off != 0.0:
            tau = (a[half + i, half + i] - a[i, i]) / (2.0 * off)
            tangent = 1.0 / (abs(tau) + np.sqrt(1.0 + tau * tau))
            tangent = tangent if tau >= 0.0 else -tangent
            cos[i] = 1.0 / np.sqrt(1.0 + tangent * tangent)
            sin[i] = tangent * cos[i]


@parallel
def _rotate_round(a_out: F64, basis_out: F64, a: F64, basis: F64, cos: F64, sin: F64, target: I64) -> None:
    """a_out = P J^T a J P^T, basis_out = P J^T basis for all pairs (i, half + i) at once; P moves i to target[i]."""
    half = len(cos)
    for i in prange(half):
        c, s = cos[i], sin[i]
        low, high = np.empty_like(a[i]), np.empty_like(a[i])
        for j in range(half):
            # Rows first, then columns; the two columns of a pair are half a row apart, so the loop is over vectors.
            u, v = c * a[i, j] - s * a[half + i, j], c * a[i, half + j] - s * a[half + i, half + j]
            low[j], low[half + j] = cos[j] * u - sin[j] * v, sin[j] * u + cos[j] * v
            u, v = s * a[i, j] + c * a[half + i, j], s * a[i, half + j] + c * a[half + i, half + j]
            high[j], high[half + j] = cos[j] * u - sin[j] * v, sin[j] * u + cos[j] * v
        _moved(a_out[target[i]], low)
        _moved(a_out[target[half + i]], high)
        to_low, to_high = basis_out[target[i]], basis_out[target[half + i]]
        for j in range(2 * half):
            to_low[j] = c * basis[i, j] - s * basis[half + i, j]
            to_high[j] = s * basis[i, j] + c * basis[half + i, j]


@serial
def _moved(out: F64, row: F64) -> None:
    """out[target[i]] = row[i], as runs."""
    size = len(row)
    half = size // 2
    if half == 1:
        out[:] = row
        return
    out[0] = row[0]
    out[1] = row[half]
    out[2:half] = row[1 : half - 1]
    out[half : size - 1] = row[half + 1 :]
    out[size - 1] = row[half - 1]


@serial
def _sorted_pairs(vectors: F32, values: F32, a: F64, basis: F64, order: I64) -> None:
    """Write eigenpairs by descending value; the component of largest magnitude (the first of equals) is positive."""
    d, size = len(values), len(a)
    found = np.empty(size)
    for i in range(size):
        found[i] = np.inf if order[i] == d else -a[i, i]  # the padding goes last
    ranked = np.argsort(found, kind="mergesort")
    for k in range(d):
        row = basis[ranked[k]]
        values[k] = max(0.0, a[ranked[k], ranked[k]])
        largest = 0
        for j in range(1, d):
            if abs(row[j]) > abs(row[largest]):
                largest = j
        sign = -1.0 if row[largest] < 0.0 else 1.0
        for j in range(d):
            vectors[j, k] = sign * row[j]


def rows_rotate(x: F32, q: F32, n_threads: int) -> None:
    """x <- x q in place for x ``(n, d) float32``, q ``(d, d) float32``."""
    with threads(n_threads):
        _rotate_rows(x, q)


@parallel
def _rotate_rows(x: F32, q: F32) -> None:
    n = len(x)
    for part in prange((n + _TILE - 1) // _TILE):
        tile = x[part * _TILE : min(n, (part + 1) * _TILE)]
        tile[:] = np.dot(tile, q)
