"""Solvers of one row of an ALS sweep: conjugate gradients, and Cholesky on the system or on its dual.

All leave the solution in ``x`` and the scores s_j = x . y_j of the row's entries in ``work.scores``.
"""

from __future__ import annotations

import numpy as np

from recsys_fast._numba.als_tile import apply, features, gather, predict, right_side
from recsys_fast._numba.cholesky import solve_spd
from recsys_fast._numba.parallel import serial

_RESTING = 1e-13  # squared residual, relative to the right hand side, that float32 cannot improve


@serial
def solve_cg(x, y, ids, work, biased, n_steps, step):  # type: ignore[no-untyped-def]
    """Conjugate gradients preconditioned by D, from x as it stands. Takacs, Pilaszy, Tikk 2011."""
    d = len(x)
    residual, z, p, q = work.vectors[0, :d], work.vectors[1, :d], work.vectors[2, :d], work.vectors[3, :d]
    inverse = work.vectors[4, :d]
    right_side(residual, y, ids, work, biased, step)
    apply(q, y, ids, x, work, biased, step)
    work.scores[: len(ids)] = work.weighted[: len(ids)]
    for k in range(d):
        inverse[k] = 1.0 / work.diagonal[k] if work.diagonal[k] > 0.0 else 1.0
        z[k] = inverse[k] * residual[k]
    resting = _RESTING * np.dot(residual, z)
    for k in range(d):
        residual[k] -= q[k]
        z[k] = inverse[k] * residual[k]
        p[k] = z[k]
    rz = np.dot(residual, z)
    for _ in range(n_steps):
        if not rz > resting:
            break
        apply(q, y, ids, p, work, biased, step)
        curvature = np.dot(p, q)
        if not curvature > 0.0:
            break
        length = rz / curvature
        for k in range(d):
            x[k] += length * p[k]
            residual[k] -= length * q[k]
            z[k] = inverse[k] * residual[k]
        for j in range(len(ids)):
            work.scores[j] += length * work.weighted[j]
        before, rz = rz, np.dot(residual, z)
        momentum = rz / before
        for k in range(d):
            p[k] = z[k] + momentum * p[k]


@serial
def solve_primal(x, y, ids, work, biased, step):  # type: ignore[no-untyped-def]
    """Factor the d x d system, gathered tile by tile."""
    d = len(x)
    a = work.system[: d * d].reshape(d, d)
    product = work.product[: d * d].reshape(d, d)
    a[:] = 0.0
    for start in range(0, len(ids), step):
        stop = min(start + step, len(ids))
        tile = features(work, y, ids, start, stop, biased)
        scaled = work.scaled[: (stop - start) * d].reshape(stop - start, d)
        for j in range(stop - start):
            c = work.confidences[start + j]
            for k in range(d):
                scaled[j, k] = c * tile[j, k]
        np.dot(tile.T, scaled, product)
        for i in range(d):
            for k in range(d):
                a[i, k] += product[i, k]
    for k in range(d):
        a[k, k] += work.diagonal[k]
    right_side(x, y, ids, work, biased, step)
    solve_spd(a, x, work.vectors[3], work.scaled, work.product)
    predict(work, y, ids, x, biased, step)


@serial
def solve_dual(x, y, ids, work, biased):  # type: ignore[no-untyped-def]
    """x = D^-1/2 V^T (I + V V^T)^-1 h, V = sqrt(c) y D^-1/2, h = t / sqrt(c): an n x n system for a row of n < d."""
    n, d = len(ids), len(x)
    v = gather(work, y, ids, 0, n, biased)
    root, z, h = work.vectors[0, :d], work.vectors[1, :d], work.vectors[2, :n]
    for k in range(d):
        root[k] = 1.0 / np.sqrt(work.diagonal[k])
    for j in range(n):
        c = np.sqrt(work.confidences[j])
        h[j] = work.linear[j] / c
        for k in range(d):
            v[j, k] *= c * root[k]
    a = work.system[: n * n].reshape(n, n)
    np.dot(v, v.T, a)
    for j in range(n):
        a[j, j] += 1.0
    solve_spd(a, h, work.vectors[3], work.scaled, work.product)
    np.dot(v.T, h, z)
    np.dot(v, z, work.scores[:n])
    for j in range(n):
        work.scores[j] /= np.sqrt(work.confidences[j])
    for k in range(d):
        x[k] = root[k] * z[k]
