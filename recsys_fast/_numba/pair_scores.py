"""Scores of chosen pairs."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from recsys_fast._numba.parallel import parallel, threads


def pair_scores(
    out: NDArray[np.float32], x: NDArray[np.float32], y: NDArray[np.float32],
    row_ptr: NDArray[np.int64], col_idx: NDArray[np.int32], n_threads: int,
) -> None:  # fmt: skip
    """out[j] = x[row(j)] . y[col_idx[j]]; out ``(nnz,)``, x ``(n, d)``, y ``(m, d)`` float32; overwrites."""
    with threads(n_threads):
        _pair_scores(out, x, y, row_ptr, col_idx)


@parallel
def _pair_scores(out, x, y, row_ptr, col_idx):  # type: ignore[no-untyped-def]
    d = x.shape[1]
    for row in prange(len(row_ptr) - 1):
        for j in range(row_ptr[row], row_ptr[row + 1]):
            item = col_idx[j]
            total = np.float32(0.0)
            for k in range(d):  # in order: the bits in which topk scores the same pair
                total += x[row, k] * y[item, k]
            out[j] = total
