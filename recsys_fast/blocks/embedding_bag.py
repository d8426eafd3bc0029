"""Sums and means of embeddings: what stands for a set of features, or for an id and its features."""

from __future__ import annotations

import numpy as np

from recsys_fast.blocks.base import Array
from recsys_fast.blocks.embedding import ItemTable
from recsys_fast.blocks.field_table import FeatureRows, FieldTable
from recsys_fast.ops.block_arguments import as_choice

MODES = ("sum", "mean")


class EmbeddingBag(FieldTable):
    """y[r] = sum over the entries of row r of value table[id], or that over the number of entries; 0 for no entries.

    Weights are the values of the rows; without values each entry counts 1. A step is ``bags``, ``bags_backward`` and
    ``step``, which moves the rows of the batch and no others.

    Args:
        n_rows: of the table.
        d: width.
        mode: "sum" or "mean".
        init, scale: see ``ItemTable``.
        name: under which an optimizer keeps its state.
        biased: whether rows have a number of their own besides, 0 at first, summed up like their vectors.

    Attributes:
        bias_sums: ``(n,)`` of the last ``bags``; 0 where there are none.
    """

    bias_sums: Array

    def __init__(
        self, n_rows: int, d: int, mode: str = "sum", *, init: str = "normal", scale: float = 0.02, name: str = "bag",
        biased: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(n_rows, d, np.empty(0, np.int32), 1, linear=biased, pairs=False, scale=scale)
        as_choice(mode, "mode of an embedding bag", MODES)
        self.mode, self.init, self.name = mode, init, name

    def bags(self, rows: FeatureRows) -> Array:
        """Return ``(n, d)``; ``bags_backward`` belongs to the last call."""
        if self.mode == "mean":
            lengths = np.diff(rows.row_ptr)
            shares = np.repeat((1.0 / np.maximum(lengths, 1)).astype(self.runtime.dtype), lengths)
            rows = rows._replace(values=shares * rows.values if len(rows.values) else shares)
        x, self.bias_sums = self.forward(rows)
        return x

    def bags_backward(self, dy: Array, dbias: Array | None = None) -> None:
        """Sum up the gradient of the rows that the last ``bags`` took.

        Args:
            dy: ``(n, d)``, of its result.
            dbias: ``(n,)``, of ``bias_sums``; None for zeros.
        """
        if dbias is None:
            dbias = self._take("dbias_sums", len(dy))
            self.runtime.fill(dbias, 0.0)
        self.backward(dy, dbias)

    def finish(self) -> None:
        """Add what a ``SharedBag`` has of the rows' gradient, where there is one."""
        if self._rows:
            assert self.rows is not None, "bags_backward comes before finish"
            self.add_rows(self.rows, self.drows)
            ItemTable.finish(self)


class SharedBag(EmbeddingBag):
    """More bags of a table's rows in the same step: what is summed up here joins the table's own gradient.

    Args:
        table: connected, begun, finished and stepped for both.
    """

    def __init__(self, table: EmbeddingBag) -> None:
        super().__init__(table.n_rows, table.n_factors, table.mode, biased=table.linear)
        self.table = table

    def bags(self, rows: FeatureRows) -> Array:
        """Return ``(n, d)``, as the table would."""
        self.runtime, self.values, self._how = self.table.runtime, self.table.values, self.table._how
        return super().bags(rows)

    def bags_backward(self, dy: Array, dbias: Array | None = None) -> None:
        """Add the gradient of the rows that the last ``bags`` took to that of the table."""
        super().bags_backward(dy, dbias)
        assert self.rows is not None
        self.table.add_rows(self.rows, self.drows)
