"""Scores of chosen pairs."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from recsys_fast._numba.parallel import inputs, parallel, threads

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


def pair_scores(out: F32, x: F32, y: F32, row_ptr: I64, col_idx: I32, n_threads: int) -> None:
    """out[j] = x[row(j)] . y[col_idx[j]]; out ``(nnz,)``, x ``(n, d)``, y ``(m, d)`` float32; overwrites."""
    with threads(n_threads):
        _pair_scores(out, *inputs(x, y, row_ptr, col_idx))


@parallel
def _pair_scores(out: F32, x: F32, y: F32, row_ptr: I64, col_idx: I32) -> None:
    d = x.shape[1]
    for row in prange(len(row_ptr) - 1):
        for j in range(row_ptr[row], row_ptr[row + 1]):
            item = col_idx[j]
            total = np.float32(0.0)
            for k in range(d):  # in order: the bits in which topk scores the same pair
                total += x[row, k] * y[item, k]
            out[j] = total
