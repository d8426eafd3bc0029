"""Subspace solver of one row of an ALS sweep: blocks of columns in turn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.als_tile import Work, add_entries, gather, predict
from recsys_fast._numba.blas import BLOCK, times
from recsys_fast._numba.cholesky import solve_spd
from recsys_fast._numba.parallel import serial

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


@serial
def solve_subspace(x: F32, y: F32, ids: I32, work: Work, biased: bool, n_passes: int, block_size: int) -> None:
    """Block coordinate descent (iALS++, Rendle et al. 2021): each block of columns exactly, given all the others.

    D has no entries between blocks, so a block of others' columns enters only through the scores s, kept up to date.
    """
    d = len(x)
    for _ in range(n_passes):
        if len(ids) * d <= len(work.tile):
            gather(work.tile, y, ids, 0, len(ids), biased)
        predict(work.scores, work.tile, y, ids, x, biased)  # anew in every pass, so that rounding does not add up
        for first in range(0, d, block_size):
            _solve_block(x[first : min(first + block_size, d)], y, ids, first, work, biased)


@serial
def _block_features(y: F32, ids: I32, start: int, stop: int, first: int, width: int, work: Work, biased: bool) -> F32:
    """Return (stop - start, width): columns first.. of the entries' features, contiguous."""
    tile = work.tile[: (stop - start) * width].reshape(stop - start, width)
    for j in range(start, stop):
        i = ids[j]
        for k in range(width):
            tile[j - start, k] = y[i, first + k]
        if biased and first + width == y.shape[1]:
            tile[j - start, width - 1] = 1.0
    return tile


@serial
def _solve_block(block: F32, y: F32, ids: I32, first: int, work: Work, biased: bool) -> None:
    """Solve for the block's change: (D_B + sum c y_B y_B^T) delta = sum (t - c s) y_B - D_B x_B."""
    n, width = len(ids), len(block)
    a = work.system[: width * width].reshape(width, width)
    delta = work.vectors[0, :width]
    a[:] = 0.0
    delta[:] = 0.0
    for j in range(n):
        work.weighted[j] = work.linear[j] - work.confidences[j] * work.scores[j]
    for start in range(0, n, BLOCK):
        tile = _block_features(y, ids, start, min(start + BLOCK, n), first, width, work, biased)
        add_entries(a, delta, tile, start, work.weighted, work)
    for k in range(width):
        a[k, k] += work.diagonal[first + k]
        delta[k] -= work.diagonal[first + k] * block[k]
    solve_spd(a, delta, work.kept, work.left, work.product)
    for k in range(width):
        block[k] += delta[k]
    for start in range(0, n, BLOCK):
        stop = min(start + BLOCK, n)
        tile = _block_features(y, ids, start, stop, first, width, work, biased)
        times(work.weighted[start:stop], tile, delta)
        for j in range(start, stop):
            work.scores[j] += work.weighted[j]
