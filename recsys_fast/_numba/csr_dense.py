"""A fully connected layer over sparse rows; any floating dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from recsys_fast._numba.block_rows import add_columns
from recsys_fast._numba.dense import slope
from recsys_fast._numba.dropout import Drop, dropout_at, dropout_key
from recsys_fast._numba.feed_forward import activate
from recsys_fast._numba.parallel import inputs, parallel, serial, threads

Array = NDArray[Any]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


@serial
def _forward_row(y: Array, col_idx: I32, values: Array, table: Array, b: Array, activation: int) -> None:
    y[:] = 0.0
    if len(b):
        y[:] = b
    for e in range(len(col_idx)):
        row = table[col_idx[e]]
        for c in range(len(y)):
            y[c] += values[e] * row[c] if len(values) else row[c]
    for c in range(len(y)):
        y[c] = activate(activation, y[c])


@parallel
def _forward(y: Array, row_ptr: I64, col_idx: I32, values: Array, table: Array, b: Array, activation: int) -> None:
    for t in prange(len(y)):
        first, last = row_ptr[t], row_ptr[t + 1]
        _forward_row(y[t], col_idx[first:last], values[first:last], table, b, activation)


def csr_dense_forward(
    y: Array, row_ptr: I64, col_idx: I32, values: Array, table: Array, b: Array, activation: int, n_threads: int
) -> None:
    """y = activation(x table + b) for sparse x; see ``recsys_fast.ops.csr_dense_forward``."""
    row_ptr, col_idx, values, table, b = inputs(row_ptr, col_idx, values, table, b)
    with threads(n_threads):
        _forward(y, row_ptr, col_idx, values, table, b, activation)


@serial
def _slopes(g: Array, db: Array, row_of: I32, dy: Array, y: Array, row_ptr: I64, activation: int) -> None:
    db[:] = 0.0
    for t in range(len(dy)):
        for c in range(dy.shape[1]):
            g[t, c] = dy[t, c] * slope(activation, y[t, c], y[t, c]) if len(y) else dy[t, c]
        for e in range(row_ptr[t], row_ptr[t + 1]):
            row_of[e] = t
    add_columns(db, g)


@serial
def _add_entries(drow: Array, entries: I32, row_of: I32, values: Array, g: Array) -> float:
    """drow = the sum over the entries; returns that of their values."""
    drow[:] = 0.0
    total = 0.0
    for e in entries:
        value = values[e] if len(values) else 1.0
        total += value
        for c in range(len(drow)):
            drow[c] += value * g[row_of[e], c]
    return total


@parallel
def _gradient(drows: Array, dbias: Array, entry_ptr: I64, entries: I32, row_of: I32, values: Array, g: Array) -> None:
    for r in prange(len(drows)):
        total = _add_entries(drows[r], entries[entry_ptr[r] : entry_ptr[r + 1]], row_of, values, g)
        if len(dbias):
            dbias[r] = total


def csr_dense_backward(
    drows: Array,
    dbias: Array,
    db: Array,
    g: Array,
    dy: Array,
    y: Array,
    row_ptr: I64,
    values: Array,
    entry_ptr: I64,
    entries: I32,
    activation: int,
    n_threads: int,
) -> None:
    """Gradients of ``csr_dense_forward``; see ``csrc/ops/csr_dense.h``."""
    dy, y, row_ptr, values, entry_ptr, entries = inputs(dy, y, row_ptr, values, entry_ptr, entries)
    slopes = g if len(g) else np.empty_like(dy)
    row_of = np.empty(len(entries), np.int32)
    _slopes(slopes, db, row_of, dy, y, row_ptr, activation)
    with threads(n_threads):
        _gradient(drows, dbias, entry_ptr, entries, row_of, values, slopes)


@serial
def _scale_row(out: Array, col_idx: I32, values: Array, n_cols: int, normalize: bool, drop: Drop, row: int) -> None:
    square = 0.0
    for e in range(len(out)):
        value = values[e] if len(values) else 1.0
        square += value * value
    scale = 1.0 / np.sqrt(square) if normalize and square > 0.0 else 1.0
    for e in range(len(out)):
        mask = dropout_at(drop, row, col_idx[e], n_cols) if drop[2] > 0 else 1.0
        out[e] = (values[e] if len(values) else 1.0) * scale * mask


@serial
def _scale(out: Array, row_ptr: I64, col_idx: I32, values: Array, n_cols: int, normalize: bool, drop: Drop) -> None:
    for t in range(len(row_ptr) - 1):
        first, last = row_ptr[t], row_ptr[t + 1]
        _scale_row(out[first:last], col_idx[first:last], values[first:last], n_cols, normalize, drop, t)


def csr_scale(
    out: Array,
    row_ptr: I64,
    col_idx: I32,
    values: Array,
    n_cols: int,
    normalize: bool,
    dropout: float,
    seed: int,
    step: int,
    site: int,
    n_threads: int,
) -> None:
    """out[e] = mask x[e], over the length of its row where ``normalize``; see ``recsys_fast.ops.csr_scale``."""
    row_ptr, col_idx, values = inputs(row_ptr, col_idx, values)
    drop = dropout_key(float(dropout), np.uint64(seed), step, site)
    _scale(out, row_ptr, col_idx, values, n_cols, bool(normalize), drop)
