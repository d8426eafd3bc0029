"""One row of each sequence: what a text is to the layers behind its words."""

from __future__ import annotations

import numpy as np

from recsys_fast.blocks.base import Array, Block, PackedBatch, Parameter
from recsys_fast.blocks.csr_dense import IDENTITY
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
        y = self._take("y", len(self._lengths), x.shape[1])
        if self.kind == "mean":
            self._shares = (1.0 / np.maximum(self._lengths, 1)).astype(x.dtype)
            each, every = np.repeat(self._shares, self._lengths), np.arange(len(x), dtype=np.int32)
            none = np.empty(0, x.dtype)
            self.runtime.run("csr_dense_forward", y, batch.cuts, every, each, x, none, IDENTITY)
            return y
        filled, y[...] = np.flatnonzero(self._lengths), 0.0
        if self.kind == "last":
            y[filled] = x[batch.cuts[filled + 1] - 1]
            return y
        # where the maxima are; row 0 in sequences without rows, whose gradient is left out
        self._places = self.runtime.take(self, "places", y.shape, np.int64)
        if len(filled):
            begins = batch.cuts[filled]  # those in between have no rows, so that each runs to the next
            y[filled] = np.maximum.reduceat(x, begins)
            largest = x == np.repeat(y, self._lengths, axis=0)
            rows = np.where(largest, np.arange(len(x))[:, None], len(x) - 1)
            self._places[filled] = np.minimum.reduceat(rows, begins)
        return y

    def backward(self, dy: Array, batch: PackedBatch) -> Array:
        """Return the gradient of the rows, ``(n_rows, d)``."""
        dx = self._take("dx", batch.n_rows, dy.shape[1])
        if self.kind == "mean":
            owner = np.repeat(np.arange(len(dy), dtype=np.int32), self._lengths)
            each, whole = dy * self._shares[:, None], np.array([0, len(owner)])
            none = np.empty((0, 0), dy.dtype)
            self.runtime.run("embedding_forward", dx, each, none, owner, whole, 1.0, False, 0.0, 0, 0, 0)
            return dx
        filled, dx[...] = np.flatnonzero(self._lengths), 0.0
        if self.kind == "last":
            dx[batch.cuts[filled + 1] - 1] = dy[filled]
        else:
            np.put_along_axis(dx, self._places[filled], dy[filled], axis=0)
        return dx
