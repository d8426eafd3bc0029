"""Ranking metrics per user: of lists that are given, of lists found on the way, and the area under the ROC curve."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from recsys_fast._numba.parallel import inputs, parallel, serial, threads
from recsys_fast._numba.topk import (
    TILE,
    block_rows,
    contains,
    load_tile,
    score_pair,
    search_order,
    topk_in_order,
)

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

_CHUNK_ENTRIES = 1 << 20  # ids of the lists that are alive at once


def rank_metrics(
    out: F64, queries: F32, items: F32, candidates: I32, seen_row_ptr: I64, seen_col_idx: I32,
    test_row_ptr: I64, test_col_idx: I32, ks: I32, n_threads: int,
) -> None:  # fmt: skip
    """out[u, metric, c] = metric of the ks[c] best items of query u against its test row; overwrites.

    out ``(m, 7, n_ks) float64``: precision, recall, f1, hit_rate, ndcg, mrr, map; NaN for users without test items.
    The lists are those of ``topk``, a chunk of users at a time, never all of them.
    """
    m, n = len(queries), int(ks.max())
    order, norms = search_order(items, candidates, m)
    rows = max(256, _CHUNK_ENTRIES // n)
    ids, scores = np.empty((min(rows, m), n), np.int32), np.empty((min(rows, m), n), np.float32)
    for begin in range(0, m, rows):
        end = min(m, begin + rows)
        seen = seen_row_ptr[begin : end + 1] if len(seen_row_ptr) else seen_row_ptr
        part = ids[: end - begin]
        topk_in_order(
            part, scores[: end - begin], queries[begin:end], items, order, norms, seen, seen_col_idx, n_threads
        )
        list_metrics(out[begin:end], part, test_row_ptr[begin : end + 1], test_col_idx, ks, n_threads)


def list_metrics(out: F64, ids: I32, test_row_ptr: I64, test_col_idx: I32, ks: I32, n_threads: int) -> None:
    """out[u, metric, c] = metric of the first ks[c] of ids[u] against the test row u; overwrites.

    ids ``(m, n) int32``, best first, -1 where a list has ended; test rows sorted; out as in ``rank_metrics``.
    """
    discounts = 1.0 / np.log2(np.arange(2.0, 2.0 + int(ks.max())))
    with threads(n_threads):
        _list_metrics(out, *inputs(ids, test_row_ptr, test_col_idx, ks, discounts, np.cumsum(discounts)))


@parallel
def _list_metrics(
    out: F64, ids: I32, test_row_ptr: I64, test_col_idx: I32, ks: I32, discounts: F64, ideal: F64
) -> None:
    """discounts[r] = 1 / log2(r + 2); ideal[r] = their sum up to and including r."""
    for u in prange(len(out)):
        begin, end = test_row_ptr[u], test_row_ptr[u + 1]
        if begin == end:
            out[u] = np.nan
            continue
        hit = np.zeros(ids.shape[1], np.bool_)
        for place in range(ids.shape[1]):
            hit[place] = contains(test_col_idx, begin, end, ids[u, place])
        for c in range(len(ks)):
            _metrics_at(out[u, :, c], hit, end - begin, ks[c], discounts, ideal)


@serial
def _metrics_at(out: F64, hit: Bools, n_relevant: int, k: int, discounts: F64, ideal: F64) -> None:
    """All metrics of one list cut at k; hit[r] tells whether rank r + 1 holds a relevant item."""
    n_hits, first, gain, precisions = 0, 0, 0.0, 0.0
    for place in range(min(k, len(hit))):
        if hit[place]:
            n_hits += 1
            gain += discounts[place]
            precisions += n_hits / (place + 1)
            if first == 0:
                first = place + 1
    best = min(k, n_relevant)
    out[0] = n_hits / k
    out[1] = n_hits / n_relevant
    out[2] = 2.0 * n_hits / (k + n_relevant)  # the harmonic mean of the two above
    out[3] = 1.0 if n_hits else 0.0
    out[4] = gain / ideal[best - 1]
    out[5] = 1.0 / first if first else 0.0
    out[6] = precisions / best


def rank_auc(
    out: F64, queries: F32, items: F32, candidates: I32, seen_row_ptr: I64, seen_col_idx: I32,
    test_row_ptr: I64, test_col_idx: I32, n_threads: int,
) -> None:  # fmt: skip
    """out[u] = sum_{r in R, eligible} (#{o: s_o < s_r} + #{o: s_o = s_r} / 2) / (|R| |O|); overwrites.

    out ``(m,) float64``; R the test row, O the candidates that are neither seen nor in R. A test item that is seen or
    no candidate counts as ranked below everything. NaN where R or O is empty.
    """
    order = candidates if len(candidates) else np.arange(len(items), dtype=np.int32)
    queries, items, order, seen_row_ptr, seen_col_idx, test_row_ptr, test_col_idx = inputs(
        queries, items, order, seen_row_ptr, seen_col_idx, test_row_ptr, test_col_idx
    )
    m = len(queries)
    rows, blocks = block_rows(m, len(order), queries.shape[1], n_threads)
    for begin in range(0, m, rows * blocks):
        end = min(m, begin + rows * blocks)
        with threads(n_threads):
            _auc_blocks(
                out, queries, items, order, seen_row_ptr, seen_col_idx, test_row_ptr, test_col_idx, begin, end, rows
            )


@parallel
def _auc_blocks(
    out: F64, queries: F32, items: F32, order: I32, seen_row_ptr: I64, seen_col_idx: I32,
    test_row_ptr: I64, test_col_idx: I32, begin: int, end: int, rows: int,
) -> None:  # fmt: skip
    """Serve queries begin .. end - 1 in independent blocks of ``rows``."""
    n_blocks = (end - begin + rows - 1) // rows
    for block in prange(n_blocks):
        start = begin + block * rows
        stop = min(end, start + rows)
        _auc_block(out, queries, items, order, seen_row_ptr, seen_col_idx, test_row_ptr, test_col_idx, start, stop)


@serial
def _auc_block(
    out: F64, queries: F32, items: F32, order: I32, seen_row_ptr: I64, seen_col_idx: I32,
    test_row_ptr: I64, test_col_idx: I32, start: int, stop: int,
) -> None:  # fmt: skip
    """Count over all candidates tile by tile, less what the seen and the relevant ones among them contribute."""
    base = test_row_ptr[start]
    relevant = np.empty(test_row_ptr[stop] - base, np.float32)  # scores of the eligible relevant items
    n_relevant = np.zeros(stop - start, np.int64)
    below = np.zeros(stop - start, np.int64)  # twice the count, ties once
    n_others = np.full(stop - start, len(order))
    for q in range(start, stop):
        own = relevant[test_row_ptr[q] - base :]
        seen_begin, seen_end = np.int64(0), np.int64(0)
        if len(seen_row_ptr):
            seen_begin, seen_end = seen_row_ptr[q], seen_row_ptr[q + 1]
        for e in range(test_row_ptr[q], test_row_ptr[q + 1]):
            item = test_col_idx[e]
            if contains(order, 0, len(order), item) and not contains(seen_col_idx, seen_begin, seen_end, item):
                own[n_relevant[q - start]] = dot(queries[q], items[item])
                n_relevant[q - start] += 1
        own = own[: n_relevant[q - start]]
        for e in range(seen_begin, seen_end):
            item = seen_col_idx[e]
            if contains(order, 0, len(order), item):
                n_others[q - start] -= 1
                below[q - start] -= _twice_below(dot(queries[q], items[item]), own)
        n_others[q - start] -= len(own)
        for score in own:
            below[q - start] -= _twice_below(score, own)
    _count_tiles(below, n_relevant, relevant, queries, items, order, test_row_ptr, start, stop)
    for q in range(start, stop):
        n_test = test_row_ptr[q + 1] - test_row_ptr[q]
        out[q] = np.nan
        if n_test > 0 and n_others[q - start] > 0:
            out[q] = below[q - start] / (2.0 * n_test * n_others[q - start])


@serial
def _count_tiles(
    below: I64, n_relevant: I64, relevant: F32, queries: F32, items: F32, order: I32, test_row_ptr: I64,
    start: int, stop: int,
) -> None:  # fmt: skip
    """below[q] += twice the pairs (candidate, relevant item of q) in the right order, ties once."""
    tile = np.zeros((queries.shape[1], TILE), np.float32)
    pair = np.empty((2, TILE), np.float32)
    counts = np.empty(TILE, np.int32)
    base = test_row_ptr[start]
    for first in range(0, len(order), TILE):
        width = min(TILE, len(order) - first)
        load_tile(tile, items, order, first, width)
        for q in range(start, stop, 2):
            last = min(q + 1, stop - 1)
            score_pair(pair, queries[q], queries[last], tile)
            for u in range(q, last + 1):
                own = relevant[test_row_ptr[u] - base :][: n_relevant[u - start]]
                below[u - start] += _row_below(counts, pair[u - q, :width], own)


@serial
def _row_below(counts: I32, row: F32, relevant: F32) -> int:
    """Sum over the relevant scores of twice the number of smaller scores in ``row``, equal ones once."""
    width = len(row)
    for j in range(width):
        counts[j] = 0
    for score in relevant:  # a counter per item: this loop vectorises, a single counter would not
        for j in range(width):
            counts[j] += np.int32(row[j] < score) + np.int32(row[j] <= score)
    total = 0
    for j in range(width):
        total += counts[j]
    return total


@serial
def _twice_below(score: np.float32, relevant: F32) -> int:
    """``_row_below`` of a single score."""
    total = 0
    for other in relevant:
        total += int(score < other) + int(score <= other)
    return total


@serial
def dot(a: F32, b: F32) -> np.float32:
    """a . b added in order in float32: the bits of ``score_pair``."""
    total = np.float32(0.0)
    for k in range(len(a)):
        total += a[k] * b[k]
    return total
