"""Rows of sparse matrices: taken out, and compared entry by entry."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast.errors import message
from recsys_fast.ops import Csr
from recsys_fast.ops.csr import rows_unchecked


def take_rows(csr: Csr, rows: NDArray[np.int32]) -> Csr:
    """Return the matrix of the given rows in that order; ``csr`` itself where those are all of its rows."""
    if len(rows) == csr.n_rows and np.array_equal(rows, np.arange(csr.n_rows)):
        return csr
    return rows_unchecked(csr, rows)


def row_of_entry(csr: Csr) -> NDArray[np.int64]:
    """Return the row that each entry is in, ``(nnz,) int64``."""
    return np.repeat(np.arange(csr.n_rows), np.diff(csr.row_ptr))


def entries_in(csr: Csr, other: Csr) -> NDArray[np.bool_]:
    """Return which entries of ``csr`` are entries of ``other`` too, ``(nnz,)``; equal shapes, sorted rows."""
    if not other.nnz:
        return np.zeros(csr.nnz, np.bool_)
    keys, others = (row_of_entry(matrix) * matrix.n_cols + matrix.col_idx for matrix in (csr, other))
    place = np.minimum(np.searchsorted(others, keys), len(others) - 1)
    same: NDArray[np.bool_] = others[place] == keys
    return same


def keep_entries(csr: Csr, keep: NDArray[np.bool_]) -> Csr:
    """Return the matrix of the entries where ``keep`` holds, without values."""
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(keep)])
    return Csr(before[csr.row_ptr], csr.col_idx[keep], None, csr.n_rows, csr.n_cols)


def as_integers(array: Any, name: str) -> NDArray[np.integer[Any]]:
    """Return an array of integers as it is; an empty one of any dtype counts.

    Raises:
        TypeError: another dtype.
    """
    given = np.asarray(array)
    if given.dtype.kind not in "iu":
        if given.size:
            mend = f"for a mask pass np.flatnonzero({name})" if given.dtype.kind == "b" else None
            raise TypeError(message(name, f"dtype {given.dtype}", "an integer dtype", mend))
        return given.astype(np.int32)
    return given
