"""The table of a model over sparse rows of features: vectors summed by field, a machine's score, rows stepped alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.base import Array, Runtime
from recsys_fast.blocks.embedding import ItemTable

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


class FeatureRows(NamedTuple):
    """A batch of sparse rows.

    Attributes:
        row_ptr: ``(n + 1,) int64``, from 0 on.
        col_idx: ``(nnz,) int32`` features.
        values: ``(nnz,)``, of length 0 where all are 1.
    """

    row_ptr: I64
    col_idx: I32
    values: Array

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.row_ptr) - 1


class FieldTable(ItemTable):
    """A row per feature: its vector and, with ``linear``, its weight; see ``recsys_fast.ops.field_sums_forward``.

    A step is ``forward``, ``backward`` and ``step``, which moves the rows of the batch's features and no others.

    Args:
        n_features: number of rows.
        n_factors: length k of a vector.
        fields: ``(n_features,) int32`` the field of each feature; of length 0 for a single field.
        n_fields: number of fields.
        linear: whether there are weights, and the score has their sum.
        pairs: whether the score has the products of the row's vectors by pairs.
        scale: standard deviation of the first vectors; weights begin at 0.
        regularization: times a row, added to its gradient where it steps; None for the optimizer's weight decay.
    """

    def __init__(
        self,
        n_features: int,
        n_factors: int,
        fields: I32,
        n_fields: int,
        *,
        linear: bool = True,
        pairs: bool = True,
        scale: float = 0.01,
        regularization: float | None = None,
    ) -> None:
        super().__init__(n_features, n_factors + linear, scale=scale, name="features")
        self.n_factors, self.n_fields, self.linear, self.pairs = n_factors, n_fields, linear, pairs
        self.fields = fields if n_fields > 1 else np.empty(0, np.int32)
        self.weight_decay = regularization

    def _drawn(self, generator: np.random.Generator) -> Array:
        values = super()._drawn(generator)
        if self.linear:
            values[:, self.n_factors :] = 0.0
        return values

    def connect(self, runtime: Runtime, site: int) -> None:
        """Take over where to compute; allocate the table."""
        super().connect(runtime, site)
        self._how = runtime.upload(self.fields), self.n_fields, self.linear, self.pairs

    def forward(self, rows: FeatureRows) -> tuple[Array, Array]:
        """Return the sums by field, ``(n, n_fields * k)``, and the scores, ``(n,)``."""
        x = self._take("x", rows.n, self.n_fields * self.n_factors)
        self._sums = self._take("sums", rows.n if self.linear or self.pairs else 0, self.d)
        score = self._take("score", rows.n)
        self._last, self._there = rows, FeatureRows(*map(self.runtime.upload, rows))
        self.runtime.run("field_sums_forward", x, self._sums, score, *self._there, self.values, *self._how)
        return x, score

    def backward(self, dx: Array, dscore: Array) -> None:
        """Sum up the gradient of the rows of the last ``forward``, from those of its results."""
        _, ids, values = self._there
        n = len(ids)
        rows = self.runtime.take(self, "plan.rows", (n,), np.int32)
        entry_ptr = self.runtime.take(self, "plan.ptr", (n + 1,), np.int64)
        entries = self.runtime.take(self, "plan.entries", (n,), np.int32)
        n_distinct = self.runtime.run("id_plan", rows, entry_ptr, entries, ids, self.n_rows)
        places = np.repeat(np.arange(self._last.n, dtype=np.int32), np.diff(self._last.row_ptr))
        self.rows, self.drows = rows[:n_distinct], self._take("drows", n_distinct, self.d)
        self.runtime.run(
            "field_sums_backward", self.drows, self.rows, entry_ptr[: n_distinct + 1], entries, places, values, dx,
            dscore, self._sums, self.values, *self._how,
        )  # fmt: skip

    def finish(self) -> None:
        """Nothing is left to do after ``backward``."""
