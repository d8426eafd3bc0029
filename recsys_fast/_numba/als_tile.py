"""One row's system in an ALS sweep: its features gathered into a tile, and products with it.

A row with entries j in items i_j, confidences c_j and linear terms t_j solves (D + sum c_j y_j y_j^T) x = sum t_j y_j,
where D is diagonal because y is in the eigenbasis of its Gram matrix.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.blas import add_outer, pack, pack_scaled, vector_rows
from recsys_fast._numba.parallel import serial

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


class Work(NamedTuple):
    """Scratch space of one thread; sizes are of the widest row it meets."""

    tile: F32  # flat: gathered rows of y
    left: F32  # flat: 64 packed rows
    right: F32  # flat: the same, times confidences
    product: F32  # flat: one 64 x 64 block of their product
    system: F32  # flat: the matrix to factor
    kept: F32  # flat: a copy of it, for when that fails
    confidences: F32  # (longest row,)
    linear: F32  # (longest row,)
    scores: F32  # (longest row,)
    weighted: F32  # (longest row,)
    diagonal: F32  # (d,)
    vectors: F32  # (6, d): what the solvers iterate on


# The functions that run for every row and step take arrays one by one: handing over all of Work costs a tenth of a
# microsecond each time, as much as the products for a short row.


@serial
def gather(tile: F32, y: F32, ids: I32, start: int, stop: int, biased: bool) -> F32:
    """Return (stop - start, d): features of entries start..stop, copied into the tile.

    A row whose features all fit is copied once: then the tile holds entry j at row j.
    """
    d = y.shape[1]
    rows = tile[: (stop - start) * d].reshape(stop - start, d)
    for j in range(start, stop):
        i = ids[j]
        for k in range(d):
            rows[j - start, k] = y[i, k]
        if biased:
            rows[j - start, d - 1] = 1.0
    return rows


@serial
def features(tile: F32, y: F32, ids: I32, start: int, stop: int, biased: bool) -> F32:
    """Return (stop - start, d): from the tile where the whole row is there, else gathered now."""
    d = y.shape[1]
    if len(ids) * d <= len(tile):
        return tile[start * d : stop * d].reshape(stop - start, d)
    return gather(tile, y, ids, start, stop, biased)


@serial
def predict(scores: F32, tile: F32, y: F32, ids: I32, x: F32, biased: bool) -> None:
    """scores = features x."""
    step = vector_rows(len(x))
    for start in range(0, len(ids), step):
        stop = min(start + step, len(ids))
        np.dot(features(tile, y, ids, start, stop, biased), x, scores[start:stop])


@serial
def apply(
    out: F32, products: F32, x: F32, tile: F32, y: F32, ids: I32, diagonal: F32, confidences: F32, linear: F32,
    residual: bool, biased: bool, shares: F32, part: F32,
) -> None:  # fmt: skip
    """out = A x, or sum t y - A x for ``residual``, where A = D + sum c y y^T; products = features x. One gathering.

    Scratch: shares (entries of one step), part (d,).
    """
    d = len(x)
    step = vector_rows(d)
    sign = np.float32(-1.0 if residual else 1.0)
    for k in range(d):
        out[k] = sign * diagonal[k] * x[k]
    for start in range(0, len(ids), step):
        stop = min(start + step, len(ids))
        rows = features(tile, y, ids, start, stop, biased)
        np.dot(rows, x, products[start:stop])
        share = shares[: stop - start]
        for j in range(stop - start):
            share[j] = sign * confidences[start + j] * products[start + j]
        if residual:
            for j in range(stop - start):
                share[j] += linear[start + j]
        np.dot(rows.T, share, part)
        for k in range(d):
            out[k] += part[k]


@serial
def add_entries(a: F32, right_side: F32, tile: F32, start: int, linear: F32, work: Work) -> None:
    """a += sum c f f^T (on and above the diagonal), right_side += sum linear f over 64 entries f from ``start`` on."""
    n = len(tile)
    part = work.vectors[5, : len(right_side)]
    pack(work.left, tile)
    pack_scaled(work.right, tile, work.confidences[start : start + n])
    add_outer(a, 0, work.left, work.right, n, 1.0, work.product)
    step = vector_rows(len(right_side))
    for first in range(0, n, step):
        last = min(first + step, n)
        np.dot(tile[first:last].T, linear[start + first : start + last], part)
        for k in range(len(right_side)):
            right_side[k] += part[k]
