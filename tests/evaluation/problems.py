"""Random evaluation problems, and models of every kind that can be evaluated."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray


class Factors:
    """The least that a factor model has."""

    def __init__(self, queries: NDArray[Any], items: NDArray[Any], device: str) -> None:
        self.queries, self.items, self.device, self.n_threads = queries, items, device, 2

    def _scoring(self) -> tuple[NDArray[Any], NDArray[Any]]:
        return self.queries, self.items


class OnlyScore:
    """A model that can do nothing but score."""

    def __init__(self, scores: NDArray[Any]) -> None:
        self.scores = scores

    def score(self, users: NDArray[np.int32]) -> NDArray[Any]:
        return self.scores[users]


class Foreign(OnlyScore):
    """A model of another library: scores, predictions and lists, but no factors."""

    def __init__(self, scores: NDArray[Any], train: sp.csr_array) -> None:
        super().__init__(scores)
        self.train = train.toarray() != 0

    def predict(self, users: NDArray[np.int32], items: NDArray[np.int32]) -> NDArray[Any]:
        return self.scores[users, items]

    def recommend(self, users: NDArray[np.int32], n: int, filter_seen: bool) -> tuple[NDArray[Any], NDArray[Any]]:
        scores = np.where(self.train[users] & filter_seen, -np.inf, self.scores[users])
        order = np.lexsort((np.broadcast_to(np.arange(scores.shape[1]), scores.shape), -scores), axis=1)
        best = np.take_along_axis(scores, order, axis=1)
        order = np.where(np.isneginf(best), -1, order)
        missing = max(0, n - order.shape[1])
        ids = np.pad(order, ((0, 0), (0, missing)), constant_values=-1)[:, :n]
        return ids, np.pad(best, ((0, 0), (0, missing)), constant_values=-np.inf)[:, :n]


class Problem(NamedTuple):
    """Factors with small integers (exact scores, many ties) and the interactions of both parts."""

    queries: NDArray[np.float32]
    items: NDArray[np.float32]
    train: sp.csr_array
    test: sp.csr_array

    @property
    def scores(self) -> NDArray[np.float64]:
        return self.queries.astype(np.float64) @ self.items.astype(np.float64).T

    def rows(self, matrix: sp.csr_array) -> list[set[int]]:
        return [set(matrix.indices[a:b].tolist()) for a, b in zip(matrix.indptr, matrix.indptr[1:], strict=False)]


def make(seed: int, n_users: int = 40, n_items: int = 60, overlap: bool = False) -> Problem:
    """Return a problem in which user 0 has no test items, user 1 no training items, user 2 has everything.

    With ``overlap`` some test items are in the training data too.
    """
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 6, (n_users, n_items)).astype(np.float32)
    part = rng.choice(3, (n_users, n_items), p=[0.7, 0.2, 0.1])
    part[0] = rng.integers(0, 2, n_items)
    part[1] = rng.choice([0, 2], n_items, p=[0.8, 0.2])
    part[2] = 1
    part[1:3, 0] = 2
    in_train, in_test = part == 1, part == 2
    if overlap:
        in_train |= in_test & (rng.random(in_test.shape) < 0.3)
    return Problem(
        rng.integers(-2, 3, (n_users, 3)).astype(np.float32),
        rng.integers(-2, 3, (n_items, 3)).astype(np.float32),
        sp.csr_array(np.where(in_train, values, 0)),
        sp.csr_array(np.where(in_test, values, 0)),
    )
