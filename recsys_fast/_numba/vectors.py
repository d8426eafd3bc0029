"""Rows of vectors: unit length, maxima over sequences, weighted sums; any floating dtype.

Small beside the layers around them: one thread.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.parallel import inputs, serial

Array = NDArray[Any]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]


@serial
def _unit_forward(y: Array, scale: Array, x: Array) -> None:
    for t in range(len(x)):
        square = 0.0
        for c in range(x.shape[1]):
            square += x[t, c] * x[t, c]
        scale[t] = 1.0 / np.sqrt(square) if square > 0.0 else 0.0
        for c in range(x.shape[1]):
            y[t, c] = x[t, c] * scale[t]


def unit_rows_forward(y: Array, scale: Array, x: Array, n_threads: int) -> None:
    """y = x / |x|, scale = 1 / |x|; see ``recsys_fast.ops.unit_rows_forward``."""
    (x,) = inputs(x)
    _unit_forward(y, scale, x)


@serial
def _unit_backward(dx: Array, dy: Array, y: Array, scale: Array) -> None:
    for t in range(len(y)):
        along = 0.0
        for c in range(y.shape[1]):
            along += dy[t, c] * y[t, c]
        for c in range(y.shape[1]):
            dx[t, c] = (dy[t, c] - y[t, c] * along) * scale[t]


def unit_rows_backward(dx: Array, dy: Array, y: Array, scale: Array, n_threads: int) -> None:
    """Gradient of ``unit_rows_forward``; see ``recsys_fast.ops.unit_rows_backward``."""
    dy, y, scale = inputs(dy, y, scale)
    _unit_backward(dx, dy, y, scale)


@serial
def _max_forward(y: Array, places: I32, x: Array, row_ptr: I64) -> None:
    for s in range(len(y)):
        y[s], places[s], begin = 0.0, 0, row_ptr[s]
        for t in range(begin, row_ptr[s + 1]):
            for c in range(x.shape[1]):
                if t == begin or x[t, c] > y[s, c]:
                    y[s, c], places[s, c] = x[t, c], t - begin


def sequence_max_forward(y: Array, places: I32, x: Array, row_ptr: I64, n_threads: int) -> None:
    """Maxima of sequences' rows, and where they are; see ``recsys_fast.ops.sequence_max_forward``."""
    x, row_ptr = inputs(x, row_ptr)
    _max_forward(y, places, x, row_ptr)


@serial
def _max_backward(dx: Array, dy: Array, places: I32, row_ptr: I64) -> None:
    dx[:] = 0.0
    for s in range(len(dy)):
        for c in range(dy.shape[1]):
            if row_ptr[s] < row_ptr[s + 1]:
                dx[row_ptr[s] + places[s, c], c] = dy[s, c]


def sequence_max_backward(dx: Array, dy: Array, places: I32, row_ptr: I64, n_threads: int) -> None:
    """Gradient of ``sequence_max_forward``; see ``recsys_fast.ops.sequence_max_backward``."""
    dy, places, row_ptr = inputs(dy, places, row_ptr)
    _max_backward(dx, dy, places, row_ptr)


@serial
def _mix_forward(y: Array, w: Array, v: Array, scores: Array, bias: Array, present: U8) -> None:
    n, k = w.shape
    for t in range(n):
        y[t], largest, total = 0.0, -np.inf, 0.0
        for m in range(k):
            w[t, m] = scores[t, m] + (bias[m] if len(bias) else 0.0)
            if not len(present) or present[t * k + m]:
                largest = max(largest, w[t, m])
        for m in range(k):
            there = not len(present) or present[t * k + m]
            w[t, m] = np.exp(w[t, m] - largest) if there else 0.0
            total += w[t, m]
        for m in range(k):
            if not len(present) or present[t * k + m]:
                w[t, m] /= total
                for c in range(y.shape[1]):
                    y[t, c] += w[t, m] * v[t * k + m, c]


def mixture_forward(y: Array, w: Array, v: Array, scores: Array, bias: Array, present: U8, n_threads: int) -> None:
    """Vectors weighted by the softmax of numbers; see ``recsys_fast.ops.mixture_forward``."""
    v, scores, bias, present = inputs(v, scores, bias, present)
    _mix_forward(y, w, v, scores, bias, present.reshape(-1))


@serial
def _mix_backward(dv: Array, dscores: Array, dy: Array, v: Array, w: Array) -> None:
    n, k = w.shape
    for t in range(n):
        mean = 0.0
        for m in range(k):
            slope = 0.0
            for c in range(dy.shape[1]):
                slope += dy[t, c] * v[t * k + m, c]
                dv[t * k + m, c] = w[t, m] * dy[t, c]
            dscores[t, m] = slope
            mean += w[t, m] * slope
        for m in range(k):
            dscores[t, m] = w[t, m] * (dscores[t, m] - mean)


def mixture_backward(dv: Array, dscores: Array, dy: Array, v: Array, w: Array, n_threads: int) -> None:
    """Gradients of ``mixture_forward``; see ``recsys_fast.ops.mixture_backward``."""
    dy, v, w = inputs(dy, v, w)
    _mix_backward(dv, dscores, dy, v, w)
