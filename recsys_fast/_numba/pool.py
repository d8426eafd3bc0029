"""Maxima and means of windows of images, and their gradients; any floating dtype.

``shape`` is (height, width, channels, window_h, window_w, stride_h, stride_w).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.parallel import inputs, serial
from recsys_fast._numba.pieces import cut_pieces, run_pieces

Array = NDArray[Any]
Shape = tuple[int, int, int, int, int, int, int]


@serial
def _forward(y: Array, argmax: NDArray[np.int32], x: Array, shape: Shape, average: int, begin: int, end: int) -> None:
    """Images begin to end."""
    height, width, channels, window_h, window_w, stride_h, stride_w = shape
    high, wide = (height - window_h) // stride_h + 1, (width - window_w) // stride_w + 1
    scale = 1.0 / (window_h * window_w)
    for n in range(begin, end):
        for row in range(high):
            for col in range(wide):
                at = (row * wide + col) * channels
                for k in range(channels):
                    total, best, place = 0.0, -np.inf, 0
                    for i in range(window_h):
                        for j in range(window_w):
                            where = ((row * stride_h + i) * width + col * stride_w + j) * channels + k
                            value = x[n, where]
                            total += value
                            if (i == 0 and j == 0) or value > best:
                                best, place = value, where
                    y[n, at + k] = total * scale if average else best
                    if not average:
                        argmax[n, at + k] = place


def pool_forward(
    y: Array,
    argmax: NDArray[np.int32],
    x: Array,
    height: int,
    width: int,
    channels: int,
    window_h: int,
    window_w: int,
    stride_h: int,
    stride_w: int,
    average: int,
    n_threads: int,
) -> None:
    """Maxima or means of windows; see ``recsys_fast.ops.pool_forward``."""
    (x,) = inputs(x)
    shape = (height, width, channels, window_h, window_w, stride_h, stride_w)
    run_pieces(cut_pieces(len(x)), n_threads, lambda: partial(_forward, y, argmax, x, shape, average))


@serial
def _backward(
    dx: Array, dy: Array, argmax: NDArray[np.int32], shape: Shape, average: int, begin: int, end: int
) -> None:
    """Images begin to end."""
    height, width, channels, window_h, window_w, stride_h, stride_w = shape
    high, wide = (height - window_h) // stride_h + 1, (width - window_w) // stride_w + 1
    scale = 1.0 / (window_h * window_w)
    for n in range(begin, end):
        dx[n] = 0.0
        if not average:
            for k in range(dy.shape[1]):
                dx[n, argmax[n, k]] += dy[n, k]
            continue
        for row in range(high):
            for col in range(wide):
                at = (row * wide + col) * channels
                for i in range(window_h):
                    for j in range(window_w):
                        where = ((row * stride_h + i) * width + col * stride_w + j) * channels
                        for k in range(channels):
                            dx[n, where + k] += dy[n, at + k] * scale


def pool_backward(
    dx: Array,
    dy: Array,
    argmax: NDArray[np.int32],
    height: int,
    width: int,
    channels: int,
    window_h: int,
    window_w: int,
    stride_h: int,
    stride_w: int,
    average: int,
    n_threads: int,
) -> None:
    """Gradient of ``pool_forward``; see ``recsys_fast.ops.pool_backward``."""
    dy, argmax = inputs(dy, argmax)
    shape = (height, width, channels, window_h, window_w, stride_h, stride_w)
    run_pieces(cut_pieces(len(dy)), n_threads, lambda: partial(_backward, dx, dy, argmax, shape, average))
