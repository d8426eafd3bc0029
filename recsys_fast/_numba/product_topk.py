"""Top-k of the rows of a sparse product: one row at a time in a dense accumulator, with a list of touched columns.

A row's sum is made in the order of its entries, so that it is the same whatever the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.parallel import inputs, serial
from recsys_fast._numba.pieces import run_pieces
from recsys_fast._numba.topk import _NO_ID, _sift_down, _sort_heap

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

_WORK = 1 << 24  # multiply-adds of a piece of rows, which is how soon Ctrl-C is honoured


def product_topk(
    ids: I32, scores: F32, a_row_ptr: I64, a_col_idx: I32, a_values: F32, b_row_ptr: I64, b_col_idx: I32,
    b_values: F32, n_cols: int, candidates: I32, seen_row_ptr: I64, seen_col_idx: I32, row_norms: F32, col_norms: F32,
    mode: int, shrinkage: float, only_touched: bool, n_threads: int,
) -> None:  # fmt: skip
    """ids[r], scores[r] = the n columns of largest score of row r of a @ b; overwrites.

    ids ``(m, n) int32``, scores ``(m, n) float32``: score descending, then column ascending; short rows end in -1,
    -inf. a ``(m, k)``, b ``(k, n_cols)``; values empty: every entry counts 1. With s = (a @ b)[r, c]: mode 0 s,
    1 s / (row_norms[r] col_norms[c] + shrinkage), 2 s / (row_norms[r] + col_norms[c] - s + shrinkage), 0 where the
    denominator is not positive. only_touched: columns of score 0 are left out.
    """
    ids[:], scores[:] = -1, -np.inf
    m, n = ids.shape
    n_kept = min(n, n_cols)
    if m == 0 or n_kept == 0:
        return
    allowed = np.ones(n_cols, np.uint8)
    if len(candidates):
        allowed[:] = 0
        allowed[candidates] = 1
    work = np.empty(m, np.int64)
    a_row_ptr, a_col_idx, a_values = inputs(a_row_ptr, a_col_idx, a_values)
    b_row_ptr, b_col_idx, b_values = inputs(b_row_ptr, b_col_idx, b_values)
    seen_row_ptr, seen_col_idx, row_norms, col_norms = inputs(seen_row_ptr, seen_col_idx, row_norms, col_norms)
    _row_work(work, a_row_ptr, a_col_idx, b_row_ptr)
    total = np.cumsum(work + n_kept)
    cuts = np.unique(np.searchsorted(total, np.arange(_WORK, total[-1], _WORK)))
    bounds = [0, *(int(cut) for cut in cuts if 0 < cut < m), m]
    low_shrinkage = np.float32(shrinkage)

    def worker() -> Callable[[int, int], object]:
        sums, marks, touched = np.zeros(n_cols, np.float32), np.zeros(n_cols, np.int32), np.empty(n_cols, np.int32)

        def run(begin: int, end: int) -> None:
            _product_rows(
                ids, scores, n_kept, a_row_ptr, a_col_idx, a_values, b_row_ptr, b_col_idx, b_values, allowed,
                seen_row_ptr, seen_col_idx, row_norms, col_norms, mode, low_shrinkage, only_touched, sums, marks,
                touched, begin, end,
            )  # fmt: skip

        return run

    run_pieces(bounds, n_threads, worker)


@serial
def _row_work(work: I64, a_row_ptr: I64, a_col_idx: I32, b_row_ptr: I64) -> None:
    """work[r] = multiply-adds of row r."""
    for r in range(len(work)):
        total = np.int64(0)
        for p in range(a_row_ptr[r], a_row_ptr[r + 1]):
            total += b_row_ptr[a_col_idx[p] + 1] - b_row_ptr[a_col_idx[p]]
        work[r] = total


@serial
def _score(mode: int, s: np.float32, row_norm: np.float32, col_norm: np.float32, shrinkage: np.float32) -> np.float32:
    """Return the score of a sum of products."""
    if mode == 0:
        return s
    below = row_norm * col_norm if mode == 1 else row_norm + col_norm - s
    below += shrinkage
    if below > 0:
        return s / below
    return np.float32(0.0)


@serial
def _product_rows(
    ids: I32, scores: F32, n_kept: int, a_row_ptr: I64, a_col_idx: I32, a_values: F32, b_row_ptr: I64, b_col_idx: I32,
    b_values: F32, allowed: U8, seen_row_ptr: I64, seen_col_idx: I32, row_norms: F32, col_norms: F32, mode: int,
    shrinkage: np.float32, only_touched: bool, sums: F32, marks: I32, touched: I32, begin: int, end: int,
) -> None:  # fmt: skip
    """Serve rows begin .. end - 1. marks[c] = r + 1: touched by row r; -1 - r: seen by row r."""
    row_norm, col_norm = np.float32(0.0), np.float32(0.0)
    for r in range(begin, end):
        stamp = np.int32(r + 1)
        n_touched = 0
        for p in range(a_row_ptr[r], a_row_ptr[r + 1]):
            k = a_col_idx[p]
            factor = a_values[p] if len(a_values) else np.float32(1.0)
            for q in range(b_row_ptr[k], b_row_ptr[k + 1]):
                c = b_col_idx[q]
                if marks[c] != stamp:
                    marks[c] = stamp
                    sums[c] = 0.0
                    touched[n_touched] = c
                    n_touched += 1
                sums[c] += factor * b_values[q] if len(b_values) else factor
        if len(seen_row_ptr):
            for p in range(seen_row_ptr[r], seen_row_ptr[r + 1]):
                marks[seen_col_idx[p]] = -stamp
        if mode:
            row_norm = row_norms[r]
        row_ids, row_scores = ids[r], scores[r]
        row_ids[:n_kept] = _NO_ID
        for t in range(n_touched):
            c = touched[t]
            if marks[c] != stamp or allowed[c] == 0:
                continue
            if mode:
                col_norm = col_norms[c]
            score = _score(mode, sums[c], row_norm, col_norm, shrinkage)
            if score == 0:
                marks[c] = 0
            elif score > row_scores[0] or (score == row_scores[0] and c < row_ids[0]):
                _sift_down(row_ids, row_scores, n_kept, score, c)
        _sort_heap(row_ids, row_scores, n_kept)
        if not only_touched:
            _add_zeros(row_ids, row_scores, n_kept, marks, allowed, stamp, touched)


@serial
def _add_zeros(
    ids: I32, scores: F32, n_kept: int, marks: I32, allowed: U8, stamp: np.int32, scratch: I32
) -> None:  # fmt: skip
    """Put the columns of score 0 between the positive and the negative scores of a sorted list."""
    n_positive, n_found = 0, 0
    for place in range(n_kept):
        n_found += ids[place] >= 0
        n_positive += ids[place] >= 0 and scores[place] > 0
    n_zeros = 0
    for c in range(len(allowed)):
        if n_positive + n_zeros == n_kept:
            break
        if allowed[c] and marks[c] != stamp and marks[c] != -stamp:
            scratch[n_zeros] = c
            n_zeros += 1
    for place in range(min(n_kept, n_found + n_zeros) - 1, n_positive + n_zeros - 1, -1):
        ids[place], scores[place] = ids[place - n_zeros], scores[place - n_zeros]
    for t in range(n_zeros):
        ids[n_positive + t], scores[n_positive + t] = scratch[t], 0.0
