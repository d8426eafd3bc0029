"""Batches of rows: the order of an epoch (as in csrc/cpu/fm_order.h), and a batch's entries grouped by feature."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.parallel import serial
from recsys_fast._numba.rng import draw, draw4, to_range

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_ROUNDS = 4
_LAST = 2**64 - 1


def order_keys(seed: int, epoch: int) -> U64:
    """Return what each round adds and multiplies by, ``(4, 2) uint64``."""
    keys = np.empty((_ROUNDS, 2), np.uint64)
    for r in range(_ROUNDS):
        a, b, c, d = (int(word) for word in draw4(np.uint64(seed), epoch, np.uint64(_LAST), r))
        keys[r] = a | b << 32, c | d << 32 | 1
    return keys


@serial
def fill_order(order: I64, first: int, n: int, keys: U64) -> None:
    """order[i] = place first + i of a permutation of 0..n-1: rounds of bijections below a power of two, repeated while
    the result is not below n (cycle walking)."""
    bits = 1
    while (1 << bits) < n:
        bits += 1
    mask, shift = np.uint64((1 << bits) - 1), np.uint64((bits + 1) // 2)
    for i in range(len(order)):
        x = np.uint64(first + i)
        while True:
            for r in range(len(keys)):
                x = ((x + keys[r, 0]) * keys[r, 1]) & mask
                x = x ^ (x >> shift)
            if x < np.uint64(n):
                break
        order[i] = np.int64(x)


@serial
def fill_pairs(
    rows: I32, order: I64, positives: I32, groups: I32, negative_ptr: I64, negatives: I32, seed: Any, epoch: int
) -> None:
    """rows[2 i], rows[2 i + 1] = a positive row and a negative one of its group."""
    for i in range(len(order)):
        p = order[i]
        begin, end = negative_ptr[groups[p]], negative_ptr[groups[p] + 1]
        rows[2 * i] = positives[p]
        rows[2 * i + 1] = negatives[begin + to_range(draw(seed, epoch, p, 0), end - begin)]


@serial
def group_entries(rows: I32, row_ptr: I64, col_idx: I32, values: F32, counts: I32) -> tuple[I32, I32, I32, F32]:
    """Return (features of the batch, start of each one's entries, the entries' places in the batch, their values).

    Entries of a feature keep the order of the rows. counts ``(n_features,)`` is zeros before and after.
    """
    n_entries = 0
    for b in range(len(rows)):
        n_entries += row_ptr[rows[b] + 1] - row_ptr[rows[b]]
    features, n_features = np.empty(n_entries, np.int32), 0
    for b in range(len(rows)):
        for e in range(row_ptr[rows[b]], row_ptr[rows[b] + 1]):
            if counts[col_idx[e]] == 0:
                features[n_features] = col_idx[e]
                n_features += 1
            counts[col_idx[e]] += 1
    starts = np.zeros(n_features + 1, np.int32)
    for t in range(n_features):
        starts[t + 1] = starts[t] + counts[features[t]]
        counts[features[t]] = starts[t]
    entry_rows, entry_values = np.empty(n_entries, np.int32), np.ones(n_entries, np.float32)
    for b in range(len(rows)):
        for e in range(row_ptr[rows[b]], row_ptr[rows[b] + 1]):
            place = counts[col_idx[e]]
            counts[col_idx[e]] += 1
            entry_rows[place] = b
            if len(values) > 0:
                entry_values[place] = values[e]
    for t in range(n_features):
        counts[features[t]] = 0
    return features[:n_features], starts, entry_rows, entry_values
