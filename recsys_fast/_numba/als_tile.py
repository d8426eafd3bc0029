"""One row's system in an ALS sweep: its features gathered into a tile, and products with it.

A row with entries j in items i_j, confidences c_j and linear terms t_j solves (D + sum c_j y_j y_j^T) x = sum t_j y_j,
where D is diagonal because y is in the eigenbasis of its Gram matrix.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.parallel import serial

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


class Work(NamedTuple):
    """Scratch space of one thread; sizes are of the widest row it meets."""

    tile: F32  # flat: gathered rows of y
    scaled: F32  # flat: the same, times confidences
    system: F32  # flat: the matrix to factor
    product: F32  # flat: one tile's contribution to it
    confidences: F32  # (longest row,)
    linear: F32  # (longest row,)
    scores: F32  # (longest row,)
    weighted: F32  # (longest row,)
    diagonal: F32  # (d,)
    vectors: F32  # (6, max(d, shorter rows)): what the solvers iterate on


@serial
def gather(work: Work, y: F32, ids: I32, start: int, stop: int, biased: bool) -> F32:
    """Return (stop - start, d): features of entries start..stop, copied into the tile.

    A row whose features all fit is copied once: then the tile holds entry j at row j.
    """
    d = y.shape[1]
    rows = work.tile[: (stop - start) * d].reshape(stop - start, d)
    for j in range(start, stop):
        i = ids[j]
        for k in range(d):
            rows[j - start, k] = y[i, k]
        if biased:
            rows[j - start, d - 1] = 1.0
    return rows


@serial
def features(work: Work, y: F32, ids: I32, start: int, stop: int, biased: bool) -> F32:
    """Return (stop - start, d): from the tile where the whole row is there, else gathered now."""
    d = y.shape[1]
    if len(ids) * d <= len(work.tile):
        return work.tile[start * d : stop * d].reshape(stop - start, d)
    return gather(work, y, ids, start, stop, biased)


@serial
def predict(work: Work, y: F32, ids: I32, x: F32, biased: bool, step: int) -> None:
    """scores = features x."""
    for start in range(0, len(ids), step):
        stop = min(start + step, len(ids))
        np.dot(features(work, y, ids, start, stop, biased), x, work.scores[start:stop])


@serial
def apply(out: F32, y: F32, ids: I32, x: F32, work: Work, residual: bool, biased: bool, step: int) -> None:
    """out = A x, or sum t y - A x for ``residual``, where A = D + sum c y y^T; weighted = features x. One gathering."""
    d = len(x)
    part, products = work.vectors[5, :d], work.weighted
    sign = np.float32(-1.0 if residual else 1.0)
    for k in range(d):
        out[k] = sign * work.diagonal[k] * x[k]
    for start in range(0, len(ids), step):
        stop = min(start + step, len(ids))
        tile = features(work, y, ids, start, stop, biased)
        np.dot(tile, x, products[start:stop])
        share = work.scaled[: stop - start]
        for j in range(stop - start):
            share[j] = sign * work.confidences[start + j] * products[start + j]
        if residual:
            for j in range(stop - start):
                share[j] += work.linear[start + j]
        np.dot(tile.T, share, part)
        for k in range(d):
            out[k] += part[k]
