"""Towers: from an id and its features to a vector."""

from __future__ import annotations

from recsys_fast.blocks.base import Array, Block, PackedBatch, Runtime
from recsys_fast.blocks.embedding import ItemTable
from recsys_fast.blocks.embedding_bag import EmbeddingBag
from recsys_fast.blocks.field_table import FeatureRows
from recsys_fast.blocks.mlp import MLP


class UnitRows:
    """y = x / |x| row by row; a row of zeros stays as it is, and gets the gradient 0."""

    def forward(self, x: Array, runtime: Runtime) -> Array:
        """Return the rows of length 1, ``(n, d)``."""
        self._y, self._scale = runtime.take(self, "y", x.shape), runtime.take(self, "scale", (len(x),))
        runtime.run("unit_rows_forward", self._y, self._scale, x)
        return self._y

    def backward(self, dy: Array, runtime: Runtime) -> Array:
        """Return the gradient of the rows of the last ``forward``."""
        dx = runtime.take(self, "dx", dy.shape)
        runtime.run("unit_rows_backward", dx, dy, self._y, self._scale)
        return dx


class Tower:
    """vector = MLP(bag of the row's embeddings), scaled to length 1 where asked for; a vector of zeros stays as it is.

    Args:
        table: of ids and features.
        mlp: behind it; without layers the bag is the vector.
        unit: whether vectors have length 1.

    Attributes:
        blocks: by name.
        tables: connected apart.
        d_out: width of the vectors.
    """

    def __init__(self, table: EmbeddingBag, mlp: MLP, unit: bool) -> None:
        self.table, self.mlp, self.unit = table, mlp, UnitRows() if unit else None
        self.blocks: dict[str, Block] = {"mlp": mlp}
        self.tables: tuple[ItemTable, ...] = (table,)
        self.d_out = mlp.d_out

    def forward(self, rows: FeatureRows, packed: PackedBatch) -> Array:
        """Return the vectors ``(n, d)``."""
        x: Array = self.mlp.forward(self.table.bags(rows), packed)
        return x if self.unit is None else self.unit.forward(x, self.table.runtime)

    def backward(self, dy: Array, packed: PackedBatch) -> None:
        """Write the gradients of the layers and of the table's rows from that of the last ``forward``'s vectors."""
        if self.unit is not None:
            dy = self.unit.backward(dy, self.table.runtime)
        self.table.bags_backward(self.mlp.backward(dy, packed))
