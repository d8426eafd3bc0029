"""Models that score by the user's history times a matrix of item-to-item weights, sparse or dense."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_fast import ops
from recsys_fast.models import inputs
from recsys_fast.models.base import Recommendations
from recsys_fast.models.products import F32, ProductModel
from recsys_fast.ops import Csr


class ItemWeightModel(ProductModel):
    """``score(user, item) = sum over j in history(user) of value_j * W[j, item]`` with W ``(n_items, n_items)``.

    A subclass computes W in ``_compute`` and hands it to ``_take_weights``: a ``Csr``, or, with ``_dense = True`` and
    ``_learned = ("_table",)``, a dense float32 array.
    """

    _learned: ClassVar[tuple[str, ...]] = ("_row_ptr", "_col_idx", "_values")

    _row_ptr: NDArray[np.int64]
    _col_idx: NDArray[np.int32]
    _values: F32
    _table: F32

    def _history(self, matrix: Csr) -> Csr:
        """Return rows of interactions with the values that W is multiplied by."""
        return matrix

    def _take_weights(self, weights: Csr | F32) -> None:
        """Make ``weights`` the learned state."""
        if isinstance(weights, Csr):
            assert weights.values is not None
            self._row_ptr, self._col_idx, self._values = weights.row_ptr, weights.col_idx, weights.values
        else:
            self._table = weights
        vars(self).pop("_cache", None)

    @property
    def weights_(self) -> Csr | F32:
        """W ``(n_items, n_items)``: row j says what an interaction with item j adds to the score of each item."""
        _, n_items = self._shape()
        return self._table if self._dense else Csr(self._row_ptr, self._col_idx, self._values, n_items, n_items)

    def _left(self, users: NDArray[np.int32] | None, given: Csr | None) -> Csr:
        rows = given if given is not None else self._matrix if users is None else inputs.take_rows(self._matrix, users)
        return self._history(rows)

    def _right(self) -> Csr | F32:
        return self.weights_

    def similar_items(self, items: ArrayLike, n: int = 10, **choice: Any) -> Recommendations:
        """Return the items with the largest weights in the rows of ``items``.

        Args:
            items: an item or a sequence of items.
            n: similar items for each.
            choice: ``include``/``exclude``, item ids as in ``recommend``.

        Returns:
            ids and scores, ``(m, n)``, or ``(n,)`` for a scalar; never the item itself; -1 and -inf where a sparse
            row holds no more.

        Raises:
            IndexError: an id out of range.
        """
        self._check_fitted()
        return self._nearest("items", items, self._similar_rows(), n, **choice)

    def _similar_rows(self) -> Csr | F32:
        """Return the matrix whose rows say what is similar to an item."""
        return self.weights_

    def _grow(self, n_users: int, n_items: int) -> None:
        if self._dense:
            more = n_items - len(self._table)
            self._table = np.pad(self._table, ((0, more), (0, more))) if more else self._table
        else:
            added = np.full(n_items + 1 - len(self._row_ptr), self._row_ptr[-1])
            self._row_ptr = np.concatenate([self._row_ptr, added])
        vars(self).pop("_cache", None)

    def _pack(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        if self._dense:
            return {"weights": self._table}, {}
        row_ptr, col_idx = {"weights.row_ptr": self._row_ptr}, {"weights.col_idx": self._col_idx}
        return {**row_ptr, **col_idx, "weights.values": self._values}, {}

    def _unpack(self, reader: Any, values: dict[str, Any]) -> None:
        from recsys_fast.models.files import read_csr, read_table

        n_items = self._matrix.n_cols
        if self._dense:
            self._table = read_table(reader, "weights", (n_items, n_items))
        else:
            self._take_weights(read_csr(reader, "weights", (n_items, n_items), "the item weights", values=True))


class ItemNeighbours(ItemWeightModel):
    """W holds each item's neighbours in its column: a score looks at the neighbours of the item that is scored."""

    @property
    def neighbours_(self) -> Csr:
        """Row i: the neighbours of item i and their similarities, by id."""
        weights = self.weights_
        assert isinstance(weights, Csr)
        found: Csr = self._cached("neighbours", lambda: ops.csr_transpose(weights, device=self.device))
        return found

    def _similar_rows(self) -> Csr:
        return self.neighbours_
