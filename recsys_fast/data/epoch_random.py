"""Random orders and words of an epoch: functions of (seed, epoch) alone, the same on every backend and NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast import ops

_STREAM = 1 << 31  # number of the first draw: negatives and masks of the same seed and epoch start from 0


class EpochRandom:
    """The random words of one epoch (Philox, ``ops.philox_rows``).

    Args:
        seed: 0 to 2^64 - 1.
        epoch: 0 to 2^32 - 1.
        device: backend; all give the same words.
        n_threads: number of threads.
    """

    def __init__(self, seed: int, epoch: int, device: str = "auto", n_threads: int | None = None) -> None:
        self._how: dict[str, Any] = {"seed": seed, "epoch": epoch, "device": device, "n_threads": n_threads}

    def words(self, n: int, purpose: int) -> NDArray[np.uint32]:
        """Return n words, each equally likely; another ``purpose`` (0, 1, ...) has other words."""
        blocks = np.arange((n + 3) // 4, dtype=np.int64)
        return ops.philox_rows(blocks, 4, first=_STREAM + 4 * purpose, **self._how).reshape(-1)[:n]

    def order(self, n: int, purpose: int = 0) -> NDArray[np.int64]:
        """Return 0 .. n - 1 in random order: sorted by their words, equal words by number."""
        if n >= 1 << 31:
            raise MemoryError("an epoch of 2**31 samples or more")
        keys = self.words(n, purpose).astype(np.uint64)
        keys <<= np.uint64(32)
        keys |= np.arange(n, dtype=np.uint64)
        keys.sort()  # all distinct, so that any way of sorting gives the same
        keys &= np.uint64(0xFFFFFFFF)
        return keys.astype(np.int64)

    def within(self, row_ptr: NDArray[np.int64], purpose: int) -> NDArray[np.int64]:
        """Return the positions of rows, each row's in random order, ``(row_ptr[-1],)``."""
        lengths = np.diff(row_ptr)
        keys = np.repeat(np.arange(len(lengths), dtype=np.uint64) << np.uint64(32), lengths)
        keys |= self.words(len(keys), purpose)
        return np.argsort(keys, kind="stable")


def below(probability: float) -> int:
    """Return the bound under which a word lies with the given probability, to 32 bits."""
    return int(probability * 2.0**32)


def to_range(words: NDArray[np.uint32], n: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return words as numbers of [0, n), elementwise; n below 2^31, bias below n / 2^32."""
    return (words.astype(np.uint64) * n.astype(np.uint64) >> np.uint64(32)).astype(np.int64)
