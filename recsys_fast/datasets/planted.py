"""Planted preferences and draws from them, block of users by block of users."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 20  # interactions drawn together; part of what a seed means, so it never depends on the machine
_HEAD = 10  # users and items at the head of the power law that are about equally heavy
_FLOOR = 1e-3  # least share (before normalisation) of every taste, so that no preference is ever 0
_ROUNDS = 32
_DENSE = 4  # users with more than n_items / _DENSE items are drawn from a full row of preferences
_CELLS = 1 << 21  # cells of such rows in memory at a time


class Planted(NamedTuple):
    """The truth behind a synthetic set; user tastes are made block by block.

    Attributes:
        item_factors: ``(n_items, rank) float32``; column ``t`` is the distribution of taste ``t`` over items.
        counts: ``(n_users,) int64`` interactions of each user.
        test_counts: ``(n_users,) int64`` of which are held out.
        concentration: Dirichlet concentration of users over tastes.
        seed: of everything.
    """

    item_factors: NDArray[np.float32]
    counts: NDArray[np.int64]
    test_counts: NDArray[np.int64]
    concentration: float
    seed: int


def _rng(seed: int, *stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *stream])))


def _power_law(n: int, exponent: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return weights ``(rank + 10) ** -exponent`` in random order, adding up to 1."""
    weights = np.arange(_HEAD, n + _HEAD, dtype=np.float64) ** -exponent
    return rng.permutation(weights / weights.sum())


def _mixtures(n: int, rank: int, concentration: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return ``(n, rank)`` shares that add up to 1, Dirichlet distributed but for the floor."""
    shares = rng.standard_gamma(concentration, (n, rank)) + _FLOOR
    shares /= shares.sum(axis=1, keepdims=True)
    return np.asarray(shares)


def _split_total(total: int, weights: NDArray[np.float64], cap: int) -> NDArray[np.int64]:
    """Return whole numbers proportional to ``weights`` (each off by less than 1), at most ``cap``, of exact sum."""
    least = min(5, total // (2 * len(weights)))  # so that most users have something to learn from and to test on
    spare, room = float(total - least * len(weights)), np.full(len(weights), float(cap - least))
    given = np.zeros(len(weights))
    open_ = room > 0
    while spare > 1e-9 * total and open_.any():
        given[open_] += spare * weights[open_] / weights[open_].sum()
        over = np.maximum(given - room, 0)
        given -= over
        spare, open_ = float(over.sum()), given < room
    counts = np.diff(np.floor(np.cumsum(given) + 1e-6), prepend=0).astype(np.int64) + least
    np.minimum(counts, cap, out=counts)
    while (missing := total - int(counts.sum())) > 0:  # a few, where rounding met the cap
        counts[np.argsort(counts, kind="stable")[: min(missing, int((counts < cap).sum()))]] += 1
    return counts


def plant(
    n_users: int,
    n_items: int,
    n_interactions: int,
    *,
    rank: int,
    concentration: float,
    user_exponent: float,
    item_exponent: float,
    test_fraction: float,
    seed: int,
    affinity: NDArray[np.float64] | None = None,
) -> Planted:
    """Make the truth: tastes' distributions over items, and how many interactions each user has.

    They are popularity x ``affinity (n_items, rank)``, all above 0; None draws it.
    """
    rng = _rng(seed, 0)
    popularity = _power_law(n_items, item_exponent, rng)
    affinity = _mixtures(n_items, rank, concentration, rng) if affinity is None else affinity
    items = affinity * popularity[:, None]
    items /= items.sum(axis=0)
    counts = _split_total(n_interactions, _power_law(n_users, user_exponent, rng), max(1, n_items // 2))
    test_counts = np.floor(counts * test_fraction + 0.5).astype(np.int64)
    np.minimum(test_counts, np.maximum(counts - 1, 0), out=test_counts)  # nobody is all test
    return Planted(items.astype(np.float32), counts, test_counts, concentration, seed)


class Block(NamedTuple):
    """Some users' interactions.

    Attributes:
        start, stop: the users.
        tastes: ``(stop - start, rank) float32`` shares; preference of user u for item i is ``tastes[u] @
            item_factors[i]``.
        owner: ``(n,) int64`` user minus ``start``, ascending.
        item: ``(n,) int32``, ascending within a user.
        held_out: ``(n,) bool``.
    """

    start: int
    stop: int
    tastes: NDArray[np.float32]
    owner: NDArray[np.int64]
    item: NDArray[np.int32]
    held_out: NDArray[np.bool_]


def blocks(truth: Planted) -> Iterator[Block]:
    """Yield all users in order; each block has its own random stream."""
    sampler = _Sampler(truth.item_factors)
    ends = np.cumsum(truth.counts)
    start, number = 0, 0
    while start < len(ends):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _BLOCK, side="right")))
        rng = _rng(truth.seed, 1, number)
        tastes = _mixtures(stop - start, truth.item_factors.shape[1], truth.concentration, rng).astype(np.float32)
        owner, item = sampler.draw(tastes, truth.counts[start:stop], rng)
        quota = truth.test_counts[start:stop]
        counts = truth.counts[start:stop]
        shuffled = np.argsort(owner + rng.random(len(owner)), kind="stable")
        place = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        held_out = np.empty(len(owner), bool)
        held_out[shuffled] = place < np.repeat(quota, counts)
        yield Block(start, stop, tastes, owner, item.astype(np.int32), held_out)
        start, number = stop, number + 1


class _Sampler:
    """Draws distinct items one after another, each with probability proportional to preference."""

    def __init__(self, item_factors: NDArray[np.float32]) -> None:
        self._factors = item_factors.astype(np.float64)
        self._n_items, self._rank = item_factors.shape
        steps = np.cumsum(self._factors, axis=0)
        steps /= steps[-1]
        # One ascending table for all tastes: taste t owns the values t .. t + 1.
        self._steps = (steps + np.arange(self._rank)).T.ravel()

    def draw(
        self, tastes: NDArray[np.float32], counts: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return users (row of ``tastes``) and items, sorted; user u has ``counts[u]`` distinct items.

        Drawing with replacement and dropping repeats until there are enough is the same as drawing without
        replacement, so light users are drawn that way, all together. Where repeats would be many, an exponential race
        over all items (the next draws without replacement are the smallest E_i / p_i) finishes the user.
        """
        shares = tastes.astype(np.float64)
        table = np.cumsum(shares, axis=1)
        table = (table / table[:, -1:] + np.arange(len(table))[:, None]).ravel()
        lacking = np.where(counts * _DENSE > self._n_items, 0, counts)
        keys = np.empty(0, np.int64)
        for _ in range(_ROUNDS):
            owner = np.repeat(np.arange(len(counts)), lacking)
            if not len(owner):
                break
            fresh = np.sort(owner * self._n_items + self._items(owner, table, rng))
            fresh = fresh[np.diff(fresh, prepend=-1) > 0]
            if len(keys):
                at = np.minimum(np.searchsorted(keys, fresh), len(keys) - 1)
                fresh = fresh[keys[at] != fresh]
            keys = np.sort(np.concatenate([keys, fresh]), kind="stable")
            lacking = lacking - np.bincount(fresh // self._n_items, minlength=len(counts))
        lacking = np.where(counts * _DENSE > self._n_items, counts, lacking)
        if lacking.any():
            keys = np.sort(np.concatenate([keys, self._race(shares, lacking, keys, rng)]), kind="stable")
        return keys // self._n_items, keys % self._n_items

    def _items(
        self, owner: NDArray[np.int64], table: NDArray[np.float64], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Draw a taste for each entry, then an item of that taste."""
        rank, n_items = self._rank, self._n_items
        taste = np.searchsorted(table, owner + rng.random(len(owner)), side="right") - owner * rank
        np.clip(taste, 0, rank - 1, out=taste)  # a sum may round up to the next whole number
        item = np.searchsorted(self._steps, taste + rng.random(len(owner)), side="right") - taste * n_items
        return np.asarray(np.clip(item, 0, n_items - 1, out=item))

    def _race(
        self, shares: NDArray[np.float64], lacking: NDArray[np.int64], keys: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Return keys of the items that the users in need draw next."""
        users, found = np.flatnonzero(lacking), []
        step = max(1, _CELLS // self._n_items)
        for start in range(0, len(users), step):
            some = users[start : start + step]
            preference = np.zeros((len(some), self._n_items))
            for taste in range(self._rank):  # not a BLAS product: its rounding depends on the machine
                preference += shares[some, taste, None] * self._factors[:, taste]
            arrival = rng.standard_exponential(preference.shape) / preference
            for row, user in enumerate(some.tolist()):
                first, last = np.searchsorted(keys, [user * self._n_items, (user + 1) * self._n_items])
                arrival[row, keys[first:last] % self._n_items] = np.inf
                need = int(lacking[user])
                found.append(np.argpartition(arrival[row], need - 1)[:need] + user * self._n_items)
        return np.concatenate(found)
