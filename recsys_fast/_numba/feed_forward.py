"""The feed-forward block: two layers on every row, with norm, dropout and residual."""

from __future__ import annotations

import math

import numpy as np

from recsys_fast._numba.block_rows import (
    NORM_POST,
    NORM_PRE,
    NORM_QUERY,
    F,
    add_bias,
    add_columns,
    add_transposed,
    cut_slots,
    cut_tiles,
    multiply,
    norm_rows,
    norm_rows_back,
    renorm_rows,
    sum_slots,
)
from recsys_fast._numba.dropout import dropout_key, dropout_rows
from recsys_fast._numba.parallel import inputs, serial
from recsys_fast._numba.pieces import run_pieces

RELU, GELU_TANH, TANH, SIGMOID, IDENTITY, GELU_ERF = 0, 1, 2, 3, 4, 5
_ROOT_2_OVER_PI = math.sqrt(2.0 / math.pi)


@serial
def activate(kind: int, x: float) -> float:
    """Return the activation of x."""
    if kind == RELU:
        return max(x, 0.0)
    if kind == GELU_TANH:
        return 0.5 * x * (1.0 + math.tanh(_ROOT_2_OVER_PI * (x + 0.044715 * x * x * x)))
    if kind == TANH:
        return math.tanh(x)
    if kind == SIGMOID:
        return 1.0 / (1.0 + math.exp(-x))
    if kind == GELU_ERF:
        return 0.5 * x * (1.0 + math.erf(x * math.sqrt(0.5)))
    return x


@serial
def activation_slope(kind: int, x: float) -> float:
    """Return the derivative of the activation at x; that of ReLU at 0 is 0."""
    if kind == RELU:
        return 1.0 if x > 0.0 else 0.0
    if kind == GELU_TANH:
        t = math.tanh(_ROOT_2_OVER_PI * (x + 0.044715 * x * x * x))
        return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * _ROOT_2_OVER_PI * (1.0 + 3.0 * 0.044715 * x * x)
    if kind == TANH:
        return 1.0 - math.tanh(x) ** 2
    if kind == SIGMOID:
        s = 1.0 / (1.0 + math.exp(-x))
        return s * (1.0 - s)
    if kind == GELU_ERF:
        density = math.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
        return 0.5 * (1.0 + math.erf(x * math.sqrt(0.5))) + x * density
    return 1.0


@serial
def _activate_rows(out: F, x: F, activation: int) -> None:
    for r in range(len(x)):
        for j in range(x.shape[1]):
            out[r, j] = activate(activation, x[r, j])


@serial
def _activate_rows_back(dx: F, x: F, activation: int) -> None:
    for r in range(len(x)):
        for j in range(x.shape[1]):
            dx[r, j] *= activation_slope(activation, x[r, j])


def feed_forward_block_forward(
    y: F, hidden: F, stats: F, mid: F, x: F, gamma: F, beta: F, w1: F, b1: F, w2: F, b2: F,
    activation: int, norm: int, eps: float, dropout_hidden: float, dropout: float, seed: int, step: int, site: int,
    n_threads: int,
) -> None:  # fmt: skip
    """y = x + D(D(g(x w1 + b1)) w2 + b2) with the norm where ``norm`` says; hidden = x w1 + b1; overwrites."""
    x, gamma, beta, w1, b1, w2, b2 = inputs(x, gamma, beta, w1, b1, w2, b2)
    drop_hidden = dropout_key(dropout_hidden, seed, step, site)
    drop = dropout_key(dropout, seed, step, site + 1)

    def tile(a: int, b: int) -> None:
        given, before, out = x[a:b], hidden[a:b], y[a:b]
        normed, inner = given, np.empty_like(before)
        if norm in (NORM_PRE, NORM_QUERY):
            normed = np.empty_like(given)
            norm_rows(normed, stats[a:b], given, gamma, beta, eps)
        multiply(before, normed, w1)
        add_bias(before, b1)
        _activate_rows(inner, before, activation)
        dropout_rows(inner, drop_hidden, a)
        multiply(out, inner, w2)
        add_bias(out, b2)
        dropout_rows(out, drop, a)
        out += normed if norm == NORM_QUERY else given
        if norm == NORM_POST:
            mid[a:b] = out
            norm_rows(out, stats[a:b], mid[a:b], gamma, beta, eps)

    run_pieces(cut_tiles(len(x)).tolist(), n_threads, lambda: tile)


def feed_forward_block_backward(
    dx: F, dgamma: F, dbeta: F, dw1: F, db1: F, dw2: F, db2: F, dy: F, hidden: F, stats: F, mid: F, x: F, gamma: F,
    beta: F, w1: F, w2: F, activation: int, norm: int, dropout_hidden: float, dropout: float,
    seed: int, step: int, site: int, n_threads: int,
) -> None:  # fmt: skip
    """Gradients of feed_forward_block_forward's x and parameters for that of y; overwrites."""
    dy, hidden, stats, mid, x, gamma, beta, w1, w2 = inputs(dy, hidden, stats, mid, x, gamma, beta, w1, w2)
    drop_hidden = dropout_key(dropout_hidden, seed, step, site)
    drop = dropout_key(dropout, seed, step, site + 1)
    cut = cut_slots(len(x))
    outputs = (dgamma, dbeta, dw1, db1, dw2, db2)
    slots = [np.zeros((len(cut) - 1, *out.shape), x.dtype) for out in outputs]

    def slot(part: int, _: int) -> None:
        a, b = cut[part], cut[part + 1]
        dgamma, dbeta, dw1, db1, dw2, db2 = (sums[part] for sums in slots)
        given, before, out, dsum = x[a:b], hidden[a:b], dx[a:b], dy[a:b].copy()
        if norm == NORM_POST:
            norm_rows_back(dsum, dgamma, dbeta, dsum, mid[a:b], stats[a:b], gamma)
        dout = dsum.copy()
        dropout_rows(dout, drop, a)
        inner, dinner = np.empty_like(before), np.empty_like(before)
        _activate_rows(inner, before, activation)
        dropout_rows(inner, drop_hidden, a)
        add_transposed(dw2, inner, dout)
        add_columns(db2, dout)
        multiply(dinner, dout, w2.T)
        dropout_rows(dinner, drop_hidden, a)
        _activate_rows_back(dinner, before, activation)
        normed = given
        if norm in (NORM_PRE, NORM_QUERY):
            normed = np.empty_like(given)
            renorm_rows(normed, stats[a:b], given, gamma, beta)
        add_transposed(dw1, normed, dinner)
        add_columns(db1, dinner)
        multiply(out, dinner, w1.T)
        if norm == NORM_QUERY:
            out += dsum
        if norm in (NORM_PRE, NORM_QUERY):
            norm_rows_back(out, dgamma, dbeta, out, given, stats[a:b], gamma)
        if norm != NORM_QUERY:
            out += dsum

    run_pieces(range(len(cut)), n_threads, lambda: slot)
    for total, parts in zip(outputs, slots, strict=True):
        sum_slots(total, parts)
