"""Scores of chosen (row, column) pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import backend
from recsys_fast.errors import message
from recsys_fast.ops.block_arguments import as_result
from recsys_fast.ops.csr import as_csr
from recsys_fast.ops.topk import as_factors


def pair_scores(
    x: ArrayLike,
    y: ArrayLike,
    pairs: Any,
    *,
    out: NDArray[np.float32] | None = None,
    check_finite: bool = True,
    device: str = "auto",
    n_threads: int | None = None,
) -> NDArray[np.float32]:
    """Return x[row] . y[column] for every stored entry of a sparse matrix, in the order of its entries.

    Args:
        x: ``(n, d)``, converted to contiguous float32 where it is not.
        y: ``(m, d)``.
        pairs: sparse ``(n, m)``; only its structure matters. Columns of a row may be unsorted and repeated.
        out: contiguous ``(nnz,) float32`` to write into.
        check_finite: look for NaN and infinity in the factors first.
        device: backend.
        n_threads: number of threads; the result does not depend on it.

    Returns:
        ``(nnz,) float32``.

    Raises:
        TypeError: sparse factors, dense ``pairs``, ``out`` of another dtype.
        ValueError: shapes that disagree, values that are not finite, a damaged ``pairs``, ``out`` shares memory with an
            input.
    """
    device = backend.place(device, x=x, y=y, out=out)
    left, right = as_factors(x, "x", check_finite), as_factors(y, "y", check_finite)
    if left.shape[1] != right.shape[1]:
        raise ValueError(message("width of x and y", f"{left.shape[1]} and {right.shape[1]}", "one width"))
    csr = as_csr(pairs, "pairs", canonical=False, device=device, n_threads=n_threads)
    if csr.shape != (len(left), len(right)):
        transposed = csr.shape == (len(right), len(left))
        mend = "it looks transposed: pass pairs.T" if transposed else "it has a row per x, a column per y"
        raise ValueError(message("shape of pairs", csr.shape, f"({len(left)}, {len(right)})", mend))
    scores = as_result(out, (csr.nnz,), left, (left, right, csr.row_ptr, csr.col_idx))
    backend.get(device).pair_scores(scores, left, right, csr.row_ptr, csr.col_idx, backend.resolve_threads(n_threads))
    return scores
