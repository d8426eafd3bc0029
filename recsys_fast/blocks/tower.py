"""Towers: from an id and its features to a vector."""

from __future__ import annotations

from typing import Any, NamedTuple

from recsys_fast.blocks.base import Array, Block, PackedBatch, Runtime
from recsys_fast.blocks.columns import added
from recsys_fast.blocks.embedding import ItemTable
from recsys_fast.blocks.embedding_bag import EmbeddingBag, SharedBag
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
        x: Array = self.mlp.forward(self._bags(rows), packed)
        return x if self.unit is None else self.unit.forward(x, self.table.runtime)

    def backward(self, dy: Array, packed: PackedBatch, dbias: Array | None = None) -> None:
        """Write the gradients of the layers and of the table's rows from those of the last ``forward``'s vectors and
        ``bias``; None for zeros."""
        if self.unit is not None:
            dy = self.unit.backward(dy, self.table.runtime)
        self._bags_backward(self.mlp.backward(dy, packed), dbias)

    @property
    def bias(self) -> Array:
        """The sums of the rows' biases ``(n,)`` of the last ``forward``, where the table has some."""
        return self.table.bias_sums

    def _bags(self, rows: FeatureRows) -> Array:
        return self.table.bags(rows)

    def _bags_backward(self, dx: Array, dbias: Array | None) -> None:
        self.table.bags_backward(dx, dbias)


class HistoryRows(NamedTuple):
    """A batch of users.

    Attributes:
        own: ids and features.
        history: items of each, with the weights of their embeddings.
    """

    own: FeatureRows
    history: FeatureRows


class HistoryTower(Tower):
    """vector = MLP(bag of the user's embeddings + weighted sum of the embeddings of its items), scaled as by ``Tower``.

    Args:
        table: of ids and features of users.
        items: the table of the items' own tower, which gets its gradient from both.
        mlp, unit: as of ``Tower``.
    """

    def __init__(self, table: EmbeddingBag, items: EmbeddingBag, mlp: MLP, unit: bool) -> None:
        super().__init__(table, mlp, unit)
        self.shared = SharedBag(items)

    def _bags(self, rows: Any) -> Array:
        own = self.table.bags(rows.own)
        return added(self.table.runtime, self, "bags", self.shared.bags(rows.history), own)

    def _bags_backward(self, dx: Array, dbias: Array | None) -> None:
        self.table.bags_backward(dx, dbias)
        self.shared.bags_backward(dx)
