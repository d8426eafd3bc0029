"""Reparametrised normal samples and their divergence from N(0, 1); any floating dtype.

The same random numbers as ``csrc/cpu/gaussian.cc``, where the scheme is described. Small beside the layers around it:
one thread.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.parallel import inputs, serial
from recsys_fast._numba.rng import Int, draw4

Array = NDArray[Any]

_UNIT = 2.0**-32


@serial
def _noise_row(noise: NDArray[np.float64], seed: Int, step: Int, site: Int, row: int) -> None:
    """Box & Muller 1958."""
    k = len(noise)
    for first in range(0, k, 4):
        words = draw4(seed, step, np.uint64(site) << np.uint64(32) | np.uint64(row), first // 4)
        for c in range(first, min(k, first + 4)):
            pair = (c - first) // 2 * 2
            radius = np.sqrt(-2.0 * np.log(1.0 - float(words[pair]) * _UNIT))
            angle = 6.283185307179586 * (float(words[pair + 1]) * _UNIT)
            noise[c] = radius * (np.cos(angle) if c % 2 == 0 else np.sin(angle))


@serial
def _forward(z: Array, stats: Array, noisy: bool, seed: Int, step: Int, site: Int) -> float:
    n, k = z.shape
    noise, total = np.zeros(k), 0.0
    for t in range(n):
        if noisy:
            _noise_row(noise, seed, step, site, t)
        divergence = 0.0
        for c in range(k):
            mu, v = float(stats[t, c]), float(stats[t, k + c])
            divergence += np.exp(v) + mu * mu - 1.0 - v
            z[t, c] = mu + np.exp(0.5 * v) * noise[c] if noisy else mu
        total += 0.5 * divergence
    return total


@serial
def _backward(
    dstats: Array, dz: Array, stats: Array, kl_weight: float, noisy: bool, seed: Int, step: Int, site: Int
) -> None:
    n, k = dz.shape
    noise = np.zeros(k)
    for t in range(n):
        if noisy:
            _noise_row(noise, seed, step, site, t)
        for c in range(k):
            mu, v = float(stats[t, c]), float(stats[t, k + c])
            dstats[t, c] = dz[t, c] + kl_weight * mu
            dstats[t, k + c] = 0.5 * (dz[t, c] * np.exp(0.5 * v) * noise[c] + kl_weight * np.expm1(v))


def gaussian_forward(z: Array, stats: Array, noise: bool, seed: int, step: int, site: int, n_threads: int) -> float:
    """z = mu + e^(v / 2) noise for stats = [mu | v]; returns the divergence; see ``recsys_fast.ops``."""
    (stats,) = inputs(stats)
    return float(_forward(z, stats, bool(noise), np.uint64(seed), step, site))


def gaussian_backward(
    dstats: Array,
    dz: Array,
    stats: Array,
    kl_weight: float,
    noise: bool,
    seed: int,
    step: int,
    site: int,
    n_threads: int,
) -> None:
    """Gradients of ``gaussian_forward``; see ``recsys_fast.ops.gaussian_backward``."""
    dz, stats = inputs(dz, stats)
    _backward(dstats, dz, stats, float(kl_weight), bool(noise), np.uint64(seed), step, site)
