"""Cholesky solution of one small symmetric positive definite system in float32."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.parallel import serial

F32 = NDArray[np.float32]

PANEL = 32  # rows factored by plain loops before the trailing matrix is updated by one product
_BREAKDOWN = 1e-7  # a pivot that lost all but this share of its diagonal is rounding noise


@serial
def solve_spd(a: F32, b: F32, original: F32, panels: F32, product: F32) -> None:
    """b <- a^-1 b by Cholesky; a (n, n) is destroyed. A breakdown adds a growing share of the mean diagonal.

    Scratch: original (n,) or more, panels (PANEL * n,) or more, product (n * n,) or more.
    """
    n = len(b)
    mean = 1e-30
    for i in range(n):
        original[i] = a[i, i]
        mean += abs(a[i, i]) / n
    shift = 1e-6 * mean
    done = factor(a, original, panels, product)
    while not done and shift < 1e6 * mean:
        for i in range(n):
            for j in range(i):
                a[j, i] = a[i, j]  # the lower triangle still holds the system
            original[i] += shift
            a[i, i] = original[i]
        shift *= 10.0
        done = factor(a, original, panels, product)
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
def factor(a: F32, original: F32, panels: F32, product: F32) -> bool:
    """a = u^T u, u into the upper triangle; the lower one is left as it was. False at a pivot that is noise."""
    n = len(a)
    for first in range(0, n, PANEL):
        last = min(first + PANEL, n)
        for k in range(first, last):
            if not a[k, k] > _BREAKDOWN * original[k]:
                return False
            inverse = np.float32(1.0) / np.sqrt(a[k, k])
            for j in range(k, n):
                a[k, j] *= inverse
            for i in range(k + 1, last):
                value = a[k, i]
                for j in range(i, n):
                    a[i, j] -= value * a[k, j]
        rest = n - last
        if rest > 0:
            panel = panels[: (last - first) * rest].reshape(last - first, rest)
            panel[:] = a[first:last, last:]
            update = product[: rest * rest].reshape(rest, rest)
            np.dot(panel.T, panel, update)
            for i in range(rest):
                for j in range(i, rest):
                    a[last + i, last + j] -= update[i, j]
    return True
