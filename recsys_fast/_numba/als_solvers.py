"""Solvers of one row of an ALS sweep: conjugate gradients, and Cholesky on the system or on its dual.

All leave the solution in ``x`` and the scores s_j = x . y_j of the row's entries in ``work.scores``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.als_tile import Work, apply, features, predict
from recsys_fast._numba.cholesky import solve_spd
from recsys_fast._numba.parallel import serial

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

_RESTING = 1e-13  # squared residual, relative to the energy x . A x, that float32 cannot improve


@serial
def solve_cg(x: F32, y: F32, ids: I32, work: Work, biased: bool, n_steps: int, step: int) -> None:
    """Conjugate gradients preconditioned by D, from x as it stands. Takacs, Pilaszy, Tikk 2011."""
    n, d = len(ids), len(x)
    residual, inverse, p, q = work.vectors[0], work.vectors[1], work.vectors[2], work.vectors[3]
    scores, products = work.scores, work.weighted
    apply(residual, y, ids, x, work, True, biased, step)
    inverse[:] = np.float32(1.0) / work.diagonal  # as arrays: float32, and no check per element
    scores[:n] = products[:n]
    rz, energy = np.float32(0.0), np.float32(0.0)
    for k in range(d):
        if not work.diagonal[k] > 0.0:
            inverse[k] = 1.0
    p[:] = inverse * residual
    rz = np.dot(residual, p)
    for j in range(n):
        energy += work.confidences[j] * scores[j] * scores[j]
    if not np.isfinite(rz):  # overflow; the loss tells
        x[:] = np.nan
    resting = np.float32(_RESTING) * (abs(energy) + rz)
    for _ in range(n_steps):
        if not rz > resting:
            break
        apply(q, y, ids, p, work, False, biased, step)
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
def solve_primal(x: F32, y: F32, ids: I32, work: Work, biased: bool, step: int) -> None:
    """Factor the d x d system, gathered tile by tile."""
    d = len(x)
    a = work.system[: d * d].reshape(d, d)
    product = work.product[: d * d].reshape(d, d)
    part = work.vectors[5]
    a[:] = 0.0
    x[:] = 0.0
    for start in range(0, len(ids), step):
        stop = min(start + step, len(ids))
        tile = features(work, y, ids, start, stop, biased)
        scaled = work.scaled[: (stop - start) * d].reshape(stop - start, d)
        for j in range(stop - start):
            c = work.confidences[start + j]
            for k in range(d):
                scaled[j, k] = c * tile[j, k]
        np.dot(tile.T, scaled, product)
        np.dot(tile.T, work.linear[start:stop], part)
        for i in range(d):
            x[i] += part[i]
            for k in range(d):
                a[i, k] += product[i, k]
    for k in range(d):
        a[k, k] += work.diagonal[k]
    solve_spd(a, x, work.vectors[3], work.scaled, work.product)
    predict(work, y, ids, x, biased, step)


@serial
def solve_dual(x: F32, scores: F32, tile: F32, linear: F32, diagonal: F32, work: Work) -> None:
    """x = D^-1/2 V^T (I + V V^T)^-1 h, V = sqrt(c) y D^-1/2, h = t / sqrt(c): an n x n system where n < d.

    tile ``(n, d)`` holds y and is overwritten by V; scores ``(n,)`` become y x.
    """
    n, d = tile.shape
    root, z = work.vectors[0, :d], work.vectors[1, :d]
    h, trust = work.vectors[2, :n], work.vectors[4, :n]
    root[:] = np.float32(1.0) / np.sqrt(diagonal)
    trust[:] = np.sqrt(work.confidences[:n])
    h[:] = linear / trust
    for j in range(n):
        for k in range(d):
            tile[j, k] *= trust[j] * root[k]
    a = work.system[: n * n].reshape(n, n)
    np.dot(tile, tile.T, a)
    for j in range(n):
        a[j, j] += 1.0
    solve_spd(a, h, work.vectors[3], work.scaled, work.product)
    np.dot(tile.T, h, z)
    np.dot(tile, z, scores)
    scores[:] = scores / trust
    x[:] = root * z
