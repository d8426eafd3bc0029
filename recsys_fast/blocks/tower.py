"""Towers: from an id and its features to a vector."""

from __future__ import annotations

import numpy as np

from recsys_fast.blocks.base import Array, PackedBatch
from recsys_fast.blocks.embedding_bag import EmbeddingBag
from recsys_fast.blocks.field_table import FeatureRows
from recsys_fast.blocks.mlp import MLP


class Tower:
    """vector = MLP(bag of the row's embeddings), scaled to length 1 where asked for; a vector of zeros stays as it is.

    Args:
        table: of ids and features.
        mlp: behind it; without layers the bag is the vector.
        unit: whether vectors have length 1.
    """

    def __init__(self, table: EmbeddingBag, mlp: MLP, unit: bool) -> None:
        self.table, self.mlp, self.unit = table, mlp, unit

    def forward(self, rows: FeatureRows, packed: PackedBatch) -> Array:
        """Return the vectors ``(n, d)``."""
        x: Array = self.mlp.forward(self.table.bags(rows), packed)
        if not self.unit:
            return x
        lengths = np.sqrt(np.einsum("ij,ij->i", x, x))[:, None]
        self._scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
        y: Array = self.table.runtime.take(self, "y", x.shape)
        self._y = np.multiply(x, self._scale, out=y)
        return y

    def backward(self, dy: Array, packed: PackedBatch) -> None:
        """Write the gradients of the layers and of the table's rows from that of the last ``forward``'s vectors."""
        if self.unit:
            dx = self.table.runtime.take(self, "dx", dy.shape)
            np.multiply(self._y, np.einsum("ij,ij->i", dy, self._y)[:, None], out=dx)
            np.subtract(dy, dx, out=dx)
            dx *= self._scale
            dy = dx
        self.table.bags_backward(self.mlp.backward(dy, packed))
