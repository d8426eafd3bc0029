"""A tower over several modalities of an item: its id, features, images, texts, any of them missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.base import Array, Block, PackedBatch
from recsys_fast.blocks.columns import added, beside
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
        runtime, fusion, (n, k) = self.fusion.runtime, self.fusion, rows.present.shape
        self._rows, self._chosen = rows, [np.flatnonzero(present) for present in rows.present.T]
        self._inside = [self._within(place, packed) for place in range(k)]
        made: list[Array] = []
        places, at = np.full((n, k), -1, np.int32), 0  # in what is made
        for place, (part, chosen) in enumerate(zip(self.parts, self._chosen, strict=True)):
            if not len(chosen) and isinstance(part, Encoder):
                continue
            made.append(self._vectors(place, part, packed))
            places[chosen, place] = np.arange(at, at + len(chosen))
            at += len(chosen)
        behind = runtime.join(runtime.take(self, "parts", (at, fusion.d)), made)
        x = runtime.take(self, "x", (n * k, fusion.d))
        runtime.gather(x, behind, places.reshape(-1))
        y: Array = self.mlp.forward(fusion.forward(x.reshape(n, k * fusion.d), packed, rows.present), packed)
        if self.table is not None:
            y = added(runtime, self, "sum", self.table.bags(rows.own), y)
        return y if self.unit is None else self.unit.forward(y, runtime)

    def _within(self, place: int, packed: PackedBatch) -> PackedBatch | None:
        """Return the batch as the encoder of a modality sees it; None where there is nothing for an encoder."""
        if place not in self._projections or not len(self._chosen[place]):
            return None
        row_ptr = self._rows.contents[place].row_ptr
        return PackedBatch.on(self.fusion.runtime, row_ptr, packed.seed, packed.step, packed.training)

    def _vectors(self, place: int, part: EmbeddingBag | Encoder, packed: PackedBatch) -> Array:
        """Return what is made of the contents of a modality, ``(m, d)``."""
        content, runtime = self._rows.contents[place], self.fusion.runtime
        if isinstance(part, EmbeddingBag):
            return part.bags(content)
        items = content.items
        if items.dtype.kind == "f":
            items = items.astype(runtime.dtype, copy=False)  # to check gradients
        inside = self._inside[place]
        assert inside is not None
        return self._projections[place].forward(part.forward(runtime.upload(items), inside), packed)

    def backward(self, dy: Array, packed: PackedBatch) -> None:
        """Write the gradients of the blocks, and add those of the tables, from that of the last ``forward``'s vectors.

        Tables are begun before and finished after.
        """
        runtime, k = self.fusion.runtime, self.fusion.n_parts
        if self.unit is not None:
            dy = self.unit.backward(dy, runtime)
        if self.table is not None:
            self.table.bags_backward(dy)
        dx = self.fusion.backward(self.mlp.backward(dy, packed), packed).reshape(len(dy) * k, self.fusion.d)
        for place, (part, chosen) in enumerate(zip(self.parts, self._chosen, strict=True)):
            own, inside = beside(runtime, self, f"dx{place}", [dx], chosen * k + place), self._inside[place]
            if isinstance(part, EmbeddingBag):
                part.bags_backward(own)
            elif inside is not None:
                part.backward(self._projections[place].backward(own, packed), inside)
            else:  # nobody in the batch has it
                for block in (*part.blocks.values(), self._projections[place]):
                    for gradient in block.gradients.values():
                        runtime.fill(gradient, 0.0)
