"""Caser's horizontal and vertical convolutions, window by window; any floating dtype."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.block_rows import cut_slots, sum_slots
from recsys_fast._numba.dropout import Drop, dropout_at, dropout_key
from recsys_fast._numba.parallel import inputs, serial
from recsys_fast._numba.pieces import cut_pieces, run_pieces

Array = NDArray[Any]
I32 = NDArray[np.int32]

_SLOT_WINDOWS = 32


@serial
def _horizontal(z: Array, argmax: I32, x: Array, w: Array, b: Array, window: int) -> None:
    """z[(height - 1) n_h + f] = max over positions p of relu(x[p : p + height] . w_height[:, f] + b), one window.

    argmax is the first p of the maximum, -1 where none is positive. x (window d,) flat: its rows lie one behind the
    other, so the slice of a position is one vector.
    """
    d, n_h = len(x) // window, w.shape[1]
    scores = np.empty(n_h, x.dtype)
    z[:] = 0.0
    argmax[:] = -1
    for height in range(1, window + 1):
        at, row = (height - 1) * n_h, height * (height - 1) // 2 * d
        for p in range(window - height + 1):
            scores[:] = b[at : at + n_h]
            for k in range(height * d):
                for f in range(n_h):
                    scores[f] += x[p * d + k] * w[row + k, f]
            for f in range(n_h):
                if scores[f] > z[at + f]:
                    z[at + f] = scores[f]
                    argmax[at + f] = p


@serial
def _vertical(z: Array, x: Array, w: Array, b: Array, window: int) -> None:
    """z[c d + k] = sum over places l of x[l, k] w[l, c] + b[c], one window."""
    d, n_v = len(x) // window, w.shape[1]
    for c in range(n_v):
        for k in range(d):
            z[c * d + k] = b[c] if len(b) else 0.0
        for place in range(window):
            for k in range(d):
                z[c * d + k] += x[place * d + k] * w[place, c]


@serial
def _forward_window(
    z: Array, argmax: I32, x: Array, w_h: Array, b_h: Array, w_v: Array, b_v: Array, window: int, drop: Drop, i: int
) -> None:
    """Window i of the batch."""
    _horizontal(z[: len(b_h)], argmax, x, w_h, b_h, window)
    _vertical(z[len(b_h) :], x, w_v, b_v, window)
    if drop[2] > 0:
        for k in range(len(z)):
            z[k] *= dropout_at(drop, i, k, len(z))


@serial
def _forward(
    z: Array,
    argmax: I32,
    x: Array,
    w_h: Array,
    b_h: Array,
    w_v: Array,
    b_v: Array,
    window: int,
    drop: Drop,
    begin: int,
    end: int,
) -> None:
    """Windows begin to end."""
    for i in range(begin, end):
        _forward_window(z[i], argmax[i], x[i], w_h, b_h, w_v, b_v, window, drop, i)


def caser_forward(
    z: Array,
    argmax: I32,
    x: Array,
    w_h: Array,
    b_h: Array,
    w_v: Array,
    b_v: Array,
    window: int,
    n_horizontal: int,
    n_vertical: int,
    dropout: float,
    seed: int,
    step: int,
    site: int,
    n_threads: int,
) -> None:
    """z = D(horizontal, vertical convolutions of windows); see ``recsys_fast.ops.caser_forward``."""
    x, w_h, b_h, w_v, b_v = inputs(x, w_h, b_h, w_v, b_v)
    drop = dropout_key(float(dropout), np.uint64(seed), step, site)
    flat = x.reshape(len(z), window * x.shape[1])
    given: tuple[Any, ...] = (z, argmax, flat, w_h, b_h, w_v, b_v, window, drop)
    run_pieces(cut_pieces(len(z)), n_threads, lambda: partial(_forward, *given))


@serial
def _horizontal_back(dx: Array, dw: Array, db: Array, dz: Array, argmax: I32, x: Array, w: Array, window: int) -> None:
    """dx +=, dw +=, db +=: only the position of each filter's maximum has a gradient; one window."""
    d, n_h = len(x) // window, w.shape[1]
    for height in range(1, window + 1):
        at, row = (height - 1) * n_h, height * (height - 1) // 2 * d
        for f in range(n_h):
            p = argmax[at + f]
            if p < 0:
                continue
            gradient = dz[at + f]
            db[at + f] += gradient
            for k in range(height * d):
                dx[p * d + k] += gradient * w[row + k, f]
                dw[row + k, f] += gradient * x[p * d + k]


@serial
def _vertical_back(dx: Array, dw: Array, db: Array, dz: Array, x: Array, w: Array, window: int) -> None:
    d, n_v = len(x) // window, w.shape[1]
    for c in range(n_v):
        for k in range(d):
            db[c] += dz[c * d + k]
        for place in range(window):
            for k in range(d):
                dx[place * d + k] += dz[c * d + k] * w[place, c]
                dw[place, c] += dz[c * d + k] * x[place * d + k]


@serial
def _backward_window(
    dx: Array,
    dw_h: Array,
    db_h: Array,
    dw_v: Array,
    db_v: Array,
    dz: Array,
    argmax: I32,
    x: Array,
    w_h: Array,
    w_v: Array,
    window: int,
    drop: Drop,
    i: int,
) -> None:
    """Window i of the batch; gradients of parameters are added to."""
    gradient = np.empty_like(dz)
    for k in range(len(dz)):
        gradient[k] = dz[k] * dropout_at(drop, i, k, len(dz)) if drop[2] > 0 else dz[k]
    dx[:] = 0.0
    _horizontal_back(dx, dw_h, db_h, gradient[: len(db_h)], argmax, x, w_h, window)
    _vertical_back(dx, dw_v, db_v, gradient[len(db_h) :], x, w_v, window)


@serial
def _backward(
    dx: Array,
    dw_h: Array,
    db_h: Array,
    dw_v: Array,
    db_v: Array,
    dz: Array,
    argmax: I32,
    x: Array,
    w_h: Array,
    w_v: Array,
    window: int,
    drop: Drop,
    bounds: NDArray[np.int64],
    begin: int,
    end: int,
) -> None:
    """Slots begin to end, each with gradients of parameters of its own."""
    for slot in range(begin, end):
        out = (dw_h[slot], db_h[slot], dw_v[slot], db_v[slot])
        for i in range(bounds[slot], bounds[slot + 1]):
            _backward_window(dx[i], *out, dz[i], argmax[i], x[i], w_h, w_v, window, drop, i)


def caser_backward(
    dx: Array,
    dw_h: Array,
    db_h: Array,
    dw_v: Array,
    db_v: Array,
    dz: Array,
    argmax: I32,
    x: Array,
    w_h: Array,
    w_v: Array,
    window: int,
    n_horizontal: int,
    n_vertical: int,
    dropout: float,
    seed: int,
    step: int,
    site: int,
    n_threads: int,
) -> None:
    """Gradients of ``caser_forward``; see ``recsys_fast.ops.caser_backward``."""
    dz, argmax, x, w_h, w_v = inputs(dz, argmax, x, w_h, w_v)
    drop = dropout_key(float(dropout), np.uint64(seed), step, site)
    bounds = cut_slots(len(dz), _SLOT_WINDOWS)
    n_slots = len(bounds) - 1
    shapes = (dw_h.shape, db_h.shape, dw_v.shape, w_v.shape[1:])
    parts = [np.zeros((n_slots, *shape), x.dtype) for shape in shapes]
    flat = x.reshape(len(dz), window * x.shape[1])
    given: tuple[Any, ...] = (dx.reshape(flat.shape), *parts, dz, argmax, flat, w_h, w_v, window, drop, bounds)
    run_pieces(range(n_slots + 1), n_threads, lambda: partial(_backward, *given))
    for out, terms in zip((dw_h, db_h, dw_v, db_v), parts, strict=True):
        if out.size:
            sum_slots(out, terms)
