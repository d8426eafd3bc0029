"""Counter-based random numbers: Philox4x32-10, the same bits as ``csrc/core/rng.h``.

Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011. There is no state: a draw is a
function of (seed, epoch, sample, k), so any thread may draw any sample and a checkpoint needs only counters.
All words live in uint64, because numba makes a float of uint64 with int64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from recsys_fast._numba.parallel import inputs, parallel, serial, threads

U64 = np.uint64
Int = int | np.integer[Any]
Block = tuple[np.uint64, np.uint64, np.uint64, np.uint64]

_MASK = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


@serial
def philox4x32(c0: U64, c1: U64, c2: U64, c3: U64, k0: U64, k1: U64) -> Block:
    """Return ten rounds over the counter's four 32-bit words with the key's two."""
    for _ in range(10):
        p0, p1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (p1 >> _32) ^ c1 ^ k0, p1 & _MASK, (p0 >> _32) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


@serial
def draw4(seed: Int, epoch: Int, sample: Int, block: Int) -> Block:
    """Return draws 4 * block to 4 * block + 3 of ``sample``; each is below 2^32."""
    s, key = np.uint64(sample), np.uint64(seed)
    return philox4x32(s & _MASK, s >> _32, np.uint64(epoch), np.uint64(block), key & _MASK, key >> _32)


@serial
def draw(seed: Int, epoch: Int, sample: Int, k: Int) -> np.uint32:
    """Return the k-th 32-bit draw of ``sample``."""
    return np.uint32(draw4(seed, epoch, sample, k // 4)[k % 4])


@serial
def to_range(bits: Int, n: Int) -> np.int64:
    """Map a draw to [0, n) for n < 2^31; the bias is below n / 2^32."""
    return np.int64((np.uint64(bits) * np.uint64(n)) >> _32)


@serial
def to_unit(high: Int, low: Int) -> float:
    """Map two draws to [0, 1) with 53 bits."""
    bits = (np.uint64(high) << _32 | np.uint64(low)) >> np.uint64(11)
    return float(bits) * 2.0**-53


@parallel
def _fill(out: NDArray[np.uint32], seed: Int, epoch: Int, first_sample: Int, k: Int) -> None:
    for i in prange(len(out)):
        out[i] = draw(seed, epoch, np.uint64(first_sample) + np.uint64(i), k)


def philox_draw(out: NDArray[np.uint32], seed: int, epoch: int, first_sample: int, k: int, n_threads: int) -> None:
    """out[i] = draw(seed, epoch, first_sample + i, k)."""
    with threads(n_threads):
        _fill(out, np.uint64(seed), epoch, np.uint64(first_sample), k)


@parallel
def _fill_rows(
    out: NDArray[np.uint32], samples: NDArray[np.int64], first: NDArray[np.uint32], seed: Int, epoch: Int
) -> None:
    for i in prange(len(out)):
        sample, j = np.uint64(samples[i]), 0
        while j < out.shape[1]:
            k = np.int64(first[i]) + j
            words = draw4(seed, epoch, sample, k // 4)
            for part in range(k % 4, min(4, k % 4 + out.shape[1] - j)):
                out[i, j] = words[part]
                j += 1


def philox_rows(
    out: NDArray[np.uint32],
    samples: NDArray[np.int64],
    first: NDArray[np.uint32],
    seed: int,
    epoch: int,
    n_threads: int,
) -> None:
    """out[i, j] = draw(seed, epoch, samples[i], first[i] + j)."""
    with threads(n_threads):
        samples, first = inputs(samples, first)
        _fill_rows(out, samples, first, np.uint64(seed), epoch)
