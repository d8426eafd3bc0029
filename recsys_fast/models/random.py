"""The floor under every model: items in an order that is drawn for each user."""

from __future__ import annotations

import zlib
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import ops
from recsys_fast.models import inputs
from recsys_fast.models.base import Recommendations, Recommender
from recsys_fast.models.parameters import check_random_state, seed_from
from recsys_fast.ops import Csr
from recsys_fast.ops.topk import as_candidates

F32 = NDArray[np.float32]
_BLOCK = 1 << 19  # random words that are alive at once
_DROPPED = 8  # low bits that a float32 score has no room for
_NEW = 1 << 32  # samples of histories; those of known users lie below


class Random(Recommender):
    """Scores every pair by a random number in [0, 1): what a ranking is worth that knows nothing.

    score(user, item) = draw(seed, 0, user, item) / 2^32 with the Philox generator (``ops.philox_rows``; Salmon et al.
    2011), rounded down to 24 bits. It depends on nothing else: ``recommend``, ``score`` and ``predict`` agree, no table
    is kept, and more users or items change no score. A history given to ``recommend`` takes the place of the user:
    equal histories get equal lists.

    Args:
        random_state: an int, None for a fresh seed, or a ``Generator`` or ``RandomState`` to draw one from.
        device: "auto", "cpu" or "numba".
        n_threads: None for every CPU granted.

    Attributes:
        seed_: the int that the scores come from.
    """

    _learned: ClassVar[tuple[str, ...]] = ("seed_",)

    seed_: int

    def __init__(self, *, random_state: Any = 0, device: str = "auto", n_threads: int | None = None) -> None:
        self.random_state = random_state
        self.device = device
        self.n_threads = n_threads

    def _check_params(self) -> None:
        check_random_state(self.random_state)

    def _begin(self) -> _Drawer:
        return _Drawer(self)

    def _resume(self) -> _Drawer:
        return _Drawer(self)

    def _update(self, users: NDArray[np.int32] | None, items: NDArray[np.int32] | None) -> None:
        """Nothing: scores do not depend on the data."""

    def _grow(self, n_users: int, n_items: int) -> None:
        """Nothing: new users and items have their scores already."""

    def _words(self, samples: NDArray[np.int64], n: int, first: ArrayLike = 0) -> NDArray[np.uint32]:
        """Return random bits for each of n items from ``first`` on, ``(len(samples), n)``."""
        where: dict[str, Any] = {"device": self.device, "n_threads": self.n_threads}
        return ops.philox_rows(samples, n, first=first, seed=self.seed_, **where)

    def score(self, users: ArrayLike, items: ArrayLike | None = None) -> F32:
        """Return the scores of items (all for None) for users, ``(m, n_items) float32``, 1-D for a scalar user."""
        n_users, n_items = self._shape()
        user_ids, one = inputs.check_ids(users, n_users, "users")
        words = self._words(user_ids.astype(np.int64), n_items)
        if items is not None:
            words = words[:, inputs.check_ids(items, n_items, "items")[0]]
        scores = _unit(words >> np.uint32(_DROPPED))
        return scores[0] if one else scores

    def predict(self, users: ArrayLike, items: ArrayLike) -> Any:
        """Return the score of each pair ``(users[k], items[k])``, a float for two scalars."""
        n_users, n_items = self._shape()
        pairs = inputs.check_pairs(users, items, n_users, n_items)
        scores = _unit(self._words(pairs.users.astype(np.int64), 1, pairs.items)[:, 0] >> np.uint32(_DROPPED))
        return float(scores[0]) if pairs.scalar else scores

    def _rank(self, users: NDArray[np.int32] | None, given: Csr | None, n: int, **choice: Any) -> Recommendations:
        n_users, n_items = self._shape()
        if given is not None:
            samples = _history_samples(given)
        else:
            samples = (np.arange(n_users) if users is None else users).astype(np.int64)
        seen: Csr | None = choice.get("seen")
        candidates = as_candidates(choice.get("include"), choice.get("exclude"), n_items)
        ids = np.full((len(samples), n), -1, np.int32)
        scores = np.full((len(samples), n), -np.inf, np.float32)
        block = max(1, _BLOCK // max(1, n_items))
        for start in range(0, len(samples) if n else 0, block):
            rows = slice(start, min(len(samples), start + block))
            words = self._words(samples[rows], n_items)
            own = None if seen is None else inputs.take_rows(seen, np.arange(rows.start, rows.stop))
            _best(words, own, candidates, ids[rows], scores[rows])
        return Recommendations(ids, scores)

    def estimate_memory(self, user_items: Any) -> dict[str, int]:
        """Return the bytes that ``fit(user_items)`` needs at its peak, by purpose and as "total"."""
        matrix = inputs.check_matrix(user_items, "user_items")
        held = 8 * (matrix.n_rows + 1) + 4 * matrix.nnz * (1 if matrix.values is None else 2)
        return {"matrix": held, "total": held}

    def _pack(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        return {}, {"seed": self.seed_}

    def _unpack(self, reader: Any, values: dict[str, Any]) -> None:
        from recsys_fast.models.files import take_seed

        self.seed_ = take_seed(reader, values)


class _Drawer:
    """Draws the seed; there is nothing to repeat."""

    def __init__(self, model: Random) -> None:
        self.model = model

    def epoch(self) -> None:
        """Draw the seed where there is none yet."""
        if "seed_" not in vars(self.model):
            self.model.seed_ = seed_from(self.model.random_state)

    def rollback(self) -> None:
        """Nothing was changed."""


def _unit(words: NDArray[np.uint32]) -> F32:
    return words.astype(np.float32) * np.float32(2.0**-24)


def _history_samples(given: Csr) -> NDArray[np.int64]:
    """Return a sample number for each history, the same for the same items."""
    cuts = given.row_ptr.tolist()
    sums = (zlib.crc32(given.col_idx[a:b].tobytes()) for a, b in pairwise(cuts))
    return np.fromiter(sums, np.int64, given.n_rows) + _NEW


def _best(
    words: NDArray[np.uint32],
    seen: Csr | None,
    candidates: NDArray[np.int32] | None,
    ids: NDArray[np.int32],
    scores: F32,
) -> None:
    """Write the n columns of largest words in each row, ties by column; ids and scores ``(m, n)`` hold padding.

    Words are uniform, so only those above a threshold that some n + 6 sqrt(n) exceed need to be sorted; rows that turn
    out to have too few above it are sorted as a whole.
    """
    (m, n_items), n = words.shape, ids.shape[1]
    eligible = np.full(m, n_items if candidates is None else len(candidates))
    allowed = None
    if candidates is not None:
        allowed = np.zeros(n_items, np.bool_)
        allowed[candidates] = True
    rows_seen: NDArray[Any] = np.empty(0, np.int64)
    cols_seen: NDArray[Any] = rows_seen
    if seen is not None:
        rows_seen, cols_seen = np.repeat(np.arange(m), np.diff(seen.row_ptr)), seen.col_idx
        if allowed is not None:
            rows_seen, cols_seen = rows_seen[allowed[cols_seen]], cols_seen[allowed[cols_seen]]
        eligible -= np.bincount(rows_seen, minlength=m)
    expected = n + 6.0 * np.sqrt(n) + 8.0
    share = np.minimum(1.0, expected / np.maximum(eligible, 1))
    above = words >= ((1.0 - share) * 2.0**24).astype(np.uint32)[:, None] << np.uint32(_DROPPED)
    rows, cols = _places(above, allowed, rows_seen, cols_seen)
    short = np.bincount(rows, minlength=m) < np.minimum(n, eligible)
    if short.any():
        above[:] = short[:, None]
        more_rows, more_cols = _places(above, allowed, rows_seen, cols_seen)
        keep = ~short[rows]
        rows, cols = np.append(rows[keep], more_rows), np.append(cols[keep], more_cols)
    found = words[rows, cols] >> np.uint32(_DROPPED)
    order = np.lexsort((cols, np.uint32(2**24) - found, rows))
    rows, cols, found = rows[order], cols[order], found[order]
    first = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=m))])
    place = np.arange(len(rows)) - first[rows]
    top = place < n
    ids[rows[top], place[top]] = cols[top]
    scores[rows[top], place[top]] = _unit(found[top])


def _places(
    marked: NDArray[np.bool_], allowed: NDArray[np.bool_] | None, rows_seen: NDArray[Any], cols_seen: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and columns of the marks, without those of seen pairs (taken out of ``marked``) and other columns."""
    marked[rows_seen, cols_seen] = False
    flat = np.flatnonzero(marked)  # of one dimension, and mostly False: much faster than nonzero of two
    rows, cols = np.divmod(flat, max(1, marked.shape[1]))
    if allowed is not None:
        rows, cols = rows[allowed[cols]], cols[allowed[cols]]
    return rows, cols
