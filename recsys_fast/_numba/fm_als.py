"""Alternating least squares for factorization machines: each feature's weight and factors, given everything else."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from recsys_fast._numba.fm import fm_predict
from recsys_fast._numba.parallel import inputs, parallel, serial, threads

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


def fm_als_sweep(
    table: F32, bias: F64, residual: F32, sums: F32, row_ptr: I64, col_idx: I32, values: F32, col_ptr: I64,
    row_idx: I32, col_values: F32, targets: F32, weights: F32, weight_regularization: float,
    factor_regularization: float, n_threads: int,
) -> float:  # fmt: skip
    """Least of 1/2 sum_r c_r (score_r - y_r)^2 + 1/2 sum_j n_j (wreg w_j^2 + freg |v_j|^2) over one feature at a time.

    table ``(n_features, d + 1)`` and bias in place; residual ``(n_rows,)`` and sums ``(n_rows, d)`` are scratch. Runs
    of columns without a common row are solved at the same time, so the order does not matter. After Rendle 2012.
    """
    row_ptr, col_idx, values, col_ptr, row_idx = inputs(row_ptr, col_idx, values, col_ptr, row_idx)
    col_values, targets, weights = inputs(col_values, targets, weights)
    penalties = np.full(table.shape[1], factor_regularization)
    penalties[-1] = weight_regularization
    fm_predict(residual, table, bias[0], row_ptr, col_idx, values, n_threads)
    np.subtract(targets, residual, out=residual)
    with threads(n_threads):
        _fill_sums(sums, table, row_ptr, col_idx, values)
        _shift_bias(bias, residual, weights)
        stamps, first, run = np.zeros(len(residual), np.int32), 0, 0
        while first < len(table):
            run += 1
            end = _disjoint_run(first, run, stamps, col_ptr, row_idx)
            _solve_run(first, end, table, residual, sums, col_ptr, row_idx, col_values, weights, penalties)
            first = end
    squares = residual.astype(np.float64) ** 2
    error = float((squares * weights).sum() if len(weights) else squares.sum())
    return 0.5 * (error + float(np.diff(col_ptr) @ (table.astype(np.float64) ** 2 @ penalties)))


@parallel
def _fill_sums(sums: F32, table: F32, row_ptr: I64, col_idx: I32, values: F32) -> None:
    for r in prange(len(sums)):
        sums[r] = np.float32(0.0)
        for e in range(row_ptr[r], row_ptr[r + 1]):
            x = values[e] if len(values) > 0 else np.float32(1.0)
            for k in range(sums.shape[1]):
                sums[r, k] += x * table[col_idx[e], k]


@serial
def _shift_bias(bias: F64, residual: F32, weights: F32) -> None:
    total, error = 0.0, 0.0
    for r in range(len(residual)):
        c = float(weights[r]) if len(weights) > 0 else 1.0
        total += c
        error += c * residual[r]
    if total > 0.0:
        bias[0] += error / total
        residual -= np.float32(error / total)


@serial
def _disjoint_run(first: int, run: int, stamps: I32, col_ptr: I64, row_idx: I32) -> int:
    """Return the end of the run of columns from ``first`` on that share no row."""
    for j in range(first, len(col_ptr) - 1):
        rows = row_idx[col_ptr[j] : col_ptr[j + 1]]
        for i in range(len(rows)):
            if stamps[rows[i]] == run:
                return j
        for i in range(len(rows)):
            stamps[rows[i]] = run
    return len(col_ptr) - 1


@parallel
def _solve_run(
    first: int, end: int, table: F32, residual: F32, sums: F32, col_ptr: I64, row_idx: I32, col_values: F32,
    weights: F32, penalties: F64,
) -> None:  # fmt: skip
    for i in prange(end - first):
        column = slice(col_ptr[first + i], col_ptr[first + i + 1])
        if column.stop > column.start:
            x = col_values[column] if len(col_values) > 0 else np.ones(column.stop - column.start, np.float32)
            _solve(table[first + i], residual, sums, row_idx[column], x, weights, penalties)


@serial
def _solve(row: F32, residual: F32, sums: F32, rows: I32, x: F32, weights: F32, penalties: F64) -> None:
    """row += argmin of the ridge regression of the residual on z = x (sums - x v, 1)."""
    n = len(row)
    d = n - 1
    system, right, z = np.zeros((n, n)), np.zeros(n), np.ones(n)
    for i in range(len(rows)):
        r = rows[i]
        c = float(weights[r]) if len(weights) > 0 else 1.0
        for k in range(d):
            z[k] = x[i] * (sums[r, k] - x[i] * row[k])
        z[d] = x[i]
        for a in range(n):
            right[a] += c * z[a] * residual[r]
            for b in range(n):
                system[a, b] += c * z[a] * z[b]
    least = 1e-6 * np.trace(system) / n + 1e-12
    for k in range(n):
        system[k, k] += max(penalties[k] * len(rows), least)
        right[k] -= penalties[k] * len(rows) * row[k]
    change = np.linalg.solve(system, right).astype(np.float32)
    if not np.isfinite(change).all():
        return
    for i in range(len(rows)):
        r, moved = rows[i], change[d]
        for k in range(d):
            moved += (sums[r, k] - x[i] * row[k]) * change[k]
            sums[r, k] += x[i] * change[k]
        residual[r] -= x[i] * moved
    row += change
