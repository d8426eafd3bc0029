"""Cholesky solution of one small symmetric positive definite system in float32."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.blas import add_outer, pack
from recsys_fast._numba.parallel import serial

F32 = NDArray[np.float32]

_PANEL = 32  # rows factored by plain loops before the trailing matrix is updated by products
_BREAKDOWN = 1e-7  # a pivot that lost all but this share of its diagonal is rounding noise


@serial
def solve_spd(a: F32, b: F32, kept: F32, panel: F32, product: F32) -> None:
    """b <- a^-1 b by Cholesky; a (n, n), of which only the upper triangle counts, is destroyed.

    A breakdown adds a growing share of the mean diagonal. Scratch: kept (n * n,) or more, panel (32 * n,) or more,
    product (64 * 64,).
    """
    n = len(b)
    original = kept[: n * n].reshape(n, n)
    original[:] = a
    mean = 1e-30
    for i in range(n):
        mean += abs(a[i, i]) / n
    shift = 1e-6 * mean
    done = factor(a, original, panel, product)
    while not done and shift < 1e6 * mean:
        a[:] = original
        for i in range(n):
            a[i, i] += shift
        shift *= 10.0
        done = factor(a, original, panel, product)
    if not done:
        b[:] = np.nan  # only overflow leads here; the loss tells
        return
    for k in range(n):
        b[k] /= a[k, k]
        value = b[k]
        for j in range(k + 1, n):
            b[j] -= value * a[k, j]
    for k in range(n - 1, -1, -1):
        b[k] = (b[k] - np.dot(a[k, k + 1 :], b[k + 1 :])) / a[k, k]


@serial
def factor(a: F32, original: F32, panel: F32, product: F32) -> bool:
    """a = u^T u, u into the upper triangle. False at a pivot that is noise beside the original diagonal."""
    n = len(a)
    for first in range(0, n, _PANEL):
        last = min(first + _PANEL, n)
        for k in range(first, last):
            if not a[k, k] > _BREAKDOWN * original[k, k]:
                return False
            inverse = np.float32(1.0) / np.sqrt(a[k, k])
            for j in range(k, n):
                a[k, j] *= inverse
            for i in range(k + 1, last):
                value = a[k, i]
                for j in range(i, n):
                    a[i, j] -= value * a[k, j]
        if last < n:
            pack(panel, a[first:last, last:])
            add_outer(a, last, panel, panel, last - first, -1.0, product)
    return True
