"""The baseline that every model has to beat: the same items for everybody, the most popular first."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from recsys_fast.errors import message
from recsys_fast.models import inputs
from recsys_fast.models.factors import F32, FactorModel
from recsys_fast.models.parameters import check_choice
from recsys_fast.ops import Csr


class Popularity(FactorModel):
    """Scores every item by how much it was interacted with, whoever asks. Stored zeros are no interactions.

    Args:
        by: "count" of interactions, or "sum" of their values.
        device: "auto", "cpu" or "numba".
        n_threads: None for every CPU granted.

    Attributes:
        item_scores_: ``(n_items,) float32``.
    """

    _learned: ClassVar[tuple[str, ...]] = ("item_scores_",)

    item_scores_: F32

    def __init__(self, by: str = "count", *, device: str = "auto", n_threads: int | None = None) -> None:
        self.by = by
        self.device = device
        self.n_threads = n_threads

    def _check_params(self) -> None:
        check_choice("by", self.by, ("count", "sum"))

    def _prepare(self, matrix: Csr) -> Csr:
        return inputs.drop_zeros(matrix)

    def _begin(self) -> _Counter:
        return _Counter(self)

    def _resume(self) -> _Counter:
        return _Counter(self)

    def _update(self, users: NDArray[np.int32] | None, items: NDArray[np.int32] | None) -> None:
        self._count()

    def _grow(self, n_users: int, n_items: int) -> None:
        self.item_scores_ = np.pad(self.item_scores_, (0, n_items - len(self.item_scores_)))

    def _count(self) -> None:
        matrix = self._matrix
        if self.by == "count" or matrix.values is None:
            self.item_scores_ = inputs.column_counts(matrix).astype(np.float32)
            return
        totals = np.zeros(matrix.n_cols)
        for start in range(0, matrix.nnz, 1 << 20):
            part = slice(start, start + (1 << 20))
            totals += np.bincount(matrix.col_idx[part], matrix.values[part], matrix.n_cols)
        if np.abs(totals).max(initial=0.0) > np.finfo(np.float32).max:
            raise ValueError(message("largest sum of values", np.abs(totals).max(), "a float32", 'use by="count"'))
        self.item_scores_ = totals.astype(np.float32)

    def _queries(self, users: NDArray[np.int32] | None) -> F32:
        return np.ones((self._matrix.n_rows if users is None else len(users), 1), np.float32)

    def _item_table(self) -> F32:
        return self.item_scores_[:, None]

    def _new_queries(self, given: Csr) -> F32:
        return np.ones((given.n_rows, 1), np.float32)

    def estimate_memory(self, user_items: Any) -> dict[str, int]:
        """Return the bytes that ``fit(user_items)`` needs at its peak, by purpose and as "total"."""
        matrix = inputs.check_matrix(user_items, "user_items")
        held = 8 * (matrix.n_rows + 1) + 4 * matrix.nnz * (1 if matrix.values is None else 2)
        parts = {"scores": 4 * matrix.n_cols, "counts": 16 * matrix.n_cols, "matrix": held}
        return {**parts, "total": sum(parts.values())}

    def _pack(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        return {"item_scores": self.item_scores_}, {}

    def _unpack(self, reader: Any, values: dict[str, Any]) -> None:
        from recsys_fast.models.files import read_table

        self.item_scores_ = read_table(reader, "item_scores", (self._matrix.n_cols,))


class _Counter:
    """Counts once; there is nothing to repeat and nothing to take back."""

    def __init__(self, model: Popularity) -> None:
        self.model = model

    def epoch(self) -> None:
        """Count."""
        self.model._count()

    def rollback(self) -> None:
        """Leave the old scores: ``epoch`` replaces them at once or not at all."""
