"""Item-based neighbours: what is similar to the user's items, by the users who have both."""

from __future__ import annotations

from typing import Any

from recsys_fast import ops
from recsys_fast.errors import message
from recsys_fast.models import inputs
from recsys_fast.models.item_weights import ItemNeighbours
from recsys_fast.models.similarity import check_positive, check_similarity, similarity_of
from recsys_fast.ops import Csr


class ItemKNN(ItemNeighbours):
    """Item-based collaborative filtering (Sarwar et al. 2001; Deshpande, Karypis 2004).

    ``score(u, i) = sum over j in history(u), j among the k nearest neighbours of i, of value_uj * sim(i, j)``. Only
    similarities above 0 make neighbours. With x_i the column of item i:

    - "cosine": ``x_i . x_j / (|x_i| |x_j| + shrinkage)``
    - "jaccard": users of both over users of either (plus shrinkage), whatever the values
    - "pearson": cosine of the values less their item's mean; items whose values are all equal have no neighbours
    - "tfidf": cosine of values times ``log(1 + n_items / n_u)``, n_u items of the user: long histories say less
    - "bm25": Okapi weights on both sides, items as documents and users as terms (Robertson, Zaragoza 2009); values
      must be above 0

    Results are the same bits for any number of threads.

    Args:
        k: neighbours per item; may exceed the number of items.
        similarity: see above.
        shrinkage: added to the denominator, so that similarities of few users count less (Bell, Koren 2007); 0 with
            "bm25".
        normalize_users: scale every user's values to length 1 before items are compared, so that a long history says
            no more than a short one (Deshpande, Karypis 2004); with "cosine", "pearson" and "tfidf".
        bm25_k1: saturation of "bm25".
        bm25_b: how much "bm25" discounts items with many interactions, 0 to 1.
        device: "auto", "cpu", "numba" or "cuda".
        n_threads: None for every CPU granted.

    Attributes:
        weights_: ``Csr (n_items, n_items)``: column i holds the neighbours of item i and their similarities.
        neighbours_: its transpose, a row per item.

    ``partial_fit`` and ``resize`` follow ``Recommender``: any change of interactions recomputes all neighbours, and
    items added by ``resize`` have none until then.
    """

    def __init__(
        self,
        k: int = 100,
        similarity: str = "cosine",
        *,
        shrinkage: float = 0.0,
        normalize_users: bool = False,
        bm25_k1: float = 1.2,
        bm25_b: float = 0.75,
        device: str = "auto",
        n_threads: int | None = None,
    ) -> None:
        self.k = k
        self.similarity = similarity
        self.shrinkage = shrinkage
        self.normalize_users = normalize_users
        self.bm25_k1 = bm25_k1
        self.bm25_b = bm25_b
        self.device = device
        self.n_threads = n_threads

    def _check_params(self) -> None:
        check_similarity(self)
        if not isinstance(self.normalize_users, bool):
            raise TypeError(message("normalize_users", repr(self.normalize_users), "True or False"))
        if self.normalize_users and self.similarity in ("jaccard", "bm25"):
            expected = "similarity 'cosine', 'pearson' or 'tfidf'"
            raise ValueError(message("normalize_users", f"similarity={self.similarity!r}", expected))

    def _prepare(self, matrix: Csr) -> Csr:
        return check_positive(matrix, "for BM25") if self.similarity == "bm25" else inputs.drop_zeros(matrix)

    def _compute(self) -> None:
        where: dict[str, Any] = {"device": self.device, "n_threads": self.n_threads}
        items = ops.csr_transpose(self._matrix, **where)
        similarity = similarity_of(self, items)
        rows = similarity.rows(items)
        # Values that were not changed are those of the matrix: then it need not be made a second time.
        terms = self._matrix._replace(values=None) if rows.right.values is None else self._matrix
        if rows.right.values is not None and rows.right.values is not items.values:
            terms = ops.csr_transpose(rows.right, **where)
        neighbours = similarity.nearest(rows, rows, terms, self.k, True, where)
        self._take_weights(ops.csr_transpose(neighbours, **where))

    def estimate_memory(self, user_items: Any) -> dict[str, int]:
        """Return the bytes that ``fit(user_items)`` needs at its peak, by purpose and as "total"."""
        self._check_params()
        matrix = self._prepare(inputs.check_matrix(user_items, "user_items"))
        return neighbour_bytes(
            matrix, matrix.n_cols, self.k, plain=self.similarity in ("cosine", "jaccard") and not self.normalize_users
        )


def neighbour_bytes(matrix: Csr, n_things: int, k: int, *, plain: bool) -> dict[str, int]:
    """Return the parts of ``estimate_memory`` for neighbours among rows or columns of a matrix.

    Args:
        matrix: the training matrix.
        n_things: what is compared.
        k: neighbours of each.
        plain: whether no value is weighted.
    """
    values = 0 if matrix.values is None else 4 * matrix.nnz
    kept = n_things * min(k, n_things)
    pointers = 8 * (matrix.n_rows + matrix.n_cols + 2)
    parts = {
        "neighbours": 8 * kept + 8 * (n_things + 1),
        "lists": 40 * kept,
        "matrix": 8 * (matrix.n_rows + 1) + 4 * matrix.nnz + values,
        "transpose": pointers + 4 * matrix.nnz + values,
        "weighted": 0 if plain else 24 * matrix.nnz,
        "work": 5 * matrix.nnz + pointers + (96 << 20) + 64 * n_things,
    }
    return {**parts, "total": sum(parts.values())}
