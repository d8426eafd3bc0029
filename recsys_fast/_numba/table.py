"""Gradients of an embedding table by its rows: which rows a batch touches, and the sums over what touches them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from recsys_fast._numba.parallel import inputs, parallel, serial, threads
from recsys_fast._numba.rng import Int

F = NDArray[Any]  # float32, or float64 to check gradients
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_SPARSE = 16  # a table of more rows than this times the ids is not counted over


@serial
def _counted_order(ids: I32, n_table: int) -> I64:
    """Return the indices of the ids that are not negative, by id and then by index."""
    start = np.zeros(n_table + 1, np.int64)
    for row in ids:
        if row >= 0:
            start[row + 1] += 1
    for row in range(n_table):
        start[row + 1] += start[row]
    order = np.empty(start[-1], np.int64)
    for e in range(len(ids)):
        if ids[e] >= 0:
            order[start[ids[e]]] = e
            start[ids[e]] += 1
    return order


@serial
def _plan(rows: I32, entry_ptr: I64, entries: I32, ids: I32, order: I64) -> int:
    n_rows = 0
    for place in range(len(order)):
        row = ids[order[place]]
        if n_rows == 0 or rows[n_rows - 1] != row:
            rows[n_rows] = row
            entry_ptr[n_rows] = place
            n_rows += 1
        entries[place] = order[place]
    entry_ptr[n_rows] = len(order)
    return n_rows


def id_plan(rows: I32, entry_ptr: I64, entries: I32, ids: I32, n_table: int, n_threads: int) -> int:
    """rows = distinct ids, ascending; entries[entry_ptr[r] .. entry_ptr[r + 1]) = where rows[r] occurs, ascending.

    Negative ids are left out. Returns the number of rows; what lies behind it in ``rows`` and ``entry_ptr`` is garbage.
    """
    (ids,) = inputs(ids)
    if n_table <= _SPARSE * len(ids):
        order = _counted_order(ids, n_table)
    else:
        order = np.argsort(ids, kind="stable")
        order = order[np.count_nonzero(ids < 0) :]
    return int(_plan(rows, entry_ptr, entries, ids, order))


@serial
def _add_entry(  # type: ignore[no-untyped-def]
    drow: F, e: Int, dx: F, dcand: F, dcand_bias: F, coef: F, h: F, width: int
):
    """drow += the gradient row of entry e; return its gradient of the bias."""
    d = len(drow)
    none = drow.dtype.type(0.0)
    if e < len(dx):
        for c in range(d):
            drow[c] += dx[e, c]
        return none
    e -= len(dx)
    if e < len(dcand):
        for c in range(d):
            drow[c] += dcand[e, c]
        return dcand_bias[e] if len(dcand_bias) else none
    e -= len(dcand)
    factor, row = coef[e], e // width
    for c in range(d):
        drow[c] += factor * h[row, c]
    return factor


@parallel
def _gradient(
    drows: F, dbias: F, entry_ptr: I64, entries: I32, dx: F, dcand: F, dcand_bias: F, coef: F, h: F, width: int
) -> None:
    for r in prange(len(drows)):
        drow = drows[r]
        drow[:] = 0.0
        bias = drows.dtype.type(0.0)
        for place in range(entry_ptr[r], entry_ptr[r + 1]):
            bias += _add_entry(drow, entries[place], dx, dcand, dcand_bias, coef, h, width)
        if len(dbias):
            dbias[r] = bias


def table_gradient(
    drows: F, dbias: F, entry_ptr: I64, entries: I32, dx: F, dcand: F, dcand_bias: F, coef: F, h: F, width: int,
    n_threads: int,
) -> None:  # fmt: skip
    """drows[r] = sum over row r's entries, in their order: dx[e], then dcand[e'], then coef[e"] h[e" // width].

    dbias[r] = sum of the entries' dcand_bias and coef. Overwrites.
    """
    entry_ptr, entries, dx, dcand, dcand_bias, coef, h = inputs(entry_ptr, entries, dx, dcand, dcand_bias, coef, h)
    with threads(n_threads):
        _gradient(drows, dbias, entry_ptr, entries, dx, dcand, dcand_bias, coef, h, width)


@parallel
def _add(
    dtable: F, dbias: F, ids: I32, dx: F, dcand: F, dcand_bias: F, coef: F, h: F, width: int, n_parts: int
) -> None:
    for part in prange(n_parts):
        for e in range(len(ids)):
            if ids[e] >= 0 and ids[e] % n_parts == part:
                bias = _add_entry(dtable[ids[e]], e, dx, dcand, dcand_bias, coef, h, width)
                if len(dbias):
                    dbias[ids[e]] += bias


def table_add(
    dtable: F, dbias: F, ids: I32, dx: F, dcand: F, dcand_bias: F, coef: F, h: F, width: int, n_threads: int
) -> None:
    """dtable[ids[e]] += entry e, in the order of the entries, numbered as in ``table_gradient``; accumulates.

    Each thread goes through all ids and adds those of its share of the rows. Negative ids are left out.
    """
    ids, dx, dcand, dcand_bias, coef, h = inputs(ids, dx, dcand, dcand_bias, coef, h)
    with threads(n_threads):
        _add(dtable, dbias, ids, dx, dcand, dcand_bias, coef, h, width, n_threads)
