"""Losses of a network that gives sparse rows back: over all columns, or over the entries that are there."""

from __future__ import annotations

import numpy as np

from recsys_fast.blocks.base import Array
from recsys_fast.blocks.csr_dense import IDENTITY, CsrRows, add_entries
from recsys_fast.blocks.embedding import ItemTable
from recsys_fast.ops.block_arguments import as_choice
from recsys_fast.ops.losses import REGRESSION, compute_number


class MultinomialLoss:
    """-sum_t sum_j x_tj log softmax(h_t table^T + bias)_j; see ``recsys_fast.ops.multinomial_loss``.

    Args:
        compute: "float32" or "bfloat16" for the products.
    """

    def __init__(self, compute: str = "float32") -> None:
        self.compute = compute

    def loss(self, table: ItemTable, h: Array, x: CsrRows, scale: float) -> tuple[float, Array]:
        """Return the loss and its gradient of h, times ``scale``; that of the table goes to the table.

        Args:
            table: connected; begun for this step.
            h: ``(n, d)`` outputs.
            x: ``(n, n_rows of the table)``, 0 or more.
            scale: of the gradients.
        """
        runtime = table.runtime
        dh, (dtable, dbias) = runtime.take(self, "dh", h.shape), table.dense_gradient()
        loss: float = runtime.run(
            "multinomial_loss", dh, dtable, dbias, h, table.values, table.bias, x.row_ptr, x.col_idx, x.values, scale,
            compute_number(self.compute, runtime.device),
        )  # fmt: skip
        table.add_dense(dtable, dbias)
        return loss, dh


class EntryLoss:
    """sum over the entries of x of l(h_t . table_j + bias_j - x_tj); what is not in x has no part in it.

    Args:
        kind: "squared" or "smooth_l1", as in ``recsys_fast.ops.regression_loss``.
    """

    def __init__(self, kind: str = "squared") -> None:
        self.number = as_choice(kind, "loss", REGRESSION)

    def loss(self, table: ItemTable, h: Array, x: CsrRows, scale: float) -> tuple[float, Array]:
        """Return the loss and its gradient of h, times ``scale``; that of the table goes to the table."""
        runtime, n, none = table.runtime, len(x.col_idx), np.empty(0, h.dtype)
        scores, coef = runtime.take(self, "scores", (n,)), runtime.take(self, "coef", (n,))
        runtime.run("pair_scores", scores, h, table.values, x.row_ptr, x.col_idx)
        if table.has_bias:
            scores += table.bias[x.col_idx]
        loss: float = runtime.run("regression_loss", coef, scores, x.values, none, self.number, scale)
        dh = runtime.take(self, "dh", h.shape)
        runtime.run("csr_dense_forward", dh, x.row_ptr, x.col_idx, coef, table.values, none, IDENTITY)
        add_entries(self, table, x, coef, h)
        return loss, dh
