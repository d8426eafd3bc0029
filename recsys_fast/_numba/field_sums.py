"""Sparse rows of features in fields: vectors by row and field, scores of a factorization machine, and gradients."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.parallel import inputs, serial
from recsys_fast._numba.pieces import cut_pieces, run_pieces

F = NDArray[Any]  # float32, or float64 to check gradients
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


@serial
def _forward(
    x: F, sums: F, score: F, row_ptr: I64, col_idx: I32, values: F, table: F, fields: I32, linear: bool, pairs: bool,
    begin: int, end: int,
) -> None:  # fmt: skip
    """Rows begin to end."""
    k = x.shape[2]
    for r in range(begin, end):
        x[r] = 0.0
        summed = sums[r] if len(sums) else np.zeros(k, table.dtype)
        summed[:] = 0.0
        total = table.dtype.type(0.0)
        squares = table.dtype.type(0.0)
        for e in range(row_ptr[r], row_ptr[r + 1]):
            j = col_idx[e]
            value = values[e] if len(values) else table.dtype.type(1.0)
            f = fields[j] if len(fields) else 0
            for c in range(k):
                part = value * table[j, c]
                x[r, f, c] += part
                summed[c] += part
                squares += part * part
            if linear:
                total += value * table[j, k]
        if pairs:
            products = table.dtype.type(0.0)
            for c in range(k):
                products += summed[c] * summed[c]
            total += table.dtype.type(0.5) * (products - squares)
        if linear:
            summed[k] = 1.0
        score[r] = total


@serial
def _backward(
    drows: F, features: I32, entry_ptr: I64, entries: I32, entry_rows: I32, values: F, dx: F, dscore: F, sums: F,
    table: F, fields: I32, linear: bool, pairs: bool, begin: int, end: int,
) -> None:  # fmt: skip
    """Features begin to end of the plan."""
    k = dx.shape[2]
    for t in range(begin, end):
        j = features[t]
        f = fields[j] if len(fields) else 0
        drow = drows[t]
        drow[:] = 0.0
        squares = table.dtype.type(0.0)
        for place in range(entry_ptr[t], entry_ptr[t + 1]):
            e = entries[place]
            r = entry_rows[e]
            value = values[e] if len(values) else table.dtype.type(1.0)
            slope = value * dscore[r]
            for c in range(k):
                drow[c] += value * dx[r, f, c]
                if pairs:
                    drow[c] += slope * sums[r, c]
            if pairs:
                squares += value * slope
            if linear:
                drow[k] += slope
        for c in range(k):
            drow[c] -= squares * table[j, c]


def field_sums_forward(
    x: F, sums: F, score: F, row_ptr: I64, col_idx: I32, values: F, table: F, fields: I32, n_fields: int, linear: bool,
    pairs: bool, n_threads: int,
) -> None:  # fmt: skip
    """x[r, f] = sum over row r's entries of field f of value v_j; sums[r] = sum of all, then a 1 where there are
    weights; score[r] = sum value w_j (linear) + the sum of v_i . v_j value_i value_j over pairs (pairs). Overwrites.
    """
    row_ptr, col_idx, values, table, fields = inputs(row_ptr, col_idx, values, table, fields)
    n, k = len(row_ptr) - 1, table.shape[1] - bool(linear)
    given = x.reshape(n, n_fields, k), sums, score, row_ptr, col_idx, values, table, fields, bool(linear), bool(pairs)
    run_pieces(cut_pieces(n), n_threads, lambda: partial(_forward, *given))


def field_sums_backward(
    drows: F, features: I32, entry_ptr: I64, entries: I32, entry_rows: I32, values: F, dx: F, dscore: F, sums: F,
    table: F, fields: I32, n_fields: int, linear: bool, pairs: bool, n_threads: int,
) -> None:  # fmt: skip
    """drows[t] = gradient of row features[t] of the table, summed over its entries in their order. Overwrites."""
    features, entry_ptr, entries, entry_rows = inputs(features, entry_ptr, entries, entry_rows)
    values, dx, dscore, sums, table, fields = inputs(values, dx, dscore, sums, table, fields)
    slots = dx.reshape(len(dscore), n_fields, table.shape[1] - bool(linear))
    given = drows, features, entry_ptr, entries, entry_rows, values, slots, dscore, sums, table, fields
    run_pieces(cut_pieces(len(features)), n_threads, lambda: partial(_backward, *given, bool(linear), bool(pairs)))
