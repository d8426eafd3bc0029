"""Top-k of the rows of a sparse matrix times a dense one: a row of scores at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.parallel import inputs, serial
from recsys_fast._numba.pieces import run_pieces
from recsys_fast._numba.topk import _NO_ID, _sift_down, _sort_heap

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

_WORK = 1 << 25  # multiply-adds of a piece of rows, which is how soon Ctrl-C is honoured


def product_topk_dense(
    ids: I32, scores: F32, a_row_ptr: I64, a_col_idx: I32, a_values: F32, b: F32, candidates: I32, seen_row_ptr: I64,
    seen_col_idx: I32, n_threads: int,
) -> None:  # fmt: skip
    """ids[r], scores[r] = the n columns of largest score of row r of a @ b; overwrites.

    ids ``(m, n) int32``, scores ``(m, n) float32``: score descending, then column ascending; short rows end in -1,
    -inf. a ``(m, k)``, values empty: every entry counts 1; b ``(k, n_cols)``.
    """
    ids[:], scores[:] = -1, -np.inf
    (m, n), n_cols = ids.shape, b.shape[1]
    n_kept = min(n, n_cols)
    if m == 0 or n_kept == 0:
        return
    allowed = np.ones(n_cols, np.uint8)
    if len(candidates):
        allowed[:] = 0
        allowed[candidates] = 1
    arrays: Any = inputs(a_row_ptr, a_col_idx, a_values, b, allowed, seen_row_ptr, seen_col_idx)
    total = np.cumsum((np.diff(a_row_ptr) + 1) * n_cols)
    cuts = np.unique(np.searchsorted(total, np.arange(_WORK, total[-1], _WORK)))
    bounds = [0, *(int(cut) for cut in cuts if 0 < cut < m), m]

    def worker() -> Callable[[int, int], object]:
        sums = np.empty(n_cols, np.float32)

        def run(begin: int, end: int) -> None:
            given: tuple[Any, ...] = (ids, scores, n_kept, *arrays, sums, begin, end)
            _dense_rows(*given)

        return run

    run_pieces(bounds, n_threads, worker)


@serial
def _dense_rows(
    ids: I32, scores: F32, n_kept: int, a_row_ptr: I64, a_col_idx: I32, a_values: F32, b: F32, allowed: U8,
    seen_row_ptr: I64, seen_col_idx: I32, sums: F32, begin: int, end: int,
) -> None:  # fmt: skip
    """Serve rows begin .. end - 1."""
    for r in range(begin, end):
        sums[:] = 0.0
        for p in range(a_row_ptr[r], a_row_ptr[r + 1]):
            row = b[a_col_idx[p]]
            factor = a_values[p] if len(a_values) else np.float32(1.0)
            for c in range(len(sums)):
                sums[c] += factor * row[c]
        if len(seen_row_ptr):
            for p in range(seen_row_ptr[r], seen_row_ptr[r + 1]):
                sums[seen_col_idx[p]] = -np.inf
        row_ids, row_scores = ids[r], scores[r]
        row_ids[:n_kept] = _NO_ID
        for c in range(len(sums)):
            if sums[c] > row_scores[0] and allowed[c]:  # columns ascend: one that only equals the worst has lost
                _sift_down(row_ids, row_scores, n_kept, sums[c], np.int32(c))
        _sort_heap(row_ids, row_scores, n_kept)
