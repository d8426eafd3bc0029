"""SGD epochs: which cells there are, which entries a cell visits, and the negatives it draws."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast._numba.negatives import contains, nth_absent
from recsys_fast._numba.parallel import inlined, serial
from recsys_fast._numba.rng import Int, draw, to_range, to_unit

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

VISIT_WORDS = 4096  # random words of a visit
_MAX_BLOCKS = 16
TRIES = 16
_BLOCK_WORD, _VISITS_WORD = 0xFFFFFFFF, 0xFFFFFFFE
_FIRST_ITEM = 1 << 62  # numbers items as samples of the random numbers, behind all entries


class Blocks(NamedTuple):
    """Users, or items, in blocks; with one block all arrays are empty, and a member's rank is its number.

    order ``(n,)``: the members of block b, ascending, in order[start[b] : start[b + 1]].
    block ``(n,)`` and rank ``(n,)``: where in that a member stands.
    """

    order: I32
    start: I64
    block: I32
    rank: I32


class Pool(NamedTuple):
    """What negatives are drawn from: the members of an item block.

    members ``(n,)``: empty where all items are in the block. running ``(n,)``: running sums of their weights, cdf those
    of all items; both empty for uniform draws.
    """

    members: I32
    running: F64
    cdf: F64
    n: int


def count_blocks(n_users: int, n_items: int, rows: int) -> int:
    """Return the number of blocks of users, and of items, for ``rows`` of them on average or more."""
    return min(max(min(n_users, n_items) // rows, 1), _MAX_BLOCKS)


def make_blocks(n: int, n_blocks: int, first_sample: int, seed: Int, epoch: int) -> Blocks:
    """Deal n members out to blocks at random."""
    if n_blocks == 1:
        none = np.empty(0, np.int32)
        return Blocks(none, np.array([0, n]), none, none)
    block = np.empty(n, np.int32)
    _deal(block, n_blocks, first_sample, seed, epoch)
    order = np.argsort(block, kind="stable").astype(np.int32)
    start = np.concatenate([[0], np.cumsum(np.bincount(block, minlength=n_blocks))]).astype(np.int64)
    rank = np.empty(n, np.int32)
    rank[order] = np.arange(n) - start[block[order]]
    return Blocks(order, start, block, rank)


def make_item_blocks(n: int, n_blocks: int, seed: Int, epoch: int) -> Blocks:
    """``make_blocks`` of the items, with random numbers that are not those of the users."""
    return make_blocks(n, n_blocks, _FIRST_ITEM, seed, epoch)


def make_pool(items: Blocks, n_items: int, b: int, cdf: F64) -> Pool:
    """Return what the negatives of item block b are drawn from."""
    if not len(items.order):
        return Pool(items.order, cdf, cdf, n_items)
    members = items.order[items.start[b] : items.start[b + 1]]
    running = np.cumsum(cdf[members] - np.where(members > 0, cdf[members - 1], 0.0)) if len(cdf) else cdf
    return Pool(members, running, cdf, len(members))


@serial
def _deal(block: I32, n_blocks: int, first_sample: int, seed: Int, epoch: int) -> None:
    for i in range(len(block)):
        block[i] = to_range(draw(seed, epoch, first_sample + i, _BLOCK_WORD), n_blocks)


@serial
def count_visits(rates: F32, entry: int, sample: int, seed: Int, epoch: int) -> int:
    """Return how often an entry is visited: its rate, rounded up with the probability of its fraction."""
    if len(rates) == 0:
        return 1
    return int(np.float64(rates[entry]) + np.float64(draw(seed, epoch, sample, _VISITS_WORD)) * 2.0**-32)


@inlined
def member(members: I32, rank: Int) -> Int:
    """Return the item of a rank in the pool."""
    return np.int64(members[rank]) if len(members) else np.int64(rank)


@serial
def _weight(members: I32, cdf: F64, rank: Int) -> float:
    item = member(members, rank)
    return float(cdf[item] - cdf[item - 1]) if item > 0 else float(cdf[0])


@serial
def _absent_by_weight(members: I32, cdf: F64, n: int, taken: I32, unit: float) -> int:
    """Return the rank of an absent member, drawn by weight; -1 where none has a weight."""
    total = 0.0
    for rank in range(n):
        if not contains(taken, rank):
            total += _weight(members, cdf, rank)
    below, last = 0.0, -1
    for rank in range(n):
        if not contains(taken, rank) and _weight(members, cdf, rank) > 0.0:
            below += _weight(members, cdf, rank)
            last = rank
            if below > unit * total:
                break
    return last


@serial
def draw_weighted(
    members: I32, running: F64, cdf: F64, n: int, taken: I32, seed: Int, epoch: int, sample: Int, word: int
) -> tuple[Int, int]:
    """``draw_uniform`` by weight."""
    if n == 0 or running[-1] <= 0.0:
        return -1, word
    for _ in range(TRIES):
        unit = to_unit(draw(seed, epoch, sample, word), draw(seed, epoch, sample, word + 1))
        word += 2
        rank = np.searchsorted(running, unit * running[-1], side="right")
        if rank < n and not contains(taken, rank):
            return rank, word
    unit = to_unit(draw(seed, epoch, sample, word), draw(seed, epoch, sample, word + 1))
    return _absent_by_weight(members, cdf, n, taken, unit), word + 2


@serial
def draw_uniform(n: int, taken: I32, seed: Int, epoch: int, sample: Int, word: int) -> tuple[Int, int]:
    """Return the rank of a member that is not taken (-1: there is none), and the next unused random word.

    taken: ascending ranks. Tries first, then the exact way, whose distribution is the same.
    """
    for _ in range(TRIES):
        rank = to_range(draw(seed, epoch, sample, word), n)
        word += 1
        if not contains(taken, rank):
            return rank, word
    return nth_absent(taken, to_range(draw(seed, epoch, sample, word), n - len(taken))), word + 1
