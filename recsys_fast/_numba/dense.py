"""A fully connected layer; any floating dtype.

Threads take pieces of loops that are compiled without numba's own parallelism: compiling that takes several times as
long, for every dtype and layer.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.blas import BLOCK
from recsys_fast._numba.block_rows import add_columns, add_transposed, cut_slots, multiply, sum_slots
from recsys_fast._numba.dropout import Drop, dropout_at, dropout_key
from recsys_fast._numba.feed_forward import RELU, SIGMOID, TANH, activate, activation_slope
from recsys_fast._numba.parallel import inputs, serial
from recsys_fast._numba.pieces import cut_pieces, run_pieces

Array = NDArray[Any]


@serial
def slope(kind: int, y: float, x: float) -> float:
    """Return the derivative by the result y; x is looked at only where that does not tell it."""
    if kind == RELU:
        return 1.0 if y > 0.0 else 0.0
    if kind == TANH:
        return 1.0 - y * y
    if kind == SIGMOID:
        return y * (1.0 - y)
    return activation_slope(kind, x)


@serial
def _forward_rows(y: Array, pre: Array, x: Array, w: Array, b: Array, activation: int, drop: Drop, first: int) -> None:
    """Rows of a tile, the first of which is row ``first`` of the batch."""
    n, d_out = y.shape
    multiply(y, x, w)
    for r in range(n):
        for k in range(d_out):
            value = y[r, k] + b[k] if len(b) else y[r, k]
            if len(pre):
                pre[r, k] = value
            mask = dropout_at(drop, first + r, k, d_out) if drop[2] > 0 else 1.0
            y[r, k] = activate(activation, value) * mask


@serial
def _forward(
    y: Array, pre: Array, x: Array, w: Array, b: Array, activation: int, drop: Drop, begin: int, end: int
) -> None:
    """Tiles begin to end."""
    n = len(x)
    for tile in range(begin, end):
        first, last = tile * BLOCK, min(n, (tile + 1) * BLOCK)
        _forward_rows(y[first:last], pre[first:last], x[first:last], w, b, activation, drop, first)


def dense_forward(
    y: Array,
    pre: Array,
    x: Array,
    w: Array,
    b: Array,
    activation: int,
    dropout: float,
    seed: int,
    step: int,
    site: int,
    n_threads: int,
) -> None:
    """y = D(activation(x w + b)); see ``recsys_fast.ops.dense_forward``."""
    x, w, b = inputs(x, w, b)
    drop = dropout_key(float(dropout), np.uint64(seed), step, site)
    run_pieces(cut_pieces(-(-len(x) // BLOCK)), n_threads, lambda: partial(_forward, y, pre, x, w, b, activation, drop))


@serial
def _backward_rows(
    dx: Array,
    dw: Array,
    db: Array,
    dy: Array,
    y: Array,
    pre: Array,
    x: Array,
    w_t: Array,
    activation: int,
    drop: Drop,
    first: int,
) -> None:
    """Rows of a tile; dw and db are added to."""
    n, d_out = y.shape
    gradient = np.empty_like(dy)
    for r in range(n):
        for k in range(d_out):
            mask = dropout_at(drop, first + r, k, d_out) if drop[2] > 0 else 1.0
            value = y[r, k] / mask if mask > 0.0 else 0.0
            before = pre[r, k] if len(pre) else value
            gradient[r, k] = dy[r, k] * mask * slope(activation, value, before)
    add_transposed(dw, x, gradient)
    add_columns(db, gradient)
    if len(dx):
        multiply(dx, gradient, w_t)


@serial
def _backward(
    dx: Array,
    dws: Array,
    dbs: Array,
    dy: Array,
    y: Array,
    pre: Array,
    x: Array,
    w_t: Array,
    activation: int,
    drop: Drop,
    bounds: NDArray[np.int64],
    begin: int,
    end: int,
) -> None:
    """Slots begin to end."""
    for slot in range(begin, end):
        for first in range(bounds[slot], bounds[slot + 1], BLOCK):
            last = min(first + BLOCK, bounds[slot + 1])
            given = (dy[first:last], y[first:last], pre[first:last], x[first:last])
            _backward_rows(dx[first:last], dws[slot], dbs[slot], *given, w_t, activation, drop, first)


def dense_backward(
    dx: Array,
    dw: Array,
    db: Array,
    dy: Array,
    y: Array,
    pre: Array,
    x: Array,
    w: Array,
    activation: int,
    dropout: float,
    seed: int,
    step: int,
    site: int,
    n_threads: int,
) -> None:
    """Gradients of ``dense_forward``; see ``recsys_fast.ops.dense_backward``."""
    dy, y, pre, x, w = inputs(dy, y, pre, x, w)
    drop = dropout_key(float(dropout), np.uint64(seed), step, site)
    bounds = cut_slots(len(x))
    slots = len(bounds) - 1
    dws, dbs = np.zeros((slots, *dw.shape), x.dtype), np.zeros((slots, dw.shape[1]), x.dtype)
    given = (dx, dws, dbs, dy, y, pre, x, np.ascontiguousarray(w.T), activation, drop, bounds)
    run_pieces(range(slots + 1), n_threads, lambda: partial(_backward, *given))
    sum_slots(dw, dws)
    if len(db):
        sum_slots(db, dbs)
