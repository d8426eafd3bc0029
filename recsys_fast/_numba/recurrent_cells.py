"""What one place of a recurrent layer computes, for every cell: torch's formulas.

from_x and from_h ``(G H,)`` are the products of the input and of the state before with the weights, biases included.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.parallel import serial

Float = NDArray[Any]

GRU, LSTM, TANH, RELU = 0, 1, 2, 3


@serial
def _sigmoid(x: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-x))


@serial
def cell_forward(
    cell: int, h: Float, c: Float, gates: Float, t: int, from_x: Float, from_h: Float, before: Float, c_before: Float
) -> None:
    """Write row ``t`` of h, of the LSTM's c, and of gates where it is not empty."""
    keep = len(gates) > 0
    d = h.shape[1]
    for j in range(d):
        if cell == GRU:  # gates r, z, n, m: n = tanh(x_n + r m), m what the state adds to n
            r = _sigmoid(from_x[j] + from_h[j])
            z = _sigmoid(from_x[d + j] + from_h[d + j])
            m = from_h[2 * d + j]
            n = np.tanh(from_x[2 * d + j] + r * m)
            h[t, j] = n + z * (before[j] - n)
            if keep:
                gates[t, j], gates[t, d + j], gates[t, 2 * d + j], gates[t, 3 * d + j] = r, z, n, m
        elif cell == LSTM:  # gates i, f, g, o
            i = _sigmoid(from_x[j] + from_h[j])
            f = _sigmoid(from_x[d + j] + from_h[d + j])
            g = np.tanh(from_x[2 * d + j] + from_h[2 * d + j])
            o = _sigmoid(from_x[3 * d + j] + from_h[3 * d + j])
            c[t, j] = f * c_before[j] + i * g
            h[t, j] = o * np.tanh(c[t, j])
            if keep:
                gates[t, j], gates[t, d + j], gates[t, 2 * d + j], gates[t, 3 * d + j] = i, f, g, o
        else:
            a = from_x[j] + from_h[j]
            h[t, j] = np.tanh(a) if cell == TANH else max(a, 0.0)


@serial
def cell_backward(
    cell: int, d_from_x: Float, d_from_h: Float, dh: Float, dc: Float, h: Float, c: Float, gates: Float, t: int,
    before: Float, c_before: Float,
) -> None:  # fmt: skip
    """Overwrite the gradients of from_x and from_h. dh and dc are those of h[t] and c[t], and become those parts of the
    gradients of h[t - 1] and c[t - 1] that do not pass through the weights."""
    d = len(dh)
    for j in range(d):
        g_h = dh[j]
        if cell == GRU:
            r, z, n, m = gates[t, j], gates[t, d + j], gates[t, 2 * d + j], gates[t, 3 * d + j]
            a_n = g_h * (1.0 - z) * (1.0 - n * n)
            a_r = a_n * m * r * (1.0 - r)
            a_z = g_h * (before[j] - n) * z * (1.0 - z)
            d_from_x[j], d_from_x[d + j], d_from_x[2 * d + j] = a_r, a_z, a_n
            d_from_h[j], d_from_h[d + j], d_from_h[2 * d + j] = a_r, a_z, a_n * r
            dh[j] = g_h * z
        elif cell == LSTM:
            i, f, g, o = gates[t, j], gates[t, d + j], gates[t, 2 * d + j], gates[t, 3 * d + j]
            squashed = np.tanh(c[t, j])
            g_c = dc[j] + g_h * o * (1.0 - squashed * squashed)
            d_from_x[j] = g_c * g * i * (1.0 - i)
            d_from_x[d + j] = g_c * c_before[j] * f * (1.0 - f)
            d_from_x[2 * d + j] = g_c * i * (1.0 - g * g)
            d_from_x[3 * d + j] = g_h * squashed * o * (1.0 - o)
            for k in range(4):
                d_from_h[k * d + j] = d_from_x[k * d + j]
            dh[j], dc[j] = 0.0, g_c * f
        else:
            y = h[t, j]
            d_from_x[j] = g_h * (1.0 - y * y) if cell == TANH else (g_h if y > 0.0 else 0.0)
            d_from_h[j] = d_from_x[j]
            dh[j] = 0.0
