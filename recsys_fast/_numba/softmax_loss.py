"""Full softmax cross-entropy, for one target of a row or several; no matrix of rows x items exists."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from recsys_fast._numba.blas import BLOCK, BLOCK_WORK
from recsys_fast._numba.block_rows import add_columns
from recsys_fast._numba.parallel import inputs, parallel, serial, threads
from recsys_fast.errors import NotSupportedError, message

Array = NDArray[Any]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_SLOTS = 8  # parts of the items; their number must not depend on the threads


def has_bfloat16() -> bool:
    """Say whether ``compute`` may be 1."""
    return False


def check_compute(compute: int) -> None:
    if compute != 0:
        raise NotSupportedError(message("compute='bfloat16'", mend='device="numba" computes in float32 only'))


def softmax_loss(
    dh: Array,
    dtable: Array,
    dbias: Array,
    h: Array,
    table: Array,
    bias: Array,
    targets: I32,
    weights: Array,
    scale: float,
    compute: int,
    n_threads: int,
) -> float:
    """Full softmax cross-entropy; the multinomial likelihood of one entry per row."""
    check_compute(compute)
    rows = np.flatnonzero(targets >= 0)
    factors = np.ones(len(rows), h.dtype) if len(weights) == 0 else weights[rows].astype(h.dtype)
    ptr = np.arange(len(rows) + 1)
    return _loss(dh, dtable, dbias, h, table, bias, rows, ptr, targets[rows], factors, scale, n_threads)


def multinomial_loss(
    dh: Array,
    dtable: Array,
    dbias: Array,
    h: Array,
    table: Array,
    bias: Array,
    row_ptr: I64,
    col_idx: I32,
    weights: Array,
    scale: float,
    compute: int,
    n_threads: int,
) -> float:
    """Negative multinomial log-likelihood of sparse rows; see ``recsys_fast.ops.multinomial_loss``."""
    check_compute(compute)
    rows = np.flatnonzero(row_ptr[1:] > row_ptr[:-1])
    factors = np.ones(len(col_idx), h.dtype) if len(weights) == 0 else weights.astype(h.dtype)
    ptr = np.append(row_ptr[rows], row_ptr[-1])
    return _loss(dh, dtable, dbias, h, table, bias, rows, ptr, col_idx, factors, scale, n_threads)


def _loss(
    dh: Array,
    dtable: Array,
    dbias: Array,
    h: Array,
    table: Array,
    bias: Array,
    rows: I64,
    ptr: I64,
    targets: I32,
    factors: Array,
    scale: float,
    n_threads: int,
) -> float:
    """Two passes over the items, each cut into the same slots for any n_threads; row rows[r] of h has the targets
    [ptr[r], ptr[r + 1]), times factors."""
    h, table, bias, targets = inputs(h if len(rows) == len(h) else h[rows], table, bias, targets)
    n, d = table.shape
    tile = max(1, BLOCK_WORK // (BLOCK * d))  # items of one product
    part = -(-n // (_SLOTS * tile)) * tile
    tops, totals = np.empty(len(rows), h.dtype), np.empty(len(rows), h.dtype)
    parts = np.zeros((-(-n // part), *h.shape), h.dtype)
    whole = np.add.reduceat(factors, ptr[:-1]) if len(rows) else factors
    with threads(n_threads):
        _sums(tops, totals, h, table, bias, tile)
        shares, pulls = whole * h.dtype.type(scale) / totals, factors * h.dtype.type(scale)
        _softmax_gradients(parts, dtable, dbias, h, table, bias, ptr, targets, pulls, shares, tops, tile, part)
    dh[...] = 0.0
    dh[rows] = parts.sum(axis=0)
    scores = _target_scores(h, table, bias, ptr, targets)
    return float(np.sum(whole * (np.log(totals.astype(np.float64)) + tops)) - np.sum(factors * scores))


@serial
def scores_of(h: Array, items: Array, bias: Array) -> Array:
    """Return h items^T + bias for a tile of rows and one of items."""
    scores: Array = np.dot(h, items.T)
    if len(bias) > 0:
        for r in range(len(scores)):
            for i in range(len(items)):
                scores[r, i] += bias[i]
    return scores


@serial
def add_product(into: Array, a: Array, b: Array) -> None:
    """into += a b."""
    product = np.dot(a, b)
    for r in range(product.shape[0]):
        for k in range(product.shape[1]):
            into[r, k] += product[r, k]


@serial
def _target_scores(h: Array, table: Array, bias: Array, ptr: I64, targets: I32) -> NDArray[np.float64]:
    out = np.zeros(len(targets))
    for t in range(len(h)):
        for e in range(ptr[t], ptr[t + 1]):
            for k in range(h.shape[1]):
                out[e] += h[t, k] * table[targets[e], k]
            if len(bias) > 0:
                out[e] += bias[targets[e]]
    return out


@parallel
def _sums(tops: Array, totals: Array, h: Array, table: Array, bias: Array, tile: int) -> None:
    """tops[t] = largest score, totals[t] = sum of e^(score - top)."""
    for block in prange(-(-len(h) // BLOCK)):
        _sums_block(tops, totals, h, table, bias, tile, block * BLOCK)


@serial
def _sums_block(tops: Array, totals: Array, h: Array, table: Array, bias: Array, tile: int, first: int) -> None:
    """A tile of rows, with a running maximum."""
    stop = min(len(h), first + BLOCK)
    top, total = np.full(stop - first, -np.inf, h.dtype), np.zeros(stop - first, h.dtype)
    for j in range(0, len(table), tile):
        scores = scores_of(h[first:stop], table[j : j + tile], bias[j : j + tile])
        for r in range(stop - first):
            best = top[r]
            for i in range(scores.shape[1]):
                best = max(best, scores[r, i])
            total[r] *= np.exp(top[r] - best)
            top[r] = best
            for i in range(scores.shape[1]):
                total[r] += np.exp(scores[r, i] - best)
    for r in range(stop - first):
        tops[first + r], totals[first + r] = top[r], total[r]


@parallel
def _softmax_gradients(
    parts: Array,
    dtable: Array,
    dbias: Array,
    h: Array,
    table: Array,
    bias: Array,
    ptr: I64,
    targets: I32,
    pulls: Array,
    shares: Array,
    tops: Array,
    tile: int,
    part: int,
) -> None:
    """Items [slot * part, ...): their rows of dtable, and their share of dh, parts[slot]."""
    for slot in prange(len(parts)):
        end = min(len(table), (slot + 1) * part)
        for j in range(slot * part, end, tile):
            stop = min(j + tile, end)
            own = dtable[j:stop], dbias[j:stop], table[j:stop], bias[j:stop]
            _softmax_tile(parts[slot], *own, h, ptr, targets, pulls, shares, tops, j)


@serial
def _softmax_tile(
    dh: Array,
    dtable: Array,
    dbias: Array,
    items: Array,
    bias: Array,
    h: Array,
    ptr: I64,
    targets: I32,
    pulls: Array,
    shares: Array,
    tops: Array,
    j: int,
) -> None:
    """All rows, and the items from j on; adds to dh, overwrites dtable and dbias."""
    dtable[:] = 0.0
    dbias[:] = 0.0
    for first in range(0, len(h), BLOCK):
        rows = h[first : first + BLOCK]
        p = scores_of(rows, items, bias)
        for r in range(len(rows)):
            share, top = shares[first + r], tops[first + r]
            for i in range(len(items)):
                p[r, i] = share * np.exp(p[r, i] - top)
            for e in range(ptr[first + r], ptr[first + r + 1]):
                at = targets[e] - j
                if 0 <= at < len(items):
                    p[r, at] -= pulls[e]
        add_product(dh[first : first + BLOCK], p, items)
        add_product(dtable, p.T, rows)
        if len(dbias) > 0:
            add_columns(dbias, p)
