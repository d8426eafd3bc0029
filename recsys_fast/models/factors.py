"""Models with vectors, and those that score by an inner product of two tables: everything that needs only those."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import ops
from recsys_fast.models import inputs
from recsys_fast.models.base import Recommendations, Recommender
from recsys_fast.models.parameters import check_choice, check_int
from recsys_fast.ops import Csr

F32 = NDArray[np.float32]
_BLOCK = 1 << 20  # floats of a table that are worked on at a time, so that temporaries stay small


class VectorModel(Recommender):
    """A model whose users and items have vectors that they can be compared by."""

    def _user_vectors(self) -> F32:
        """Return what users are compared by, ``(n_users, k)``."""
        raise self._unsupported("similar_users")

    def _item_vectors(self) -> F32:
        """Return what items are compared by, ``(n_items, k)``."""
        raise self._unsupported("similar_items")

    def _best(self, table: F32, queries: F32, n: int, **choice: Any) -> Recommendations:
        """Return the exact top n; learned tables are finite, so that need not be checked every time."""
        where: dict[str, Any] = {"device": self.device, "n_threads": self.n_threads, "check_finite": False}
        return Recommendations(*ops.topk(table, queries, n, **where, **choice))

    def similar_items(self, items: ArrayLike, n: int = 10, **choice: Any) -> Recommendations:
        """Return the items whose factors are most like those of ``items``.

        Args:
            items: an item or a sequence of items.
            n: similar items for each.
            choice: ``metric="cosine"`` (default) or "dot"; ``include``/``exclude``, item ids as in ``recommend``.

        Returns:
            ids and scores, ``(m, n)``, or ``(n,)`` for a scalar; never the item itself.

        Raises:
            IndexError: an id out of range.
        """
        self._check_fitted()
        return self._similar("items", items, self._item_vectors(), n, **choice)

    def similar_users(self, users: ArrayLike, n: int = 10, **choice: Any) -> Recommendations:
        """Return the users whose factors are most like those of ``users``; arguments as in ``similar_items``."""
        self._check_fitted()
        return self._similar("users", users, self._user_vectors(), n, **choice)

    def _similar(
        self,
        side: str,
        ids: ArrayLike,
        vectors: F32,
        n: int,
        *,
        metric: str = "cosine",
        include: ArrayLike | None = None,
        exclude: ArrayLike | None = None,
    ) -> Recommendations:
        chosen, scalar = inputs.check_ids(ids, len(vectors), side)
        choice = inputs.check_chosen(len(vectors), include=include, exclude=exclude)
        if check_choice("metric", metric, ("cosine", "dot")) == "cosine":
            vectors = self._cached(f"unit_{side}", lambda: unit_rows(vectors))
        vectors = np.ascontiguousarray(vectors)
        itself = Csr(np.arange(len(chosen) + 1, dtype=np.int64), chosen, None, len(chosen), len(vectors))
        found = self._best(vectors, vectors[chosen], check_int("n", n, 0), seen=itself, **choice)
        return Recommendations(found.ids[0], found.scores[0]) if scalar else found


class FactorModel(VectorModel):
    """A model with ``score(user, item) = query(user) . table(item)``; ranking, metrics and top-k are the fused ops."""

    # ---- what a model supplies

    @abstractmethod
    def _queries(self, users: NDArray[np.int32] | None) -> F32:
        """Return the queries of known users ``(m, d)``, of all users for None."""

    @abstractmethod
    def _item_table(self) -> F32:
        """Return the table ``(n_items, d)`` that queries are multiplied with."""

    @abstractmethod
    def _new_queries(self, given: Csr) -> F32:
        """Return the queries of new users from their histories (validated, prepared), ``(m, d)``."""

    # ---- use

    def _scoring(self) -> tuple[F32, F32]:
        """Return queries ``(n_users, d)`` and items ``(n_items, d)`` whose products are the scores."""
        self._check_fitted()
        return self._queries(None), self._item_table()

    def _rank(self, users: NDArray[np.int32] | None, given: Csr | None, n: int, **choice: Any) -> Recommendations:
        queries = self._queries(users) if given is None else self._new_queries(given)
        return self._best(self._item_table(), queries, n, **choice)

    def _score_histories(self, given: Csr) -> F32:
        return self._new_queries(given) @ self._item_table().T

    def predict(self, users: ArrayLike, items: ArrayLike) -> Any:
        """Return the score of each pair ``(users[k], items[k])``; a scalar stands for every k.

        Returns:
            ``(m,) float32``, or a float where both are scalars.

        Raises:
            IndexError: an id out of range.
            ValueError: the lengths differ.
        """
        n_users, n_items = self._shape()
        user_ids, item_ids, scalar = inputs.check_pairs(users, items, n_users, n_items)
        table, out = self._item_table(), np.empty(len(user_ids), np.float32)
        block = max(1, _BLOCK // table.shape[1])
        for start in range(0, len(out), block):
            part = slice(start, start + block)
            np.einsum("ij,ij->i", self._queries(user_ids[part]), table[item_ids[part]], out=out[part])
        return float(out[0]) if scalar else out

    def score(self, users: ArrayLike, items: ArrayLike | None = None) -> F32:
        """Return the scores of items for users; see ``Recommender.score``."""
        n_users, n_items = self._shape()
        user_ids, one = inputs.check_ids(users, n_users, "users")
        table = self._item_table()
        if items is not None:
            table = table[inputs.check_ids(items, n_items, "items")[0]]
        scores: F32 = self._queries(user_ids) @ table.T
        return scores[0] if one else scores


def unit_rows(vectors: F32) -> F32:
    """Return the rows scaled to length 1, rows of zeros as they are; contiguous, a new array."""
    lengths = row_norms(vectors)
    scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return np.ascontiguousarray(vectors * scale.astype(np.float32)[:, None])


def row_norms(vectors: F32) -> NDArray[np.float64]:
    """Return the Euclidean length of each row, ``(n,) float64``, with small temporaries."""
    out = np.empty(len(vectors))
    block = max(1, _BLOCK // max(1, vectors.shape[1]))
    for start in range(0, len(out), block):
        part = vectors[start : start + block].astype(np.float64)
        out[start : start + block] = np.einsum("ij,ij->i", part, part)
    return np.sqrt(out, out=out)
