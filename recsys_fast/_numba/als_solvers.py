"""Solvers of one row of an ALS sweep: conjugate gradients, and Cholesky on the system or on its dual.

All leave the solution in ``x`` and the scores s_j = x . y_j of the row's entries in ``work.scores``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.als_tile import Work, add_entries, apply, features, predict
from recsys_fast._numba.blas import BLOCK, add_outer, pack, times, times_back
from recsys_fast._numba.cholesky import solve_spd
from recsys_fast._numba.parallel import serial

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

_RESTING = 1e-13  # squared residual, relative to the energy x . A x, that float32 cannot improve


@serial
def solve_cg(x: F32, y: F32, ids: I32, work: Work, biased: bool, n_steps: int) -> None:
    """Conjugate gradients preconditioned by D, from x as it stands. Takacs, Pilaszy, Tikk 2011."""
    n, d = len(ids), len(x)
    residual, inverse, p, q = work.vectors[0], work.vectors[1], work.vectors[2], work.vectors[3]
    scores, products, shares, part = work.scores, work.weighted, work.left, work.vectors[5]
    tile, diagonal, c, t = work.tile, work.diagonal, work.confidences, work.linear
    apply(residual, products, x, tile, y, ids, diagonal, c, t, True, biased, shares, part)
    inverse[:] = np.float32(1.0) / diagonal  # as arrays: float32, and no check per element
    scores[:n] = products[:n]
    rz, energy = np.float32(0.0), np.float32(0.0)
    for k in range(d):
        if not diagonal[k] > 0.0:
            inverse[k] = 1.0
    p[:] = inverse * residual
    rz = np.dot(residual, p)
    for j in range(n):
        energy += c[j] * scores[j] * scores[j]
    if not np.isfinite(rz):  # overflow; the loss tells
        x[:] = np.nan
    resting = np.float32(_RESTING) * (abs(energy) + rz)
    for _ in range(n_steps):
        if not rz > resting:
            break
        apply(q, products, p, tile, y, ids, diagonal, c, t, False, biased, shares, part)
        curvature = np.dot(p, q)
        if not curvature > 0.0:
            break
        length = rz / curvature
        for k in range(d):
            x[k] += length * p[k]
            residual[k] -= length * q[k]
            q[k] = inverse[k] * residual[k]
        for j in range(n):
            scores[j] += length * products[j]
        before, rz = rz, np.dot(residual, q)
        momentum = rz / before
        for k in range(d):
            p[k] = q[k] + momentum * p[k]


@serial
def solve_primal(x: F32, y: F32, ids: I32, work: Work, biased: bool) -> None:
    """Factor the d x d system, gathered tile by tile."""
    n, d = len(ids), len(x)
    a = work.system[: d * d].reshape(d, d)
    a[:] = 0.0
    x[:] = 0.0
    for start in range(0, n, BLOCK):
        tile = features(work.tile, y, ids, start, min(start + BLOCK, n), biased)
        add_entries(a, x, tile, start, work.linear, work)
    for k in range(d):
        a[k, k] += work.diagonal[k]
    solve_spd(a, x, work.kept, work.left, work.product)
    predict(work.scores, work.tile, y, ids, x, biased)


@serial
def solve_dual(x: F32, scores: F32, tile: F32, linear: F32, diagonal: F32, work: Work) -> None:
    """x = D^-1/2 V^T (I + V V^T)^-1 h, V = sqrt(c) y D^-1/2, h = t / sqrt(c): an n x n system where n < d.

    tile ``(n, d)`` holds y and is overwritten by V; scores ``(n,)`` become y x.
    """
    n, d = tile.shape
    root, z, part = work.vectors[0, :d], work.vectors[1, :d], work.vectors[3, :d]
    h, trust = work.vectors[2, :n], work.vectors[4, :n]
    root[:] = np.float32(1.0) / np.sqrt(diagonal)
    trust[:] = np.sqrt(work.confidences[:n])
    h[:] = linear / trust
    for j in range(n):
        for k in range(d):
            tile[j, k] *= trust[j] * root[k]
    a = work.system[: n * n].reshape(n, n)
    a[:] = 0.0
    for first in range(0, d, BLOCK):
        rows = min(BLOCK, d - first)
        pack(work.left, tile[:, first : first + rows].T)
        add_outer(a, 0, work.left, work.left, rows, 1.0, work.product)
    for j in range(n):
        a[j, j] += 1.0
    solve_spd(a, h, work.kept, work.left, work.product)
    times_back(z, tile, h, part)
    times(scores, tile, z)
    scores[:] = scores / trust
    x[:] = root * z
