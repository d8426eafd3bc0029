"""Top-k by inner product: tiles of items against blocks of queries, one bounded heap per query.

Every score is summed over k = 0 .. d - 1 in float32 in that order, whatever the tile or the block, so that equal rows
of items tie exactly and the result does not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from recsys_fast._numba.parallel import inputs, parallel, serial, threads

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Int = int | np.integer[Any]

TILE = 128  # items per tile: at 64 factors a tile stays in L1, and the threshold test of its scores vectorises
_BLOCK = 256  # queries that share a tile, so that its transposition costs little
_WORK = 1_500_000_000  # multiply-adds of a block at most: about 50 ms, which is how soon Ctrl-C is honoured
_ORDERED = 256  # from so many queries on, sorting the items by norm pays
_NO_ID = np.iinfo(np.int32).max  # an empty place of a heap: worse than any item


def topk(
    ids: I32, scores: F32, queries: F32, items: F32, candidates: I32, seen_row_ptr: I64, seen_col_idx: I32,
    n_threads: int,
) -> None:  # fmt: skip
    """ids[q], scores[q] = the n best items of query q by items . queries[q], seen ones left out; overwrites.

    ids ``(m, n) int32``, scores ``(m, n) float32``: score descending, then id ascending; short rows end in -1, -inf.
    queries ``(m, d)``, items ``(n_items, d)``; candidates sorted ids or empty for all; seen rows sorted, or empty.
    """
    order, norms = search_order(items, candidates, len(queries))
    topk_in_order(ids, scores, queries, items, order, norms, seen_row_ptr, seen_col_idx, n_threads)


def search_order(items: F32, candidates: I32, n_queries: int) -> tuple[I32, F64]:
    """Return the ids to look at, largest norm first, and their norms; by id and without norms for few queries.

    |q . y| <= |q| |y|: once the norm of the next tile bounds all its scores below a query's worst kept one, the query
    is done. Ram, Gray 2012.
    """
    order = candidates if len(candidates) else np.arange(len(items), dtype=np.int32)
    if n_queries < _ORDERED:
        return order, np.empty(0)
    norms = np.empty(len(items))
    _row_norms(norms, *inputs(items))
    norms = norms[order]
    by_norm = np.argsort(-norms, kind="stable")
    return order[by_norm], norms[by_norm]


def block_rows(n_queries: int, n_candidates: int, d: int, n_threads: int) -> tuple[int, int]:
    """Return how many queries a block holds, and how many blocks run between two looks at pending signals."""
    row_work = max(1, n_candidates * (d + 8))
    rows = max(1, min(_BLOCK, _WORK // row_work, -(-n_queries // n_threads)))
    return rows, n_threads * max(1, _WORK // (rows * row_work))


def topk_in_order(
    ids: I32, scores: F32, queries: F32, items: F32, order: I32, norms: F64, seen_row_ptr: I64, seen_col_idx: I32,
    n_threads: int,
) -> None:  # fmt: skip
    """``topk`` over the ids of ``order``; ``norms`` of those rows in descending order, or empty."""
    m, n = ids.shape
    ids[:], scores[:] = -1, -np.inf
    n_kept = min(n, len(order))
    if m == 0 or n_kept == 0:
        return
    queries, items, order, norms, seen_row_ptr, seen_col_idx = inputs(
        queries, items, order, norms, seen_row_ptr, seen_col_idx
    )
    rows, blocks = block_rows(m, len(order), queries.shape[1], n_threads)
    for begin in range(0, m, rows * blocks):
        end = min(m, begin + rows * blocks)
        with threads(n_threads):
            _topk_blocks(
                ids, scores, n_kept, queries, items, order, norms, seen_row_ptr, seen_col_idx, begin, end, rows
            )


@serial
def _row_norms(norms: F64, items: F32) -> None:
    """norms[i] = |items[i]| in float64."""
    n_items, d = items.shape
    for i in range(n_items):
        total = 0.0
        for k in range(d):
            total += np.float64(items[i, k]) ** 2
        norms[i] = np.sqrt(total)


@parallel
def _topk_blocks(
    ids: I32, scores: F32, n_kept: int, queries: F32, items: F32, order: I32, norms: F64, seen_row_ptr: I64,
    seen_col_idx: I32, begin: int, end: int, rows: int,
) -> None:  # fmt: skip
    """Serve queries begin .. end - 1 in independent blocks of ``rows``."""
    n_blocks = (end - begin + rows - 1) // rows
    for block in prange(n_blocks):
        start = begin + block * rows
        stop = min(end, start + rows)
        for q in range(start, stop):
            for place in range(n_kept):
                ids[q, place] = _NO_ID
        _search(ids, scores, n_kept, queries, items, order, norms, seen_row_ptr, seen_col_idx, start, stop)
        for q in range(start, stop):
            _sort_heap(ids[q], scores[q], n_kept)


@serial
def _search(
    ids: I32, scores: F32, n_kept: int, queries: F32, items: F32, order: I32, norms: F64, seen_row_ptr: I64,
    seen_col_idx: I32, start: int, stop: int,
) -> None:  # fmt: skip
    """Fill the heaps of queries start .. stop - 1, two queries at a time against each tile."""
    d = queries.shape[1]
    tile = np.zeros((d, TILE), np.float32)
    pair = np.empty((2, TILE), np.float32)
    query_norms = np.empty(stop - start)
    _row_norms(query_norms, queries[start:stop])
    active = np.arange(start, stop)
    n_active = stop - start
    slack = 1.0 + (d + 2) * 1.2e-7  # what rounding may add to a score, relative to |q| |y|
    for first in range(0, len(order), TILE):
        if len(norms):
            n_left = 0
            for p in range(n_active):
                q = active[p]
                if not query_norms[q - start] * norms[first] * slack + 1e-38 < scores[q, 0]:
                    active[n_left] = q
                    n_left += 1
            n_active = n_left
            if n_active == 0:
                break
        width = min(TILE, len(order) - first)
        load_tile(tile, items, order, first, width)
        for p in range(0, n_active, 2):
            a, b = active[p], active[min(p + 1, n_active - 1)]
            score_pair(pair, queries[a], queries[b], tile)
            _keep(ids[a], scores[a], n_kept, pair[0], width, order, first, seen_row_ptr, seen_col_idx, a)
            if b != a:
                _keep(ids[b], scores[b], n_kept, pair[1], width, order, first, seen_row_ptr, seen_col_idx, b)


@serial
def load_tile(tile: F32, items: F32, order: I32, first: int, width: int) -> None:
    """tile[:, j] = items[order[first + j]] for j < width; tile ``(d, TILE)``."""
    d = items.shape[1]
    for j in range(width):
        row = items[order[first + j]]
        for k in range(d):
            tile[k, j] = row[k]


@serial
def score_pair(pair: F32, query_a: F32, query_b: F32, tile: F32) -> None:
    """pair[0] = query_a . tile, pair[1] = query_b . tile; overwrites. Four k at a time, still added in order."""
    d, width = tile.shape
    a, b = pair[0], pair[1]
    for j in range(width):
        a[j] = 0.0
        b[j] = 0.0
    whole = d - d % 4
    for k in range(0, whole, 4):
        a0, a1, a2, a3 = query_a[k], query_a[k + 1], query_a[k + 2], query_a[k + 3]
        b0, b1, b2, b3 = query_b[k], query_b[k + 1], query_b[k + 2], query_b[k + 3]
        t0, t1, t2, t3 = tile[k], tile[k + 1], tile[k + 2], tile[k + 3]
        for j in range(width):
            a[j] = (((a[j] + a0 * t0[j]) + a1 * t1[j]) + a2 * t2[j]) + a3 * t3[j]
            b[j] = (((b[j] + b0 * t0[j]) + b1 * t1[j]) + b2 * t2[j]) + b3 * t3[j]
    for k in range(whole, d):
        a0, b0, t0 = query_a[k], query_b[k], tile[k]
        for j in range(width):
            a[j] += a0 * t0[j]
            b[j] += b0 * t0[j]


@serial
def contains(sorted_ids: I32, begin: Int, end: Int, wanted: Int) -> bool:
    """Return whether sorted_ids[begin:end] holds ``wanted``."""
    stop = end
    while begin < end:
        middle = (begin + end) // 2
        if sorted_ids[middle] < wanted:
            begin = middle + 1
        else:
            end = middle
    return bool(begin < stop and sorted_ids[begin] == wanted)


@serial
def _keep(
    ids: I32, scores: F32, n_kept: int, row: F32, width: int, order: I32, first: int, seen_row_ptr: I64,
    seen_col_idx: I32, q: int,
) -> None:  # fmt: skip
    """Push those of a tile's scores that beat the heap's worst and were not seen."""
    worst = scores[0]
    n_passing = 0
    for j in range(width):  # an integer sum: vectorises, and mostly says that there is nothing to do
        n_passing += row[j] >= worst
    if n_passing == 0:
        return
    seen_begin, seen_end = np.int64(0), np.int64(0)
    if len(seen_row_ptr):
        seen_begin, seen_end = seen_row_ptr[q], seen_row_ptr[q + 1]
    for j in range(width):
        score = row[j]
        if not score >= scores[0]:
            continue
        item = order[first + j]
        if score == scores[0] and item >= ids[0]:
            continue
        if not contains(seen_col_idx, seen_begin, seen_end, item):
            _sift_down(ids, scores, n_kept, score, item)


@serial
def _sift_down(ids: I32, scores: F32, size: int, score: np.float32, item: np.int32) -> None:
    """Replace the root, the worst of the heap, by (score, item)."""
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        other = child + 1
        if other < size and _worse(scores[other], ids[other], scores[child], ids[child]):
            child = other
        if not _worse(scores[child], ids[child], score, item):
            break
        scores[place], ids[place] = scores[child], ids[child]
        place = child
    scores[place], ids[place] = score, item


@serial
def _worse(score_a: np.float32, id_a: np.int32, score_b: np.float32, id_b: np.int32) -> bool:
    return bool(score_a < score_b or (score_a == score_b and id_a > id_b))


@serial
def _sort_heap(ids: I32, scores: F32, size: int) -> None:
    """Turn a heap into a list, best first; empty places become -1."""
    for last in range(size - 1, 0, -1):
        score, item = scores[last], ids[last]
        scores[last], ids[last] = scores[0], ids[0]
        _sift_down(ids, scores, last, score, item)
    for place in range(size):
        if ids[place] == _NO_ID:
            ids[place] = -1
