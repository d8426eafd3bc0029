"""The self-attention block over ragged sequences; probabilities exist for a strip of queries at a time."""

from __future__ import annotations

import numpy as np

from recsys_fast._numba.attention_heads import attend, attend_back, attend_one
from recsys_fast._numba.block_rows import (
    I64,
    NORM_POST,
    NORM_PRE,
    NORM_QUERY,
    F,
    add_bias,
    add_columns,
    add_transposed,
    cut_sequences,
    cut_slots,
    cut_tiles,
    multiply,
    norm_rows,
    norm_rows_back,
    renorm_rows,
    sum_slots,
)
from recsys_fast._numba.dropout import dropout_key, dropout_rows
from recsys_fast._numba.parallel import inputs
from recsys_fast._numba.pieces import run_pieces


def attention_block_forward(
    y: F, qkv: F, context: F, lse: F, stats: F, mid: F, x: F, row_ptr: I64, gamma: F, beta: F, w_qkv: F, b_qkv: F,
    w_out: F, b_out: F, n_heads: int, causal: bool, norm: int, eps: float, attention_dropout: float, dropout: float,
    seed: int, step: int, site: int, n_threads: int,
) -> None:  # fmt: skip
    """y = x + D(attention(x) w_out + b_out) with the norm where ``norm`` says; overwrites all outputs."""
    x, row_ptr, gamma, beta, w_qkv, b_qkv, w_out, b_out = inputs(x, row_ptr, gamma, beta, w_qkv, b_qkv, w_out, b_out)
    drop_heads = dropout_key(attention_dropout, seed, step, site)
    drop = dropout_key(dropout, seed, step, site + 1)
    cut = cut_sequences(row_ptr, cut_tiles(len(x)))

    def tile(part: int, _: int) -> None:
        a, b = row_ptr[cut[part]], row_ptr[cut[part + 1]]
        given, out = x[a:b], y[a:b]
        normed = given
        if norm in (NORM_PRE, NORM_QUERY):
            normed = np.empty_like(given)
            norm_rows(normed, stats[a:b], given, gamma, beta, eps)
        _project(qkv[a:b], normed, given, w_qkv, b_qkv, norm)
        attend(context, lse, qkv, row_ptr[cut[part] : cut[part + 1] + 1], n_heads, bool(causal), drop_heads)
        if len(w_out):
            multiply(out, context[a:b], w_out)
            add_bias(out, b_out)
        else:
            out[:] = context[a:b]
        dropout_rows(out, drop, a)
        out += normed if norm == NORM_QUERY else given
        if norm == NORM_POST:
            mid[a:b] = out
            norm_rows(out, stats[a:b], mid[a:b], gamma, beta, eps)

    run_pieces(range(len(cut)), n_threads, lambda: tile)


def _project(qkv: F, normed: F, given: F, w_qkv: F, b_qkv: F, norm: int) -> None:
    """qkv = normed w_qkv + b_qkv, but keys and values from the given rows where only queries are normed."""
    d = given.shape[1]
    multiply(qkv, given if norm == NORM_QUERY else normed, w_qkv)
    if norm == NORM_QUERY:
        queries = np.empty_like(normed)
        multiply(queries, normed, np.ascontiguousarray(w_qkv[:, :d]))
        qkv[:, :d] = queries
    add_bias(qkv, b_qkv)


def attention_block_backward(
    dx: F, dgamma: F, dbeta: F, dw_qkv: F, db_qkv: F, dw_out: F, db_out: F, dy: F, qkv: F, context: F, lse: F,
    stats: F, mid: F, x: F, row_ptr: I64, gamma: F, beta: F, w_qkv: F, w_out: F, n_heads: int, causal: bool, norm: int,
    attention_dropout: float, dropout: float, seed: int, step: int, site: int, n_threads: int,
) -> None:  # fmt: skip
    """Gradients of attention_block_forward's x and parameters for that of y; overwrites."""
    dy, qkv, context, lse, stats, mid = inputs(dy, qkv, context, lse, stats, mid)
    x, row_ptr, gamma, beta, w_qkv, w_out = inputs(x, row_ptr, gamma, beta, w_qkv, w_out)
    drop_heads = dropout_key(attention_dropout, seed, step, site)
    drop = dropout_key(dropout, seed, step, site + 1)
    cut = cut_sequences(row_ptr, cut_slots(len(x)))
    outputs = (dgamma, dbeta, dw_qkv, db_qkv, dw_out, db_out)
    slots = [np.zeros((len(cut) - 1, *out.shape), x.dtype) for out in outputs]

    def slot(part: int, _: int) -> None:
        a, b = row_ptr[cut[part]], row_ptr[cut[part + 1]]
        dgamma, dbeta, dw_qkv, db_qkv, dw_out, db_out = (sums[part] for sums in slots)
        given, out, dsum = x[a:b], dx[a:b], dy[a:b].copy()
        if norm == NORM_POST:
            norm_rows_back(dsum, dgamma, dbeta, dsum, mid[a:b], stats[a:b], gamma)
        dcontext = dsum.copy()
        dropout_rows(dcontext, drop, a)
        if len(w_out):
            dout = dcontext.copy()
            add_transposed(dw_out, context[a:b], dout)
            add_columns(db_out, dout)
            multiply(dcontext, dout, w_out.T)
        dqkv = np.empty_like(qkv[a:b])
        sequences = row_ptr[cut[part] : cut[part + 1] + 1]
        attend_back(dqkv, dcontext, qkv, context, lse, sequences, n_heads, bool(causal), drop_heads)
        add_columns(db_qkv, dqkv)
        normed = given
        if norm in (NORM_PRE, NORM_QUERY):
            normed = np.empty_like(given)
            renorm_rows(normed, stats[a:b], given, gamma, beta)
        if norm == NORM_QUERY:
            _project_back(out, dsum, dw_qkv, dqkv, normed, given, w_qkv)
            norm_rows_back(dsum, dgamma, dbeta, dsum, given, stats[a:b], gamma)
        else:
            add_transposed(dw_qkv, normed, dqkv)
            multiply(out, dqkv, w_qkv.T)
            if norm == NORM_PRE:
                norm_rows_back(out, dgamma, dbeta, out, given, stats[a:b], gamma)
        out += dsum

    run_pieces(range(len(cut)), n_threads, lambda: slot)
    for total, parts in zip(outputs, slots, strict=True):
        sum_slots(total, parts)


def _project_back(dkeys: F, dqueries: F, dw_qkv: F, dqkv: F, normed: F, given: F, w_qkv: F) -> None:
    """dkeys = the gradient of what keys and values are made from; that of what queries are, and dw_qkv, are added."""
    d = given.shape[1]
    for columns, source in ((slice(0, d), normed), (slice(d, 3 * d), given)):
        part, w = np.ascontiguousarray(dqkv[:, columns]), np.ascontiguousarray(w_qkv[:, columns])
        dw, back = np.zeros_like(w), np.empty_like(given)
        add_transposed(dw, source, part)
        dw_qkv[:, columns] += dw
        multiply(back, part, w.T)
        if source is normed:
            dqueries += back
        else:
            dkeys[:] = back


def attention_block_step(
    y: F, keys: F, values: F, x: F, place: int, gamma: F, beta: F, w_qkv: F, b_qkv: F, w_out: F, b_out: F,
    n_heads: int, norm: int, eps: float, n_threads: int,
) -> None:  # fmt: skip
    """y (d) = the causal block's output for one more row x, which is number ``place`` of its sequence.

    keys and values (P, d) hold the rows before it and get row ``place``. Serial, whatever ``n_threads``.
    """
    x, gamma, beta, w_qkv, b_qkv, w_out, b_out = inputs(x, gamma, beta, w_qkv, b_qkv, w_out, b_out)
    d = len(x)
    given, normed, stats = x.reshape(1, d), x.reshape(1, d), np.empty((1, 2), x.dtype)
    if norm in (NORM_PRE, NORM_QUERY):
        normed = np.empty((1, d), x.dtype)
        norm_rows(normed, stats, given, gamma, beta, eps)
    qkv, context, out = np.empty((1, 3 * d), x.dtype), np.empty((1, d), x.dtype), y.reshape(1, d)
    _project(qkv, normed, given, w_qkv, b_qkv, norm)
    keys[place], values[place] = qkv[0, d : 2 * d], qkv[0, 2 * d :]
    attend_one(context[0], qkv[0], keys[: place + 1], values[: place + 1], n_heads)
    if len(w_out):
        multiply(out, context, w_out)
        add_bias(out, b_out)
    else:
        out[:] = context
    out += normed if norm == NORM_QUERY else given
    if norm == NORM_POST:
        norm_rows(out, stats, out.copy(), gamma, beta, eps)
