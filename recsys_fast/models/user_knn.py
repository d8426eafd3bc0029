"""User-based neighbours: what the users with similar histories have."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import ops
from recsys_fast.models import inputs
from recsys_fast.models.base import Recommendations
from recsys_fast.models.item_knn import neighbour_bytes
from recsys_fast.models.products import F32, ProductModel
from recsys_fast.models.similarity import (
    Rows,
    Similarity,
    check_positive,
    check_similarity,
    similarity_of,
    sorted_rows,
)
from recsys_fast.ops import Csr


class UserKNN(ProductModel):
    """User-based collaborative filtering (Resnick et al. 1994; Herlocker et al. 1999).

    ``score(u, i) = sum over the k nearest neighbours v of u of sim(u, v) * value_vi``. Only similarities above 0 make
    neighbours. The similarities are those of ``ItemKNN`` with the roles exchanged: users are compared, and "tfidf" and
    "bm25" give little weight to items that many users have. Histories of new users
    (``recommend(user_items=...)``) are compared with the training users on the spot, exactly as in training.

    Results are the same bits for any number of threads.

    Args:
        k: neighbours per user; may exceed the number of users.
        similarity: "cosine", "jaccard", "pearson", "tfidf" or "bm25".
        shrinkage: added to the denominator, so that similarities of few common items count less; 0 with "bm25".
        bm25_k1: saturation of "bm25".
        bm25_b: how much "bm25" discounts users with long histories, 0 to 1.
        device: "auto", "cpu", "numba" or "cuda".
        n_threads: None for every CPU granted.

    Attributes:
        neighbours_: ``Csr (n_users, n_users)``: row u holds the neighbours of user u and their similarities.

    ``partial_fit`` recomputes all neighbours; users added by ``resize`` have none until then.
    """

    _learned: ClassVar[tuple[str, ...]] = ("_row_ptr", "_col_idx", "_values")

    _row_ptr: NDArray[np.int64]
    _col_idx: NDArray[np.int32]
    _values: F32

    def __init__(
        self,
        k: int = 100,
        similarity: str = "cosine",
        *,
        shrinkage: float = 0.0,
        bm25_k1: float = 1.2,
        bm25_b: float = 0.75,
        device: str = "auto",
        n_threads: int | None = None,
    ) -> None:
        self.k = k
        self.similarity = similarity
        self.shrinkage = shrinkage
        self.bm25_k1 = bm25_k1
        self.bm25_b = bm25_b
        self.device = device
        self.n_threads = n_threads

    def _check_params(self) -> None:
        check_similarity(self)

    def _prepare(self, matrix: Csr) -> Csr:
        return check_positive(matrix, "for BM25") if self.similarity == "bm25" else inputs.drop_zeros(matrix)

    def _compared(self) -> tuple[Similarity, Rows, Csr]:
        """Return the similarity, the training users, and the transpose of their values."""
        similarity = similarity_of(self, self._matrix)
        rows = similarity.rows(self._matrix)
        return similarity, rows, ops.csr_transpose(rows.right, device=self.device, n_threads=self.n_threads)

    def _compute(self) -> None:
        similarity, rows, terms = self._compared()
        found = similarity.nearest(rows, rows, terms, self.k, True, self._where())
        self._take(sorted_rows(found, self._where()))

    def _where(self) -> dict[str, Any]:
        return {"device": self.device, "n_threads": self.n_threads}

    def _take(self, found: Csr) -> None:
        assert found.values is not None
        self._row_ptr, self._col_idx, self._values = found.row_ptr, found.col_idx, found.values

    @property
    def neighbours_(self) -> Csr:
        """Row u: the neighbours of user u and their similarities, by id."""
        n_users, _ = self._shape()
        return Csr(self._row_ptr, self._col_idx, self._values, n_users, n_users)

    def _left(self, users: NDArray[np.int32] | None, given: Csr | None) -> Csr:
        if given is None:
            return self.neighbours_ if users is None else inputs.take_rows(self.neighbours_, users)
        compared: tuple[Similarity, Rows, Csr] = self._cached("compared", self._compared)
        similarity, rows, terms = compared
        found = similarity.nearest(similarity.rows(given), rows, terms, self.k, False, self._where())
        return sorted_rows(found, self._where())

    def _right(self) -> Csr:
        return self._matrix

    def similar_users(self, users: ArrayLike, n: int = 10, **choice: Any) -> Recommendations:
        """Return the nearest neighbours of ``users`` and their similarities.

        Args:
            users: a user or a sequence of users.
            n: similar users for each; at most ``k`` are found.
            choice: ``include``/``exclude``, user ids.

        Returns:
            ids and scores, ``(m, n)``, or ``(n,)`` for a scalar; never the user itself; -1 and -inf behind the last.

        Raises:
            IndexError: an id out of range.
        """
        self._check_fitted()
        return self._nearest("users", users, self.neighbours_, n, **choice)

    def _grow(self, n_users: int, n_items: int) -> None:
        added = np.full(n_users + 1 - len(self._row_ptr), self._row_ptr[-1])
        self._row_ptr = np.concatenate([self._row_ptr, added])
        vars(self).pop("_cache", None)

    def estimate_memory(self, user_items: Any) -> dict[str, int]:
        """Return the bytes that ``fit(user_items)`` needs at its peak, by purpose and as "total"."""
        self._check_params()
        matrix = self._prepare(inputs.check_matrix(user_items, "user_items"))
        return neighbour_bytes(matrix, matrix.n_rows, self.k, plain=self.similarity in ("cosine", "jaccard"))

    def _pack(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        row_ptr, col_idx = {"neighbours.row_ptr": self._row_ptr}, {"neighbours.col_idx": self._col_idx}
        return {**row_ptr, **col_idx, "neighbours.values": self._values}, {}

    def _unpack(self, reader: Any, values: dict[str, Any]) -> None:
        from recsys_fast.models.files import read_csr

        n_users = self._matrix.n_rows
        self._take(read_csr(reader, "neighbours", (n_users, n_users), "the neighbours", values=True))
