"""NextItNet's residual block of two dilated causal convolutions, sequence by sequence; any floating dtype."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.block_rows import (
    add_columns,
    add_product,
    add_transposed,
    cut_sequences,
    cut_slots,
    measure_row,
    sum_slots,
)
from recsys_fast._numba.dropout import Drop, dropout_at, dropout_key
from recsys_fast._numba.parallel import inputs, serial
from recsys_fast._numba.pieces import cut_pieces, run_pieces

Array = NDArray[Any]


@serial
def _convolve(out: Array, x: Array, w: Array, dilation: int) -> None:
    """out[t] += sum over taps of x[t - shift] w[tap], for the rows of one sequence; the last tap has shift 0."""
    n, d = x.shape
    n_taps = len(w) // d
    for tap in range(n_taps):
        shift = (n_taps - 1 - tap) * dilation
        if shift < n:
            add_product(out[shift:], x[: n - shift], w[tap * d : (tap + 1) * d])


@serial
def _convolve_back(dx: Array, dw: Array, dout: Array, x: Array, w: Array, dilation: int) -> None:
    """dx += and dw += gradients of ``_convolve``."""
    n, d = x.shape
    n_taps = len(w) // d
    for tap in range(n_taps):
        shift, rows = (n_taps - 1 - tap) * dilation, slice(tap * d, (tap + 1) * d)
        if shift < n:
            add_product(dx[: n - shift], dout[shift:], np.ascontiguousarray(w[rows].T))
            add_transposed(dw[rows], x[: n - shift], dout[shift:])


@serial
def _normalise(normal: Array, inverse: Array, eps: float) -> None:
    """Rows of normal -> (row - mean) / std, in place; inverse = 1 / std."""
    for r in range(len(normal)):
        mean, inverse[r] = measure_row(normal[r], eps)
        for k in range(normal.shape[1]):
            normal[r, k] = (normal[r, k] - mean) * inverse[r]


@serial
def _rectified(normal: Array, gamma: Array, beta: Array) -> Array:
    """Return relu(normal gamma + beta)."""
    out = np.empty_like(normal)
    for r in range(len(out)):
        for k in range(out.shape[1]):
            out[r, k] = max(normal[r, k] * gamma[k] + beta[k], 0.0)
    return out


@serial
def _normalise_back(
    dh: Array, dgamma: Array, dbeta: Array, normal: Array, inverse: Array, gamma: Array, beta: Array
) -> None:
    """dh -> gradient before norm and relu, in place; dgamma +=, dbeta +=."""
    n, d = dh.shape
    for r in range(n):
        mean, along = 0.0, 0.0
        for k in range(d):
            if normal[r, k] * gamma[k] + beta[k] <= 0.0:
                dh[r, k] = 0.0
            dgamma[k] += dh[r, k] * normal[r, k]
            dbeta[k] += dh[r, k]
            dh[r, k] *= gamma[k]
            mean += dh[r, k]
            along += dh[r, k] * normal[r, k]
        for k in range(d):
            dh[r, k] = inverse[r] * (dh[r, k] - mean / d - normal[r, k] * (along / d))


@serial
def _mask_into(out: Array, x: Array, drop: Drop, first: int) -> None:
    """out = x times the mask of rows first, first + 1, ..."""
    for r in range(len(x)):
        for k in range(x.shape[1]):
            out[r, k] = x[r, k] * dropout_at(drop, first + r, k, x.shape[1]) if drop[2] > 0 else x[r, k]


@serial
def _forward_sequence(
    y: Array,
    normal1: Array,
    normal2: Array,
    inverse: Array,
    x: Array,
    first: tuple[Array, Array, Array, Array],
    second: tuple[Array, Array, Array, Array],
    dilation: int,
    eps: float,
    drop: Drop,
    row: int,
) -> None:
    """One sequence, whose first row is row ``row`` of the batch."""
    normal1[:] = first[1]
    _convolve(normal1, x, first[0], dilation)
    _normalise(normal1, inverse[:, 0], eps)
    normal2[:] = second[1]
    _convolve(normal2, _rectified(normal1, first[2], first[3]), second[0], 2 * dilation)
    _normalise(normal2, inverse[:, 1], eps)
    _mask_into(y, _rectified(normal2, second[2], second[3]), drop, row)
    y += x


@serial
def _forward(
    y: Array,
    normal1: Array,
    normal2: Array,
    inverse: Array,
    x: Array,
    row_ptr: NDArray[np.int64],
    first: tuple[Array, Array, Array, Array],
    second: tuple[Array, Array, Array, Array],
    dilation: int,
    eps: float,
    drop: Drop,
    begin: int,
    end: int,
) -> None:
    """Sequences begin to end."""
    for s in range(begin, end):
        at, to = row_ptr[s], row_ptr[s + 1]
        kept = (normal1[at:to], normal2[at:to], inverse[at:to])
        _forward_sequence(y[at:to], *kept, x[at:to], first, second, dilation, eps, drop, at)


def causal_conv_block_forward(
    y: Array,
    normal1: Array,
    normal2: Array,
    inverse: Array,
    x: Array,
    row_ptr: NDArray[np.int64],
    w1: Array,
    b1: Array,
    gamma1: Array,
    beta1: Array,
    w2: Array,
    b2: Array,
    gamma2: Array,
    beta2: Array,
    kernel_size: int,
    dilation: int,
    eps: float,
    dropout: float,
    seed: int,
    step: int,
    site: int,
    n_threads: int,
) -> None:
    """y = x + D(relu(LN(conv_2l(relu(LN(conv_l(x))))))); see ``recsys_fast.ops.causal_conv_block_forward``."""
    x, row_ptr, w1, b1, gamma1, beta1 = inputs(x, row_ptr, w1, b1, gamma1, beta1)
    w2, b2, gamma2, beta2 = inputs(w2, b2, gamma2, beta2)
    drop = dropout_key(float(dropout), np.uint64(seed), step, site)
    layers = ((w1, b1, gamma1, beta1), (w2, b2, gamma2, beta2))
    given = (y, normal1, normal2, inverse, x, row_ptr, *layers, dilation, float(eps), drop)
    run_pieces(cut_pieces(len(row_ptr) - 1), n_threads, lambda: partial(_forward, *given))


@serial
def _backward_sequence(
    dx: Array,
    dw1: Array,
    dw2: Array,
    vectors: Array,
    dy: Array,
    normal1: Array,
    normal2: Array,
    inverse: Array,
    x: Array,
    first: tuple[Array, Array, Array],
    second: tuple[Array, Array, Array],
    dilation: int,
    drop: Drop,
    row: int,
) -> None:
    """One sequence; dw1, dw2 and vectors (of b1, gamma1, beta1, b2, gamma2, beta2) are added to."""
    dh, dmid = np.empty_like(dy), np.zeros_like(dy)
    _mask_into(dh, dy, drop, row)
    _normalise_back(dh, vectors[4], vectors[5], normal2, inverse[:, 1], second[1], second[2])
    add_columns(vectors[3], dh)
    _convolve_back(dmid, dw2, dh, _rectified(normal1, first[1], first[2]), second[0], 2 * dilation)
    _normalise_back(dmid, vectors[1], vectors[2], normal1, inverse[:, 0], first[1], first[2])
    add_columns(vectors[0], dmid)
    dx[:] = dy
    _convolve_back(dx, dw1, dmid, x, first[0], dilation)


@serial
def _backward(
    dx: Array,
    weights: Array,
    vectors: Array,
    dy: Array,
    normal1: Array,
    normal2: Array,
    inverse: Array,
    x: Array,
    row_ptr: NDArray[np.int64],
    starts: NDArray[np.int64],
    first: tuple[Array, Array, Array],
    second: tuple[Array, Array, Array],
    dilation: int,
    drop: Drop,
    begin: int,
    end: int,
) -> None:
    """Slots begin to end."""
    for slot in range(begin, end):
        for s in range(starts[slot], starts[slot + 1]):
            at, to = row_ptr[s], row_ptr[s + 1]
            out = (dx[at:to], weights[slot, 0], weights[slot, 1], vectors[slot])
            given = (dy[at:to], normal1[at:to], normal2[at:to], inverse[at:to], x[at:to])
            _backward_sequence(*out, *given, first, second, dilation, drop, at)


def causal_conv_block_backward(
    dx: Array,
    dw1: Array,
    db1: Array,
    dgamma1: Array,
    dbeta1: Array,
    dw2: Array,
    db2: Array,
    dgamma2: Array,
    dbeta2: Array,
    dy: Array,
    normal1: Array,
    normal2: Array,
    inverse: Array,
    x: Array,
    row_ptr: NDArray[np.int64],
    w1: Array,
    gamma1: Array,
    beta1: Array,
    w2: Array,
    gamma2: Array,
    beta2: Array,
    kernel_size: int,
    dilation: int,
    dropout: float,
    seed: int,
    step: int,
    site: int,
    n_threads: int,
) -> None:
    """Gradients of ``causal_conv_block_forward``; see ``recsys_fast.ops.causal_conv_block_backward``."""
    dy, normal1, normal2, inverse, x, row_ptr = inputs(dy, normal1, normal2, inverse, x, row_ptr)
    w1, gamma1, beta1, w2, gamma2, beta2 = inputs(w1, gamma1, beta1, w2, gamma2, beta2)
    drop = dropout_key(float(dropout), np.uint64(seed), step, site)
    starts = cut_sequences(row_ptr, cut_slots(int(row_ptr[-1])))
    slots, layers = len(starts) - 1, ((w1, gamma1, beta1), (w2, gamma2, beta2))
    weights = np.zeros((slots, 2, *w1.shape), x.dtype)
    vectors = np.zeros((slots, 6, x.shape[1]), x.dtype)
    saved = (normal1, normal2, inverse)
    given = (dx, weights, vectors, dy, *saved, x, row_ptr, starts, *layers, dilation, drop)
    run_pieces(range(slots + 1), n_threads, lambda: partial(_backward, *given))
    sum_slots(dw1, weights[:, 0])
    sum_slots(dw2, weights[:, 1])
    for k, out in enumerate((db1, dgamma1, dbeta1, db2, dgamma2, dbeta2)):
        sum_slots(out, vectors[:, k])
