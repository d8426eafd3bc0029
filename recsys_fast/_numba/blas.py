"""Dense products in pieces so small that BLAS runs each on the calling thread.

OpenBLAS hands larger products to threads of its own, which fight with ours for the cores (tenfold slower where the
machine is busy), and makes the last bits depend on their number.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.parallel import serial

F32 = NDArray[np.float32]

BLOCK = 64  # side of the blocks of matrix products: 64^3 is the most that OpenBLAS keeps on one thread
BLOCK_WORK = BLOCK**3
VECTOR_FLOATS = 9216  # and this is the largest matrix whose product with a vector it does


@serial
def vector_rows(d: int) -> int:
    """Return how many rows of width d are multiplied by a vector at once."""
    return max(1, VECTOR_FLOATS // d)


@serial
def times(out: F32, a: F32, x: F32) -> None:
    """out = a x for a (n, d), contiguous; overwrites."""
    n = len(a)
    step = vector_rows(len(x))
    for start in range(0, n, step):
        stop = min(start + step, n)
        np.dot(a[start:stop], x, out[start:stop])


@serial
def times_back(out: F32, a: F32, w: F32, part: F32) -> None:
    """out = a^T w for a (n, d), contiguous; overwrites. Scratch: part (d,)."""
    n = len(a)
    step = vector_rows(len(out))
    out[:] = 0.0
    for start in range(0, n, step):
        stop = min(start + step, n)
        np.dot(a[start:stop].T, w[start:stop], part)
        for k in range(len(out)):
            out[k] += part[k]


@serial
def pack(packed: F32, rows: F32) -> None:
    """packed = columns of rows (n, d) in blocks of 64, block after block, each (n, 64) or the rest."""
    n, d = rows.shape
    for first in range(0, d, BLOCK):
        width = min(BLOCK, d - first)
        for j in range(n):
            place = n * first + j * width
            for k in range(width):
                packed[place + k] = rows[j, first + k]


@serial
def pack_scaled(packed: F32, rows: F32, scale: F32) -> None:
    """``pack`` of diag(scale) rows."""
    n, d = rows.shape
    for first in range(0, d, BLOCK):
        width = min(BLOCK, d - first)
        for j in range(n):
            place = n * first + j * width
            for k in range(width):
                packed[place + k] = scale[j] * rows[j, first + k]


@serial
def add_outer(a, first: int, left: F32, right: F32, n: int, sign: float, product: F32) -> None:  # type: ignore[no-untyped-def]
    """a[first:, first:] += sign left^T right, on and above the diagonal (by blocks); a is float32 or float64.

    left and right are packed, n <= 64 rows each. Scratch: product (64 * 64,).
    """
    d = len(a) - first
    factor = np.float32(sign)
    for i in range(0, d, BLOCK):
        height = min(BLOCK, d - i)
        up = left[n * i : n * (i + height)].reshape(n, height).T
        for j in range(i, d, BLOCK):
            width = min(BLOCK, d - j)
            block = product[: height * width].reshape(height, width)
            np.dot(up, right[n * j : n * (j + width)].reshape(n, width), block)
            for r in range(height):
                for k in range(width):
                    a[first + i + r, first + j + k] += factor * block[r, k]
