"""Negatives: verified, never an item of the user's row; or any item."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from recsys_fast._numba.parallel import inputs, parallel, serial, threads
from recsys_fast._numba.rng import Int, draw, draw4, to_range, to_unit

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
F64 = NDArray[np.float64]

_WORDS = 32  # draws that belong to one weighted negative: 15 tries of two words, and two for the exact way
_TRIES = 15
_DRAW_BLOCK = (1 << 30) - 1  # of draws without verification: the last one, far from those of other samplers


@serial
def nth_absent(row: I32, n: Int) -> Int:
    """Return the n-th (from 0) item that is not in ``row``, whose columns ascend."""
    begin, end = 0, len(row)  # first t with row[t] - t > n: so many items of the row lie below the answer
    while begin < end:
        middle = (begin + end) // 2
        if row[middle] - middle > n:
            end = middle
        else:
            begin = middle + 1
    return n + begin


@serial
def contains(row: I32, item: Int) -> bool:
    at = np.searchsorted(row, item)
    return bool(at < len(row) and row[at] == item)


@serial
def _gap_bounds(row: I32, t: int, n_items: int) -> tuple[int, int]:
    """Return the items [begin, end) between entries t - 1 and t of the row."""
    return row[t - 1] + 1 if t > 0 else 0, row[t] if t < len(row) else n_items


@serial
def _weight_below(cdf: F64, item: int) -> float:
    return float(cdf[item - 1]) if item > 0 else 0.0


@serial
def _gap_weight(cdf: F64, begin: int, end: int) -> float:
    """Return the weight of the items [begin, end)."""
    if begin >= end:
        return 0.0
    return float(cdf[end - 1] - _weight_below(cdf, begin))


@serial
def _absent_by_weight(row: I32, cdf: F64, unit: float) -> Int:
    """Return an item outside ``row`` with probability as its weight, by walking the gaps; -1 if none has a weight."""
    total = 0.0
    for t in range(len(row) + 1):
        begin, end = _gap_bounds(row, t, len(cdf))
        total += _gap_weight(cdf, begin, end)
    left, last = unit * total, -1
    for t in range(len(row) + 1):
        begin, end = _gap_bounds(row, t, len(cdf))
        weight = _gap_weight(cdf, begin, end)
        if weight > 0.0:
            # The gap's last item with a weight: where rounding would end beyond the gap, or beyond all of them.
            last = begin + np.searchsorted(cdf[begin:end], cdf[end - 1])
            if left < weight:
                x = _weight_below(cdf, begin) + left
                item: Int = min(last, begin + np.searchsorted(cdf[begin:end], x, side="right"))
                return item
            left -= weight
    return last


@serial
def _draw_weighted(row: I32, cdf: F64, seed: Int, epoch: int, sample: int, k: int) -> Int:
    """Return one negative: tries from the whole distribution, then the exact way, whose distribution is the same."""
    for at in range(k, k + 2 * _TRIES, 2):
        unit = to_unit(draw(seed, epoch, sample, at), draw(seed, epoch, sample, at + 1))
        item: Int = np.searchsorted(cdf, unit * cdf[-1], side="right")
        if not contains(row, item):
            return item
    at = k + 2 * _TRIES
    return _absent_by_weight(row, cdf, to_unit(draw(seed, epoch, sample, at), draw(seed, epoch, sample, at + 1)))


@parallel
def _fill(out: I32, users: I32, row_ptr: I64, col_idx: I32, cdf: F64, n_items: int, seed: Int, epoch: int) -> None:
    for i in prange(len(out)):
        row = col_idx[row_ptr[users[i]] : row_ptr[users[i] + 1]]
        n_absent = n_items - len(row)
        for j in range(out.shape[1]):
            if n_absent == 0:
                out[i, j] = -1
            elif len(cdf):
                out[i, j] = _draw_weighted(row, cdf, seed, epoch, i, j * _WORDS)
            else:
                out[i, j] = nth_absent(row, to_range(draw(seed, epoch, i, j), n_absent))


def sample_negatives(
    out: I32,
    users: I32,
    row_ptr: I64,
    col_idx: I32,
    cdf: F64,
    n_items: int,
    seed: int,
    epoch: int,
    n_threads: int,
) -> None:
    """out[i, j] = an item not in row users[i], -1 where there is none; overwrites; deterministic.

    Rows are sorted and without duplicates. cdf ``(n_items,) float64`` are running sums of weights with cdf[-1] >= 1, so
    that a draw below 1 times cdf[-1] stays below it; empty for uniform draws.
    """
    users, row_ptr, col_idx, cdf = inputs(users, row_ptr, col_idx, cdf)
    with threads(n_threads):
        _fill(out, users, row_ptr, col_idx, cdf, n_items, np.uint64(seed), epoch)


@parallel
def _draw(out: I32, cdf: F64, n_items: int, seed: Int, epoch: int, first: Int) -> None:
    for i in prange(len(out)):
        at = np.uint64(first) + np.uint64(i)
        if len(cdf):
            words = draw4(seed, epoch, at // np.uint64(2), _DRAW_BLOCK)
            pair = 2 * np.int64(at % np.uint64(2))
            out[i] = np.searchsorted(cdf, to_unit(words[pair], words[pair + 1]) * cdf[-1], side="right")
        else:
            words = draw4(seed, epoch, at // np.uint64(4), _DRAW_BLOCK)
            out[i] = to_range(words[np.int64(at % np.uint64(4))], n_items)


def negatives_draw(out: I32, cdf: F64, n_items: int, seed: int, epoch: int, first: int, n_threads: int) -> None:
    """out[i] = draw number first + i of (seed, epoch): any item, uniform or by weight; overwrites; deterministic.

    cdf as for ``sample_negatives``. A Philox block of four words serves four uniform or two weighted draws.
    """
    (cdf,) = inputs(cdf)
    with threads(n_threads):
        _draw(out, cdf, n_items, np.uint64(seed), epoch, np.uint64(first))
