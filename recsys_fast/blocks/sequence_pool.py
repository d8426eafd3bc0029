"""One row of each sequence: what a text is to the layers behind its words."""

from __future__ import annotations

import numpy as np

from recsys_fast.blocks.base import Array, Block, PackedBatch, Parameter
from recsys_fast.blocks.columns import sum_lists
from recsys_fast.ops.block_arguments import as_choice

POOLINGS = ("last", "mean", "max")


class SequencePool(Block):
    """The last row of every sequence, the mean of its rows or the maximum of each column; zeros where it has no rows.

    Of equal maxima the first one gets the gradient.

    Args:
        kind: "last", "mean" or "max".
    """

    def __init__(self, kind: str = "last") -> None:
        as_choice(kind, "pooling", POOLINGS)
        self.kind = kind

    def parameters(self) -> list[Parameter]:
        """Return nothing."""
        return []

    def forward(self, x: Array, batch: PackedBatch) -> Array:
        """Return ``(n_sequences, d)`` for rows ``(n_rows, d)``."""
        self._lengths = np.diff(batch.cuts)
        y, runtime = self._take("y", len(self._lengths), x.shape[1]), self.runtime
        if self.kind == "last":
            last = np.where(self._lengths > 0, batch.cuts[1:] - 1, -1)
            runtime.gather(y, x, last.astype(np.int32))
        elif self.kind == "mean":
            self._shares = (1.0 / np.maximum(self._lengths, 1)).astype(x.dtype)
            every, each = np.arange(len(x), dtype=np.int32), np.repeat(self._shares, self._lengths)
            sum_lists(runtime, y, x, batch.row_ptr, every, each)
        else:
            self._places = runtime.take(self, "places", y.shape, np.int32)
            runtime.run("sequence_max_forward", y, self._places, x, batch.row_ptr)
        return y

    def backward(self, dy: Array, batch: PackedBatch) -> Array:
        """Return the gradient of the rows, ``(n_rows, d)``."""
        dx, runtime = self._take("dx", batch.n_rows, dy.shape[1]), self.runtime
        if self.kind == "last":
            filled, owner = np.flatnonzero(self._lengths), np.full(len(dx), -1, np.int32)
            owner[batch.cuts[filled + 1] - 1] = filled
            runtime.gather(dx, dy, owner)
        elif self.kind == "mean":
            owner = np.repeat(np.arange(len(dy), dtype=np.int32), self._lengths)
            sum_lists(runtime, dx, dy, np.arange(len(owner) + 1), owner, self._shares[owner])
        else:
            runtime.run("sequence_max_backward", dx, dy, self._places, batch.row_ptr)
        return dx
