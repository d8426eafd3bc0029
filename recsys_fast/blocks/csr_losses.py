"""Losses of a network that gives sparse rows back: over all columns, or over the entries that are there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
        runtime, n = table.runtime, len(x.col_idx)
        none = runtime.empty(0)
        scores, coef = runtime.take(self, "scores", (n,)), runtime.take(self, "coef", (n,))
        runtime.run("pair_scores", scores, h, table.values, x.row_ptr, x.col_idx)
        scores = self._with_bias(table, scores, x.col_idx)
        loss: float = runtime.run("regression_loss", coef, scores, x.values, none, self.number, scale)
        dh = runtime.take(self, "dh", h.shape)
        runtime.run("csr_dense_forward", dh, x.row_ptr, x.col_idx, coef, table.values, none, IDENTITY)
        add_entries(self, table, x, coef, h)
        return loss, dh

    def _with_bias(self, table: ItemTable, scores: Array, ids: NDArray[np.int32]) -> Array:
        """Return scores[e] + bias[ids[e]]; ``scores`` may change."""
        if not table.has_bias:
            return scores
        if not table.runtime.on_device:
            scores += table.bias[ids]
            return scores
        # biases are rows of width 1, and each entry has a position of its own, which is its score
        out, whole = table.runtime.take(self, "biased", (len(ids), 1)), np.array([0, len(ids)], np.int64)
        table.runtime.run(
            "embedding_forward", out, table.bias.reshape(-1, 1), scores.reshape(-1, 1), ids, whole, 1.0, False, 0.0, 0,
            0, 0,
        )  # fmt: skip
        return out.reshape(-1)
