"""Exact ridge regression of every item on the few items it has most in common with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.cholesky import factor
from recsys_fast._numba.parallel import inputs, serial
from recsys_fast._numba.pieces import run_pieces
from recsys_fast._numba.slim import gather, squared_norms

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]


def ridge_solve(
    ids: I32, values: F32, counts: I32, items: I32, t_row_ptr: I64, t_col_idx: I32, t_values: F32, row_ptr: I64,
    col_idx: I32, x_values: F32, regularization: float, n_threads: int,
) -> int:  # fmt: skip
    """ids[r], values[r] = counts[r] weights that predict items[r], by ascending id.

    They minimise |x_j - x w|^2 + regularization |w|^2 over the width items i of largest x_i . x_j / sqrt(|x_i|^2 +
    regularization); all others where width is n_items - 1. ids, values ``(m, width)``; x ``(n_users, n_items)``
    sparse, t its transpose. Returns the number of items whose system was not positive definite: they get no weights.
    """
    n_items = len(t_row_ptr) - 1
    width = min(ids.shape[1], n_items - 1)
    arrays: Any = inputs(items, t_row_ptr, t_col_idx, t_values, row_ptr, col_idx, x_values)
    norms = np.empty(n_items, np.float32)
    squared_norms(norms, arrays[1], arrays[3])
    failed, penalty = np.zeros(len(items), np.uint8), np.float32(regularization)

    def worker() -> Callable[[int, int], object]:
        sums, found = np.zeros(n_items, np.float32), np.empty(n_items, np.int32)
        marks, places = np.full(n_items, -1, np.int32), np.full(n_items, -1, np.int32)
        small = (
            np.empty((width, width), np.float32), np.empty((width, width), np.float32), np.empty(width, np.float32),
            np.empty(32 * width, np.float32), np.empty(64 * 64, np.float32),
        )  # fmt: skip

        def run(begin: int, end: int) -> None:
            given: tuple[Any, ...] = (
                ids, values, counts, failed, *arrays, norms, penalty, width, sums, found, marks, places, *small, begin,
                end,
            )  # fmt: skip
            _solve_items(*given)

        return run

    if len(items) and width > 0:
        run_pieces(range(len(items) + 1), n_threads, worker)
    return int(failed.sum())


@serial
def _choose(found: I32, sums: F32, norms: F32, penalty: np.float32, item: int, width: int) -> I32:
    """Return the items to regress on, ascending."""
    if width == len(norms) - 1:
        every = np.arange(len(norms)).astype(np.int32)
        rest: I32 = every[every != item]
        return rest
    others = np.sort(found[found != item])
    if len(others) > width:
        keys = sums[others] / np.sqrt(norms[others] + penalty)
        others = np.sort(others[np.argsort(-keys, kind="mergesort")[:width]])
    return others


@serial
def _solve_items(
    ids: I32, values: F32, counts: I32, failed: U8, items: I32, t_row_ptr: I64, t_col_idx: I32, t_values: F32,
    row_ptr: I64, col_idx: I32, x_values: F32, norms: F32, penalty: np.float32, width: int, sums: F32, found: I32,
    marks: I32, places: I32, whole: F32, kept: F32, b: F32, panel: F32, product: F32, begin: int, end: int,
) -> None:  # fmt: skip
    """Serve items[begin .. end - 1]."""
    mark = np.int32(marks.max()) if len(marks) else np.int32(-1)
    none = sums[:0]
    for row in range(begin, end):
        item = items[row]
        own = slice(t_row_ptr[item], t_row_ptr[item + 1])
        own_values = t_values[own] if len(t_values) else none
        mark += np.int32(1)
        n_found = gather(sums, found, marks, mark, t_col_idx[own], own_values, row_ptr, col_idx, x_values)
        chosen = _choose(found[:n_found], sums, norms, penalty, item, width)
        n = len(chosen)
        for k in range(n):
            b[k] = sums[chosen[k]] if marks[chosen[k]] == mark else 0.0
            places[chosen[k]] = k
        a = whole.reshape(-1)[: n * n].reshape(n, n)
        original = kept.reshape(-1)[: n * n].reshape(n, n)
        a[:] = 0.0
        for k in range(n):  # row k of the Gram matrix, from the users of its item
            for e in range(t_row_ptr[chosen[k]], t_row_ptr[chosen[k] + 1]):
                u = t_col_idx[e]
                for p in range(row_ptr[u], row_ptr[u + 1]):
                    other = places[col_idx[p]]
                    if other >= k:
                        a[k, other] += t_values[e] * x_values[p] if len(t_values) else np.float32(1.0)
            a[k, k] += penalty
        for k in range(n):
            places[chosen[k]] = -1
        original[:] = a
        counts[row] = 0
        if n and not factor(a, original, panel, product):
            failed[row] = 1
            continue
        for k in range(n):
            b[k] /= a[k, k]
            for j in range(k + 1, n):
                b[j] -= b[k] * a[k, j]
        for k in range(n - 1, -1, -1):
            total = b[k]
            for j in range(k + 1, n):
                total -= a[k, j] * b[j]
            b[k] = total / a[k, k]
        ids[row, :n], values[row, :n] = chosen, b[:n]
        counts[row] = n
