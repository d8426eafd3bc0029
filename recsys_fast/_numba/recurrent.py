"""Recurrent layers over packed sequences, forward and backward: GRU, LSTM and the plain cell.

One walk over the sequences serves all cells; what a cell computes is in ``recurrent_cells``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from recsys_fast._numba.block_rows import cut_sequences, cut_slots, sum_slots
from recsys_fast._numba.parallel import inputs, parallel, serial, threads
from recsys_fast._numba.recurrent_cells import GRU, LSTM, TANH, cell_backward, cell_forward

Float = NDArray[Any]  # float32, or float64 throughout
I64 = NDArray[np.int64]


def gru_forward(
    h: Float, gates: Float, x: Float, h0: Float, row_ptr: I64, w_x: Float, w_h: Float, b_x: Float, b_h: Float,
    n_threads: int,
) -> None:  # fmt: skip
    """h ``(T, H)``, gates ``(T, 4H)`` or empty (not kept), h0 ``(n, H)`` or empty, biases ``(3H,)`` or empty."""
    _forward(GRU, h, h[:0], gates, x, h0, row_ptr, w_x, w_h, b_x, b_h, n_threads)


def gru_backward(
    dx: Float, dh0: Float, dw_x: Float, dw_h: Float, db_x: Float, db_h: Float, dh: Float, h: Float, gates: Float,
    x: Float, h0: Float, row_ptr: I64, w_x: Float, w_h: Float, truncate: int, n_threads: int,
) -> None:  # fmt: skip
    """Gradients of ``gru_forward``, overwritten; dx, dh0 and the biases' may be empty: not computed."""
    _backward(GRU, dx, dh0, dw_x, dw_h, db_x, db_h, dh, h, h[:0], gates, x, h0, row_ptr, w_x, w_h, truncate, n_threads)


def lstm_forward(
    h: Float, c: Float, gates: Float, x: Float, h0: Float, row_ptr: I64, w_x: Float, w_h: Float, b_x: Float,
    b_h: Float, n_threads: int,
) -> None:  # fmt: skip
    """h and c ``(T, H)``, gates ``(T, 4H)`` or empty, h0 ``(n, 2H)`` = (h, c) or empty, biases ``(4H,)`` or empty."""
    _forward(LSTM, h, c, gates, x, h0, row_ptr, w_x, w_h, b_x, b_h, n_threads)


def lstm_backward(
    dx: Float, dh0: Float, dw_x: Float, dw_h: Float, db_x: Float, db_h: Float, dh: Float, h: Float, c: Float,
    gates: Float, x: Float, h0: Float, row_ptr: I64, w_x: Float, w_h: Float, truncate: int, n_threads: int,
) -> None:  # fmt: skip
    """Gradients of ``lstm_forward``, overwritten."""
    _backward(LSTM, dx, dh0, dw_x, dw_h, db_x, db_h, dh, h, c, gates, x, h0, row_ptr, w_x, w_h, truncate, n_threads)


def rnn_forward(
    h: Float, x: Float, h0: Float, row_ptr: I64, w_x: Float, w_h: Float, b_x: Float, b_h: Float, activation: int,
    n_threads: int,
) -> None:  # fmt: skip
    """h ``(T, H)``, h0 ``(n, H)`` or empty, biases ``(H,)`` or empty; activation 0 tanh, 1 relu."""
    _forward(TANH + activation, h, h[:0], h[:0], x, h0, row_ptr, w_x, w_h, b_x, b_h, n_threads)


def rnn_backward(
    dx: Float, dh0: Float, dw_x: Float, dw_h: Float, db_x: Float, db_h: Float, dh: Float, h: Float, x: Float,
    h0: Float, row_ptr: I64, w_x: Float, w_h: Float, activation: int, truncate: int, n_threads: int,
) -> None:  # fmt: skip
    """Gradients of ``rnn_forward``, overwritten."""
    cell = TANH + activation
    _backward(cell, dx, dh0, dw_x, dw_h, db_x, db_h, dh, h, h[:0], h[:0], x, h0, row_ptr, w_x, w_h, truncate, n_threads)


def _forward(
    cell: int, h: Float, c: Float, gates: Float, x: Float, h0: Float, row_ptr: I64, w_x: Float, w_h: Float,
    b_x: Float, b_h: Float, n_threads: int,
) -> None:  # fmt: skip
    with threads(n_threads):
        _forward_loop(
            cell, h, c, gates, *inputs(x, h0, row_ptr, w_x, w_h, b_x, b_h, cut_sequences(row_ptr, cut_slots(len(x))))
        )


def _backward(
    cell: int, dx: Float, dh0: Float, dw_x: Float, dw_h: Float, db_x: Float, db_h: Float, dh: Float, h: Float,
    c: Float, gates: Float, x: Float, h0: Float, row_ptr: I64, w_x: Float, w_h: Float, truncate: int,
    n_threads: int,
) -> None:  # fmt: skip
    slots = cut_sequences(row_ptr, cut_slots(len(x)))
    (n_in, width), n_hidden = w_x.shape, len(w_h)
    # Per slot one matrix: a row per input, a row per hidden unit, and the two biases.
    sums = np.zeros((len(slots) - 1, n_in + n_hidden + 2, width), h.dtype)
    w_xt, w_ht = np.ascontiguousarray(w_x.T), np.ascontiguousarray(w_h.T)
    with threads(n_threads):
        _backward_loop(
            cell, truncate, dx, dh0, sums, *inputs(dh, h, c, gates, x, h0, row_ptr, w_xt, w_ht, slots)
        )  # fmt: skip
    for out, parts in ((dw_x, sums[:, :n_in]), (dw_h, sums[:, n_in:-2]), (db_x, sums[:, -2]), (db_h, sums[:, -1])):
        if len(out):
            sum_slots(out, parts)


@serial
def _add_product(out: Float, a: Float, b: Float) -> None:
    """out (n, m) += a (n, k) b (k, m), n mostly 1; four rows of b at once, so that out is read less often."""
    n, width = a.shape
    quads = width - width % 4
    for i in range(n):
        for k in range(0, quads, 4):
            p, q, r, s = a[i, k], a[i, k + 1], a[i, k + 2], a[i, k + 3]
            for j in range(b.shape[1]):
                out[i, j] += (p * b[k, j] + q * b[k + 1, j]) + (r * b[k + 2, j] + s * b[k + 3, j])
        for k in range(quads, width):
            for j in range(b.shape[1]):
                out[i, j] += a[i, k] * b[k, j]


@serial
def _add_outer(out: Float, a: Float, b: Float) -> None:
    """out (k, m) += a^T b for a (n, k), b (n, m); four rows at once."""
    n, width = a.shape
    quads = n - n % 4
    for i in range(0, quads, 4):
        for k in range(width):
            p, q, r, s = a[i, k], a[i + 1, k], a[i + 2, k], a[i + 3, k]
            for j in range(b.shape[1]):
                out[k, j] += (p * b[i, j] + q * b[i + 1, j]) + (r * b[i + 2, j] + s * b[i + 3, j])
    for i in range(quads, n):
        for k in range(width):
            for j in range(b.shape[1]):
                out[k, j] += a[i, k] * b[i, j]


@serial
def _before(h: Float, h0: Float, zeros: Float, first: int, t: int, sequence: int, part: int) -> Float:
    """Return the state, as a matrix of one row, that place ``t`` started from: part 0 is h, part 1 the LSTM's c."""
    d = h.shape[1]
    if t > first:
        return h[t - 1 : t]
    if len(h0) > 0:
        return h0[sequence : sequence + 1, part * d : (part + 1) * d]
    return zeros


@parallel
def _forward_loop(
    cell: int, h: Float, c: Float, gates: Float, x: Float, h0: Float, row_ptr: I64, w_x: Float, w_h: Float,
    b_x: Float, b_h: Float, slots: I64,
) -> None:  # fmt: skip
    d, width = w_h.shape
    for slot in prange(len(slots) - 1):
        zeros, from_h = np.zeros((1, d), h.dtype), np.empty((1, width), h.dtype)
        for sequence in range(slots[slot], slots[slot + 1]):
            first, stop = row_ptr[sequence], row_ptr[sequence + 1]
            from_x = np.zeros((stop - first, width), h.dtype)
            if len(b_x) > 0:
                from_x += b_x
            _add_product(from_x, x[first:stop], w_x)
            for t in range(first, stop):
                from_h[:] = 0.0
                if len(b_h) > 0:
                    from_h += b_h
                before = _before(h, h0, zeros, first, t, sequence, 0)
                _add_product(from_h, before, w_h)
                c_before = _before(c, h0, zeros, first, t, sequence, 1) if len(c) > 0 else zeros
                cell_forward(cell, h, c, gates, t, from_x[t - first], from_h[0], before[0], c_before[0])


@parallel
def _backward_loop(
    cell: int, truncate: int, dx: Float, dh0: Float, sums: Float, dh: Float, h: Float, c: Float, gates: Float,
    x: Float, h0: Float, row_ptr: I64, w_xt: Float, w_ht: Float, slots: I64,
) -> None:  # fmt: skip
    width, d = w_ht.shape
    n_in = x.shape[1]
    for slot in prange(len(slots) - 1):
        zeros, carry, dc = np.zeros((1, d), h.dtype), np.zeros((1, d), h.dtype), np.zeros(d, h.dtype)
        total = sums[slot]
        for sequence in range(slots[slot], slots[slot + 1]):
            first, stop = row_ptr[sequence], row_ptr[sequence + 1]
            d_from_x, d_from_h = np.empty((stop - first, width), h.dtype), np.empty((stop - first, width), h.dtype)
            carry[:], dc[:] = 0.0, 0.0
            for t in range(stop - 1, first - 1, -1):
                at = t - first
                before = _before(h, h0, zeros, first, t, sequence, 0)
                c_before = _before(c, h0, zeros, first, t, sequence, 1) if len(c) > 0 else zeros
                for j in range(d):
                    carry[0, j] += dh[t, j]
                # carry is the gradient of h[t] before the call, and its direct part in that of h[t - 1] after it
                cell_backward(
                    cell, d_from_x[at], d_from_h[at], carry[0], dc, h, c, gates, t, before[0], c_before[0]
                )  # fmt: skip
                if at == 0:
                    _add_outer(total[n_in : n_in + d], before, d_from_h[:1])
                if at > 0 and truncate > 0 and at % truncate == 0:
                    carry[:], dc[:] = 0.0, 0.0
                else:
                    _add_product(carry, d_from_h[at : at + 1], w_ht)
            if len(dh0) > 0:
                dh0[sequence, :d] = carry[0]
                if dh0.shape[1] > d:
                    dh0[sequence, d:] = dc
            _add_outer(total[:n_in], x[first:stop], d_from_x)
            if stop - first > 1:
                _add_outer(total[n_in : n_in + d], h[first : stop - 1], d_from_h[1:])
            for i in range(stop - first):
                for j in range(width):
                    total[n_in + d, j] += d_from_x[i, j]
                    total[n_in + d + 1, j] += d_from_h[i, j]
            if len(dx) > 0:
                dx[first:stop] = 0.0
                _add_product(dx[first:stop], d_from_x, w_xt)
