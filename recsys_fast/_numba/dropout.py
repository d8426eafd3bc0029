"""Dropout masks from a counter, the same bits as ``csrc/core/dropout.h``, where the scheme is described."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.parallel import serial
from recsys_fast._numba.rng import Int, draw4

_MASK = np.uint64(0xFFFFFFFF)

# factor, offset, threshold as uint64 (numba makes floats of mixed integers), and the scale of what is kept
Drop = tuple[np.uint64, np.uint64, np.uint64, float]


@serial
def dropout_key(rate: float, seed: Int, step: Int, site: Int) -> Drop:
    """Return the masks of one place (``site``) in a network in one step; rate in [0, 1), a float32 as in C++."""
    threshold = np.int64(np.rint(np.float64(np.float32(rate)) * 65536.0))
    if threshold > 65535:
        threshold = np.int64(65535)
    words = draw4(seed, step, site, 0)
    return words[0] | np.uint64(1), words[1], np.uint64(threshold), 65536.0 / (65536.0 - threshold)


@serial
def dropout_at(drop: Drop, row: Int, column: Int, n_columns: Int) -> float:
    """Return 0 or the scale for an element of a row of ``n_columns``."""
    n_groups = (n_columns + 31) // 32
    counter = np.uint64((row * n_groups + column // 32) * 16 + column % 16) & _MASK
    x = (counter * drop[0] + drop[1]) & _MASK
    x = ((x ^ (x >> np.uint64(16))) * np.uint64(0x7FEB352D)) & _MASK
    x = ((x ^ (x >> np.uint64(15))) * np.uint64(0x846CA68B)) & _MASK
    x ^= x >> np.uint64(16)
    bits = x & np.uint64(0xFFFF) if column % 32 < 16 else x >> np.uint64(16)
    return 0.0 if bits < drop[2] else drop[3]


@serial
def dropout_rows(x: NDArray[Any], drop: Drop, first_row: int) -> None:
    """Multiply row r of x by the mask of row ``first_row + r``; in place."""
    if drop[2] == 0:
        return
    n, n_columns = x.shape
    for r in range(n):
        for c in range(n_columns):
            x[r, c] *= x.dtype.type(dropout_at(drop, first_row + r, c, n_columns))  # rounded as in C++
