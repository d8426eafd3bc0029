"""Training of a tower over items' content: which of it goes into a step, and every item of a batch encoded once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.base import Array, PackedBatch
from recsys_fast.blocks.columns import sum_lists
from recsys_fast.blocks.field_table import FeatureRows
from recsys_fast.blocks.fused_tower import ItemRows
from recsys_fast.models.multimodal_content import ItemContent
from recsys_fast.models.two_tower_training import BLOCK, AnyInputs, Candidates, TwoTowerNetwork

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
Mask = NDArray[np.bool_]

_NOTHING = FeatureRows(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))


class ItemInputs:
    """What goes into the items' tower.

    Args:
        content: of all items.
        own: whether ids have embeddings.
    """

    def __init__(self, content: ItemContent, own: bool) -> None:
        self.content, self.n, self.own = content, content.n, own

    def rows(
        self, ids: NDArray[np.integer[Any]], kept: Mask | None = None, left: Mask | None = None, change: Any = None
    ) -> ItemRows:
        """Return the rows of ascending ids.

        Args:
            ids: of the items.
            kept: which of them go with their own embedding; None for all.
            left: which modalities of them go, where they have them; None for all.
            change: what to do to the content of modality k; None for nothing.
        """
        kept = np.full(len(ids), self.own) if kept is None else kept & self.own
        places = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])
        own = FeatureRows(places, ids[kept].astype(np.int32), np.empty(0, np.float32))
        present = self.content.present(ids)
        present = present if left is None else present & left
        contents: list[Any] = []
        for k, given in enumerate(self.content.modalities.values()):
            if given is None or not present[:, k].any():
                contents.append(_NOTHING)
                continue
            taken = given.take(self.content.places[k, ids[present[:, k]]])
            contents.append(taken if change is None else change(k, given, taken))
        return ItemRows(own, present, tuple(contents))


class DistinctCandidates(Candidates):
    """Every item of a batch goes through the tower once, however often it is there."""

    def take_rows(self, ids: I32, name: str = "rows") -> tuple[Array, Array]:
        """Return the vectors of items, ``(C, d)``; they have no biases."""
        network, runtime, n = self.network, self.runtime, len(ids)
        rows = runtime.take(network, "plan.rows", (n,), np.int32, host=True)
        entries = runtime.take(network, "plan.entries", (n,), np.int32, host=True)
        entry_ptr = runtime.take(network, "plan.ptr", (n + 1,), np.int64, host=True)
        n_distinct = runtime.run_on_host("id_plan", rows, entry_ptr, entries, ids, network.sides[1].n)
        self._plan = entry_ptr[: n_distinct + 1], entries
        place = np.empty(n, np.int32)
        place[entries] = np.repeat(np.arange(n_distinct, dtype=np.int32), np.diff(self._plan[0]))
        drawn = network.drawn(1, rows[:n_distinct].copy(), self.packed.step)
        vectors = network.towers[1].forward(drawn, self.packed)
        out = runtime.take(network, "candidates", (n, vectors.shape[1]))
        runtime.gather(out, vectors, place)
        return out, self._bias

    def add_rows(self, ids: I32, drows: Array, dbias: Array | None = None) -> None:
        """Send the gradient of the vectors back through the tower."""
        runtime, (entry_ptr, entries) = self.runtime, self._plan
        total = runtime.take(self.network, "dvectors", (len(entry_ptr) - 1, drows.shape[1]))
        sum_lists(runtime, total, drows, entry_ptr, entries)
        self.network.towers[1].backward(total, self.packed)


class MultimodalNetwork(TwoTowerNetwork):
    """Towers of users and of items that have content.

    Args:
        arguments: of ``TwoTowerNetwork``.
        modality_dropout: share of the items' modalities that a step of training goes without.
        changes: by modality, how content is augmented, or None.
        block: items that go through the tower at a time, apart from training.
    """

    def __init__(
        self, *arguments: Any, modality_dropout: float, changes: tuple[Any, ...], block: int, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self.modality_dropout, self.changes, self.block = modality_dropout, changes, block

    def drawn(self, side: int, ids: I32, step: int) -> Any:
        """Return the rows of ids in a step of training: some without their own embedding, or without a modality.

        Nothing is taken away from an item that would have nothing left.
        """
        given = self.sides[side]
        if not isinstance(given, ItemInputs):
            return super().drawn(side, ids, step)
        random = np.random.Generator(np.random.Philox(key=np.array([self.seed, 2 * step + side], np.uint64)))
        present = given.content.present(ids)
        left = present & (random.random(present.shape) >= self.modality_dropout)
        left |= present & ~left.any(axis=1, keepdims=True)
        kept = (random.random(len(ids)) >= self.id_dropout) | ~left.any(axis=1)

        def change(k: int, content: Any, taken: Any) -> Any:
            how = self.changes[k]
            return taken if how is None else content.augment(taken, how, self.seed, step, 0)

        return given.rows(ids, kept, left, change)

    def candidates(self, packed: PackedBatch) -> Candidates:
        """Return what the loss of a step takes the items' vectors from."""
        return DistinctCandidates(self, packed)

    def vectors(self, side: int, rows: AnyInputs | None = None, block: int = BLOCK) -> F32:
        """Return the vectors of all users (0) or items (1), or of those that ``rows`` describe, ``(n, d) float32``."""
        return super().vectors(side, rows, min(block, self.block) if side else block)
