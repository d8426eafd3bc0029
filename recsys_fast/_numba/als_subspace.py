"""Subspace solver of one row of an ALS sweep: blocks of columns in turn."""

from __future__ import annotations

import numpy as np

from recsys_fast._numba.als_tile import predict
from recsys_fast._numba.cholesky import solve_spd
from recsys_fast._numba.parallel import serial


@serial
def solve_subspace(x, y, ids, work, biased, n_passes, block_size, step):  # type: ignore[no-untyped-def]
    """Block coordinate descent (iALS++, Rendle et al. 2021): each block of columns exactly, given all the others.

    D has no entries between blocks, so a block's gradient is sum (t - c s) y_B - D_B x_B with s kept up to date.
    """
    n, d = len(ids), len(x)
    predict(work, y, ids, x, biased, step)
    for _ in range(n_passes):
        for first in range(0, d, block_size):
            width = min(block_size, d - first)
            a = work.system[: width * width].reshape(width, width)
            delta = work.vectors[0, :width]
            a[:] = 0.0
            for k in range(width):
                a[k, k] = work.diagonal[first + k]
                delta[k] = -work.diagonal[first + k] * x[first + k]
            for start in range(0, n, step):
                block_system(a, delta, y, ids, start, min(start + step, n), first, work, biased)
            solve_spd(a, delta, work.vectors[3], work.scaled, work.product)
            for k in range(width):
                x[first + k] += delta[k]
            for start in range(0, n, step):
                stop = min(start + step, n)
                tile = block_features(y, ids, start, stop, first, width, work, biased)
                np.dot(tile, delta, work.weighted[start:stop])
                for j in range(start, stop):
                    work.scores[j] += work.weighted[j]


@serial
def block_features(y, ids, start, stop, first, width, work, biased):  # type: ignore[no-untyped-def]
    """Return (stop - start, width): columns first.. of the entries' features, contiguous."""
    tile = work.scaled[: (stop - start) * width].reshape(stop - start, width)
    for j in range(start, stop):
        source = y[ids[j]]
        for k in range(width):
            tile[j - start, k] = source[first + k]
        if biased and first + width == len(source):
            tile[j - start, width - 1] = 1.0
    return tile


@serial
def block_system(a, delta, y, ids, start, stop, first, work, biased):  # type: ignore[no-untyped-def]
    """a += sum c y_B y_B^T, delta += sum (t - c s) y_B over entries start..stop."""
    n, width = stop - start, len(delta)
    tile = block_features(y, ids, start, stop, first, width, work, biased)
    scaled = work.tile[: n * width].reshape(n, width)
    product = work.product[: width * width].reshape(width, width)
    part = work.vectors[1, :width]
    for j in range(n):
        c = work.confidences[start + j]
        work.weighted[start + j] = work.linear[start + j] - c * work.scores[start + j]
        for k in range(width):
            scaled[j, k] = c * tile[j, k]
    np.dot(tile.T, scaled, product)
    np.dot(tile.T, work.weighted[start:stop], part)
    for i in range(width):
        delta[i] += part[i]
        for k in range(width):
            a[i, k] += product[i, k]
