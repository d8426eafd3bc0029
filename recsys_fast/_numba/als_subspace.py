"""Subspace solver of one row of an ALS sweep: blocks of columns in turn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.als_solvers import solve_dual
from recsys_fast._numba.als_tile import Work, gather, predict
from recsys_fast._numba.cholesky import solve_spd
from recsys_fast._numba.parallel import serial

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


@serial
def solve_subspace(
    x: F32, y: F32, ids: I32, work: Work, biased: bool, n_passes: int, block_size: int, dual: bool, step: int,
) -> None:  # fmt: skip
    """Block coordinate descent (iALS++, Rendle et al. 2021): each block of columns exactly, given all the others.

    D has no entries between blocks, so a block of others' columns enters only through the scores s, kept up to date.
    ``dual``: a row shorter than the block solves the block's dual.
    """
    d = len(x)
    for _ in range(n_passes):
        if len(ids) * d <= len(work.tile):
            gather(work, y, ids, 0, len(ids), biased)
        predict(work, y, ids, x, biased, step)  # anew in every pass, so that rounding does not add up
        for first in range(0, d, block_size):
            block = x[first : min(first + block_size, d)]
            if dual and len(ids) < len(block):
                _block_dual(block, y, ids, first, work, biased)
            else:
                _block_primal(block, y, ids, first, work, biased, step)


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
def _block_dual(block: F32, y: F32, ids: I32, first: int, work: Work, biased: bool) -> None:
    """Solve for the block's new value itself, with the scores that all other columns make taken off the targets."""
    n, width = len(ids), len(block)
    tile = _block_features(y, ids, 0, n, first, width, work, biased)
    own, linear = work.weighted[:n], work.vectors[5, :n]
    np.dot(tile, block, own)
    for j in range(n):
        work.scores[j] -= own[j]
        linear[j] = work.linear[j] - work.confidences[j] * work.scores[j]
    solve_dual(block, own, tile, linear, work.diagonal[first : first + width], work)
    for j in range(n):
        work.scores[j] += own[j]


@serial
def _block_primal(block: F32, y: F32, ids: I32, first: int, work: Work, biased: bool, step: int) -> None:
    """Solve for the block's change: (D_B + sum c y_B y_B^T) delta = sum (t - c s) y_B - D_B x_B."""
    n, width = len(ids), len(block)
    a = work.system[: width * width].reshape(width, width)
    product = work.product[: width * width].reshape(width, width)
    delta, part = work.vectors[0, :width], work.vectors[1, :width]
    a[:] = 0.0
    delta[:] = 0.0
    for start in range(0, n, step):
        stop = min(start + step, n)
        tile = _block_features(y, ids, start, stop, first, width, work, biased)
        scaled = work.scaled[: (stop - start) * width].reshape(stop - start, width)
        for j in range(stop - start):
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
    for k in range(width):
        a[k, k] += work.diagonal[first + k]
        delta[k] -= work.diagonal[first + k] * block[k]
    solve_spd(a, delta, work.vectors[3], work.scaled, work.product)
    for k in range(width):
        block[k] += delta[k]
    for start in range(0, n, step):
        stop = min(start + step, n)
        tile = _block_features(y, ids, start, stop, first, width, work, biased)
        np.dot(tile, delta, work.weighted[start:stop])
        for j in range(start, stop):
            work.scores[j] += work.weighted[j]
