"""Attention within one sequence: strips of queries against all their keys, so narrow that BLAS stays on the thread."""

from __future__ import annotations

import numpy as np

from recsys_fast._numba.blas import BLOCK_WORK
from recsys_fast._numba.block_rows import I64, F, add_transposed, multiply
from recsys_fast._numba.dropout import Drop, dropout_at
from recsys_fast._numba.parallel import serial

MAX_LENGTH = 4096  # of a sequence, and the width that masks of probabilities are drawn for


@serial
def _strip_rows(n: int, width: int) -> int:
    return max(1, min(64, BLOCK_WORK // max(1, n * width)))


@serial
def _masked(drop: Drop, row: int, n_heads: int, head: int, key: int) -> float:
    """Return 0 or the scale for the probability of ``key``, by its place in the sequence, for the query in ``row``."""
    return 1.0 if drop[2] == 0 else dropout_at(drop, row * n_heads + head, key, MAX_LENGTH)


@serial
def _head(out: F, rows: F, first_column: int) -> None:
    """out (n, width) = columns of rows from ``first_column`` on; overwrites."""
    for i in range(len(out)):
        for c in range(out.shape[1]):
            out[i, c] = rows[i, first_column + c]


@serial
def _put(rows: F, first_column: int, part: F) -> None:
    """Columns of rows from ``first_column`` on = part (n, width)."""
    for i in range(len(part)):
        for c in range(part.shape[1]):
            rows[i, first_column + c] = part[i, c]


@serial
def attend(context: F, lse: F, qkv: F, row_ptr: I64, n_heads: int, causal: bool, drop: Drop) -> None:
    """context = D(softmax(q k^T / sqrt(width))) v by heads for a run of sequences; lse = log sum exp of the scores."""
    for s in range(len(row_ptr) - 1):
        _attend_sequence(context, lse, qkv, row_ptr[s], row_ptr[s + 1], n_heads, causal, drop)


@serial
def _attend_sequence(context: F, lse: F, qkv: F, first: int, last: int, n_heads: int, causal: bool, drop: Drop) -> None:
    n, d = last - first, context.shape[1]
    width = d // n_heads
    q, k = np.empty((n, width), qkv.dtype), np.empty((n, width), qkv.dtype)
    v, out = np.empty((n, width), qkv.dtype), np.empty((n, width), qkv.dtype)
    step = _strip_rows(n, width)
    for head in range(n_heads):
        at = head * width
        _head(q, qkv[first:last], at)
        _head(k, qkv[first:last], d + at)
        _head(v, qkv[first:last], 2 * d + at)
        for start in range(0, n, step):
            stop = min(n, start + step)
            n_keys = stop if causal else n
            p = np.empty((stop - start, n_keys), qkv.dtype)
            multiply(p, q[start:stop], k[:n_keys].T)
            for i in range(stop - start):
                seen = start + i + 1 if causal else n
                largest, total = -np.inf, 0.0
                for j in range(seen):
                    p[i, j] /= np.sqrt(width)
                    largest = max(largest, p[i, j])
                for j in range(seen):
                    p[i, j] = np.exp(p[i, j] - largest)
                    total += p[i, j]
                for j in range(n_keys):
                    seen_by = _masked(drop, first + start + i, n_heads, head, j) if j < seen else 0.0
                    p[i, j] = p[i, j] / total * seen_by if seen_by != 0.0 else 0.0
                lse[first + start + i, head] = largest + np.log(total)
            multiply(out[start:stop], p, v[:n_keys])
        _put(context[first:last], at, out)


@serial
def attend_back(
    dqkv: F, dcontext: F, qkv: F, context: F, lse: F, row_ptr: I64, n_heads: int, causal: bool, drop: Drop
) -> None:
    """dqkv = the gradients of a run of sequences' rows of qkv for those of context; both hold these rows alone."""
    start = row_ptr[0]
    for s in range(len(row_ptr) - 1):
        a, b = row_ptr[s] - start, row_ptr[s + 1] - start
        _sequence_back(dqkv[a:b], dcontext[a:b], qkv, context, lse, start + a, start + b, n_heads, causal, drop)


@serial
def _sequence_back(
    dqkv: F, dcontext: F, qkv: F, context: F, lse: F, first: int, last: int, n_heads: int, causal: bool, drop: Drop
) -> None:
    n, d = last - first, context.shape[1]
    width = d // n_heads
    q, k = np.empty((n, width), qkv.dtype), np.empty((n, width), qkv.dtype)
    v, dout = np.empty((n, width), qkv.dtype), np.empty((n, width), qkv.dtype)
    dq = np.empty((n, width), qkv.dtype)
    step = _strip_rows(n, width)
    for head in range(n_heads):
        at = head * width
        _head(q, qkv[first:last], at)
        _head(k, qkv[first:last], d + at)
        _head(v, qkv[first:last], 2 * d + at)
        _head(dout, dcontext, at)
        dk, dv = np.zeros((n, width), qkv.dtype), np.zeros((n, width), qkv.dtype)
        for start in range(0, n, step):
            stop = min(n, start + step)
            n_keys = stop if causal else n
            p, ds = np.empty((stop - start, n_keys), qkv.dtype), np.empty((stop - start, n_keys), qkv.dtype)
            multiply(p, q[start:stop], k[:n_keys].T)
            multiply(ds, dout[start:stop], v[:n_keys].T)
            for i in range(stop - start):
                row, seen = first + start + i, start + i + 1 if causal else n
                delta = 0.0
                for c in range(width):
                    delta += dout[start + i, c] * context[row, at + c]
                for j in range(n_keys):
                    if j >= seen:
                        p[i, j], ds[i, j] = 0.0, 0.0
                        continue
                    probability = np.exp(p[i, j] / np.sqrt(width) - lse[row, head])
                    scale = _masked(drop, row, n_heads, head, j)
                    ds[i, j] = probability * (ds[i, j] * scale - delta) / np.sqrt(width)
                    p[i, j] = probability * scale
            add_transposed(dv[:n_keys], p, dout[start:stop])
            add_transposed(dk[:n_keys], ds, q[start:stop])
            multiply(dq[start:stop], ds, k[:n_keys])
        _put(dqkv, at, dq)
        _put(dqkv, d + at, dk)
        _put(dqkv, 2 * d + at, dv)


@serial
def attend_one(context: F, query: F, keys: F, values: F, n_heads: int) -> None:
    """context (d) = softmax(q k^T / sqrt(width)) v by heads for one query, the first d columns of ``query``."""
    n, d = keys.shape
    width = d // n_heads
    scores = np.empty(n, keys.dtype)
    for head in range(n_heads):
        columns = range(head * width, (head + 1) * width)
        largest, total = -np.inf, 0.0
        for j in range(n):
            product = 0.0
            for c in columns:
                product += query[c] * keys[j, c]
            scores[j] = product / np.sqrt(width)
            largest = max(largest, scores[j])
        for c in columns:
            context[c] = 0.0
        for j in range(n):
            scores[j] = np.exp(scores[j] - largest)
            total += scores[j]
        for j in range(n):
            for c in columns:
                context[c] += scores[j] / total * values[j, c]
