"""A fully connected layer, and the small products that layers are made of; any floating dtype.

Threads take pieces of loops that are compiled without numba's own parallelism: compiling that takes several times as
long, for every dtype and layer.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.blas import BLOCK
from recsys_fast._numba.dropout import Drop, dropout_at, dropout_key
from recsys_fast._numba.feed_forward import RELU, SIGMOID, TANH, activate, activation_slope
from recsys_fast._numba.parallel import inputs, serial
from recsys_fast._numba.pieces import run_pieces

Array = NDArray[Any]

_SLOTS, _SLOT_ROWS = 8, 128


@serial
def add_product(out: Array, a: Array, b: Array) -> None:
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
def add_column_sums(out: Array, a: Array) -> None:
    """out += sum of the rows of a."""
    for r in range(len(a)):
        for k in range(a.shape[1]):
            out[k] += a[r, k]


def sum_parts(out: Array, parts: Array) -> None:
    """out = parts[0] + parts[1] + ..., in this order."""
    out[...] = parts[0]
    for part in parts[1:]:
        out += part


def n_slots(n_rows: int) -> int:
    """Return into how many sums the rows of a batch go: a matter of the batch, not of the threads."""
    return min(_SLOTS, max(1, n_rows // _SLOT_ROWS))


def pieces(n: int) -> list[int]:
    """Return bounds that cut n tiles into at most 16 pieces for threads."""
    return [n * k // 16 for k in range(17)] if n > 16 else list(range(n + 1))


@serial
def _slope(kind: int, y: float, x: float) -> float:
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
    y[:] = 0.0
    add_product(y, x, w)
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
    run_pieces(pieces(-(-len(x) // BLOCK)), n_threads, lambda: partial(_forward, y, pre, x, w, b, activation, drop))


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
            gradient[r, k] = dy[r, k] * mask * _slope(activation, value, before)
    add_product(dw, np.ascontiguousarray(x.T), gradient)
    add_column_sums(db, gradient)
    if len(dx):
        dx[:] = 0.0
        add_product(dx, gradient, w_t)


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
    begin: int,
    end: int,
) -> None:
    """Slots begin to end."""
    n, slots = len(x), len(dws)
    for slot in range(begin, end):
        stop = (slot + 1) * n // slots
        for first in range(slot * n // slots, stop, BLOCK):
            last = min(first + BLOCK, stop)
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
    slots = n_slots(len(x))
    dws, dbs = np.zeros((slots, *dw.shape), x.dtype), np.zeros((slots, dw.shape[1]), x.dtype)
    given = (dx, dws, dbs, dy, y, pre, x, np.ascontiguousarray(w.T), activation, drop)
    run_pieces(range(slots + 1), n_threads, lambda: partial(_backward, *given))
    sum_parts(dw, dws)
    if len(db):
        sum_parts(db, dbs)
