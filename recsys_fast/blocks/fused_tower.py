"""A tower over several modalities of an item: its id, features, images, texts, any of them missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.base import Array, Block, PackedBatch
from recsys_fast.blocks.dense import Dense
from recsys_fast.blocks.embedding import ItemTable
from recsys_fast.blocks.embedding_bag import EmbeddingBag
from recsys_fast.blocks.encoder import Encoder
from recsys_fast.blocks.field_table import FeatureRows
from recsys_fast.blocks.fusion import Fusion
from recsys_fast.blocks.mlp import MLP
from recsys_fast.blocks.tower import UnitRows


class ItemRows(NamedTuple):
    """A batch of items.

    Attributes:
        own: the row of the table of ids of each; nothing in the rows of items that go without.
        present: ``(n, n_parts) bool``.
        contents: by modality, of the items that have it, in their order: ``FeatureRows`` for a table; for an encoder
            ``items``, and ``row_ptr``, where each row begins in them. Whatever, for an encoder, where no item has it.
    """

    own: FeatureRows
    present: NDArray[np.bool_]
    contents: tuple[Any, ...]


class FusedTower:
    """vector = embedding of the id + MLP(fusion of the modalities' vectors), scaled to length 1 where asked for.

    A modality's vector is the bag of its features' embeddings, or what its encoder makes of it times a matrix. Only
    what is there is encoded.

    Args:
        table: of ids; None to do without.
        parts: by modality.
        fusion: of as many parts.
        mlp: behind it.
        unit: whether vectors have length 1; one of zeros stays as it is.

    Attributes:
        blocks: by name.
        tables: connected apart.
        d_out: width of the vectors.
    """

    def __init__(
        self,
        table: EmbeddingBag | None,
        parts: Mapping[str, EmbeddingBag | Encoder],
        fusion: Fusion,
        mlp: MLP,
        unit: bool,
    ) -> None:
        self.table, self.parts, self.fusion, self.mlp = table, tuple(parts.values()), fusion, mlp
        self.unit, self.d_out = UnitRows() if unit else None, mlp.d_out
        self.tables: tuple[ItemTable, ...] = () if table is None else (table,)
        self.blocks: dict[str, Block] = {}
        self._projections: dict[int, Dense] = {}
        for place, (name, part) in enumerate(parts.items()):
            if isinstance(part, EmbeddingBag):
                self.tables += (part,)
                continue
            self._projections[place] = Dense(part.width, fusion.d, "identity")
            own: dict[str, Block] = {**part.blocks, "projection": self._projections[place]}
            self.blocks |= {f"{name}_{key}": block for key, block in own.items()}
            self.tables += part.tables
        self.blocks |= {"fusion": fusion, "mlp": mlp}

    def forward(self, rows: ItemRows, packed: PackedBatch) -> Array:
        """Return the vectors ``(n, d_out)``."""
        self._rows, runtime, fusion = rows, self.fusion.runtime, self.fusion
        n = len(rows.present)
        x = runtime.take(self, "x", (n, fusion.n_parts, fusion.d))
        x[...] = 0.0
        self._chosen = [np.flatnonzero(present) for present in rows.present.T]
        for place, (part, chosen) in enumerate(zip(self.parts, self._chosen, strict=True)):
            if isinstance(part, EmbeddingBag):
                x[chosen, place] = part.bags(rows.contents[place])
            elif len(chosen):
                items = rows.contents[place].items
                if items.dtype.kind == "f":
                    items = items.astype(runtime.dtype, copy=False)  # to check gradients
                h = part.forward(items, self._inside(place, packed))
                x[chosen, place] = self._projections[place].forward(h, packed)
        fused = fusion.forward(x.reshape(n, -1), packed, rows.present)
        y: Array = self.mlp.forward(fused, packed)
        if self.table is not None:
            y = np.add(y, self.table.bags(rows.own), out=runtime.take(self, "sum", y.shape))
        return y if self.unit is None else self.unit.forward(y, runtime)

    def _inside(self, place: int, packed: PackedBatch) -> PackedBatch:
        """Return the batch as the encoder of a modality sees it."""
        row_ptr = self._rows.contents[place].row_ptr
        return PackedBatch.on(self.fusion.runtime, row_ptr, packed.seed, packed.step, packed.training)

    def backward(self, dy: Array, packed: PackedBatch) -> None:
        """Write the gradients of the blocks, and add those of the tables, from that of the last ``forward``'s vectors.

        Tables are begun before and finished after.
        """
        if self.unit is not None:
            dy = self.unit.backward(dy, self.fusion.runtime)
        if self.table is not None:
            self.table.bags_backward(dy)
        dx = self.fusion.backward(self.mlp.backward(dy, packed), packed).reshape(len(dy), self.fusion.n_parts, -1)
        for place, (part, chosen) in enumerate(zip(self.parts, self._chosen, strict=True)):
            if isinstance(part, EmbeddingBag):
                part.bags_backward(dx[chosen, place])
            elif len(chosen):
                dh = self._projections[place].backward(dx[chosen, place], packed)
                part.backward(dh, self._inside(place, packed))
            else:  # nobody in the batch has it
                for block in (*part.blocks.values(), self._projections[place]):
                    for gradient in block.gradients.values():
                        gradient[...] = 0.0
