"""Models that score by a product with sparse rows on its left: everything that needs only the two sides."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import ops
from recsys_fast.errors import message
from recsys_fast.models import inputs
from recsys_fast.models.base import Recommendations, Recommender
from recsys_fast.models.parameters import check_int
from recsys_fast.ops import Csr

F32 = NDArray[np.float32]
_BLOCK = 1 << 22  # scores that are alive at once where pairs are predicted


class ProductModel(Recommender):
    """A model with ``scores = left(users) @ right``, left sparse; ranking is one operation and never a dense matrix."""

    #: whether the learned right side is one dense table, kept as ``_table``
    _dense: ClassVar[bool] = False

    # ---- what a model supplies

    @abstractmethod
    def _left(self, users: NDArray[np.int32] | None, given: Csr | None) -> Csr:
        """Return the rows of known users (None for all), or of the histories ``given``."""

    @abstractmethod
    def _right(self) -> Csr | F32:
        """Return the right side, ``(k, n_items)``."""

    @abstractmethod
    def _compute(self) -> None:
        """Learn from ``self._matrix``; the old state stays until the new one is complete."""

    # ---- training: one pass

    def _begin(self) -> Once:
        return Once(self)

    def _resume(self) -> Once:
        return Once(self)

    def _update(self, users: NDArray[np.int32] | None, items: NDArray[np.int32] | None) -> None:
        self._compute()

    # ---- use

    def _rank(self, users: NDArray[np.int32] | None, given: Csr | None, n: int, **choice: Any) -> Recommendations:
        where: dict[str, Any] = {"device": self.device, "n_threads": self.n_threads, "check": False}
        return Recommendations(*ops.product_topk(self._left(users, given), self._right(), n, **where, **choice))

    def _score_histories(self, given: Csr) -> F32:
        return dense_product(self._left(None, given), for_scipy(self._right()))

    def score(self, users: ArrayLike, items: ArrayLike | None = None) -> F32:
        """Return the scores of items for users; see ``Recommender.score``."""
        n_users, n_items = self._shape()
        user_ids, one = inputs.check_ids(users, n_users, "users")
        chosen = None if items is None else inputs.check_ids(items, n_items, "items")[0]
        scores = dense_product(self._left(user_ids, None), for_scipy(self._right()))
        if chosen is not None:
            scores = scores[:, chosen]
        return scores[0] if one else scores

    def predict(self, users: ArrayLike, items: ArrayLike) -> Any:
        """Return the score of each pair ``(users[k], items[k])``; a scalar stands for every k.

        Each user's scores of all items are made once, so that many pairs of few users are cheap.

        Returns:
            ``(m,) float32``, or a float where both are scalars.

        Raises:
            IndexError: an id out of range.
            ValueError: the lengths differ.
        """
        n_users, n_items = self._shape()
        user_ids, item_ids, scalar = inputs.check_pairs(users, items, n_users, n_items)
        out = np.empty(len(user_ids), np.float32)
        right, block = for_scipy(self._right()), max(1, _BLOCK // max(1, n_items))
        distinct, place = np.unique(user_ids, return_inverse=True)
        order = np.argsort(place, kind="stable")
        starts = np.searchsorted(place[order], np.arange(0, len(distinct) + block, block))
        for part, begin in enumerate(range(0, len(distinct), block)):
            pairs = order[starts[part] : starts[part + 1]]
            scores = dense_product(self._left(distinct[begin : begin + block], None), right)
            out[pairs] = scores[place[pairs] - begin, item_ids[pairs]]
        return float(out[0]) if scalar else out

    def _nearest(
        self,
        side: str,
        ids: ArrayLike,
        rows: Csr | F32,
        n: int,
        *,
        include: ArrayLike | None = None,
        exclude: ArrayLike | None = None,
    ) -> Recommendations:
        """Return the largest entries of the rows ``ids`` of a square matrix, without the diagonal."""
        size = rows.shape[0]
        chosen, scalar = inputs.check_ids(ids, size, side)
        choice = inputs.check_chosen(size, include=include, exclude=exclude)
        itself = Csr(np.arange(len(chosen) + 1, dtype=np.int64), chosen, None, len(chosen), size)
        where: dict[str, Any] = {"device": self.device, "n_threads": self.n_threads, "check": False}
        zeros = not isinstance(rows, Csr)
        n = check_int("n", n, 0)
        found = Recommendations(*ops.product_topk(itself, rows, n, seen=itself, zeros=zeros, **where, **choice))
        return Recommendations(found.ids[0], found.scores[0]) if scalar else found

    def _unsupported(self, what: str) -> Any:
        error = super()._unsupported(what)
        if what != "fold_in":
            return error
        mend = "pass the histories to recommend(user_items=...)"
        return type(error)(message(f"{type(self).__name__} keeps nothing per user to fold in", mend=mend))


class Once:
    """Learns in one pass; there is nothing to repeat and nothing to take back."""

    def __init__(self, model: ProductModel) -> None:
        self.model, self.done = model, False

    def epoch(self) -> None:
        """Compute, the first time."""
        if not self.done:
            self.model._compute()
            vars(self.model).pop("_cache", None)
            self.done = True

    def rollback(self) -> None:
        """Leave the old state: ``epoch`` replaces it at once or not at all."""


def for_scipy(matrix: Csr | F32) -> Any:
    """Return a right side as what ``dense_product`` multiplies with."""
    if not isinstance(matrix, Csr):
        return matrix
    from scipy import sparse

    values = np.ones(matrix.nnz, np.float32) if matrix.values is None else matrix.values
    return sparse.csr_array((values, matrix.col_idx, matrix.row_ptr), shape=matrix.shape)


def dense_product(left: Csr, right: Any) -> F32:
    """Return ``left @ right`` as an array ``(m, n_items) float32``."""
    product = for_scipy(left) @ right
    dense: F32 = product.toarray() if hasattr(product, "toarray") else product
    return dense
