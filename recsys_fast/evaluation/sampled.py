"""The sampled protocol: test items ranked among a few negatives instead of all items."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast import ops
from recsys_fast.errors import message
from recsys_fast.evaluation.rows import entries_in, keep_entries, row_of_entry
from recsys_fast.ops import Csr
from recsys_fast.ops.topk import as_count

I32 = NDArray[np.int32]


def given_negatives(negatives: Any, shape: tuple[int, int]) -> I32:
    """Return a caller's lists after checks, ``(n_users, k) int32``; -1 pads short ones.

    Raises:
        TypeError: not integers.
        ValueError: not one list per user.
        IndexError: an item that does not exist.
    """
    lists = np.asarray(negatives)
    if lists.dtype.kind not in "iu":
        raise TypeError(message("negatives", f"dtype {lists.dtype}", "an int, or an integer array (n_users, k)"))
    if lists.ndim != 2 or len(lists) != shape[0] or not lists.shape[1]:
        raise ValueError(message("shape of negatives", lists.shape, f"({shape[0]}, k): a row for every user"))
    outside = (lists < -1) | (lists >= shape[1])
    if outside.any():
        raise IndexError(message(f"negatives hold item {lists[outside][0]}", expected=f"-1 <= item < {shape[1]}"))
    return lists.astype(np.int32)


def draw_negatives(known: Csr, n: int, seed: int, how: dict[str, Any]) -> I32:
    """Return ``n`` distinct items per user that are not in the user's row of ``known``, ``(n_users, n)``.

    Users with fewer such items get them all, and -1. What a user gets depends on the seed, the user's number and the
    user's row, so that it is the same in every evaluation.
    """
    n = as_count(n, "negatives", 1)
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise TypeError(message("seed", type(seed).__name__, "an int"))
    if not 0 <= seed < 2**64:
        raise ValueError(message("seed", seed, "0 to 2**64 - 1"))
    users = np.arange(known.n_rows, dtype=np.int32)
    n_free = known.n_cols - np.diff(known.row_ptr)
    lists = np.full((known.n_rows, n), -1, np.int32)
    few = n_free < 2 * n  # so few that drawing distinct ones would take long: shuffle them all
    for user in np.flatnonzero(few):
        own = known.col_idx[known.row_ptr[user] : known.row_ptr[user + 1]]
        free = np.setdiff1d(np.arange(known.n_cols, dtype=np.int32), own, assume_unique=True)
        shuffled = np.random.default_rng([seed, int(user)]).permutation(free)[:n]
        lists[user, : len(shuffled)] = shuffled
    epoch = 0
    while True:
        lacking = np.flatnonzero(~few & (lists[:, -1] < 0))
        if not len(lacking):
            return lists
        # Every user is drawn for in every round: the draws of a user depend on the place in the list of users.
        drawn = ops.sample_negatives(known, users, n, seed=seed, epoch=epoch, **how)[lacking]
        lists[lacking] = _first_distinct(np.concatenate([lists[lacking], drawn], axis=1), n)
        epoch += 1


def _first_distinct(lists: I32, n: int) -> I32:
    """Return the first n distinct items of each row in their order; -1 is no item, and pads."""
    order = np.argsort(lists, axis=1, kind="stable")
    by_id = np.take_along_axis(lists, order, axis=1)
    new = by_id >= 0
    new[:, 1:] &= by_id[:, 1:] != by_id[:, :-1]
    keep = np.zeros(lists.shape, np.bool_)
    np.put_along_axis(keep, order, new, axis=1)
    front = np.argsort(~keep, axis=1, kind="stable")[:, :n]
    return np.where(np.take_along_axis(keep, front, axis=1), np.take_along_axis(lists, front, axis=1), -1)


def union(first: Csr, second: Csr) -> Csr:
    """Return the matrix with the entries of both."""
    rows = np.concatenate([row_of_entry(first), row_of_entry(second)])
    cols = np.concatenate([first.col_idx, second.col_idx])
    return ops.csr_from_coo(rows, cols, shape=first.shape, duplicates="last")[0]


def candidates(users: I32, lists: I32, test: Csr, seen: Csr | None) -> Csr:
    """Return what is ranked: each user's test items and negatives, once each, less what was seen.

    Args:
        users: ``(m,)`` rows of ``lists``.
        lists: ``(n_users, k)`` negatives.
        test: ``(m, n_items)`` test items of ``users``.
        seen: ``(m, n_items)`` items not to rank, or None.
    """
    chosen = lists[users]
    there = chosen >= 0
    row_ptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(there.sum(axis=1))])
    pool = union(Csr(row_ptr, chosen[there], None, *test.shape), test)
    return pool if seen is None else keep_entries(pool, ~entries_in(pool, seen))


def ranked(pool: Csr, scores: NDArray[Any], n: int) -> I32:
    """Return the n best entries of each row of ``pool`` by score descending, then id; -1 where a list has ended."""
    rows = row_of_entry(pool)
    order = np.lexsort((pool.col_idx, -scores, rows))
    place = np.arange(pool.nnz) - pool.row_ptr[rows]  # rows ascend before and after sorting
    ids = np.full((pool.n_rows, n), -1, np.int32)
    first = place < n
    ids[rows[first], place[first]] = pool.col_idx[order][first]
    return ids


def known_items(train: Csr | None, test: Csr) -> Csr:
    """Return what negatives must not be: training and test items."""
    return test if train is None else union(train, test)
