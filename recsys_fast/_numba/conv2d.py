"""Convolutions over images, row of outputs by row of outputs; any floating dtype.

``shape`` is (height, width, channels, kernel_h, kernel_w, stride_h, stride_w, top, left, out_h, out_w, pool_h, pool_w).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.block_rows import add_columns, add_transposed, cut_slots, multiply, sum_slots
from recsys_fast._numba.dense import slope
from recsys_fast._numba.feed_forward import activate
from recsys_fast._numba.parallel import inputs, serial
from recsys_fast._numba.pieces import cut_pieces, run_pieces

Array = NDArray[Any]
Shape = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int]
_SLOT_IMAGES = 2


@serial
def _windows(out: Array, x: Array, row: int, shape: Shape) -> None:
    """out (out_w, kernel_h kernel_w channels) = what a row of outputs looks at in an image, zeros beyond it."""
    height, width, channels, kernel_h, kernel_w, stride_h, stride_w, top, left, _, out_w, _, _ = shape
    for col in range(out_w):
        k = 0
        for i in range(kernel_h):
            r = row * stride_h - top + i
            for j in range(kernel_w):
                c = col * stride_w - left + j
                inside = 0 <= r < height and 0 <= c < width
                at = (r * width + c) * channels
                for ch in range(channels):
                    out[col, k] = x[at + ch] if inside else 0.0
                    k += 1


@serial
def _add_windows(dx: Array, rows: Array, row: int, shape: Shape) -> None:
    """The way back of ``_windows``: dx += rows."""
    height, width, channels, kernel_h, kernel_w, stride_h, stride_w, top, left, _, out_w, _, _ = shape
    for col in range(out_w):
        k = 0
        for i in range(kernel_h):
            r = row * stride_h - top + i
            for j in range(kernel_w):
                c = col * stride_w - left + j
                if 0 <= r < height and 0 <= c < width:
                    at = (r * width + c) * channels
                    for ch in range(channels):
                        dx[at + ch] += rows[col, k + ch]
                k += channels


@serial
def _forward(
    y: Array,
    pre: Array,
    argmax: NDArray[np.uint8],
    x: Array,
    w: Array,
    b: Array,
    shape: Shape,
    activation: int,
    begin: int,
    end: int,
) -> None:
    """Images begin to end."""
    out_h, out_w, pool_h, pool_w = shape[9], shape[10], shape[11], shape[12]
    d = w.shape[1]
    wide, high = out_w // pool_w, out_h // pool_h
    rows, part = np.empty((out_w, len(w)), x.dtype), np.empty((out_w, d), x.dtype)
    for n in range(begin, end):
        for row in range(high):
            for i in range(pool_h):
                _windows(rows, x[n], row * pool_h + i, shape)
                multiply(part, rows, w)
                for col in range(wide * pool_w):
                    at = (row * wide + col // pool_w) * d
                    window = i * pool_w + col % pool_w
                    for k in range(d):
                        value = part[col, k] + b[k] if len(b) else part[col, k]
                        if window == 0 or value > y[n, at + k]:
                            y[n, at + k] = value
                            if len(argmax):
                                argmax[n, at + k] = window
        for k in range(y.shape[1]):
            if len(pre):
                pre[n, k] = y[n, k]
            y[n, k] = activate(activation, y[n, k])


def conv2d_forward(
    y: Array,
    pre: Array,
    argmax: NDArray[np.uint8],
    x: Array,
    w: Array,
    b: Array,
    height: int,
    width: int,
    channels: int,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    top: int,
    left: int,
    out_h: int,
    out_w: int,
    pool_h: int,
    pool_w: int,
    activation: int,
    n_threads: int,
) -> None:
    """y = activation(maxima of windows of (x * w + b)); see ``recsys_fast.ops.conv2d_forward``."""
    x, w, b = inputs(x, w, b)
    shape = (height, width, channels, kernel_h, kernel_w, stride_h, stride_w, top, left, out_h, out_w, pool_h, pool_w)
    run_pieces(cut_pieces(len(x)), n_threads, lambda: partial(_forward, y, pre, argmax, x, w, b, shape, activation))


@serial
def _backward(
    dx: Array,
    dws: Array,
    dbs: Array,
    dy: Array,
    y: Array,
    pre: Array,
    argmax: NDArray[np.uint8],
    x: Array,
    w_t: Array,
    shape: Shape,
    activation: int,
    bounds: NDArray[np.int64],
    begin: int,
    end: int,
) -> None:
    """Slots begin to end."""
    out_h, out_w, pool_h, pool_w = shape[9], shape[10], shape[11], shape[12]
    d, n_weights = w_t.shape
    wide, high = out_w // pool_w, out_h // pool_h
    rows, drows = np.empty((out_w, n_weights), x.dtype), np.empty((out_w, n_weights), x.dtype)
    gradient = np.empty((out_w, d), x.dtype)
    for slot in range(begin, end):
        for n in range(bounds[slot], bounds[slot + 1]):
            if len(dx):
                dx[n] = 0.0
            for row in range(high * pool_h):
                gradient[:] = 0.0
                for col in range(wide * pool_w):
                    at = (row // pool_h * wide + col // pool_w) * d
                    window = row % pool_h * pool_w + col % pool_w
                    for k in range(d):
                        if len(argmax) == 0 or argmax[n, at + k] == window:
                            before = pre[n, at + k] if len(pre) else y[n, at + k]
                            gradient[col, k] = dy[n, at + k] * slope(activation, y[n, at + k], before)
                _windows(rows, x[n], row, shape)
                add_transposed(dws[slot], rows, gradient)
                add_columns(dbs[slot], gradient)
                if len(dx):
                    multiply(drows, gradient, w_t)
                    _add_windows(dx[n], drows, row, shape)


def conv2d_backward(
    dx: Array,
    dw: Array,
    db: Array,
    dy: Array,
    y: Array,
    pre: Array,
    argmax: NDArray[np.uint8],
    x: Array,
    w: Array,
    height: int,
    width: int,
    channels: int,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    top: int,
    left: int,
    out_h: int,
    out_w: int,
    pool_h: int,
    pool_w: int,
    activation: int,
    n_threads: int,
) -> None:
    """Gradients of ``conv2d_forward``; see ``recsys_fast.ops.conv2d_backward``."""
    dy, y, pre, argmax, x, w = inputs(dy, y, pre, argmax, x, w)
    shape = (height, width, channels, kernel_h, kernel_w, stride_h, stride_w, top, left, out_h, out_w, pool_h, pool_w)
    bounds = cut_slots(len(x), _SLOT_IMAGES)
    slots = len(bounds) - 1
    dws, dbs = np.zeros((slots, *dw.shape), x.dtype), np.zeros((slots, w.shape[1]), x.dtype)
    given = (dx, dws, dbs, dy, y, pre, argmax, x, np.ascontiguousarray(w.T), shape, activation, bounds)
    run_pieces(range(slots + 1), n_threads, lambda: partial(_backward, *given))
    sum_slots(dw, dws)
    if len(db):
        sum_slots(db, dbs)
