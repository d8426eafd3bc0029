"""Training of two towers: their network, and batches of interactions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.base import Array, Block, PackedBatch, Runtime
from recsys_fast.blocks.columns import scale
from recsys_fast.blocks.embedding import ItemTable
from recsys_fast.blocks.embedding_bag import EmbeddingBag
from recsys_fast.blocks.field_table import FeatureRows
from recsys_fast.blocks.losses import ItemLoss
from recsys_fast.data.epoch_random import EpochRandom
from recsys_fast.models import inputs
from recsys_fast.models.sgd_features import Side
from recsys_fast.ops import Csr
from recsys_fast.training.network import Network
from recsys_fast.training.optimizers import Optimizer

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
BLOCK = 8192  # rows that go through a tower at a time


class AnyTower(Protocol):
    """What ``blocks.tower.Tower`` and ``blocks.fused_tower.FusedTower`` are to a network."""

    blocks: dict[str, Block]
    tables: tuple[ItemTable, ...]
    d_out: int

    @property
    def table(self) -> EmbeddingBag | None:
        """The table that begins with the rows of the ids, where there is one."""

    def forward(self, rows: Any, packed: PackedBatch) -> Array:
        """Return the vectors ``(n, d_out)`` of rows of this tower's kind."""

    def backward(self, dy: Array, packed: PackedBatch) -> None:
        """Write gradients from that of the vectors."""


class AnyInputs(Protocol):
    """What goes into a tower: n ids, with embeddings of their own or without."""

    n: int
    own: bool

    def rows(self, ids: NDArray[np.integer[Any]]) -> Any:
        """Return the rows of ids as the tower takes them."""


class Parts(NamedTuple):
    """Tables and blocks of two towers, as networks take them."""

    tables: list[ItemTable]
    blocks: dict[str, Block]


def parts_of(users: AnyTower, items: AnyTower) -> Parts:
    """Return what is to be connected."""
    named = {"user": users, "item": items}
    blocks = {f"{side}_{name}": block for side, tower in named.items() for name, block in tower.blocks.items()}
    return Parts([*items.tables, *users.tables], blocks)


class PairBatch(NamedTuple):
    """Interactions: users and their items, ``(n,) int32`` each."""

    users: I32
    items: I32


class PairBatches:
    """Every interaction once, in an order that is drawn for each epoch.

    Args:
        matrix: interactions.
        batch_size: of them in a batch.
        seed: of the orders.
    """

    def __init__(self, matrix: Csr, batch_size: int, seed: int) -> None:
        self.items, self.batch_size, self.seed = matrix.col_idx, batch_size, seed
        self.users = np.repeat(np.arange(matrix.n_rows, dtype=np.int32), np.diff(matrix.row_ptr))
        self.n_batches = -(-matrix.nnz // batch_size)

    def epoch(self, epoch: int) -> Iterator[PairBatch]:
        """Return the batches of an epoch, counted from 0."""
        order = EpochRandom(self.seed, epoch).order(len(self.items))
        for first in range(0, len(order), self.batch_size):
            place = order[first : first + self.batch_size]
            yield PairBatch(self.users[place], self.items[place])


class Inputs:
    """What goes into a tower: for each id its own row of the table, and those of its features.

    Args:
        side: ids and features.
        mean: whether the features' embeddings are averaged, not summed up.
    """

    def __init__(self, side: Side, mean: bool) -> None:
        self.n, self.own, self.matrix = side.n, side.own, None
        if not side.plain:
            blocks = tuple(averaged(block) if mean else block for block in side.blocks)
            row_ptr, col_idx, values = side._replace(blocks=blocks).flat()
            self.matrix = Csr(row_ptr, col_idx, values, side.n, side.n_rows)

    def rows(self, ids: NDArray[np.integer[Any]], without_own: NDArray[np.bool_] | None = None) -> FeatureRows:
        """Return the rows of ``ids``; those ``without_own`` have their features only."""
        if self.matrix is None:
            kept = np.empty(0, np.float32) if without_own is None else (~without_own).astype(np.float32)
            return FeatureRows(np.arange(len(ids) + 1), ids.astype(np.int32), kept)
        found = inputs.take_rows(self.matrix, ids)
        values = found.or_empty()
        if without_own is not None:
            values = np.ones(found.nnz, np.float32) if not len(values) else values.copy()
            values[found.row_ptr[:-1][without_own]] = 0.0  # ids are the first columns
        return FeatureRows(found.row_ptr, found.col_idx, values)


def averaged(features: Csr) -> Csr:
    """Return features whose values are divided by their number in the row."""
    lengths = np.diff(features.row_ptr)
    shares = np.repeat((1.0 / np.maximum(lengths, 1)).astype(np.float32), lengths)
    return features._replace(values=shares if features.values is None else shares * features.values)


class Candidates:
    """What ``ItemLoss`` takes rows from and gives their gradients to: the items' tower instead of a table."""

    def __init__(self, network: TwoTowerNetwork, packed: PackedBatch) -> None:
        self.network, self.packed, self.runtime = network, packed, network.runtime
        self._bias = self.runtime.empty(0)

    def take_rows(self, ids: I32, name: str = "rows") -> tuple[Array, Array]:
        """Return the vectors of items, ``(C, d)``, and their biases over the temperature, where there are some."""
        network = self.network
        tower: Any = network.towers[1]
        vectors, bias = tower.forward(network.drawn(1, ids, self.packed.step), self.packed), self._bias
        if network.biased:
            bias = tower.bias
            scale(self.runtime, bias.reshape(-1, 1), network.scale)
        return vectors, bias

    def add_rows(self, ids: I32, drows: Array, dbias: Array | None = None) -> None:
        """Send the gradient of vectors and biases back through the tower."""
        tower: Any = self.network.towers[1]
        if dbias is None:
            tower.backward(drows, self.packed)
        else:
            scale(self.runtime, dbias.reshape(-1, 1), self.network.scale)
            tower.backward(drows, self.packed, dbias)


class TwoTowerNetwork(Network):
    """Towers of users and items, trained with a softmax over the items of the batch and drawn ones.

    Args:
        towers: of users, of items.
        sides: what goes into them.
        loss: of vectors of users and the items' ids.
        optimizer: of both.
        runtime: where to compute.
        seed: of masks and negatives.
        temperature: that scores are divided by.
        id_dropout: share of rows that training leaves without their own embedding.
        biased: whether items have biases; they are the last number of their vectors, and that of users is 1.
    """

    def __init__(
        self,
        towers: tuple[AnyTower, AnyTower],
        sides: tuple[AnyInputs, AnyInputs],
        loss: ItemLoss | None,
        optimizer: Optimizer,
        runtime: Runtime,
        *,
        seed: int,
        temperature: float,
        id_dropout: float,
        biased: bool = False,
    ) -> None:
        (first, *tables), blocks = parts_of(*towers)
        super().__init__(first, blocks, None, optimizer, runtime, seed=seed, tables=tables)
        self.towers, self.sides, self.loss = towers, sides, loss
        self.scale, self.id_dropout, self.biased = float(1.0 / temperature), id_dropout, biased

    def n_rows(self, batch: PairBatch) -> int:
        """Return how many interactions a batch has."""
        return len(batch.users)

    def drawn(self, side: int, ids: I32, step: int) -> Any:
        """Return the rows of ids in a step of training, some of them without their own embedding."""
        given = self.sides[side]
        if not isinstance(given, Inputs) or given.matrix is None or not given.own:
            return given.rows(ids)
        return given.rows(ids, self.without_own(side, len(ids), step))

    def without_own(self, side: int, n: int, step: int) -> NDArray[np.bool_] | None:
        """Return which of n rows go without their own embedding in a step of training; None for none."""
        if not self.id_dropout:
            return None
        key = np.array([self.seed, 2 * step + side], np.uint64)
        chosen: NDArray[np.bool_] = np.random.Generator(np.random.Philox(key=key)).random(n) < self.id_dropout
        return chosen

    def users_of(self, batch: PairBatch) -> Any:
        """Return the rows of the users of a batch."""
        return self.drawn(0, batch.users, self.steps)

    def candidates(self, packed: PackedBatch) -> Candidates:
        """Return what the loss of a step takes the items' vectors from."""
        return Candidates(self, packed)

    def step(self, batch: PairBatch) -> tuple[float, int]:
        """Move everything by the gradient of the batch's mean loss; return the loss as a sum, and its terms."""
        assert self.loss is not None, "a network without loss cannot be trained"
        for table in self.tables:
            table.begin()
        packed = PackedBatch(np.array([0, len(batch.users)], np.int64), self.seed, self.steps, True)
        vectors = self.towers[0].forward(self.users_of(batch), packed)
        h = self.runtime.take(self, "h", vectors.shape)
        h[...] = vectors
        scale(self.runtime, h, self.scale)
        candidates: Any = self.candidates(packed)
        loss, n, dh = self.loss.loss(candidates, h, batch.items, packed)
        scale(self.runtime, dh, self.scale)
        self.towers[0].backward(dh, packed)
        for table in self.tables:
            table.finish()
        self.optimizer.step(self.parameters, self.tables, self.steps)
        self.steps += 1
        return loss, n

    def vectors(self, side: int, rows: AnyInputs | None = None, block: int = BLOCK) -> F32:
        """Return the vectors of all users (0) or items (1), or of those that ``rows`` describe, ``(n, d) float32``."""
        given = self.sides[side] if rows is None else rows
        tower: Any = self.towers[side]
        out = np.ones((given.n, tower.d_out + self.biased), np.float32)
        for first in range(0, given.n, block):
            ids = np.arange(first, min(first + block, given.n))
            part = out[first : first + len(ids)]
            made = tower.forward(given.rows(ids), PackedBatch(np.array([0, len(ids)], np.int64)))
            part[:, : tower.d_out] = self.runtime.to_host(made)
            if self.biased and side:
                part[:, -1] = self.runtime.to_host(tower.bias)
        return out
