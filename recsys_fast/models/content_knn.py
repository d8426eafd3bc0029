"""Neighbours by item features: works for items that nobody has interacted with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Self

import numpy as np

from recsys_fast import ops
from recsys_fast.errors import message
from recsys_fast.models import inputs
from recsys_fast.models.item_weights import ItemNeighbours
from recsys_fast.models.products import F32
from recsys_fast.models.similarity import check_similarity, identity, positive, similarity_of
from recsys_fast.ops import Csr
from recsys_fast.ops.topk import as_factors


class ContentKNN(ItemNeighbours):
    """Item-based neighbours by features of the items (Lops, de Gemmis, Semeraro 2011).

    ``score(u, i) = sum over j in history(u), j among the k nearest neighbours of i, of value_uj * sim(i, j)`` as in
    ``ItemKNN``, where items are compared by their features: sparse ``(n_items, n_features)`` with any similarity
    ("tfidf" and "bm25" take items as documents and features as terms), or a dense array (embeddings, for example) with
    "cosine" or "pearson" and no shrinkage. Only similarities above 0 make neighbours.

    Items without interactions are recommended like others. An item without features (an empty row, or one of zeros)
    has no neighbours: its score is 0 for everybody. Results are the same bits for any number of threads.

    Args:
        k: neighbours per item; may exceed the number of items.
        similarity: "cosine", "jaccard", "pearson", "tfidf" or "bm25"; see ``ItemKNN``.
        shrinkage: added to the denominator; 0 with "bm25" and with dense features.
        bm25_k1: saturation of "bm25".
        bm25_b: how much "bm25" discounts items with many features, 0 to 1.
        device: "auto", "cpu" or "numba".
        n_threads: None for every CPU granted.

    Attributes:
        weights_: ``Csr (n_items, n_items)``: column i holds the neighbours of item i and their similarities.
        neighbours_: its transpose, a row per item.

    ``partial_fit`` takes over other interactions; neighbours depend on features alone and stay. Items added by
    ``resize`` have no features: fit again to give them some.
    """

    _fits_interactions: ClassVar[bool] = False

    _features: Csr | F32

    def __init__(
        self,
        k: int = 50,
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

    def fit(
        self,
        user_items: Any,
        *,
        item_features: Any = None,
        eval_set: Any = None,
        callbacks: Iterable[Any] = (),
        verbose: bool = False,
    ) -> Self:
        """Find the neighbours of all items.

        Args:
            user_items: ``(n_users, n_items)`` interactions.
            item_features: ``(n_items, n_features)``, sparse as ``user_items`` may be, or a dense array.
            eval_set: as in ``Recommender.fit``.
            callbacks: likewise.
            verbose: likewise.

        Returns:
            The model.

        Raises:
            TypeError: no features.
            ValueError: features of another number of items, values that are not finite, or a similarity that dense
                features do not have.
        """
        try:
            return self._fit(user_items, eval_set, callbacks, verbose, item_features=item_features)
        finally:
            vars(self).pop("_features", None)

    def _check_given(self, matrix: Csr, **given: Any) -> dict[str, Any]:
        return {"_features": self._check_features(given.get("item_features"), matrix.n_cols)}

    def _check_features(self, features: Any, n_items: int) -> Csr | F32:
        if features is None:
            expected = "(n_items, n_features), sparse or dense"
            raise TypeError(message("item_features", None, expected, "fit(user_items, item_features=...)"))
        if isinstance(features, Csr) or hasattr(features, "tocsr") or hasattr(features, "csr"):
            sparse = inputs.drop_zeros(inputs.check_matrix(features, "item_features", n_items))
            if self.similarity == "bm25" and sparse.values is not None and (sparse.values < 0).any():
                raise ValueError(message("value of item_features", sparse.values.min(), "values above 0 for BM25"))
            return sparse
        dense = as_factors(features, "item_features")
        if len(dense) != n_items:
            raise ValueError(message("item_features", f"shape {dense.shape}", f"a row for each of {n_items} items"))
        if self.similarity not in ("cosine", "pearson") or self.shrinkage:
            got = f"similarity={self.similarity!r}, shrinkage={self.shrinkage}"
            mend = "pass scipy.sparse.csr_array(item_features)"
            raise ValueError(message("dense item_features", got, "'cosine' or 'pearson', shrinkage 0", mend))
        return dense

    def _compute(self) -> None:
        features: Csr | F32 | None = vars(self).get("_features")
        if features is None:
            if "_values" in vars(self):
                return  # other interactions, the same items
            raise ValueError(message("partial_fit", "no features", "a fitted model", "call fit with item_features"))
        where: dict[str, Any] = {"device": self.device, "n_threads": self.n_threads}
        if isinstance(features, Csr):
            similarity = similarity_of(self, features)
            rows = similarity.rows(features)
            terms = ops.csr_transpose(rows.right, **where)
            neighbours = similarity.nearest(rows, rows, terms, self.k, True, where)
        else:
            neighbours = self._nearest_dense(features, where)
        self._take_weights(ops.csr_transpose(neighbours, **where))

    def _nearest_dense(self, features: F32, where: dict[str, Any]) -> Csr:
        unit = features.astype(np.float64)
        if self.similarity == "pearson":
            unit -= unit.mean(axis=1, keepdims=True) if unit.shape[1] else 0.0
        lengths = np.sqrt(np.einsum("ij,ij->i", unit, unit))
        unit /= np.where(lengths > 0, lengths, 1.0)[:, None]
        table, n_items = unit.astype(np.float32), len(unit)
        ids, scores = ops.topk(table, table, min(self.k, n_items), seen=identity(n_items), **where)
        return positive(ids, scores, n_items)

    def estimate_memory(self, user_items: Any) -> dict[str, int]:
        """Return the bytes that ``fit`` needs besides the features and their copy, by purpose and as "total"."""
        self._check_params()
        matrix = inputs.check_matrix(user_items, "user_items")
        kept = matrix.n_cols * min(self.k, matrix.n_cols)
        values = 0 if matrix.values is None else 4 * matrix.nnz
        parts = {
            "neighbours": 8 * kept + 8 * (matrix.n_cols + 1),
            "lists": 40 * kept,
            "matrix": 8 * (matrix.n_rows + 1) + 4 * matrix.nnz + values,
            "work": (96 << 20) + 64 * matrix.n_cols,
        }
        return {**parts, "total": sum(parts.values())}
