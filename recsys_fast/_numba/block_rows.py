"""What the layers of networks share: cuts of packed rows, dense products in small pieces, layer norm by rows.

Every loop takes its precision from its arrays, so that gradients can be checked in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.blas import BLOCK, BLOCK_WORK
from recsys_fast._numba.parallel import serial

F = NDArray[Any]
I64 = NDArray[np.int64]

NORM_PRE, NORM_POST, NORM_QUERY = 1, 2, 3  # 0: none

_TILE_ROWS = 256
_MAX_SLOTS, _SLOT_ROWS = 8, 128


def cut_tiles(n_rows: int) -> I64:
    """Return the bounds of tiles of rows; a pass that sums nothing over rows does each on its own."""
    return _cut_rows(n_rows, max(1, n_rows // _TILE_ROWS))


def cut_slots(n_rows: int, least: int = _SLOT_ROWS) -> I64:
    """Return the bounds of the runs of rows, of ``least`` at least, whose gradients are summed apart, then in order.

    Their number is a power of two, so that two or four threads share them evenly, and depends on the rows only.
    """
    n_slots = 1
    while n_slots < _MAX_SLOTS and n_rows >= 2 * n_slots * least:
        n_slots *= 2
    return _cut_rows(n_rows, n_slots)


def _cut_rows(n_rows: int, n_parts: int) -> I64:
    return np.arange(n_parts + 1) * n_rows // n_parts


def cut_sequences(row_ptr: I64, bounds: I64) -> I64:
    """Return the first sequence of each part, and the number of sequences: parts of whole sequences near ``bounds``."""
    cut = np.searchsorted(row_ptr[:-1], bounds)
    cut[0], cut[-1] = 0, len(row_ptr) - 1
    return cut


@serial
def add_product(out: F, a: F, b: F) -> None:
    """out += a b, in pieces that BLAS does on the calling thread."""
    n_i, n_k = a.shape
    n_j = b.shape[1]
    for i in range(0, n_i, BLOCK):
        for k in range(0, n_k, BLOCK):
            left = np.ascontiguousarray(a[i : i + BLOCK, k : k + BLOCK])
            for j in range(0, n_j, BLOCK):
                right = np.ascontiguousarray(b[k : k + BLOCK, j : j + BLOCK])
                out[i : i + BLOCK, j : j + BLOCK] += np.dot(left, right)


@serial
def multiply(out: F, a: F, b: F) -> None:
    """out = a b for a (n, k), b (k, m) or the transpose of a (m, k); overwrites."""
    n, k = a.shape
    m = b.shape[1]
    step = BLOCK_WORK // max(1, k * m)
    if step > 0:
        for start in range(0, n, step):
            stop = min(n, start + step)
            np.dot(a[start:stop], b, out[start:stop])
        return
    out[:] = 0.0
    add_product(out, a, b)  # too wide even for a single row


@serial
def add_transposed(out: F, a: F, b: F) -> None:
    """out += a^T b for a (n, k), b (n, m)."""
    n, k = a.shape
    m = b.shape[1]
    step = BLOCK_WORK // max(1, k * m)
    if step > 0:
        part = np.empty_like(out)
        for start in range(0, n, step):
            stop = min(n, start + step)
            np.dot(a[start:stop].T, b[start:stop], part)
            for i in range(k):
                for j in range(m):
                    out[i, j] += part[i, j]
        return
    add_product(out, a.T, b)


@serial
def add_bias(rows: F, bias: F) -> None:
    """Every row += bias, unless that is absent."""
    if len(bias):
        for r in range(len(rows)):
            for j in range(len(bias)):
                rows[r, j] += bias[j]


@serial
def add_columns(out: F, rows: F) -> None:
    """out += the sum of the rows, unless out is absent."""
    if len(out):
        for r in range(len(rows)):
            for j in range(len(out)):
                out[j] += rows[r, j]


@serial
def measure_row(row: F, eps: float) -> tuple[float, float]:
    """Return the mean, and 1 / sqrt(variance + eps)."""
    d = len(row)
    mean, square = 0.0, 0.0
    for j in range(d):
        mean += row[j]
    mean /= d
    for j in range(d):
        square += (row[j] - mean) ** 2
    return mean, 1.0 / np.sqrt(square / d + eps)


@serial
def norm_rows(out: F, stats: F, x: F, gamma: F, beta: F, eps: float) -> None:
    """out = gamma (x - mean) / sqrt(variance + eps) + beta by rows, with stats = mean, 1 / that root; overwrites."""
    for r in range(len(x)):
        stats[r, 0], stats[r, 1] = measure_row(x[r], eps)
    renorm_rows(out, stats, x, gamma, beta)


@serial
def renorm_rows(out: F, stats: F, x: F, gamma: F, beta: F) -> None:
    """out = gamma (x - mean) / deviation + beta with the stats of before; overwrites."""
    for r in range(len(x)):
        mean, scale = stats[r, 0], stats[r, 1]
        for j in range(x.shape[1]):
            out[r, j] = gamma[j] * ((x[r, j] - mean) * scale) + beta[j]


@serial
def norm_rows_back(dx: F, dgamma: F, dbeta: F, dy: F, x: F, stats: F, gamma: F) -> None:
    """dx = the gradient of norm_rows's x for that of its result, which dx may be; dgamma, dbeta += theirs."""
    n, d = x.shape
    for r in range(n):
        mean, scale = stats[r, 0], stats[r, 1]
        plain, along = 0.0, 0.0
        for j in range(d):
            unit = (x[r, j] - mean) * scale
            dgamma[j] += dy[r, j] * unit
            dbeta[j] += dy[r, j]
            part = dy[r, j] * gamma[j]
            plain += part
            along += part * unit
        plain /= d
        along /= d
        for j in range(d):
            unit = (x[r, j] - mean) * scale
            dx[r, j] = scale * (dy[r, j] * gamma[j] - plain - unit * along)


def sum_slots(out: F, slots: F) -> None:
    """out = the sum of the slots' copies (n_slots, ...), in order; overwrites."""
    out[...] = slots[0]
    for part in slots[1:]:
        out += part
