"""Sums and means of embeddings: what stands for a set of features, or for an id and its features."""

from __future__ import annotations

import numpy as np

from recsys_fast.blocks.base import Array
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
    """

    def __init__(
        self, n_rows: int, d: int, mode: str = "sum", *, init: str = "normal", scale: float = 0.02, name: str = "bag"
    ) -> None:
        super().__init__(n_rows, d, np.empty(0, np.int32), 1, linear=False, pairs=False, scale=scale)
        as_choice(mode, "mode of an embedding bag", MODES)
        self.mode, self.init, self.name = mode, init, name

    def bags(self, rows: FeatureRows) -> Array:
        """Return ``(n, d)``; ``bags_backward`` belongs to the last call."""
        if self.mode == "mean":
            lengths = np.diff(rows.row_ptr)
            shares = np.repeat((1.0 / np.maximum(lengths, 1)).astype(self.runtime.dtype), lengths)
            rows = rows._replace(values=shares * rows.values if len(rows.values) else shares)
        return self.forward(rows)[0]

    def bags_backward(self, dy: Array) -> None:
        """Sum up the gradient of the rows that the last ``bags`` took, from that of its result ``(n, d)``."""
        dscore = self._take("dscore", len(dy))
        self.backward(dy, dscore)
