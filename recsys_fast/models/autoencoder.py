"""What autoencoders share: sparse rows go in, an inner product with a table of the columns comes out."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.base import Array, PackedBatch
from recsys_fast.blocks.csr_dense import CsrRows
from recsys_fast.blocks.embedding import ItemTable
from recsys_fast.models import inputs
from recsys_fast.models.factors import F32, FactorModel
from recsys_fast.models.network_model import NetworkModel
from recsys_fast.models.network_state import ASKING
from recsys_fast.models.network_structure import Structured
from recsys_fast.models.parameters import check_int
from recsys_fast.ops import Csr
from recsys_fast.training.network import Network

WIDEST = 8192
_CHUNK = 4096  # rows that are encoded at a time


class SparseBatch(NamedTuple):
    """Rows that go in and are to come out."""

    items: CsrRows


class SparseNetwork(Network):
    """Takes sparse rows, which go to a device once a step."""

    def _inputs(self, batch: SparseBatch) -> CsrRows:
        return batch.items.on(self.runtime)

    def step(self, batch: SparseBatch) -> tuple[float, int]:
        """Move everything by the gradient of the batch's mean loss; return the loss as a sum, and its terms."""
        return super().step(SparseBatch(batch.items.on(self.runtime)))


class RowBatches:
    """Batches of the rows that have an entry, in another random order each epoch.

    Args:
        matrix: rows to draw from.
        batch_size: rows of a batch; the last one of an epoch may have fewer.
        seed: of the orders.
    """

    def __init__(self, matrix: Csr, batch_size: int, seed: int) -> None:
        self.matrix, self.batch_size, self.seed = matrix, batch_size, seed
        self.rows = np.flatnonzero(np.diff(matrix.row_ptr))

    @property
    def n_batches(self) -> int:
        """Number of batches of an epoch."""
        return -(-len(self.rows) // self.batch_size)

    def epoch(self, k: int) -> Iterator[SparseBatch]:
        """Yield the batches of epoch k."""
        key = np.array([self.seed, k], np.uint64)
        order = np.random.Generator(np.random.Philox(key=key)).permutation(self.rows)
        for first in range(0, len(order), self.batch_size):
            yield SparseBatch(as_rows(inputs.take_rows(self.matrix, order[first : first + self.batch_size])))


def as_rows(matrix: Csr) -> CsrRows:
    """Return a matrix as a network takes it."""
    return CsrRows(matrix.row_ptr, matrix.col_idx, matrix.or_empty())


def uniform_table(name: str, n_rows: int, d: int, *, bias: bool = False) -> ItemTable:
    """Return a table of ``n_rows`` x ``d`` weights between the bounds of Glorot & Bengio (2010)."""
    return ItemTable(n_rows, d, bias=bias, init="uniform", scale=math.sqrt(6.0 / (n_rows + d)), name=name)


class Autoencoder(NetworkModel, FactorModel):
    """Base class: a table "inputs" and blocks make h of a row, and h . table[j] + bias[j] is the score of column j.

    The score of an item is an inner product of a user's query with ``item_factors_``: ranking, metrics and top-k are
    the fused operations.
    """

    _training_only: ClassVar[frozenset[str]] = Structured._training_only | {"kl_cap", "kl_steps"}
    _network_type: ClassVar[type[Network]] = SparseNetwork

    hidden: Sequence[int]

    def _has_kernels(self) -> bool:
        return True

    def _rows(self) -> Csr:
        """Return the rows that go in."""
        return self._matrix

    def _batches(self) -> RowBatches:
        return RowBatches(self._rows(), self.batch_size, self.seed_)

    def _encode(self, rows: Csr) -> F32:
        """Return h and a 1 for every row, ``(n, d + 1)``."""
        network = self._net()
        out = np.empty((rows.n_rows, network.items.d + 1), np.float32)
        out[:, -1] = 1.0
        for first in range(0, rows.n_rows, _CHUNK):
            part = inputs.take_rows(rows, np.arange(first, min(rows.n_rows, first + _CHUNK)))
            with ASKING:
                h = network.forward(SparseBatch(as_rows(part)), PackedBatch(np.array([0, part.n_rows]), network.seed))
                out[first : first + part.n_rows, :-1] = network.runtime.to_host(h)
        return out

    def _out_values(self) -> tuple[F32, F32]:
        """Return the table that h is multiplied with, and its biases, in host memory."""
        network = self._net()
        return network.runtime.to_host(network.items.values), network.runtime.to_host(network.items.bias)

    def _table(self) -> F32:
        """Return the table that h is multiplied with, biases in its last column."""
        table: F32 = self._cached("table", lambda: np.column_stack(self._out_values()))
        return table

    @property
    def item_factors_(self) -> F32:
        """What queries are multiplied with, ``(n_items, d + 1) float32``, the bias last."""
        self._check_fitted()
        return self._item_table()

    def _batch_bytes(self, data: Csr) -> int:
        largest = np.sort(np.diff(data.row_ptr))[-self.batch_size :].sum() if data.n_rows else 0
        return 8 * data.n_rows + 40 * int(largest)

    def _check_hidden(self) -> None:
        if isinstance(self.hidden, str) or not isinstance(self.hidden, Sequence):
            raise TypeError(f"hidden: got {type(self.hidden).__name__}, expected a sequence of widths, such as (600,)")
        for k, width in enumerate(self.hidden):
            check_int(f"hidden[{k}]", width, 1, WIDEST)


class UserAutoencoder(Autoencoder):
    """An autoencoder over the rows of users: whoever has a history has a query, by one pass through the encoder."""

    @abstractmethod
    def _prepare(self, matrix: Csr) -> Csr: ...

    def fold_in(self, user_items: Any) -> F32:
        """Return the queries of new users from their histories, without training.

        Args:
            user_items: ``(m, n_items)``; a user without interactions gets what the network makes of nothing.

        Returns:
            ``(m, d + 1) float32``, the last one 1: ``fold_in(user_items) @ item_factors_.T`` are the scores.

        Raises:
            ValueError: another number of columns, or values that the model does not take.
        """
        _, n_items = self._shape()
        return self._new_queries(self._prepare(inputs.check_matrix(user_items, "user_items", None, n_items)))

    def _queries(self, users: NDArray[np.int32] | None) -> F32:
        if users is None:
            return self._encode(self._matrix)
        distinct, place = np.unique(users, return_inverse=True)
        return self._encode(inputs.take_rows(self._matrix, distinct))[place]

    def _new_queries(self, given: Csr) -> F32:
        return self._encode(given)

    def _item_table(self) -> F32:
        return self._table()

    def _item_vectors(self) -> F32:
        return self._out_values()[0]

    def _user_vectors(self) -> F32:
        vectors: Array = self._cached("users", lambda: self._queries(None))
        return vectors[:, :-1]

    def _update(self, users: NDArray[np.int32] | None, items: NDArray[np.int32] | None) -> None:
        if items is not None:
            super()._update(users, items)
        self._changed()  # users are what they did
