"""A fully connected layer over sparse rows, whose weights are a table: only the rows that a batch names are touched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_fast.blocks.base import Array, Block, PackedBatch, Parameter, Runtime
from recsys_fast.blocks.embedding import ItemTable
from recsys_fast.ops.block_arguments import ACTIVATIONS, as_choice

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_CHOICES = ("relu", "tanh", "sigmoid", "identity")  # whose slope the result tells
IDENTITY = ACTIVATIONS.index("identity")


@dataclass(frozen=True)
class CsrRows:
    """Sparse rows that go into a network, or that it is to give back.

    Attributes:
        row_ptr: ``(n + 1,) int64``, from 0.
        col_idx: ``(nnz,) int32``.
        values: ``(nnz,)``, of length 0 where every entry counts 1.
    """

    row_ptr: I64
    col_idx: I32
    values: Array

    def __len__(self) -> int:
        return len(self.row_ptr) - 1

    def on(self, runtime: Runtime) -> CsrRows:
        """Return the rows where the runtime computes; themselves where they lie there."""
        if not runtime.on_device:
            return self
        return CsrRows(*(runtime.upload(part) for part in (self.row_ptr, self.col_idx, self.values)))


def add_entries(
    owner: object,
    table: ItemTable,
    x: CsrRows,
    values: Array,
    dy: Array,
    *,
    y: Array | None = None,
    db: Array | None = None,
    activation: int = IDENTITY,
) -> None:
    """Give a table, begun for this step, the gradient of ``csr_dense_forward`` or of scores at the entries of x.

    Args:
        owner: whose memory is used.
        table: the weights; where it has biases, theirs are the sums of ``values`` by column.
        x: whose columns are rows of the table.
        values: ``(nnz,)`` factors of the entries; of length 0 for 1.
        dy: ``(n, d)`` gradient of the layer's outputs, or what scored the entries.
        y: outputs, with another activation than the identity.
        db: ``(d,)``, overwritten by the sum of the rows' gradients; None for none.
        activation: place in ``ACTIVATIONS``.
    """
    run, take, n = table.runtime.run, table.runtime.take, len(x.col_idx)
    rows, entries = take(owner, "plan.rows", (n,), np.int32), take(owner, "plan.entries", (n,), np.int32)
    entry_ptr = take(owner, "plan.ptr", (n + 1,), np.int64)
    n_distinct = run("id_plan", rows, entry_ptr, entries, x.col_idx, table.n_rows)
    drows = take(owner, "drows", (n_distinct, table.d))
    dbias = take(owner, "dbias", (n_distinct if table.has_bias else 0,))
    none, none_rows = table.runtime.empty(0), table.runtime.empty(0, 0)
    g = none_rows if y is None else take(owner, "g", dy.shape)
    run(
        "csr_dense_backward", drows, dbias, none if db is None else db, g, dy, none_rows if y is None else y,
        x.row_ptr, values, entry_ptr[: n_distinct + 1], entries, activation,
    )  # fmt: skip
    table.add_rows(rows[:n_distinct], drows, dbias if table.has_bias else None, distinct=True)


class CsrDense(Block):
    """activation(D(x / |x|) table + b) for sparse rows x: the first layer of an autoencoder.

    With weights 1 and no bias it is an embedding bag.

    Args:
        table: the weights, ``(n_cols, d)``; connected apart.
        activation: "relu", "tanh", "sigmoid" or "identity".
        dropout: rate of the entries, in training only.
        normalize: divide each row by its Euclidean length.
        bias: whether there is b.
    """

    def __init__(
        self,
        table: ItemTable,
        activation: str = "tanh",
        *,
        dropout: float = 0.0,
        normalize: bool = False,
        bias: bool = True,
    ) -> None:
        as_choice(activation, "activation", _CHOICES)
        self.table, self.dropout, self.normalize, self.bias = table, dropout, normalize, bias
        self.activation = ACTIVATIONS.index(activation)

    def connect(self, runtime: Runtime, values: dict[str, Array], gradients: dict[str, Array], site: int) -> None:
        """Take over where to compute, the bias and its gradient, and the site of the mask."""
        super().connect(runtime, values, gradients, site)
        self._none = runtime.empty(0)

    def parameters(self) -> list[Parameter]:
        """Return b ``(d,)``, where there is one."""
        return [Parameter("b", (self.table.d,))] if self.bias else []

    def forward(self, x: Array | CsrRows, batch: PackedBatch) -> Array:
        """Return ``(n, d)`` for sparse rows ``(n, n_cols)``."""
        assert isinstance(x, CsrRows), "sparse rows go into this layer"
        rate = self.dropout if batch.training else 0.0
        self._x, self._values = x, x.values
        if rate or self.normalize:
            self._values = self._take("values", len(x.col_idx))
            self.runtime.run(
                "csr_scale", self._values, x.row_ptr, x.col_idx, x.values, self.table.n_rows, self.normalize, rate,
                batch.seed, batch.step, self.site,
            )  # fmt: skip
        self._y = self._take("y", len(x), self.table.d)
        self.runtime.run(
            "csr_dense_forward", self._y, x.row_ptr, x.col_idx, self._values, self.table.values,
            self.values.get("b", self._none), self.activation,
        )  # fmt: skip
        return self._y

    def backward(self, dy: Array, batch: PackedBatch) -> Array:
        """Give the rows' gradient to the table and write that of the bias; returns ``dy``, as nothing comes before."""
        y = None if self.activation == IDENTITY else self._y
        db = self.gradients.get("b")
        add_entries(self, self.table, self._x, self._values, dy, y=y, db=db, activation=self.activation)
        return dy
