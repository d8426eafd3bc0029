"""Encoders: from rows of content to a vector of each."""

from __future__ import annotations

from collections.abc import Sequence

from recsys_fast.blocks.base import Array, Block, PackedBatch
from recsys_fast.blocks.embedding import ItemTable


class Encoder:
    """Blocks one behind the other, the first of which takes content as it comes, the last gives a vector of each row.

    A network that has one, or several, connects ``blocks`` by its ``ParameterSet`` and ``tables`` apart, and begins,
    finishes and steps the tables.

    Args:
        blocks: by name, in order.
        width: of the vectors.
        tables: that ids are looked up in; their names are unique in a network.
    """

    def __init__(self, blocks: dict[str, Block], width: int, tables: Sequence[ItemTable] = ()) -> None:
        self.blocks, self.width, self.tables = blocks, width, tuple(tables)
        self._forward, self._backward = tuple(blocks.values()), tuple(blocks.values())[::-1]

    def forward(self, items: Array, batch: PackedBatch) -> Array:
        """Return the vectors ``(n, width)`` of the rows of ``batch``, until the next call."""
        for block in self._forward:
            items = block.forward(items, batch)
        return items

    def backward(self, dh: Array, batch: PackedBatch) -> None:
        """Write the gradients of the blocks and add those of the tables, from that of the last ``forward``'s vectors.

        ``dh`` may be changed.
        """
        for block in self._backward:
            dh = block.backward(dh, batch)
